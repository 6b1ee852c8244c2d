-- load_tree: what INSERT would make of the rows, by the set; the same refusals, and no way to forge a path.
SET client_min_messages = warning;
DROP ROLE IF EXISTS load_owner, load_app;
CREATE ROLE load_owner NOLOGIN;
CREATE ROLE load_app LOGIN;
CREATE SCHEMA load AUTHORIZATION load_owner;
GRANT USAGE, CREATE ON SCHEMA load TO load_app;
SET ROLE load_owner;
CREATE TABLE load.node (org int NOT NULL, id text NOT NULL, up text, note text DEFAULT 'none', size numeric(8,2),
    twice numeric GENERATED ALWAYS AS (size * 2) STORED, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('load.node', 'id', 'up', org => 'org', max_depth => 20);
INSERT INTO load.node VALUES (1, 'top', NULL), (1, 'sub', 'top'), (2, 'other', NULL);
SELECT crm_tree.protect('load.node', 'org');
GRANT SELECT, INSERT ON load.node TO load_app;
CREATE TABLE load.parted (org int NOT NULL, id int NOT NULL, up int, PRIMARY KEY (org, id)) PARTITION BY HASH (id);
CREATE TABLE load.parted_0 PARTITION OF load.parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE load.parted_1 PARTITION OF load.parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT crm_tree.attach_tree('load.parted', 'id', 'up', org => 'org', max_depth => 300);
RESET ROLE;
SELECT crm_tree.grant_org('load_app', 1);
RESET client_min_messages;

SET SESSION AUTHORIZATION load_app;
CREATE TEMP TABLE staging (note text, up text, id text, size numeric(8,2));
SELECT setseed(0.125);
INSERT INTO staging SELECT 'n' || g, CASE WHEN g % 50 = 0 THEN 'sub' WHEN g % 60 = 0 THEN NULL WHEN g > 5 THEN 'x' || floor(random() * g)::int ELSE 'top' END, 'x' || g, g
  FROM generate_series(0, 999) g ORDER BY random();
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT crm_tree.load_tree('load.node', 'staging');
SELECT count(*), count(materialized_path), max(depth), min(note), sum(twice) FROM load.node;
SELECT * FROM crm_tree.check_tree('load.node');
-- The triggers go on from there.
INSERT INTO load.node (id, up) VALUES ('y', 'x999') RETURNING materialized_path LIKE '%/x999/y/' AS placed;
SELECT crm_tree.load_tree('load.node', 'staging');
ROLLBACK;

-- Each refusal: SQLSTATE, message, detail, table and constraint. Of the same rows, INSERT says the same.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE c text; m text; d text; n text; t text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS c = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, n = CONSTRAINT_NAME, t = TABLE_NAME;
    RETURN concat_ws(' ', c, nullif(n, ''), 'on', t, '|', regexp_replace(m, 'pg_temp_\d+', 'pg_temp', 'g'), nullif(d, ''));
END $$;
BEGIN;
SELECT crm_tree.bind_org(1);
CREATE FUNCTION pg_temp.both(VARIADIC rows text[]) RETURNS TABLE (loaded text, inserted text) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE staging;
    INSERT INTO staging (id, up) SELECT split_part(r, '<', 1), nullif(split_part(r, '<', 2), '') FROM unnest(rows) r;
    loaded := pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'staging')$q$);
    inserted := pg_temp.refusal('INSERT INTO load.node (id, up) SELECT id, up FROM staging');
    IF inserted = loaded THEN inserted := 'the same'; END IF;
    RETURN NEXT;
END $$;
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\n  '
SELECT * FROM pg_temp.both('a<b', 'b<c', 'c<b', 'd<a');
SELECT * FROM pg_temp.both('a<a');
SELECT * FROM pg_temp.both('a<top', 'b<404');
SELECT * FROM pg_temp.both('a<other');
SELECT * FROM pg_temp.both('a/b<top');
SELECT * FROM pg_temp.both('<top');
SELECT * FROM pg_temp.both(VARIADIC (SELECT array_agg('d' || g || '<' || CASE g WHEN 1 THEN 'sub' ELSE 'd' || g - 1 END) FROM generate_series(1, 20) g));
SELECT * FROM pg_temp.both(VARIADIC (SELECT array_agg(rpad('d' || g, 300, '-') || '<' || CASE WHEN g > 1 THEN rpad('d' || g - 1, 300, '-') ELSE '' END) FROM generate_series(1, 10) g));
SELECT * FROM pg_temp.both('a<top', 'a<sub');
SELECT * FROM pg_temp.both('top');
TRUNCATE staging; INSERT INTO staging (up) VALUES ('top');
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'staging')$q$);
CREATE TEMP TABLE orgs (org int, id text, up text); INSERT INTO orgs VALUES (1, 'a', 'top'), (2, 'b', 'other');
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'orgs')$q$);
CREATE TEMP TABLE misspelt (id text, up text, noet text);
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'misspelt')$q$);
CREATE TEMP TABLE mistyped (id varchar, up text);
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'mistyped')$q$);
CREATE TEMP TABLE parentless (id text);
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'parentless')$q$);
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('staging', 'staging')$q$);
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.parted', 'staging')$q$);
SELECT crm_tree.load_tree('load.node', NULL) IS NULL;
TRUNCATE staging;
SELECT crm_tree.load_tree('load.node', 'staging');
SELECT count(*) FROM load.node;
ROLLBACK;
SELECT pg_temp.refusal($q$SELECT crm_tree.load_tree('load.node', 'staging')$q$);
\pset format aligned
\pset tuples_only off

