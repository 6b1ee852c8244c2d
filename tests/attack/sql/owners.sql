-- Attacker: the owner of a tree, or of what goes with one, against whoever repairs it, reads it, attaches it or takes it over: a superuser
-- at the most. To gain: code of his run as somebody else.
SET client_min_messages = warning;
DROP ROLE IF EXISTS owners_mal, owners_admin, owners_reader;
CREATE ROLE owners_mal LOGIN;
CREATE ROLE owners_admin LOGIN;
CREATE ROLE owners_reader LOGIN BYPASSRLS;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO owners_mal', pg_catalog.current_database()) \gexec
CREATE SCHEMA owners AUTHORIZATION owners_mal;
CREATE SCHEMA owners_lair AUTHORIZATION owners_mal;
GRANT USAGE, CREATE ON SCHEMA owners TO owners_admin;
GRANT USAGE ON SCHEMA owners, owners_lair TO PUBLIC;
RESET client_min_messages;
\set VERBOSITY terse
\set SHOW_CONTEXT never

-- What tells as whom it runs: as a trigger, as the predicate of an index, as a cast, in a cursor.
\c - owners_mal
CREATE TABLE owners_lair.seen (what pg_catalog.text, who name DEFAULT current_user);
GRANT INSERT ON owners_lair.seen TO PUBLIC;
CREATE FUNCTION owners_lair.tell(what pg_catalog.text) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF current_user <> 'owners_mal' THEN INSERT INTO owners_lair.seen VALUES (what); END IF;
    RETURN 1;
END $$;
CREATE FUNCTION owners_lair.fires() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM owners_lair.tell(TG_NAME);
    RETURN NEW;
