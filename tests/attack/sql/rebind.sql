-- Rebinding: one injected call in a transaction that is bound already would read a second org. trudy
-- may bind both, so that only "written once" stands in the way.
-- Attacker: trudy, who may bind two orgs: an injected call in a bound transaction.
-- To gain: a second org's rows in the same transaction.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set initech '''cccccccc-0000-4000-8000-00000000000c''::uuid'
\c - trudy_of_two_orgs

-- SHOULD FAIL: a second org
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
-- SHOULD FAIL: a second user, a user afterwards, and the user left out
BEGIN;
SELECT crm_tree.bind_org(:acme, 'trudy');
SELECT crm_tree.bind_org(:acme, 'the boss');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.bind_org(:acme, 'the boss');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme, 'trudy');
SELECT crm_tree.bind_org(:acme);
ROLLBACK;
-- SHOULD FAIL: after unbind, RESET ALL, ROLLBACK TO, an exception block
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.unbind();
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
RESET ALL;
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT crm_tree.bind_org(:acme);
ROLLBACK TO s;
SELECT crm_tree.is_bound();
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
BEGIN;
DO $$ BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    RAISE 'undo it';
EXCEPTION WHEN raise_exception THEN NULL; END $$;
SELECT crm_tree.is_bound();
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
-- SHOULD FAIL: a session binding over a transaction's, and the other way round
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.bind_session(:initech);
ROLLBACK;
SELECT crm_tree.bind_session(:acme, 'trudy');
BEGIN;
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
-- SHOULD FAIL: in the middle of a transaction, a session binding lifted first
BEGIN;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
BEGIN;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_session(:initech);
ROLLBACK;
BEGIN;
RESET ALL;
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
DO $$ BEGIN PERFORM crm_tree.unbind(); PERFORM crm_tree.bind_session('cccccccc-0000-4000-8000-00000000000c'::uuid); END $$;
SELECT crm_tree.unbind(), crm_tree.bind_session(:initech);
-- SHOULD FAIL: the same org without the user it was bound for
BEGIN;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_org(:acme);
ROLLBACK;
BEGIN;
RESET ALL;
SELECT crm_tree.bind_org(:acme);
ROLLBACK;
BEGIN;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_org(:acme, 'the boss');
ROLLBACK;
-- SHOULD GAIN NOTHING: what undid the binding comes back with the transaction, or is gone for good
SELECT name, crm_tree.current_user_id() FROM app.account ORDER BY id;
DISCARD ALL;
SELECT crm_tree.is_bound();
SELECT count(*) FROM app.account;

-- SHOULD FAIL: in one statement, its rows half under one org and half under the other
BEGIN;
SELECT id, crm_tree.bind_org(CASE id WHEN 1 THEN :acme ELSE :initech END) FROM generate_series(1, 2) id;
ROLLBACK;
CREATE FUNCTION lair.under(org uuid) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.bind_org(org);
    RETURN QUERY SELECT secret FROM app.account;
END $$;
SELECT lair.under(:acme) UNION ALL SELECT lair.under(:initech);
-- SHOULD FAIL: as a statement of its own, where it would bind nothing, and in a parallel worker
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.is_bound();

-- SHOULD GAIN NOTHING: COMMIT AND CHAIN and PREPARE do not carry a binding over
BEGIN;
SELECT crm_tree.bind_org(:acme);
COMMIT AND CHAIN;
SELECT crm_tree.is_bound();
ROLLBACK;

DROP FUNCTION lair.under(uuid);
\c - :super
SELECT referee.globex();
