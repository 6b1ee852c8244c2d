-- Parallel workers are other processes: without the binding they would fail, with a wrong one leak.
-- Attacker: trudy, whose statements run in several processes.
-- To gain: another org's rows from a worker, or a second binding in one.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set initech '''cccccccc-0000-4000-8000-00000000000c''::uuid'
\c - :super
ALTER TABLE app.contact SET (parallel_workers = 4);
\c - trudy_of_two_orgs
-- The setting has two names: debug_parallel_query since 16.
SELECT set_config(name, 'on', false) IS NULL AS unset FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 4;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
-- SHOULD FAIL: unbound
SELECT count(*) FROM app.contact;
-- SHOULD GAIN NOTHING: the workers have the leader's org
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT count(*), min(secret) FROM app.contact;
SELECT crm_tree.current_org_text(), crm_tree.is_bound(), crm_tree.current_user_id();
COMMIT;
BEGIN;
SELECT crm_tree.bind_org(:initech);
SELECT count(*) FROM app.contact;
COMMIT;
-- SHOULD FAIL: binding inside a worker, by a function that says it is safe there
CREATE FUNCTION lair.sneak(org uuid) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS
    'BEGIN PERFORM crm_tree.bind_org(org); RETURN crm_tree.current_org_text(); END';
BEGIN;
SELECT lair.sneak(:initech) FROM app.contact;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT lair.sneak(:initech) FROM app.contact;
ROLLBACK;
DROP FUNCTION lair.sneak(uuid);
\c - :super
ALTER TABLE app.contact RESET (parallel_workers);
SELECT referee.globex();
