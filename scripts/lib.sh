# shellcheck shell=bash disable=SC2034
# What the other scripts share: where things are, and how to speak to the user.
# Sourced, never run.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"

# The server version that development happens on.
MAIN_PG=15

# pgrx keeps its settings here instead of in the user's ~/.pgrx.
export PGRX_HOME=$ROOT/target/pgrx
# A cargo-pgrx of our own, used only if the user has another version.
TOOLS=$ROOT/target/tools
PATH=$TOOLS/bin:$PATH${HOME:+:$HOME/.cargo/bin}
export USER=${USER:-$(id -un)} # pgrx asks for it
export LC_ALL=C.UTF-8
# A server started with it adds backtraces to the DETAIL of errors, which no expected output has.
unset RUST_BACKTRACE

# Private clusters live in RUN_DIR: short, because a unix socket's path holds 107 bytes, and in
# /tmp, because the operating-system user `postgres` cannot enter everybody's home directory.
PRIVATE=/tmp/crm_tree-$UID-$(printf %s "$ROOT" | sha1sum | cut -c1-8)
RUN_DIR=${CRM_TREE_RUN_DIR:-$PRIVATE}

BOLD='' RED='' GREEN='' PLAIN=''
if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else export NO_COLOR=1; fi

step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2
    exit 1
}

is_root() { [ "$UID" = 0 ]; }

# Run something with the rights to change the system.
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root rights, and sudo is not installed: $*"
    fi
}

# PostgreSQL refuses to run as root, so root runs servers as `postgres`, anybody else as themselves.
as_server() {
    if is_root; then (cd / && exec runuser -u postgres -- "$@"); else (cd / && exec "$@"); fi
}

# The servers of this checkout are private copies, so that building and testing never touches the
# PostgreSQL installed in the system: target/pg, or a place in /tmp if `postgres` cannot get there.
pg_home() {
    mkdir -p target/pg
    if is_root && ! runuser -u postgres -- test -x "$ROOT/target/pg" 2>/dev/null; then
        echo "$PRIVATE-pg"
    else
        echo "$ROOT/target/pg"
    fi
}
# pg_bin VERSION: the directory with that server's programs.
pg_bin() { echo "$(pg_home)/$1/bin"; }

# Create RUN_DIR. It is ours alone, marked so that we never delete somebody's other files, and others
# may only pass through it.
make_run_dir() {
    mkdir "$RUN_DIR" 2>/dev/null || true
    if [ ! -d "$RUN_DIR" ] || [ -L "$RUN_DIR" ] || [ ! -O "$RUN_DIR" ]; then die "cannot use $RUN_DIR: it is not ours"; fi
    if [ ! -e "$RUN_DIR/.crm_tree" ] && [ -n "$(ls -A "$RUN_DIR")" ]; then die "cannot use $RUN_DIR: it is not empty"; fi
    chmod 0711 "$RUN_DIR"
    : >"$RUN_DIR/.crm_tree"
}

# install_extension VERSION: build the extension in release mode and put it into our copy of that server.
install_extension() {
    cargo pgrx install --release --package crm_tree --pg-config "$(pg_bin "$1")/pg_config" \
        --no-default-features --features "pg$1" >/dev/null
}
