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
-- Tables of his own, one below the other; what psql sets outlives \c.
\set ground 'CREATE TEMP TABLE p (i int PRIMARY KEY); CREATE TEMP TABLE c (i int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE); INSERT INTO p SELECT generate_series(1, 9); INSERT INTO c SELECT generate_series(1, 9);'
SET ROLE cascade_owner;
CREATE TABLE cascaded.secret (org_id text, id int, secret text, PRIMARY KEY (org_id, id));
INSERT INTO cascaded.secret VALUES ('acme', 1, 'of acme'), ('globex', 1, 'of globex');
SELECT crm_tree.protect('cascaded.secret');
CREATE VIEW cascaded.shown AS SELECT * FROM cascaded.secret;
CREATE FUNCTION cascaded.notes() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN (SELECT string_agg(secret, ', ') FROM cascaded.secret); END $$;
CREATE VIEW cascaded.barred WITH (security_barrier) AS SELECT * FROM cascaded.secret WHERE id > 0;
CREATE VIEW cascaded.checked AS SELECT * FROM cascaded.secret WITH CHECK OPTION;
GRANT SELECT, INSERT, UPDATE ON cascaded.shown, cascaded.barred, cascaded.checked TO cascade_app;
RESET ROLE;
SELECT crm_tree.grant_org('cascade_app', 'acme');

\c - cascade_app
-- SHOULD FAIL: statements prepared in a trigger of a cascade, and run after it
:ground
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
:ground
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

-- SHOULD FAIL: by functions that were looked up before the cascade: a cursor's, run by a builtin; an implicit cast's; a range type's
\c - cascade_app
:ground
CREATE FUNCTION pg_temp.prep() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'PREPARE look AS SELECT * FROM cascaded.shown';
    EXECUTE $q$PREPARE change AS UPDATE cascaded.shown SET secret = 'owned' WHERE org_id = 'globex' RETURNING *$q$;
    RETURN 1;
END $$;
CREATE FUNCTION pg_temp.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW
    WHEN (length(cursor_to_xml('cur', 1, true, false, '')::text) IS NOT NULL) EXECUTE FUNCTION pg_temp.quiet();
BEGIN;
DECLARE cur CURSOR FOR SELECT pg_temp.prep() FROM generate_series(1, 3);
DELETE FROM p WHERE i = 1;
COMMIT;
EXECUTE look;
EXECUTE look;
BEGIN;
SELECT crm_tree.bind_org('acme');
EXECUTE change;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
EXECUTE look;
EXECUTE change;
ROLLBACK;
\c - cascade_app
CREATE TYPE pg_temp.e AS ENUM ('a', 'b', 'c');
CREATE FUNCTION pg_temp.tell() RETURNS void LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
    IF current_setting('attack.go', true) = '1' THEN
        SELECT string_agg(secret, ', ') INTO r FROM cascaded.shown;
        RAISE NOTICE 'got %', r;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$;
CREATE FUNCTION pg_temp.e2i(pg_temp.e) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_temp.tell(); RETURN ascii($1::text); END';
CREATE CAST (pg_temp.e AS int) WITH FUNCTION pg_temp.e2i(pg_temp.e) AS IMPLICIT;
CREATE TEMP TABLE q (i int PRIMARY KEY);
INSERT INTO q VALUES (97), (98), (99);
CREATE TEMP TABLE p (i int PRIMARY KEY);
CREATE TEMP TABLE c (i int REFERENCES p ON UPDATE CASCADE, k pg_temp.e REFERENCES q);
INSERT INTO p VALUES (1), (2);
INSERT INTO c VALUES (1, 'a'), (2, 'b');
CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.k := 'c'; RETURN NEW; END $$;
CREATE TRIGGER t BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.t();
UPDATE c SET k = 'c' WHERE i = 2;
SET attack.go = 1;
UPDATE p SET i = 10 WHERE i = 1;
SELECT pg_temp.e2i('a');
RESET attack.go;
CREATE FUNCTION pg_temp.sd(int, int) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_temp.tell(); RETURN $1 - $2; END';
CREATE TYPE pg_temp.r AS RANGE (subtype = int, subtype_diff = pg_temp.sd);
CREATE TEMP TABLE rp (i int PRIMARY KEY);
CREATE TEMP TABLE rc (i int REFERENCES rp ON UPDATE CASCADE, k pg_temp.r);
INSERT INTO rp SELECT generate_series(1, 3000);
CREATE INDEX ON rc USING gist (k);
CREATE INDEX ON rc (i);
INSERT INTO rc SELECT i, pg_temp.r(i, i + 10) FROM rp;
SET attack.go = 1;
UPDATE rp SET i = 10000 + i WHERE i < 50;
SELECT pg_temp.sd(1, 2);
RESET attack.go;

