#!/usr/bin/env bash
# Build crm_tree in release mode and install it into an existing server:
#   scripts/install.sh [PG_CONFIG]
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

PG_CONFIG=$(command -v "${1:-pg_config}") || die "no ${1:-pg_config}; say which server: make install PG_CONFIG=/path/to/pg_config"
VERSION=$("$PG_CONFIG" --version | sed -nE 's/^PostgreSQL ([0-9]+).*/\1/p')
grep -q "^pg$VERSION *=" Cargo.toml || die "$("$PG_CONFIG" --version) is not among the supported versions"
[ -e "$("$PG_CONFIG" --includedir-server)/postgres.h" ] ||
    die "the server's headers are missing; on Debian: apt install postgresql-server-dev-$VERSION"

scripts/setup.sh --build-only
step "Building for $("$PG_CONFIG" --version)"
export PGRX_HOME=$ROOT/target/pgrx-install
mkdir -p "$PGRX_HOME"
printf '[configs]\npg%s = "%s"\n' "$VERSION" "$PG_CONFIG" >"$PGRX_HOME/config.toml"

SUDO=()
[ -w "$("$PG_CONFIG" --pkglibdir)" ] && [ -w "$("$PG_CONFIG" --sharedir)/extension" ] || SUDO=(--sudo)
cargo pgrx install --release --package crm_tree --pg-config "$PG_CONFIG" "${SUDO[@]}" \
    --no-default-features --features "pg$VERSION"

step "Installed"
note "Add crm_tree to shared_preload_libraries and restart the server, then in your database:"
note "CREATE EXTENSION crm_tree;"
