-- History: the edges of every moment. Times are the clock's and not shown; what is shown is their order.
CREATE SCHEMA history_test;
SET search_path = history_test, public;
CREATE TABLE unit (org int NOT NULL, id text NOT NULL, parent text, note text, PRIMARY KEY (org, id));
INSERT INTO unit VALUES (1, 'a', NULL), (1, 'b', 'a'), (1, 'c', 'b'), (2, 'a', NULL);
-- A filled table: every node gets its row.
SELECT crm_tree.attach_tree('unit', id => 'id', parent => 'parent', org => 'org', history => true);
\d unit_history
SELECT relowner = (SELECT relowner FROM pg_class WHERE oid = 'unit'::regclass) AS same_owner, relreplident
  FROM pg_class WHERE oid = 'unit_history'::regclass;
SELECT org, id, parent, valid_to IS NULL AS open, changed_by = session_user AS by_me FROM unit_history ORDER BY org, id;

-- Every row in order, moments by their rank in the org.
CREATE VIEW told AS
SELECT h.org, h.id, h.parent,
       (SELECT count(DISTINCT m) FROM unit_history x, LATERAL (VALUES (x.valid_from), (x.valid_to)) v(m)
         WHERE x.org = h.org AND m < h.valid_from) AS began,
       CASE WHEN h.valid_to IS NOT NULL THEN
       (SELECT count(DISTINCT m) FROM unit_history x, LATERAL (VALUES (x.valid_from), (x.valid_to)) v(m)
         WHERE x.org = h.org AND m < h.valid_to) END AS ended,
       h.valid_from IS NOT DISTINCT FROM h.prev_to AS joined
  FROM unit_history h;
-- Gaps that no delete explains, overlaps, and open rows that are not the table's: never any.
CREATE VIEW wrong AS
SELECT 'overlap' AS what, a.org, a.id FROM unit_history a JOIN unit_history b ON a.org = b.org AND a.id = b.id AND a.ctid <> b.ctid
   AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)
UNION ALL
SELECT 'open', coalesce(u.org, h.org), coalesce(u.id, h.id) FROM unit u
  FULL JOIN (SELECT * FROM unit_history WHERE valid_to IS NULL) h ON h.org = u.org AND h.id = u.id
 WHERE u.id IS NULL OR h.id IS NULL OR u.parent IS DISTINCT FROM h.parent;

-- A move is one row, whatever hangs below.
UPDATE unit SET parent = NULL WHERE org = 1 AND id = 'b';
SELECT * FROM told WHERE org = 1 ORDER BY id, began;
-- Insert, delete, and make again: the gap is the time it was not there.
INSERT INTO unit VALUES (1, 'e', 'd'), (1, 'd', 'a');
DELETE FROM unit WHERE org = 1 AND id = 'e';
SELECT * FROM told WHERE org = 1 AND id = 'e' ORDER BY began;
INSERT INTO unit VALUES (1, 'e', 'a');
SELECT * FROM told WHERE org = 1 AND id = 'e' ORDER BY began;