END $$;
CREATE FUNCTION owners_lair.holds(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE pg_catalog.format('DECLARE %I CURSOR WITH HOLD FOR SELECT owners_lair.tell(%L)', 'c' || pg_catalog.random(), what);
    RETURN true;
EXCEPTION WHEN insufficient_privilege THEN RETURN true;
END $$;
CREATE FUNCTION owners_lair.is_kept(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
    IF session_user <> 'owners_mal' THEN PERFORM owners_lair.tell(what), owners_lair.holds(what); END IF;
    RETURN true;
END $$;

-- SHOULD GAIN NOTHING: a trigger on the history that waits for the repairer's commit
CREATE TABLE owners.t (org_id pg_catalog.text NOT NULL, id pg_catalog.text, parent pg_catalog.text, PRIMARY KEY (org_id, id));
CREATE TABLE owners.l (org_id pg_catalog.text, o pg_catalog.text, c pg_catalog.text, pct numeric);
SELECT crm_tree.attach_tree('owners.t', 'id', 'parent', history => true);
SELECT crm_tree.attach_links('owners.l', 'owners.t', 'o', 'c', pct => 'pct');
INSERT INTO owners.t VALUES ('acme', 'a', NULL), ('acme', 'b', 'a'), ('acme', 'c', NULL);
INSERT INTO owners.l VALUES ('acme', 'a', 'c', 5);
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON owners.t_history DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION owners_lair.fires();
ALTER TABLE owners.t DISABLE TRIGGER USER;
UPDATE owners.t SET parent = NULL WHERE id = 'b';
ALTER TABLE owners.t ENABLE TRIGGER USER;
\c - postgres
SELECT * FROM crm_tree.repair_tree('owners.t');
\c - owners_mal
DROP TRIGGER late ON owners.t_history;

-- SHOULD GAIN NOTHING: a cursor that an index's predicate leaves behind, to be filled at the commit
CREATE INDEX kept ON owners.t_history (changed_by) WHERE owners_lair.is_kept('index of the history');
\c - postgres
SELECT * FROM crm_tree.repair_tree('owners.t');
SELECT * FROM crm_tree.repair_tree('owners.t', 'acme');
TABLE owners_lair.seen;
\c - owners_mal
DROP INDEX owners.kept;

-- SHOULD FAIL: types of his, with casts of his, in the history and in the links
CREATE TYPE owners_lair.e AS ENUM ('a', '5');
CREATE FUNCTION owners_lair.to_text(owners_lair.e) RETURNS pg_catalog.text LANGUAGE sql AS $$ SELECT owners_lair.tell('cast to text')::pg_catalog.text $$;
CREATE FUNCTION owners_lair.to_numeric(owners_lair.e) RETURNS numeric LANGUAGE sql AS $$ SELECT owners_lair.tell('cast to numeric')::numeric $$;
CREATE CAST (owners_lair.e AS pg_catalog.text) WITH FUNCTION owners_lair.to_text(owners_lair.e) AS IMPLICIT;
CREATE CAST (owners_lair.e AS numeric) WITH FUNCTION owners_lair.to_numeric(owners_lair.e);
ALTER TABLE owners.t_history ALTER parent TYPE owners_lair.e USING NULL;
GRANT SELECT ON owners.t, owners.t_history, owners.l TO PUBLIC;
\c - postgres
SELECT * FROM crm_tree.subtree_as_of('owners.t', 'b', now());
SELECT * FROM crm_tree.check_tree('owners.t');
INSERT INTO owners.t VALUES ('acme', 'd');
\c - owners_mal
ALTER TABLE owners.t_history ALTER parent TYPE pg_catalog.text USING NULL;
DROP TRIGGER "A_crm_tree_links_update" ON owners.l;
DROP TRIGGER crm_tree_lock_links_update ON owners.l;
ALTER TABLE owners.l ALTER pct TYPE owners_lair.e USING '5';
\c - postgres
SELECT * FROM crm_tree.check_tree('owners.t');
BEGIN;
SELECT crm_tree.bind_org('acme'::text);
SELECT * FROM crm_tree.rollup('owners.t', 'SELECT id, 1 FROM owners.t', 'weighted');
COMMIT;
\c - owners_reader
SELECT * FROM crm_tree.check_tree('owners.t');
TABLE owners_lair.seen;

-- SHOULD FAIL: the tree is given to another owner, and its history and links are forgotten
\c - owners_mal
ALTER TABLE owners.l ALTER pct TYPE numeric USING 5;
SELECT crm_tree.attach_links('owners.l', 'owners.t', 'o', 'c', pct => 'pct');
GRANT ALL ON owners.t_history, owners.l TO PUBLIC;
CREATE TRIGGER fires BEFORE INSERT ON owners.t_history FOR EACH ROW EXECUTE FUNCTION owners_lair.fires();
CREATE INDEX ON owners.l (o) WHERE owners_lair.is_kept('index of the links');
\c - postgres
ALTER TABLE owners.t OWNER TO owners_admin;
GRANT SELECT, INSERT ON owners.t TO owners_mal;
\c - owners_mal
INSERT INTO owners.t VALUES ('acme', 'e', NULL);
INSERT INTO owners.l VALUES ('acme', 'a', 'b', 5);
TABLE owners_lair.seen;

-- SHOULD FAIL: a partition of somebody else's
\c - postgres
SET ROLE owners_admin;
CREATE TABLE owners.split (org_id pg_catalog.text, id pg_catalog.text, parent pg_catalog.text, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
CREATE TABLE owners.part PARTITION OF owners.split FOR VALUES IN ('acme');
SELECT crm_tree.attach_tree('owners.split', 'id', 'parent');
RESET ROLE;
ALTER TABLE owners.part OWNER TO owners_mal;
\c - owners_mal
CREATE TRIGGER fires BEFORE UPDATE ON owners.part FOR EACH ROW EXECUTE FUNCTION owners_lair.fires();
INSERT INTO owners.part VALUES ('acme', 'a', NULL), ('acme', 'b', NULL), ('acme', 'c', 'b');
UPDATE owners.part SET parent = 'a' WHERE id = 'b';
TABLE owners_lair.seen;

-- SHOULD FAIL: a partition of somebody else's, before the keys of a tree are made
\c - postgres
SET ROLE owners_admin;
CREATE TABLE owners.cut (org_id pg_catalog.text, id pg_catalog.text, parent pg_catalog.text, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
CREATE TABLE owners.piece PARTITION OF owners.cut FOR VALUES IN ('acme');
RESET ROLE;
ALTER TABLE owners.piece OWNER TO owners_mal;
\c - owners_mal
CREATE INDEX ON owners.piece (id) WHERE owners_lair.is_kept('index of the partition');
\c - postgres
SELECT crm_tree.attach_tree('owners.cut', 'id', 'parent');
TABLE owners_lair.seen;

-- SHOULD GAIN NOTHING: names in what the audit prints to be run
\c - owners_mal
CREATE TABLE owners_lair.p (org_id pg_catalog.text NOT NULL, id pg_catalog.text UNIQUE, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('owners_lair.p');
CREATE TABLE owners_lair.c (org_id pg_catalog.text NOT NULL, "x) REFERENCES a(b); ALTER ROLE owners_mal SUPERUSER; --" pg_catalog.text);
ALTER TABLE owners_lair.c ADD CONSTRAINT k FOREIGN KEY ("x) REFERENCES a(b); ALTER ROLE owners_mal SUPERUSER; --") REFERENCES owners_lair.p (id)
    MATCH FULL ON UPDATE RESTRICT ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE owners_lair.u (""" ON owners_lair.p (id); ALTER ROLE owners_mal SUPERUSER; --" pg_catalog.text NOT NULL, id pg_catalog.text);
SELECT crm_tree.protect('owners_lair.u', '" ON owners_lair.p (id); ALTER ROLE owners_mal SUPERUSER; --');
CREATE UNIQUE INDEX "a USING b (" ON owners_lair.u (id) WHERE id <> 'USING btree (';
\c - postgres
SELECT fix FROM crm_tree.audit_walls() WHERE code ~ '_without_org' AND object ~ 'owners_lair' ORDER BY object COLLATE "C";
SELECT fix FROM crm_tree.audit_walls() WHERE code ~ '_without_org' AND object ~ 'owners_lair' ORDER BY object COLLATE "C" \gexec
SELECT rolsuper FROM pg_roles WHERE rolname = 'owners_mal';
SELECT code, object FROM crm_tree.audit_walls() WHERE code ~ '_without_org' AND object ~ 'owners_lair';

-- SHOULD FAIL: what is to be made is there already, with triggers of his
\c - postgres
SET ROLE owners_admin;
CREATE TABLE owners.later (org_id pg_catalog.text NOT NULL, id pg_catalog.text, parent pg_catalog.text, PRIMARY KEY (org_id, id));
SELECT crm_tree.protect('owners.later');
\c - owners_mal
CREATE TABLE owners.later_history (org pg_catalog.text NOT NULL, id pg_catalog.text NOT NULL, parent pg_catalog.text,
    valid_from timestamptz NOT NULL, valid_to timestamptz, prev_to timestamptz, changed_by pg_catalog.text NOT NULL);
CREATE TRIGGER fires BEFORE INSERT ON owners.later_history FOR EACH ROW EXECUTE FUNCTION owners_lair.fires();
CREATE VIEW owners.later_load AS SELECT 'acme'::pg_catalog.text AS org_id, 'a'::pg_catalog.text AS id;
CREATE TRIGGER fires INSTEAD OF INSERT ON owners.later_load FOR EACH ROW EXECUTE FUNCTION owners_lair.fires();
\c - postgres
SELECT crm_tree.attach_tree('owners.later', 'id', 'parent', history => true);
SELECT crm_tree.create_load_view('owners.later');

-- SHOULD GAIN NOTHING: the schema's owner puts a table of his in the place of the tree, while nodes are merged or under a session that knows it
SET ROLE owners_admin;
CREATE TABLE owners.swapped (org_id pg_catalog.text NOT NULL, id pg_catalog.text, parent pg_catalog.text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('owners.swapped', 'id', 'parent');
INSERT INTO owners.swapped VALUES ('acme', 'a', NULL), ('acme', 'b', NULL), ('acme', 'c', 'b');
GRANT SELECT, INSERT, UPDATE, DELETE ON owners.swapped TO owners_mal;
\c - owners_mal
CREATE SCHEMA owners_new;
GRANT USAGE ON SCHEMA owners_new TO PUBLIC;
CREATE TABLE owners_new.swapped (org_id pg_catalog.text NOT NULL, id pg_catalog.text, parent pg_catalog.text, materialized_path pg_catalog.text, depth int);
GRANT ALL ON owners_new.swapped TO PUBLIC;
CREATE INDEX ON owners_new.swapped (depth) WHERE owners_lair.is_kept('index of the other');
CREATE FUNCTION owners_lair.swap() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF current_setting('lair.go', true) = '1' AND to_regclass('owners_new.swapped') IS NOT NULL THEN
        ALTER SCHEMA owners RENAME TO owners_old;
        ALTER SCHEMA owners_new RENAME TO owners;
    END IF;
    RETURN true;
END $$;
CREATE DOMAIN owners_lair.text AS pg_catalog.text CHECK (owners_lair.swap());
SET lair.go = 1;
SET search_path = owners_lair, pg_catalog;
SELECT crm_tree.merge_nodes('owners.swapped', 'b', 'a');
SELECT pg_catalog.to_regclass('owners_new.swapped') IS NOT NULL AS not_even_called;
RESET lair.go;
RESET search_path;
CREATE FUNCTION owners_lair.swaps() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM owners_lair.swap();
    RETURN NULL;
END $$;
\c - postgres
GRANT TRIGGER ON owners.swapped TO owners_mal;
\c - owners_mal
CREATE TRIGGER swaps BEFORE UPDATE ON owners.swapped EXECUTE FUNCTION owners_lair.swaps();
SET lair.go = 1;
SELECT crm_tree.merge_nodes('owners.swapped', 'c', 'a');
TABLE owners_lair.seen;

-- SHOULD GAIN NOTHING: a load whose staging table writes rows of its own while the INSERT is planned
\c - postgres
SET ROLE owners_admin;
CREATE TABLE owners.loaded (org_id pg_catalog.text NOT NULL, id pg_catalog.text, parent pg_catalog.text, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('owners.loaded', 'id', 'parent');
GRANT SELECT, INSERT ON owners.loaded TO owners_mal;
\c - owners_mal
CREATE TABLE owners_lair.staged (org_id pg_catalog.text, id pg_catalog.text, parent pg_catalog.text);
INSERT INTO owners_lair.staged VALUES ('acme', 'a', NULL);
CREATE FUNCTION owners_lair.forges() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO owners.loaded VALUES ('acme', 'forged', NULL, '/forged/by/mal/', 77) ON CONFLICT DO NOTHING;
    RETURN true;
END $$;
CREATE FUNCTION owners_lair.is_good() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_setting('lair.go', true) = '1' THEN PERFORM owners_lair.forges(); END IF;
    RETURN true;
END $$;
ALTER TABLE owners_lair.staged ADD CHECK (owners_lair.is_good());
SET constraint_exclusion = on;
SET lair.go = 1;
SELECT crm_tree.load_tree('owners.loaded', 'owners_lair.staged');
TABLE owners.loaded;

-- No attack: a tree that points at a table of another role's. Its keys are checked again where a path is rewritten.
\c - postgres
SET ROLE owners_mal;
CREATE TABLE owners_lair.person (id int PRIMARY KEY);
INSERT INTO owners_lair.person VALUES (1);
GRANT REFERENCES, SELECT ON owners_lair.person TO owners_admin;
SET ROLE owners_admin;
CREATE TABLE owners.kept (org_id pg_catalog.text NOT NULL, id int, parent int, keeper int REFERENCES owners_lair.person, PRIMARY KEY (org_id, id));
INSERT INTO owners.kept VALUES ('acme', 9, NULL, 1);
SELECT crm_tree.attach_tree('owners.kept', 'id', 'parent', on_delete => 'adopt', history => true);
INSERT INTO owners.kept VALUES ('acme', 2, 1, 1), ('acme', 1, NULL, 1);
BEGIN;
INSERT INTO owners.kept VALUES ('acme', 3, 2, 1), ('acme', 4, 3, 1);
UPDATE owners.kept SET parent = 9 WHERE id = 3;
DELETE FROM owners.kept WHERE id = 3;
COMMIT;
SELECT id, parent, materialized_path FROM owners.kept ORDER BY id;
SELECT crm_tree.protect('owners.kept');
RESET ROLE;
SET crm_tree.guard = off;
SELECT crm_tree.unprotect('owners.kept'), crm_tree.detach_tree('owners.kept');
SELECT relrowsecurity, relforcerowsecurity, (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid AND tgname ~ 'crm_tree') AS triggers FROM pg_class c WHERE oid = 'owners.kept'::regclass;

-- No attack: a partition that the superuser made, and a wall that comes down again
\c - postgres
SET crm_tree.guard = off;
SET ROLE owners_admin;
CREATE TABLE owners.mixed (org_id bigint, m int, PRIMARY KEY (org_id, m)) PARTITION BY RANGE (m);
SELECT crm_tree.protect('owners.mixed');
RESET ROLE;
CREATE TABLE owners.mixed_2 PARTITION OF owners.mixed FOR VALUES FROM (2) TO (3);
SELECT crm_tree.unprotect('owners.mixed');
SELECT relrowsecurity FROM pg_class WHERE relname ~ '^mixed(_2)?$' AND relnamespace = 'owners'::regnamespace;

-- What tells does.
\c - postgres
SELECT owners_lair.tell('asked by somebody else');
TABLE owners_lair.seen;
SET client_min_messages = warning;
SET crm_tree.guard = off;
DROP SCHEMA IF EXISTS owners, owners_new, owners_old, owners_lair CASCADE;
DROP OWNED BY owners_mal, owners_admin, owners_reader;
DROP ROLE owners_mal, owners_admin, owners_reader;
