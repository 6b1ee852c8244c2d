-- Attacker: an application role with TEMP, as in `cascade`. Row security enters a statement when it is rewritten. Some are rewritten and never
-- analysed: a BEGIN ATOMIC function's body, CREATE TABLE AS, a rule's action; in a cascade or in path maintenance that would be past the wall.
-- To gain: every org's rows through a view of an ordinary owner, there or by a plan that is made there and kept.
SET client_min_messages = warning;
DROP ROLE IF EXISTS rewritten_owner, rewritten_app, rewritten_other;
CREATE ROLE rewritten_owner LOGIN;
CREATE ROLE rewritten_app LOGIN;
CREATE ROLE rewritten_other;
GRANT rewritten_other TO rewritten_app;
CREATE SCHEMA rewritten AUTHORIZATION rewritten_owner;
CREATE SCHEMA rewritten_lair AUTHORIZATION rewritten_app;
GRANT USAGE ON SCHEMA rewritten, rewritten_lair TO rewritten_app, rewritten_other;
RESET client_min_messages;
\set VERBOSITY terse
\set SHOW_CONTEXT never
\set ground 'CREATE TEMP TABLE p (i int PRIMARY KEY); CREATE TEMP TABLE c (i int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE); INSERT INTO p SELECT generate_series(1, 9); INSERT INTO c SELECT generate_series(1, 9); CREATE TEMP TABLE loot (x text); CREATE FUNCTION pg_temp.quiet() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN coalesce(NEW, OLD); END'';'
SET ROLE rewritten_owner;
CREATE TABLE rewritten.secret (org_id text, id int, secret text, PRIMARY KEY (org_id, id));
INSERT INTO rewritten.secret VALUES ('acme', 1, 'of acme'), ('globex', 1, 'of globex');
SELECT crm_tree.protect('rewritten.secret');
CREATE VIEW rewritten.shown AS SELECT * FROM rewritten.secret;
CREATE VIEW rewritten.checked WITH (security_barrier) AS SELECT * FROM rewritten.secret WHERE id > 0 WITH CHECK OPTION;
GRANT SELECT, INSERT, UPDATE, DELETE ON rewritten.shown, rewritten.checked TO rewritten_app;
RESET ROLE;
SELECT crm_tree.grant_org('rewritten_app', 'acme');

