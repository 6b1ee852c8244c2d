-- A partition named directly is a table of its own, with or without its parent's policies.
-- Attacker: mallory, with rights on partitions and children too.
-- To gain: the rows that only the parent's policies guard.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - mallory_the_app_user
-- SHOULD FAIL
SELECT secret FROM app.deal_early;
SELECT secret FROM ONLY app.deal_late;
-- SHOULD GAIN NOTHING
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.deal_early;
SELECT secret FROM app.deal_late;
UPDATE app.deal_late SET secret = 'x';
DELETE FROM app.deal_early;
ROLLBACK;
-- SHOULD FAIL: another org's row into a partition, and from one partition to the next
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.deal_late VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 9, '2025-01-01', 1, 'x');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.deal SET org_id = 'bbbbbbbb-0000-4000-8000-00000000000b', month = '2025-01-01' WHERE month < '2024-01-01';
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.deal_late VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 9, '2020-01-01', 1, 'x');
ROLLBACK;
-- SHOULD FAIL: an inheritance child, which has a column of its own
SELECT secret, pages FROM app.note_long;
SELECT count(*) FROM ONLY app.note_long;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.note_long VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 9, 'x', 1);
ROLLBACK;
-- SHOULD GAIN NOTHING
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.note ORDER BY id;
SELECT secret, pages FROM app.note_long;
UPDATE app.note SET secret = 'x' RETURNING id;
DELETE FROM app.note_long RETURNING id;
ROLLBACK;
\c - oscar_the_owner
SELECT count(*) FROM app.note_long;
SELECT count(*) FROM app.deal_early;
\c - :super
SELECT referee.globex();
