-- EXPLAIN runs the planner, and ANALYZE the query.
-- Attacker: mallory, the application's role.
-- To gain: what a plan or its execution tells of other orgs.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - mallory_the_app_user
-- SHOULD FAIL: unbound
EXPLAIN (COSTS OFF) SELECT * FROM app.contact;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM app.contact;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) UPDATE app.contact SET secret = 'x';
-- SHOULD GAIN NOTHING: the plan goes by the bound org, in the index where there is one, and names no other
SET enable_seqscan = off;
SET enable_bitmapscan = off;
BEGIN;
SELECT crm_tree.bind_org(:acme);
EXPLAIN (COSTS OFF) SELECT * FROM app.contact;
EXPLAIN (COSTS OFF) SELECT * FROM app.deal_late WHERE id = 2;
ROLLBACK;
\c - :super
SELECT referee.globex();
