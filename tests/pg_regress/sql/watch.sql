-- The event triggers: what lowers a wall is healed or refused, whoever does it.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
DROP ROLE IF EXISTS watch_owner, watch_other, watch_bypass;
CREATE ROLE watch_owner NOLOGIN;
CREATE ROLE watch_other NOLOGIN;
CREATE SCHEMA watch AUTHORIZATION watch_owner;
CREATE FUNCTION watch.events() RETURNS TABLE (kind text, relation text, detail text) LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM crm_tree.wall_event RETURNING *) SELECT kind, CASE WHEN relation IN (SELECT oid FROM pg_class) THEN relation::text END, detail FROM gone ORDER BY id
$$;
TRUNCATE crm_tree.wall_event;
SET ROLE watch_owner;
CREATE TABLE watch.note (org_id bigint NOT NULL, id int, body text, PRIMARY KEY (org_id, id));
INSERT INTO watch.note VALUES (1, 1, 'one'), (2, 1, 'two');
SELECT crm_tree.protect('watch.note');

-- SHOULD FAIL: the owner's DDL
ALTER TABLE watch.note DISABLE ROW LEVEL SECURITY;
ALTER TABLE watch.note NO FORCE ROW LEVEL SECURITY;
DROP POLICY crm_tree_wall ON watch.note;
ALTER POLICY crm_tree_wall ON watch.note USING (true);
ALTER POLICY crm_tree_wall ON watch.note WITH CHECK (true);
ALTER POLICY crm_tree_wall ON watch.note TO watch_other;
ALTER POLICY crm_tree_wall ON watch.note RENAME TO another;
ALTER POLICY crm_tree_base ON watch.note USING (true);
DROP TRIGGER crm_tree_refuse_truncate ON watch.note;
ALTER TABLE watch.note DROP CONSTRAINT note_pkey, ALTER org_id DROP NOT NULL;
ALTER TABLE watch.note DROP COLUMN org_id CASCADE;
ALTER TABLE watch.note RENAME COLUMN org_id TO tenant;
CREATE FUNCTION watch.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER crm_tree_refuse_truncate BEFORE TRUNCATE ON watch.note FOR EACH STATEMENT EXECUTE FUNCTION watch.nothing();
-- A parent without a wall would show the child's rows past the child's own.
CREATE TABLE watch.outer (org_id bigint NOT NULL, id int, body text);
ALTER TABLE watch.note INHERIT watch.outer;
CREATE TABLE watch.parted (org_id bigint NOT NULL, id int NOT NULL, body text) PARTITION BY LIST (id);
ALTER TABLE watch.parted ATTACH PARTITION watch.note DEFAULT;
SELECT crm_tree._raise_wall('watch.outer', 'org_id');
RESET ROLE;
-- SHOULD FAIL: by plain DDL the superuser neither
ALTER TABLE watch.note DISABLE ROW LEVEL SECURITY;
DO $$ BEGIN DROP POLICY crm_tree_wall ON watch.note; EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING 'refused'; END $$;
SELECT * FROM crm_tree._wall_faults();
SELECT * FROM watch.events();

-- Disabled triggers are enabled again.
SET ROLE watch_owner;
ALTER TABLE watch.note DISABLE TRIGGER crm_tree_refuse_truncate;
ALTER TABLE watch.note DISABLE TRIGGER ALL;
ALTER TABLE watch.note ENABLE TRIGGER ALL;
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'watch.note'::regclass AND tgname = 'crm_tree_refuse_truncate';

-- Ordinary migrations go on working.
ALTER TABLE watch.note ADD COLUMN done boolean DEFAULT false, ALTER COLUMN body SET NOT NULL;
CREATE INDEX ON watch.note (org_id, body);
CREATE POLICY mine ON watch.note USING (true);
CREATE POLICY narrow ON watch.note AS RESTRICTIVE USING (NOT done);
DROP POLICY mine ON watch.note;
CREATE TRIGGER nothing AFTER INSERT ON watch.note FOR EACH ROW EXECUTE FUNCTION watch.nothing();
DROP TRIGGER nothing ON watch.note;
ALTER TABLE watch.note RENAME TO notes;
ALTER TABLE watch.notes RENAME TO note;
SELECT crm_tree.protect('watch.note');

