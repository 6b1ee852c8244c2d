-- Deletes, each way on_delete knows: random sets of nodes, parents and children together, by DELETE, by
-- MERGE, by the foreign key of another table, on plain and partitioned tables, against what the links say.
SET client_min_messages = warning;
CREATE SCHEMA del;
CREATE TABLE del.lot (org int, lot int, PRIMARY KEY (org, lot));
CREATE FUNCTION del.make(mode text, layout text) RETURNS regclass LANGUAGE plpgsql AS $$
DECLARE t text := format('del.%s_%s', layout, mode);
BEGIN
    EXECUTE format('CREATE TABLE %s (org int NOT NULL, id int NOT NULL, up int, lot int, PRIMARY KEY (org, id)) %s', t,
        CASE layout WHEN 'by_org' THEN 'PARTITION BY LIST (org)' WHEN 'by_id' THEN 'PARTITION BY HASH (id)' ELSE '' END);
    CASE layout
        WHEN 'by_org' THEN EXECUTE format('CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES IN (1); CREATE TABLE %1$s_2 PARTITION OF %1$s DEFAULT', t);
        WHEN 'by_id' THEN EXECUTE (SELECT string_agg(format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES WITH (MODULUS 3, REMAINDER %2$s)', t, r), ';')
                                     FROM generate_series(0, 2) r);
        ELSE NULL;
    END CASE;
    PERFORM crm_tree.attach_tree(t::regclass, 'id', 'up', org => 'org', on_delete => mode);
    -- The lots go last by name, and are what a delete from another table cascades along.
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT zz_lot FOREIGN KEY (org, lot) REFERENCES del.lot ON DELETE CASCADE', t);
    RETURN t;
END $$;

-- What one delete did wrong; null: nothing. The nodes to go are those of lot 1.
CREATE FUNCTION del.try(t regclass, mode text, how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE expected text[]; got text[]; blocked boolean; fault text;
BEGIN
    EXECUTE format('DELETE FROM del.lot; INSERT INTO del.lot SELECT o, l FROM generate_series(1, 2) o, generate_series(0, 1) l');
    -- In random order of the rows, since that is the order they are deleted in.
    EXECUTE format($q$
        INSERT INTO %s (org, id, up, lot)
        SELECT o, g, CASE WHEN g > 2 AND random() < 0.9 THEN 1 + floor(random() * (g - 1))::int END, (random() < 0.35)::int
          FROM generate_series(1, 2) o, generate_series(1, 14) g ORDER BY random()$q$, t);
    EXECUTE format($q$SELECT EXISTS (SELECT FROM %1$s c JOIN %1$s p ON p.org = c.org AND p.id = c.up WHERE p.lot = 1 AND c.lot = 0 AND c.org = 1)$q$, t) INTO blocked;
    -- (id, the nearest ancestor left, is some ancestor deleted, is the parent deleted)
    EXECUTE format($q$
        WITH RECURSIVE w AS (
            SELECT org, id, up AS at, lot = 1 AND org = 1 AS goes, false AS broken, up FROM %1$s
            UNION ALL
            SELECT w.org, w.id, p.up, w.goes, true, w.up FROM w JOIN %1$s p ON p.org = w.org AND p.id = w.at WHERE p.lot = 1 AND p.org = 1),
        place AS (SELECT DISTINCT ON (org, id) * FROM w ORDER BY org, id, broken DESC, at IS NULL DESC,
                         (SELECT n.depth FROM %1$s n WHERE n.org = w.org AND n.id = w.at)),
        up AS (SELECT c.org, c.id, a.id AS above FROM %1$s c JOIN %1$s a ON a.org = c.org AND crm_tree.path_is_within(c.materialized_path, a.materialized_path)
                WHERE a.lot = 1 AND a.org = 1)
        SELECT array_agg(concat_ws(' ', org, id, CASE WHEN $1 = 'rootify' AND broken THEN NULL ELSE at END) ORDER BY org, id)
          FROM place WHERE NOT goes AND NOT ($1 = 'cascade' AND EXISTS (SELECT FROM up WHERE up.org = place.org AND up.id = place.id))$q$, t)
      INTO expected USING mode;
    BEGIN
        EXECUTE format(CASE how
            WHEN 'delete' THEN 'DELETE FROM %s WHERE lot = 1 AND org = 1'
            WHEN 'merge' THEN 'MERGE INTO %s t USING (SELECT 1) one ON t.lot = 1 AND t.org = 1 WHEN MATCHED THEN DELETE'
            WHEN 'foreign key' THEN 'DELETE FROM del.lot WHERE lot = 1 AND org = 1' END, t);
    EXCEPTION WHEN foreign_key_violation THEN
        IF NOT (blocked AND mode = 'restrict') THEN fault := 'refused: ' || SQLERRM; END IF;
        blocked := NULL;
    END;
    IF blocked IS NOT NULL THEN
        IF blocked AND mode = 'restrict' THEN fault := 'not refused'; END IF;
        EXECUTE format('SELECT array_agg(concat_ws('' '', org, id, up) ORDER BY org, id) FROM %s', t) INTO got;
        IF got IS DISTINCT FROM expected THEN
            fault := format('left %s and not %s', got, expected);
        END IF;
    END IF;
    RETURN concat_ws(', ', fault, (SELECT string_agg(concat_ws(' ', org, id, problem, detail), ', ') FROM crm_tree.check_tree(t)));
END $$;
SELECT setseed(0.5);
SELECT mode, layout, how, count(*) AS tried, count(*) FILTER (WHERE fault <> '') AS faults, min(fault) FILTER (WHERE fault <> '') AS first
  FROM unnest('{restrict,adopt,rootify,cascade}'::text[]) mode, unnest('{plain,by_org,by_id}'::text[]) layout,
       del.make(mode, layout) t, unnest('{delete,merge,foreign key}'::text[]) how, generate_series(1, 15), del.try(t, mode, how) fault
 GROUP BY mode, layout, how ORDER BY mode, layout, how;

-- The comparison can fail: each mode judged by the rules of another.
SELECT mode, rules, count(*) FILTER (WHERE del.try(format('del.plain_%s', mode)::regclass, rules, 'delete') <> '') > 0 AS faults
  FROM (VALUES ('adopt', 'rootify'), ('rootify', 'adopt'), ('cascade', 'adopt'), ('restrict', 'cascade')) v(mode, rules), generate_series(1, 15)
 GROUP BY mode, rules ORDER BY mode;

-- A statement that deletes some and moves others.
INSERT INTO del.lot VALUES (3, 0);
INSERT INTO del.plain_adopt (org, id, up, lot) SELECT 3, g, nullif(g / 2, 0), 0 FROM generate_series(1, 15) g;
MERGE INTO del.plain_adopt t USING (VALUES (2, NULL), (4, 3), (5, NULL)) v(id, up) ON t.org = 3 AND t.id = v.id
 WHEN MATCHED AND v.up IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET up = v.up;
SELECT id, up, materialized_path FROM del.plain_adopt WHERE org = 3 ORDER BY materialized_path;
SELECT * FROM crm_tree.check_tree('del.plain_adopt');
-- A node that is deleted and comes back elsewhere: what is below it, and what comes after it, follows.
CREATE FUNCTION del.come_back(mode text, history boolean, how text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS del.back, del.back_history;
    CREATE TABLE del.back (org int, id text, up text, PRIMARY KEY (org, id));
    PERFORM crm_tree.attach_tree('del.back', 'id', 'up', 'org', on_delete => mode, history => history);
    INSERT INTO del.back VALUES (1, 'P', NULL), (1, 'Q', NULL), (1, 'R', NULL);
    CASE how
        WHEN 'one by one' THEN
            INSERT INTO del.back VALUES (1, 'c1', 'P');
            DELETE FROM del.back WHERE id = 'c1';
            DELETE FROM del.back WHERE id = 'P';
            INSERT INTO del.back VALUES (1, 'P', 'Q');
            INSERT INTO del.back VALUES (1, 'c2', 'P');
        WHEN 'one statement' THEN
            INSERT INTO del.back VALUES (1, 'c1', 'P'), (1, 'd1', 'c1');
            WITH gone AS (DELETE FROM del.back WHERE id = 'P' RETURNING org, id)
            INSERT INTO del.back
            SELECT 1, 'c0', 'P' UNION ALL SELECT org, id, 'Q' FROM gone UNION ALL SELECT 1, 'c2', 'P' UNION ALL SELECT 1, 'Q2', 'c2';
        WHEN 'by a trigger' THEN
            CREATE OR REPLACE FUNCTION del.away() RETURNS trigger LANGUAGE plpgsql AS $t$
            BEGIN
                DELETE FROM del.back WHERE id = 'c1';
                DELETE FROM del.back WHERE id = 'P';
                INSERT INTO del.back VALUES (1, 'P', 'Q');
                RETURN NEW;
            END $t$;
            CREATE TRIGGER away BEFORE INSERT ON del.back FOR EACH ROW WHEN (NEW.id = 'c2') EXECUTE FUNCTION del.away();
            INSERT INTO del.back VALUES (1, 'c1', 'P');
            INSERT INTO del.back VALUES (1, 'b', NULL), (1, 'c2', 'P'), (1, 'c3', 'P');
    END CASE;
    RETURN QUERY SELECT materialized_path FROM del.back WHERE id NOT IN ('Q', 'R') ORDER BY 1;
    RETURN QUERY SELECT c.problem || ' ' || c.id FROM crm_tree.check_tree('del.back') c;
    BEGIN
        UPDATE del.back SET up = 'c2' WHERE id = 'Q';
        RETURN NEXT 'a circle';
    EXCEPTION WHEN check_violation THEN NULL;
    END;
END $$;
SET client_min_messages = warning;
SELECT how, mode, history, string_agg(x, ' ') AS paths
  FROM unnest('{one by one,one statement,by a trigger}'::text[]) WITH ORDINALITY h(how, n)
 CROSS JOIN unnest('{restrict,adopt,rootify,cascade}'::text[]) mode CROSS JOIN unnest('{f,t}'::boolean[]) history
 CROSS JOIN LATERAL del.come_back(mode, history, how) x
 WHERE how = 'one by one' OR mode = 'restrict'
 GROUP BY how, n, mode, history ORDER BY n, mode, history;
-- By the name of a partition, and in an org that is not the bound one.
CREATE TABLE del.pt (org_id int, id text, parent text, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
CREATE TABLE del.pt1 PARTITION OF del.pt FOR VALUES IN (1);
SELECT crm_tree.attach_tree('del.pt', 'id', 'parent');
INSERT INTO del.pt VALUES (1, 'a', NULL), (1, 'b', NULL), (1, 'p', 'a'), (1, 'c', 'p'), (1, 'd', 'c');
WITH d AS (DELETE FROM del.pt1 WHERE id = 'p' RETURNING *) INSERT INTO del.pt1 SELECT org_id, id, 'd' FROM d;
WITH d AS (DELETE FROM del.pt1 WHERE id = 'p' RETURNING *) INSERT INTO del.pt1 SELECT org_id, id, 'b' FROM d;
BEGIN;
INSERT INTO del.pt1 VALUES (1, 'x', 'd');
DELETE FROM del.pt1 WHERE id = 'x';
DELETE FROM del.pt1 WHERE id = 'd';
INSERT INTO del.pt1 VALUES (1, 'd', 'b');
INSERT INTO del.pt1 VALUES (1, 'y', 'd');
COMMIT;
SELECT id, materialized_path FROM del.pt ORDER BY 2;
SELECT * FROM crm_tree.check_tree('del.pt');
BEGIN;
SELECT crm_tree.bind_org(9);
DELETE FROM del.pt WHERE id = 'y';
SELECT count(*) AS locks_of_orgs FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 17237 AND pid = pg_backend_pid();
ROLLBACK;

-- An error that is caught inside of a statement takes back what it settled, and not what the statement has still to settle.
CREATE TABLE del.sw (org_id int, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('del.sw', 'id', 'parent', history => true);
INSERT INTO del.sw VALUES (1, 'a', NULL), (1, 'b', 'a'), (1, 'y', NULL), (1, 'z', 'y');
CREATE FUNCTION del.caught(fail boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE del.sw SET parent = NULL WHERE id = 'z';
    IF fail THEN RAISE EXCEPTION 'x'; END IF;
    RETURN NULL;
EXCEPTION WHEN others THEN RETURN NULL;
END $$;
UPDATE del.sw SET parent = CASE id WHEN 'a' THEN 'b' ELSE del.caught(false) END WHERE id IN ('a', 'y');
UPDATE del.sw SET parent = CASE id WHEN 'a' THEN 'y' ELSE del.caught(true) END WHERE id IN ('a', 'y');
SELECT id, materialized_path FROM del.sw ORDER BY 2;
SELECT * FROM crm_tree.check_tree('del.sw');

-- Triggers that move nodes while paths are written.
CREATE TABLE del.rw (org_id int, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('del.rw', 'id', 'parent');
INSERT INTO del.rw VALUES (1, 'b', NULL), (1, 'f', 'b'), (1, 'g', NULL);
CREATE FUNCTION del.moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = 'f' AND pg_trigger_depth() < 4 THEN UPDATE del.rw SET parent = NULL WHERE id = 'b' AND parent IS NOT NULL; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER bb BEFORE UPDATE ON del.rw FOR EACH ROW EXECUTE FUNCTION del.moves();
UPDATE del.rw SET parent = 'g' WHERE id = 'b';
SELECT id, parent, materialized_path FROM del.rw ORDER BY 3;
SELECT * FROM crm_tree.check_tree('del.rw');
-- Triggers that insert below a row whose path is being written: by a move, an adoption, a repair; again where it was deleted; without an end.
CREATE TABLE del.below (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('del.below', 'id', 'parent', on_delete => 'adopt');
INSERT INTO del.below VALUES (1, 1, NULL), (1, 4, 1), (1, 5, 4), (1, 9, 5);
CREATE FUNCTION del.inserts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = 5 AND TG_ARGV[0] = 'again' THEN DELETE FROM del.below WHERE id = 9; INSERT INTO del.below VALUES (1, 9, 5); END IF;
    IF NEW.id = 5 AND TG_ARGV[0] = 'once' THEN INSERT INTO del.below VALUES (1, 6, 5) ON CONFLICT DO NOTHING; END IF;
    IF TG_ARGV[0] = 'always' THEN INSERT INTO del.below SELECT 1, max(id) + 1, NEW.id FROM del.below; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER once BEFORE UPDATE ON del.below FOR EACH ROW EXECUTE FUNCTION del.inserts('once');
BEGIN;
UPDATE del.below SET parent = NULL WHERE id = 4;
SELECT id, parent, materialized_path, depth FROM del.below ORDER BY 3;
SELECT * FROM crm_tree.check_tree('del.below');
ROLLBACK;
BEGIN;
DELETE FROM del.below WHERE id = 1;
SELECT id, parent, materialized_path, depth FROM del.below ORDER BY 3;
SELECT * FROM crm_tree.check_tree('del.below');
ROLLBACK;
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE del.below SET materialized_path = '/x' || materialized_path WHERE id = 5;
SET LOCAL session_replication_role = origin;
SELECT * FROM crm_tree.repair_tree('del.below');
SELECT id, parent, materialized_path, depth FROM del.below ORDER BY 3;
ROLLBACK;
DROP TRIGGER once ON del.below;
CREATE TRIGGER again BEFORE UPDATE ON del.below FOR EACH ROW EXECUTE FUNCTION del.inserts('again');
BEGIN;
UPDATE del.below SET parent = NULL WHERE id = 4;
SELECT id, parent, materialized_path, depth FROM del.below ORDER BY 3;
SELECT * FROM crm_tree.check_tree('del.below');
ROLLBACK;
DROP TRIGGER again ON del.below;
CREATE TRIGGER always BEFORE UPDATE ON del.below FOR EACH ROW EXECUTE FUNCTION del.inserts('always');
UPDATE del.below SET parent = NULL WHERE id = 4;
SELECT id, parent, materialized_path, depth FROM del.below ORDER BY 3;
-- Triggers that move an ancestor of the row whose path is being written, or that row itself.
CREATE TABLE del.beneath (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('del.beneath', 'id', 'parent');
INSERT INTO del.beneath VALUES ('o', 'c', NULL), ('o', 'a', NULL), ('o', 'b', 'a'), ('o', 'k', 'b'), ('o', 'x', 'b'), ('o', 'l', 'k');
CREATE FUNCTION del.moves_above() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_ARGV[0] = 'ancestor' THEN UPDATE del.beneath SET parent = 'c' WHERE id = 'b' AND parent = 'a'; ELSE NEW.parent := 'c'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER mv BEFORE UPDATE ON del.beneath FOR EACH ROW WHEN (OLD.id = 'k') EXECUTE FUNCTION del.moves_above('ancestor');
BEGIN;
UPDATE del.beneath SET parent = 'c' WHERE id = 'a';
SELECT id, parent, materialized_path, depth FROM del.beneath ORDER BY 3;
SELECT * FROM crm_tree.check_tree('del.beneath');
ROLLBACK;
DROP TRIGGER mv ON del.beneath;
CREATE TRIGGER mv BEFORE UPDATE ON del.beneath FOR EACH ROW WHEN (OLD.id = 'k') EXECUTE FUNCTION del.moves_above('itself');
BEGIN;
UPDATE del.beneath SET parent = 'c' WHERE id = 'a';
SELECT id, parent, materialized_path, depth FROM del.beneath ORDER BY 3;
SELECT * FROM crm_tree.check_tree('del.beneath');
ROLLBACK;
-- Parents and grandchildren that go together, adopted from; inserted by the same transaction, or before. Many at once.
CREATE TABLE del.kin (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('del.kin', 'id', 'parent', on_delete => 'adopt', max_depth => 200);
BEGIN;
INSERT INTO del.kin VALUES ('o', 'b', NULL), ('o', 'k', 'b'), ('o', 'r', 'k'), ('o', 's', 'r');
DELETE FROM del.kin WHERE id IN ('b', 'r');
SELECT id, parent, materialized_path FROM del.kin ORDER BY 3;
ROLLBACK;
BEGIN;
INSERT INTO del.kin SELECT 'o', 'n' || i, CASE WHEN i > 1 THEN 'n' || i - 1 END FROM generate_series(1, 150) i;
DELETE FROM del.kin WHERE substr(id, 2)::int % 3 > 0;
SELECT count(*), max(depth), bool_and(parent IS NOT DISTINCT FROM CASE WHEN id <> 'n3' THEN 'n' || substr(id, 2)::int - 3 END) FROM del.kin;
SELECT * FROM crm_tree.check_tree('del.kin');
COMMIT;
DELETE FROM del.kin WHERE substr(id, 2)::int % 2 = 0;
SELECT count(*), max(depth) FROM del.kin;
SELECT * FROM crm_tree.check_tree('del.kin');
-- The plans of trees that are no more do not stay for good.
DO $$
BEGIN
    FOR i IN 1..60 LOOP
        CREATE TABLE del.gone (org_id int, id text, parent text, PRIMARY KEY (org_id, id));
        EXECUTE format('ALTER TABLE del.gone RENAME TO gone_%s', i);
        PERFORM crm_tree.attach_tree(format('del.gone_%s', i)::regclass, 'id', 'parent', on_delete => 'adopt');
        EXECUTE format($q$INSERT INTO del.gone_%s VALUES (1, 'a', NULL), (1, 'b', 'a'), (1, 'c', 'b'), (1, 'd', NULL)$q$, i);
        EXECUTE format($q$UPDATE del.gone_%s SET parent = 'd' WHERE id = 'b'$q$, i);
        EXECUTE format($q$DELETE FROM del.gone_%s WHERE id = 'b'$q$, i);
        EXECUTE format('DROP TABLE del.gone_%s', i);
    END LOOP;
END
$$;
SELECT count(*) BETWEEN 1 AND 256 AS few FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource' AND ident ~ 'materialized_path';
-- Rows inserted below one that the same MERGE deletes: they have their place when it has been adopted from
CREATE TABLE del.merged (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('del.merged', 'id', 'parent', on_delete => 'adopt');
INSERT INTO del.merged VALUES (1, 1, NULL), (1, 2, 1), (1, 3, 1);
MERGE INTO del.merged m USING generate_series(1, 6) s(id) ON m.org_id = 1 AND m.id = s.id
 WHEN MATCHED AND s.id = 2 THEN UPDATE SET parent = NULL WHEN MATCHED AND s.id = 3 THEN DELETE
 WHEN NOT MATCHED THEN INSERT (org_id, id, parent) VALUES (1, s.id, s.id - 1);
SELECT id, parent, materialized_path FROM del.merged ORDER BY id;
-- A delete that was rolled back is adopted from no more
BEGIN;
SAVEPOINT s;
DELETE FROM del.merged WHERE id = 4;
ROLLBACK TO s;
UPDATE del.merged SET parent = 2 WHERE id = 4;
DELETE FROM del.merged WHERE id = 4;
SELECT id, parent, materialized_path FROM del.merged ORDER BY id;
COMMIT;
SELECT * FROM crm_tree.check_tree('del.merged');
-- Deleting all.
DELETE FROM del.plain_adopt; DELETE FROM del.by_id_rootify; DELETE FROM del.by_org_restrict; DELETE FROM del.by_id_cascade;
SELECT (SELECT count(*) FROM del.plain_adopt) + (SELECT count(*) FROM del.by_id_rootify) + (SELECT count(*) FROM del.by_org_restrict) + (SELECT count(*) FROM del.by_id_cascade) AS left;
DROP SCHEMA del CASCADE;
