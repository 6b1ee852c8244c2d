-- The registries: a row written there is a grant, a row read there tells who works for whom.
-- Attacker: wanda, with pg_read_all_data and pg_write_all_data; mallory.
-- To gain: a grant written by hand, or the list of who may what.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - wanda_of_all_data
-- SHOULD GAIN NOTHING: pg_read_all_data
SELECT count(*) FROM crm_tree.org_grant;
SELECT count(*) FROM crm_tree.wall;
SELECT count(*) FROM crm_tree.tree;
SELECT count(*) FROM app.account;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.contact;
SELECT count(*) FROM crm_tree.org_grant;
ROLLBACK;
-- SHOULD FAIL: pg_write_all_data
INSERT INTO crm_tree.org_grant (org, role, role_name) VALUES ('*', 'wanda_of_all_data', 'wanda_of_all_data');
INSERT INTO crm_tree.wall (relation, org_column) VALUES ('app.account', 'name');
UPDATE crm_tree.org_grant SET org = '*';
WITH d AS (DELETE FROM crm_tree.wall RETURNING 1) SELECT count(*) FROM d;
TRUNCATE crm_tree.wall;
UPDATE crm_tree.tree SET path_column = 'secret';
COPY crm_tree.org_grant FROM stdin;
\.
COPY crm_tree.org_grant TO stdout;
LOCK TABLE crm_tree.org_grant IN ACCESS EXCLUSIVE MODE NOWAIT;
-- SHOULD FAIL: ordinary roles
\c - mallory_the_app_user
SELECT count(*) FROM crm_tree.org_grant;
SELECT count(*) FROM crm_tree.wall;
INSERT INTO crm_tree.org_grant (org, role, role_name) VALUES ('*', 'mallory_the_app_user', 'mallory_the_app_user');
-- SHOULD FAIL: something of one's own in the extension's schema
CREATE TABLE crm_tree.mine ();
CREATE FUNCTION crm_tree.bind_org(org int) RETURNS void LANGUAGE sql AS '';
CREATE OR REPLACE FUNCTION crm_tree.current_org() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
-- SHOULD GAIN NOTHING: what the extension's own objects leave open. Tables without row security, functions that
-- run as their definer without a pinned search_path, policy functions that are not STABLE: there are none.
\c - :super
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'crm_tree'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity;
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'crm_tree'::regnamespace AND p.prosecdef
   AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'];
SELECT p.oid::regprocedure, p.provolatile, p.prosecdef, p.proleakproof FROM pg_proc p
 WHERE p.pronamespace = 'crm_tree'::regnamespace AND p.proname ~ '^current_org' AND (p.provolatile <> 's' OR p.proleakproof);
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'crm_tree'::regnamespace AND p.proname IN ('grant_org', 'revoke_org', 'unprotect', 'create_crm', 'create_org')
   AND has_function_privilege('mallory_the_app_user', p.oid, 'EXECUTE');
-- Of those that run as the extension's owner nobody may put one on a table of his own: it would take its rows for the registry's.
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'crm_tree'::regnamespace AND p.prosecdef AND p.prorettype = 'trigger'::regtype
   AND has_function_privilege('mallory_the_app_user', p.oid, 'EXECUTE');
\c - mallory_the_app_user
CREATE TEMP TABLE pending (relation oid, org_column name);
CREATE TRIGGER t AFTER INSERT ON pending FOR EACH ROW EXECUTE FUNCTION crm_tree._refuse_unwalled();
-- SHOULD FAIL: a registry entry that outlives its table unseen
CREATE TEMP TABLE gone (org_id bigint NOT NULL, id bigint, parent bigint, PRIMARY KEY (org_id, id));
\set VERBOSITY sqlstate
SELECT crm_tree.protect('gone');
SELECT crm_tree.attach_tree('gone', 'id', 'parent');
\set VERBOSITY default
\c - :super
-- SHOULD FAIL: installing into a schema that somebody has made, and filled, beforehand
SELECT current_database() AS here \gset
CREATE DATABASE squatted;
GRANT CREATE ON DATABASE squatted TO mallory_the_app_user;
\c squatted mallory_the_app_user
CREATE SCHEMA crm_tree;
\c squatted :super
CREATE EXTENSION crm_tree;
-- The installing role's own schema, in which another may create.
DROP SCHEMA crm_tree;
CREATE SCHEMA crm_tree;
GRANT CREATE, USAGE ON SCHEMA crm_tree TO mallory_the_app_user;
\c squatted mallory_the_app_user
CREATE DOMAIN crm_tree.oid AS pg_catalog.oid;
\c squatted :super
CREATE EXTENSION crm_tree;
\c squatted mallory_the_app_user
DROP DOMAIN crm_tree.oid;
CREATE OPERATOR crm_tree.= (LEFTARG = name, RIGHTARG = text, FUNCTION = pg_catalog.nameeqtext);
\c squatted :super
CREATE EXTENSION crm_tree;
\c :here :super
DROP DATABASE squatted;
SELECT referee.globex();
