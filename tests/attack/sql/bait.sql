-- Code left on a table for whoever works on it: functions in CHECK constraints and indexes.
-- Attacker: mallory, who makes a table that audit_walls() names; a superuser follows it. To gain: his rights. ALL SHOULD FAIL.
\set SHOW_CONTEXT never
\set VERBOSITY terse
\set super :USER
\c - mallory_the_app_user
CREATE FUNCTION lair.whom() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'runs as %', current_user; RETURN 1; END $$;
CREATE FUNCTION lair.bite(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN lair.whom(); END $$;
CREATE TABLE lair.bait (org_id bigint, id bigint, parent bigint, CHECK (lair.bite(1) > 0));
INSERT INTO lair.bait VALUES (1, 1, NULL);
CREATE INDEX ON lair.bait (id) WHERE lair.bite(1) > 0;
\c - :super
SELECT fix FROM crm_tree.audit_walls() WHERE object = 'lair.bait' AND code = 'table_without_wall';
SELECT crm_tree.protect('lair.bait', 'org_id');
SELECT crm_tree.attach_tree('lair.bait', 'id', 'parent');
SELECT count(*) FROM crm_tree.check_tree('lair.bait');
-- What the audit prints for other findings
\c - mallory_the_app_user
CREATE TABLE lair.nullable (org_id bigint, id bigint, CHECK (lair.bite(1) > 0));
ALTER TABLE lair.nullable ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE lair.upper (org_id bigint NOT NULL, id bigint UNIQUE, PRIMARY KEY (org_id, id));
CREATE TABLE lair.lower (org_id bigint NOT NULL, id bigint PRIMARY KEY, up bigint REFERENCES lair.upper (id), CHECK (lair.bite(1) > 0));
CREATE INDEX ON lair.lower (up) WHERE lair.bite(1) > 0;
SELECT crm_tree.protect('lair.upper');
SELECT crm_tree.protect('lair.lower');
\c - :super
CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 9);
CREATE ROLE bait_other;
ALTER DOMAIN public.short OWNER TO bait_other;
ALTER TABLE lair.lower ADD COLUMN label public.short;
\echo the fixes
SELECT code, object, fix FROM crm_tree.audit_walls() WHERE object ~ '^lair\.' AND code <> 'table_without_wall' ORDER BY code, object;
\echo run
SELECT fix FROM crm_tree.audit_walls() WHERE object ~ '^lair\.' AND code <> 'table_without_wall' ORDER BY code, object
\gexec
SELECT code, object, fix FROM crm_tree.audit_walls() WHERE object ~ '^lair\.' AND code <> 'table_without_wall' ORDER BY code, object;
DROP TABLE lair.nullable, lair.lower, lair.upper;
DROP DOMAIN public.short;
DROP ROLE bait_other;
-- An org column chosen by her is none in the tables of others
\c - mallory_the_app_user
CREATE TABLE lair.named (name text NOT NULL);
SELECT crm_tree.protect('lair.named', 'name');
\c - :super
CREATE TABLE public.product (id bigint PRIMARY KEY, name text NOT NULL);
SELECT count(*) FROM crm_tree.audit_walls() WHERE object ~ 'product';
DROP TABLE public.product, lair.named, lair.bait;
-- SHOULD GAIN NOTHING: an SQL function of hers, planned in the CHECK of a table that a superuser protects, that reads every org
\c - mallory_the_app_user
CREATE TABLE lair.vault (org_id bigint NOT NULL, x text);
CREATE TABLE lair.loot (x text);
CREATE FUNCTION lair.keep(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO lair.loot VALUES ($1); RETURN true; END $$;
CREATE FUNCTION lair.peeks(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE lair.peek (org_id bigint, id int, CHECK (lair.peeks(1)));
CREATE OR REPLACE FUNCTION lair.peeks(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT bool_and(lair.keep(org_id || x)) FROM lair.vault';
INSERT INTO lair.vault VALUES (1, 'one'), (2, 'two');
SELECT crm_tree.protect('lair.vault');
\c - :super
SELECT crm_tree.alter_table('lair.peek', 'ALTER COLUMN org_id SET NOT NULL');
SELECT crm_tree.protect('lair.peek');
SELECT crm_tree.attach_tree('lair.peek', 'id', 'id');
SELECT * FROM lair.loot;
-- The same by a builtin that runs a query of its own, and in an index that a superuser looks at without the guard
\c - mallory_the_app_user
CREATE FUNCTION lair.keep_query(text) RETURNS tsquery LANGUAGE plpgsql AS $$ BEGIN INSERT INTO lair.loot VALUES ($1); RETURN 'a'::tsquery; END $$;
CREATE TABLE lair.room (org_id bigint NOT NULL, x text);
CREATE TABLE lair.door (org_id bigint, CHECK (org_id IS NULL OR ts_rewrite('a', 'SELECT ''a''::tsquery, lair.keep_query(org_id || x) FROM lair.room') IS NOT NULL));
INSERT INTO lair.door VALUES (1);
INSERT INTO lair.room VALUES (1, 'one'), (2, 'two');
SELECT crm_tree.protect('lair.room');
CREATE FUNCTION lair.looks(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE lair.hall (org_id bigint, id int, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('lair.hall', 'id', 'parent');
CREATE INDEX ON lair.hall (org_id) WHERE lair.looks(1);
CREATE OR REPLACE FUNCTION lair.looks(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT bool_and(lair.keep(org_id || x)) FROM lair.room';
\c - :super
SELECT crm_tree.alter_table('lair.door', 'ALTER COLUMN org_id TYPE integer');
SET crm_tree.guard = off;
SELECT crm_tree.alter_table('lair.door', 'ALTER COLUMN org_id TYPE integer');
SELECT * FROM crm_tree.check_tree('lair.hall');
SELECT * FROM lair.loot;
-- ... by a function that returns a set, which the planner puts into our statement
\c - mallory_the_app_user
CREATE FUNCTION lair.in_line() RETURNS SETOF lair.room LANGUAGE sql STABLE AS 'SELECT * FROM lair.room';
CREATE OR REPLACE FUNCTION lair.looks(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT bool_and(lair.keep(org_id || x)) FROM lair.in_line()';
\c - :super
SELECT crm_tree.is_bound();
SET crm_tree.guard = off;
SELECT * FROM crm_tree.check_tree('lair.hall');
SELECT * FROM lair.loot;
RESET crm_tree.guard;
DROP TABLE lair.door, lair.hall, lair.room CASCADE;
DROP TABLE lair.vault, lair.loot, lair.peek;
-- A view upon views, each of which names all columns of the one below: looked at once
\c - mallory_the_app_user
CREATE TABLE lair.base (a int, b int, c int);
CREATE VIEW lair.deep0 AS SELECT a, b, c FROM lair.base;
SELECT format('CREATE VIEW lair.deep%s AS SELECT a, b, c FROM lair.deep%s', i, i - 1) FROM generate_series(1, 20) i \gexec
CREATE MATERIALIZED VIEW lair.frozen AS SELECT * FROM lair.deep20;
SET statement_timeout = '2s';
SELECT count(*) FROM lair.frozen;
RESET statement_timeout;
\c - :super
DROP TABLE lair.base CASCADE;
