-- Single inserts, a move of about 10,000 nodes, and reads, of every variant by turns. Needs what ncbi.sh loaded,
-- and :top, :size, :place of it, :hundred and :deepest.
\set ON_ERROR_STOP on
\o /dev/null
SET client_min_messages = warning;
SET jit = off;
SET max_parallel_workers_per_gather = 0;
SELECT set_config('ncbi.top', :'top', false), set_config('ncbi.size', :'size', false), set_config('ncbi.place', :'place', false),
       set_config('ncbi.hundred', :'hundred', false), set_config('ncbi.deepest', :'deepest', false);

-- 1,000 rows, a statement each, below nodes of every depth; undone. The bare one has the paths at hand.
CREATE TABLE parents AS
SELECT id, materialized_path, depth, row_number() OVER () AS n FROM (SELECT * FROM bare ORDER BY hashint8(id) LIMIT 1000) b;
CREATE FUNCTION insert_into(variant text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    p       parents[] := ARRAY(SELECT x FROM parents x ORDER BY x.n);
    started timestamptz := clock_timestamp();
BEGIN
    FOR i IN 1..1000 LOOP
        CASE variant
            WHEN 'tree' THEN INSERT INTO node (id, parent_id) VALUES (100000000 + i, p[i].id);
            WHEN 'bare' THEN INSERT INTO bare (id, parent_id, materialized_path, depth)
                             VALUES (100000000 + i, p[i].id, p[i].materialized_path || 100000000 + i || '/', p[i].depth + 1);
            WHEN 'ltree' THEN INSERT INTO ltree_node (id, parent_id) VALUES (100000000 + i, p[i].id);
            WHEN 'closure' THEN INSERT INTO closure_node (id, parent_id) VALUES (100000000 + i, p[i].id);
            WHEN 'adjacency' THEN INSERT INTO adjacency (id, parent_id) VALUES (100000000 + i, p[i].id);
        END CASE;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'TIME0', MESSAGE = (extract(epoch FROM clock_timestamp() - started))::text; -- ms of one
EXCEPTION WHEN SQLSTATE 'TIME0' THEN
    RETURN SQLERRM::float8;
END $$;

CREATE FUNCTION move_in(variant text, target bigint) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    top     bigint := current_setting('ncbi.top');
    old     text;
    new     text;
    lift    int;
    n       bigint;
    started timestamptz := clock_timestamp();
BEGIN
    CASE variant
        WHEN 'tree' THEN UPDATE node SET parent_id = target WHERE org_id = 1 AND id = top;
        WHEN 'ltree' THEN UPDATE ltree_node SET parent_id = target WHERE org_id = 1 AND id = top;
        WHEN 'closure' THEN UPDATE closure_node SET parent_id = target WHERE org_id = 1 AND id = top;
        WHEN 'adjacency' THEN UPDATE adjacency SET parent_id = target WHERE org_id = 1 AND id = top;
        WHEN 'bare' THEN
            SELECT b.materialized_path, p.materialized_path || b.id || '/', p.depth + 1 - b.depth INTO old, new, lift
              FROM bare b JOIN bare p ON p.org_id = 1 AND p.id = target WHERE b.org_id = 1 AND b.id = top;
            started := clock_timestamp();
            UPDATE bare SET parent_id = target WHERE org_id = 1 AND id = top;
            UPDATE bare SET materialized_path = new || substr(materialized_path, length(old) + 1), depth = depth + lift
             WHERE org_id = 1 AND materialized_path >= old AND materialized_path < rtrim(old, '/') || '0';
            GET DIAGNOSTICS n = ROW_COUNT;
            ASSERT n = current_setting('ncbi.size')::bigint;
    END CASE;
    RETURN extract(epoch FROM clock_timestamp() - started) * 1000;
END $$;

-- How many nodes a subtree has, and the ids above a node; k times.
CREATE FUNCTION read_from(variant text, what text, top bigint, k int) RETURNS float8 LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    lo      text;
    hi      text;
    label   ltree;
    n       bigint;
    started timestamptz;
BEGIN
    SELECT materialized_path, crm_tree.subtree_end(materialized_path) INTO lo, hi FROM node WHERE org_id = 1 AND id = top;
    SELECT path INTO label FROM ltree_node WHERE org_id = 1 AND id = top;
    started := clock_timestamp();
    FOR i IN 1..k LOOP
        CASE what || ' ' || variant
            WHEN 'subtree tree' THEN n := (SELECT count(id) FROM node WHERE org_id = 1 AND materialized_path >= lo AND materialized_path < hi);
            WHEN 'subtree ltree' THEN n := (SELECT count(id) FROM ltree_node WHERE org_id = 1 AND path <@ label);
            WHEN 'subtree closure' THEN n := (SELECT count(descendant) FROM closure WHERE org_id = 1 AND ancestor = top);
            WHEN 'subtree adjacency' THEN
                n := (WITH RECURSIVE t AS (
                          SELECT id FROM adjacency WHERE org_id = 1 AND id = top
                          UNION ALL SELECT c.id FROM t JOIN adjacency c ON c.org_id = 1 AND c.parent_id = t.id)
                      SELECT count(id) FROM t);
            WHEN 'above tree' THEN
                n := (SELECT count(parent_id) FROM node WHERE org_id = 1 AND id = ANY (crm_tree.path_ids(lo)::bigint[]));
            WHEN 'above ltree' THEN n := (SELECT count(parent_id) FROM ltree_node WHERE org_id = 1 AND path @> label);
            WHEN 'above closure' THEN
                n := (SELECT count(parent_id) FROM closure c JOIN closure_node p ON p.org_id = 1 AND p.id = c.ancestor
                       WHERE c.org_id = 1 AND c.descendant = top);
            WHEN 'above adjacency' THEN
                n := (WITH RECURSIVE t AS (
                          SELECT parent_id FROM adjacency WHERE org_id = 1 AND id = top
                          UNION ALL SELECT p.parent_id FROM t JOIN adjacency p ON p.org_id = 1 AND p.id = t.parent_id)
                      SELECT count(parent_id) FROM t);
        END CASE;
    END LOOP;
    INSERT INTO answer VALUES (what, top, variant, n);
    RETURN extract(epoch FROM clock_timestamp() - started) * 1000 / k;
END $$;
CREATE TABLE answer (what text, top bigint, variant text, n bigint);

VACUUM;
CHECKPOINT;
DO $$
DECLARE
    v text;
BEGIN
    FOR run IN 0..7 LOOP -- the first warms up
        FOR v IN SELECT x FROM unnest('{tree,ltree,closure,adjacency}'::text[]) x ORDER BY md5(run || x) LOOP
            INSERT INTO sample VALUES ('subtree_10000', v, run, read_from(v, 'subtree', current_setting('ncbi.top')::bigint, 5)),
                                      ('subtree_100', v, run, read_from(v, 'subtree', current_setting('ncbi.hundred')::bigint, 200)),
                                      ('above', v, run, read_from(v, 'above', current_setting('ncbi.deepest')::bigint, 200));
        END LOOP;
    END LOOP;
    ASSERT (SELECT count(DISTINCT (what, top, n)) = 3 FROM answer), 'the variants disagree';
    FOR run IN 0..7 LOOP
        FOR v IN SELECT x FROM unnest('{tree,bare,ltree,closure,adjacency}'::text[]) x ORDER BY md5(run || x) LOOP
            INSERT INTO sample VALUES ('insert', v, run, insert_into(v));
        END LOOP;
    END LOOP;
END
$$;

CREATE PROCEDURE moves() LANGUAGE plpgsql AS $$
DECLARE
    home   bigint := (SELECT parent_id FROM node WHERE org_id = 1 AND id = current_setting('ncbi.top')::bigint);
    target bigint;
    v      text;
BEGIN
    FOR run IN 0..6 LOOP
        target := CASE WHEN run % 2 = 0 THEN current_setting('ncbi.place')::bigint ELSE home END;
        FOR v IN SELECT x FROM unnest('{tree,bare,ltree,closure,adjacency}'::text[]) x ORDER BY md5(run || x) LOOP
            INSERT INTO sample VALUES ('move', v, run, move_in(v, target));
            COMMIT;
        END LOOP;
    END LOOP;
END $$;
CALL moves();
DELETE FROM sample WHERE run = 0;
