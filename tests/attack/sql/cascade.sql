-- Attacker: an application role with TEMP, the default, who makes cascades of his own; and a table owner. In a foreign key's query the server
-- goes past the row security that owners are forced under, with every function that it reaches.
-- To gain: every org's rows through a view or function of an ordinary owner, there or by a plan that is made there and kept.
SET client_min_messages = warning;
DROP ROLE IF EXISTS cascade_owner, cascade_app;
RESET client_min_messages;
CREATE ROLE cascade_owner LOGIN;
CREATE ROLE cascade_app LOGIN;
CREATE SCHEMA cascaded AUTHORIZATION cascade_owner;
GRANT USAGE ON SCHEMA cascaded TO cascade_app;
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET ROLE cascade_owner;
CREATE TABLE cascaded.secret (org_id text, id int, secret text, PRIMARY KEY (org_id, id));
INSERT INTO cascaded.secret VALUES ('acme', 1, 'of acme'), ('globex', 1, 'of globex');
SELECT crm_tree.protect('cascaded.secret');
CREATE VIEW cascaded.shown AS SELECT * FROM cascaded.secret;
CREATE FUNCTION cascaded.notes() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN (SELECT string_agg(secret, ', ') FROM cascaded.secret); END $$;
GRANT SELECT, UPDATE ON cascaded.shown TO cascade_app;
RESET ROLE;
SELECT crm_tree.grant_org('cascade_app', 'acme');