-- One instant a transaction; what it opened and closed itself leaves nothing.
BEGIN;
INSERT INTO unit VALUES (1, 'f', 'a');
UPDATE unit SET parent = 'b' WHERE org = 1 AND id IN ('f', 'd');
INSERT INTO unit VALUES (1, 'g', 'f'), (1, 'gone', 'f');
DELETE FROM unit WHERE org = 1 AND id = 'gone';
UPDATE unit SET parent = 'c' WHERE org = 1 AND id = 'd';
COMMIT;
SELECT * FROM told WHERE org = 1 AND id IN ('d', 'f', 'g', 'gone') ORDER BY id, began;
SELECT count(DISTINCT valid_from) AS instants FROM unit_history WHERE org = 1 AND id IN ('f', 'g') OR id = 'd' AND valid_to IS NULL;
-- There and back again is nothing at all.
SELECT count(*) AS rows FROM unit_history \gset before_
BEGIN;
UPDATE unit SET parent = 'a' WHERE org = 1 AND id = 'd';
DELETE FROM unit WHERE org = 1 AND id = 'g';
INSERT INTO unit VALUES (1, 'g', 'f');
UPDATE unit SET parent = 'c' WHERE org = 1 AND id = 'd';
COMMIT;
SELECT count(*) - :before_rows AS more FROM unit_history;
-- A rolled back savepoint takes its edges along, not the instant of what was before it.
BEGIN;
INSERT INTO unit VALUES (1, 'h', 'a');
SAVEPOINT s;
UPDATE unit SET parent = 'b' WHERE org = 1 AND id = 'h';
INSERT INTO unit VALUES (1, 'i', 'h');
ROLLBACK TO s;
INSERT INTO unit VALUES (1, 'j', 'h');
SAVEPOINT s;
UPDATE unit SET parent = 'b' WHERE org = 1 AND id = 'j';
RELEASE s;
UPDATE unit SET parent = 'c' WHERE org = 1 AND id = 'j';
COMMIT;
SELECT id, parent, joined, ended FROM told WHERE org = 1 AND id IN ('h', 'i', 'j') ORDER BY id, began;
SELECT count(DISTINCT valid_from) AS instants FROM unit_history WHERE org = 1 AND id IN ('h', 'j');
-- MERGE and ON CONFLICT.
INSERT INTO unit VALUES (1, 'h', 'c'), (1, 'k', 'h') ON CONFLICT (org, id) DO UPDATE SET parent = excluded.parent;
INSERT INTO unit VALUES (1, 'h', 'a') ON CONFLICT DO NOTHING;
MERGE INTO unit u USING (VALUES ('k', 'a'), ('l', 'k')) v(i, p) ON u.org = 1 AND u.id = v.i
 WHEN MATCHED THEN UPDATE SET parent = v.p WHEN NOT MATCHED THEN INSERT (org, id, parent) VALUES (1, v.i, v.p);
SELECT id, parent, ended IS NULL AS open FROM told WHERE org = 1 AND id IN ('h', 'k', 'l') ORDER BY id, began;
-- A statement that is refused leaves no trace; one that changes no edge neither.
SELECT count(*) AS rows FROM unit_history \gset before_
UPDATE unit SET parent = 'l' WHERE org = 1 AND id = 'a';
UPDATE unit SET note = 'x', parent = parent;
SELECT count(*) - :before_rows AS more FROM unit_history;
SELECT * FROM wrong;

-- As of.
SELECT clock_timestamp() AS t1 \gset
UPDATE unit SET parent = 'g' WHERE org = 1 AND id = 'c';
DELETE FROM unit WHERE org = 1 AND id = 'l';
SELECT clock_timestamp() AS t2 \gset
SELECT * FROM crm_tree.subtree_as_of('unit', 'b', :'t1');
SELECT * FROM crm_tree.subtree_as_of('unit', 'b', :'t2');
SELECT * FROM crm_tree.ancestors_as_of('unit', 'd', :'t1');
SELECT * FROM crm_tree.ancestors_as_of('unit', 'd', :'t2');
SELECT * FROM crm_tree.subtree_as_of('unit', 'l', :'t1') UNION ALL SELECT * FROM crm_tree.subtree_as_of('unit', 'l', :'t2');
SELECT * FROM crm_tree.subtree_as_of('unit', 'a', '1999-12-31');
SELECT count(*) AS of_both_orgs FROM crm_tree.subtree_as_of('unit', 'a', 'infinity') WHERE depth = 0;
SELECT (SELECT array_agg(s ORDER BY path) FROM crm_tree.subtree('unit', 'b') s) = (SELECT array_agg(s ORDER BY path) FROM crm_tree.subtree_as_of('unit', 'b', 'infinity') s) AS now_is_now;

