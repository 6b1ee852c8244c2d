-- Plans that outlive their binding: what was planned for one org must not answer for the next.
-- Attacker: trudy, whose connection keeps plans from org to org.
-- To gain: the rows of the org a plan was made for.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set initech '''cccccccc-0000-4000-8000-00000000000c''::uuid'
\c - trudy_of_two_orgs
CREATE FUNCTION lair.secrets() RETURNS text LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT string_agg(secret, '', '' ORDER BY id) FROM app.account); END';
CREATE FUNCTION lair.who() RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN crm_tree.current_org(); END';
-- SHOULD GAIN NOTHING: each execution shows the org bound at that moment, generic plans and custom ones
SET plan_cache_mode = force_generic_plan;
BEGIN;
SELECT crm_tree.bind_org(:acme);
PREPARE generic AS SELECT secret FROM app.account ORDER BY id;
PREPARE keyed(int) AS SELECT secret FROM app.account WHERE id = $1;
PREPARE parts AS SELECT count(*) FROM app.deal WHERE month >= '2024-01-01';
EXECUTE generic;
EXECUTE keyed(1);
EXECUTE parts;
SELECT lair.secrets();
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(:initech);
EXECUTE generic;
EXECUTE keyed(1);
EXECUTE parts;
SELECT lair.secrets();
COMMIT;
SET plan_cache_mode = force_custom_plan;
BEGIN;
SELECT crm_tree.bind_org(:acme);
EXECUTE keyed(1);
SELECT lair.secrets();
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(:initech);
EXECUTE keyed(1);
SELECT lair.secrets();
COMMIT;
-- SHOULD FAIL: unbound
EXECUTE generic;
EXECUTE keyed(1);
SELECT lair.secrets();
-- SHOULD GAIN NOTHING: a write planned under one org
SET plan_cache_mode = force_generic_plan;
BEGIN;
SELECT crm_tree.bind_org(:acme);
PREPARE put AS INSERT INTO app.contact (email) VALUES ('t@t.test') RETURNING org_id;
PREPARE wipe AS UPDATE app.account SET secret = 'x' RETURNING org_id, id;
EXECUTE put;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:initech);
EXECUTE put;
EXECUTE wipe;
ROLLBACK;
EXECUTE put;
-- SHOULD GAIN NOTHING: an IMMUTABLE wrapper freezes the org in the attacker's own condition, not in the policy
BEGIN;
SELECT crm_tree.bind_org(:acme);
PREPARE frozen AS SELECT secret FROM app.account WHERE org_id = lair.who() ORDER BY id;
EXECUTE frozen;
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(:initech);
EXECUTE frozen;
COMMIT;
-- SHOULD GAIN NOTHING: a plan of one role run by another
\c - :super
SET plan_cache_mode = force_generic_plan;
PREPARE mine AS SELECT count(*) FROM app.account;
EXECUTE mine;
SET ROLE mallory_the_app_user;
EXECUTE mine;
BEGIN;
SELECT crm_tree.bind_org(:acme);
EXECUTE mine;
ROLLBACK;
RESET ROLE;
DROP FUNCTION lair.secrets(), lair.who();
SELECT referee.globex();