-- New partitions and children get their wall, however deep and by whichever way.
CREATE TABLE watch.child () INHERITS (watch.note);
CREATE TABLE watch.fact (org_id bigint NOT NULL, month int, id int) PARTITION BY LIST (month);
SELECT crm_tree.protect('watch.fact');
CREATE TABLE watch.fact_1 PARTITION OF watch.fact FOR VALUES IN (1) PARTITION BY HASH (org_id);
CREATE TABLE watch.fact_1_0 PARTITION OF watch.fact_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE watch.fact_2 (org_id bigint NOT NULL, month int, id int);
ALTER TABLE watch.fact ATTACH PARTITION watch.fact_2 FOR VALUES IN (2);
SELECT c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity, count(p.oid) FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid
 WHERE c.relnamespace = 'watch'::regnamespace GROUP BY c.oid ORDER BY c.oid::regclass::text;
ALTER TABLE watch.fact_1_0 DISABLE ROW LEVEL SECURITY;  -- SHOULD FAIL
SELECT count(*) FROM watch.fact_1_0;  -- SHOULD FAIL: unbound
-- What is detached keeps its wall, and it is watched.
ALTER TABLE watch.fact DETACH PARTITION watch.fact_2;
ALTER TABLE watch.fact_2 DISABLE ROW LEVEL SECURITY;  -- SHOULD FAIL
ALTER TABLE watch.child NO INHERIT watch.note;
RESET ROLE;
SELECT crm_tree.unprotect('watch.fact_2');
ALTER TABLE watch.fact_2 OWNER TO watch_owner;
CREATE FOREIGN DATA WRAPPER watch_fdw;
CREATE SERVER watch_server FOREIGN DATA WRAPPER watch_fdw;
CREATE FOREIGN TABLE watch.far PARTITION OF watch.fact FOR VALUES IN (3) SERVER watch_server;  -- SHOULD FAIL
DROP FOREIGN DATA WRAPPER watch_fdw CASCADE;
SELECT * FROM watch.events();

-- Owners.
ALTER TABLE watch.note OWNER TO watch_other;
CREATE ROLE watch_bypass NOLOGIN BYPASSRLS;
ALTER TABLE watch.note OWNER TO watch_bypass;
ALTER TABLE watch.note OWNER TO watch_owner;
SELECT * FROM watch.events();

-- A definer's way in: reported.
CREATE VIEW watch.all_notes AS SELECT * FROM watch.note;
CREATE VIEW watch.my_notes WITH (security_invoker = true) AS SELECT * FROM watch.note;
CREATE MATERIALIZED VIEW watch.frozen AS SELECT count(*) FROM watch.note;
CREATE FUNCTION watch.count_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM watch.note';
CREATE TABLE watch.log (id int);
CREATE RULE log AS ON INSERT TO watch.note DO ALSO INSERT INTO watch.log VALUES (1); -- SHOULD FAIL
SET ROLE watch_owner;
CREATE VIEW watch.owners AS SELECT * FROM watch.note;
RESET ROLE;
ALTER VIEW watch.owners OWNER TO watch_bypass;
SELECT * FROM watch.events();
DROP VIEW watch.all_notes, watch.owners;
DROP MATERIALIZED VIEW watch.frozen;

