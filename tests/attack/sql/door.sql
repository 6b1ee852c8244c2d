-- Attacker: dora, who may open the service door to read across orgs. To gain: to write behind it, and to leave something there that reads
-- when it is closed.
SET client_min_messages = warning;
CREATE ROLE dora_at_the_door LOGIN;
GRANT USAGE ON SCHEMA app TO dora_at_the_door, crm_tree_service;
GRANT SELECT ON app.note TO dora_at_the_door, crm_tree_service;
SELECT crm_tree.grant_service_door('dora_at_the_door');
\set VERBOSITY terse
\set SHOW_CONTEXT never

\c - dora_at_the_door
PREPARE total AS SELECT count(*) > 0 AS reads FROM app.note;
BEGIN; SELECT crm_tree.open_service_door('the books'); EXECUTE total; COMMIT;

-- SHOULD FAIL: the server checks what is SET, and not what is RESET
BEGIN; SELECT crm_tree.open_service_door('reset'); RESET transaction_read_only;
CREATE FUNCTION pg_temp.later() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM app.note';
ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('default'); SET LOCAL transaction_read_only TO DEFAULT;
SELECT 1;
COMMIT;
BEGIN; SELECT crm_tree.open_service_door('null'); SELECT set_config('transaction_read_only', NULL, true);
EXECUTE total;
ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('all at once');
DO $$ BEGIN
    PERFORM set_config('transaction_read_only', NULL, true);
    EXECUTE 'CREATE TABLE pg_temp.kept AS SELECT * FROM app.note';
END $$;
ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('and gone'); RESET transaction_read_only; COMMIT;
BEGIN; SELECT crm_tree.open_service_door('in one');
SELECT set_config('transaction_read_only', NULL, true), lo_from_bytea(4711, (SELECT string_agg(secret, ',') FROM app.note)::bytea);
COMMIT;
SELECT count(*) FROM pg_largeobject_metadata WHERE oid = 4711;
EXECUTE total;

-- SHOULD GAIN NOTHING: opened in a function that sets a role, whose end puts that back and not the flag
\c - postgres
CREATE FUNCTION lair.opens() RETURNS text LANGUAGE plpgsql SET role = 'dora_at_the_door' AS 'BEGIN PERFORM crm_tree.open_service_door(''in a role''); RETURN current_user; END';
\c - dora_at_the_door
BEGIN; SELECT lair.opens(); SELECT current_user; ROLLBACK;
DISCARD ALL;
BEGIN; SELECT lair.opens(); COMMIT;
DISCARD ALL;
SELECT current_user;

-- SHOULD FAIL where the library is preloaded: a function of the service role's own is no door
\c - postgres
SET client_min_messages = error;
CREATE FUNCTION lair.lent() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN (SELECT count(*) FROM app.note); END';
GRANT CREATE ON SCHEMA lair TO crm_tree_service;
ALTER FUNCTION lair.lent() OWNER TO crm_tree_service;
\c - dora_at_the_door
SELECT crm_tree.is_bound();
SELECT lair.lent();
BEGIN; SELECT crm_tree.open_service_door('lent'); SELECT lair.lent() > 0 AS reads; COMMIT;

\c - postgres
SET client_min_messages = warning;
DROP FUNCTION lair.lent(), lair.opens();
REVOKE CREATE ON SCHEMA lair FROM crm_tree_service;
REVOKE USAGE ON SCHEMA app FROM crm_tree_service;
REVOKE SELECT ON app.note FROM crm_tree_service;
SELECT crm_tree.revoke_service_door('dora_at_the_door');
DROP OWNED BY dora_at_the_door;
DROP ROLE dora_at_the_door;
