#!/usr/bin/env bash
# A re-org of 1,000 moves, a statement each, in one transaction: every move rewriting the paths below it,
# against moves with crm_tree.defer_paths on and repair_tree at the end. One org of 111,110 nodes, 5 levels, 10
# children a node.
#   benches/defer.sh [RUNS]
# "apart": 1,000 subtrees of 111 nodes, none of them in another: what is rewritten is rewritten once either way.
# "levels": regions of 11,111 and 1,111 nodes move too, and then what is in them.
# Prints seconds of the clock, each pair in turn, and the medians of their ratios.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" != --inside ]; then exec scripts/with-cluster.sh bench benches/defer.sh --inside "$@"; fi
RUNS=${2:-3}

run() { psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }
median() { printf '%s\n' "$@" | sort -n | sed -n "$(((RUNS + 1) / 2))p"; }

run <<'SQL'
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET client_min_messages = warning;
CREATE SCHEMA bench;
CREATE TABLE bench.tree (org int NOT NULL, id int NOT NULL, parent int, name text, PRIMARY KEY (org, id));
-- Node n has the children 10 n + 1 … 10 n + 10, and the roots are 1 … 10.
INSERT INTO bench.tree SELECT 1, g, nullif((g - 1) / 10, 0), 'node number ' || g FROM generate_series(1, 111110) g;
SELECT crm_tree.attach_tree('bench.tree', 'id', 'parent', org => 'org');
VACUUM ANALYZE bench.tree;
SELECT setseed(0.5);
-- Level 0: 1 … 10, level 1: 11 … 110, level 2: 111 … 1110.
CREATE TABLE bench.move AS
SELECT 'apart' AS kind, row_number() OVER (ORDER BY random()) AS n, id, 11 + floor(random() * 100)::int AS parent FROM generate_series(111, 1110) id;
INSERT INTO bench.move
SELECT 'levels', row_number() OVER (ORDER BY level, random()), id, parent FROM (
    SELECT 0 AS level, id, 1 + floor(random() * (id - 1))::int AS parent FROM generate_series(6, 10) id UNION ALL
    SELECT 1, id, 1 + floor(random() * 5)::int FROM generate_series(11, 110) id UNION ALL
    SELECT 2, id, 11 + floor(random() * 100)::int FROM (SELECT id FROM generate_series(111, 1110) id ORDER BY random() LIMIT 895) i) m;
-- Runs a re-org, times it, tells what it did, and takes it back.
CREATE FUNCTION bench.reorg(how text, deferred boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m        record;
    start    timestamptz := clock_timestamp();
    moved    timestamptz;
    answer   text;
    problems bigint;
BEGIN
    PERFORM set_config('crm_tree.defer_paths', deferred::text, true);
    FOR m IN SELECT * FROM bench.move WHERE kind = how ORDER BY n LOOP
        UPDATE bench.tree t SET parent = m.parent WHERE t.org = 1 AND t.id = m.id;
    END LOOP;
    moved := clock_timestamp();
    IF deferred THEN PERFORM crm_tree.repair_tree('bench.tree', '1'); END IF;
    answer := round(extract(epoch FROM clock_timestamp() - start), 3) || ' ' || round(extract(epoch FROM moved - start), 3);
    SELECT count(*) INTO problems FROM crm_tree.check_tree('bench.tree');
    RAISE EXCEPTION USING ERRCODE = 'TIME0', MESSAGE = answer || ' ' || problems + (SELECT count(*) FROM crm_tree.stale_org);
EXCEPTION WHEN SQLSTATE 'TIME0' THEN
    RETURN SQLERRM;
END $$;
SQL
for kind in apart levels; do
    ratios=() moves=()
    for ((i = 1; i <= RUNS; i++)); do
        run --command='VACUUM bench.tree' --command=CHECKPOINT
        read -r plain _ faults < <(run --command="SELECT bench.reorg('$kind', false)")
        [ "$faults" = 0 ] || { echo "$faults wrong rows" >&2; exit 1; }
        run --command='VACUUM bench.tree' --command=CHECKPOINT
        read -r both alone faults < <(run --command="SELECT bench.reorg('$kind', true)")
        [ "$faults" = 0 ] || { echo "$faults wrong rows" >&2; exit 1; }
        ratios+=("$(ratio "$both" "$plain")") moves+=("$(ratio "$alone" "$plain")")
        echo "$kind: each move rewriting $plain s; deferred $alone s, with the repair $both s; ratio ${ratios[-1]}, of the moves alone ${moves[-1]}"
    done
    echo "$kind: median ratio $(median "${ratios[@]}"), of the moves alone $(median "${moves[@]}")"
done
echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
