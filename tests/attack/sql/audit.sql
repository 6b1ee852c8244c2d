-- The audit, by which a superuser goes, against whoever would blind it, stop it, or choose what he mends.
-- Attackers: mallory, who may make things in one schema; oscar, who owns the tables, and may make schemas and extensions in this database.
-- To gain: a hole that nobody is told of; or that a superuser, at the audit's word, makes one.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
SET client_min_messages = error;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO oscar_the_owner', current_database()); END $$;
SELECT crm_tree.grant_org('oscar_the_owner', :acme, for_session => true);
CREATE VIEW referee.told AS SELECT code, severity, object, fix FROM crm_tree.audit_walls() WHERE code NOT IN ('schema_create', 'temp_tables', 'grant_of_every_org', 'not_preloaded');
-- SHOULD END: views that name each other in a circle
\c - mallory_the_app_user
CREATE MATERIALIZED VIEW lair.m AS SELECT id FROM app.deal WITH NO DATA;
CREATE VIEW lair.v1 AS SELECT id FROM lair.m;
CREATE VIEW lair.v2 AS SELECT id FROM lair.v1;
CREATE OR REPLACE VIEW lair.v1 AS SELECT id FROM lair.m UNION ALL SELECT id FROM lair.v2;
\c - :super
SELECT * FROM referee.told WHERE object ~ 'lair';
DROP MATERIALIZED VIEW IF EXISTS lair.m CASCADE;
SELECT * FROM referee.told WHERE object ~ 'lair';
-- SHOULD BE NAMED: rights on a table that was made a part of an extension of one's own
\c - oscar_the_owner
GRANT TRUNCATE ON app.contact TO PUBLIC;
CREATE TABLE app.bare (org_id uuid);
SET client_min_messages = error;
CREATE EXTENSION hstore SCHEMA app;
ALTER EXTENSION hstore ADD TABLE app.contact;
ALTER EXTENSION hstore ADD TABLE app.bare;
\c - :super
SELECT * FROM referee.told WHERE object ~ 'contact|bare';
ALTER EXTENSION hstore DROP TABLE app.contact;
ALTER EXTENSION hstore DROP TABLE app.bare;
DROP EXTENSION hstore;
DROP TABLE app.bare;
REVOKE TRUNCATE ON app.contact FROM PUBLIC;
-- SHOULD BE NAMED: code of mallory's that runs at other orgs' rows, and with their rights
\c - mallory_the_app_user
CREATE FUNCTION lair.fine(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION lair.same(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION lair.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION lair.lent() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION lair.apart(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 <> $2';
CREATE OPERATOR lair.<<>> (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.apart);
CREATE DOMAIN lair.tag AS text;
CREATE DOMAIN lair.inner_tag AS text;
CREATE TYPE lair.pair AS (t lair.inner_tag);
\c - oscar_the_owner
CREATE TABLE app.odd (org_id uuid NOT NULL, body text CHECK (lair.fine(body)), gen text GENERATED ALWAYS AS (lair.same(body)) STORED, tags lair.tag[], pair lair.pair,
    CHECK (body OPERATOR(lair.<<>>) 'x'));
CREATE INDEX ON app.odd (org_id, lair.same(body));
CREATE TRIGGER stamp BEFORE INSERT ON app.odd FOR EACH ROW EXECUTE FUNCTION lair.stamp();
CREATE TRIGGER lent BEFORE INSERT ON app.odd FOR EACH ROW EXECUTE FUNCTION lair.lent();
SELECT crm_tree.protect('app.odd');
CREATE POLICY zz_fine ON app.odd AS RESTRICTIVE USING (lair.fine(body));
CREATE STATISTICS app.odd_stats ON (lair.same(body)), body FROM app.odd;
\c - :super
SELECT code, severity, object, detail FROM crm_tree.audit_walls() WHERE code IN ('code_of_another', 'domain_of_another');
SELECT fix FROM referee.told WHERE code IN ('code_of_another', 'domain_of_another') AND fix IS NOT NULL
\gexec
SELECT code, severity, object FROM crm_tree.audit_walls() WHERE code IN ('code_of_another', 'domain_of_another');
DROP TABLE app.odd;
DROP OPERATOR lair.<<>> (text, text);
DROP FUNCTION lair.fine, lair.same, lair.stamp, lair.lent, lair.apart;
DROP TYPE lair.pair;
DROP DOMAIN lair.tag, lair.inner_tag;
-- SHOULD FAIL: another org by a default that a foreign key sets, between two walls
\c - oscar_the_owner
CREATE TABLE app.child (org_id uuid NOT NULL, id int, acc int, FOREIGN KEY (org_id, acc) REFERENCES app.account (org_id, id) ON DELETE SET DEFAULT);
SELECT crm_tree.protect('app.child');
ALTER TABLE app.child DROP CONSTRAINT child_org_id_acc_fkey;
SELECT crm_tree.protect('app.child');
SELECT crm_tree.bind_session(:acme);
ALTER TABLE app.child ADD FOREIGN KEY (org_id, acc) REFERENCES app.account (org_id, id) ON DELETE SET DEFAULT;
ALTER TABLE app.child ADD CONSTRAINT one_column FOREIGN KEY (org_id, acc) REFERENCES app.account (org_id, id) ON DELETE SET DEFAULT (acc);
-- SHOULD FAIL: the wall taken down that keeps the org of another table's key where it is
ALTER TABLE app.child DROP CONSTRAINT one_column, ADD CONSTRAINT follows FOREIGN KEY (org_id, acc) REFERENCES app.account (org_id, id) ON UPDATE CASCADE;
\c - :super
SELECT crm_tree.unprotect('app.account');
DROP TABLE app.child;
-- SHOULD BE NAMED: a superuser's function that finds what is in his caller's temporary schema first
CREATE FUNCTION referee.conf() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = referee AS 'SELECT fingerprint FROM start';
CREATE FUNCTION referee.own() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = "$user", pg_temp AS 'SELECT ''x''';
CREATE FUNCTION referee.late() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = lair, pg_catalog, pg_temp AS 'SELECT lower(''x'')';
CREATE FUNCTION referee.right() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, "a, b", pg_temp AS 'SELECT ''x''';
SELECT * FROM referee.told WHERE object ~ 'referee';
SELECT fix FROM referee.told WHERE object ~ 'referee'
\gexec
SELECT * FROM referee.told WHERE object ~ 'referee';
DROP FUNCTION referee.conf, referee.own, referee.late, referee.right;
-- SHOULD BE NAMED: tables under names that are written otherwise
DO $$ BEGIN EXECUTE format('CREATE FUNCTION referee.three() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ''SELECT count(*) FROM %I.app.deal''', current_database()); END $$;
CREATE FUNCTION referee.escaped() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM app.U&"d\0065al"';
SELECT code, severity, object FROM referee.told WHERE object ~ 'referee';
DROP FUNCTION referee.three, referee.escaped;
-- SHOULD NOT BE MENDED: the settings that mallory's policy names
\c - mallory_the_app_user
CREATE TABLE lair.bait (org_id uuid);
CREATE POLICY p ON lair.bait USING (current_setting('session_preload_libraries') = '' AND current_setting('log_statement') = '' AND current_setting('crm_tree.guard') = '' AND current_setting('lair.word') = '');
\c - :super
ALTER ROLE trudy_of_two_orgs SET log_statement = 'all';
ALTER ROLE trudy_of_two_orgs SET session_preload_libraries = 'crm_tree';
ALTER ROLE trudy_of_two_orgs SET lair.word = 'x';
SELECT * FROM referee.told WHERE code IN ('kept_setting', 'parameter_grant') AND object !~ 'guard';
ALTER ROLE trudy_of_two_orgs RESET ALL;
DROP TABLE lair.bait;
-- SHOULD BE TOLD: the end of a watch by whoever owns the schema
CREATE SCHEMA sales AUTHORIZATION oscar_the_owner;
SELECT crm_tree.watch_schema('sales', 'refuse');
\c - oscar_the_owner
ALTER SCHEMA sales RENAME TO sold;
DROP SCHEMA sold;
\c - :super
SELECT kind, detail FROM crm_tree.wall_event WHERE kind = 'watch' ORDER BY id;
-- SHOULD FAIL: a foreign table where none without a wall is to be
CREATE SCHEMA sales;
SELECT crm_tree.watch_schema('sales', 'refuse');
CREATE FOREIGN DATA WRAPPER lair_fdw;
CREATE SERVER lair_server FOREIGN DATA WRAPPER lair_fdw;
CREATE FOREIGN TABLE sales.far (org_id uuid) SERVER lair_server;
SELECT crm_tree.watch_schema('sales', 'protect');
SET client_min_messages = warning;
CREATE FOREIGN TABLE sales.far (org_id uuid) SERVER lair_server;
SET client_min_messages = error;
DROP SCHEMA sales CASCADE;
DROP FOREIGN DATA WRAPPER lair_fdw CASCADE;
-- SHOULD BE TOLD: a wall that is down, whatever the database's owner has set
SET session_replication_role = replica;
ALTER TABLE app.note NO FORCE ROW LEVEL SECURITY;
RESET session_replication_role;
SET quote_all_identifiers = on;
SELECT code, object FROM crm_tree.check_restore();
RESET quote_all_identifiers;
ALTER TABLE app.note FORCE ROW LEVEL SECURITY;
SELECT code, object FROM crm_tree.check_restore();
-- SHOULD BE NAMED: a partition that was given to a superuser; rights that the server and the extension keep to themselves
DO $$ BEGIN EXECUTE format('ALTER TABLE app.deal_late OWNER TO %I', session_user); END $$;
GRANT EXECUTE ON FUNCTION pg_read_binary_file(text), lo_import(text) TO mallory_the_app_user;
GRANT SELECT ON pg_catalog.pg_statistic TO mallory_the_app_user;
GRANT EXECUTE ON FUNCTION crm_tree.alter_table(regclass, text), crm_tree.revoke_org(text, bigint), crm_tree.withdraw_finding(text, text) TO mallory_the_app_user;
CREATE FUNCTION lair.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
ALTER FUNCTION lair.on_ddl() OWNER TO mallory_the_app_user;
CREATE EVENT TRIGGER lair_on_ddl ON ddl_command_end EXECUTE FUNCTION lair.on_ddl();
CREATE FOREIGN DATA WRAPPER lair_fdw;
CREATE SERVER lair_server FOREIGN DATA WRAPPER lair_fdw;
CREATE USER MAPPING FOR PUBLIC SERVER lair_server OPTIONS (user 'someone', password_required 'false');
SELECT * FROM referee.told WHERE object ~ 'deal_late|mallory|lair';
DROP EVENT TRIGGER lair_on_ddl;
SELECT fix FROM referee.told WHERE object ~ 'mallory|lair'
\gexec
SELECT * FROM referee.told WHERE object ~ 'mallory|lair';
ALTER TABLE app.deal_late OWNER TO oscar_the_owner;
DROP FUNCTION lair.on_ddl;
DROP FOREIGN DATA WRAPPER lair_fdw CASCADE;
DROP VIEW referee.told;
DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM oscar_the_owner', current_database()); END $$;
SELECT crm_tree.grant_org('oscar_the_owner', :acme);
SELECT referee.globex();
