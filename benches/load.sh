#!/usr/bin/env bash
# load_tree against a bare INSERT … SELECT that has the paths in its input: the same rows in the same random
# order, the same keys, foreign key and indexes, no wall.
#   benches/load.sh [NODES] [RUNS]
# Prints each pair in seconds, of the clock and of the backend's CPU, and the medians of their ratios. On a
# machine that others use too only the CPU's says something.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" != --inside ]; then exec scripts/with-cluster.sh bench benches/load.sh --inside "$@"; fi
NODES=${2:-1000000} RUNS=${3:-5}

run() { psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"; }
# seconds STATEMENT: of the clock and of the CPU, after a checkpoint, so that none falls into it.
seconds() {
    run --command='CHECKPOINT' --command='SET client_min_messages = log' --command='SET log_statement_stats = on' --command="$1" 2>&1 |
        awk '/s user, .* s system, .* s elapsed/ { clock = $(NF - 2); cpu = $2 + $5 } END { printf "%.2f %.2f\n", clock, cpu }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }
median() { printf '%s\n' "$@" | sort -n | sed -n "$(((RUNS + 1) / 2))p"; }

run --set=nodes="$NODES" <<'SQL'
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET client_min_messages = warning;
CREATE SCHEMA bench;
SELECT setseed(0.5);
-- Half of the nodes hang near by, half anywhere: about as deep and wide as a taxonomy.
CREATE TABLE bench.given AS
SELECT 1 AS org, g::bigint AS id, CASE WHEN g > 1 THEN greatest(1, CASE WHEN g % 2 = 0 THEN g - 1 - (random() * 100)::int
       ELSE 1 + floor(random() * (g - 1))::int END)::bigint END AS parent, 'node number ' || g AS name
  FROM generate_series(1, :nodes) g ORDER BY random();
CREATE TABLE bench.tree (org int NOT NULL, id bigint NOT NULL, parent bigint, name text, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('bench.tree', 'id', 'parent', org => 'org', max_depth => 200);
CREATE TABLE bench.bare (LIKE bench.tree INCLUDING ALL);
ALTER TABLE bench.bare ADD FOREIGN KEY (org, parent) REFERENCES bench.bare (org, id);
CREATE TABLE bench.with_paths AS
WITH RECURSIVE p AS (
    SELECT org, id, '/' || id || '/' AS path, 0 AS depth FROM bench.given WHERE parent IS NULL
    UNION ALL SELECT g.org, g.id, path || g.id || '/', depth + 1 FROM p JOIN bench.given g ON g.org = p.org AND g.parent = p.id)
SELECT g.*, path, depth FROM bench.given g JOIN p USING (org, id) ORDER BY random();
VACUUM ANALYZE bench.given;
VACUUM ANALYZE bench.with_paths;
SQL
run --command="SELECT 'nodes ' || count(*) || ', levels ' || max(depth) + 1 || ', mean depth ' || round(avg(depth), 1) FROM bench.with_paths"
clocks=() cpus=()
for ((i = 1; i <= RUNS; i++)); do
    run --command='TRUNCATE bench.bare, bench.tree'
    read -r bare bare_cpu < <(seconds 'INSERT INTO bench.bare (org, id, parent, name, materialized_path, depth) SELECT org, id, parent, name, path, depth FROM bench.with_paths')
    read -r load load_cpu < <(seconds "SELECT crm_tree.load_tree('bench.tree', 'bench.given')")
    clocks+=("$(ratio "$load" "$bare")") cpus+=("$(ratio "$load_cpu" "$bare_cpu")")
    echo "bare $bare s, CPU $bare_cpu s; load_tree $load s, CPU $load_cpu s; ratios ${clocks[-1]}, CPU ${cpus[-1]}"
done
echo "median ratio $(median "${clocks[@]}"), CPU $(median "${cpus[@]}")"
run --command="SELECT 'differing rows ' || count(*) FROM bench.tree t FULL JOIN bench.with_paths w USING (org, id)
                WHERE t.materialized_path IS DISTINCT FROM w.path OR t.depth IS DISTINCT FROM w.depth OR t.name IS DISTINCT FROM w.name"
