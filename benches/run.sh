#!/usr/bin/env bash
# Measure crm_tree against bare tables and against its rivals, on the server that PGHOST, PGPORT and PGUSER
# name, as a superuser. Uses a database of its own, crm_tree_bench, and drops it.
#   BENCH_SCALE=small   20 orgs of 10,000 accounts (the default)
#   BENCH_SCALE=full    200 orgs of 10,000 accounts
#   BENCH_RUNS=11       how often each pair is measured
#   BENCH_KEEP=1        keep the database, and use it again if it is there
#   BENCH_ONLY=...      only some of: reads bind writes parallel
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

scale=${BENCH_SCALE:-small}
runs=${BENCH_RUNS:-11}
only=${BENCH_ONLY:-reads bind writes parallel}
case $scale in
    small) orgs=20 ;;
    full) orgs=200 ;;
    *) echo "BENCH_SCALE is small or full, not '$scale'" >&2; exit 2 ;;
esac
few=$((runs / 2 > 3 ? runs / 2 : 3))

admin=${PGDATABASE:-postgres}
export PGDATABASE=crm_tree_bench
export PGOPTIONS="-c synchronous_commit=off"
sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
say() { printf '==> %s\n' "$*" >&2; }
want() { [[ " $only " == *" $1 "* ]]; }
tmp=$(mktemp -d)
cleanup() {
    rm -rf "$tmp"
    if [ -z "${BENCH_KEEP:-}" ]; then
        psql -Xq -d "$admin" -c 'DROP DATABASE IF EXISTS crm_tree_bench' 2>/dev/null || true
    fi
}
trap cleanup EXIT

if [ -z "${BENCH_KEEP:-}" ] || [ "$(sql -d "$admin" -c "SELECT count(*) FROM pg_database WHERE datname = 'crm_tree_bench'")" = 0 ]; then
    say "Generating $((orgs * 10000)) accounts in $orgs orgs"
    sql -d "$admin" -c 'SET client_min_messages = warning' -c 'DROP DATABASE IF EXISTS crm_tree_bench' -c 'CREATE DATABASE crm_tree_bench' \
        -c 'ALTER ROLE CURRENT_USER IN DATABASE crm_tree_bench SET crm_tree.guard = off'
    psql -Xq -v orgs="$orgs" -f generate.sql >&2
fi
psql -Xq -f harness.sql >&2

# pgbench_ms USER SCRIPT OPTIONS...: milliseconds of one transaction, over all clients.
pgbench_ms() {
    local user=$1 script=$2
    shift 2
    pgbench -n -U "$user" -f "$script" "$@" 2>"$tmp/err" >"$tmp/out" || { cat "$tmp/err" >&2; exit 1; }
    awk '/^tps/ { print 1000 / $3 }' "$tmp/out"
}
sample() { sql -c "INSERT INTO m.sample (measure, variant, run, ms) VALUES ('$1', '$2', $3, $4)"; }

if want reads; then
    say "Reads"
    psql -Xq -v runs="$runs" -v few="$few" -f reads.sql >&2
fi

if want bind; then
    say "Binding"
    org=$(sql -c 'SELECT bench.org(1)')
    # A read of a table without a wall, so that it can be run unbound too.
    read="SELECT b.name FROM bench.bare b JOIN bench.parent p ON p.o = 1 AND p.n = :n AND b.org_id = '$org' AND b.account_id = p.id;"
    bind="SELECT crm_tree.bind_org('$org'::uuid);"
    printf '%s\n' '\set n random(0, 9999)' 'BEGIN;' "$read" 'COMMIT;' >"$tmp/no_bind"
    printf '%s\n' '\set n random(0, 9999)' "BEGIN \\; $bind" "$read" 'COMMIT;' >"$tmp/bind_with_begin"
    printf '%s\n' '\set n random(0, 9999)' 'BEGIN;' "$bind" "$read" 'COMMIT;' >"$tmp/bind_alone"
    printf '%s\n' '\set n random(0, 9999)' 'BEGIN;' 'SELECT 1;' "$read" 'COMMIT;' >"$tmp/select_1"
    for ((run = 1; run <= few; run++)); do
        for variant in no_bind bind_with_begin select_1 bind_alone; do
            ms=$(pgbench_ms bench_app "$tmp/$variant" -M simple -c 1 -T 3)
            sample bind "$variant" "$run" "$ms"
        done
    done
fi

if want writes; then
    say "Writes"
    psql -Xq -v runs="$runs" -f writes.sql >&2
fi

if want parallel; then
    say "Eight inserters of one org"
    # Each client binds its session once, then inserts in autocommit: the same statement on both sides.
    for variant in tree bare; do
        table=$([ "$variant" = tree ] && echo crm.account || echo bench.bare)
        cat >"$tmp/parallel_$variant" <<SQL
\\if :first
SELECT crm_tree.bind_session(bench.org(2));
\\set first 0
\\endif
\\set n random(0, 9999)
INSERT INTO $table (org_id, account_id, parent_account_id, name, owner_user_id, materialized_path, depth)
SELECT bench.org(2), x.id, p.id, 'New account', 'user-50', p.path || x.id || '/', p.depth + 1 FROM bench.parent p CROSS JOIN (SELECT gen_random_uuid() AS id OFFSET 0) x WHERE p.o = 2 AND p.n = :n;
SQL
    done
    sql -c 'VACUUM crm.account, bench.bare' -c CHECKPOINT
    for ((run = 1; run <= few; run++)); do
        for variant in $([ $((run % 2)) = 0 ] && echo tree bare || echo bare tree); do
            ms=$(pgbench_ms bench_app "$tmp/parallel_$variant" -M prepared -c 8 -j 2 -T 5 -D first=1)
            sample parallel_insert "parallel_$variant" "$run" "$ms"
        done
    done
    problems=$(sql -c 'BEGIN' -c 'SELECT crm_tree.bind_org(bench.org(2))' -c "SELECT count(*) FROM crm_tree.check_tree('crm.account')" -c 'COMMIT' | tail -n 1)
    [ "$problems" = 0 ] || { echo "check_tree finds $problems problems after the inserts" >&2; exit 1; }
fi

say "Result"
echo "$((orgs * 10000)) accounts in $orgs orgs; $(sql -c "SELECT 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers ' || current_setting('shared_buffers')"), $(nproc) cores; median of $runs pairs ($few of the slow ones). Load at the end: $(cut -d' ' -f1-3 /proc/loadavg)."
echo
psql -Xq -f report.sql