-- SHOULD FAIL: a rule on a tree of his own, whose action would come along with what maintenance writes
\c - rewritten_app
CREATE TABLE rewritten_lair.kin (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
CREATE TABLE rewritten_lair.loot (x text);
CREATE RULE r AS ON UPDATE TO rewritten_lair.kin DO ALSO INSERT INTO rewritten_lair.loot SELECT secret FROM rewritten.shown;
SELECT crm_tree.attach_tree('rewritten_lair.kin', 'id', 'parent', on_delete => 'adopt');
DROP RULE r ON rewritten_lair.kin;
SELECT crm_tree.attach_tree('rewritten_lair.kin', 'id', 'parent', on_delete => 'adopt');
CREATE RULE r AS ON UPDATE TO rewritten_lair.kin DO ALSO INSERT INTO rewritten_lair.loot SELECT secret FROM rewritten.shown;

-- SHOULD FAIL: a rule in a cascade, where a function folded while it is planned, or run while an earlier action is, takes the exemption away
\c - rewritten_app
:ground
CREATE FUNCTION pg_temp.imm(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT max(x) FROM (VALUES (1)) v (x)';
CREATE RULE r AS ON DELETE TO c DO ALSO INSERT INTO loot SELECT secret FROM rewritten.shown WHERE pg_temp.imm(1) = 1;
DELETE FROM p WHERE i = 1;
DROP RULE r ON c;
CREATE RULE r AS ON DELETE TO c DO ALSO UPDATE rewritten.shown SET secret = 'owned' WHERE org_id = 'globex' AND pg_temp.imm(1) = 1;
DELETE FROM p WHERE i = 1;
DROP RULE r ON c;
CREATE RULE r AS ON DELETE TO c DO ALSO UPDATE rewritten.checked SET secret = 'owned' WHERE org_id = 'globex' AND pg_temp.imm(1) = 1;
DELETE FROM p WHERE i = 1;
DROP RULE r ON c;
CREATE RULE r AS ON DELETE TO c DO ALSO INSERT INTO rewritten.checked VALUES ('globex', 2, 'owned by ' || pg_temp.imm(1));
DELETE FROM p WHERE i = 1;
DROP RULE r ON c;
CREATE TEMP TABLE bait (x int);
CREATE RULE r1 AS ON UPDATE TO c DO ALSO INSERT INTO bait VALUES (1);
CREATE RULE r2 AS ON UPDATE TO c DO ALSO INSERT INTO loot SELECT secret FROM rewritten.shown;
CREATE TRIGGER t BEFORE INSERT ON bait FOR EACH ROW WHEN (length(query_to_xml('select 1', true, true, '')::text) > 0) EXECUTE FUNCTION pg_temp.quiet();
UPDATE p SET i = 20 WHERE i = 2;
TABLE loot;

-- SHOULD FAIL: the same through a view of his own that is a security barrier, whose condition reads like the wall's
\c - rewritten_app
:ground
CREATE FUNCTION pg_temp.imm(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT max(x) FROM (VALUES (1)) v (x)';
CREATE VIEW rewritten_lair.barrier WITH (security_barrier) AS SELECT * FROM rewritten.shown WHERE org_id = crm_tree.current_org_text();
CREATE RULE r AS ON UPDATE TO c DO ALSO UPDATE rewritten_lair.barrier SET org_id = 'globex', id = 77, secret = 'planted' WHERE pg_temp.imm(1) = 1;
BEGIN;
SELECT crm_tree.bind_org('acme');
UPDATE rewritten_lair.barrier SET org_id = 'globex', id = 77, secret = 'planted';
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
UPDATE p SET i = 20 WHERE i = 2;
COMMIT;

-- SHOULD FAIL: a BEGIN ATOMIC function and CREATE TABLE AS, in functions that a cursor looked up before the cascade
\c - rewritten_app
:ground
CREATE FUNCTION pg_temp.atomic(i int) RETURNS text LANGUAGE sql VOLATILE BEGIN ATOMIC INSERT INTO loot SELECT secret FROM rewritten.shown; SELECT i::text; END;
CREATE FUNCTION pg_temp.ctas(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE copied AS SELECT * FROM rewritten.shown; RETURN 1; END $$;
CREATE FUNCTION pg_temp.ctas_sql(i int) RETURNS int LANGUAGE sql AS $$ DROP TABLE IF EXISTS copied; CREATE TEMP TABLE copied AS SELECT secret FROM rewritten.shown; SELECT 1 $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (length(cursor_to_xml('cur', 1, true, false, '')::text) > 0) EXECUTE FUNCTION pg_temp.quiet();
BEGIN;
DECLARE cur CURSOR FOR SELECT pg_temp.atomic(g) FROM generate_series(1, 3) g;
DELETE FROM p WHERE i = 1;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
DECLARE cur CURSOR FOR SELECT pg_temp.atomic(g) FROM generate_series(1, 3) g;
DELETE FROM p WHERE i = 1;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT pg_temp.ctas(1);
TABLE copied;
ROLLBACK;
BEGIN;
DECLARE cur CURSOR FOR SELECT pg_temp.ctas(g) FROM generate_series(1, 3) g;
DELETE FROM p WHERE i = 1;
ROLLBACK;
SET client_min_messages = warning;
BEGIN;
SELECT crm_tree.bind_org('acme');
DECLARE cur CURSOR FOR SELECT pg_temp.ctas_sql(g) FROM generate_series(1, 3) g;
FETCH cur;
TABLE copied;
DELETE FROM p WHERE i = 1;
ROLLBACK;
RESET client_min_messages;

-- SHOULD FAIL: a BEGIN ATOMIC function of an implicit cast, which a foreign key keeps; of a range type
\c - rewritten_app
CREATE TYPE rewritten_lair.e AS ENUM ('a', 'b', 'c');
CREATE FUNCTION rewritten_lair.e2i(rewritten_lair.e, int, bool) RETURNS int LANGUAGE sql VOLATILE
    BEGIN ATOMIC INSERT INTO rewritten_lair.loot SELECT secret FROM rewritten.shown; SELECT ascii($1::text); END;
CREATE CAST (rewritten_lair.e AS int) WITH FUNCTION rewritten_lair.e2i(rewritten_lair.e, int, bool) AS IMPLICIT;
CREATE TEMP TABLE q (i int PRIMARY KEY);
INSERT INTO q VALUES (97), (98), (99);
CREATE TEMP TABLE p (i int PRIMARY KEY);
CREATE TEMP TABLE c (i int REFERENCES p ON UPDATE CASCADE, k rewritten_lair.e REFERENCES q);
CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.k := 'c'; RETURN NEW; END $$;
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO p VALUES (1), (2), (3);
INSERT INTO c VALUES (1, 'a'), (2, 'b'), (3, 'b');
COMMIT;
BEGIN;
SELECT crm_tree.bind_org('acme');
CREATE TRIGGER t BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.t();
UPDATE c SET k = 'c' WHERE i = 2;
COMMIT;
SELECT DISTINCT x FROM rewritten_lair.loot;
BEGIN;
SELECT crm_tree.bind_org('acme');
UPDATE p SET i = 10 WHERE i = 1;
SELECT DISTINCT x FROM rewritten_lair.loot;
ROLLBACK;
UPDATE p SET i = 10 WHERE i = 1;
SELECT DISTINCT x FROM rewritten_lair.loot;
CREATE FUNCTION pg_temp.put(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'got %', $1; RETURN 1; END $$;
CREATE FUNCTION pg_temp.sd(int, int) RETURNS float8 LANGUAGE sql IMMUTABLE
    BEGIN ATOMIC SELECT ($1 - $2)::float8 + 0 * (SELECT count(pg_temp.put(secret)) FROM rewritten.shown); END;
CREATE TYPE pg_temp.r AS RANGE (subtype = int, subtype_diff = pg_temp.sd);
CREATE TEMP TABLE rp (i int PRIMARY KEY);
-- The range follows the key out of every page's bounds: otherwise GiST may take a page by chance without asking for a difference.
CREATE TEMP TABLE rc (i int REFERENCES rp ON UPDATE CASCADE, k pg_temp.r GENERATED ALWAYS AS (pg_temp.r(i, i + 10)) STORED);
INSERT INTO rp SELECT generate_series(1, 1500);
CREATE INDEX ON rc USING gist (k);
SET client_min_messages = warning;
BEGIN;
SELECT crm_tree.bind_org('acme');
INSERT INTO rc SELECT i FROM rp;
COMMIT;
RESET client_min_messages;
BEGIN;
SELECT crm_tree.bind_org('acme');
UPDATE rp SET i = 10000 + i WHERE i < 3;
COMMIT;

-- SHOULD FAIL: statements that SQL functions prepare while maintenance is planned, in an expression of an index that it looks at
\c - rewritten_app
CREATE TABLE rewritten_lair.deep (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('rewritten_lair.deep', 'id', 'parent', history => true);
INSERT INTO rewritten_lair.deep VALUES ('acme', 'a', NULL), ('acme', 'b', 'a'), ('acme', 'c', NULL);
CREATE FUNCTION pg_temp.vol() RETURNS int LANGUAGE sql VOLATILE AS $$
    PREPARE look AS SELECT * FROM rewritten.shown; PREPARE change AS UPDATE rewritten.shown SET secret = 'owned' WHERE org_id = 'globex' RETURNING *; SELECT 1 $$;
CREATE FUNCTION pg_temp.imm(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN current_setting('attack.go', true) = '1' THEN pg_temp.vol() ELSE 1 END $$;
CREATE INDEX ON rewritten_lair.deep_history ((pg_temp.imm(1)));
SET search_path = pg_catalog, pg_temp;
SET attack.go = 1;
UPDATE rewritten_lair.deep SET parent = 'c' WHERE id = 'a';
RESET attack.go;
EXECUTE look;
BEGIN;
SELECT crm_tree.bind_org('acme');
EXECUTE look;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org('acme');
EXECUTE change;
ROLLBACK;

-- SHOULD GAIN NOTHING: a policy of his own on a tree of his own, asked by another role of his when nodes are merged
\c - rewritten_app
CREATE TEMP TABLE loot (x text);
CREATE FUNCTION pg_temp.put(text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO pg_temp.loot VALUES ($1); RETURN $1; END $$;
CREATE TABLE rewritten_lair.node (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('rewritten_lair.node', 'id', 'parent');
INSERT INTO rewritten_lair.node VALUES ('acme', 'a', NULL), ('acme', 'b', 'a'), ('acme', 'c', NULL);
ALTER TABLE rewritten_lair.node ENABLE ROW LEVEL SECURITY;
CREATE VIEW rewritten_lair.peep AS SELECT secret FROM rewritten.shown;
GRANT SELECT ON rewritten_lair.peep TO rewritten_other;
GRANT ALL ON rewritten_lair.node TO rewritten_other;
CREATE POLICY p ON rewritten_lair.node USING ((SELECT count(pg_temp.put(secret)) FROM rewritten_lair.peep) > 0);
BEGIN;
SELECT crm_tree.bind_org('acme');
SET ROLE rewritten_other;
SELECT crm_tree.merge_nodes('rewritten_lair.node', 'a', 'c');
SELECT * FROM crm_tree.preview_merge('rewritten_lair.node', 'b', 'c');
RESET ROLE;
SELECT DISTINCT x FROM loot;
ROLLBACK;

-- SHOULD FAIL: a builtin in a cascade whose plan is an old one, where the guard is off
\c - postgres
SELECT format('ALTER DATABASE %I SET crm_tree.guard = off', current_database()) \gexec
\c - rewritten_app
SHOW crm_tree.guard;
:ground
ANALYZE p, c;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW WHEN (OLD.i > 8 AND query_to_xml('select secret from rewritten.shown', false, true, '')::text ~ 'globex') EXECUTE FUNCTION pg_temp.quiet();
DELETE FROM p WHERE i = 1;
DELETE FROM p WHERE i = 2;
DELETE FROM p WHERE i = 3;
DELETE FROM p WHERE i = 4;
DELETE FROM p WHERE i = 5;
DELETE FROM p WHERE i = 6;
DELETE FROM p WHERE i = 7;
DELETE FROM p WHERE i = 9;
CREATE RULE r AS ON UPDATE TO c DO ALSO INSERT INTO loot SELECT secret FROM rewritten.shown;
UPDATE p SET i = 80 WHERE i = 8;
\c - postgres
SELECT format('ALTER DATABASE %I RESET crm_tree.guard', current_database()) \gexec

-- SHOULD FAIL: deferred keys checked by SET CONSTRAINTS in a trigger of his cascade, which are to see every org, then and later
SET ROLE rewritten_owner;
CREATE TABLE rewritten.shared (id int PRIMARY KEY);
CREATE TABLE rewritten.kid (org_id text, id int, shared int REFERENCES rewritten.shared DEFERRABLE, PRIMARY KEY (org_id, id));
INSERT INTO rewritten.shared SELECT generate_series(1, 4);
INSERT INTO rewritten.kid VALUES ('globex', 1, 1), ('globex', 2, 2);
SET client_min_messages = warning;
SELECT crm_tree.protect('rewritten.kid');
RESET client_min_messages;
GRANT SELECT, DELETE ON rewritten.shared TO rewritten_app;
\c - rewritten_app
:ground
CREATE FUNCTION pg_temp.now_please() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; RETURN OLD; END $$;
CREATE TRIGGER t BEFORE DELETE ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.now_please();
BEGIN;
SELECT crm_tree.bind_org('acme');
SET CONSTRAINTS ALL DEFERRED;
DELETE FROM rewritten.shared WHERE id = 1;
DELETE FROM p WHERE i = 1;
COMMIT;
DROP TABLE c, p;
DELETE FROM rewritten.shared WHERE id = 2;
DELETE FROM rewritten.shared WHERE id = 3;

-- What it is for goes on: a role that no policy lets in reads nothing, and is told so as ever.
\c - postgres
SET ROLE rewritten_owner;
CREATE TABLE rewritten.task (org_id text, id text, parent text, PRIMARY KEY (org_id, id));
CREATE POLICY app ON rewritten.task FOR SELECT TO rewritten_app USING (true);
SELECT crm_tree.protect('rewritten.task');
SELECT crm_tree.attach_tree('rewritten.task', 'id', 'parent');
CREATE VIEW rewritten.tasks AS SELECT * FROM rewritten.task;
GRANT ALL ON rewritten.task, rewritten.tasks TO rewritten_app;
RESET ROLE;
SELECT crm_tree.grant_org('rewritten_owner', 'acme');
\c - rewritten_owner
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT count(*) FROM rewritten.task;
CREATE TEMP TABLE copy AS SELECT * FROM rewritten.task;
SELECT * FROM crm_tree.check_tree('rewritten.task');
ROLLBACK;
\c - rewritten_app
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT count(*) FROM rewritten.tasks;
DELETE FROM rewritten.tasks;
MERGE INTO rewritten.task t USING (VALUES (1)) v (i) ON t.id IS NOT NULL WHEN MATCHED THEN DELETE;
SAVEPOINT s;
INSERT INTO rewritten.task VALUES ('acme', 'a', NULL);
ROLLBACK TO s;
INSERT INTO rewritten.task VALUES ('acme', 'a', NULL) ON CONFLICT DO NOTHING;
ROLLBACK;

\c - postgres
SET client_min_messages = warning;
SET crm_tree.guard = off;
SELECT shared FROM rewritten.kid k WHERE NOT EXISTS (SELECT FROM rewritten.shared s WHERE s.id = k.shared);
SELECT org_id, secret FROM rewritten.secret ORDER BY 1;
DROP SCHEMA rewritten, rewritten_lair CASCADE;
SELECT crm_tree.revoke_org('rewritten_app', 'acme'), crm_tree.revoke_org('rewritten_owner', 'acme');
DROP OWNED BY rewritten_app, rewritten_other, rewritten_owner;
DROP ROLE rewritten_app, rewritten_other, rewritten_owner;
