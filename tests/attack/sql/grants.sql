-- Grants: who may bind is decided by oid and name of the role together, and by real membership.
-- Attacker: ned, nora's member victor, and mallory: roles that look like one that was granted globex.
-- To gain: the grant of another role.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set globex '''bbbbbbbb-0000-4000-8000-00000000000b''::uuid'
CREATE ROLE ned_of_globex LOGIN;
SELECT crm_tree.grant_org('ned_of_globex', :globex, for_session => true);
-- SHOULD FAIL: a new role of a dropped role's name
DROP ROLE ned_of_globex;
CREATE ROLE ned_of_globex LOGIN;
\c - ned_of_globex
BEGIN;
SELECT crm_tree.bind_org(:globex);
ROLLBACK;
SELECT crm_tree.bind_session(:globex);
-- SHOULD FAIL: a role renamed to a granted one's name, and the granted one renamed away
\c - :super
SELECT crm_tree.grant_org('ned_of_globex', :globex);
ALTER ROLE ned_of_globex RENAME TO ned_the_former;
CREATE ROLE ned_of_globex LOGIN;
\c - ned_of_globex
BEGIN;
SELECT crm_tree.bind_org(:globex);
ROLLBACK;
\c - ned_the_former
BEGIN;
SELECT crm_tree.bind_org(:globex);
ROLLBACK;
\c - :super
DROP ROLE ned_of_globex;
DROP ROLE ned_the_former;
-- SHOULD FAIL: a member that does not inherit has the privileges only after SET ROLE
CREATE ROLE nora_of_globex;
CREATE ROLE victor_the_member LOGIN NOINHERIT;
GRANT nora_of_globex TO victor_the_member;
SELECT crm_tree.grant_org('nora_of_globex', :globex);
\c - victor_the_member
BEGIN;
SELECT crm_tree.bind_org(:globex);
ROLLBACK;
-- SHOULD FAIL: the grant's holder is a member of the attacker's role, not the other way round
\c - :super
GRANT mallory_the_app_user TO nora_of_globex;
\c - mallory_the_app_user
BEGIN;
SELECT crm_tree.bind_org(:globex);
ROLLBACK;
-- SHOULD FAIL: a definer function lends its owner's grants, not those of who calls it
\c - :super
GRANT CREATE ON SCHEMA lair TO eve_without_grant;
\c - eve_without_grant
CREATE FUNCTION lair.bind_for_me(org uuid) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT crm_tree.bind_org(org)';
\c - mallory_the_app_user
BEGIN;
SELECT lair.bind_for_me(:acme);
ROLLBACK;
-- SHOULD FAIL: a grant taken back
\c - :super
DROP FUNCTION lair.bind_for_me(uuid);
SELECT crm_tree.revoke_org('nora_of_globex', :globex);
SELECT crm_tree.revoke_org('nora_of_globex', :globex);
SET SESSION AUTHORIZATION victor_the_member;
SET ROLE nora_of_globex;
BEGIN;
SELECT crm_tree.bind_org(:globex);
ROLLBACK;
RESET SESSION AUTHORIZATION;
-- SHOULD FAIL: giving oneself a grant
\c - mallory_the_app_user
SELECT crm_tree.grant_org('mallory_the_app_user', :globex);
SELECT crm_tree.grant_org('mallory_the_app_user', '*');
SELECT crm_tree.revoke_org('mallory_the_app_user', :acme);
\c - :super
REVOKE mallory_the_app_user FROM nora_of_globex;
DROP ROLE victor_the_member;
DROP ROLE nora_of_globex;
SELECT referee.globex();
