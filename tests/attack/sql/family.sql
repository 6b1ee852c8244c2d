-- Tables that inheritance joins are read through one another: they have one wall, and their trees keep to it.
-- Attacker: oscar, who owns the tables and may create more; mallory, with rights on what he makes.
-- To gain: other orgs' rows through a second wall, the tree of a child, or a tree's trigger of his own making.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set globex '''bbbbbbbb-0000-4000-8000-00000000000b''::uuid'
\c - oscar_the_owner
SET client_min_messages = warning;
-- SHOULD FAIL: a wall on another column, on a partition, on what is below it, on its whole, on a child
BEGIN;
ALTER TABLE app.deal ADD COLUMN everybody uuid NOT NULL DEFAULT :acme;
SELECT crm_tree.protect('app.deal_late', 'everybody');
ROLLBACK;
BEGIN;
ALTER TABLE app.note ADD COLUMN everybody uuid NOT NULL DEFAULT :acme;
SELECT crm_tree.protect('app.note_long', 'everybody');
ROLLBACK;
CREATE TABLE app.low (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text);
SELECT crm_tree.protect('app.low');
CREATE TABLE app.lower () INHERITS (app.low);
CREATE TABLE app.lowest () INHERITS (app.lower);
SELECT crm_tree.protect('app.lowest', 'everybody');
-- and by the same column it may be protected by itself too
SELECT crm_tree.protect('app.lowest');
BEGIN;
CREATE TABLE app.high (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text);
ALTER TABLE app.low INHERIT app.high;
ROLLBACK;
-- SHOULD FAIL: joined below a parent, or two, with a wall on another column
CREATE TABLE app.high (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text);
SELECT crm_tree.protect('app.high', 'everybody');
ALTER TABLE app.low INHERIT app.high;
ALTER TABLE app.lowest INHERIT app.high;
CREATE TABLE app.between () INHERITS (app.low, app.high);
CREATE TABLE app.roof (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text) PARTITION BY LIST (id);
SELECT crm_tree.protect('app.roof', 'everybody');
CREATE TABLE app.beam (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text);
SELECT crm_tree.protect('app.beam');
ALTER TABLE app.roof ATTACH PARTITION app.beam DEFAULT;
DROP TABLE app.beam, app.roof, app.high, app.low CASCADE;
-- SHOULD FAIL: out of the family and below a parent without a wall by one command, with all below it, and its policy gone too
CREATE TABLE app.low (org_id uuid NOT NULL, id int, secret text);
CREATE TABLE app.lower () INHERITS (app.low);
CREATE TABLE app.lowest () INHERITS (app.lower);
SELECT crm_tree.protect('app.low');
CREATE TABLE app.other (secret text);
ALTER TABLE app.lowest NO INHERIT app.lower, INHERIT app.other;
ALTER TABLE app.lower NO INHERIT app.low, INHERIT app.other;
ALTER TABLE app.lower NO INHERIT app.low, DISABLE ROW LEVEL SECURITY;
ALTER TABLE app.lower NO INHERIT app.low, INHERIT app.other, DROP COLUMN org_id CASCADE;
-- Out of it alone it takes its wall along, and what is below it
ALTER TABLE app.lower NO INHERIT app.low;
SELECT relation, root FROM (SELECT relation::regclass, root::regclass FROM crm_tree._wall_family()) f WHERE relation::text ~ 'app.low' ORDER BY 1;
ALTER TABLE app.lowest NO FORCE ROW LEVEL SECURITY;
DROP TABLE app.low, app.lower, app.lowest, app.other CASCADE;
-- SHOULD FAIL: the wall of a partition alone taken down, which had its own when it was attached
CREATE TABLE app.whole (org_id uuid NOT NULL, id int, secret text) PARTITION BY LIST (id);
CREATE TABLE app.piece PARTITION OF app.whole FOR VALUES IN (1);
SELECT crm_tree.protect('app.whole');
ALTER TABLE app.whole DETACH PARTITION app.piece;
ALTER TABLE app.whole ATTACH PARTITION app.piece FOR VALUES IN (1);
\c - :super
SELECT crm_tree.unprotect('app.piece');
SELECT relation::regclass, root::regclass, (SELECT relrowsecurity FROM pg_class WHERE oid = f.relation) AS walled FROM crm_tree._wall_family(ARRAY['app.piece'::regclass::oid]) f;
SELECT count(*) FROM crm_tree._wall_faults(ARRAY['app.piece'::regclass::oid]);
\c - oscar_the_owner
SET client_min_messages = warning;
DROP TABLE app.whole;
-- Past the event triggers: the audit finds it.
\c - :super
SET client_min_messages = error;
SET session_replication_role = replica;
SET ROLE oscar_the_owner;
BEGIN;
CREATE TABLE app.roof (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text) PARTITION BY LIST (id);
SELECT crm_tree.protect('app.roof', 'everybody');
CREATE TABLE app.beam (org_id uuid NOT NULL, everybody uuid NOT NULL, id int, secret text);
SELECT crm_tree.protect('app.beam');
ALTER TABLE app.roof ATTACH PARTITION app.beam DEFAULT;
RESET ROLE;
SELECT code, object, detail, fix FROM crm_tree.audit_walls() WHERE object ~ 'roof|beam';
ROLLBACK;
\c - oscar_the_owner
SET client_min_messages = warning;
-- SHOULD FAIL: the tree of a child by another column than the wall it inherits
CREATE TABLE app.trunk (org_id uuid NOT NULL, everybody uuid NOT NULL DEFAULT :acme, id int NOT NULL);
CREATE TABLE app.branch (parent int, secret text, PRIMARY KEY (org_id, id), UNIQUE (everybody, id)) INHERITS (app.trunk);
INSERT INTO app.branch (org_id, id, parent, secret) VALUES (:acme, 1, NULL, 'acme branch'), (:globex, 77, NULL, upper('globex branch'));
BEGIN;
SELECT crm_tree.protect('app.trunk');
SELECT crm_tree.attach_tree('app.branch', 'id', 'parent', org => 'everybody');
ROLLBACK;
BEGIN;
SELECT crm_tree.attach_tree('app.branch', 'id', 'parent', org => 'everybody');
SELECT crm_tree.protect('app.trunk');
ROLLBACK;
BEGIN;
ALTER TABLE app.branch NO INHERIT app.trunk;
SELECT crm_tree.attach_tree('app.branch', 'id', 'parent', org => 'everybody');
SELECT crm_tree.protect('app.trunk');
ALTER TABLE app.branch INHERIT app.trunk;
ROLLBACK;
-- SHOULD FAIL: second parents by another column than their wall
BEGIN;
CREATE TABLE app.graft (org_id uuid NOT NULL, everybody uuid NOT NULL, parent int, child int);
SELECT crm_tree.protect('app.graft');
SELECT crm_tree.attach_links('app.graft', 'app.account', 'parent', 'child', org => 'everybody');
ROLLBACK;
-- SHOULD GAIN NOTHING: the history of a child's tree, kept before the wall, behind it, and taken below it
BEGIN;
SELECT crm_tree.attach_tree('app.branch', 'id', 'parent', history => true);
SELECT crm_tree.protect('app.trunk');
SELECT crm_tree.bind_org(:acme);
SELECT org, id FROM app.branch_history;
ROLLBACK;
BEGIN;
ALTER TABLE app.branch NO INHERIT app.trunk;
SELECT crm_tree.attach_tree('app.branch', 'id', 'parent', history => true);
SELECT crm_tree.protect('app.trunk');
ALTER TABLE app.branch INHERIT app.trunk;
SELECT crm_tree.bind_org(:acme);
SELECT org, id FROM app.branch_history;
ROLLBACK;
SELECT crm_tree.protect('app.trunk');
SELECT crm_tree.attach_tree('app.branch', 'id', 'parent', history => true);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.branch TO mallory_the_app_user;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT org, id FROM app.branch_history;
ROLLBACK;
-- SHOULD FAIL: the other org's row is refused before it is placed: nothing tells whether its parent is there
\c - mallory_the_app_user
INSERT INTO app.branch (org_id, id, parent) VALUES (:globex, 5, 77);
INSERT INTO app.branch (org_id, id, parent) VALUES (:globex, 5, 78);
BEGIN;
SELECT crm_tree.bind_org(:acme);
SAVEPOINT before;
INSERT INTO app.branch (org_id, id, parent) VALUES (:globex, 5, 77);
ROLLBACK TO before;
INSERT INTO app.branch (org_id, id, parent) VALUES (:globex, 77, 77);
ROLLBACK TO before;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
ROLLBACK;
-- SHOULD FAIL: a tree's trigger of the owner's own making, which reads by other columns, there and on a child
\c - oscar_the_owner
SET client_min_messages = warning;
CREATE TABLE app.hand (org_id uuid NOT NULL, id int NOT NULL, up int, secret text, same int NOT NULL DEFAULT 0, depth int DEFAULT 0, PRIMARY KEY (org_id, id));
INSERT INTO app.hand VALUES (:acme, 1, NULL, 'acme hand'), (:globex, 77, NULL, upper('globex hand'));
CREATE TABLE app.finger () INHERITS (app.hand);
INSERT INTO app.finger VALUES (:globex, 77, NULL, upper('globex finger'));
SELECT crm_tree.protect('app.hand');
CREATE TRIGGER zz_mine BEFORE INSERT ON app.hand FOR EACH ROW
    EXECUTE FUNCTION crm_tree._tree_place('same', 'id', 'up', 'secret', 'depth', '32', 'restrict');
CREATE TRIGGER zz_mine BEFORE INSERT OR DELETE ON app.finger FOR EACH ROW
    EXECUTE FUNCTION crm_tree._tree_place('same', 'id', 'up', 'secret', 'depth', '32', 'restrict');
BEGIN;
SELECT crm_tree.bind_org(:acme);
SAVEPOINT before;
INSERT INTO app.hand (id, up) VALUES (5, 77) RETURNING secret;
ROLLBACK TO before;
INSERT INTO app.finger (id, up) VALUES (5, 77) RETURNING secret;
ROLLBACK;
-- SHOULD FAIL: in a cascade, where the owner's row security is put aside
CREATE TABLE app.wrist (id int PRIMARY KEY);
INSERT INTO app.wrist VALUES (0);
ALTER TABLE app.hand ADD FOREIGN KEY (same) REFERENCES app.wrist ON UPDATE CASCADE;
CREATE TRIGGER zz_more BEFORE UPDATE ON app.hand FOR EACH ROW
    EXECUTE FUNCTION crm_tree._tree_place('same', 'id', 'up', 'secret', 'depth', '32', 'restrict');
UPDATE app.wrist SET id = 1;
-- SHOULD FAIL: on a table without a wall, whose rule runs in the plan of the tree's maintenance
CREATE TABLE app.bare (org_id uuid NOT NULL, id int NOT NULL, up int, path text COLLATE "C", depth int, PRIMARY KEY (org_id, id));
CREATE TABLE app.loot (secret text);
INSERT INTO app.bare VALUES (:acme, 1, NULL, '/1/', 0), (:acme, 2, 1, '/1/2/', 1), (:acme, 3, NULL, '/3/', 0);
CREATE RULE along AS ON UPDATE TO app.bare DO ALSO INSERT INTO app.loot SELECT secret FROM app.contact;
CREATE TRIGGER zz_place BEFORE UPDATE ON app.bare FOR EACH ROW
    EXECUTE FUNCTION crm_tree._tree_place('org_id', 'id', 'up', 'path', 'depth', '32', 'restrict');
CREATE TRIGGER "A_settle" AFTER UPDATE ON app.bare FOR EACH ROW
    EXECUTE FUNCTION crm_tree._tree_settle('org_id', 'id', 'up', 'path', 'depth', '32', 'restrict');
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.bare SET up = 3 WHERE id = 1;
COMMIT;
\c - :super
SET client_min_messages = error;
SELECT DISTINCT secret FROM app.loot;
-- SHOULD GAIN NOTHING: what attach_tree and attach_links say of rows that are in their way
\c - oscar_the_owner
SET client_min_messages = error;
CREATE TABLE app.way (org_id uuid NOT NULL, id int, url text NOT NULL, up text, PRIMARY KEY (org_id, url));
INSERT INTO app.way VALUES (:acme, 1, 'mine', NULL), (:globex, 1, upper('https://globex/x'), NULL);
SELECT crm_tree.protect('app.way');
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.attach_tree('app.way', 'url', 'up');
ROLLBACK;
SELECT crm_tree.attach_tree('app.way', 'url', 'up');
\c - :super
SET client_min_messages = error;
SET crm_tree.guard = off;
UPDATE app.way SET url = upper('globex'), up = upper('globex orphan') WHERE org_id = :globex;
\c - oscar_the_owner
SET client_min_messages = error;
SELECT crm_tree.attach_tree('app.way', 'url', 'up');
\c - :super
SET client_min_messages = error;
SET crm_tree.guard = off;
UPDATE app.way SET url = 'MINE/', up = NULL WHERE org_id = :acme;
UPDATE app.way SET up = NULL WHERE org_id = :globex;
\c - oscar_the_owner
SET client_min_messages = error;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.attach_tree('app.way', 'url', 'up');
ROLLBACK;
\c - :super
SET client_min_messages = error;
SET crm_tree.guard = off;
DELETE FROM app.way WHERE org_id = :acme;
UPDATE app.way SET up = NULL;
INSERT INTO app.way VALUES (:globex, 2, upper('globex two'), upper('globex'));
\c - oscar_the_owner
SET client_min_messages = error;
SELECT crm_tree.attach_tree('app.way', 'url', 'up');
CREATE TABLE app.side (org_id uuid NOT NULL, parent text NOT NULL, child text NOT NULL);
INSERT INTO app.side VALUES (:globex, upper('globex two'), upper('globex'));
SELECT crm_tree.protect('app.side');
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.attach_links('app.side', 'app.way', 'parent', 'child');
ROLLBACK;
\c - :super
SET client_min_messages = error;
SET crm_tree.guard = off;
UPDATE app.side SET parent = upper('globex nowhere');
\c - oscar_the_owner
SET client_min_messages = error;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree.attach_links('app.side', 'app.way', 'parent', 'child');
ROLLBACK;
-- SHOULD GAIN NOTHING: whether another org's paths are deferred
\c - :super
SET client_min_messages = error;
SET crm_tree.guard = off;
SET crm_tree.defer_paths = on;
BEGIN;
UPDATE app.way SET up = NULL WHERE url = upper('globex two');
SELECT crm_tree._paths_are_fresh('app.way', 'bbbbbbbb-0000-4000-8000-00000000000b') AS of_globex;
COMMIT;
GRANT SELECT ON app.way TO mallory_the_app_user;
\c - mallory_the_app_user
SELECT crm_tree._paths_are_fresh('app.way', 'bbbbbbbb-0000-4000-8000-00000000000b') AS of_globex,
       crm_tree._paths_are_fresh('app.way', 'cccccccc-0000-4000-8000-00000000000c') AS of_initech;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT crm_tree._paths_are_fresh('app.way', 'bbbbbbbb-0000-4000-8000-00000000000b') AS of_globex,
       crm_tree._paths_are_fresh('app.way', 'cccccccc-0000-4000-8000-00000000000c') AS of_initech,
       crm_tree._paths_are_fresh('app.way', 'aaaaaaaa-0000-4000-8000-00000000000a') AS of_acme;
SELECT crm_tree._path_now('app.way', 'bbbbbbbb-0000-4000-8000-00000000000b', upper('globex'), 'x') AS of_globex,
       crm_tree._path_now('app.way', 'cccccccc-0000-4000-8000-00000000000c', upper('globex'), 'x') AS of_initech,
       crm_tree._path_now('app.way', 'aaaaaaaa-0000-4000-8000-00000000000a', 'mine', 'x') AS of_acme;
ROLLBACK;
-- A domain's owner reads every org by a check of his: the audit finds it.
\c - :super
SET client_min_messages = error;
SET ROLE mallory_the_app_user;
CREATE DOMAIN lair.label AS text;
CREATE DOMAIN lair.short AS lair.label;
SET ROLE oscar_the_owner;
CREATE TABLE app.tin (org_id uuid NOT NULL, id int, label lair.short, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('app.tin');
RESET ROLE;
SELECT code, severity, object, detail, fix FROM crm_tree.audit_walls() WHERE code = 'domain_of_another';
DROP TABLE app.tin, app.side, app.way, app.bare, app.loot, app.hand, app.wrist, app.trunk, app.branch_history CASCADE;
DROP DOMAIN lair.short, lair.label;
SELECT referee.globex();