\c - cascade_app
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- SHOULD FAIL: statements prepared in a trigger of a cascade, and run after it
CREATE TEMP TABLE p (i int PRIMARY KEY);
CREATE TEMP TABLE c (i int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO p SELECT generate_series(1, 9);
INSERT INTO c SELECT generate_series(1, 9);
CREATE FUNCTION pg_temp.prepare() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'PREPARE look AS SELECT * FROM cascaded.shown';
    EXECUTE $q$PREPARE change AS UPDATE cascaded.shown SET secret = 'owned' WHERE org_id = 'globex' RETURNING *$q$;
    RETURN OLD;
END $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.prepare();
DELETE FROM p WHERE i = 1;
EXECUTE look;
EXECUTE change;
BEGIN;
SELECT crm_tree.bind_org('acme');
EXECUTE look;
EXECUTE change;
COMMIT;
DROP TRIGGER t ON c;
-- SHOULD FAIL: a function of the owner's called there, whose plans stay, whatever became of the call
CREATE FUNCTION pg_temp.call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '%', cascaded.notes();
    RETURN OLD;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN OLD;
END $$;
CREATE TRIGGER t BEFORE DELETE OR UPDATE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.call();
DELETE FROM p WHERE i = 2;
SELECT cascaded.notes();
UPDATE p SET i = 30 WHERE i = 3;
SELECT cascaded.notes();
DROP TRIGGER t ON c;
-- SHOULD FAIL: in a parallel worker, by a condition of a trigger, by a check
\c - cascade_app
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE TEMP TABLE p (i int PRIMARY KEY);
CREATE TEMP TABLE c (i int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO p SELECT generate_series(1, 9);
INSERT INTO c SELECT generate_series(1, 9);
CREATE FUNCTION pg_temp.call() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
    EXECUTE 'SELECT cascaded.notes()' INTO r;
    RAISE NOTICE '%', r;
    RETURN OLD;
END $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.call();
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
DELETE FROM p WHERE i = 4;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
DROP TRIGGER t ON c;
CREATE FUNCTION pg_temp.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE FUNCTION pg_temp.asks(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', cascaded.notes(); RETURN true; END $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (pg_temp.asks(OLD.i)) EXECUTE FUNCTION pg_temp.quiet();
DELETE FROM p WHERE i = 5;
DROP TRIGGER t ON c;
ALTER TABLE c ADD CHECK (pg_temp.asks(i)) NOT VALID;
UPDATE p SET i = 60 WHERE i = 6;
BEGIN;
SELECT crm_tree.bind_org('acme');
UPDATE p SET i = 60 WHERE i = 6;
ROLLBACK;
SELECT cascaded.notes();
-- SHOULD FAIL: by a constant that is folded while the cascade's query is planned
CREATE TEMP TABLE k (i int PRIMARY KEY);
CREATE TEMP TABLE l (i int REFERENCES k ON DELETE CASCADE);
INSERT INTO k VALUES (1);
INSERT INTO l VALUES (1);
CREATE FUNCTION pg_temp.constant(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('attack.go', true) = '1' THEN RAISE NOTICE '%', cascaded.notes(); END IF;
    RETURN 1;
END $$;
CREATE INDEX ON l ((pg_temp.constant(1)));
SET attack.go = 1;
DELETE FROM k;
RESET attack.go;

\c - postgres
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET ROLE cascade_owner;
-- SHOULD FAIL: a table owner's rule on what a cascade deletes, whose action reads what is protected
CREATE TABLE cascaded.par (org_id text, id int, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('cascaded.par');
CREATE TABLE cascaded.child (org_id text, par int, FOREIGN KEY (org_id, par) REFERENCES cascaded.par ON DELETE CASCADE);
CREATE TABLE cascaded.loot (x text);
CREATE RULE r AS ON DELETE TO cascaded.child DO ALSO INSERT INTO cascaded.loot SELECT secret FROM cascaded.secret;
GRANT SELECT, INSERT, DELETE ON cascaded.par TO cascade_app;
GRANT ALL ON cascaded.child, cascaded.loot TO cascade_app;
\c - cascade_app
\set VERBOSITY terse
\set SHOW_CONTEXT never
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO cascaded.par VALUES ('acme', 3);
INSERT INTO cascaded.child VALUES ('acme', 3);
DELETE FROM cascaded.par WHERE id = 3;
ROLLBACK;
TABLE cascaded.loot;
-- SHOULD FAIL: by what our own maintenance reaches, an expression of an index on a tree's history
\c - postgres
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET ROLE cascade_owner;
CREATE FUNCTION cascaded.bait(int) RETURNS int IMMUTABLE LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('attack.go', true) = '1' THEN PERFORM cascaded.notes(); END IF;
    RETURN 1;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN 1;
END $$;
CREATE TABLE cascaded.node (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('cascaded.node', 'id', 'parent', history => true);
SELECT crm_tree.protect('cascaded.node');
CREATE INDEX ON cascaded.node_history ((cascaded.bait(1)));
CREATE INDEX ON cascaded.node ((cascaded.bait(1)));
GRANT SELECT, INSERT, UPDATE, DELETE ON cascaded.node TO cascade_app;
\c - cascade_app
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET attack.go = 1;
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO cascaded.node VALUES ('acme', 'a', NULL), ('acme', 'b', 'a');
UPDATE cascaded.node SET parent = NULL WHERE id = 'b';
COMMIT;
SELECT cascaded.notes();
-- What it is for goes on: a trigger in a cascade sees the bound org.
CREATE TEMP TABLE p (i int PRIMARY KEY);
CREATE TEMP TABLE c (i int REFERENCES p ON DELETE CASCADE);
INSERT INTO p VALUES (1);
INSERT INTO c VALUES (1);
CREATE FUNCTION pg_temp.call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', cascaded.notes(); RETURN OLD; END $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.call();
BEGIN;
SELECT crm_tree.bind_org('acme');
DELETE FROM p;
COMMIT;

\c - postgres
SET client_min_messages = warning;
SET crm_tree.guard = off;
SELECT org_id, secret FROM cascaded.secret ORDER BY 1;
DROP SCHEMA cascaded CASCADE;
SELECT crm_tree.revoke_org('cascade_app', 'acme');
DROP OWNED BY cascade_owner, cascade_app;
DROP ROLE cascade_owner, cascade_app;
