-- Past row security by rank, by what a rank lends, and by the owner's DDL. Row security does not stop
-- these; the guard does, where the library is preloaded.
-- Attackers: dora, who bypasses; mallory, who was lent a superuser's rights; oscar, who owns the tables.
-- To gain: every row of globex. ALL SHOULD FAIL.
\set SHOW_CONTEXT never
\set super :USER
-- The event triggers refuse much of this before; here the guard stands alone.
ALTER EVENT TRIGGER crm_tree_watch DISABLE;
ALTER EVENT TRIGGER crm_tree_watch_drop DISABLE;
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
-- A superuser's session, and his view, function and materialized view granted to mallory
SET crm_tree.guard = enforce;
SELECT count(*) FROM app.contact;
SET crm_tree.guard = off;
CREATE VIEW app.definers AS SELECT * FROM app.contact;
CREATE FUNCTION app.definer() RETURNS SETOF app.contact LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM app.contact';
CREATE MATERIALIZED VIEW app.frozen AS SELECT * FROM app.contact;
GRANT SELECT ON app.definers, app.frozen TO mallory_the_app_user;
\c - mallory_the_app_user
SET crm_tree.guard = off;
SELECT secret FROM app.definers ORDER BY 1;
SELECT secret FROM app.definer() ORDER BY 1;
SELECT secret FROM app.frozen ORDER BY 1;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.definers ORDER BY 1;
ROLLBACK;
\c - :super
DROP VIEW app.definers;
DROP FUNCTION app.definer();
DROP MATERIALIZED VIEW app.frozen;
-- A BYPASSRLS role
CREATE ROLE dora_who_bypasses LOGIN BYPASSRLS IN ROLE pg_read_all_data;
\c - dora_who_bypasses
SELECT count(*) FROM app.contact;
COPY app.contact TO STDOUT;
\c - :super
DROP ROLE dora_who_bypasses;
-- The owner's DDL
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
ALTER POLICY crm_tree_wall ON app.contact RENAME TO mine;
ALTER POLICY mine ON app.contact USING (true);
CREATE POLICY crm_tree_wall ON app.contact AS RESTRICTIVE USING (org_id IS NOT NULL);
ALTER POLICY crm_tree_base ON app.contact USING (true);
SELECT count(*) FROM app.contact;
ROLLBACK;
BEGIN;
DROP TRIGGER crm_tree_refuse_truncate ON app.contact;
TRUNCATE app.contact;
ROLLBACK;
-- A child made after protect, read by its own name
BEGIN;
CREATE TABLE app.contact_child () INHERITS (app.contact);
SELECT count(*) FROM app.contact_child;
ROLLBACK;
-- A foreign key validated by an owner who sees one org only
\c - :super
BEGIN;
ALTER TABLE app.deal DROP CONSTRAINT deal_org_id_account_id_fkey;
INSERT INTO app.deal VALUES ('cccccccc-0000-4000-8000-00000000000c', 1, '2024-06-01', 999, 'dangles');
SET LOCAL crm_tree.guard = enforce;
SET LOCAL ROLE oscar_the_owner;
SELECT crm_tree.bind_org(:acme);
ALTER TABLE app.deal ADD CONSTRAINT half_checked FOREIGN KEY (org_id, account_id) REFERENCES app.account (org_id, id);
ROLLBACK;
-- A trigger reached by a foreign key's cascade, which PostgreSQL runs as the owner past row security
\c - oscar_the_owner
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
-- The setting itself; from PGOPTIONS see tests/server/tests/guard.rs.
\c - mallory_the_app_user
SELECT set_config('crm_tree.guard', 'off', false);
\c - :super
SELECT referee.globex();
\c - :super
ALTER EVENT TRIGGER crm_tree_watch ENABLE ALWAYS;
ALTER EVENT TRIGGER crm_tree_watch_drop ENABLE ALWAYS;
