-- Attacker: a role with TEMP, or with a schema of its own, whose search_path puts types, operators and functions of its own before the
-- server's. Triggers of trees, histories and second parents run statements as the table's owner and as the extension's.
-- To gain: code of his run as one of them.
SET client_min_messages = warning;
DROP ROLE IF EXISTS names_owner, names_app, names_nobody;
CREATE ROLE names_owner LOGIN;
CREATE ROLE names_app LOGIN;
CREATE ROLE names_nobody LOGIN;
CREATE SCHEMA names AUTHORIZATION names_owner;
CREATE SCHEMA names_lair AUTHORIZATION names_app;
GRANT USAGE ON SCHEMA names, names_lair TO PUBLIC;
RESET client_min_messages;
\set VERBOSITY terse
\set SHOW_CONTEXT never

-- SHOULD GAIN NOTHING: a domain called text, on a tree and links of his own, whose registry is read as the extension's owner
\c - names_app
SET search_path = names_lair, public;
CREATE TABLE t (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
CREATE TABLE l (org_id text, o text, c text);
SELECT crm_tree.attach_tree('t', 'id', 'parent');
SELECT crm_tree.attach_links('l', 't', 'o', 'c');
INSERT INTO t VALUES ('o', 'a', NULL), ('o', 'b', NULL);
CREATE FUNCTION pg_temp.own(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'names_app' THEN ALTER ROLE names_app SUPERUSER; END IF;
    RETURN true;
END $$;
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.own(value));
SET search_path = pg_temp, pg_catalog, names_lair;
INSERT INTO l VALUES ('o', 'a', 'b');
UPDATE t SET parent = 'b' WHERE id = 'a';
SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = 'names_app';
DROP TABLE l, t;

-- SHOULD GAIN NOTHING: everything of another owner's, under names that tell as whom they are called
\c - postgres
SET ROLE names_owner;
CREATE TABLE names.plain (org_id text, id text, parent text, pct numeric, PRIMARY KEY (org_id, id));
CREATE TABLE names.link (org_id text, o text, c text, pct real);
CREATE TABLE names.kept (org_id uuid, id uuid, parent uuid, PRIMARY KEY (org_id, id));
CREATE TABLE names.split (org_id text, id text, parent text, PRIMARY KEY (org_id, id)) PARTITION BY HASH (org_id);
CREATE TABLE names.split_0 PARTITION OF names.split FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE names.fact (org_id text, id text, amt numeric);
SELECT crm_tree.attach_tree('names.plain', 'id', 'parent', on_delete => 'adopt'), crm_tree.attach_links('names.link', 'names.plain', 'o', 'c', pct => 'pct', tree_pct => 'pct'),
       crm_tree.attach_tree('names.kept', 'id', 'parent', on_delete => 'adopt', history => true), crm_tree.attach_tree('names.split', 'id', 'parent', on_delete => 'adopt', history => true);
SELECT crm_tree.protect(x::regclass) FROM unnest('{names.plain,names.link,names.kept,names.split,names.fact}'::text[]) x;
SELECT crm_tree.create_load_view('names.fact');
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA names TO names_app;
RESET ROLE;
SELECT crm_tree.grant_org('names_app', 'acme'), crm_tree.grant_org('names_app', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
\c - names_app
SET client_min_messages = warning;
CREATE TABLE names_lair.staged AS SELECT x.id, x.parent, 1::numeric AS pct FROM (VALUES ('z'::text, NULL::text), ('y', 'z')) x (id, parent);
CREATE FUNCTION names_lair.tell(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF current_user <> 'names_app' THEN RAISE WARNING '% called as %', $1, current_user; END IF;
    RETURN true;
END $$;
DO $$
DECLARE
    t text; o text; f text;
BEGIN
    -- operators before types: a domain has those of what it is made of
    FOREACH t IN ARRAY '{text,name,oid,int4,int8,uuid,timestamptz,numeric,bool,xid,tid,text[],uuid[]}'::text[] LOOP
        FOREACH o IN ARRAY '{=,<>,<,>,<=,>=,||,+,-}'::text[] LOOP
            CONTINUE WHEN o IN ('||', '+', '-') AND t <> 'text' AND t NOT LIKE 'int_';
            f := 'names_lair.op_' || md5(t || o);
            EXECUTE format('CREATE FUNCTION %s(%s, %s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS $f$
                BEGIN PERFORM names_lair.tell(%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END $f$', f, t, t,
                CASE WHEN o = '||' THEN 'text' WHEN o IN ('+', '-') THEN CASE t WHEN 'text' THEN 'int4' ELSE t END ELSE 'bool' END, o || ' of ' || t, o);
            EXECUTE format('CREATE OPERATOR names_lair.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s)', o, t, t, f);
        END LOOP;
    END LOOP;
    FOREACH t IN ARRAY '{now(),clock_timestamp(),pg_backend_pid()}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION names_lair.%s RETURNS timestamptz LANGUAGE plpgsql SET search_path = pg_catalog AS $f$ BEGIN PERFORM names_lair.tell(%L); RETURN pg_catalog.now(); END $f$', t, t);
    END LOOP;
    FOREACH t IN ARRAY '{text,name,oid,regclass,integer,int4,bigint,uuid,timestamptz,interval,date,jsonb,numeric,boolean,xid}'::text[] LOOP
        EXECUTE format('CREATE DOMAIN names_lair.%I AS pg_catalog.%I CHECK (names_lair.tell(%L))', t,
                       CASE t WHEN 'integer' THEN 'int4' WHEN 'bigint' THEN 'int8' WHEN 'boolean' THEN 'bool' ELSE t END, 'type ' || t);
    END LOOP;
END $$;
SET search_path = names_lair, pg_catalog;
BEGIN;
SELECT crm_tree.bind_org('acme'::pg_catalog.text);
INSERT INTO names.plain VALUES ('acme', 'b', 'a', 1), ('acme', 'a', NULL, 1), ('acme', 'c', 'b', 1), ('acme', 'd', 'c', 1), ('acme', 'e', NULL, 1), ('acme', 'g', 'e', 1);
INSERT INTO names.link VALUES ('acme', 'd', 'e', 50);
UPDATE names.plain SET parent = 'a' WHERE id OPERATOR(pg_catalog.=) 'c';
UPDATE names.plain SET pct = 2 WHERE id OPERATOR(pg_catalog.=) 'e';
UPDATE names.link SET pct = 60;
SAVEPOINT s;
UPDATE names.plain SET parent = 'g' WHERE id OPERATOR(pg_catalog.=) 'c';
ROLLBACK TO s;
INSERT INTO names.link VALUES ('acme', 'g', 'a', 50);
ROLLBACK TO s;
INSERT INTO names.link VALUES ('acme', 'b', 'e', 50);
ROLLBACK TO s;
DELETE FROM names.plain WHERE id OPERATOR(pg_catalog.=) 'c';
INSERT INTO names.plain VALUES ('acme', 'c', 'b', 1);
INSERT INTO names.plain VALUES ('acme', 'h', 'i', 1), ('acme', 'i', 'd', 1);
INSERT INTO names.split SELECT org_id, id, parent FROM names.plain;
UPDATE names.split SET parent = 'e' WHERE id OPERATOR(pg_catalog.=) 'c';
DELETE FROM names.split WHERE id OPERATOR(pg_catalog.=) 'c';
INSERT INTO names.split VALUES ('acme', 'c', 'h');
SELECT count(*) FROM crm_tree.preview_move('names.plain', 'c', 'a'), crm_tree.preview_merge('names.plain', 'b', 'a'), crm_tree.subtree('names.plain', 'a') s,
       crm_tree.node_counts('names.plain', 'a') n, crm_tree.lowest_common_ancestor('names.plain', 'c', 'd') x, crm_tree.subtree_as_of('names.split', 'a', pg_catalog.now()) y;
SELECT crm_tree.merge_nodes('names.plain', 'b', 'a'), crm_tree.merge_nodes('names.split', 'b', 'a');
SELECT crm_tree.load_tree('names.plain', 'names_lair.staged');
INSERT INTO names.fact_load VALUES ('acme', 'a', 1);
SELECT count(*) FROM crm_tree.rollup('names.plain', 'SELECT id, amt FROM names.fact');
SELECT count(*) FROM crm_tree.check_tree('names.plain');
SET LOCAL crm_tree.defer_paths = on;
UPDATE names.plain SET parent = 'z' WHERE id OPERATOR(pg_catalog.=) 'c';
INSERT INTO names.plain VALUES ('acme', 'f', 'c', 1);
SELECT count(*) FROM crm_tree.preview_move('names.plain', 'd', 'a'), crm_tree.preview_merge('names.plain', 'd', 'a'), crm_tree.subtree('names.plain', 'a') s;
SELECT crm_tree.merge_nodes('names.plain', 'f', 'a');
DELETE FROM names.plain WHERE id OPERATOR(pg_catalog.=) 'c';
SELECT count(*) FROM crm_tree.rollup('names.plain', 'SELECT id, amt FROM names.fact');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::pg_catalog.uuid);
INSERT INTO names.kept VALUES (crm_tree.current_org(), 'aaaaaaaa-0000-4000-8000-00000000000a', NULL), (crm_tree.current_org(), 'baaaaaaa-0000-4000-8000-00000000000a', 'aaaaaaaa-0000-4000-8000-00000000000a');
UPDATE names.kept SET parent = NULL;
DELETE FROM names.kept;
SELECT count(*) FROM crm_tree.subtree_as_of('names.kept', 'baaaaaaa-0000-4000-8000-00000000000a', pg_catalog.now());
ROLLBACK;
SELECT count(*) FROM crm_tree.job_list;
SELECT crm_tree.is_bound(), crm_tree.next_run('@daily', 'UTC', '2026-01-01');

-- SHOULD GAIN NOTHING: a table whose name reads like a command, merged in
RESET search_path;
\c - postgres
CREATE TABLE names."LAST UPDATE " (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('names."LAST UPDATE "', 'id', 'parent');
GRANT ALL ON names."LAST UPDATE " TO names_app;
\c - names_app
INSERT INTO names."LAST UPDATE " VALUES ('o', 'a', NULL), ('o', 'b', 'a');
SET search_path = names_lair, pg_catalog;
SELECT crm_tree.merge_nodes('names."LAST UPDATE "', 'b', 'a');

-- SHOULD GAIN NOTHING: code of his that sets the path for what a superuser does next with his table: a trigger when paths are repaired, an
-- index's predicate when a query is planned, in a schema that is watched, and for jobs
\c - postgres
SELECT crm_tree.watch_schema('names_lair');
\c - names_app
SET client_min_messages = warning;
DROP DOMAIN names_lair.text, names_lair.oid;
CREATE FUNCTION names_lair.poison(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM pg_catalog.set_config('search_path', 'names_lair, pg_catalog', false);
    RETURN true;
END $$;
CREATE FUNCTION names_lair.poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_catalog.set_config('search_path', 'names_trap, pg_catalog', false), pg_catalog.set_config('work_mem', '77kB', false);
    RETURN NEW;
END $$;
CREATE TABLE names_lair.w (orgx text, id int);
CREATE INDEX ON names_lair.w (id) WHERE names_lair.poison('x');
RESET search_path;
ALTER TABLE names_lair.w RENAME orgx TO org_id;
RESET search_path;
CREATE TABLE names_lair.t (org_id text NOT NULL, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('names_lair.t', 'id', 'parent');
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO names_lair.t VALUES ('acme', 'a', NULL), ('acme', 'b', 'a');
CREATE TRIGGER aaa BEFORE UPDATE ON names_lair.t FOR EACH ROW EXECUTE FUNCTION names_lair.poison();
COMMIT;
ALTER TABLE names_lair.t DISABLE TRIGGER USER;
BEGIN;
SELECT crm_tree.bind_org('acme');
UPDATE names_lair.t SET materialized_path = '/x/';
COMMIT;
RESET search_path;
ALTER TABLE names_lair.t ENABLE TRIGGER USER;
\c - postgres
SET crm_tree.guard = off;
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT * FROM crm_tree.check_tree('names_lair.t');
SELECT * FROM crm_tree.repair_tree('names_lair.t');
SELECT crm_tree.reconcile_paths();
SELECT crm_tree.attach_tree('names_lair.t', 'id', 'parent');
SELECT count(*) FROM crm_tree._tree_orgs('names_lair.t');
SELECT materialized_path FROM names_lair.t ORDER BY 1;
SHOW search_path;
SELECT current_setting('work_mem') = '77kB' AS poisoned;
ROLLBACK;
SELECT crm_tree.unwatch_schema('names_lair');

-- What tells does: called by somebody else's statement, it says so.
\c - postgres
SELECT 'x'::names_lair.name OPERATOR(names_lair.=) 'x';

SET client_min_messages = warning;
SET crm_tree.guard = off;
DROP SCHEMA names, names_lair CASCADE;
SELECT crm_tree.revoke_org('names_app', 'acme'), crm_tree.revoke_org('names_app', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
DROP OWNED BY names_owner, names_app, names_nobody;
DROP ROLE names_owner, names_app, names_nobody;
