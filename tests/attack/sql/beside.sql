-- Attackers: roles that come to rows beside their table: pg_read_all_data at the TOAST table, a BYPASSRLS role by check_tree, a role that
-- becomes the database's owner, a table owner by an index, an application role by memory.
-- To gain: values, ids and paths of other orgs, or the server's end.
SET client_min_messages = warning;
DROP ROLE IF EXISTS beside_owner, beside_app, beside_reader, beside_bypass;
RESET client_min_messages;
CREATE ROLE beside_owner LOGIN;
CREATE ROLE beside_app LOGIN;
CREATE ROLE beside_reader LOGIN IN ROLE pg_read_all_data;
CREATE ROLE beside_bypass LOGIN BYPASSRLS;
CREATE SCHEMA beside AUTHORIZATION beside_owner;
GRANT USAGE ON SCHEMA beside TO beside_app, beside_bypass;
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET ROLE beside_owner;
CREATE TABLE beside.note (org_id text, id int, body text, PRIMARY KEY (org_id, id));
ALTER TABLE beside.note ALTER body SET STORAGE EXTERNAL;
INSERT INTO beside.note SELECT o, 1, repeat(o || ' ', 2000) FROM unnest('{acme,globex}'::text[]) o;
SELECT crm_tree.protect('beside.note');
CREATE TABLE beside.node (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('beside.node', 'id', 'parent');
INSERT INTO beside.node VALUES ('acme', 'a', NULL), ('globex', 'of globex', NULL);
SELECT crm_tree.protect('beside.node');
GRANT SELECT, INSERT ON beside.note, beside.node TO beside_app, beside_bypass;
RESET ROLE;
SELECT crm_tree.grant_org('beside_app', 'acme');
SELECT 'pg_toast.' || quote_ident('pg_toast_' || 'beside.note'::regclass::oid) AS toast \gset
CREATE FUNCTION beside.look(at text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    EXECUTE format('SELECT string_agg(left(encode(chunk_data, ''escape''), 6), '', '') FROM %s WHERE chunk_seq = 0', at) INTO seen;
    RETURN seen;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN regexp_replace(SQLERRM, '\d+', 'N');
END $$;
SET session_replication_role = replica;
UPDATE beside.node SET materialized_path = '/wrong/' WHERE org_id = 'globex';
RESET session_replication_role;

-- SHOULD FAIL: long values, where they are kept
\c - beside_reader
\set VERBOSITY terse
SELECT beside.look(:'toast');
\c - postgres
\set VERBOSITY terse
SET crm_tree.guard = enforce;
SELECT beside.look(:'toast');
-- ... where it was open when the session looked first, and a materialized view's
BEGIN;
CREATE TABLE beside.parts (org_id text NOT NULL, id int, body text) PARTITION BY LIST (org_id);
CREATE TABLE beside.part (org_id text NOT NULL, id int, body text);
SELECT crm_tree.protect('beside.parts');
SELECT 'pg_toast.' || quote_ident('pg_toast_' || 'beside.part'::regclass::oid) AS part \gset
SELECT beside.look(:'part');
ALTER TABLE beside.parts ATTACH PARTITION beside.part FOR VALUES IN ('globex');
SELECT beside.look(:'part');
SET LOCAL client_min_messages = error;
CREATE MATERIALIZED VIEW beside.copied AS SELECT 1 AS id, body FROM beside.part WITH NO DATA;
SELECT 'pg_toast.' || quote_ident('pg_toast_' || 'beside.copied'::regclass::oid) AS copied \gset
SELECT beside.look(:'copied');
ROLLBACK;
-- ... while the table's own reads of them, and the server's work on them, go on
VACUUM beside.note;
REINDEX TABLE :toast;
SET ROLE beside_app;
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT org_id, length(body), left(body, 6) FROM beside.note;
COMMIT;
-- SHOULD FAIL: what is wrong with other orgs' trees
\c - beside_bypass
\set VERBOSITY terse
SELECT * FROM crm_tree.check_tree('beside.node');
\c - beside_app
\set VERBOSITY terse
SELECT * FROM crm_tree.check_tree('beside.node');
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT * FROM crm_tree.check_tree('beside.node');
COMMIT;
-- SHOULD FAIL: a role that was behind the wall when the session last looked, and owns the table by owning the database
\c - postgres
\set VERBOSITY terse
SELECT current_database() AS db, quote_ident(pg_get_userbyid(datdba)) AS dba FROM pg_database WHERE datname = current_database() \gset
BEGIN;
GRANT USAGE ON SCHEMA beside TO pg_database_owner;
SET LOCAL crm_tree.guard = off;
ALTER TABLE beside.note OWNER TO pg_database_owner;
GRANT SELECT ON beside.note TO beside_app;
SET LOCAL session_replication_role = replica;
SET LOCAL client_min_messages = error;
ALTER TABLE beside.note NO FORCE ROW LEVEL SECURITY;
SET LOCAL session_replication_role = origin;
SET LOCAL crm_tree.guard = enforce;
SET LOCAL ROLE beside_app;
SELECT crm_tree.bind_org('acme');
SELECT DISTINCT org_id FROM beside.note;
RESET ROLE;
ALTER DATABASE :"db" OWNER TO beside_app;
SET LOCAL ROLE beside_app;
SELECT DISTINCT org_id FROM beside.note;
ROLLBACK;
-- SHOULD FAIL: a key that is equal by an index of the owner's, and not by the column: the place of another org's node
SET ROLE beside_owner;
CREATE COLLATION beside.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE beside.place (org_id text, id text, parent text);
CREATE UNIQUE INDEX ON beside.place (org_id COLLATE beside.ci, id);
ALTER TABLE beside.place ADD PRIMARY KEY (org_id, id);
SELECT crm_tree.attach_tree('beside.place', 'id', 'parent');
INSERT INTO beside.place VALUES ('ACME', 'top', NULL), ('ACME', 'k', 'top');
SELECT crm_tree.protect('beside.place');
CREATE FUNCTION beside.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'placed at %', NEW.materialized_path; RETURN NEW; END $$;
CREATE TRIGGER zzz_tell BEFORE INSERT ON beside.place FOR EACH ROW EXECUTE FUNCTION beside.tell();
GRANT INSERT ON beside.place TO beside_app;
RESET ROLE;
SET ROLE beside_app;
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO beside.place VALUES ('acme', 'm', 'k');
ROLLBACK;
RESET ROLE;
-- What PostgreSQL lets through: values of an index's expression, in the statistics; audit_walls says so, and its SQL ends it
SET ROLE beside_owner;
CREATE INDEX note_words ON beside.note ((left(body, 3)));
ANALYZE beside.note;
SELECT tablename, most_common_vals FROM pg_stats WHERE schemaname = 'beside' AND tablename IN ('note', 'note_words') AND most_common_vals IS NOT NULL;
SELECT tablename, histogram_bounds FROM pg_stats WHERE schemaname = 'beside' AND tablename IN ('note', 'note_words') AND histogram_bounds IS NOT NULL;
RESET ROLE;
SET crm_tree.guard = off;
SELECT severity, object FROM crm_tree.audit_walls() WHERE code = 'expression_statistics' AND object ~ 'beside';
\set ECHO none
SELECT fix FROM crm_tree.audit_walls() WHERE code = 'expression_statistics' AND object ~ 'beside'
\gexec
\set ECHO all
ANALYZE beside.note;
SELECT severity, object FROM crm_tree.audit_walls() WHERE code = 'expression_statistics' AND object ~ 'beside';
SELECT count(*) FROM pg_stats WHERE schemaname = 'beside' AND tablename = 'note_words';
SET crm_tree.guard = enforce;
SET ROLE beside_app;
-- SHOULD FAIL: memory
SELECT cardinality(crm_tree.path_ids(repeat('/1', 30000000)));
SELECT cardinality(crm_tree.path_ids(repeat('/1', 1000) || '/'));

\c - postgres
SET client_min_messages = warning;
SET crm_tree.guard = off;
DROP SCHEMA beside CASCADE;
SELECT crm_tree.revoke_org('beside_app', 'acme');
DROP OWNED BY beside_owner, beside_app, beside_reader, beside_bypass;
DROP ROLE beside_owner, beside_app, beside_reader, beside_bypass;
