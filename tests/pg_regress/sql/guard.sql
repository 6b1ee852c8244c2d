-- The guard: who passes row security is refused on a protected table, and what must work goes on.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
-- The event triggers refuse much of this before; here the guard stands alone.
ALTER EVENT TRIGGER crm_tree_watch DISABLE;
ALTER EVENT TRIGGER crm_tree_watch_drop DISABLE;
CREATE ROLE guard_owner NOLOGIN;
CREATE ROLE guard_app NOLOGIN;
CREATE ROLE guard_bypass NOLOGIN BYPASSRLS;
CREATE SCHEMA guard AUTHORIZATION guard_owner;
GRANT USAGE ON SCHEMA guard TO PUBLIC;
SET ROLE guard_owner;
CREATE TABLE guard.account (org int, id int, parent int, name text, PRIMARY KEY (org, id));
CREATE TABLE guard.task (org int, id int, account int, PRIMARY KEY (org, id),
    FOREIGN KEY (org, account) REFERENCES guard.account ON DELETE CASCADE);
CREATE TABLE guard.step (org int, id int, task int, PRIMARY KEY (org, id),
    FOREIGN KEY (org, task) REFERENCES guard.task ON DELETE CASCADE);
CREATE TABLE guard.fact (org int, day date, n int) PARTITION BY RANGE (day);
CREATE TABLE guard.fact_1 PARTITION OF guard.fact FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE guard.log (line text);
INSERT INTO guard.account VALUES (1, 1, NULL, 'a'), (1, 2, 1, 'b'), (2, 1, NULL, 'A'), (2, 2, 1, 'B');
INSERT INTO guard.task VALUES (1, 1, 2), (2, 1, 2);
INSERT INTO guard.step VALUES (1, 1, 1), (2, 1, 1);
INSERT INTO guard.fact VALUES (1, '2026-01-05', 1), (2, '2026-01-06', 2);
SELECT crm_tree.attach_tree('guard.account', 'id', 'parent', 'org');
SELECT crm_tree.protect('guard.account', 'org');
SELECT crm_tree.protect('guard.task', 'org');
SELECT crm_tree.protect('guard.step', 'org');
SELECT crm_tree.protect('guard.fact', 'org');
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA guard TO guard_app, guard_bypass;
RESET ROLE;
SELECT crm_tree.grant_org('guard_app', 1), crm_tree.grant_org('guard_owner', 1);

-- The setting is a superuser's.
SET crm_tree.guard = enforce;
SELECT setting, boot_val, context FROM pg_settings WHERE name = 'crm_tree.guard';
SET ROLE guard_app;
SET crm_tree.guard = off;
RESET ROLE;

-- Superusers, bound or not, reading and writing, COPY both ways, EXPLAIN
SELECT count(*) FROM guard.account;
BEGIN;
SELECT crm_tree.bind_org(1);
UPDATE guard.account SET name = 'x' WHERE org = 1;
ROLLBACK;
COPY guard.account TO STDOUT;
COPY guard.task FROM STDIN;
\.
EXPLAIN SELECT FROM guard.task;
CREATE TABLE guard.copied AS TABLE guard.task;
SELECT count(*) FROM guard.log;
-- BYPASSRLS
SET ROLE guard_bypass;
SELECT count(*) FROM guard.task;
RESET ROLE;
-- What they lend
CREATE VIEW guard.lent AS SELECT * FROM guard.task;
CREATE FUNCTION guard.lend() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM guard.task';
GRANT SELECT ON guard.lent TO guard_app;
SET ROLE guard_app;
SELECT count(*) FROM guard.lent;
SELECT guard.lend();
SELECT count(*) FROM guard.lent FULL JOIN guard.log ON false;
RESET ROLE;
-- Materialized views: whatever their owner saw, and whenever
CREATE MATERIALIZED VIEW guard.frozen AS SELECT * FROM guard.task;
SET crm_tree.guard = off;
CREATE MATERIALIZED VIEW guard.frozen AS SELECT * FROM guard.lent;
SET crm_tree.guard = enforce;
GRANT SELECT ON guard.frozen TO guard_app;
SET ROLE guard_app;
SELECT count(*) FROM guard.frozen;
RESET ROLE;
REFRESH MATERIALIZED VIEW guard.frozen;
DROP MATERIALIZED VIEW guard.frozen;
DROP VIEW guard.lent;

