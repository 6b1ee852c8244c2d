-- The tree's functions and triggers see more than their caller: they must hand none of it on.
-- Attacker: mallory, the application's role, for some also with TRIGGER on the tree; victor, who sees a part of his org.
-- To gain: paths, ids or locks of another org through the tree's functions and triggers.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\set globex '''bbbbbbbb-0000-4000-8000-00000000000b''::uuid'
\c - mallory_the_app_user
-- SHOULD FAIL: unbound
SELECT * FROM crm_tree.subtree('app.account', '1');
SELECT * FROM crm_tree.ancestors('app.account', '77');
SELECT * FROM crm_tree.check_tree('app.account');
-- SHOULD GAIN NOTHING: ids of the other org (77) and ids both have (1, 2)
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT * FROM crm_tree.subtree('app.account', '77');
SELECT * FROM crm_tree.ancestors('app.account', '77');
SELECT * FROM crm_tree.subtree('app.account', '1');
SELECT * FROM crm_tree.ancestors('app.account', '2');
SELECT * FROM crm_tree.check_tree('app.account');
ROLLBACK;
-- SHOULD FAIL: an id that is SQL
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT * FROM crm_tree.subtree('app.account', '1'' OR true --');
ROLLBACK;
-- SHOULD FAIL: maintenance is the owner's
SELECT * FROM crm_tree.repair_tree('app.account');
SELECT * FROM crm_tree.repair_tree('app.account', 'bbbbbbbb-0000-4000-8000-00000000000b');
SELECT * FROM crm_tree._tree_orgs('app.account');
-- SHOULD GAIN NOTHING: the maintained columns are not the client's to write
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET materialized_path = '/1/2/77/', depth = 9 WHERE id = 3 RETURNING materialized_path, depth;
INSERT INTO app.account (id, materialized_path, depth) VALUES (10, '/1/2/77/10/', 3) RETURNING materialized_path, depth;
ROLLBACK;
-- SHOULD FAIL: a parent in the other org, an edge that crosses
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET parent = 77 WHERE id = 3;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
MERGE INTO app.account a USING (SELECT 1) v ON a.id = 3
    WHEN MATCHED THEN UPDATE SET parent = 77;
ROLLBACK;
-- SHOULD GAIN NOTHING: a path computed for the other org's row, before that row is refused
CREATE TABLE lair.seen (path text);
BEGIN;
SELECT crm_tree.bind_org(:acme);
DO $$ BEGIN
    INSERT INTO app.account (org_id, id, parent) VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 10, 77);
EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, SQLERRM; END $$;
INSERT INTO app.account (id, parent) VALUES (11, 1) RETURNING materialized_path;
SELECT count(*) FROM app.account;
ROLLBACK;
-- SHOULD FAIL: locks. A statement of an unbound session would hold up every org's writers, and touches no row.
BEGIN;
INSERT INTO app.account (id) SELECT 1 WHERE false;
ROLLBACK;
BEGIN;
UPDATE app.account SET parent = NULL WHERE false;
ROLLBACK;
BEGIN;
DELETE FROM app.account WHERE false;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
ROLLBACK;
-- SHOULD GAIN NOTHING: nor does one that names the other org hold any of theirs
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (id) SELECT 1 WHERE false;
SELECT count(*) AS mine FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
DO $$ BEGIN
    INSERT INTO app.account (org_id, id) VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 10);
EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT count(*) AS mine_still FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
ROLLBACK;
-- SHOULD GAIN NOTHING: a mover who sees a part of his org. The paths he does not see are kept right, and he
-- is told none of them.
\c - :super
CREATE ROLE victor_of_the_west LOGIN;
GRANT USAGE ON SCHEMA app TO victor_of_the_west;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.account TO victor_of_the_west;
SELECT crm_tree.grant_org('victor_of_the_west', :acme);
SET ROLE oscar_the_owner;
CREATE POLICY west ON app.account AS RESTRICTIVE TO victor_of_the_west USING (id IN (1, 3));
\c - victor_of_the_west
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT id, materialized_path FROM app.account ORDER BY id;
UPDATE app.account SET parent = 3 WHERE id = 1 RETURNING id, materialized_path;
SELECT id, materialized_path FROM app.account ORDER BY id;
SELECT id FROM crm_tree.subtree('app.account', '3');
SELECT * FROM crm_tree.check_tree('app.account');
RESET ROLE;
\c - victor_of_the_west
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET parent = 3 WHERE id = 1;
COMMIT;
\c - oscar_the_owner
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT id, materialized_path FROM app.account ORDER BY id;
UPDATE app.account SET parent = NULL WHERE id = 1;
COMMIT;
-- SHOULD FAIL: hanging a node below itself through one that he does not see
\c - victor_of_the_west
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET parent = 2 WHERE id = 1;
ROLLBACK;
\c - :super
DROP POLICY west ON app.account;
DROP OWNED BY victor_of_the_west;
SELECT crm_tree.revoke_org('victor_of_the_west', :acme);
DROP ROLE victor_of_the_west;
\c - mallory_the_app_user
-- SHOULD FAIL: the trigger functions on a table of one's own, told other columns
CREATE TABLE lair.own (org_id uuid, id int, parent int, materialized_path text COLLATE "C", depth int);
CREATE TRIGGER place BEFORE INSERT ON lair.own FOR EACH ROW
    EXECUTE FUNCTION crm_tree._tree_place('org_id', 'id', 'parent', 'materialized_path" FROM app.account --', 'depth', '32', 'restrict');
