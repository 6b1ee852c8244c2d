-- Deferred paths: moves that write one row, and an org that goes by its parent links until it is repaired.
-- Whatever is asked meanwhile is answered as after the repair, and as a walk along the links says that
-- shares no code with the extension.
SET client_min_messages = warning;
-- The oracle's recursions are not worth compiling.
SET jit = off;
\set VERBOSITY default
\set SHOW_CONTEXT never
DROP ROLE IF EXISTS defer_app;
CREATE ROLE defer_app LOGIN;
CREATE SCHEMA defer;
GRANT USAGE ON SCHEMA defer TO defer_app;
CREATE TABLE defer.t (org int NOT NULL, id int NOT NULL, up int, amount numeric NOT NULL DEFAULT 1, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('defer.t', 'id', 'up', 'org', max_depth => 8);
SELECT crm_tree.protect('defer.t', 'org');
GRANT SELECT, INSERT, UPDATE, DELETE ON defer.t TO defer_app;
SELECT crm_tree.grant_org('defer_app', 1), crm_tree.grant_org('defer_app', 2);

-- The oracle: depth and path of every node of an org by its links.
CREATE FUNCTION defer.walk(t regclass, org int) RETURNS TABLE (id int, up int, path text, depth int) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('WITH RECURSIVE w AS (
        SELECT n.id, n.up, ''/'' || n.id || ''/'' AS path, 0 AS depth FROM %1$s n WHERE n.org = $1 AND n.up IS NULL
        UNION ALL
        SELECT n.id, n.up, w.path || n.id || ''/'', w.depth + 1 FROM w JOIN %1$s n ON n.org = $1 AND n.up = w.id)
        SELECT * FROM w', t) USING org;
END $$;

-- Everything that can be asked of the bound org, a row an answer.
CREATE FUNCTION defer.answers(t regclass) RETURNS TABLE (what text, of text, n bigint, answer text) LANGUAGE plpgsql AS $$
DECLARE f text;
BEGIN
    FOREACH f IN ARRAY '{subtree,ancestors,children,siblings,leaves,root_of}'::text[] LOOP
        RETURN QUERY EXECUTE format('SELECT %L, i.id::text, r.n, concat_ws('' '', r.id, coalesce(r.parent, ''-''), r.path, r.depth)
            FROM %s i, crm_tree.%I(%L, i.id::text) WITH ORDINALITY AS r(id, parent, path, depth, n) WHERE i.org = $1', f, t, f, t)
            USING crm_tree.current_org_bigint()::int;
    END LOOP;
    RETURN QUERY EXECUTE format('SELECT ''lca'', i.id || '' '' || j.id, 1::bigint, concat_ws('' '', r.id, coalesce(r.parent, ''-''), r.path, r.depth)
        FROM %1$s i, %1$s j, crm_tree.lowest_common_ancestor(%1$L, i.id::text, j.id::text) r WHERE i.org = $1 AND j.org = $1 AND (i.id * 7 + j.id) %% 5 = 0', t)
        USING crm_tree.current_org_bigint()::int;
    RETURN QUERY EXECUTE format('SELECT ''node_counts'', i.id::text, 1::bigint, r::text FROM %1$s i, crm_tree.node_counts(%1$L, i.id::text) r WHERE i.org = $1', t)
        USING crm_tree.current_org_bigint()::int;
    RETURN QUERY EXECUTE format('SELECT ''rollup'', coalesce(i.id::text, ''-''), r.n, concat_ws('' '', r.id, r.parent, r.depth, r.own, r.total, r.descendants)
        FROM (SELECT id FROM %1$s WHERE org = $1 UNION ALL SELECT NULL) i,
             crm_tree.rollup(%1$L, ''SELECT id, amount FROM %1$s WHERE org = %2$s'', top => i.id::text) WITH ORDINALITY
             AS r(id, parent, depth, own, total, descendants, duplicates_suppressed, unallocated, missing, source, n)', t, crm_tree.current_org_text())
        USING crm_tree.current_org_bigint()::int;
END $$;
-- Those answers that a walk along the links does not give.
CREATE FUNCTION defer.wrong(t regclass) RETURNS bigint LANGUAGE sql AS $$
    WITH w AS MATERIALIZED (SELECT * FROM defer.walk(t, crm_tree.current_org_bigint()::int)),
         shown AS (SELECT id, up, path, concat_ws(' ', id, coalesce(up::text, '-'), path, depth) AS node FROM w),
         expected(what, of, answer) AS (
             SELECT 'subtree', a.id::text, b.node FROM shown a JOIN shown b ON starts_with(b.path, a.path) UNION ALL
             SELECT 'ancestors', b.id::text, a.node FROM shown a JOIN shown b ON starts_with(b.path, a.path) AND a.id <> b.id UNION ALL
             SELECT 'children', a.id::text, b.node FROM shown a JOIN shown b ON b.up = a.id UNION ALL
             SELECT 'siblings', a.id::text, b.node FROM shown a JOIN shown b ON b.up IS NOT DISTINCT FROM a.up AND a.id <> b.id UNION ALL
             SELECT 'leaves', a.id::text, b.node FROM shown a JOIN shown b ON starts_with(b.path, a.path) AND NOT EXISTS (SELECT FROM w c WHERE c.up = b.id) UNION ALL
             SELECT 'root_of', a.id::text, b.node FROM shown a JOIN shown b ON starts_with(a.path, b.path) AND b.up IS NULL)
    SELECT count(*) FROM (SELECT what, of, answer FROM defer.answers(t) WHERE what IN ('subtree', 'ancestors', 'children', 'siblings', 'leaves', 'root_of')) g
      FULL JOIN expected e USING (what, of, answer) WHERE g.what IS NULL OR e.what IS NULL
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA defer TO defer_app;

INSERT INTO defer.t (org, id, up, amount) SELECT o, g, CASE WHEN g > 2 THEN g / 3 END, g FROM generate_series(1, 2) o, generate_series(1, 40) g;
CREATE TABLE defer.before (t regclass, what text, of text, n bigint, answer text);
GRANT ALL ON defer.before TO defer_app;
RESET client_min_messages;

-- A mass re-org by an ordinary role: one row written a move. The other org goes on by its paths.
SHOW crm_tree.defer_paths;
SET SESSION AUTHORIZATION defer_app;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT defer.wrong('defer.t') AS wrong;
SET LOCAL crm_tree.defer_paths = on;
SELECT * FROM crm_tree.preview_move('defer.t', '3', '2');
UPDATE defer.t SET up = 2 WHERE id = 3;
SELECT id, up, materialized_path, depth FROM defer.t WHERE id IN (3, 9, 10, 27) ORDER BY id;
SELECT id, path, depth FROM crm_tree.subtree('defer.t', '3');
-- A swap of parent and child, a subtree out of one that moves too, a new root; judged at the end.
UPDATE defer.t SET up = v.up FROM (VALUES (4, 13), (13, 1), (5, NULL), (16, 40), (2, 5)) v(id, up) WHERE t.id = v.id;
SELECT count(*) AS rows_written FROM defer.t WHERE materialized_path IS NULL;
SELECT defer.wrong('defer.t') AS wrong;
COMMIT;
SELECT * FROM crm_tree.stale_org;
RESET SESSION AUTHORIZATION;
SELECT relation, org FROM crm_tree.stale_org;
SELECT count(*) > 5 AS stale FROM crm_tree.check_tree('defer.t') WHERE problem = 'stale_path';

-- Another transaction, without the setting: the flag decides.
SET SESSION AUTHORIZATION defer_app;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT defer.wrong('defer.t') AS wrong, (SELECT string_agg(DISTINCT source, ',') FROM crm_tree.rollup('defer.t', 'SELECT id, amount FROM defer.t')) AS source;
UPDATE defer.t SET up = 6 WHERE id = 7;
SELECT id, materialized_path FROM defer.t WHERE id IN (7, 21) ORDER BY id;
-- Refused as ever: cycles, short and long, by one row and by several,
SAVEPOINT s;
UPDATE defer.t SET up = 3 WHERE id = 3;
ROLLBACK TO s;
UPDATE defer.t SET up = 27 WHERE id = 2;
ROLLBACK TO s;
UPDATE defer.t SET up = CASE id WHEN 6 THEN 10 ELSE 6 END WHERE id IN (6, 10);
ROLLBACK TO s;
-- a parent that is not in the org, of a row that comes and of one that moves,
INSERT INTO defer.t (id, up) VALUES (50, 404);
ROLLBACK TO s;
UPDATE defer.t SET up = 404 WHERE id = 20;
ROLLBACK TO s;
INSERT INTO defer.t (id, up) VALUES (50, 51), (51, 50);
ROLLBACK TO s;
-- too deep: what comes, what moves, and what hangs below it.
SELECT max(depth) FROM crm_tree.subtree('defer.t', '5');
INSERT INTO defer.t (id, up) VALUES (50, 27), (51, 50), (52, 51), (53, 52), (54, 53);
ROLLBACK TO s;
INSERT INTO defer.t (id, up) VALUES (50, 27), (51, 50), (52, 51), (53, 52);
UPDATE defer.t SET up = 53 WHERE id = 20;
ROLLBACK TO s;
INSERT INTO defer.t (id, up) VALUES (50, 20), (51, 50), (52, 51);
SELECT new_depth, deepest, refusal FROM crm_tree.preview_move('defer.t', '20', '27');
UPDATE defer.t SET up = 27 WHERE id = 20;
ROLLBACK TO s;
-- Inserts in any order, upserts, and a MERGE that does both.
INSERT INTO defer.t (id, up) VALUES (60, 61), (61, 62), (62, 3);
INSERT INTO defer.t (id, up) VALUES (60, 62), (63, 60) ON CONFLICT (org, id) DO UPDATE SET up = excluded.up;
INSERT INTO defer.t (id, up) VALUES (62, 404) ON CONFLICT DO NOTHING;
MERGE INTO defer.t USING (VALUES (64, 65), (65, 63), (61, 65), (14, NULL)) v(id, up) ON t.id = v.id
 WHEN MATCHED AND v.up IS NULL THEN UPDATE SET up = NULL WHEN MATCHED THEN UPDATE SET up = v.up WHEN NOT MATCHED THEN INSERT (id, up) VALUES (v.id, v.up);
SELECT id, parent, path FROM crm_tree.subtree('defer.t', '62');
SELECT defer.wrong('defer.t') AS wrong;
-- Previews, and what they preview.
SELECT * FROM crm_tree.preview_move('defer.t', '2', '27');
SELECT * FROM crm_tree.preview_move('defer.t', '62', '404');
SELECT * FROM crm_tree.preview_move('defer.t', '62', '1');
SELECT * FROM crm_tree.preview_move('defer.t', '62', '3');
SELECT * FROM crm_tree.preview_merge('defer.t', '60', '62');
SELECT * FROM crm_tree.preview_merge('defer.t', '62', '60');
SELECT crm_tree.merge_nodes('defer.t', '60', '62');
SELECT id, parent, path FROM crm_tree.subtree('defer.t', '62');
SAVEPOINT s;
SELECT crm_tree.merge_nodes('defer.t', '3', '62');
ROLLBACK TO s;
CREATE TEMP TABLE staging (id int, up int);
INSERT INTO staging VALUES (70, 1);
SAVEPOINT s;
SELECT crm_tree.load_tree('defer.t', 'staging');
ROLLBACK TO s;
INSERT INTO defer.before SELECT 'defer.t', * FROM defer.answers('defer.t');
COMMIT;
-- The other org is not touched by all this.
BEGIN;
SELECT crm_tree.bind_org(2);
SELECT count(*) FILTER (WHERE materialized_path IS NULL) AS without_path FROM defer.t;
SELECT string_agg(DISTINCT source, ',') FROM crm_tree.rollup('defer.t', 'SELECT id, amount FROM defer.t');
-- Nor is what is going on there told to it.
SELECT crm_tree._path_now('defer.t', '1', '20', '/x/') AS path, (SELECT count(*) FROM crm_tree._deferred_paths('defer.t')) AS nodes;
INSERT INTO staging VALUES (71, 70);
SELECT crm_tree.load_tree('defer.t', 'staging');
ROLLBACK;
-- The owner repairs; who may not, may not.
SELECT * FROM crm_tree.repair_tree('defer.t');
RESET SESSION AUTHORIZATION;
-- Unbound a load is asked for the orgs it brings.
BEGIN;
CREATE TEMP TABLE two AS SELECT o AS org, 70 AS id, 1 AS up FROM generate_series(2, 3) o;
INSERT INTO defer.t (org, id) VALUES (3, 1);
SELECT crm_tree.load_tree('defer.t', 'two');
SAVEPOINT s;
UPDATE two SET org = 1, id = 75 WHERE org = 3;
SELECT crm_tree.load_tree('defer.t', 'two');
ROLLBACK;
SELECT * FROM crm_tree.repair_tree('defer.t', ' 01');
SELECT * FROM crm_tree.stale_org;
SELECT * FROM crm_tree.check_tree('defer.t');
SELECT relation, org, kind FROM crm_tree.tree_event WHERE relation = 'defer.t'::regclass;
SELECT * FROM crm_tree.repair_tree('defer.t');
-- Every answer is the one that was given by links; now by paths.
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT defer.wrong('defer.t') AS wrong;
SELECT coalesce(b.what, a.what) AS what, count(*), count(*) FILTER (WHERE b.what IS NULL OR a.what IS NULL) AS differ
  FROM defer.before b FULL JOIN defer.answers('defer.t') a USING (what, of, n, answer) GROUP BY 1 ORDER BY 1;
SELECT string_agg(DISTINCT source, ',') FROM crm_tree.rollup('defer.t', 'SELECT id, amount FROM defer.t WHERE org = 1');
COMMIT;

-- The flag goes with the transaction that set it, and with the savepoint; what comes then has its path.
BEGIN;
SET LOCAL crm_tree.defer_paths = on;
UPDATE defer.t SET up = 1 WHERE org = 2 AND id = 2;
SELECT relation, org FROM crm_tree.stale_org;
ROLLBACK;
SELECT * FROM crm_tree.stale_org;
BEGIN;
SAVEPOINT a;
SET LOCAL crm_tree.defer_paths = on;
UPDATE defer.t SET up = 1 WHERE org = 2 AND id = 2;
UPDATE defer.t SET up = 27 WHERE org = 2 AND id = 1;
ROLLBACK TO a;
SHOW crm_tree.defer_paths;
UPDATE defer.t SET up = 1 WHERE org = 2 AND id = 2;
INSERT INTO defer.t VALUES (2, 50, 2);
SELECT id, materialized_path FROM defer.t WHERE org = 2 AND id IN (2, 6, 50) ORDER BY id;
SELECT count(*) FROM crm_tree.stale_org;
DO $$ BEGIN
    SET LOCAL crm_tree.defer_paths = on;
    UPDATE defer.t SET up = 3 WHERE org = 2 AND id = 2;
    RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
UPDATE defer.t SET up = 4 WHERE org = 2 AND id = 2;
SELECT count(*) FROM crm_tree.stale_org;
SELECT * FROM crm_tree.check_tree('defer.t');
-- Deferred, repaired and moved again in one transaction.
SET LOCAL crm_tree.defer_paths = on;
UPDATE defer.t SET up = 3 WHERE org = 2 AND id = 2;
RESET crm_tree.defer_paths;
SELECT * FROM crm_tree.repair_tree('defer.t');
UPDATE defer.t SET up = NULL WHERE org = 2 AND id = 2;
INSERT INTO defer.t VALUES (2, 51, 6);
SELECT count(*) FROM crm_tree.stale_org;
SELECT * FROM crm_tree.check_tree('defer.t');
ROLLBACK;
-- A move that moves nothing flags nothing; one that only a trigger undoes is no harm.
BEGIN;
SET LOCAL crm_tree.defer_paths = on;
UPDATE defer.t SET up = up, amount = 2 WHERE org = 2;
SELECT count(*) FROM crm_tree.stale_org;
ROLLBACK;

-- A repair that cannot make all right leaves the org to its links.
BEGIN;
SET LOCAL crm_tree.defer_paths = on;
UPDATE defer.t SET up = 4 WHERE org = 2 AND id = 2;
SET LOCAL session_replication_role = replica;
UPDATE defer.t SET up = 39 WHERE org = 2 AND id = 13;
SET LOCAL session_replication_role = origin;
SELECT cycles, orphans FROM crm_tree.repair_tree('defer.t');
SELECT relation, org FROM crm_tree.stale_org;
SELECT count(*) FROM crm_tree.subtree('defer.t', '13'), crm_tree.bind_org(2);
UPDATE defer.t SET up = 4 WHERE org = 2 AND id = 13;
SELECT cycles, orphans FROM crm_tree.repair_tree('defer.t');
SELECT count(*) FROM crm_tree.stale_org;
SELECT defer.wrong('defer.t') AS wrong;
ROLLBACK;

-- An org without nodes has a flag that the next repair takes away; so do detached and dropped trees.
CREATE TABLE defer.gone (org int NOT NULL, id int NOT NULL, up int, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('defer.gone', 'id', 'up', 'org');
INSERT INTO defer.gone SELECT o, g, nullif(g - 1, 0) FROM generate_series(1, 3) o, generate_series(1, 3) g;
SET crm_tree.defer_paths = on;
UPDATE defer.gone SET up = NULL WHERE id = 2;
RESET crm_tree.defer_paths;
DELETE FROM defer.gone WHERE org = 2;
SELECT org FROM crm_tree.stale_org ORDER BY 1;
SELECT crm_tree._tree_orgs('defer.gone');
SELECT repaired FROM crm_tree.repair_tree('defer.gone', '2');
SELECT org FROM crm_tree.stale_org ORDER BY 1;
BEGIN;
SELECT crm_tree.detach_tree('defer.gone');
SELECT count(*) FROM crm_tree.stale_org;
ROLLBACK;
DROP TABLE defer.gone;
SELECT count(*) FROM crm_tree.stale_org;

-- Deletes, each way on_delete knows, in orgs whose paths say nothing any more.
CREATE FUNCTION defer.make(mode text, layout text) RETURNS regclass LANGUAGE plpgsql AS $$
DECLARE t text := format('defer.%s_%s', layout, mode);
BEGIN
    EXECUTE format('CREATE TABLE %s (org int NOT NULL, id int NOT NULL, up int, doomed boolean, PRIMARY KEY (org, id)) %s', t,
        CASE layout WHEN 'by_id' THEN 'PARTITION BY HASH (id)' ELSE '' END);
    IF layout = 'by_id' THEN
        EXECUTE (SELECT string_agg(format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES WITH (MODULUS 3, REMAINDER %2$s)', t, r), ';') FROM generate_series(0, 2) r);
    END IF;
    PERFORM crm_tree.attach_tree(t::regclass, 'id', 'up', org => 'org', on_delete => mode, history => mode IN ('adopt', 'cascade'));
    RETURN t;
END $$;
-- What one delete did wrong; null: nothing. when_: the org is flagged before, or by what the delete does.
CREATE FUNCTION defer.try(t regclass, mode text, rules text, when_ text, how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE expected text[]; got text[]; blocked boolean; fault text; flags bigint;
BEGIN
    PERFORM set_config('crm_tree.defer_paths', 'off', true);
    EXECUTE format('UPDATE %s SET up = NULL; DELETE FROM %1$s', t);
    EXECUTE format('INSERT INTO %s (org, id, up, doomed) SELECT 1, g, CASE WHEN g > 2 AND random() < 0.9 THEN 1 + floor(random() * (g - 1))::int END,
        random() < 0.35 FROM generate_series(1, 14) g ORDER BY random()', t);
    PERFORM set_config('crm_tree.defer_paths', 'on', true);
    IF when_ = 'before' THEN
        -- Every node but the first hangs below one of a smaller number again, another one mostly.
        EXECUTE format('UPDATE %s SET up = 1 + floor(random() * (id - 1))::int WHERE id > 1 AND random() < 0.7', t);
        PERFORM set_config('crm_tree.defer_paths', 'off', true);
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$s c JOIN %1$s p ON p.org = c.org AND p.id = c.up WHERE p.doomed AND NOT c.doomed)', t) INTO blocked;
    EXECUTE format($q$
        WITH RECURSIVE w AS (
            SELECT id, up AS at, up, doomed, false AS broken, 0 AS n FROM %1$s
            UNION ALL
            SELECT w.id, p.up, w.up, w.doomed, true, n + 1 FROM w JOIN %1$s p ON p.id = w.at WHERE p.doomed),
        place AS (SELECT DISTINCT ON (id) * FROM w ORDER BY id, n DESC),
        below AS (
            SELECT id FROM %1$s WHERE doomed UNION SELECT c.id FROM below JOIN %1$s c ON c.up = below.id)
        SELECT array_agg(concat_ws(' ', id, CASE WHEN $1 = 'rootify' AND broken THEN NULL ELSE at END) ORDER BY id)
          FROM place WHERE NOT doomed AND NOT ($1 = 'cascade' AND id IN (SELECT id FROM below))$q$, t)
      INTO expected USING rules;
    BEGIN
        EXECUTE format(CASE how WHEN 'delete' THEN 'DELETE FROM %s WHERE doomed'
            WHEN 'merge' THEN 'MERGE INTO %s t USING (SELECT 1) one ON t.doomed WHEN MATCHED THEN DELETE' END, t);
    EXCEPTION WHEN foreign_key_violation THEN
        IF NOT (blocked AND mode = 'restrict') THEN fault := 'refused: ' || SQLERRM; END IF;
        blocked := NULL;
    END;
    IF blocked IS NOT NULL THEN
        IF blocked AND mode = 'restrict' THEN fault := 'not refused'; END IF;
        EXECUTE format('SELECT array_agg(concat_ws('' '', id, up) ORDER BY id) FROM %s', t) INTO got;
        IF got IS DISTINCT FROM expected THEN fault := format('left %s and not %s', got, expected); END IF;
    END IF;
    PERFORM crm_tree.repair_tree(t);
    SELECT count(*) INTO flags FROM crm_tree.stale_org;
    RETURN concat_ws(', ', fault, CASE WHEN flags > 0 THEN 'still flagged' END,
                     (SELECT string_agg(concat_ws(' ', id, problem, detail), ', ') FROM crm_tree.check_tree(t)));
END $$;
SELECT setseed(0.25);
SET client_min_messages = warning;
SELECT mode, layout, when_, how, count(*) AS tried, count(*) FILTER (WHERE fault <> '') AS faults, min(fault) FILTER (WHERE fault <> '') AS first
  FROM unnest('{restrict,adopt,rootify,cascade}'::text[]) mode, unnest('{plain,by_id}'::text[]) layout, defer.make(mode, layout) t,
       unnest('{before,by it}'::text[]) when_, unnest('{delete,merge}'::text[]) how, generate_series(1, 8), defer.try(t, mode, mode, when_, how) fault
 GROUP BY mode, layout, when_, how ORDER BY mode, layout, when_, how;
-- The comparison can fail: each mode judged by the rules of another.
SELECT mode, rules, count(*) FILTER (WHERE defer.try(format('defer.plain_%s', mode)::regclass, mode, rules, 'before', 'delete') <> '') > 0 AS faults
  FROM (VALUES ('adopt', 'rootify'), ('rootify', 'adopt'), ('cascade', 'adopt')) v(mode, rules), generate_series(1, 15)
 GROUP BY mode, rules ORDER BY mode;
RESET client_min_messages;

-- A history writes the edges down as ever.
CREATE TABLE defer.kept (org int NOT NULL, id int NOT NULL, up int, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('defer.kept', 'id', 'up', 'org', history => true);
INSERT INTO defer.kept SELECT 1, g, nullif(g / 2, 0) FROM generate_series(1, 7) g;
SET crm_tree.defer_paths = on;
UPDATE defer.kept SET up = 3 WHERE id = 2;
UPDATE defer.kept SET up = 1 WHERE id = 5;
RESET crm_tree.defer_paths;
INSERT INTO defer.kept VALUES (1, 8, 5);
SELECT id, parent, valid_to IS NULL AS stands FROM defer.kept_history ORDER BY id, valid_from;
SELECT * FROM crm_tree.subtree_as_of('defer.kept', '1', now()) EXCEPT SELECT * FROM crm_tree.subtree('defer.kept', '1');
SELECT problem, count(*) FROM crm_tree.check_tree('defer.kept') WHERE problem = 'stale_history' GROUP BY 1;
SELECT repaired FROM crm_tree.repair_tree('defer.kept');
SELECT * FROM crm_tree.check_tree('defer.kept');

-- Who is hidden from a caller by a policy of the table's is hidden, and what is below it is not.
CREATE POLICY hide ON defer.t AS RESTRICTIVE FOR SELECT TO defer_app USING (id <> 2);
SET SESSION AUTHORIZATION defer_app;
BEGIN;
SELECT crm_tree.bind_org(2);
SELECT string_agg(id || path, ', ') AS above FROM crm_tree.ancestors('defer.t', '20');
SELECT count(*) AS hidden FROM crm_tree.subtree('defer.t', '2');
SET LOCAL crm_tree.defer_paths = on;
UPDATE defer.t SET up = 1 WHERE id = 7;
SELECT string_agg(id || path, ', ') AS above FROM crm_tree.ancestors('defer.t', '20');
SELECT count(*) AS hidden FROM crm_tree.subtree('defer.t', '2');
SELECT crm_tree._path_now('defer.t', '2', '2', '/x/') AS hidden, crm_tree._path_now('defer.t', '2', '20', '/x/') AS shown;
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- The template: what goes by the account tree and by the role tree.
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT crm_tree.create_crm('reg_defer');
SELECT reg_defer.create_month_partitions('2026-01-01', '2026-02-01') >= 0 AS months;
SELECT reg_defer.grant_app('defer_app');
SELECT crm_tree.grant_org('defer_app', '00000000-0000-0000-0000-0000000c0051'::uuid, for_session => true);
CREATE FUNCTION defer.a(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('a0000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid $$;
SET SESSION AUTHORIZATION defer_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0051'::uuid);
INSERT INTO reg_defer.role (role_id, parent_role_id, name) SELECT defer.a(g), CASE WHEN g > 1 THEN defer.a(g / 2) END, 'role ' || g FROM generate_series(1, 7) g;
INSERT INTO reg_defer.app_user (user_id, display_name, role_id) SELECT 'u' || g, 'U' || g, defer.a(g) FROM generate_series(1, 7) g;
INSERT INTO reg_defer.account (account_id, parent_account_id, name, ownership_pct, owner_user_id)
SELECT defer.a(g), CASE WHEN g > 2 THEN defer.a(g / 3) END, 'account ' || g, 60, CASE WHEN g % 4 = 0 THEN 'u' || g % 7 + 1 END FROM generate_series(1, 30) g;
INSERT INTO reg_defer.account_link (parent_account_id, child_account_id, ownership_pct) VALUES (defer.a(5), defer.a(6), 20);
INSERT INTO reg_defer.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) SELECT '2026-01-31', defer.a(g), g FROM generate_series(1, 30) g;
INSERT INTO reg_defer.account_share (account_id, user_id, permission_level) VALUES (defer.a(3), 'u6', 'edit'), (defer.a(1), 'u7', 'read');
INSERT INTO reg_defer.sharing_rule (name, owner_role_id, grantee_role_id, grantees_below, permission_level) VALUES ('r', defer.a(2), defer.a(3), true, 'read');
INSERT INTO reg_defer.stage (stage, position) VALUES ('open', 1);
INSERT INTO reg_defer.opportunity (opportunity_id, account_id, name) SELECT defer.a(g), defer.a(g), 'deal ' || g FROM generate_series(1, 30) g;
INSERT INTO reg_defer.fct_stage_change (opportunity_id, changed_at, to_stage, amount_usd) SELECT defer.a(g), '2026-01-05', 'open', g FROM generate_series(1, 30) g;
CREATE FUNCTION pg_temp.figures() RETURNS TABLE (what text, figure text) LANGUAGE sql AS $$
    SELECT 'check_access', concat_ws(' ', u.user_id, a.name, reg_defer.check_access(u.user_id, a.account_id), reg_defer.check_access(u.user_id, a.account_id, 'edit'))
      FROM reg_defer.app_user u, reg_defer.account a UNION ALL
    SELECT 'list_users', concat_ws(' ', a.name, l.user_id, l.permission_level) FROM reg_defer.account a, reg_defer.list_users(a.account_id) l UNION ALL
    SELECT 'list_accounts', concat_ws(' ', u.user_id, l.n, l.account_id, l.permission_level)
      FROM reg_defer.app_user u, reg_defer.list_accounts(u.user_id, 'read', defer.a(4), 9) WITH ORDINALITY AS l(account_id, permission_level, n) UNION ALL
    SELECT 'explain_access', reg_defer.explain_access(u.user_id, a.account_id)::text FROM reg_defer.app_user u, reg_defer.account a UNION ALL
    SELECT 'sharing_drift', d::text FROM reg_defer.sharing_drift() d UNION ALL
    SELECT 'account_with_root', concat_ws(' ', r.name, r.root_account_id, r.root_name) FROM reg_defer.account_with_root r UNION ALL
    SELECT 'arr_rollup', concat_ws(' ', m, a.name, r.own_usd, r.total_usd, r.accounts, r.duplicates_suppressed, r.unallocated_usd)
      FROM reg_defer.account a, unnest('{distinct,weighted,primary}'::text[]) m, reg_defer.arr_rollup(a.account_id, mode => m) r UNION ALL
    SELECT 'arr_rollup_tree', concat_ws(' ', r.name, r.depth, r.total_usd, r.descendants) FROM reg_defer.arr_rollup_tree() r UNION ALL
    SELECT 'pipeline_rollup', concat_ws(' ', a.name, p.stage, p.opportunities, p.amount_usd) FROM reg_defer.account a, reg_defer.pipeline_rollup(a.account_id) p UNION ALL
    SELECT 'stage_durations', concat_ws(' ', a.name, d.opportunities, d.visits) FROM reg_defer.account a, reg_defer.stage_durations('-infinity', '2026-03-01', a.account_id) d
$$;
SELECT * FROM reg_defer.recompute_sharing();
CREATE TEMP TABLE at_first AS SELECT * FROM pg_temp.figures();
BEGIN;
SET LOCAL crm_tree.defer_paths = on;
UPDATE reg_defer.account SET parent_account_id = CASE account_id WHEN defer.a(3) THEN defer.a(2) WHEN defer.a(4) THEN NULL ELSE defer.a(9) END
 WHERE account_id IN (defer.a(3), defer.a(4), defer.a(8));
UPDATE reg_defer.role SET parent_role_id = defer.a(3) WHERE role_id IN (defer.a(2), defer.a(5));
COMMIT;
-- The tree closes no circle through a second parent: 5 is above 6.
UPDATE reg_defer.account SET parent_account_id = defer.a(6) WHERE account_id = defer.a(5);
CREATE TEMP TABLE drift AS SELECT * FROM reg_defer.sharing_drift();
SELECT * FROM reg_defer.recompute_sharing();
SELECT (SELECT count(*) FROM drift) AS drift, (SELECT count(*) FROM reg_defer.sharing_drift()) AS left;
CREATE TEMP TABLE deferred AS SELECT * FROM pg_temp.figures();
-- A merge, and what it previews.
BEGIN;
SELECT children, rows_touched, deepest, refusal FROM crm_tree.preview_merge('reg_defer.account', defer.a(8)::text, defer.a(3)::text);
SELECT children, opportunities, snapshots_added_up FROM reg_defer.merge_account(defer.a(8), defer.a(3));
SELECT total_usd FROM reg_defer.arr_rollup(defer.a(3), mode => 'primary');
ROLLBACK;
RESET SESSION AUTHORIZATION;
SELECT crm_tree.unbind();
SELECT relation, org FROM crm_tree.stale_org ORDER BY relation::text;
SELECT name, root_name FROM reg_defer.account_with_root WHERE name IN ('account 3', 'account 9', 'account 4') ORDER BY 1;
SELECT (SELECT repaired > 0 FROM crm_tree.repair_tree('reg_defer.account')) AS accounts, (SELECT repaired > 0 FROM crm_tree.repair_tree('reg_defer.role')) AS roles;
SELECT count(*) FROM crm_tree.stale_org;
SET SESSION AUTHORIZATION defer_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0051'::uuid);
SELECT what, count(*) AS figures, count(*) FILTER (WHERE d.n IS NULL OR p.n IS NULL) AS differ,
       count(*) FILTER (WHERE f.n IS NULL) > 0 OR what = 'sharing_drift' AS changed_by_the_reorg
  FROM (SELECT what, figure, count(*) AS n FROM deferred GROUP BY 1, 2) d
  FULL JOIN (SELECT what, figure, count(*) AS n FROM pg_temp.figures() GROUP BY 1, 2) p USING (what, figure)
  LEFT JOIN (SELECT what, figure, count(*) AS n FROM at_first GROUP BY 1, 2) f USING (what, figure)
 GROUP BY what ORDER BY what;
RESET SESSION AUTHORIZATION;
SELECT crm_tree.unbind();
SELECT * FROM crm_tree.check_tree('reg_defer.account');
DROP SCHEMA reg_defer CASCADE;
DROP SCHEMA defer CASCADE;
SELECT count(*) FROM crm_tree.stale_org;
