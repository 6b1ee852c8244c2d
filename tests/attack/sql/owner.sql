-- The owner: row security is forced on him too. (His DDL: see `ddl`.)
-- Attacker: oscar, who owns the tables, and sybil, a member of his role.
-- To gain: every org, without asking for one.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - oscar_the_owner
-- SHOULD FAIL: reading and writing unbound
SELECT count(*) FROM app.account;
SELECT count(*) FROM app.deal_late;
UPDATE app.account SET secret = 'x';
DELETE FROM app.contact;
-- SHOULD GAIN NOTHING: bound, he has that org
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.account ORDER BY id;
UPDATE app.contact SET secret = 'x';
DELETE FROM app.deal;
ROLLBACK;
-- SHOULD FAIL: a member of the owner's role, as himself and as the owner
\c - sybil_of_the_owners
SELECT count(*) FROM app.account;
UPDATE app.contact SET secret = 'x';
SELECT crm_tree.unprotect('app.account');
SET ROLE oscar_the_owner;
SELECT count(*) FROM app.account;
\c - sybil_of_the_owners
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.account ORDER BY id;
ROLLBACK;
\c - oscar_the_owner
-- SHOULD FAIL: row_security off does not let him through, it only says so
SET row_security = off;
SELECT count(*) FROM app.account;
SET row_security = on;
-- SHOULD FAIL: the wall comes down only for those who were granted that
SELECT crm_tree.unprotect('app.account');
SELECT crm_tree.grant_org('oscar_the_owner', '*');
SELECT crm_tree.revoke_org('mallory_the_app_user', 'acme');
-- SHOULD GAIN NOTHING: raised again it is the same wall
SET client_min_messages = error;
SELECT crm_tree.protect('app.contact');
SELECT count(*) FROM app.contact;
-- SHOULD FAIL: raised on another column, which would let whoever fills that one decide who reads what
SELECT crm_tree.protect('app.contact', 'email');
SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'app.contact'::regclass AND polname = 'crm_tree_wall';
BEGIN;
ALTER TABLE app.contact ADD COLUMN everybody bigint DEFAULT 7;
SELECT crm_tree.protect('app.contact', 'everybody');
ROLLBACK;
-- SHOULD FAIL: a tree whose orgs are not the wall's: its maintenance, which goes past row security, would cross them
BEGIN;
ALTER TABLE app.account ADD COLUMN everybody bigint NOT NULL DEFAULT 7;
SELECT crm_tree.attach_tree('app.account', 'id', 'parent', org => 'everybody');
ROLLBACK;
-- SHOULD FAIL: another's table
\c - mallory_the_app_user
SELECT crm_tree.protect('app.account');
SELECT crm_tree.unprotect('app.account');
SELECT crm_tree.attach_tree('app.account', 'id', 'parent');
SELECT crm_tree.detach_tree('app.account');
ALTER TABLE app.account DISABLE ROW LEVEL SECURITY;
ALTER TABLE app.account DISABLE TRIGGER ALL;
DROP POLICY crm_tree_wall ON app.account;
CREATE POLICY mine ON app.account USING (true);
SET session_replication_role = replica;
\c - :super
-- SHOULD GAIN NOTHING: a second, permissive policy of the owner's own: the wall is restrictive
SET ROLE oscar_the_owner;
CREATE POLICY everything ON app.contact USING (true) WITH CHECK (true);
\c - mallory_the_app_user
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.contact;
INSERT INTO app.contact VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'm@m.test', 'x');
ROLLBACK;
SELECT count(*) FROM app.contact;
-- SHOULD FAIL: the wall dropped, past the event triggers, leaves a closed table, not an open one
\c - :super
SET session_replication_role = replica;
SET ROLE oscar_the_owner;
DROP POLICY everything ON app.contact;
BEGIN;
DROP POLICY crm_tree_wall ON app.contact;
SELECT count(*) FROM app.contact;
ROLLBACK;
RESET ROLE;
SELECT referee.globex();
