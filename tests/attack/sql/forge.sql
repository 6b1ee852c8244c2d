-- Forging the binding: whoever can set crm_tree.org himself reads any org.
-- Attacker: mallory, the application's role, also with SET on the parameters; eve, who may bind nothing.
-- To gain: any org at all.
\set SHOW_CONTEXT never
\set super :USER
\c - mallory_the_app_user
SELECT crm_tree.is_bound();

-- SHOULD FAIL: each way of setting a parameter, the library being loaded
SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
SET LOCAL crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
SELECT set_config('crm_tree.org', 'bbbbbbbb-0000-4000-8000-00000000000b', false);
SELECT set_config('crm_tree.org', 'bbbbbbbb-0000-4000-8000-00000000000b', true);
SELECT set_config('crm_tree.user_id', 'the boss', false);
UPDATE pg_settings SET setting = 'bbbbbbbb-0000-4000-8000-00000000000b' WHERE name = 'crm_tree.org';
ALTER ROLE mallory_the_app_user SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
CREATE FUNCTION lair.peek() RETURNS SETOF app.account LANGUAGE sql
    SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b' AS 'SELECT * FROM app.account';
-- SHOULD FAIL: a setting of a new name under the prefix
SET crm_tree.anything = 'x';

-- SHOULD FAIL: the same while bound, where a set value would replace the binding
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid, 'mallory');
SET LOCAL crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid, 'mallory');
SET LOCAL crm_tree.user_id = 'the boss';
ROLLBACK;

-- SHOULD GAIN NOTHING: a placeholder set before the library is loaded. On a server that preloads it
-- the SET itself is refused; on another it is thrown away when the policy loads the library.
\c - mallory_the_app_user
SET client_min_messages = error;
DO $$ BEGIN PERFORM set_config('crm_tree.org', 'bbbbbbbb-0000-4000-8000-00000000000b', false);
EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN PERFORM set_config('crm_tree.user_id', 'the boss', false);
EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT count(*) FROM app.account;
SELECT crm_tree.is_bound(), crm_tree.current_user_id();

-- SHOULD GAIN NOTHING: a placeholder that comes with the role
\c - mallory_the_app_user
SET client_min_messages = error;
DO $$ BEGIN ALTER ROLE mallory_the_app_user SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
EXCEPTION WHEN OTHERS THEN NULL; END $$;
\c - mallory_the_app_user
SET client_min_messages = error;
SELECT count(*) FROM app.account;
SELECT crm_tree.is_bound();
ALTER ROLE mallory_the_app_user RESET ALL;

-- SHOULD FAIL: a function made before the library is loaded, whose SET clause is a placeholder's
\c - mallory_the_app_user
SET client_min_messages = error;
DO $$ BEGIN
    CREATE FUNCTION lair.peek() RETURNS bigint LANGUAGE plpgsql
        SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b'
        AS 'BEGIN RETURN (SELECT count(*) FROM app.account); END';
EXCEPTION WHEN OTHERS THEN
    CREATE FUNCTION lair.peek() RETURNS bigint LANGUAGE plpgsql
        AS 'BEGIN RETURN (SELECT count(*) FROM app.account); END';
END $$;
SELECT lair.peek();
SELECT crm_tree.is_bound();
DO $$ BEGIN PERFORM lair.peek(); RAISE 'read another org';
EXCEPTION WHEN insufficient_privilege OR invalid_parameter_value THEN NULL; END $$;
DROP FUNCTION lair.peek();

-- SHOULD FAIL: with the right to SET it, and as superuser: the setting takes no value from outside
\c - :super
SELECT crm_tree.is_bound();
GRANT SET ON PARAMETER crm_tree.org, crm_tree.user_id TO mallory_the_app_user;
GRANT ALTER SYSTEM ON PARAMETER crm_tree.org TO mallory_the_app_user;
SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
ALTER DATABASE regress SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
ALTER ROLE mallory_the_app_user SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
\c - mallory_the_app_user
SELECT crm_tree.is_bound();
SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
ALTER SYSTEM SET crm_tree.org = 'bbbbbbbb-0000-4000-8000-00000000000b';
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid, 'mallory');
SET LOCAL crm_tree.user_id = 'the boss';
ROLLBACK;
-- SHOULD GAIN NOTHING: emptied, a binding is gone; another cannot take its place
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid, 'mallory');
SET LOCAL crm_tree.org = '';
SELECT crm_tree.is_bound();
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid, 'the boss');
ROLLBACK;
\c - :super
REVOKE ALL ON PARAMETER crm_tree.org, crm_tree.user_id FROM mallory_the_app_user;

-- SHOULD FAIL: binding what was not granted: another org, another form of the same name, any org
\c - mallory_the_app_user
BEGIN;
SELECT crm_tree.bind_org('bbbbbbbb-0000-4000-8000-00000000000b'::uuid);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('BBBBBBBB-0000-4000-8000-00000000000B');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('*');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(8);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('07');
ROLLBACK;
-- SHOULD FAIL: a session binding on a transaction's grant
SELECT crm_tree.bind_session('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
-- SHOULD FAIL: the org that is bound, read as another type
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT count(*) FROM app.account;
ROLLBACK;
\c - eve_without_grant
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
ROLLBACK;
SELECT count(*) FROM app.account;
SELECT secret FROM app.ledger;
SELECT secret FROM app.ticket;
INSERT INTO app.contact VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'eve@eve.test', 'x');
UPDATE app.contact SET secret = 'x';
DELETE FROM app.contact;

\c - :super
SELECT referee.globex();
