-- Changing who one is, and where a transaction ends, with a binding at hand.
-- Attacker: trudy, of two orgs; mallory, who shares a connection with her.
-- To gain: a binding that goes from role to role, or from transaction to transaction.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set initech '''cccccccc-0000-4000-8000-00000000000c''::uuid'
\c - trudy_of_two_orgs
-- SHOULD GAIN NOTHING: COMMIT in a procedure ends the binding
CREATE PROCEDURE lair.commits() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    RAISE NOTICE 'sees %', (SELECT string_agg(secret, ', ' ORDER BY id) FROM app.account);
    COMMIT;
    RAISE NOTICE 'bound: %', crm_tree.is_bound();
    PERFORM crm_tree.bind_org('cccccccc-0000-4000-8000-00000000000c'::uuid);
    RAISE NOTICE 'sees %', (SELECT string_agg(secret, ', ' ORDER BY id) FROM app.account);
    ROLLBACK;
    RAISE NOTICE 'bound: %', crm_tree.is_bound();
    RAISE NOTICE 'sees %', (SELECT string_agg(secret, ', ' ORDER BY id) FROM app.account);
END $$;
CALL lair.commits();
SELECT crm_tree.is_bound();
-- SHOULD FAIL: CALL inside a bound transaction, and a second org by DO
BEGIN;
SELECT crm_tree.bind_org(:initech);
CALL lair.commits();
ROLLBACK;
DROP PROCEDURE lair.commits();
BEGIN;
SELECT crm_tree.bind_org(:acme);
DO $$ BEGIN PERFORM crm_tree.bind_org('cccccccc-0000-4000-8000-00000000000c'::uuid); END $$;
ROLLBACK;
-- SHOULD FAIL: several statements in one message are one transaction, bound once
SELECT crm_tree.bind_org(:acme) \; SELECT crm_tree.bind_org(:initech);
-- SHOULD FAIL: a statement that fails in an exception block does not leave its binding behind
DO $$
BEGIN
    BEGIN
        PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
    RAISE NOTICE 'bound: %', crm_tree.is_bound();
    PERFORM count(*) FROM app.account;
END $$;
-- SHOULD FAIL: SET inside a function's own SET clause, around a binding
CREATE FUNCTION lair.clause() RETURNS bool LANGUAGE plpgsql SET work_mem = '1MB' AS
    'BEGIN PERFORM crm_tree.bind_org(''aaaaaaaa-0000-4000-8000-00000000000a''::uuid); RETURN crm_tree.is_bound(); END';
BEGIN;
SELECT lair.clause();
SELECT crm_tree.is_bound() AS still;
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
DROP FUNCTION lair.clause();
-- SHOULD FAIL: SET FROM CURRENT would keep a binding in a function
SELECT crm_tree.bind_session(:acme);
CREATE FUNCTION lair.kept() RETURNS bigint LANGUAGE sql SET crm_tree.org FROM CURRENT AS 'SELECT count(*) FROM app.account';
SELECT crm_tree.unbind();
-- SHOULD FAIL: another role, bound or not, binds by its own grants
\c - :super
SET SESSION AUTHORIZATION mallory_the_app_user;
BEGIN;
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
RESET SESSION AUTHORIZATION;
GRANT eve_without_grant TO trudy_of_two_orgs;
\c - trudy_of_two_orgs
SET ROLE eve_without_grant;
BEGIN;
SELECT crm_tree.bind_org(:acme);
ROLLBACK;
-- A binding is the transaction's: a role taken on inside it sees that org and may not bind another.
RESET ROLE;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SET LOCAL ROLE eve_without_grant;
SELECT count(*) FROM app.account;
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
SELECT crm_tree.is_bound();
\c - :super
REVOKE eve_without_grant FROM trudy_of_two_orgs;
SELECT referee.globex();