-- SHOULD FAIL: by SQL functions, which the planner may put in line: statements planned, or prepared, in their text
\c - cascade_app
:ground
CREATE FUNCTION pg_temp.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE FUNCTION pg_temp.srf() RETURNS SETOF cascaded.shown LANGUAGE sql STABLE AS 'SELECT * FROM cascaded.shown';
CREATE FUNCTION pg_temp.atomic() RETURNS SETOF cascaded.shown LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM cascaded.shown; END;
PREPARE look AS SELECT * FROM pg_temp.srf();
PREPARE look_again AS SELECT * FROM pg_temp.atomic();
CREATE FUNCTION pg_temp.go(int) RETURNS boolean LANGUAGE sql AS 'EXECUTE look; EXECUTE look_again; SELECT true';
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (pg_temp.go(OLD.i)) EXECUTE FUNCTION pg_temp.quiet();
DELETE FROM p WHERE i = 1;
EXECUTE look;
EXECUTE look_again;
DROP TRIGGER t ON c;
CREATE FUNCTION pg_temp.prepares(int) RETURNS boolean LANGUAGE sql AS $$
    PREPARE upd AS UPDATE cascaded.barred SET secret = 'owned' WHERE org_id = 'globex' RETURNING *;
    PREPARE ins AS INSERT INTO cascaded.checked VALUES ('globex', 77, 'planted') RETURNING *;
    SELECT true $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (pg_temp.prepares(OLD.i)) EXECUTE FUNCTION pg_temp.quiet();
DELETE FROM p WHERE i = 2;
EXECUTE upd;
EXECUTE ins;
BEGIN;
SELECT crm_tree.bind_org('acme');
EXECUTE upd;
EXECUTE ins;
ROLLBACK;
DROP TRIGGER t ON c;
CREATE FUNCTION pg_temp.counts(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT count(*) = 1 FROM cascaded.shown';
CREATE FUNCTION pg_temp.counts_too(int) RETURNS boolean LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) = 1 FROM cascaded.shown; END;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (pg_temp.counts(OLD.i)) EXECUTE FUNCTION pg_temp.quiet();
DELETE FROM p WHERE i = 3;
BEGIN;
SELECT crm_tree.bind_org('acme');
DELETE FROM p WHERE i = 3;
ROLLBACK;
DROP TRIGGER t ON c;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (pg_temp.counts_too(OLD.i)) EXECUTE FUNCTION pg_temp.quiet();
DELETE FROM p WHERE i = 4;

