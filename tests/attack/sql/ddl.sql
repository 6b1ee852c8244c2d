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
-- SHOULD FAIL: another column in the place of the org's, by the type that each table has; and where nobody watched it
ALTER TABLE app.contact ADD COLUMN everybody uuid NOT NULL DEFAULT :acme;
ALTER TYPE app.contact RENAME ATTRIBUTE org_id TO real_org;
\c - :super
SET session_replication_role = replica;
SET client_min_messages = error;
ALTER TYPE app.contact RENAME ATTRIBUTE org_id TO real_org;
ALTER TYPE app.contact RENAME ATTRIBUTE everybody TO org_id;
RESET session_replication_role;
SET ROLE oscar_the_owner;
SELECT crm_tree.protect('app.contact');
RESET ROLE;
SET session_replication_role = replica;
ALTER TYPE app.contact RENAME ATTRIBUTE org_id TO everybody;
ALTER TYPE app.contact RENAME ATTRIBUTE real_org TO org_id;
RESET session_replication_role;
\c - oscar_the_owner
ALTER TABLE app.contact DROP COLUMN everybody;
-- SHOULD FAIL: a restrictive policy that is asked before the wall, of every org's rows: made, renamed, and there before the wall
CREATE FUNCTION app.shout(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 SET search_path = pg_catalog AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END';
CREATE POLICY aaa ON app.contact AS RESTRICTIVE USING (app.shout(secret));
CREATE POLICY "Zorro" ON app.contact AS RESTRICTIVE USING (app.shout(secret));
CREATE POLICY zorro ON app.contact AS RESTRICTIVE USING (app.shout(secret));
ALTER POLICY zorro ON app.contact RENAME TO b;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT count(*) FROM app.contact;
ROLLBACK;
DROP POLICY zorro ON app.contact;
CREATE TABLE app.early (org_id uuid NOT NULL, secret text);
CREATE POLICY aaa ON app.early AS RESTRICTIVE USING (app.shout(secret));
SELECT crm_tree.protect('app.early');
ALTER POLICY aaa ON app.early RENAME TO zz_aaa;
SELECT crm_tree.protect('app.early');
DROP TABLE app.early;
DROP FUNCTION app.shout;
-- SHOULD FAIL: temporary children, which nothing sees go
CREATE TEMP TABLE fleeting () INHERITS (app.note);
-- SHOULD FAIL: walls moved, and protected tables altered, by a snapshot that is kept
BEGIN ISOLATION LEVEL REPEATABLE READ;
ALTER TABLE app.contact ADD COLUMN more int;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT crm_tree.protect('app.contact');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
DROP POLICY crm_tree_wall ON app.contact;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
ALTER TYPE app.contact RENAME ATTRIBUTE org_id TO real_org;
ROLLBACK;
-- and goes on: what has to do with no wall
BEGIN ISOLATION LEVEL REPEATABLE READ;
CREATE TEMP TABLE mine AS SELECT 1 AS one;
CREATE TABLE app.plain (x int);
ALTER TABLE app.plain ADD y int;
DROP TABLE mine, app.plain;
COMMIT;
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
-- SHOULD GAIN NOTHING: a wall that is lowered and put up again within one command, which runs a function of the owner's meanwhile
CREATE TABLE app.parent (org_id uuid NOT NULL, email text, secret text);
CREATE TABLE app.kid (LIKE app.contact INCLUDING ALL);
INSERT INTO app.kid VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 'kid@acme.test', 'acme kid');
ALTER TABLE app.kid INHERIT app.contact;
CREATE TABLE app.loot (told text);
CREATE FUNCTION app.meanwhile(scanned oid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    n int;
BEGIN
    IF scanned = 'app.kid'::regclass AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'app.contact'::regclass) THEN
        INSERT INTO app.loot SELECT secret FROM app.parent;
        UPDATE app.parent SET secret = 'MINE' WHERE tableoid = 'app.contact'::regclass;
        GET DIAGNOSTICS n = ROW_COUNT;
        INSERT INTO app.loot VALUES (format('%s updated', n));
        DELETE FROM app.parent WHERE tableoid = 'app.contact'::regclass;
        GET DIAGNOSTICS n = ROW_COUNT;
        INSERT INTO app.loot VALUES (format('%s deleted', n));
        ALTER TABLE app.contact NO INHERIT app.parent;
    ELSIF scanned = 'app.kid'::regclass AND EXISTS (SELECT FROM pg_class WHERE oid = 'app.contact'::regclass AND NOT relforcerowsecurity) THEN
        BEGIN
            INSERT INTO app.loot SELECT secret FROM app.contact;
            UPDATE app.contact SET secret = 'MINE';
            GET DIAGNOSTICS n = ROW_COUNT;
            INSERT INTO app.loot VALUES (format('%s updated', n));
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
        ALTER TABLE app.contact FORCE ROW LEVEL SECURITY;
    END IF;
    RETURN true;
END $$;
ALTER TABLE app.contact INHERIT app.parent, ADD CONSTRAINT meanwhile CHECK (app.meanwhile(tableoid));
ALTER TABLE app.contact DROP CONSTRAINT IF EXISTS meanwhile;
ALTER TABLE app.contact NO FORCE ROW LEVEL SECURITY, ADD CONSTRAINT meanwhile CHECK (app.meanwhile(tableoid));
ALTER TABLE app.contact DROP CONSTRAINT IF EXISTS meanwhile;
SELECT told FROM app.loot;
DROP TABLE app.kid, app.parent, app.loot;
DROP FUNCTION app.meanwhile;
-- SHOULD FAIL: a key by which whoever writes to a table without a wall moves rows from org to org
CREATE TABLE app.org (id uuid PRIMARY KEY);
INSERT INTO app.org SELECT DISTINCT ('bbbbbbbb-0000-4000-8000-00000000000b')::uuid;
ALTER TABLE app.contact ADD FOREIGN KEY (org_id) REFERENCES app.org ON UPDATE CASCADE NOT VALID;
ALTER TABLE app.contact ADD FOREIGN KEY (org_id) REFERENCES app.org ON DELETE SET DEFAULT NOT VALID;
CREATE TABLE app.keyed (org_id uuid REFERENCES app.org ON UPDATE SET NULL, id int);
SELECT crm_tree.protect('app.keyed');
DROP TABLE app.keyed, app.org;
-- SHOULD FAIL: a table of a type that goes with the session
CREATE TYPE pg_temp.fleeting_type AS (org_id uuid, email text, secret text);
ALTER TABLE app.contact OF pg_temp.fleeting_type;
CREATE TABLE app.typed OF pg_temp.fleeting_type;
SELECT crm_tree.protect('app.typed');
DROP TABLE app.typed;
-- and goes on: one that compares the orgs
CREATE TABLE app.above (org_id uuid, id int, PRIMARY KEY (org_id, id));
CREATE TABLE app.below (org_id uuid, id int, above int, FOREIGN KEY (org_id, above) REFERENCES app.above ON UPDATE CASCADE);
SELECT crm_tree.protect('app.below');  -- not before what it refers to
SELECT crm_tree.protect('app.above');
SELECT crm_tree.protect('app.below');
DROP TABLE app.below, app.above;
\c - :super
SELECT relation::regclass, fault FROM crm_tree._wall_faults();
SELECT referee.globex();