-- Watched schemas.
SELECT crm_tree.watch_schema('nowhere');
SELECT crm_tree.watch_schema('watch', 'explode');
SELECT crm_tree.watch_schema('watch');  -- reports what is there already
SET ROLE watch_owner;
SELECT crm_tree.watch_schema('watch');  -- SHOULD FAIL
CREATE TABLE watch.made (org_id bigint, id int, PRIMARY KEY (org_id, id));
CREATE TABLE watch.other (id int);
CREATE TABLE watch.bad (org_id numeric);  -- SHOULD FAIL: cannot be protected
RESET ROLE;
SELECT crm_tree.watch_schema('watch', 'warn');
SET ROLE watch_owner;
CREATE TABLE watch.warned AS SELECT 1::bigint AS org_id;
RESET ROLE;
DROP TABLE watch.warned;
DROP TABLE watch.fact_2, watch.outer, watch.parted;
SELECT crm_tree.watch_schema('watch', 'refuse');
SET ROLE watch_owner;
CREATE TABLE watch.refused (org_id bigint);  -- SHOULD FAIL
BEGIN;
CREATE TABLE watch.refused (org_id bigint);
SET CONSTRAINTS ALL IMMEDIATE;  -- SHOULD FAIL
ROLLBACK;
BEGIN;
CREATE TABLE watch.taken (org_id bigint, id int, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('watch.taken');
COMMIT;
RESET ROLE;
-- A watch goes with its schema, whatever that is called.
ALTER SCHEMA watch RENAME TO watch_moved;
SET ROLE watch_owner;
CREATE TABLE watch_moved.refused (org_id bigint);  -- SHOULD FAIL
RESET ROLE;
CREATE SCHEMA watch;
CREATE TABLE watch.let_be (org_id bigint);
DROP SCHEMA watch CASCADE;
ALTER SCHEMA watch_moved RENAME TO watch;
SET ROLE watch_owner;
CREATE TABLE watch.refused (org_id bigint);  -- SHOULD FAIL
RESET ROLE;
SELECT schema, action, namespace::regnamespace FROM crm_tree.watched_schema;
SELECT f.relation::regclass FROM crm_tree._wall_family() f JOIN pg_class c ON c.oid = f.relation WHERE c.relnamespace = 'watch'::regnamespace ORDER BY f.relation::regclass::text;
SELECT crm_tree.unwatch_schema('watch');
SELECT crm_tree.unwatch_schema('watch');
SELECT * FROM watch.events();

-- As a restore does it: nothing is healed or refused, only reported; check_restore() says what is missing.
SET session_replication_role = replica;
ALTER TABLE watch.note DISABLE ROW LEVEL SECURITY;
DROP POLICY crm_tree_wall ON watch.note;
CREATE TABLE watch.fact_4 PARTITION OF watch.fact FOR VALUES IN (4);
RESET session_replication_role;
SELECT code, object, fix FROM crm_tree.check_restore() WHERE object ~ '^watch';
SELECT kind, relation FROM watch.events();
-- Built up again statement by statement, it is watched as soon as it is whole.
ALTER TABLE watch.note ENABLE ROW LEVEL SECURITY;
CREATE POLICY crm_tree_wall ON watch.note AS RESTRICTIVE USING (org_id = crm_tree.current_org_bigint()) WITH CHECK (org_id = crm_tree.current_org_bigint());
ALTER TABLE watch.note DISABLE ROW LEVEL SECURITY;  -- SHOULD FAIL
SELECT crm_tree.protect('watch.fact');  -- SHOULD FAIL: the wall is put up with the rights of one owner
ALTER TABLE watch.fact_4 OWNER TO watch_owner;
SELECT crm_tree.protect('watch.fact');
SELECT code, object, fix FROM crm_tree.check_restore() WHERE object ~ '^watch';

-- Down by who may.
GRANT EXECUTE ON FUNCTION crm_tree.unprotect(regclass) TO watch_owner;
SET ROLE watch_owner;
SELECT crm_tree.unprotect('watch.note');
ALTER TABLE watch.note ENABLE ROW LEVEL SECURITY;
ALTER TABLE watch.note DISABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT kind, relation, detail FROM watch.events();

-- A migration in one transaction that keeps its snapshot
SET ROLE watch_owner;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT 1;
CREATE TABLE watch.t (org_id text NOT NULL, id text, parent text, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
CREATE TABLE watch.t1 PARTITION OF watch.t FOR VALUES IN ('a');
SELECT crm_tree.protect('watch.t');
CREATE TABLE watch.t2 PARTITION OF watch.t FOR VALUES IN ('b');
SELECT crm_tree.attach_tree('watch.t', 'id', 'parent', history => true);
CREATE TABLE watch.l (org_id text NOT NULL, o text NOT NULL, c text NOT NULL);
SELECT crm_tree.protect('watch.l'), crm_tree.attach_links('watch.l', 'watch.t', 'o', 'c');
SELECT crm_tree.create_load_view('watch.t');
ALTER TABLE watch.t ADD COLUMN x int;
SELECT crm_tree.protect('watch.t'), crm_tree.attach_tree('watch.t', 'id', 'parent', history => true);
SELECT crm_tree.detach_links('watch.l');
COMMIT;
RESET ROLE;

-- Whoever makes a partition of another role's tree is told that its paths cannot be written
GRANT watch_owner TO watch_other;
TRUNCATE crm_tree.wall_event;
SET ROLE watch_other;
CREATE TABLE watch.t3 PARTITION OF watch.t FOR VALUES IN ('c');
ALTER TABLE watch.t3 OWNER TO watch_owner;
RESET ROLE;
SELECT kind, relation, detail FROM watch.events();

-- A policy that is dropped is known by names: whoever has a schema may have given them to another table by the time somebody looks.
SET client_min_messages = warning;
GRANT CREATE ON DATABASE :DBNAME TO watch_owner;
CREATE SCHEMA watch_a AUTHORIZATION watch_owner;
CREATE SCHEMA watch_b AUTHORIZATION watch_owner;
SET ROLE watch_owner;
CREATE TABLE watch_a.t (org_id bigint NOT NULL, secret text);
CREATE TABLE watch_b.t (org_id bigint NOT NULL, secret text);
SELECT crm_tree.protect('watch_a.t'), crm_tree.protect('watch_b.t');
RESET ROLE;
-- As if another session did it meanwhile.
CREATE FUNCTION watch.swaps() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_type IN ('policy', 'trigger')) THEN
        ALTER SCHEMA watch_a RENAME TO watch_c;
        ALTER SCHEMA watch_b RENAME TO watch_a;
        ALTER SCHEMA watch_c RENAME TO watch_b;
    END IF;
END $$;
CREATE FUNCTION watch.hides() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN ALTER SCHEMA watch_a RENAME TO watch_c; END $$;
CREATE EVENT TRIGGER a_swaps ON sql_drop EXECUTE FUNCTION watch.swaps();
SET ROLE watch_owner;
DROP POLICY crm_tree_wall ON watch_a.t;  -- SHOULD FAIL
DROP TRIGGER crm_tree_refuse_truncate ON watch_a.t;  -- SHOULD FAIL
BEGIN;
LOCK TABLE watch_b.t;
DROP POLICY crm_tree_wall ON watch_a.t;  -- SHOULD FAIL, too
ROLLBACK;
-- ... or while one that may be moved is moved: the names of protect()'s own statements
DO $$ BEGIN PERFORM crm_tree.protect('watch_a.t'); EXCEPTION WHEN OTHERS THEN RAISE WARNING 'refused'; END $$;
RESET ROLE;
SELECT crm_tree.unprotect('watch_a.t');  -- SHOULD FAIL
DROP EVENT TRIGGER a_swaps;
CREATE EVENT TRIGGER a_hides ON sql_drop EXECUTE FUNCTION watch.hides();
SET ROLE watch_owner;
DROP POLICY crm_tree_wall ON watch_a.t;  -- SHOULD FAIL
RESET ROLE;
DROP EVENT TRIGGER a_hides;
SELECT count(*) FROM crm_tree._wall_faults();
REVOKE CREATE ON DATABASE :DBNAME FROM watch_owner;
DROP SCHEMA watch_a, watch_b CASCADE;

-- A child of two protected tables needs the wall of each.
SET ROLE watch_owner;
CREATE TABLE watch.one (org_id bigint NOT NULL, x text);
CREATE TABLE watch.two (org_id bigint NOT NULL, x text);
SELECT crm_tree.protect('watch.one'), crm_tree.protect('watch.two');
CREATE TABLE watch.both () INHERITS (watch.one, watch.two);
SELECT crm_tree.unprotect('watch.one');  -- SHOULD FAIL
ALTER TABLE watch.both NO INHERIT watch.two;
SELECT crm_tree.unprotect('watch.one');
ALTER TABLE watch.both NO INHERIT watch.one;
ALTER TABLE watch.both INHERIT watch.two;
-- One that is registered itself stays behind the wall above it.
SELECT crm_tree.protect('watch.both');
SELECT crm_tree.unprotect('watch.both');
SELECT relrowsecurity FROM pg_class WHERE oid = 'watch.both'::regclass;

-- An identity column is no org.
CREATE TABLE watch.counted (org_id bigint GENERATED ALWAYS AS IDENTITY);
SELECT crm_tree.protect('watch.counted');  -- SHOULD FAIL
ALTER TABLE watch.counted ALTER org_id DROP IDENTITY;
SELECT crm_tree.protect('watch.counted');
ALTER TABLE watch.counted ALTER org_id DROP DEFAULT, ALTER org_id ADD GENERATED ALWAYS AS IDENTITY;
SELECT crm_tree.unprotect('watch.counted');
RESET ROLE;

-- DDL of which PostgreSQL tells no event trigger: what a materialized view's query does while it is refreshed.
SET ROLE watch_owner;
CREATE TABLE watch.fresh (org_id bigint NOT NULL, id int NOT NULL, PRIMARY KEY (org_id, id));
CREATE TABLE watch.fresh_outer (org_id bigint NOT NULL, id int NOT NULL);
SELECT crm_tree.protect('watch.fresh');
CREATE FUNCTION watch.does(statement text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN 1; END $$;
CREATE FUNCTION watch.does_refreshing(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE MATERIALIZED VIEW watch.m AS SELECT watch.does(%L) WITH NO DATA', statement);
    REFRESH MATERIALIZED VIEW watch.m;
    RAISE WARNING 'passes: %', statement;
    DROP MATERIALIZED VIEW watch.m;
END $$;
-- SHOULD FAIL
SELECT watch.does_refreshing('ALTER TABLE watch.fresh DISABLE ROW LEVEL SECURITY');
SELECT watch.does_refreshing('ALTER TABLE watch.fresh NO FORCE ROW LEVEL SECURITY');
SELECT watch.does_refreshing('ALTER TABLE watch.fresh INHERIT watch.fresh_outer');
SELECT watch.does_refreshing('ALTER POLICY crm_tree_wall ON watch.fresh USING (true) WITH CHECK (true)');
SELECT watch.does_refreshing('ALTER POLICY crm_tree_wall ON watch.fresh RENAME TO x');
SELECT watch.does_refreshing('ALTER TABLE watch.fresh RENAME COLUMN org_id TO x');
SELECT watch.does_refreshing('CREATE RULE r AS ON INSERT TO watch.fresh DO ALSO NOTHING');
SELECT watch.does_refreshing('CREATE POLICY aaa ON watch.fresh AS RESTRICTIVE USING (true)');
SELECT watch.does_refreshing('DROP POLICY crm_tree_wall ON watch.fresh');
-- These are healed.
SELECT watch.does_refreshing('ALTER TABLE watch.fresh DISABLE TRIGGER crm_tree_refuse_truncate');
SELECT watch.does_refreshing('CREATE TABLE watch.fresh_child () INHERITS (watch.fresh)');
RESET ROLE;
SELECT count(*) FROM crm_tree._wall_faults() WHERE relation::regclass::text ~ 'fresh';
SELECT count(*) FROM crm_tree.wall_standing WHERE relation::regclass::text ~ 'fresh';

-- What goes with a session goes unseen.
CREATE COLLATION pg_temp.passing (locale = 'C', provider = libc);
CREATE TABLE watch.passes (org_id text COLLATE pg_temp.passing NOT NULL);
SELECT crm_tree.protect('watch.passes');  -- SHOULD FAIL
DROP TABLE watch.passes;

-- The org column is gone, and the wall can be taken down.
SET session_replication_role = replica;
CREATE TABLE watch.headless (org_id bigint NOT NULL, x int);
SELECT crm_tree.protect('watch.headless');
ALTER TABLE watch.headless DROP COLUMN org_id CASCADE;
RESET session_replication_role;
SELECT crm_tree.unprotect('watch.headless');
DROP TABLE watch.headless;

-- With strings as they were before SQL
SET standard_conforming_strings = off;
SET escape_string_warning = off;
ALTER TABLE watch.two ADD y int;
ALTER TABLE watch.two DISABLE ROW LEVEL SECURITY;  -- SHOULD FAIL
SELECT count(*) FROM crm_tree.audit_walls() WHERE object ~ '^watch[.](one|two)';
SELECT crm_tree.protect('watch.two');
RESET standard_conforming_strings;
RESET escape_string_warning;

-- What does not stand is told, whatever the audit calls it.
SET session_replication_role = replica;
CREATE POLICY aaa ON watch.two AS RESTRICTIVE USING (true);
CREATE RULE r AS ON INSERT TO watch.two DO ALSO NOTHING;
RESET session_replication_role;
SELECT code, object FROM crm_tree.check_restore() WHERE object ~ '^watch.two';
SELECT crm_tree.unprotect('watch.two');
DROP POLICY aaa ON watch.two;
DROP RULE r ON watch.two;

-- A watched schema: a partitioned table with its partitions, and what is below a table that was there before.
CREATE SCHEMA watch_later AUTHORIZATION watch_owner;
SET ROLE watch_owner;
CREATE TABLE watch_later.p (id int) PARTITION BY LIST (id);
CREATE TABLE watch_later.p1 PARTITION OF watch_later.p FOR VALUES IN (1);
CREATE TABLE watch_later.old (org_id bigint NOT NULL, id int) PARTITION BY LIST (id);
RESET ROLE;
SET client_min_messages = error;
SELECT crm_tree.watch_schema('watch_later');
SET client_min_messages = warning;
SET ROLE watch_owner;
ALTER TABLE watch_later.p ADD COLUMN org_id bigint NOT NULL;
CREATE TABLE watch_later.old_1 PARTITION OF watch_later.old FOR VALUES IN (1);
RESET ROLE;
SELECT relation::regclass FROM crm_tree.wall WHERE relation::regclass::text ~ 'watch_later' ORDER BY 1;
SELECT relation::regclass, root::regclass FROM crm_tree._wall_family() WHERE relation::regclass::text ~ 'watch_later' ORDER BY 1;
DROP SCHEMA watch_later CASCADE;

-- Default privileges of the installing role would be those of the registries.
BEGIN;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO watch_other;
SAVEPOINT before;
DROP EXTENSION crm_tree CASCADE;
CREATE EXTENSION crm_tree;  -- SHOULD FAIL
ROLLBACK TO before;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM watch_other;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
DROP EXTENSION crm_tree CASCADE;
CREATE EXTENSION crm_tree;  -- SHOULD FAIL
ROLLBACK;

SET client_min_messages = error;
DROP SCHEMA watch CASCADE;
SET client_min_messages = warning;
SELECT count(*) FROM crm_tree.wall_standing s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relation);
DROP OWNED BY watch_owner, watch_other, watch_bypass;
DROP ROLE watch_owner, watch_other, watch_bypass;
TRUNCATE crm_tree.wall_event;
