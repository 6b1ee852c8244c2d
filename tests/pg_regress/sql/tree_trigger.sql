-- Triggers of the user's that move, insert or write paths of their own while a statement of his, or one of ours, is at work:
-- whatever commits, every path is what the links say.
SET client_min_messages = warning;
CREATE SCHEMA trig;
CREATE TABLE trig.node (org int NOT NULL, id int NOT NULL, parent int, note text, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('trig.node', 'id', 'parent', 'org');
-- What is wrong, by the links alone.
CREATE VIEW trig.wrong AS
WITH RECURSIVE w AS (
    SELECT org, id, '/' || id || '/' AS path, 0 AS depth FROM trig.node WHERE parent IS NULL
    UNION ALL
    SELECT c.org, c.id, w.path || c.id || '/', w.depth + 1 FROM w JOIN trig.node c ON c.org = w.org AND c.parent = w.id)
SELECT n.id, n.materialized_path, w.path FROM trig.node n LEFT JOIN w ON w.org = n.org AND w.id = n.id
 WHERE n.materialized_path IS DISTINCT FROM w.path OR n.depth IS DISTINCT FROM w.depth;
CREATE FUNCTION trig.does() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE TG_ARGV[0];
    RETURN CASE WHEN TG_WHEN = 'BEFORE' THEN NEW END;
END $$;

-- A move, by a row that is moved, of a node whose rows the statement has still to move
INSERT INTO trig.node VALUES (1, 1, NULL), (1, 15, NULL), (1, 16, 15), (1, 3, 16), (1, 19, NULL), (1, 77, 19), (1, 23, 77), (1, 14, 23);
CREATE TRIGGER pull AFTER UPDATE ON trig.node FOR EACH ROW WHEN (NEW.id = 14)
    EXECUTE FUNCTION trig.does('UPDATE trig.node SET parent = 14 WHERE id = 15 AND parent IS NULL');
UPDATE trig.node SET parent = 1 WHERE id IN (16, 23);
SELECT id, materialized_path FROM trig.node ORDER BY id;
SELECT * FROM trig.wrong;
DROP TRIGGER pull ON trig.node;
-- ... and back again, in two steps
CREATE TRIGGER pull AFTER UPDATE ON trig.node FOR EACH ROW WHEN (NEW.id = 14 AND pg_trigger_depth() < 3)
    EXECUTE FUNCTION trig.does('UPDATE trig.node SET parent = 1 WHERE id = 77; UPDATE trig.node SET parent = 19 WHERE id = 77; UPDATE trig.node SET parent = 19 WHERE id = 16');
UPDATE trig.node SET parent = CASE id WHEN 23 THEN 77 WHEN 16 THEN 77 END WHERE id IN (16, 23, 15);
SELECT id, materialized_path FROM trig.node ORDER BY id;
SELECT * FROM trig.wrong;
DROP TRIGGER pull ON trig.node;
DELETE FROM trig.node;

-- A move while children that came before their parents are given their paths, few and many
INSERT INTO trig.node VALUES (1, 1, NULL), (1, 2, 1), (1, 4, NULL);
CREATE TRIGGER go BEFORE UPDATE ON trig.node FOR EACH ROW WHEN (NEW.note = 'go')
    EXECUTE FUNCTION trig.does('UPDATE trig.node SET parent = 4 WHERE id = 2 AND parent = 1');
INSERT INTO trig.node VALUES (1, 12, 11, NULL), (1, 13, 11, 'go'), (1, 14, 11, NULL), (1, 11, 2, NULL);
SELECT id, materialized_path FROM trig.node ORDER BY id;
SELECT * FROM trig.wrong;
DELETE FROM trig.node WHERE id > 4;
UPDATE trig.node SET parent = 1 WHERE id = 2;
INSERT INTO trig.node SELECT 1, 30000 + g, 29999, CASE WHEN g = 3 THEN 'go' END FROM generate_series(1, 2000) g UNION ALL SELECT 1, 29999, 2, NULL;
SELECT count(*), min(materialized_path), max(materialized_path) FROM trig.node WHERE id > 29999;
SELECT * FROM trig.wrong;
DROP TRIGGER go ON trig.node;
DELETE FROM trig.node;

-- A move before a load's rows come, and by what one of them is filled with
INSERT INTO trig.node VALUES (1, 1, NULL), (1, 2, 1), (1, 4, NULL);
CREATE TABLE trig.staging (org int, id int, parent int);
INSERT INTO trig.staging VALUES (1, 10, 2), (1, 11, 10), (1, 12, 11);
CREATE TRIGGER go BEFORE INSERT ON trig.node FOR EACH STATEMENT EXECUTE FUNCTION trig.does('UPDATE trig.node SET parent = 4 WHERE id = 2 AND parent = 1');
SELECT crm_tree.load_tree('trig.node', 'trig.staging');
SELECT id, materialized_path FROM trig.node ORDER BY id;
SELECT * FROM trig.wrong;
DROP TRIGGER go ON trig.node;
DELETE FROM trig.node WHERE id >= 10;
CREATE FUNCTION trig.moving() RETURNS text LANGUAGE plpgsql AS $$ BEGIN UPDATE trig.node SET parent = CASE parent WHEN 1 THEN 4 ELSE 1 END WHERE id = 2; RETURN 'filled'; END $$;
ALTER TABLE trig.node ALTER note SET DEFAULT trig.moving();
SELECT crm_tree.load_tree('trig.node', 'trig.staging');
SELECT id, materialized_path, note FROM trig.node ORDER BY id;
SELECT * FROM trig.wrong;
ALTER TABLE trig.node ALTER note DROP DEFAULT;
DELETE FROM trig.node;

-- A trigger that lets nobody write the path: moves and inserts overwrite it, as anybody's
CREATE FUNCTION trig.keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.materialized_path := OLD.materialized_path; NEW.depth := OLD.depth; RETURN NEW; END $$;
CREATE TRIGGER keeps BEFORE UPDATE ON trig.node FOR EACH ROW EXECUTE FUNCTION trig.keeps();
INSERT INTO trig.node VALUES (1, 1, NULL), (1, 3, 2), (1, 2, 1), (1, 4, NULL), (1, 5, 2), (1, 6, 5);
UPDATE trig.node SET parent = 4 WHERE id = 2;
UPDATE trig.node SET parent = CASE id WHEN 5 THEN 4 ELSE 1 END WHERE id IN (5, 2);
SELECT id, materialized_path, depth FROM trig.node ORDER BY id;
SELECT * FROM trig.wrong;
-- ... a repair, which computes as it writes, says so
SET session_replication_role = replica;
UPDATE trig.node SET materialized_path = '/wrong/' WHERE id = 6;
RESET session_replication_role;
SELECT * FROM crm_tree.repair_tree('trig.node');
DROP TRIGGER keeps ON trig.node;
SELECT * FROM crm_tree.repair_tree('trig.node');
-- Another key of a row that is moved along, and another path of the right form
CREATE FUNCTION trig.renames() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := 33; RETURN NEW; END $$;
CREATE TRIGGER renames BEFORE UPDATE ON trig.node FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION trig.renames();
UPDATE trig.node SET parent = 4 WHERE id = 2;
DROP TRIGGER renames ON trig.node;
CREATE FUNCTION trig.invents() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.materialized_path := '/7/8/3/'; NEW.depth := 2; RETURN NEW; END $$;
CREATE TRIGGER invents BEFORE UPDATE ON trig.node FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION trig.invents();
UPDATE trig.node SET parent = 4 WHERE id = 2;
DROP TRIGGER invents ON trig.node;
SELECT * FROM trig.wrong;
SELECT * FROM crm_tree.check_tree('trig.node');

-- attach_tree, where a trigger moves nodes or keeps their paths
CREATE TABLE trig.late (org int NOT NULL, id int NOT NULL, parent int, materialized_path text COLLATE "C", depth int, PRIMARY KEY (org, id));
INSERT INTO trig.late VALUES (1, 1, NULL, '/old/', 7), (1, 2, 1, '/old/', 7), (1, 3, 2, NULL, NULL), (1, 4, NULL, NULL, NULL);
CREATE TRIGGER moves AFTER UPDATE ON trig.late FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION trig.does('UPDATE trig.late SET parent = 4 WHERE id = 2 AND parent = 1');
SELECT crm_tree.attach_tree('trig.late', 'id', 'parent', 'org');
DROP TRIGGER moves ON trig.late;
CREATE TRIGGER keeps BEFORE UPDATE ON trig.late FOR EACH ROW EXECUTE FUNCTION trig.keeps();
SELECT crm_tree.attach_tree('trig.late', 'id', 'parent', 'org');
DROP TRIGGER keeps ON trig.late;
SELECT crm_tree.attach_tree('trig.late', 'id', 'parent', 'org');
SELECT * FROM crm_tree.check_tree('trig.late');

-- A history from before of other types, and a partition made behind a tree with history, which is to be attached again
CREATE TABLE trig.kept (org int NOT NULL, id varchar(20) NOT NULL, parent varchar(20), PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('trig.kept', 'id', 'parent', 'org', history => true);
DROP TABLE trig.kept;
CREATE TABLE trig.kept (org int NOT NULL, id int NOT NULL, parent int, PRIMARY KEY (org, id)) PARTITION BY LIST (org);
CREATE TABLE trig.kept_1 PARTITION OF trig.kept FOR VALUES IN (1);
SELECT crm_tree.attach_tree('trig.kept', 'id', 'parent', 'org', history => true);
ALTER TABLE trig.kept_history RENAME TO kept_before;
SELECT crm_tree.attach_tree('trig.kept', 'id', 'parent', 'org', history => true);
CREATE TABLE trig.kept_2 PARTITION OF trig.kept FOR VALUES IN (2);
INSERT INTO trig.kept VALUES (1, 1, NULL), (2, 1, NULL);
SELECT * FROM crm_tree.check_tree('trig.kept');
SELECT crm_tree.attach_tree('trig.kept', 'id', 'parent', 'org', history => true);
SELECT * FROM crm_tree.check_tree('trig.kept');
TRUNCATE trig.kept_1 CASCADE;
SELECT count(*) FROM trig.kept;
-- An error that passes through path maintenance is what it was.
CREATE TABLE trig.errs (org int, id int, parent int, note text, PRIMARY KEY (org, id), materialized_path text COLLATE "C", depth int,
    CONSTRAINT shallow CHECK (note <> 'shallow' OR depth < 3));
SELECT crm_tree.attach_tree('trig.errs', 'id', 'parent', 'org', on_delete => 'adopt');
CREATE FUNCTION trig.complains() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.note = 'boom' AND NEW.depth > 1 THEN
        RAISE EXCEPTION 'no' USING ERRCODE = 'UE001', CONSTRAINT = 'my_rule', TABLE = 'errs', SCHEMA = 'trig', COLUMN = 'note', DATATYPE = 'text', DETAIL = 'because', HINT = 'do not';
    ELSIF NEW.note = 'caught' THEN
        BEGIN RAISE EXCEPTION 'inner' USING ERRCODE = 'UE002'; EXCEPTION WHEN OTHERS THEN NULL; END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER complains AFTER UPDATE ON trig.errs FOR EACH ROW EXECUTE FUNCTION trig.complains();
INSERT INTO trig.errs VALUES (1, 1, NULL, ''), (1, 2, 1, ''), (1, 10, NULL, ''), (1, 11, 10, 'boom'), (1, 20, NULL, ''), (1, 21, 20, ''), (1, 22, 21, 'shallow'), (1, 30, NULL, ''), (1, 31, 30, 'caught'), (1, 40, NULL, ''), (1, 41, 40, '');
CREATE TABLE trig.refers (org int, to_node int, CONSTRAINT of_node FOREIGN KEY (org, to_node) REFERENCES trig.errs (org, id));
INSERT INTO trig.refers VALUES (1, 40);
CREATE TABLE trig.staged_errs (org int, id int, parent int, note text);
INSERT INTO trig.staged_errs VALUES (1, 100, 2, ''), (1, 101, 100, 'shallow');
CREATE FUNCTION trig.told(statement text) RETURNS TABLE (code text, name text, of_table text, message text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, name = CONSTRAINT_NAME, of_table = TABLE_NAME, message = MESSAGE_TEXT;
    RETURN NEXT;
END $$;
SELECT t.* FROM unnest(ARRAY[
    'UPDATE trig.errs SET parent = 2 WHERE id = 10',
    'UPDATE trig.errs SET parent = 2 WHERE id = 20',
    'UPDATE trig.errs SET parent = 2 WHERE id = 30',
    'SELECT crm_tree.merge_nodes(''trig.errs'', ''40'', ''2'')',
    'SELECT crm_tree.merge_nodes(''trig.errs'', ''10'', ''2'')',
    'SELECT crm_tree.load_tree(''trig.errs'', ''trig.staged_errs'')']) WITH ORDINALITY AS s(statement, n) CROSS JOIN LATERAL trig.told(s.statement) AS t ORDER BY n;
DO $$
DECLARE schema text; of_column text; of_type text; detail text; hint text; context text;
BEGIN
    UPDATE trig.errs SET parent = 2 WHERE id = 10;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS schema = SCHEMA_NAME, of_column = COLUMN_NAME, of_type = PG_DATATYPE_NAME, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
    RAISE WARNING '% % % % % %', schema, of_column, of_type, detail, hint, split_part(context, E'\n', 1);
END $$;
-- Ones that were caught, and are thrown again behind others; and a user's own that looks like a refusal that was caught
CREATE FUNCTION trig.throws(code text, message text, named text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, CONSTRAINT = named, TABLE = 'of_a_user';
END $$;
CREATE FUNCTION trig.throws_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.note
    WHEN 'again' THEN
        BEGIN
            PERFORM trig.throws('UE003', 'same', 'of_the_first');
        EXCEPTION WHEN OTHERS THEN
            BEGIN PERFORM trig.throws('UE004', 'same', 'of_the_second'); EXCEPTION WHEN OTHERS THEN NULL; END;
            FOR i IN 1..20 LOOP
                BEGIN PERFORM trig.throws('UE005', 'other', 'of_the_others'); EXCEPTION WHEN OTHERS THEN NULL; END;
            END LOOP;
            RAISE;
        END;
    WHEN 'memory' THEN
        PERFORM trig.throws('53200', 'out of memory', 'of_memory');
    WHEN 'refusal' THEN
        BEGIN
            INSERT INTO trig.errs VALUES (1, 99, 404, '');
        EXCEPTION WHEN OTHERS THEN
            PERFORM trig.throws(SQLSTATE, SQLERRM, 'of_mine');
        END;
    ELSE
    END CASE;
    RETURN NULL;
END $$;
CREATE TRIGGER throws_again AFTER UPDATE ON trig.errs FOR EACH ROW EXECUTE FUNCTION trig.throws_again();
INSERT INTO trig.errs VALUES (1, 60, NULL, ''), (1, 61, 60, 'again'), (1, 70, NULL, ''), (1, 71, 70, 'memory'), (1, 80, NULL, ''), (1, 81, 80, 'refusal');
SELECT t.* FROM unnest(ARRAY[60, 70, 80]) WITH ORDINALITY AS s(id, n) CROSS JOIN LATERAL trig.told(format('UPDATE trig.errs SET parent = 2 WHERE id = %s', id)) AS t ORDER BY n;
-- All of where it happened, and once
DO $$ BEGIN UPDATE trig.errs SET parent = 2 WHERE id = 60; END $$;
SELECT count(*) FROM crm_tree.check_tree('trig.errs');
DROP SCHEMA trig CASCADE;
