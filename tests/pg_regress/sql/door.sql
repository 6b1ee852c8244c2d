-- The service door: across orgs, read-only, until the transaction ends, and never without a trace.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE door_owner NOLOGIN;
CREATE ROLE door_billing NOLOGIN;
CREATE ROLE door_clerk NOLOGIN IN ROLE door_billing;
CREATE ROLE door_nobody NOLOGIN;
CREATE SCHEMA door AUTHORIZATION door_owner;
GRANT USAGE ON SCHEMA door TO PUBLIC;
SET ROLE door_owner;
CREATE TABLE door.usage (org int, id int, n int, PRIMARY KEY (org, id));
INSERT INTO door.usage SELECT o, i, o * i FROM generate_series(1, 3) o, generate_series(1, 4000) i;
SELECT crm_tree.protect('door.usage', 'org');
CREATE TABLE door.secret (org int PRIMARY KEY);
SELECT crm_tree.protect('door.secret', 'org');
CREATE VIEW door.as_owner AS SELECT * FROM door.usage;
CREATE VIEW door.as_invoker WITH (security_invoker = true) AS SELECT * FROM door.usage;
GRANT SELECT, INSERT, UPDATE, DELETE ON door.usage, door.as_owner, door.as_invoker TO door_billing, door_nobody;
GRANT SELECT ON door.usage, door.as_owner, door.as_invoker TO crm_tree_service;
RESET ROLE;
SELECT crm_tree.grant_org('door_billing', 1);
SET crm_tree.guard = enforce;
SELECT rolcanlogin, rolbypassrls, rolsuper, (SELECT count(*) FROM pg_auth_members WHERE roleid = r.oid) AS members
  FROM pg_roles r WHERE rolname = 'crm_tree_service';
-- Refused: no grant, no reason, no transaction, a bound one, one that has written, a read-only one, savepoints
SET ROLE door_billing;
BEGIN; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
SELECT crm_tree.grant_service_door('door_billing');
RESET ROLE;
SELECT crm_tree.grant_service_door('door_billing');
SET ROLE door_nobody;
BEGIN; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
SET ROLE door_billing;
SELECT crm_tree.open_service_door('billing');
BEGIN; SELECT crm_tree.open_service_door(E' \n'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.open_service_door('billing'); ROLLBACK;
BEGIN READ ONLY; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
BEGIN; SAVEPOINT s; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
DO $$ BEGIN PERFORM crm_tree.open_service_door('billing'); EXCEPTION WHEN division_by_zero THEN END $$;
BEGIN; SELECT crm_tree.bind_org(1); UPDATE door.usage SET n = n WHERE id = 1; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
BEGIN; CREATE TEMP TABLE t (a int); SELECT crm_tree.open_service_door('billing'); ROLLBACK;
-- Open: all orgs, in prepared and parallel plans, and below savepoints
PREPARE total AS SELECT org, sum(n) FROM door.usage GROUP BY org ORDER BY org;
BEGIN; SELECT crm_tree.bind_org(1); EXECUTE total; COMMIT;
BEGIN;
SELECT crm_tree.open_service_door('billing run of May');
SELECT current_user, crm_tree.is_bound();
EXECUTE total;
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
EXPLAIN (COSTS off) SELECT sum(n) FROM door.usage;
SELECT sum(n) FROM door.usage;
SELECT sum(n) FROM door.as_invoker;
SAVEPOINT s;
SELECT 1 / 0;
ROLLBACK TO s;
SELECT count(*) FROM door.usage;
RELEASE s;
DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN END $$;
SELECT count(*) FROM door.usage;
COMMIT;
SELECT current_user;
EXECUTE total;
-- A view is its owner's, who is behind the wall; what the service role was not granted stays closed; nothing is
-- written, nobody is somebody else, and nothing outlives it.
BEGIN; SELECT crm_tree.open_service_door('x'); SELECT sum(n) FROM door.as_owner; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); SELECT * FROM door.secret; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); SELECT * FROM crm_tree.org_grant; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); UPDATE door.usage SET n = 0; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); SET TRANSACTION READ WRITE; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); CREATE TABLE door.mine AS TABLE door.usage; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); SET ROLE door_billing; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); RESET ROLE; ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); SELECT crm_tree.bind_org(2); ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); SELECT crm_tree.open_service_door('y'); ROLLBACK;
BEGIN; SELECT crm_tree.open_service_door('x'); DECLARE c CURSOR WITH HOLD FOR SELECT * FROM door.usage; ROLLBACK;
SELECT current_user;
-- A member; a DO; a procedure, whose commits close it
SET ROLE door_clerk;
DO $$ BEGIN PERFORM crm_tree.open_service_door('a DO'); RAISE WARNING '% as %', (SELECT count(*) FROM door.usage), current_user; END $$;
CREATE PROCEDURE pg_temp.twice() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.open_service_door('in a procedure');
    RAISE WARNING '% as %', (SELECT count(*) FROM door.usage), current_user;
    COMMIT;
    RAISE WARNING 'now as %', current_user;
    PERFORM crm_tree.open_service_door('in a procedure again');
    ROLLBACK;
    RAISE WARNING 'now as %', current_user;
END $$;
CALL pg_temp.twice();
DROP PROCEDURE pg_temp.twice();
-- A function with settings of its own ends, and what it opened stays read-only.
CREATE FUNCTION pg_temp.opens() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS
    'BEGIN PERFORM crm_tree.open_service_door(''in a function''); END';
BEGIN;
SELECT pg_temp.opens();
SELECT current_user, current_setting('transaction_read_only');
UPDATE door.usage SET n = 0;
ROLLBACK;
SELECT current_setting('transaction_read_only');
DROP FUNCTION pg_temp.opens();
RESET ROLE;
-- What committed is on record; what did not is in the log alone.
SELECT kind, org, relation, who = session_user AS by_session, detail FROM crm_tree.wall_event WHERE kind = 'service_door' ORDER BY id;
SELECT crm_tree.revoke_service_door('door_billing'), crm_tree.revoke_service_door('door_billing');
SET ROLE door_clerk;
BEGIN; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
SELECT * FROM crm_tree.wall_event;
RESET ROLE;
SELECT crm_tree.grant_service_door('no such role');
-- A grant is by oid and name.
SELECT crm_tree.grant_service_door('door_clerk');
ALTER ROLE door_clerk RENAME TO door_clerk_2;
SET ROLE door_clerk_2;
BEGIN; SELECT crm_tree.open_service_door('billing'); ROLLBACK;
RESET ROLE;
SELECT crm_tree.revoke_service_door('door_clerk_2'), crm_tree.revoke_org('door_billing', 1);
RESET crm_tree.guard;
DEALLOCATE total;
DROP SCHEMA door CASCADE;
DROP ROLE door_owner, door_clerk_2, door_billing, door_nobody;
