-- Writing into another org: a row planted there, or one's own row handed over.
-- Attacker: mallory, the application's role.
-- To gain: a row planted in another org, or handed over to it.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set globex '''bbbbbbbb-0000-4000-8000-00000000000b''::uuid'
\c - mallory_the_app_user
-- SHOULD FAIL
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.contact VALUES (:globex, 'm@m.test', 'x');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.contact SET org_id = :globex;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET org_id = :globex WHERE id = 3;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.contact VALUES (NULL, 'm@m.test', 'x');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.contact (email, secret) VALUES ('ann@acme.test', 'x')
    ON CONFLICT (org_id, email) DO UPDATE SET org_id = :globex;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.contact VALUES (:globex, 'bob@globex.test', 'x')
    ON CONFLICT (org_id, email) DO UPDATE SET secret = 'x' RETURNING contact.*;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
MERGE INTO app.contact c USING (VALUES (:globex, 'bob@globex.test')) AS v(org, email)
    ON c.org_id = v.org AND c.email = v.email
    WHEN MATCHED THEN UPDATE SET secret = 'x'
    WHEN NOT MATCHED THEN INSERT VALUES (v.org, v.email, 'x');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
MERGE INTO app.contact c USING (SELECT 1) v ON c.email IS NOT NULL
    WHEN MATCHED THEN UPDATE SET org_id = :globex;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
WITH moved AS (DELETE FROM app.contact RETURNING email, secret)
    INSERT INTO app.contact SELECT :globex, email, secret FROM moved;
ROLLBACK;
-- SHOULD GAIN NOTHING: statements that name the other org reach no row
BEGIN;
SELECT crm_tree.bind_org(:acme);
WITH u AS (UPDATE app.contact SET secret = 'x' WHERE org_id = :globex RETURNING 1) SELECT count(*) FROM u;
WITH d AS (DELETE FROM app.account WHERE org_id = :globex RETURNING 1) SELECT count(*) FROM d;
WITH d AS (DELETE FROM app.contact a USING app.contact b WHERE b.org_id = :globex RETURNING 1) SELECT count(*) FROM d;
SELECT secret FROM app.contact WHERE org_id = :globex FOR UPDATE;
SELECT count(*) FROM app.ledger;
ROLLBACK;
-- SHOULD FAIL: a foreign key that points into the other org (77 is there, not here)
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.deal (id, month, account_id) VALUES (9, '2025-01-01', 77);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO app.ledger VALUES ('globex', 9, 'x');
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(7);
INSERT INTO app.ticket VALUES (8, 9, 'x');
ROLLBACK;
\c - :super
SELECT referee.globex();