\c - postgres
SET ROLE cascade_owner;
-- SHOULD FAIL: a table owner's rule on what a cascade deletes, whose action reads what is protected
CREATE TABLE cascaded.par (org_id text, id int, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('cascaded.par');
CREATE TABLE cascaded.child (org_id text, par int, FOREIGN KEY (org_id, par) REFERENCES cascaded.par ON DELETE CASCADE);
CREATE TABLE cascaded.loot (x text);
CREATE TABLE cascaded.late (org_id text, par int, FOREIGN KEY (org_id, par) REFERENCES cascaded.par DEFERRABLE INITIALLY DEFERRED);
CREATE RULE r AS ON DELETE TO cascaded.child DO ALSO INSERT INTO cascaded.loot SELECT secret FROM cascaded.secret;
GRANT SELECT, INSERT, UPDATE, DELETE ON cascaded.par TO cascade_app;
GRANT ALL ON cascaded.child, cascaded.loot, cascaded.late TO cascade_app;
\c - cascade_app
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO cascaded.par VALUES ('acme', 3);
INSERT INTO cascaded.child VALUES ('acme', 3);
DELETE FROM cascaded.par WHERE id = 3;
ROLLBACK;
TABLE cascaded.loot;
-- SHOULD FAIL: the owner himself, by a builtin that is folded while the cascade's query is planned
\c - cascade_owner
CREATE TEMP TABLE p (i int PRIMARY KEY);
CREATE TEMP TABLE c (i int REFERENCES p ON DELETE CASCADE, j int);
CREATE TEMP TABLE loot (x int);
INSERT INTO loot SELECT generate_series(1, 100);
ANALYZE loot;
CREATE RULE r AS ON DELETE TO c DO ALSO DELETE FROM loot WHERE x = ((table_to_xml('cascaded.secret', true, true, '')::text)::int);
INSERT INTO p VALUES (1);
INSERT INTO c VALUES (1, 1);
DELETE FROM p;
-- SHOULD FAIL: by what our own maintenance reaches, an expression of an index on a tree's history
\c - postgres
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
SET attack.go = 1;
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO cascaded.node VALUES ('acme', 'a', NULL), ('acme', 'b', 'a');
UPDATE cascaded.node SET parent = NULL WHERE id = 'b';
COMMIT;
SELECT cascaded.notes();
-- What it is for goes on: upserts; deferred foreign keys made immediate inside of functions; functions in the expressions of an index stay what they are; a trigger in a cascade sees the bound org.
\c - cascade_app
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO cascaded.par VALUES ('acme', 8), ('acme', 9);
INSERT INTO cascaded.par AS t VALUES ('acme', 8) ON CONFLICT (org_id, id) DO UPDATE SET id = EXCLUDED.id WHERE EXCLUDED.id > 0 RETURNING *;
MERGE INTO cascaded.par t USING (VALUES (8), (10)) v(id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET id = 11 WHEN NOT MATCHED THEN INSERT VALUES ('acme', v.id);
SELECT id FROM cascaded.par ORDER BY 1;
CREATE FUNCTION pg_temp.g() RETURNS void LANGUAGE plpgsql AS 'BEGIN SET CONSTRAINTS ALL IMMEDIATE; END';
CREATE FUNCTION pg_temp.o() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM pg_temp.g(); END';
INSERT INTO cascaded.late VALUES ('acme', 9);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO cascaded.late VALUES ('acme', 11);
SELECT pg_temp.o();
ROLLBACK;
CREATE FUNCTION pg_temp.norm(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE TEMP TABLE par (id int PRIMARY KEY);
CREATE TEMP TABLE chi (id int PRIMARY KEY, par int REFERENCES par ON DELETE SET NULL, email text);
INSERT INTO par VALUES (1), (2);
INSERT INTO chi VALUES (1, 1, 'A@x');
CREATE UNIQUE INDEX ON chi (pg_temp.norm(email));
DELETE FROM par WHERE id = 1;
INSERT INTO chi VALUES (2, 2, 'a@X') ON CONFLICT (pg_temp.norm(email)) DO NOTHING;
:ground
CREATE FUNCTION pg_temp.call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', cascaded.notes(); RETURN OLD; END $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.call();
BEGIN;
SELECT crm_tree.bind_org('acme');
DELETE FROM p WHERE i = 1;
COMMIT;

\c - postgres
SET client_min_messages = warning;
SET crm_tree.guard = off;
SELECT org_id, secret FROM cascaded.secret ORDER BY 1;
DROP SCHEMA cascaded CASCADE;
SELECT crm_tree.revoke_org('cascade_app', 'acme');
DROP OWNED BY cascade_owner, cascade_app;
DROP ROLE cascade_owner, cascade_app;
