#!/usr/bin/env bash
# Private, throwaway PostgreSQL clusters: reached only over a unix socket in their own directory,
# out of the way of any server that is already running, and gone without a trace when destroyed.
#
#   cluster.sh start NAME [OPTION...]  create and start it; if it runs with these options, do nothing
#       --pg VERSION                   our copy of that server: 15 (the default), 16, 18
#       --pg-config PATH               or the server that this pg_config belongs to
#       --preload                      shared_preload_libraries = 'crm_tree'
#       --fast                         no fsync: a crash of the machine may lose everything
#       --port PORT                    names the socket (5432)
#       --conf NAME=VALUE ...          more settings for postgresql.conf
#       --initdb OPTION ...            more options for initdb, e.g. --initdb --locale-provider=icu
#   cluster.sh psql NAME [ARG...]      psql as the superuser `postgres` on its database `crm`
#   cluster.sh env NAME                print PGHOST, PGPORT, PGUSER, PGDATABASE for eval
#   cluster.sh stop NAME               stop it and keep its data
#   cluster.sh destroy NAME | --all    stop and delete it, or all those of this checkout
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGDATABASE PGSERVICE PGOPTIONS PGDATA

usage() {
    sed -nE '2,/^source/ s/^# ?//p' "${BASH_SOURCE[0]}"
    exit "${1:-0}"
}

# The pid of the server that runs on this data directory. A pid file can outlive its server and its
# number can belong to somebody else by now, so ask where that process works.
server_pid() {
    local pid
    pid=$(head -n1 "$1/postmaster.pid" 2>/dev/null) || return 1
    [ "/proc/$pid/cwd" -ef "$1" ] || return 1
    echo "$pid"
}

stop_server() {
    local data=$1 pid signal i
    if pid=$(server_pid "$data"); then
        # An orderly end first (fast), then without one (immediate), then by force.
        for signal in INT QUIT KILL; do
            kill -s "$signal" "$pid" 2>/dev/null || true
            for ((i = 0; i < 100; i++)); do
                server_pid "$data" >/dev/null || return 0
                sleep 0.1
            done
        done
        die "the server in $data (pid $pid) does not stop"
    fi
}

start() {
    local pg_config='' port=5432 preload=false fast=false conf=() initdb=()
    while [ $# -gt 0 ]; do
        case $1 in
            --pg) pg_config=$(pg_bin "$2")/pg_config; shift 2 ;;
            --pg-config) pg_config=$2; shift 2 ;;
            --port) port=$2; shift 2 ;;
            --preload) preload=true; shift ;;
            --fast) fast=true; shift ;;
            --conf)
                shift
                while [ $# -gt 0 ] && [[ $1 != --* ]]; do conf+=("${1%%=*} = '${1#*=}'"); shift; done
                ;;
            --initdb) initdb+=("$2"); shift 2 ;;
            *) die "cluster.sh start: unknown option $1" ;;
        esac
    done
    [ -n "$pg_config" ] || pg_config=$(pg_bin $MAIN_PG)/pg_config
    command -v "$pg_config" >/dev/null || die "no $pg_config; run 'make setup' first"
    local bin
    bin=$("$pg_config" --bindir)

    make_run_dir
    if is_root; then install -d -m 0700 -o postgres -g postgres "$DIR"; else mkdir -p "$DIR" && chmod 0700 "$DIR"; fi

    local settings
    settings=$(
        echo "# bin = $bin ${initdb[*]}"
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$DIR'"
        echo "port = $port"
        if $preload; then echo "shared_preload_libraries = 'crm_tree'"; fi
        if $fast; then printf '%s = off\n' fsync synchronous_commit full_page_writes; fi
        for line in "${conf[@]}"; do echo "$line"; done
    )
    # A server that preloads the library has to be restarted to see a newer build of it.
    if [ "$settings" = "$(cat "$DIR/settings.conf" 2>/dev/null)" ] && server_pid "$DATA" >/dev/null &&
        ! { $preload && [ "$("$pg_config" --pkglibdir)/crm_tree.so" -nt "$DATA/postmaster.pid" ]; }; then
        return 0
    fi
    stop_server "$DATA"

    # Another server or another way to initialise it: the data of a throwaway cluster may go.
    if [ -e "$DATA" ] && [ "$(head -n1 "$DIR/settings.conf" 2>/dev/null)" != "$(head -n1 <<<"$settings")" ]; then
        rm -rf "$DATA"
    fi
    if [ ! -e "$DATA/PG_VERSION" ]; then
        rm -rf "$DATA"
        as_server "$bin/initdb" -D "$DATA" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
            --no-sync "${initdb[@]}" >"$DIR/initdb.log" 2>&1 || { cat "$DIR/initdb.log" >&2; die "initdb failed"; }
        echo "include = '$DIR/settings.conf'" >>"$DATA/postgresql.conf"
    fi
    echo "$settings" >"$DIR/settings.conf"
    chmod 0644 "$DIR/settings.conf"
    rm -f "$DATA/postmaster.pid" "$DIR"/.s.PGSQL.*
    : >"$LOG"
    if is_root; then chown postgres: "$LOG"; fi
    as_server "$bin/pg_ctl" start -s -w -t 60 -D "$DATA" -l "$LOG" ||
        { tail -n 20 "$LOG" >&2; die "the cluster '$NAME' did not start"; }

    use_env
    if [ "$("$bin/psql" -XAtd postgres -c "SELECT count(*) FROM pg_database WHERE datname = 'crm'")" = 0 ]; then
        "$bin/psql" -Xqd postgres -c 'CREATE DATABASE crm'
    fi
}

