-- Jobs look at every attached tree, with the rights of whoever runs them.
-- Attacker: mallory, who attaches a tree of her own in a schema of her own.
-- To gain: code run as the superuser whose job looks at it, or everybody's jobs brought to a stop.
\set SHOW_CONTEXT never
\set super :USER
\c - mallory_the_app_user
SET client_min_messages = error;
CREATE TABLE lair.bait (org_id uuid, id int, parent int);
INSERT INTO lair.bait VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 1, NULL);
SELECT crm_tree.attach_tree('lair.bait', 'id', 'parent');
CREATE TABLE lair.loot (ran_as name, secret text);
CREATE TABLE lair.trap (x int);
GRANT ALL ON lair.loot, lair.trap TO PUBLIC;
CREATE FUNCTION lair.spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_user <> 'mallory_the_app_user' THEN
        INSERT INTO lair.loot SELECT current_user, secret FROM app.contact;
    END IF;
    RETURN NULL;
END $$;
-- A deferred trigger runs at the end of the transaction, as whoever that is by then.
CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON lair.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lair.spring();
-- An index expression of constants is computed while any statement on the table is planned.
CREATE FUNCTION lair.bite() RETURNS void LANGUAGE sql AS 'INSERT INTO lair.trap VALUES (1)';
CREATE FUNCTION lair.set_trap(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF session_user <> 'mallory_the_app_user' THEN
        PERFORM lair.bite();
    END IF;
    RETURN 1;
END $$;
CREATE INDEX ON lair.bait ((lair.set_trap(1)));
\c - oscar_the_owner
CREATE FUNCTION app.look(config jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(count(*)) FROM app.account';
\c - :super
SET client_min_messages = error;
SELECT crm_tree.add_job('look', 'app.look', '@daily', owner => 'oscar_the_owner') IS NOT NULL AS added;
-- SHOULD GAIN NOTHING
RESET client_min_messages;
CALL crm_tree.run_job('look');
SELECT status, orgs_done, orgs_failed FROM crm_tree.job_history WHERE job = 'look' ORDER BY run_id DESC LIMIT 1;
SELECT count(*) AS loot FROM lair.loot;
-- SHOULD GAIN NOTHING: the superuser looks at the tree himself
SELECT count(*) FROM crm_tree._tree_orgs('lair.bait');
SELECT * FROM crm_tree.repair_tree('lair.bait');
SELECT count(*) AS loot FROM lair.loot;
-- SHOULD GAIN NOTHING: an error there is not the job's
\c - mallory_the_app_user
CREATE OR REPLACE FUNCTION lair.set_trap(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF session_user <> 'mallory_the_app_user' THEN
        RAISE 'no';
    END IF;
    RETURN 1;
END $$;
\c - :super
CALL crm_tree.run_job('look');
SELECT status, orgs_done, orgs_failed FROM crm_tree.job_history WHERE job = 'look' ORDER BY run_id DESC LIMIT 1;
-- SHOULD GAIN NOTHING: nor do the trees of others go unrepaired for it; the run says that one was
SET client_min_messages = error;
SELECT crm_tree.add_job('mend', 'crm_tree.reconcile_paths', '@daily', config => '{"orgs": ["aaaaaaaa-0000-4000-8000-00000000000a"]}', allow_superuser => true) IS NOT NULL AS added;
RESET client_min_messages;
SET session_replication_role = replica;
UPDATE app.account SET materialized_path = '/9/' WHERE org_id = 'aaaaaaaa-0000-4000-8000-00000000000a' AND id = 1;
RESET session_replication_role;
CALL crm_tree.run_job('mend');
SELECT status, orgs_done, orgs_failed FROM crm_tree.job_history WHERE job = 'mend';
SELECT turns, status, sqlstate, error FROM crm_tree.job_org_history WHERE job = 'mend';
SELECT materialized_path FROM app.account WHERE org_id = 'aaaaaaaa-0000-4000-8000-00000000000a' AND id = 1;
SELECT crm_tree.delete_job('mend');
-- SHOULD GAIN NOTHING: what is compiled under a path of hers stays so for the session, in the job's function as in ours
\c - oscar_the_owner
CREATE OR REPLACE FUNCTION app.look(config jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE seen text; BEGIN RETURN config; END $$;
\c - mallory_the_app_user
CREATE FUNCTION lair.told() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
    IF current_user <> 'mallory_the_app_user' THEN
        INSERT INTO lair.loot VALUES (current_user, session_user);
    END IF;
    RETURN true;
END $$;
CREATE DOMAIN lair.text AS pg_catalog.text CHECK (lair.told());
CREATE FUNCTION lair.compile() RETURNS void LANGUAGE plpgsql SET search_path = lair, pg_catalog AS $$ BEGIN
    PERFORM crm_tree._job_attempt('app.look', NULL, '{}'), app.look('{}');
END $$;
CREATE FUNCTION lair.set_trap() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM lair.compile();
    RETURN true;
END $$;
CREATE OR REPLACE FUNCTION lair.set_trap(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE INDEX ON lair.bait (depth) WHERE lair.set_trap();
\c - oscar_the_owner
CALL crm_tree.run_job('look');
SELECT * FROM lair.loot;
\c - mallory_the_app_user
ALTER TABLE lair.bait RENAME COLUMN org_id TO gone;
\c - :super
CALL crm_tree.run_job('look');
SELECT status, orgs_done, orgs_failed FROM crm_tree.job_history WHERE job = 'look' ORDER BY run_id DESC LIMIT 1;
-- SHOULD FAIL: another's job
\c - mallory_the_app_user
SELECT crm_tree.add_job('mine', 'app.look', '@daily');
SELECT crm_tree.alter_job('look', owner => 'mallory_the_app_user');
SELECT crm_tree.delete_job('look');
CALL crm_tree.run_job('look');
SELECT crm_tree._job_step();
SELECT crm_tree._job_end();
SELECT crm_tree._known_orgs();
-- SHOULD FAIL: a run that another left open in the session
\c - :super
SET ROLE oscar_the_owner;
SELECT crm_tree._job_begin('look') IS NOT NULL AS begun;
SET ROLE mallory_the_app_user;
SELECT crm_tree._job_step();
SET ROLE oscar_the_owner;
SELECT crm_tree._job_begin('look') IS NOT NULL AS begun;
SET ROLE mallory_the_app_user;
SELECT crm_tree._job_end();
SET ROLE oscar_the_owner;
SELECT crm_tree._job_begin('look') IS NOT NULL AS begun;
SET ROLE mallory_the_app_user;
SELECT crm_tree._job_release();
\c - mallory_the_app_user
SELECT count(*) FROM crm_tree.job_list;
SELECT count(*) FROM crm_tree.job_history;
SELECT count(*) FROM crm_tree.job_org_history;
-- SHOULD FAIL: what a run calls, called without one: it has the caller's own rights and grants
SELECT * FROM crm_tree._job_attempt('app.look', 'bbbbbbbb-0000-4000-8000-00000000000b', '{}');
-- SHOULD FAIL: a function that is PUBLIC's, in a schema that is not
\c - :super
CREATE SCHEMA vault AUTHORIZATION oscar_the_owner;
SET ROLE oscar_the_owner;
CREATE FUNCTION vault.show(config jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS 'SELECT to_jsonb(current_user)';
SELECT * FROM crm_tree._job_attempt('vault.show', NULL, '{}');
\c - mallory_the_app_user
SELECT result, failed_with FROM pg_proc p, crm_tree._job_attempt(p.oid, NULL, '{}') WHERE proname = 'show' AND pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'vault');
\c - :super
DROP SCHEMA vault CASCADE;
-- SHOULD GAIN NOTHING: another function slipped in under the name of the job's between two turns
\c - :super
SET client_min_messages = error;
CREATE FUNCTION lair.turn(config jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
    PERFORM lair.swap();
    RETURN '{"continue": true}';
END $$;
SELECT crm_tree.add_job('turn', 'lair.turn', '@daily', owner => 'oscar_the_owner') IS NOT NULL AS added;
\c - mallory_the_app_user
CREATE FUNCTION lair.swap() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    DROP FUNCTION lair.turn(jsonb);
    CREATE FUNCTION lair.turn(config jsonb) RETURNS jsonb LANGUAGE sql AS 'INSERT INTO lair.loot SELECT current_user, secret FROM app.contact; SELECT NULL::jsonb';
END $$;
\c - oscar_the_owner
CALL crm_tree.run_job('turn');
SELECT status, orgs_total, orgs_done, orgs_failed, error FROM crm_tree.job_history WHERE job = 'turn';
SELECT count(*) AS loot FROM lair.loot;
\c - :super
SELECT crm_tree.delete_job('look'), crm_tree.delete_job('turn');
DROP FUNCTION app.look(jsonb);
DROP TABLE lair.bait, lair.loot, lair.trap;
DROP DOMAIN lair.text;
DROP FUNCTION lair.set_trap(int), lair.set_trap(), lair.bite(), lair.spring(), lair.compile(), lair.told(), lair.swap(), lair.turn(jsonb);
SELECT referee.globex();
