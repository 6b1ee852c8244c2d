-- Path maintenance runs as the tables' owner past his row security. Whatever else it can be made to
-- run, runs like that too.
-- Attacker: mallory, with rights to write a tree and pg_temp or one schema of her own; then the owner's own triggers.
-- To gain: the rights of the tree's owner, past his row security.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - mallory_the_app_user
CREATE TABLE lair.loot (how text, ran_as name, secret text);
GRANT ALL ON lair.loot TO PUBLIC;
CREATE FUNCTION lair.grab(how text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'mallory_the_app_user' THEN
        INSERT INTO lair.loot VALUES (how, current_user, NULL);
        INSERT INTO lair.loot SELECT how, current_user, secret FROM app.contact;
    END IF;
    RETURN true;
END $$;

-- SHOULD GAIN NOTHING: a type `text` of the attacker's own, in pg_temp: found before pg_catalog's, and
-- everybody may create it
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (lair.grab('domain text'));
CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (lair.grab('domain uuid'));
CREATE DOMAIN pg_temp.int4 AS pg_catalog.int4 CHECK (lair.grab('domain int4'));
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (id, parent) VALUES (21, 2), (20, 21);
INSERT INTO app.account (id, parent) VALUES (23, 24), (24, 2);
UPDATE app.account SET parent = 3 WHERE id = 2;
UPDATE app.account SET parent = CASE id WHEN 1 THEN 3 ELSE NULL END WHERE id IN (1, 3);
DELETE FROM app.account WHERE id = 20;
SELECT id, materialized_path FROM app.account ORDER BY id;
SELECT how, ran_as, count(*) FROM lair.loot GROUP BY 1, 2;
ROLLBACK;
DROP DOMAIN pg_temp.text, pg_temp.uuid, pg_temp.int4;

-- SHOULD GAIN NOTHING: operators and functions of the attacker's own, in a schema that he puts first
CREATE FUNCTION lair.uuid_eq(uuid, uuid) RETURNS bool LANGUAGE sql AS $$SELECT lair.grab('uuid =') AND $1 OPERATOR(pg_catalog.=) $2$$;
CREATE FUNCTION lair.int_eq(int, int) RETURNS bool LANGUAGE sql AS $$SELECT lair.grab('int =') AND $1 OPERATOR(pg_catalog.=) $2$$;
CREATE FUNCTION lair.text_ge(text, text) RETURNS bool LANGUAGE sql AS $$SELECT lair.grab('text >=') AND $1 OPERATOR(pg_catalog.>=) $2$$;
CREATE FUNCTION lair.text_lt(text, text) RETURNS bool LANGUAGE sql AS $$SELECT lair.grab('text <') AND $1 OPERATOR(pg_catalog.<) $2$$;
CREATE FUNCTION lair.text_cat(text, text) RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM lair.grab('text ||'); RETURN $1 OPERATOR(pg_catalog.||) $2; END$$;
CREATE FUNCTION lair.int_add(int, int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM lair.grab('int +'); RETURN $1 OPERATOR(pg_catalog.+) $2; END$$;
CREATE FUNCTION lair.int_le(int, int) RETURNS bool LANGUAGE sql AS $$SELECT lair.grab('int <=') AND $1 OPERATOR(pg_catalog.<=) $2$$;
CREATE FUNCTION lair.int_lt(int, int) RETURNS bool LANGUAGE sql AS $$SELECT lair.grab('int <') AND $1 OPERATOR(pg_catalog.<) $2$$;
CREATE FUNCTION lair.substr(text, int) RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM lair.grab('substr'); RETURN pg_catalog.substr($1, $2); END$$;
CREATE FUNCTION lair.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN PERFORM lair.grab('unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END$$;
CREATE OPERATOR lair.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = lair.uuid_eq);
CREATE OPERATOR lair.= (LEFTARG = int, RIGHTARG = int, FUNCTION = lair.int_eq);
CREATE OPERATOR lair.>= (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.text_ge);
CREATE OPERATOR lair.< (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.text_lt);
CREATE OPERATOR lair.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.text_cat);
CREATE OPERATOR lair.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = lair.int_add);
CREATE OPERATOR lair.<= (LEFTARG = int, RIGHTARG = int, FUNCTION = lair.int_le);
CREATE OPERATOR lair.< (LEFTARG = int, RIGHTARG = int, FUNCTION = lair.int_lt);
SET search_path = lair, pg_catalog;
BEGIN;
SELECT crm_tree.bind_org(:acme);
INSERT INTO app.account (id, parent) VALUES (21, 2), (20, 21);
INSERT INTO app.account (id, parent) VALUES (23, 24), (24, 2);
UPDATE app.account SET parent = 3 WHERE id OPERATOR(pg_catalog.=) 2;
UPDATE app.account SET parent = CASE WHEN id OPERATOR(pg_catalog.=) 1 THEN 3 ELSE NULL END WHERE id OPERATOR(pg_catalog.=) 1 OR id OPERATOR(pg_catalog.=) 3;
DELETE FROM app.account WHERE id OPERATOR(pg_catalog.=) 20;
SELECT id, materialized_path FROM app.account ORDER BY id;
SELECT how, ran_as, count(*) FROM lair.loot GROUP BY 1, 2;
ROLLBACK;
RESET search_path;
-- SHOULD GAIN NOTHING: the same when attach_tree, protect and repair_tree are run by their owner with that search_path
\c - oscar_the_owner
SET search_path = lair, pg_catalog;
SET client_min_messages = error;
SELECT crm_tree.attach_tree('app.account', 'id', 'parent');
SELECT crm_tree.protect('app.account');
SELECT * FROM crm_tree.repair_tree('app.account');
SELECT how, ran_as, pg_catalog.count(*) FROM lair.loot GROUP BY 1, 2;
\c - :super
SET client_min_messages = error;
DROP SCHEMA lair CASCADE;
RESET client_min_messages;
CREATE SCHEMA lair AUTHORIZATION mallory_the_app_user;
GRANT USAGE, CREATE ON SCHEMA lair TO PUBLIC;