-- The owner's DDL
SET ROLE guard_owner;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT count(*) FROM guard.task;
ALTER TABLE guard.task NO FORCE ROW LEVEL SECURITY;
SELECT count(*) FROM guard.task;
ROLLBACK;
BEGIN;
ALTER TABLE guard.task DISABLE ROW LEVEL SECURITY;
SELECT count(*) FROM guard.task;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(1);
DROP POLICY crm_tree_wall ON guard.task;
SELECT count(*) FROM guard.task;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(1);
ALTER POLICY crm_tree_wall ON guard.task USING (true);
SELECT count(*) FROM guard.task;
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(1);
ALTER POLICY crm_tree_wall ON guard.task TO guard_app;
SELECT count(*) FROM guard.task;
ROLLBACK;
BEGIN;
DROP TRIGGER crm_tree_refuse_truncate ON guard.step;
TRUNCATE guard.step;
ROLLBACK;
-- A new partition, by its own name; through its table all is as ever
BEGIN;
CREATE TABLE guard.fact_2 PARTITION OF guard.fact FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT crm_tree.bind_org(1);
INSERT INTO guard.fact (day, n) VALUES ('2026-02-05', 3);
SELECT sum(n) FROM guard.fact;
SAVEPOINT s;
SELECT sum(n) FROM guard.fact_2;
ROLLBACK TO s;
SELECT crm_tree.protect('guard.fact', 'org');
SELECT sum(n) FROM guard.fact_2;
COMMIT;
-- A foreign key is checked for every org, whoever adds it
ALTER TABLE guard.step DROP CONSTRAINT step_org_task_fkey;
RESET ROLE;
SET crm_tree.guard = off;
INSERT INTO guard.step VALUES (2, 99, 99);
SET crm_tree.guard = enforce;
BEGIN;
SET LOCAL ROLE guard_owner;
SELECT crm_tree.bind_org(1);
ALTER TABLE guard.step ADD FOREIGN KEY (org, task) REFERENCES guard.task;
ROLLBACK;
ALTER TABLE guard.step ADD FOREIGN KEY (org, task) REFERENCES guard.task;
SET crm_tree.guard = off;
DELETE FROM guard.step WHERE id = 99;
SET crm_tree.guard = enforce;
SET ROLE guard_owner;
ALTER TABLE guard.step ADD FOREIGN KEY (org, task) REFERENCES guard.task ON DELETE CASCADE;

-- Cascades go two deep; a trigger on the way may work on what it is given, and write what is not protected,
-- with foreign keys of its own; what it sees is the bound org.
CREATE TABLE guard.gone (org int, account int, FOREIGN KEY (org, account) REFERENCES guard.account);
CREATE FUNCTION guard.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guard.log VALUES (TG_TABLE_NAME || ' ' || OLD.id);
    INSERT INTO guard.gone VALUES (OLD.org, 1);
    RETURN OLD;
END $$;
CREATE TRIGGER note BEFORE DELETE ON guard.task FOR EACH ROW EXECUTE FUNCTION guard.note();
CREATE TRIGGER note BEFORE DELETE ON guard.step FOR EACH ROW EXECUTE FUNCTION guard.note();
BEGIN;
SELECT crm_tree.bind_org(1);
DELETE FROM guard.account WHERE id = 2;
SELECT count(*) FROM guard.step;
SELECT * FROM guard.log;
ROLLBACK;
CREATE FUNCTION guard.peek() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    BEGIN
        SELECT count(*) INTO seen FROM guard.account;
    EXCEPTION WHEN insufficient_privilege THEN seen := 'refused';
    END;
    RAISE WARNING 'a query: %', seen;
    BEGIN
        EXECUTE 'SELECT 1 FROM ONLY "guard"."account" x WHERE "org" OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF x' INTO seen USING 2;
    EXCEPTION WHEN insufficient_privilege THEN seen := 'refused';
    END;
    RAISE WARNING 'in a foreign key''s words: %', seen;
    BEGIN
        PERFORM query_to_xml('SELECT * FROM guard.account', true, true, '');
        seen := 'seen';
    EXCEPTION WHEN insufficient_privilege THEN seen := 'refused';
              WHEN feature_not_supported THEN seen := 'seen'; -- or would be, by a server with libxml
    END;
    RAISE WARNING 'below a query: %', seen;
    RETURN OLD;
