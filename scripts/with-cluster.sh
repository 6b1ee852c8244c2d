#!/usr/bin/env bash
# Run a command on a new private cluster with a release build of the extension:
#   scripts/with-cluster.sh demo|bench COMMAND...
# The cluster of the demo stays, for `make psql`; that of the benchmarks goes.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

NAME=$1
shift
step "Building the extension"
install_extension $MAIN_PG

case $NAME in
    demo) OPTIONS=(--fast --conf crm_tree.launcher_naptime=1) ;;
    bench)
        # As a server would be set up that has this machine to itself. Durable, unlike the others.
        memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
        buffers=$((memory / 4 < 2048 ? memory / 4 : 2048))
        OPTIONS=(--conf "shared_buffers=${buffers}MB" "effective_cache_size=$((memory / 2))MB" work_mem=64MB
            "maintenance_work_mem=$((buffers / 2))MB" max_wal_size=16GB checkpoint_timeout=30min random_page_cost=1.1)
        trap 'scripts/cluster.sh destroy bench' EXIT
        ;;
    *) die "usage: scripts/with-cluster.sh demo|bench COMMAND..." ;;
esac

step "Starting a private PostgreSQL $MAIN_PG"
scripts/cluster.sh destroy "$NAME"
scripts/cluster.sh start "$NAME" --preload "${OPTIONS[@]}"
EXPORTS=$(scripts/cluster.sh env "$NAME")
eval "$EXPORTS"
PATH=$(pg_bin $MAIN_PG):$PATH

"$@"

if [ "$NAME" = demo ]; then
    step "The server stays: 'make psql' opens it, 'make stop' deletes it"
fi