-- A function of the caller's that runs inside the statement writes no path of its own: as a cast on the way,
CREATE TYPE load.mood AS ENUM ('fine');
CREATE FUNCTION load.forge(load.mood) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO load.node (id, up, materialized_path, depth) VALUES ('forged' || (SELECT count(*) FROM load.node), 'sub', '/forged/', 0);
    RETURN 'cast';
END $$;
CREATE CAST (load.mood AS text) WITH FUNCTION load.forge(load.mood) AS ASSIGNMENT;
CREATE TABLE load.moody (id text, up text, note load.mood);
INSERT INTO load.moody VALUES ('m', 'top', 'fine'), ('n', 'm', 'fine');
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT crm_tree.load_tree('load.node', 'load.moody');
SELECT id, up, note, materialized_path, depth FROM load.node ORDER BY materialized_path;
SELECT * FROM crm_tree.check_tree('load.node');
ROLLBACK;
-- as a policy of the staging table.
CREATE TABLE load.guarded (id text, up text);
INSERT INTO load.guarded VALUES ('m', 'top'), ('n', 'm');
CREATE FUNCTION load.forge(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO load.node (id, up, materialized_path, depth) VALUES ('forged' || (SELECT count(*) FROM load.node), 'sub', '/forged/', 0);
    RETURN true;
END $$;
CREATE POLICY forge ON load.guarded USING (load.forge(id));
ALTER TABLE load.guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT crm_tree.load_tree('load.node', 'load.guarded');
SELECT count(*) FILTER (WHERE id LIKE 'forged%') > 0 AS forger_ran, count(*) FILTER (WHERE materialized_path LIKE '/forged%') AS forged FROM load.node;
SELECT * FROM crm_tree.check_tree('load.node');
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- Triggers of the table's own: what they change is what is placed, and what they write besides.
CREATE FUNCTION load.upper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id = 'skipped' THEN RETURN NULL; END IF;
    IF NEW.id = 'moved' THEN NEW.up := 'sub'; NEW.materialized_path := '/nonsense/'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER a BEFORE INSERT ON load.node FOR EACH ROW EXECUTE FUNCTION load.upper();
CREATE FUNCTION load.before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF pg_trigger_depth() = 1 THEN INSERT INTO load.node (org, id, up, materialized_path) VALUES (1, 'besides', 'top', '/nonsense/'); END IF;
    RETURN NULL;
END $$;
SET SESSION AUTHORIZATION load_app;
TRUNCATE staging;
INSERT INTO staging (id, up) VALUES ('moved', 'top'), ('below', 'moved'), ('skipped', 'top');
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT crm_tree.load_tree('load.node', 'staging');
SELECT id, up, materialized_path, depth FROM load.node ORDER BY materialized_path;
ROLLBACK;
RESET SESSION AUTHORIZATION;
DROP TRIGGER a ON load.node;
CREATE TRIGGER b BEFORE INSERT ON load.node FOR EACH STATEMENT EXECUTE FUNCTION load.before();
SET SESSION AUTHORIZATION load_app;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT crm_tree.load_tree('load.node', 'staging');
SELECT id, up, materialized_path, depth FROM load.node ORDER BY materialized_path;
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- Partitioned, many orgs at once unbound, deep, and with parents in the tree; the mark is gone afterwards.
CREATE TABLE load.many (org int, id int, up int, PRIMARY KEY (org, id));
INSERT INTO load.many SELECT o, g, CASE WHEN g > 250 THEN 1 + floor(random() * (g - 1))::int WHEN g > 1 THEN g - 1 END
  FROM generate_series(1, 3) o, generate_series(1, 1000) g ORDER BY random();
SELECT crm_tree.load_tree('load.parted', 'load.many');
SELECT org, count(*), max(depth) FROM load.parted GROUP BY org ORDER BY org;
SELECT count(*) AS differ FROM load.parted n
  FULL JOIN (WITH RECURSIVE p(org, id, path) AS (SELECT org, id, '/' || id || '/' FROM load.many WHERE up IS NULL
      UNION ALL SELECT m.org, m.id, p.path || m.id || '/' FROM p JOIN load.many m ON m.org = p.org AND m.up = p.id) SELECT * FROM p) p USING (org, id)
 WHERE n.materialized_path IS DISTINCT FROM p.path;
DELETE FROM load.many;
INSERT INTO load.many SELECT o, g, CASE WHEN g % 2 = 0 THEN g - 1 ELSE g - 1000 END FROM generate_series(1, 3) o, generate_series(1001, 1100) g;
SELECT crm_tree.load_tree('load.parted', 'load.many');
INSERT INTO load.parted (org, id, up, materialized_path, depth) VALUES (1, 5000, 1001, '/forged/', 9) RETURNING materialized_path;
SELECT * FROM crm_tree.check_tree('load.parted');
SET client_min_messages = warning;
DROP SCHEMA load CASCADE;
DROP OWNED BY load_app, load_owner;
DROP ROLE load_app, load_owner;