-- Nobody else writes there.
UPDATE unit_history SET parent = NULL;
DELETE FROM unit_history;
INSERT INTO unit_history (org, id, valid_from, changed_by) VALUES (1, 'x', now(), 'me');
TRUNCATE unit_history;
TRUNCATE unit;
-- And with the guard off, the constraints stand.
\set VERBOSITY terse
ALTER TABLE unit_history DISABLE TRIGGER crm_tree_history_guard;
INSERT INTO unit_history (org, id, valid_from, changed_by) VALUES (1, 'a', now(), 'me');
INSERT INTO unit_history (org, id, valid_from, valid_to, changed_by) VALUES (1, 'a', now(), now() + interval '1 day', 'me');
INSERT INTO unit_history (org, id, valid_from, valid_to, prev_to, changed_by) VALUES (1, 'a', now(), now() + interval '1 day', now() - interval '1 day', 'me');
UPDATE unit_history SET valid_to = valid_from WHERE id = 'a' AND org = 1;
UPDATE unit_history SET valid_from = valid_from - interval '1 day' WHERE prev_to IS NOT NULL AND id = 'c';
DELETE FROM unit_history WHERE org = 1 AND id = 'c' AND prev_to IS NULL;
ALTER TABLE unit_history ENABLE TRIGGER crm_tree_history_guard;
\set VERBOSITY default

-- A clock that was set back: births and ends in the future. Whoever moves is later than both, whoever
-- inserts later than the ends and than his parent's birth.
CREATE TABLE back (org int NOT NULL, id int NOT NULL, parent int);
SELECT crm_tree.attach_tree('back', 'id', 'parent', 'org', history => true);
INSERT INTO back VALUES (1, 1, NULL), (1, 2, 1), (1, 3, 1), (1, 4, 3);
DELETE FROM back WHERE id = 4;
ALTER TABLE back_history DISABLE TRIGGER crm_tree_history_guard;
UPDATE back_history SET valid_from = now() + interval '1 day' WHERE id = 2;
ALTER TABLE back_history ENABLE TRIGGER crm_tree_history_guard;
BEGIN;
INSERT INTO back VALUES (1, 5, 1);
SELECT valid_from < now() + interval '1 hour' AS by_the_clock FROM back_history WHERE id = 5;
INSERT INTO back VALUES (1, 6, 2);
SELECT c.id, c.valid_from > p.valid_from AS after_its_parent, c.valid_from = s.valid_from AS with_its_sister
  FROM back_history c, back_history p, back_history s WHERE c.id = 6 AND p.id = 2 AND s.id = 5;
ROLLBACK;
UPDATE back SET parent = 1 WHERE id = 3;
UPDATE back SET parent = NULL WHERE id = 3;
SELECT m.valid_from > n.valid_from AS later_than_all FROM back_history m, back_history n WHERE m.id = 3 AND m.valid_to IS NULL AND n.id = 2;
INSERT INTO back VALUES (1, 7, 1);
SELECT i.valid_from > m.valid_from AS later_than_the_move FROM back_history i, back_history m WHERE i.id = 7 AND m.id = 3 AND m.valid_to IS NULL;

-- Detached and attached again: the history goes on, and dates the changes between to the moment it does.
SELECT crm_tree.detach_tree('unit');
UPDATE unit SET parent = 'a' WHERE org = 1 AND id = 'k';
UPDATE unit SET parent = 'k' WHERE org = 1 AND id = 'h';
SELECT crm_tree.attach_tree('unit', 'id', 'parent', 'org', history => true, on_delete => 'adopt');
SELECT * FROM wrong;
SELECT id, parent, ended IS NULL AS open, joined FROM told WHERE org = 1 AND id IN ('h', 'k') ORDER BY id, began;
-- The four ways to delete write their edges.
DELETE FROM unit WHERE org = 1 AND id = 'k';
SELECT id, parent FROM unit_history WHERE org = 1 AND id = 'h' AND valid_to IS NULL;
SELECT crm_tree.attach_tree('unit', 'id', 'parent', 'org', history => true, on_delete => 'rootify');
DELETE FROM unit WHERE org = 1 AND id = 'b';
SELECT id, parent FROM unit_history WHERE org = 1 AND id = 'f' AND valid_to IS NULL;
SELECT crm_tree.attach_tree('unit', 'id', 'parent', 'org', history => true, on_delete => 'cascade');
DELETE FROM unit WHERE org = 1 AND id = 'f';
SELECT id, parent FROM unit_history WHERE org = 1 AND id IN ('f', 'g', 'c') AND valid_to IS NULL;
SELECT * FROM wrong;
-- A tree without.
SELECT crm_tree.attach_tree('unit', 'id', 'parent', 'org');
INSERT INTO unit VALUES (1, 'z', 'a');
SELECT count(*) FROM unit_history WHERE id = 'z';
SELECT * FROM crm_tree.subtree_as_of('unit', 'a', now());
CREATE TABLE role_history (x int);
CREATE TABLE role (org int, id int, parent int);
SELECT crm_tree.attach_tree('role', 'id', 'parent', 'org', history => true);

