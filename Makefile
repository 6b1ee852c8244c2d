# What can be done here; the work is in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup install demo psql stop test stress structures lint fmt bench clean
PG_CONFIG ?= pg_config
CLUSTER = scripts/cluster.sh

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing to build it (Debian 12 with Rust; asks for sudo if needed)
	@scripts/setup.sh

install: ## build it and install it into your server: make install PG_CONFIG=/path/to/pg_config
	@scripts/install.sh $(PG_CONFIG)

demo: setup ## see it at work on a private throwaway server
	@scripts/with-cluster.sh demo scripts/demo.sh

psql: ## open psql on the server of the demo
	@$(CLUSTER) psql demo

stop: ## stop and delete all private servers of this checkout
	@$(CLUSTER) destroy --all

test: ## run all tests, on PostgreSQL 15, 16 and 18
	@scripts/test.sh

stress: ## 100,000 transactions of eight sessions against trees, then compared with an oracle
	@scripts/test.sh stress

structures: setup ## test rollups on WordNet and on hard links (fetches from npm)
	@scripts/test-structures.sh

lint: ## formatting, clippy, shellcheck
	@scripts/test.sh lint

fmt: ## format the Rust code
	@cargo fmt --all

bench: setup ## measure it on a private server
	@scripts/with-cluster.sh bench benches/run.sh

clean: stop ## delete everything that was built
	@. scripts/lib.sh && rm -rf target "$$PRIVATE-pg"
