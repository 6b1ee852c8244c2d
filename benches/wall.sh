#!/usr/bin/env bash
# Measure what the wall costs beside reads and writes: binding by a token, bulk loads, full-text search; on the
# server that PGHOST, PGPORT and PGUSER name, as a superuser:
#   scripts/with-cluster.sh bench benches/wall.sh
# Uses a database of its own, crm_tree_bench_wall, and drops it.
#   BENCH_RUNS=5        how often each is measured; medians are told
#   BENCH_ROWS=200000   rows of a load
#   BENCH_ONLY=...      only some of: token guard load search
set -euo pipefail

runs=${BENCH_RUNS:-5}
rows=${BENCH_ROWS:-200000}
only=${BENCH_ONLY:-token guard load search}
admin=${PGDATABASE:-postgres}
export PGDATABASE=crm_tree_bench_wall
export PGOPTIONS="-c client_min_messages=warning"
tmp=$(mktemp -d)
sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
want() { [[ " $only " == *" $1 "* ]]; }
cleanup() {
    rm -rf "$tmp"
    sql -d "$admin" -c "DROP DATABASE IF EXISTS $PGDATABASE WITH (FORCE)" -c 'DROP ROLE IF EXISTS bench_wall_app' || true
}
trap cleanup EXIT
cleanup
mkdir -p "$tmp"

sql -d "$admin" -c "CREATE DATABASE $PGDATABASE" -c 'CREATE ROLE bench_wall_app LOGIN' \
    -c "ALTER ROLE CURRENT_USER IN DATABASE $PGDATABASE SET crm_tree.guard = off"
