-- Cursors that stay open while the binding changes: a pool hands the connection, and the cursor with
-- it, to the next org's client.
-- Attacker: trudy, whose connection a pool hands from org to org.
-- To gain: the last org's rows, from a cursor that is still open.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set initech '''cccccccc-0000-4000-8000-00000000000c''::uuid'
\c - trudy_of_two_orgs

-- SHOULD FAIL: a holdable cursor of a transaction-scoped binding
BEGIN;
SELECT crm_tree.bind_org(:acme);
DECLARE held CURSOR WITH HOLD FOR SELECT secret FROM app.account ORDER BY id;
COMMIT;
SELECT name FROM pg_cursors;
FETCH ALL FROM held;
\c -
-- SHOULD FAIL: fetched from, and through a savepoint
BEGIN;
SELECT crm_tree.bind_org(:acme);
SAVEPOINT s;
DECLARE held SCROLL CURSOR WITH HOLD FOR SELECT secret FROM app.account ORDER BY id;
FETCH 1 FROM held;
RELEASE s;
COMMIT;
SELECT name FROM pg_cursors;
FETCH ALL FROM held;
\c -
-- SHOULD FAIL: declared before the binding, to be filled with it at commit; by EXECUTE; after unbind()
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT crm_tree.current_org_text() FROM generate_series(1, 2);
ROLLBACK;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT 1;
SELECT crm_tree.bind_org(:acme);
ROLLBACK;
DO $$ BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT secret FROM app.account';
END $$;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.unbind();
DECLARE held CURSOR WITH HOLD FOR SELECT 1;
ROLLBACK;
-- SHOULD FAIL: declared in a transaction that began behind the statement's own beginning, before anything of the extension was called;
-- and tried again where the first look for it failed
CREATE FUNCTION lair.accounts() RETURNS SETOF app.account LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'SELECT * FROM app.account'; END $$;
\c -
DO $$ BEGIN
    COMMIT;
    EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT secret FROM lair.accounts()';
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
END $$;
SELECT name FROM pg_cursors;
\c -
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT secret FROM lair.accounts();
CREATE FUNCTION pg_temp.deep() RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    BEGIN
        found := pg_temp.deep();
        IF found IS NOT NULL THEN RETURN found; END IF;
    EXCEPTION WHEN statement_too_complex THEN NULL;
    END;
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    RETURN 'bound';
EXCEPTION WHEN statement_too_complex THEN RETURN NULL; WHEN OTHERS THEN RETURN SQLERRM;
END $$;
SELECT pg_temp.deep();
COMMIT;
CLOSE ALL;
DROP FUNCTION lair.accounts;
-- SHOULD FAIL: bound by the cursor's own query while it is planned, the first that calls the extension
CREATE FUNCTION lair.binds() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    RETURN 1;
END $$;
\c -
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT secret FROM app.account WHERE id = lair.binds();
COMMIT;
SELECT name FROM pg_cursors;
DROP FUNCTION lair.binds;
\c -
-- One that an earlier transaction left, before the library was there, stands in nobody's way
BEGIN;
DECLARE kept CURSOR WITH HOLD FOR SELECT 'of no org';
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(:acme);
COMMIT;
CLOSE kept;
-- Unbound they are nobody's business.
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT 'of no org';
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(:acme);
FETCH ALL FROM held;
COMMIT;
CLOSE held;
\c -
-- SHOULD FAIL: opened in a bound session, read after it was bound to another org
SELECT crm_tree.bind_session(:acme);
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT secret FROM app.account ORDER BY id;
COMMIT;
SELECT crm_tree.unbind();
FETCH ALL FROM held;
SELECT crm_tree.bind_session(:initech);
FETCH ALL FROM held;
DISCARD ALL;

\c -
-- SHOULD GAIN NOTHING: an ordinary cursor after unbind reads acme's rows at most, and ends with the transaction
BEGIN;
SELECT crm_tree.bind_org(:acme);
DECLARE c SCROLL CURSOR FOR SELECT secret FROM app.account ORDER BY id;
FETCH 1 FROM c;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_org(:initech);
ROLLBACK;
FETCH ALL FROM c;
-- SHOULD FAIL: opened unbound, to be filled once a binding is there
BEGIN;
DECLARE c CURSOR FOR SELECT secret FROM app.account;
ROLLBACK;

-- SHOULD GAIN NOTHING: a procedure's loop that commits and rebinds under its own cursor sees the org it began with
CREATE PROCEDURE lair.hold() LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
    PERFORM crm_tree.bind_org('cccccccc-0000-4000-8000-00000000000c'::uuid);
    FOR r IN SELECT org_id, secret FROM app.account ORDER BY id LOOP
        RAISE NOTICE '%', r.secret;
        COMMIT;
        PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    END LOOP;
END $$;
CALL lair.hold();
DROP PROCEDURE lair.hold();

-- SHOULD FAIL: a temporary copy is the client's own doing, but nothing is copied without a binding
CREATE TEMP TABLE copy AS SELECT * FROM app.account;
\c - :super
SELECT referee.globex();