-- Behind the wall, whichever came first; the owner's maintenance sees what the writer may not.
CREATE ROLE history_owner NOLOGIN;
CREATE ROLE history_app LOGIN;
GRANT USAGE ON SCHEMA history_test TO history_app, history_owner;
GRANT CREATE ON SCHEMA history_test TO history_owner;
CREATE TABLE first_wall (org_id int NOT NULL, id int NOT NULL, parent int, region text NOT NULL DEFAULT 'x') PARTITION BY LIST (org_id);
CREATE TABLE first_wall_1 PARTITION OF first_wall FOR VALUES IN (1);
CREATE TABLE first_wall_2 PARTITION OF first_wall FOR VALUES IN (2);
ALTER TABLE first_wall OWNER TO history_owner;
ALTER TABLE first_wall_1 OWNER TO history_owner;
ALTER TABLE first_wall_2 OWNER TO history_owner;
SELECT crm_tree.protect('first_wall');
SELECT crm_tree.attach_tree('first_wall', 'id', 'parent', history => true);
CREATE TABLE first_tree (org_id int NOT NULL, id int NOT NULL, parent int);
ALTER TABLE first_tree OWNER TO history_owner;
SELECT crm_tree.attach_tree('first_tree', 'id', 'parent', history => true);
SELECT crm_tree.protect('first_tree');
SELECT relation, org_column FROM crm_tree.wall WHERE relation::text LIKE 'first%' ORDER BY 1;
SELECT relname, relowner::regrole, relforcerowsecurity FROM pg_class WHERE relname LIKE 'first%history' ORDER BY 1;
GRANT SELECT, INSERT, UPDATE, DELETE ON first_wall, first_tree TO history_app;
GRANT SELECT ON first_wall_history, first_tree_history TO history_app;
SELECT crm_tree.grant_org('history_app', 1);
SELECT crm_tree.grant_org('history_app', 2);
SET ROLE history_app;
BEGIN;
SELECT crm_tree.bind_org(1, 'ann');
INSERT INTO first_wall (id, parent) VALUES (1, NULL), (2, 1), (3, 2);
INSERT INTO first_tree (id, parent) VALUES (1, NULL), (2, 1);
UPDATE first_wall SET parent = 1 WHERE id = 3;
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(2, 'bob');
INSERT INTO first_wall (id, parent) VALUES (1, NULL);
SELECT org, id, parent, changed_by FROM first_wall_history;
SELECT * FROM crm_tree.subtree_as_of('first_wall', '1', 'infinity');
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(1, 'ann');
SELECT org, id, parent, changed_by FROM first_wall_history ORDER BY id, valid_from;
SELECT org, id, parent, changed_by FROM first_tree_history ORDER BY id, valid_from;
SELECT * FROM crm_tree.subtree_as_of('first_wall', '1', 'infinity');
UPDATE first_wall_history SET parent = NULL;
COMMIT;
SELECT count(*) FROM first_wall_history;
RESET ROLE;
TRUNCATE first_wall_1 CASCADE;
SELECT * FROM crm_tree.check_tree('first_wall');