sql <<'SQL'
CREATE EXTENSION crm_tree;
CREATE TABLE sample (measure text, variant text, figure float8);
CREATE FUNCTION org(int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$SELECT ('00000000-0000-4000-8000-' || lpad($1::text, 12, '0'))::uuid$$;
SELECT crm_tree.grant_org('bench_wall_app', org(1));
SQL
sample() { sql -c "INSERT INTO sample VALUES ('$1', '$2', $3)"; }
median() { sql -c "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY figure)::numeric, $3) FROM sample WHERE measure = '$1' AND variant = '$2'"; }

# call_us STATEMENT TIMES [USER [PRELUDE]]: microseconds of one, in a loop inside the server; as the application's
# role, bound, if nothing else is said.
call_us() {
    local prelude
    prelude=${4:-"SELECT crm_tree.bind_org('$(sql -c 'SELECT org(1)')'::uuid, 'ann')"}
    sql -U "${3:-bench_wall_app}" <<SQL | tail -n 1
BEGIN;
$prelude;
DO \$do\$
DECLARE
    started timestamptz;
BEGIN
    FOR warm IN 0..1 LOOP
        started := clock_timestamp();
        FOR i IN 1..$2 LOOP PERFORM $1; END LOOP;
    END LOOP;
    PERFORM set_config('bench.us', (extract(epoch FROM clock_timestamp() - started) * 1e6 / $2)::text, false);
END \$do\$;
SELECT current_setting('bench.us');
SQL
}

if want token; then
    # For org(1) and ann, until 2100.
    ed=eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJvcmciOiIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDEiLCJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.XvJZ6Ac8D106whxymKMU-yb2QWANFPJkXn0ZREJKfn7wAqyrgxVuMIcEKyRGEA9VmOICkO57x5ENRpV3nBqaDw
    hs=eyJhbGciOiJIUzI1NiIsImtpZCI6ImhzIn0.eyJvcmciOiIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDEiLCJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.D3QgOS8rBPT4dWObh-MdUf-xN5IIOuYrWUZcjfOIPi0
    sql -c "SELECT crm_tree.add_signing_key('ed', 'EdDSA', '\xd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a')" \
        -c "SELECT crm_tree.add_signing_key('hs', 'HS256', decode(repeat('ab', 32), 'hex'))"
    for ((run = 1; run <= runs; run++)); do
        sample token bind_org "$(call_us "crm_tree.bind_org('00000000-0000-4000-8000-000000000001'::uuid, 'ann')" 5000)"
        sample token hs256 "$(call_us "crm_tree.bind_token('$hs')" 5000)"
        sample token eddsa "$(call_us "crm_tree.bind_token('$ed')" 2000)"
    done
    echo "binding, µs a call, in a bound transaction: bind_org $(median token bind_org 1), bind_token HS256 $(median token hs256 1), EdDSA $(median token eddsa 1)"
fi

if want guard; then
    sql <<'SQL'
CREATE TABLE open_row (org_id uuid, id int, body text, PRIMARY KEY (org_id, id));
INSERT INTO open_row SELECT org(o), g, 'body' FROM generate_series(1, 10) o, generate_series(1, 10000) g;
CREATE TABLE walled_row (LIKE open_row INCLUDING ALL);
INSERT INTO walled_row TABLE open_row;
SELECT crm_tree.protect('walled_row');
GRANT SELECT ON open_row, walled_row TO bench_wall_app;
VACUUM ANALYZE open_row, walled_row;
SQL
    for ((run = 1; run <= 3 * runs; run++)); do
        for mode in $([ $((run % 2)) = 0 ] && echo off enforce || echo enforce off); do
            sql -c "ALTER ROLE bench_wall_app SET crm_tree.guard = $mode"
            sample guard "walled_$mode" "$(call_us "body FROM walled_row WHERE id = 77" 100000)"
            sample guard "open_$mode" "$(call_us "body FROM open_row WHERE org_id = '00000000-0000-4000-8000-000000000001' AND id = 77" 100000)"
        done
    done
    sql -c 'ALTER ROLE bench_wall_app RESET crm_tree.guard' -c 'GRANT SELECT ON walled_row TO crm_tree_service' \
        -c "SELECT crm_tree.grant_service_door('bench_wall_app')"
    for ((run = 1; run <= 3 * runs; run++)); do
        for side in $([ $((run % 2)) = 0 ] && echo bare door || echo door bare); do
            if [ "$side" = bare ]; then as=$PGUSER first='SELECT 1'; else as=bench_wall_app first="SELECT crm_tree.open_service_door('benchmark')"; fi
            sample door "$side" "$(call_us 'org_id, sum(id) FROM walled_row GROUP BY org_id' 20 "$as" "$first")"
        done
    done
    echo "aggregate over 100,000 rows of ten orgs, ms: bare $(median door bare 0 | awk '{ print $1 / 1000 }'), behind the service door $(median door door 0 | awk '{ print $1 / 1000 }')"
    echo "prepared point read, µs, guard off and enforcing: protected table $(median guard walled_off 3) and $(median guard walled_enforce 3), another $(median guard open_off 3) and $(median guard open_enforce 3)"
fi

if want load; then
    sql <<SQL
CREATE TABLE bare (org_id uuid, id bigint, name text, amount numeric(14,2), closed date, PRIMARY KEY (org_id, id));
CREATE TABLE deal (LIKE bare INCLUDING ALL);
SELECT crm_tree.protect('deal');
SELECT crm_tree.create_load_view('deal');
GRANT SELECT, INSERT, DELETE ON deal, deal_load TO bench_wall_app;
GRANT CREATE ON SCHEMA public TO bench_wall_app;
\copy (SELECT g, 'deal number ' || g, g % 1000, date '2026-01-01' + g % 300 FROM generate_series(1, $rows) g) TO '$tmp/walled'
\copy (SELECT org(1), g, 'deal number ' || g, g % 1000, date '2026-01-01' + g % 300 FROM generate_series(1, $rows) g) TO '$tmp/bare'
SQL
    bind="SELECT crm_tree.bind_org('$(sql -c 'SELECT org(1)')'::uuid)"
    # load VARIANT USER STATEMENT...: rows a second.
    load() {
        local variant=$1 user=$2 start end args=() statement
        shift 2
        for statement in "$@"; do args+=(-c "$statement"); done
        start=$(date +%s%N)
        sql -U "$user" "${args[@]}" >/dev/null
        end=$(date +%s%N)
        sample load "$variant" "$((rows * 1000000000 / (end - start)))"
    }
    for ((run = 1; run <= runs; run++)); do
        sql -c 'TRUNCATE bare' -c 'DELETE FROM deal' -c 'VACUUM FULL deal' -c CHECKPOINT
        load bare "$PGUSER" "\\copy bare FROM '$tmp/bare'"
        load view bench_wall_app BEGIN "$bind" "\\copy deal_load (id, name, amount, closed) FROM '$tmp/walled'" COMMIT
        sql -c 'DELETE FROM deal' -c 'VACUUM FULL deal' -c CHECKPOINT
        load staging bench_wall_app 'CREATE UNLOGGED TABLE staging (id bigint, name text, amount numeric(14,2), closed date)' \
            "\\copy staging FROM '$tmp/walled'" BEGIN "$bind" \
            'INSERT INTO deal (id, name, amount, closed) SELECT * FROM staging' COMMIT 'DROP TABLE staging'
    done
    echo "bulk load of $rows rows, rows a second: bare COPY $(median load bare 0), load view $(median load view 0), staging $(median load staging 0)"
fi

if want search; then
    sql <<'SQL'
CREATE EXTENSION btree_gin;
CREATE TABLE note (org_id uuid, id int, words tsvector, PRIMARY KEY (org_id, id));
INSERT INTO note SELECT org(o), g, to_tsvector('simple', 'note ' || g || CASE WHEN g % 200 = 0 THEN ' boat' ELSE '' END
                 || repeat(' filler' || g % 50, 10)) FROM generate_series(1, 20) o, generate_series(1, 20000) g;
CREATE TABLE bare_note (LIKE note INCLUDING ALL);
INSERT INTO bare_note TABLE note;
CREATE INDEX ON bare_note USING gin (org_id, words);
SELECT crm_tree.protect('note'), crm_tree.create_search_index('note', 'words');
CREATE INDEX ON note USING gin (org_id, words);
GRANT SELECT ON note, bare_note TO bench_wall_app;
VACUUM ANALYZE note, bare_note;
SQL
    for ((run = 1; run <= runs; run++)); do
        sample search bare "$(call_us "count(id) FROM bare_note WHERE org_id = '00000000-0000-4000-8000-000000000001' AND words @@ 'boat'" 200)"
        sample search leakproof "$(call_us "count(id) FROM note WHERE words OPERATOR(crm_tree.@@) 'boat'" 200)"
        sample search plain "$(call_us "count(id) FROM note WHERE words @@ 'boat'" 50)"
    done
    echo "search, 100 matches of an org's 20,000 rows, 20 orgs, ms: bare $(median search bare 0 | awk '{ print $1 / 1000 }'), crm_tree.@@ $(median search leakproof 0 | awk '{ print $1 / 1000 }'), @@ behind the wall $(median search plain 0 | awk '{ print $1 / 1000 }')"
fi