END $$;
CREATE TRIGGER peek BEFORE DELETE ON guard.step FOR EACH ROW EXECUTE FUNCTION guard.peek();
BEGIN;
SELECT crm_tree.bind_org(1);
DELETE FROM guard.account WHERE id = 2;
ROLLBACK;
DROP TRIGGER peek ON guard.step;
-- The same reached by path maintenance, which works as the owner: he is behind his wall.
CREATE FUNCTION guard.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'sees %', (SELECT string_agg(DISTINCT org::text, ',') FROM guard.account);
    RETURN NEW;
END $$;
CREATE TRIGGER look BEFORE UPDATE ON guard.account FOR EACH ROW WHEN (OLD.name = 'b') EXECUTE FUNCTION guard.look();
INSERT INTO guard.log VALUES ('still');
BEGIN;
SELECT crm_tree.bind_org(1);
INSERT INTO guard.account VALUES (1, 3, NULL, 'c');
UPDATE guard.account SET parent = 3 WHERE id = 1;
SELECT id, materialized_path FROM guard.account ORDER BY id;
DELETE FROM guard.account WHERE id = 3;
ROLLBACK;
RESET ROLE;
DROP TRIGGER look ON guard.account;

-- Our own maintenance goes on, for superusers too; a look into the tree is no maintenance.
SELECT * FROM crm_tree.check_tree('guard.account');
SELECT * FROM crm_tree.repair_tree('guard.account');
SELECT * FROM crm_tree._tree_orgs('guard.account');
SELECT crm_tree.attach_tree('guard.account', 'id', 'parent', 'org');
SELECT crm_tree.protect('guard.account', 'org');
SELECT * FROM crm_tree.subtree('guard.account', '1');
-- So do the server's maintenance and ordinary migrations.
ANALYZE guard.account;
VACUUM guard.account;
CLUSTER guard.account USING account_pkey;
CREATE INDEX CONCURRENTLY ON guard.task (account);
REINDEX TABLE guard.task;
SET ROLE guard_owner;
ALTER TABLE guard.task ADD COLUMN note text DEFAULT 'new', ALTER COLUMN account SET NOT NULL, ADD CHECK (id > 0);
ALTER TABLE guard.task ALTER COLUMN id TYPE bigint;
ALTER TABLE guard.fact DETACH PARTITION guard.fact_2;
ALTER TABLE guard.fact ATTACH PARTITION guard.fact_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
RESET ROLE;

-- log lets it pass
SET crm_tree.guard = log;
SET client_min_messages = log;
SELECT count(*) FROM guard.task;
RESET client_min_messages;
SET client_min_messages = warning;
-- unprotect ends it, protect begins it, for plans that are there already
SET crm_tree.guard = enforce;
PREPARE tasks AS SELECT count(*) FROM guard.task;
EXECUTE tasks;
SELECT crm_tree.unprotect('guard.task');
EXECUTE tasks;
SELECT crm_tree.protect('guard.task', 'org');
EXECUTE tasks;

-- In parallel workers what the leader was allowed is allowed, and no more.
CREATE TABLE guard.wide AS SELECT g AS n FROM generate_series(1, 20000) g;
SET crm_tree.guard = off;
INSERT INTO guard.fact SELECT 1, '2026-01-10', 0 FROM generate_series(1, 20000);
INSERT INTO guard.account SELECT 2, g, 2, 'n' FROM generate_series(10, 5000) g;
SET crm_tree.guard = enforce;
ANALYZE guard.wide, guard.fact, guard.account;
CREATE FUNCTION guard.peeks(n int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS 'BEGIN RETURN (SELECT count(*) + n FROM guard.task); END';
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SET ROLE guard_app;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT count(*), sum(n) FROM guard.fact;
COMMIT;
RESET ROLE;
SELECT count(*) FROM crm_tree.check_tree('guard.account');
EXPLAIN (COSTS off) SELECT max(guard.peeks(n)) FROM guard.wide;
SELECT max(guard.peeks(n)) FROM guard.wide;
RESET crm_tree.guard;
SET client_min_messages = warning;
DROP SCHEMA guard CASCADE;
SELECT crm_tree.revoke_org('guard_app', 1), crm_tree.revoke_org('guard_owner', 1);
DROP ROLE guard_owner, guard_app, guard_bypass;
ALTER EVENT TRIGGER crm_tree_watch ENABLE ALWAYS;
ALTER EVENT TRIGGER crm_tree_watch_drop ENABLE ALWAYS;