-- SHOULD GAIN NOTHING: the owner's own triggers on the tree, fired by maintenance. One that counts
-- accounts, written by somebody who trusts the wall, must count the bound org's.
\c - oscar_the_owner
CREATE TABLE app.seen (how text, accounts bigint);
CREATE FUNCTION app.how_many() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM app.account); END';
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO app.seen VALUES (TG_NAME, app.how_many()); RETURN NULL; END';
CREATE TRIGGER note_paths AFTER UPDATE OF materialized_path ON app.account FOR EACH ROW EXECUTE FUNCTION app.note();
\c - oscar_the_owner
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET parent = 3 WHERE id = 1;
SELECT DISTINCT how, accounts FROM app.seen;
COMMIT;
-- SHOULD GAIN NOTHING: nor may the plan made in there serve later, with the same function and role
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT app.how_many();
UPDATE app.account SET parent = NULL WHERE id = 1;
COMMIT;
SELECT app.how_many();
DROP TRIGGER note_paths ON app.account;
DROP FUNCTION app.note(), app.how_many();
DROP TABLE app.seen;
-- SHOULD GAIN NOTHING: a client's own write inside such a trigger is maintained like any other
CREATE FUNCTION app.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 4 THEN
        UPDATE app.account SET materialized_path = '/77/', depth = 7 WHERE id = 3;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER meddle AFTER UPDATE OF materialized_path ON app.account FOR EACH ROW EXECUTE FUNCTION app.meddle();
BEGIN;
SELECT crm_tree.bind_org(:acme);
UPDATE app.account SET parent = 3 WHERE id = 1;
SELECT * FROM crm_tree.check_tree('app.account');
ROLLBACK;
DROP TRIGGER meddle ON app.account;
DROP FUNCTION app.meddle();
\c - :super
SELECT referee.globex();
SELECT * FROM crm_tree.check_tree('app.account');