print_env() {
    local port
    port=$(sed -n 's/^port = //p' "$DIR/settings.conf" 2>/dev/null | head -n1)
    [ -n "$port" ] || die "there is no cluster '$NAME'; start it with 'scripts/cluster.sh start $NAME'"
    echo "export PGHOST='$DIR' PGPORT=$port PGUSER=postgres PGDATABASE=crm"
}

use_env() {
    local exports
    exports=$(print_env)
    eval "$exports"
}

destroy() {
    stop_server "$DATA"
    rm -rf "$DIR"
    if [ "$(ls -A "$RUN_DIR" 2>/dev/null)" = .crm_tree ]; then rm -r "$RUN_DIR"; fi
}

# Every server in RUN_DIR, also those that tests have started by themselves. Without a RUN_DIR of
# the user's own, all of those that this checkout uses.
destroy_all() {
    local dir dirs=("$RUN_DIR") file
    if [ -z "${CRM_TREE_RUN_DIR:-}" ]; then dirs+=("$PRIVATE"-t*); fi
    for dir in "${dirs[@]}"; do
        [ -O "$dir/.crm_tree" ] || continue
        while IFS= read -r -d '' file; do
            stop_server "$(dirname "$file")"
        done < <(find "$dir" -name postmaster.pid -print0)
        rm -rf "$dir"
    done
}

COMMAND=${1:-} NAME=${2:-}
case $COMMAND in
    start | psql | env | stop | destroy) ;;
    -h | --help | help) usage ;;
    *) usage 2 >&2 ;;
esac
if [ "$COMMAND $NAME" = "destroy --all" ]; then
    destroy_all
    exit
fi
[[ $NAME =~ ^[a-z0-9_-]{1,24}$ ]] || die "a cluster's name is 1 to 24 of a-z, 0-9, _ and -; not '$NAME'"
shift 2
DIR=$RUN_DIR/$NAME DATA=$RUN_DIR/$NAME/data LOG=$RUN_DIR/$NAME/log

case $COMMAND in
    start) start "$@" ;;
    stop) stop_server "$DATA" ;;
    destroy) destroy ;;
    env) print_env ;;
    psql)
        use_env
        exec "$(pg_bin $MAIN_PG)/psql" "$@"
        ;;
esac