-- Drift: what repair found is written down, and only what differs is rewritten.
SET session_replication_role = replica;
UPDATE first_wall SET materialized_path = '/wrong/' WHERE org_id = 1 AND id = 2;
UPDATE first_wall SET parent = 2 WHERE org_id = 1 AND id = 3;
DELETE FROM first_wall WHERE org_id = 2;
RESET session_replication_role;
ALTER TABLE first_wall_1 DISABLE TRIGGER "A_crm_tree_record_insert";
ALTER TABLE first_wall_history DISABLE TRIGGER crm_tree_history_guard;
DROP TRIGGER crm_tree_history_truncate ON first_wall_2;
SELECT * FROM crm_tree.check_tree('first_wall') ORDER BY 1, 2, 3, 4;
SELECT * FROM crm_tree.repair_tree('first_wall', '1');
SELECT * FROM crm_tree.repair_tree('first_wall');
SELECT relation, org, kind, count, example FROM crm_tree.tree_event WHERE relation = 'first_wall'::regclass ORDER BY event_id;
SELECT crm_tree.attach_tree('first_wall', 'id', 'parent', history => true);
SELECT * FROM crm_tree.check_tree('first_wall');
SELECT * FROM crm_tree.repair_tree('first_wall');
SELECT count(*) FROM crm_tree.tree_event WHERE relation = 'first_wall'::regclass;
SET ROLE history_app;
SELECT count(*) AS of_others FROM crm_tree.tree_event;
RESET ROLE;

-- More nodes in one statement than are noted one by one.
CREATE TABLE big (org int NOT NULL, id int NOT NULL, parent int);
SELECT crm_tree.attach_tree('big', 'id', 'parent', 'org', history => true);
INSERT INTO big SELECT 1, g, nullif(g / 10, 0) FROM generate_series(1, 25000) g;
SELECT count(*), count(DISTINCT valid_from) FROM big_history;
UPDATE big SET parent = 2 WHERE id BETWEEN 20000 AND 20999;
SELECT count(*) FILTER (WHERE valid_to IS NULL), count(*), count(DISTINCT valid_from) FROM big_history;
SELECT count(*) FROM big b JOIN big_history h ON h.org = b.org AND h.id = b.id AND h.valid_to IS NULL AND h.parent IS NOT DISTINCT FROM b.parent;

-- The walk down goes by the index, behind the wall too: the parent is an index condition, not a filter.
ALTER TABLE big OWNER TO history_owner;
ALTER TABLE big_history OWNER TO history_owner;
SELECT crm_tree.protect('big', 'org');
GRANT SELECT ON big, big_history TO history_app;
ANALYZE big_history;
SET ROLE history_app;
BEGIN;
SELECT crm_tree.bind_org(1);
SET LOCAL enable_bitmapscan = off;
EXPLAIN (COSTS OFF)
WITH RECURSIVE down AS (
    SELECT 100 AS id
    UNION ALL
    SELECT h.id FROM down d JOIN big_history h
        ON h.org = 1 AND h.valid_from <= '2100-01-01 00:00Z' AND (h.valid_to > '2100-01-01 00:00Z' OR h.valid_to IS NULL) AND h.parent = d.id)
