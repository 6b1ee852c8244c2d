-- Trees: the paths follow the links, whatever the statement.
SET client_min_messages = warning;
DROP ROLE IF EXISTS tree_owner, tree_app;
RESET client_min_messages;
CREATE ROLE tree_owner LOGIN;
CREATE ROLE tree_app LOGIN;
CREATE SCHEMA tree AUTHORIZATION tree_owner;
GRANT USAGE ON SCHEMA tree TO tree_app;

SELECT crm_tree.path_ids('/a/b/c/'), crm_tree.path_depth('/a/b/c/'), crm_tree.path_parent('/a/b/c/'),
       crm_tree.path_root('/a/b/c/'), crm_tree.path_lca('/a/b/c/', '/a/b/d/'), crm_tree.subtree_end('/a/b/');
SELECT crm_tree.path_is_within('/a/b/', '/a/'), crm_tree.path_is_within('/ab/', '/a/'),
       crm_tree.path_parent('/a/'), crm_tree.path_lca('/a/', '/b/'), crm_tree.path_depth('rubbish');

-- A table of the user's own: integer tenants, bigint keys, his own names.
SET SESSION AUTHORIZATION tree_owner;
CREATE TABLE tree.company (tenant int NOT NULL, company_id bigint NOT NULL, belongs_to bigint, name text, updated_at timestamptz DEFAULT 'epoch');
INSERT INTO tree.company VALUES (1, 3, 2, 'c'), (1, 2, 1, 'b'), (1, 1, NULL, 'a'), (2, 1, NULL, 'x'), (2, 5, 1, 'y');
SELECT crm_tree.attach_tree('tree.company', id => 'company_id', parent => 'belongs_to', org => 'tenant', max_depth => 4);
CREATE TRIGGER touch BEFORE UPDATE ON tree.company FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();
SELECT tenant, company_id, belongs_to, materialized_path, depth FROM tree.company ORDER BY tenant, materialized_path;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'tree.company'::regclass AND contype IN ('u', 'f') ORDER BY 1;
SELECT crm_tree.protect('tree.company', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON tree.company TO tree_app;
RESET SESSION AUTHORIZATION;
SELECT crm_tree.grant_org('tree_app', 1);
SET SESSION AUTHORIZATION tree_app;
BEGIN;
SELECT crm_tree.bind_org(1);
-- Children before parents in one statement; a value of the user's own is overwritten.
INSERT INTO tree.company (company_id, belongs_to, name, materialized_path, depth) VALUES (5, 4, 'e', '/forged/', 9), (4, 1, 'd', '/', 0);
UPDATE tree.company SET materialized_path = '/forged/', depth = 7, name = 'D' WHERE company_id = 4;
SELECT company_id, belongs_to, materialized_path, depth FROM tree.company ORDER BY materialized_path;
-- A move takes the subtree along, and touches no updated_at but the mover's.
UPDATE tree.company SET belongs_to = 4 WHERE company_id = 2 RETURNING materialized_path, depth;
SELECT company_id, belongs_to, materialized_path, depth, updated_at > 'epoch' AS touched FROM tree.company ORDER BY materialized_path;
-- Swapping a parent and its child in one statement is legal.
UPDATE tree.company SET belongs_to = CASE company_id WHEN 4 THEN 2 ELSE 1 END WHERE company_id IN (2, 4);
SELECT company_id, belongs_to, materialized_path, depth FROM tree.company ORDER BY materialized_path;
-- MERGE and ON CONFLICT.
MERGE INTO tree.company c USING (VALUES (6::bigint, 5::bigint), (5, 1)) v(i, p) ON c.company_id = v.i
 WHEN MATCHED THEN UPDATE SET belongs_to = v.p WHEN NOT MATCHED THEN INSERT (company_id, belongs_to) VALUES (v.i, v.p);
INSERT INTO tree.company (company_id, belongs_to) VALUES (7, 6), (6, 3) ON CONFLICT (tenant, company_id) DO UPDATE SET belongs_to = excluded.belongs_to;
SELECT company_id, belongs_to, materialized_path, depth FROM tree.company ORDER BY materialized_path;
SELECT * FROM crm_tree.subtree('tree.company', '2');
SELECT * FROM crm_tree.ancestors('tree.company', '7');
SELECT * FROM crm_tree.subtree('tree.company', '404');
SELECT * FROM crm_tree.check_tree('tree.company');
COMMIT;

-- Each refusal: SQLSTATE, message, detail, hint, table and constraint.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE c text; m text; d text; h text; n text; t text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS c = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT,
        n = CONSTRAINT_NAME, t = TABLE_NAME;
    RETURN concat_ws(E'\n', c || ' ' || n || ' on ' || t, m, nullif(d, ''), h);
END $$;
\pset format unaligned
\pset tuples_only on
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT pg_temp.refusal('UPDATE tree.company SET belongs_to = 3 WHERE company_id = 2');
SELECT pg_temp.refusal('UPDATE tree.company SET belongs_to = company_id WHERE company_id = 2');
SELECT pg_temp.refusal('INSERT INTO tree.company (company_id, belongs_to) VALUES (20, 21), (21, 20)');
SELECT pg_temp.refusal('INSERT INTO tree.company (company_id, belongs_to) VALUES (20, 404)');
SELECT pg_temp.refusal('UPDATE tree.company SET belongs_to = 404 WHERE company_id = 2');
SELECT pg_temp.refusal('INSERT INTO tree.company (company_id, belongs_to) VALUES (20, 7)');
SELECT pg_temp.refusal('INSERT INTO tree.company (company_id, belongs_to) VALUES (20, 21), (21, 7)');
SELECT pg_temp.refusal('UPDATE tree.company SET belongs_to = 5 WHERE company_id = 2');
SELECT pg_temp.refusal('UPDATE tree.company SET company_id = 99 WHERE company_id = 7');
SELECT pg_temp.refusal('UPDATE tree.company SET tenant = 2 WHERE company_id = 7');
SELECT pg_temp.refusal('DELETE FROM tree.company WHERE company_id = 2');
-- Nothing was changed by any of them.
SELECT count(*), sum(depth), string_agg(materialized_path, ' ' ORDER BY materialized_path) FROM tree.company;
ROLLBACK;
RESET SESSION AUTHORIZATION;
\pset format aligned
\pset tuples_only off

CREATE TABLE tree.word (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('tree.word', 'id', 'parent');
INSERT INTO tree.word VALUES ('o', 'a/b', NULL);
INSERT INTO tree.word VALUES ('o', '', NULL);
INSERT INTO tree.word VALUES ('o', 'é', NULL), ('o', 'ß', 'é'), ('o', repeat('x', 2600), 'ß');
INSERT INTO tree.word VALUES ('o', 'é', NULL), ('o', 'ß', 'é'), ('o', 'z', 'ß');
UPDATE tree.word SET parent = NULL WHERE id = 'ß';
SELECT * FROM tree.word ORDER BY materialized_path;

-- What attach_tree refuses, leaving the table as it was.
SELECT crm_tree.attach_tree('tree.word', 'id', 'parent', on_delete => 'perish');
SELECT crm_tree.attach_tree('tree.word', 'id', 'nowhere');
SELECT crm_tree.attach_tree('tree.word', 'id', 'depth');
SELECT crm_tree.attach_tree('tree.word', 'id', 'parent', path => 'id');
SELECT crm_tree.attach_tree('tree.word', 'id', 'parent', max_depth => 0);
SELECT crm_tree.subtree('pg_class', '1');
CREATE TABLE tree.knot (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
INSERT INTO tree.knot VALUES (1, 1, 2), (1, 2, 1), (1, 3, NULL);
SELECT crm_tree.attach_tree('tree.knot', 'id', 'parent');
SELECT * FROM tree.knot ORDER BY id;
CREATE TABLE tree.slash (org_id int, id text, parent text, PRIMARY KEY (org_id, id));
INSERT INTO tree.slash VALUES (1, 'a/b', NULL);
SELECT crm_tree.attach_tree('tree.slash', 'id', 'parent');

-- What is computed is not there yet when a row's place is found.
CREATE TABLE tree.computed (org_id int, id int, parent int, org2 int GENERATED ALWAYS AS (org_id) STORED, id2 int GENERATED ALWAYS AS (id) STORED,
    parent2 int GENERATED ALWAYS AS (parent) STORED, UNIQUE (org_id, id), UNIQUE (org_id, id2), UNIQUE (org2, id));
SELECT crm_tree.attach_tree('tree.computed', 'id2', 'parent');
SELECT crm_tree.attach_tree('tree.computed', 'id', 'parent2');
SELECT crm_tree.attach_tree('tree.computed', 'id', 'parent', 'org2');
SELECT crm_tree.protect('tree.computed', 'org2');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'tree.computed'::regclass;

-- Names that change hands: the key and the triggers still go by the old column.
CREATE TABLE tree.renamed (org_id int, id int, parent int, planned int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('tree.renamed', 'id', 'parent');
INSERT INTO tree.renamed VALUES (1, 1, NULL, NULL), (1, 2, 1, 1), (1, 3, 2, 2), (1, 4, 3, 3);
BEGIN;
ALTER TABLE tree.renamed RENAME parent TO left_behind;
ALTER TABLE tree.renamed RENAME planned TO parent;
UPDATE tree.renamed SET parent = 4 WHERE id = 2;
ROLLBACK;
BEGIN;
ALTER TABLE tree.renamed DROP COLUMN parent CASCADE;
ALTER TABLE tree.renamed ADD COLUMN parent int;
INSERT INTO tree.renamed VALUES (1, 5, NULL, NULL);
ROLLBACK;
BEGIN;
ALTER TABLE tree.renamed RENAME org_id TO x;
ALTER TABLE tree.renamed RENAME id TO org_id;
ALTER TABLE tree.renamed RENAME x TO id;
UPDATE tree.renamed SET parent = 2 WHERE id = 1 AND org_id = 3;
ROLLBACK;
ALTER TABLE tree.renamed RENAME parent TO left_behind;
ALTER TABLE tree.renamed RENAME planned TO parent;
SELECT crm_tree.attach_tree('tree.renamed', 'id', 'parent');
UPDATE tree.renamed SET parent = 4 WHERE id = 2;
UPDATE tree.renamed SET parent = NULL WHERE id = 2;
SELECT id, parent, materialized_path FROM tree.renamed ORDER BY id;

-- Foreign keys that look like the tree's: one that would null the org, one that lets no node be a root, one to another column.
CREATE TABLE tree.unfit_key (org_id int, id int, parent int, other int, PRIMARY KEY (org_id, id), UNIQUE (org_id, other),
    CONSTRAINT nulls FOREIGN KEY (org_id, parent) REFERENCES tree.unfit_key (org_id, id) ON DELETE SET NULL);
SELECT crm_tree.attach_tree('tree.unfit_key', 'id', 'parent', on_delete => 'rootify');
INSERT INTO tree.unfit_key VALUES (1, 1, NULL), (1, 2, 1);
DELETE FROM tree.unfit_key WHERE id = 1;
SELECT crm_tree.detach_tree('tree.unfit_key');
ALTER TABLE tree.unfit_key DROP CONSTRAINT unfit_key_org_id_parent_fkey,
    ADD CONSTRAINT whole FOREIGN KEY (org_id, parent) REFERENCES tree.unfit_key (org_id, id) MATCH FULL NOT VALID;
SELECT crm_tree.attach_tree('tree.unfit_key', 'id', 'parent');
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'tree.unfit_key'::regclass AND contype = 'f';
SELECT crm_tree.detach_tree('tree.unfit_key');
ALTER TABLE tree.unfit_key DROP CONSTRAINT unfit_key_org_id_parent_fkey,
    ADD CONSTRAINT elsewhere FOREIGN KEY (org_id, parent) REFERENCES tree.unfit_key (org_id, other);
SELECT crm_tree.attach_tree('tree.unfit_key', 'id', 'parent');
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'tree.unfit_key'::regclass AND contype = 'f' ORDER BY 1;
-- ... and two of the same edge
ALTER TABLE tree.unfit_key DROP CONSTRAINT elsewhere, ADD CONSTRAINT turned FOREIGN KEY (parent, org_id) REFERENCES tree.unfit_key (id, org_id) ON DELETE CASCADE;
SELECT * FROM crm_tree.check_tree('tree.unfit_key');
SELECT crm_tree.attach_tree('tree.unfit_key', 'id', 'parent');
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'tree.unfit_key'::regclass AND contype = 'f' ORDER BY 1;
SELECT * FROM crm_tree.check_tree('tree.unfit_key');
-- Too long for a path, in one statement with more than is remembered row by row, and children first
CREATE TABLE tree.long (org_id int, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('tree.long', 'id', 'parent', max_depth => 100);
WITH x AS (SELECT repeat('a', 300) || n AS i, CASE WHEN n > 1 THEN repeat('a', 300) || (n - 1) END AS p, 20 - n AS r FROM generate_series(20, 1, -1) n
           UNION ALL SELECT 'c' || n, 'zz', 0 FROM generate_series(1200, 1, -1) n
           UNION ALL SELECT 'zz', NULL, 9999)
INSERT INTO tree.long SELECT 1, i, p FROM x ORDER BY r;
SELECT count(*) FROM tree.long;

-- Deletes: each way.
CREATE TABLE tree.adopting (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
CREATE TABLE tree.rootifying (LIKE tree.adopting INCLUDING ALL);
CREATE TABLE tree.cascading (LIKE tree.adopting INCLUDING ALL);
SELECT crm_tree.attach_tree('tree.adopting', 'id', 'parent', on_delete => 'adopt');
SELECT crm_tree.attach_tree('tree.rootifying', 'id', 'parent', on_delete => 'rootify');
SELECT crm_tree.attach_tree('tree.cascading', 'id', 'parent', on_delete => 'cascade');
INSERT INTO tree.adopting SELECT 1, g, nullif(g / 2, 0) FROM generate_series(1, 15) g;
INSERT INTO tree.rootifying SELECT 1, g, nullif(g / 2, 0) FROM generate_series(1, 15) g;
INSERT INTO tree.cascading SELECT 1, g, nullif(g / 2, 0) FROM generate_series(1, 15) g;
DELETE FROM tree.adopting WHERE id IN (2, 5, 3);
DELETE FROM tree.adopting WHERE id = 1;
SELECT id, parent, materialized_path, depth FROM tree.adopting ORDER BY materialized_path;
DELETE FROM tree.rootifying WHERE id IN (2, 5);
SELECT id, parent, materialized_path, depth FROM tree.rootifying ORDER BY materialized_path;
DELETE FROM tree.cascading WHERE id = 2;
SELECT id, parent, materialized_path, depth FROM tree.cascading ORDER BY materialized_path;
SELECT * FROM crm_tree.check_tree('tree.adopting') UNION ALL SELECT * FROM crm_tree.check_tree('tree.rootifying') UNION ALL SELECT * FROM crm_tree.check_tree('tree.cascading');

-- Check and repair: each problem found, only what differs rewritten, cycles and orphans left and counted.
CREATE TABLE tree.broken (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('tree.broken', 'id', 'parent', max_depth => 3);
INSERT INTO tree.broken SELECT o, g, nullif(g / 2, 0) FROM generate_series(1, 7) g, generate_series(1, 2) o;
SET session_replication_role = replica;
UPDATE tree.broken SET materialized_path = '/7/' WHERE id = 3 AND org_id = 1;
UPDATE tree.broken SET depth = 2 WHERE id = 2 AND org_id = 2;
UPDATE tree.broken SET parent = 4 WHERE id = 2 AND org_id = 1;
INSERT INTO tree.broken VALUES (2, 50, 404), (2, 60, 1), (2, 61, 60), (2, 62, 61), (2, 63, 62);
RESET session_replication_role;
DROP TRIGGER crm_tree_lock_insert ON tree.broken;
ALTER TABLE tree.broken DISABLE TRIGGER "A_crm_tree_settle_update";
SELECT * FROM crm_tree.check_tree('tree.broken') ORDER BY org, problem, id, detail;
SELECT xmin AS before FROM tree.broken WHERE org_id = 2 AND id = 7 \gset
SELECT * FROM crm_tree.repair_tree('tree.broken');
SELECT xmin::text = :'before' AS left_alone FROM tree.broken WHERE org_id = 2 AND id = 7;
SELECT * FROM crm_tree.check_tree('tree.broken') ORDER BY org, problem, id, detail;
-- What hangs deeper than it may is placed where it hangs, and named for that.
CREATE TABLE tree.deep (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('tree.deep', 'id', 'parent', max_depth => 2);
INSERT INTO tree.deep VALUES (1, 1, NULL), (1, 2, 1), (1, 3, 2), (1, 10, NULL);
SET session_replication_role = replica;
UPDATE tree.deep SET parent = 10 WHERE id = 1;
RESET session_replication_role;
SELECT * FROM crm_tree.repair_tree('tree.deep');
SELECT id, materialized_path, depth FROM tree.deep ORDER BY id;
SELECT * FROM crm_tree.check_tree('tree.deep');
UPDATE tree.deep SET parent = NULL WHERE id = 1;
SELECT * FROM crm_tree.check_tree('tree.deep');
-- What is no path is as good as none: the node moves, and those below it go along.
INSERT INTO tree.deep VALUES (2, 1, NULL), (2, 2, 1), (2, 3, 2);
SET session_replication_role = replica;
UPDATE tree.deep SET parent = 2, materialized_path = '//' WHERE org_id = 2 AND id = 2;
RESET session_replication_role;
SELECT * FROM crm_tree.repair_tree('tree.deep', '2');
UPDATE tree.deep SET parent = 1 WHERE org_id = 2 AND id = 2;
SELECT id, parent, materialized_path FROM tree.deep WHERE org_id = 2 ORDER BY id;
SELECT * FROM crm_tree.repair_tree('tree.deep', '2');
SELECT * FROM crm_tree.check_tree('tree.deep');
-- Ids that no path can hold, from a time without triggers.
INSERT INTO tree.slash VALUES (2, 'a', NULL), (2, 'b', 'a');
DELETE FROM tree.slash WHERE org_id = 1;
SELECT crm_tree.attach_tree('tree.slash', 'id', 'parent');
SET session_replication_role = replica;
INSERT INTO tree.slash VALUES (2, 'a/c', NULL, '/a/c/', 0), (2, '', 'a', NULL, NULL), (2, 'd', 'b', NULL, NULL);
RESET session_replication_role;
SELECT * FROM crm_tree.check_tree('tree.slash') ORDER BY id, problem;
SELECT * FROM crm_tree.repair_tree('tree.slash');
SELECT * FROM crm_tree.check_tree('tree.slash') ORDER BY id, problem;
INSERT INTO tree.slash VALUES (2, 'q2', 'q1'), (2, 'q1', 'b');
-- Below one of them there is no place.
INSERT INTO tree.slash VALUES (2, 'k', 'a/c');
UPDATE tree.slash SET parent = 'a/c' WHERE id = 'q1';
UPDATE tree.slash SET parent = 'q1' WHERE id = 'a/c';
-- Nor do paths from a time without triggers let a cycle through, nor does a deferred statement hang anything there.
SET session_replication_role = replica;
INSERT INTO tree.slash VALUES (3, 'x', NULL, '/x/', 0), (3, 'a/b', NULL, '/a/b/', 0), (3, 'c', 'a/b', '/a/b/c/', 1), (3, 'e', 'a/b', NULL, NULL);
RESET session_replication_role;
UPDATE tree.slash SET parent = 'c' WHERE org_id = 3 AND id = 'x';
UPDATE tree.slash SET parent = 'x' WHERE org_id = 3 AND id = 'a/b';  -- SHOULD FAIL
UPDATE tree.slash SET parent = NULL WHERE org_id = 3 AND id = 'x';
INSERT INTO tree.slash VALUES (3, 'n', 'e');  -- SHOULD FAIL
UPDATE tree.slash SET parent = 'e' WHERE org_id = 3 AND id = 'x';  -- SHOULD FAIL
SET crm_tree.defer_paths = on;
INSERT INTO tree.slash VALUES (3, 'z', 'a/b');  -- SHOULD FAIL
UPDATE tree.slash SET parent = 'a/b' WHERE org_id = 3 AND id = 'x';  -- SHOULD FAIL
RESET crm_tree.defer_paths;
SELECT * FROM crm_tree.repair_tree('tree.slash');
SELECT * FROM tree.slash ORDER BY id;
SELECT crm_tree.detach_tree('tree.word');
INSERT INTO tree.word (org_id, id, parent) VALUES ('o', 'q', 'é') RETURNING materialized_path;

-- Parents are found whatever keys the table has: the id first, checked late, covering more, by parts of
-- the table, by an expression beside the key. Some of them are passed by, and a plan finds the row.
CREATE FUNCTION tree.keyed(name text, keys text) RETURNS TABLE (id text, path text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE tree.%I (org_id text NOT NULL, id text NOT NULL, parent text)', name);
    EXECUTE format(keys, 'tree.' || quote_ident(name));
    PERFORM crm_tree.attach_tree(('tree.' || quote_ident(name))::regclass, 'id', 'parent');
    EXECUTE format($q$INSERT INTO tree.%I VALUES ('o', 'r', NULL), ('o', 'a', 'r'), ('p', 'r', NULL), ('o', 'b', 'a')$q$, name);
    EXECUTE format($q$INSERT INTO tree.%I VALUES ('o', 'd', 'c'), ('o', 'c', 'b'), ('p', 'a', 'r')$q$, name);
    EXECUTE format($q$UPDATE tree.%I SET parent = 'r' WHERE org_id = 'o' AND id = 'b'$q$, name);
    EXECUTE format($q$INSERT INTO tree.%I VALUES ('o', 'e', 'd')$q$, name);
    RETURN QUERY EXECUTE format('SELECT org_id || %L || id, materialized_path FROM tree.%I ORDER BY 1', ':', name);
    RETURN QUERY SELECT c.id, c.detail FROM crm_tree.check_tree(('tree.' || quote_ident(name))::regclass) c;
END $$;
SELECT 'id first' AS keys, * FROM tree.keyed('k1', 'ALTER TABLE %s ADD PRIMARY KEY (id, org_id)');
SELECT name, array_agg(path ORDER BY id) = (SELECT array_agg(materialized_path ORDER BY org_id || ':' || id) FROM tree.k1) AS same
  FROM (VALUES ('checked late', 'ALTER TABLE %1$s ADD UNIQUE (org_id, id) DEFERRABLE; CREATE UNIQUE INDEX ON %1$s (id, org_id)'),
               ('covering', 'CREATE UNIQUE INDEX ON %1$s (id, org_id) INCLUDE (parent); ALTER TABLE %1$s ADD PRIMARY KEY (org_id, id)'),
               ('parts', $$CREATE UNIQUE INDEX ON %1$s (org_id, id) WHERE id <> 'a'; ALTER TABLE %1$s ADD PRIMARY KEY (org_id, id)$$),
               ('expression', 'CREATE UNIQUE INDEX ON %1$s (org_id, upper(id)); CREATE UNIQUE INDEX ON %1$s (org_id, id text_pattern_ops, parent); ALTER TABLE %1$s ADD PRIMARY KEY (org_id, id)'),
               ('order', 'CREATE UNIQUE INDEX ON %1$s (org_id DESC, id text_pattern_ops DESC); ALTER TABLE %1$s ADD PRIMARY KEY (org_id, id)'),
               ('collated', 'CREATE UNIQUE INDEX ON %1$s (org_id COLLATE "POSIX", id COLLATE "C"); ALTER TABLE %1$s ADD PRIMARY KEY (org_id, id)')) v(name, keys)
 CROSS JOIN LATERAL tree.keyed('k ' || name, keys) GROUP BY name ORDER BY name;
-- An index that goes while a session knows it.
BEGIN;
ALTER TABLE tree.k1 DROP CONSTRAINT k1_pkey CASCADE;
INSERT INTO tree.k1 VALUES ('o', 'f', 'e') RETURNING materialized_path;
ROLLBACK;
INSERT INTO tree.k1 VALUES ('o', 'f', 'e') RETURNING materialized_path;

-- Names that are all quoted say the same.
SET quote_all_identifiers = on;
CREATE TABLE tree.quoted (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('tree.quoted');
SELECT crm_tree.attach_tree('tree.quoted', 'id', 'parent');
INSERT INTO tree.quoted VALUES ('o', 'a', NULL), ('o', 'b', 'a');
RESET quote_all_identifiers;
SELECT id, materialized_path FROM tree.quoted ORDER BY id;

-- Not for others.
SET SESSION AUTHORIZATION tree_app;
SELECT crm_tree.repair_tree('tree.company');
SELECT crm_tree.detach_tree('tree.company');
SELECT crm_tree.attach_tree('tree.company', 'company_id', 'belongs_to', 'tenant');
SELECT crm_tree.check_tree('tree.company');  -- unbound
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
DROP SCHEMA tree CASCADE;
DROP OWNED BY tree_app, tree_owner;
DROP ROLE tree_app, tree_owner;
-- The registries forgot the tables.
SELECT count(*) FROM crm_tree.tree t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation);
SELECT count(*) FROM crm_tree.wall w WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation);
