-- Learning of rows that cannot be read: by conflicts, by errors, by what errors say.
-- In each pair the first statement names what globex has, the second what nobody has: were the
-- answers different, the difference would be the answer.
-- Attacker: mallory, the application's role.
-- To gain: whether another org has a value.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set globex '''bbbbbbbb-0000-4000-8000-00000000000b''::uuid'
\c - mallory_the_app_user
-- SHOULD GAIN NOTHING: ON CONFLICT, plain duplicates
BEGIN;
SELECT crm_tree.bind_org(:acme);
WITH i AS (INSERT INTO app.contact (email) VALUES ('bob@globex.test') ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM i;
WITH i AS (INSERT INTO app.contact (email) VALUES ('nobody@x.test') ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM i;
ROLLBACK;
-- SHOULD GAIN NOTHING: the other org named, conflict or not
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.contact (org_id, email) VALUES (:globex, 'bob@globex.test') ON CONFLICT DO NOTHING;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.contact (org_id, email) VALUES (:globex, 'nobody@x.test') ON CONFLICT DO NOTHING;
ROLLBACK;
-- SHOULD GAIN NOTHING: a parent in the other org, there or not, in one's own row and in theirs
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (id, parent) VALUES (10, 77);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (id, parent) VALUES (10, 999);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (org_id, id, parent) VALUES (:globex, 10, 77);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (org_id, id, parent) VALUES (:globex, 10, 999);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (org_id, id, parent) VALUES (:globex, 77, 2) ON CONFLICT DO NOTHING;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET parent = 77 WHERE id = 3;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET org_id = :globex, id = 77 WHERE id = 3;
ROLLBACK;
-- SHOULD FAIL: a MERGE that reads nothing of its target matches every org's rows, and counts them
BEGIN;
SELECT crm_tree.bind_org(:acme);
CREATE TEMP SEQUENCE met;
MERGE INTO app.note n USING (SELECT 1) v ON true WHEN MATCHED AND nextval('met') < 0 THEN DELETE;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
MERGE INTO app.note n USING (SELECT 1) v ON true WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (1);
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
MERGE INTO app.note n USING (SELECT 1 AS id) v ON n.id = v.id WHEN MATCHED AND n.secret IS NULL THEN DELETE;
ROLLBACK;
-- SHOULD GAIN NOTHING: unbound, whether some org of a tree awaits a repair
SELECT count(*) FROM crm_tree._deferred_paths('app.account');
\c - :super
BEGIN;
INSERT INTO crm_tree.stale_org (relation, org) VALUES ('app.account'::regclass, :globex::text);
SET LOCAL ROLE mallory_the_app_user;
SELECT count(*) FROM crm_tree._deferred_paths('app.account');
ROLLBACK;
\c - mallory_the_app_user
-- SHOULD GAIN NOTHING: a foreign key from a table of one's own needs REFERENCES
CREATE TABLE lair.probe (org_id uuid, id int, FOREIGN KEY (org_id, id) REFERENCES app.account (org_id, id));
-- SHOULD GAIN NOTHING: statistics. On a table with row security nobody subject to it reads them.
\c - :super
ANALYZE app.account, app.contact, app.ledger;
\c - mallory_the_app_user
SELECT attname, most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = 'app';
-- SHOULD GAIN NOTHING: a unique key without the org is an oracle, and protect says so
SET client_min_messages = warning;
CREATE TABLE lair.open_key (org_id uuid, email text UNIQUE, secret text, EXCLUDE (secret WITH =));
SELECT crm_tree.protect('lair.open_key', strict => true);
SELECT crm_tree.protect('lair.open_key');
DROP TABLE lair.open_key;
\c - :super
SELECT referee.globex();
