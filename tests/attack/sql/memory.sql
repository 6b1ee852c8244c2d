-- Code that works on values where they lie: rows put aside by load views, columns of rollups' queries.
-- Attacker: mallory, with a schema to create things in. To gain: memory and files of the server. ALL SHOULD FAIL.
\set SHOW_CONTEXT never
\set VERBOSITY terse
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - mallory_the_app_user
-- A load view of her own, whose batch would be begun at times, and never ended
CREATE TABLE lair.taken (x text);
CREATE VIEW lair.taken_load AS SELECT * FROM lair.taken;
SET lair.begin = '1';
CREATE TRIGGER crm_tree_load_begin BEFORE INSERT ON lair.taken_load FOR EACH STATEMENT WHEN (current_setting('lair.begin') = '1') EXECUTE FUNCTION crm_tree.load();
CREATE TRIGGER crm_tree_load INSTEAD OF INSERT ON lair.taken_load FOR EACH ROW EXECUTE FUNCTION crm_tree.load();
BEGIN;
SELECT crm_tree.bind_org(:acme);
SAVEPOINT a;
INSERT INTO lair.taken_load SELECT 'a';
ROLLBACK;
CREATE TRIGGER crm_tree_load_end AFTER INSERT ON lair.taken_load FOR EACH STATEMENT EXECUTE FUNCTION crm_tree.load();
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO lair.taken_load SELECT 'a';
ROLLBACK;
CREATE OR REPLACE TRIGGER crm_tree_load_begin BEFORE INSERT ON lair.taken_load FOR EACH STATEMENT EXECUTE FUNCTION crm_tree.load();
-- Whole, it takes rows, as anybody's load view; savepoints in between leave nothing behind
BEGIN;
SELECT crm_tree.bind_org(:acme);
SAVEPOINT a;
INSERT INTO lair.taken_load SELECT repeat('x', 1000) FROM generate_series(1, 80);
RELEASE a;
SAVEPOINT b;
INSERT INTO lair.taken_load SELECT 'y' FROM generate_series(1, 20);
ROLLBACK TO b;
SELECT count(*) FROM lair.taken;
ROLLBACK;
CREATE TRIGGER crm_tree_load_begin BEFORE INSERT ON lair.taken FOR EACH STATEMENT EXECUTE FUNCTION crm_tree.load();
INSERT INTO lair.taken VALUES ('z');
-- Queries whose columns are of other types than they are taken for
BEGIN;
SELECT crm_tree.bind_org(:acme);
SAVEPOINT s;
SELECT * FROM crm_tree.rollup('app.account', $f$SELECT 'x'::text, 1::numeric) q(id, amount) GROUP BY 1) f ON true LIMIT 1) x,
 LATERAL (SELECT 4711::bigint, NULL::bigint, NULL::text, 0, 100::numeric, 1::numeric
   FROM (SELECT '/1/'::text AS materialized_path, 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid AS org_id, 'x'::text AS id) t
   LEFT JOIN (SELECT q.id::text AS id, 1 FROM (SELECT 'x'::text, 1::numeric$f$);
ROLLBACK TO s;
SELECT * FROM crm_tree._node_totals(
    nodes => $q$SELECT t.id, t.parent, t.name, t.depth, 100::numeric, 1::numeric FROM app.account t WHERE true$q$,
    links => $q$SELECT 1, 2, 50::numeric, 4711::bigint, 4711::bigint$q$,
    path => 't.materialized_path', top_path => '/1/', top => '1', day => NULL, mode => 'distinct', stale => false, only_top => false)
    AS t(id int, parent int, label text, depth int, own numeric, total numeric, nodes bigint, dup bigint, un numeric, missing bigint, day date, source text);
ROLLBACK TO s;
SELECT * FROM crm_tree._node_totals(
    nodes => $q$SELECT 4711::bigint, NULL::bigint, 4711::bigint, t.depth, 5::bigint, 7::bigint FROM app.account t WHERE true$q$,
    links => NULL, path => 't.materialized_path', top_path => NULL, top => NULL, day => NULL, mode => 'distinct', stale => false, only_top => false)
    AS t(id text, parent text, label text, depth int, own numeric, total numeric, nodes bigint, dup bigint, un numeric, missing bigint, day date, source text);
ROLLBACK;
DROP TABLE lair.taken CASCADE;
\c - :super
SELECT referee.globex();
