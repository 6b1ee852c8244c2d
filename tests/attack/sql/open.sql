-- KNOWN TO BE OPEN: these get through today. Each needs the guard, the event triggers or the audit, which
-- this version does not have; README.md lists them with what to do meanwhile. They are run here so
-- that nobody believes them closed, and so that closing one shows as a difference.
-- Everything below is done by, or with the leave of, an owner or a superuser.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
-- OPEN: a superuser's session, and his view, function and materialized view granted to an ordinary role
SELECT count(*) FROM app.contact;
CREATE VIEW app.definers AS SELECT * FROM app.contact;
CREATE FUNCTION app.definer() RETURNS SETOF app.contact LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM app.contact';
CREATE MATERIALIZED VIEW app.frozen AS SELECT * FROM app.contact;
GRANT SELECT ON app.definers, app.frozen TO mallory_the_app_user;
\c - mallory_the_app_user
SELECT secret FROM app.definers ORDER BY 1;
SELECT secret FROM app.definer() ORDER BY 1;
SELECT secret FROM app.frozen ORDER BY 1;
\c - :super
DROP VIEW app.definers;
DROP FUNCTION app.definer();
DROP MATERIALIZED VIEW app.frozen;
-- OPEN: a BYPASSRLS role
CREATE ROLE dora_who_bypasses LOGIN BYPASSRLS IN ROLE pg_read_all_data;
\c - dora_who_bypasses
SELECT count(*) FROM app.contact;
\c - :super
DROP ROLE dora_who_bypasses;
-- OPEN: the owner's DDL
\c - oscar_the_owner
BEGIN;
ALTER TABLE app.contact NO FORCE ROW LEVEL SECURITY;
SELECT count(*) FROM app.contact;
ROLLBACK;
BEGIN;
ALTER TABLE app.contact DISABLE ROW LEVEL SECURITY;
SELECT count(*) FROM app.contact;
ROLLBACK;
BEGIN;
DROP POLICY crm_tree_wall ON app.contact;
ALTER POLICY crm_tree_base ON app.contact USING (true);
SELECT count(*) FROM app.contact;
ROLLBACK;
BEGIN;
DROP TRIGGER crm_tree_refuse_truncate ON app.contact;
TRUNCATE app.contact;
ROLLBACK;
-- OPEN: a partition or child made after protect has no wall
BEGIN;
CREATE TABLE app.contact_child () INHERITS (app.contact);
SELECT relrowsecurity FROM pg_class WHERE oid = 'app.contact_child'::regclass;
ROLLBACK;
-- OPEN: a foreign key validated by an owner who sees one org only is marked valid for all
\c - :super
BEGIN;
ALTER TABLE app.deal DROP CONSTRAINT deal_org_id_account_id_fkey;
INSERT INTO app.deal VALUES ('cccccccc-0000-4000-8000-00000000000c', 1, '2024-06-01', 999, 'dangles');
SET LOCAL ROLE oscar_the_owner;
SELECT crm_tree.bind_org(:acme);
ALTER TABLE app.deal ADD CONSTRAINT half_checked FOREIGN KEY (org_id, account_id) REFERENCES app.account (org_id, id);
SELECT convalidated FROM pg_constraint WHERE conname = 'half_checked' AND conrelid = 'app.deal'::regclass;
ROLLBACK;
-- OPEN: a trigger reached by a foreign key's cascade: PostgreSQL runs that as the owner past row security.
-- So it is with ON DELETE actions of any table, and with trees attached with on_delete cascade or rootify.
SET ROLE oscar_the_owner;
SET client_min_messages = error;
BEGIN;
CREATE TABLE app.task (org_id uuid, id int, account_id int, PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES app.account (org_id, id) ON DELETE CASCADE);
SELECT crm_tree.protect('app.task');
CREATE FUNCTION app.count_contacts() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE NOTICE ''sees % contacts'', (SELECT count(*) FROM app.contact); RETURN OLD; END';
CREATE TRIGGER count_contacts BEFORE DELETE ON app.task FOR EACH ROW EXECUTE FUNCTION app.count_contacts();
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (id) VALUES (50);
INSERT INTO app.task VALUES (DEFAULT, 1, 50);
SET LOCAL client_min_messages = notice;
DELETE FROM app.account WHERE id = 50;
ROLLBACK;
RESET client_min_messages;
RESET ROLE;
\c - oscar_the_owner
-- OPEN: he lists the orgs of a tree of his, and mends all of them, unbound. Jobs need that.
SELECT count(*) FROM crm_tree._tree_orgs('app.account');
-- OPEN: REFERENCES on a protected table tells which keys other orgs have
GRANT REFERENCES ON app.contact TO mallory_the_app_user;
\c - mallory_the_app_user
CREATE TABLE lair.probe (org_id uuid, email text, FOREIGN KEY (org_id, email) REFERENCES app.contact);
INSERT INTO lair.probe VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'nobody@x.test');
INSERT INTO lair.probe VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'bob@globex.test');
DROP TABLE lair.probe;
-- OPEN: temporary tables of a pooled connection outlive the binding, and catch another org's statements
BEGIN;
SELECT crm_tree.bind_org(:acme);
CREATE TEMP TABLE contact AS SELECT * FROM app.contact;
COMMIT;
SELECT secret FROM contact;
\c - :super
REVOKE REFERENCES ON app.contact FROM mallory_the_app_user;
SELECT referee.globex();