SELECT count(*) FROM down;
SELECT count(*) FROM crm_tree.subtree_as_of('big', '100', '2100-01-01 00:00Z');
COMMIT;
RESET ROLE;
-- A trigger that writes to the tree while a row is on its way out.
CREATE TABLE leaves (org_id int, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('leaves', 'id', 'parent', history => true);
INSERT INTO leaves VALUES (1, 'a', NULL), (1, 'b', 'a');
CREATE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO leaves VALUES (1, 'y' || OLD.id, NULL); RETURN OLD; END $$;
CREATE TRIGGER u BEFORE DELETE ON leaves FOR EACH ROW EXECUTE FUNCTION writes();
DELETE FROM leaves WHERE id = 'b';
SELECT * FROM crm_tree.check_tree('leaves');
-- What load_tree loads is born then.
CREATE TABLE loaded (org int, id int, parent int, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('loaded', 'id', 'parent', 'org', history => true);
CREATE TABLE staged AS SELECT 1 AS org, i AS id, nullif(i - 1, 0) AS parent FROM generate_series(1, 3) i;
SELECT crm_tree.load_tree('loaded', 'staged');
SELECT org, id, parent, valid_to IS NULL AS open FROM loaded_history ORDER BY id;
SELECT * FROM crm_tree.subtree_as_of('loaded', '1', clock_timestamp());
SELECT * FROM crm_tree.check_tree('loaded');
-- More than are remembered one by one
UPDATE staged SET org = 2;
INSERT INTO staged SELECT 2, i, i / 4 FROM generate_series(4, 30000) i;
SELECT crm_tree.load_tree('loaded', 'staged');
SELECT count(*), count(*) FILTER (WHERE valid_to IS NULL) AS open FROM loaded_history WHERE org = 2;
SELECT * FROM crm_tree.check_tree('loaded');
-- An id in another spelling
SELECT id, path FROM crm_tree.ancestors_as_of('loaded', '0003', clock_timestamp()) WHERE id IN ('1', '2', '3');
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT id, total FROM crm_tree.rollup('loaded', 'SELECT id, 1 FROM loaded', top => '002');
COMMIT;
-- A tree that is renamed and attached again goes on with its history; one of its old name begins another.
CREATE TABLE swap (org int, id int, parent int, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('swap', 'id', 'parent', 'org', history => true);
INSERT INTO swap VALUES (1, 1, NULL), (1, 2, 1);
SELECT clock_timestamp() AS before_the_swap \gset
UPDATE swap SET parent = NULL WHERE id = 2;
ALTER TABLE swap RENAME TO swap_old;
SELECT crm_tree.attach_tree('swap_old', 'id', 'parent', 'org', history => true, max_depth => 30);
SELECT id, depth FROM crm_tree.subtree_as_of('swap_old', '1', :'before_the_swap');
CREATE TABLE swap (org int, id int, parent int, PRIMARY KEY (org, id));
-- SHOULD FAIL: the history of another
SELECT crm_tree.attach_tree('swap', 'id', 'parent', 'org', history => true);
ALTER TABLE swap_history RENAME TO swap_old_history;
SELECT crm_tree.attach_tree('swap', 'id', 'parent', 'org', history => true);
INSERT INTO swap VALUES (1, 2, NULL), (1, 1, 2);
INSERT INTO swap_old VALUES (1, 3, 2);
SELECT crm_tree.attach_tree('swap_old', 'id', 'parent', 'org', history => true);
SELECT 'swap' AS of, id, parent, valid_to IS NULL AS open FROM swap_history UNION ALL SELECT 'swap_old', id, parent, valid_to IS NULL FROM swap_old_history ORDER BY 1, 2, 4;
SELECT * FROM crm_tree.check_tree('swap') UNION ALL SELECT * FROM crm_tree.check_tree('swap_old');
-- A schema that is renamed, with another of its old name: the session that knew it does not mistake them.
CREATE SCHEMA was_here;
CREATE TABLE was_here.node (org text, id integer, up integer);
SELECT crm_tree.attach_tree('was_here.node', 'id', 'up', 'org', history => true);
CREATE SCHEMA comes_here;
CREATE TABLE comes_here.node (LIKE was_here.node);
CREATE TABLE comes_here.node_history (LIKE was_here.node_history);
INSERT INTO was_here.node VALUES ('a', 1, NULL), ('a', 2, 1), ('a', 3, 2);
UPDATE was_here.node SET up = 1 WHERE id = 3;
ALTER SCHEMA was_here RENAME TO is_there;
ALTER SCHEMA comes_here RENAME TO was_here;
INSERT INTO is_there.node VALUES ('a', 5, 3);
UPDATE is_there.node SET up = 5 WHERE id = 2;
UPDATE is_there.node SET up = NULL WHERE id = 3;
INSERT INTO is_there.node VALUES ('a', 7, 6), ('a', 6, 5);
DELETE FROM is_there.node WHERE id = 7;
SELECT id, materialized_path FROM is_there.node ORDER BY id;
SELECT id, parent, valid_to IS NULL AS open FROM is_there.node_history ORDER BY id, valid_from;
SELECT (SELECT count(*) FROM was_here.node) AS nodes, (SELECT count(*) FROM was_here.node_history) AS edges;
SELECT * FROM crm_tree.check_tree('is_there.node');
SET client_min_messages = warning;
DROP SCHEMA was_here, is_there CASCADE;
RESET client_min_messages;
DROP SCHEMA history_test CASCADE;
DROP ROLE history_app;
DROP ROLE history_owner;