INSERT INTO lair.own VALUES (:acme, 1, 2);
DROP TABLE lair.own;
SELECT crm_tree._tree_place();
-- SHOULD GAIN NOTHING: the right to create triggers, and the tree's own function told to read another column of another org's row
\c - :super
GRANT TRIGGER ON app.account TO mallory_the_app_user;
\c - mallory_the_app_user
SET client_min_messages = error;
DO $$ BEGIN
    CREATE TRIGGER zzz BEFORE UPDATE ON app.account FOR EACH ROW
        EXECUTE FUNCTION crm_tree._tree_place('id', 'org_id', 'secret', 'secret', 'depth', '32', 'restrict');
EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ DECLARE found text; BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    UPDATE app.account SET secret = 'bbbbbbbb-0000-4000-8000-00000000000b' WHERE id = 2 RETURNING secret INTO found;
    RAISE 'read %', found;
EXCEPTION
    WHEN raise_exception THEN
        IF SQLERRM ~* 'globex' THEN RAISE 'read the other org''s column'; END IF;
    WHEN OTHERS THEN NULL;
END $$;
\c - :super
DROP TRIGGER IF EXISTS zzz ON app.account;
REVOKE TRIGGER ON app.account FROM mallory_the_app_user;
DROP TABLE lair.seen;
-- SHOULD GAIN NOTHING: a superuser looks at an attacker's tree. Its columns have types of the attacker's own by
-- now, whose cast to text is a function of the attacker's, and would run as superuser.
\c - mallory_the_app_user
SET client_min_messages = error;
CREATE TABLE lair.bait (org_id uuid, id int, parent int);
INSERT INTO lair.bait VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 1, NULL), ('aaaaaaaa-0000-4000-8000-00000000000a', 2, 1);
SELECT crm_tree.attach_tree('lair.bait', 'id', 'parent');
DO $$ DECLARE t name; BEGIN
    FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'lair.bait'::regclass AND NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON lair.bait', t);
    END LOOP;
    FOR t IN SELECT conname FROM pg_constraint WHERE conrelid = 'lair.bait'::regclass AND contype = 'f' LOOP
        EXECUTE format('ALTER TABLE lair.bait DROP CONSTRAINT %I', t);
    END LOOP;
END $$;
CREATE TYPE lair.number AS ENUM ('1', '2');
ALTER TABLE lair.bait ALTER COLUMN id TYPE lair.number USING id::text::lair.number,
                      ALTER COLUMN parent TYPE lair.number USING parent::text::lair.number;
UPDATE lair.bait SET materialized_path = 'wrong';
CREATE TABLE lair.loot (ran_as name, secret text);
GRANT ALL ON lair.loot TO PUBLIC;
CREATE FUNCTION lair.as_text(lair.number) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    IF current_user <> 'mallory_the_app_user' THEN
        INSERT INTO lair.loot SELECT 'somebody else', secret FROM app.contact;
    END IF;
    RETURN '1';
END $$;
CREATE CAST (lair.number AS text) WITH FUNCTION lair.as_text(lair.number);
\c - :super
SET client_min_messages = error;
DO $$ BEGIN PERFORM * FROM crm_tree.check_tree('lair.bait'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN PERFORM * FROM crm_tree.subtree('lair.bait', '1'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN PERFORM * FROM crm_tree.ancestors('lair.bait', '2'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN PERFORM * FROM crm_tree.repair_tree('lair.bait'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
SELECT DISTINCT ran_as, 'read rows of ' || count(*) || ' contacts' AS gained FROM lair.loot GROUP BY 1;
DROP TABLE lair.bait, lair.loot;
DROP TYPE lair.number CASCADE;
-- SHOULD FAIL: bound to one org, the owner repairs that one. He may list and mend all orgs' paths unbound, as jobs do: see README.md.
\c - oscar_the_owner
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT * FROM crm_tree.repair_tree('app.account', 'bbbbbbbb-0000-4000-8000-00000000000b');
ROLLBACK;
\c - :super
SELECT referee.globex();
SELECT * FROM crm_tree.check_tree('app.account');
