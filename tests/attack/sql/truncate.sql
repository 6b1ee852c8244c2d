-- TRUNCATE ignores row security: one statement empties every org.
-- Attacker: mallory, with TRUNCATE.
-- To gain: every org's rows destroyed.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - :super
CREATE TABLE app.parent_of_all (k int PRIMARY KEY);
ALTER TABLE app.parent_of_all OWNER TO oscar_the_owner;
ALTER TABLE app.contact ADD COLUMN k int REFERENCES app.parent_of_all;
GRANT TRUNCATE ON app.account, app.deal, app.deal_late, app.contact, app.parent_of_all TO mallory_the_app_user;
\c - mallory_the_app_user
-- SHOULD FAIL
TRUNCATE app.contact;
TRUNCATE app.deal;
TRUNCATE app.deal_late;
TRUNCATE ONLY app.deal_late;
TRUNCATE app.account, app.deal;
-- SHOULD FAIL: reached through a foreign key
TRUNCATE app.parent_of_all CASCADE;
BEGIN;
SELECT crm_tree.bind_org(:acme);
TRUNCATE app.contact;
ROLLBACK;
-- SHOULD FAIL: for the owner and for a superuser, with triggers switched to replica too
\c - oscar_the_owner
TRUNCATE app.account CASCADE;
\c - :super
TRUNCATE app.contact;
SET session_replication_role = replica;
TRUNCATE app.contact;
TRUNCATE app.deal_early;
RESET session_replication_role;
REVOKE TRUNCATE ON ALL TABLES IN SCHEMA app FROM mallory_the_app_user;
ALTER TABLE app.contact DROP COLUMN k;
DROP TABLE app.parent_of_all;
SELECT referee.globex();
