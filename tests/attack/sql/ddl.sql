-- The owner's DDL: event triggers look at what each command left of a wall.
-- Attacker: oscar, who owns the tables and may create more.
-- To gain: every org, by taking the wall down, by reading round it, or by confusing who watches it.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - oscar_the_owner
-- SHOULD FAIL: the wall lowered
ALTER TABLE app.contact NO FORCE ROW LEVEL SECURITY;
ALTER TABLE app.contact DISABLE ROW LEVEL SECURITY;
DROP POLICY crm_tree_wall ON app.contact;
ALTER POLICY crm_tree_wall ON app.contact USING (true) WITH CHECK (true);
ALTER POLICY crm_tree_wall ON app.contact TO mallory_the_app_user;
ALTER POLICY crm_tree_base ON app.contact USING (true);
ALTER TABLE app.contact ALTER COLUMN org_id TYPE text;
ALTER TABLE app.contact RENAME COLUMN org_id TO old_org;
ALTER TABLE app.contact DROP COLUMN org_id CASCADE;
-- SHOULD FAIL: in the middle of a transaction, and where the error is caught
BEGIN;
ALTER TABLE app.contact DISABLE ROW LEVEL SECURITY;
ROLLBACK;
DO $$ BEGIN
    BEGIN ALTER TABLE app.contact DISABLE ROW LEVEL SECURITY; EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE 'caught'; END;
    PERFORM count(*) FROM app.contact;
END $$;
-- SHOULD FAIL: TRUNCATE without the trigger that refuses it
DROP TRIGGER crm_tree_refuse_truncate ON app.contact;
BEGIN;
ALTER TABLE app.contact DISABLE TRIGGER ALL;
TRUNCATE app.contact;
ROLLBACK;
CREATE FUNCTION app.refuse_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER crm_tree_refuse_truncate BEFORE TRUNCATE ON app.contact FOR EACH STATEMENT EXECUTE FUNCTION app.refuse_nothing();
DROP FUNCTION app.refuse_nothing();
-- SHOULD FAIL: read through a parent, whose row security is what counts then
CREATE TABLE app.above (org_id uuid NOT NULL, email text NOT NULL, secret text);
ALTER TABLE app.contact INHERIT app.above;
CREATE TABLE app.above_parted (org_id uuid NOT NULL, email text NOT NULL, secret text) PARTITION BY LIST (email);
ALTER TABLE app.above_parted ATTACH PARTITION app.contact DEFAULT;
CREATE TABLE app.between () INHERITS (app.contact, app.above);
DROP TABLE app.above, app.above_parted;
-- SHOULD FAIL: a partition or child made after protect, and one taken out and lowered
BEGIN;
CREATE TABLE app.contact_child () INHERITS (app.contact);
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'app.contact_child'::regclass;
SELECT count(*) FROM app.contact_child;
ROLLBACK;
BEGIN;
ALTER TABLE app.deal DETACH PARTITION app.deal_late;
ALTER TABLE app.deal_late DISABLE ROW LEVEL SECURITY;
ROLLBACK;
BEGIN;
ALTER TABLE app.note_long NO INHERIT app.note;
SELECT count(*) FROM app.note_long;
ROLLBACK;
-- SHOULD FAIL: the org column changes its name with the type of a typed table; a rule that cascades set off
BEGIN;
CREATE TYPE app.as_contact AS (org_id uuid, email text, secret text);
ALTER TABLE app.contact OF app.as_contact;
ALTER TYPE app.as_contact RENAME ATTRIBUTE org_id TO real_org CASCADE;
ROLLBACK;
BEGIN;
CREATE RULE along AS ON DELETE TO app.account DO ALSO INSERT INTO app.account (id, secret) SELECT id + 100, secret FROM app.account;
ROLLBACK;
-- and goes on: DDL under whatever settings
SET quote_all_identifiers = on;
BEGIN;
ALTER TABLE app.contact ADD COLUMN more int;
ROLLBACK;
RESET quote_all_identifiers;
-- SHOULD FAIL: the watchers themselves
ALTER EVENT TRIGGER crm_tree_watch DISABLE;
DROP EVENT TRIGGER crm_tree_watch;
SET session_replication_role = replica;
SELECT crm_tree._watch_relations(NULL, true);
SELECT crm_tree._wall_fell('app.contact'::regclass);
SELECT crm_tree._wall_stands('app.contact'::regclass);
SELECT crm_tree._raise_wall('app.contact', 'email');
SELECT crm_tree._wall_event('forged', NULL, NULL);
SELECT crm_tree.check_restore();
SELECT crm_tree.accept_finding('rls_off', 'app.contact', 'mine');
DELETE FROM crm_tree.wall_standing;
DELETE FROM crm_tree.wall_event;
INSERT INTO crm_tree.wall_pending VALUES (0, 'x');
SELECT crm_tree._wall_is_moving(NULL);
-- SHOULD GAIN NOTHING: protect() moves the wall, and nothing of the owner's runs meanwhile
CREATE FUNCTION app.lower() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RAISE NOTICE ''moving: %'', crm_tree._wall_is_moving(NULL); RETURN true; END';
CREATE TABLE app.trap (org_id uuid, id int, CHECK (app.lower()));
INSERT INTO app.trap VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 1);
CREATE INDEX ON app.trap (org_id) WHERE app.lower();
SELECT crm_tree.protect('app.trap');
DROP TABLE app.trap;
DROP FUNCTION app.lower();
\c - :super
SELECT relation::regclass, fault FROM crm_tree._wall_faults();
SELECT referee.globex();
