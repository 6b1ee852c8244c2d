-- Two orgs' data, its owner, and the attackers. Every other file builds on this one.
--
-- "globex" is the org nobody here may reach: its rows say so in capitals, and those capitals are in
-- no expected output but this file's and that of `open`.
\set VERBOSITY default
SET client_min_messages = warning;

-- Roles belong to the cluster and outlive the database: whatever an earlier run left goes first.
DO $$
DECLARE
    r name;
BEGIN
    FOR r IN SELECT rolname FROM pg_roles WHERE rolname ~ '^(oscar|mallory|trudy|sybil|wanda|eve|ned|nora|victor|dora)_' LOOP
        EXECUTE format('DROP OWNED BY %I', r);
    END LOOP;
    FOR r IN SELECT rolname FROM pg_roles WHERE rolname ~ '^(oscar|mallory|trudy|sybil|wanda|eve|ned|nora|victor|dora)_' LOOP
        EXECUTE format('DROP ROLE %I', r);
    END LOOP;
END
$$;

CREATE EXTENSION IF NOT EXISTS crm_tree;
-- The superuser fills the tables and is the referee. The guard stays on for everybody who attacks.
ALTER ROLE CURRENT_USER SET crm_tree.guard = off;
SET crm_tree.guard = off;

CREATE ROLE oscar_the_owner LOGIN;          -- owns the tables, is subject to FORCE
CREATE ROLE sybil_of_the_owners LOGIN IN ROLE oscar_the_owner;
CREATE ROLE mallory_the_app_user LOGIN;     -- the application's role: may bind acme, a transaction at a time
CREATE ROLE trudy_of_two_orgs LOGIN;        -- may bind acme and initech, for sessions too; not globex
CREATE ROLE eve_without_grant LOGIN;        -- has rights on the tables, may bind nothing
CREATE ROLE wanda_of_all_data LOGIN;        -- pg_read_all_data and pg_write_all_data
GRANT pg_read_all_data, pg_write_all_data TO wanda_of_all_data;

CREATE SCHEMA app AUTHORIZATION oscar_the_owner;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE SCHEMA lair AUTHORIZATION mallory_the_app_user;  -- one schema to create things in is all it takes
GRANT USAGE, CREATE ON SCHEMA lair TO PUBLIC;

-- What a statement tells its author.
CREATE FUNCTION lair.told(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE statement INTO found;
    RETURN 'finds ' || coalesce(found, 'nothing');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

SET ROLE oscar_the_owner;
CREATE TABLE app.account (
    org_id uuid, id int, parent int, name text, secret text,
    PRIMARY KEY (org_id, id));
CREATE TABLE app.deal (
    org_id uuid, id int, month date, account_id int, secret text,
    PRIMARY KEY (org_id, id, month),
    FOREIGN KEY (org_id, account_id) REFERENCES app.account (org_id, id))
    PARTITION BY RANGE (month);
CREATE TABLE app.deal_early PARTITION OF app.deal FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE app.deal_late PARTITION OF app.deal FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
CREATE TABLE app.contact (
    org_id uuid, email text, secret text,
    PRIMARY KEY (org_id, email));
CREATE TABLE app.note (org_id uuid, id int, secret text, PRIMARY KEY (org_id, id));
CREATE TABLE app.note_long (pages int) INHERITS (app.note);
CREATE TABLE app.ledger (tenant text, id int, secret text, PRIMARY KEY (tenant, id));
CREATE TABLE app.ticket (tenant bigint, id int, secret text, PRIMARY KEY (tenant, id));

INSERT INTO app.account VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 1, NULL, 'acme', 'acme root'),
    ('aaaaaaaa-0000-4000-8000-00000000000a', 2, 1, 'acme east', 'acme child'),
    ('aaaaaaaa-0000-4000-8000-00000000000a', 3, NULL, 'acme west', 'acme other'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 1, NULL, 'globex', 'GLOBEX ROOT'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 2, 1, 'globex east', 'GLOBEX CHILD'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 77, 2, 'globex deep', 'GLOBEX DEEP'),
    ('cccccccc-0000-4000-8000-00000000000c', 1, NULL, 'initech', 'initech root');
INSERT INTO app.deal VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 1, '2023-06-01', 1, 'acme deal'),
    ('aaaaaaaa-0000-4000-8000-00000000000a', 2, '2024-06-01', 2, 'acme deal'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 1, '2023-06-01', 1, 'GLOBEX DEAL'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 2, '2024-06-01', 77, 'GLOBEX DEAL');
INSERT INTO app.contact VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 'ann@acme.test', 'acme contact'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 'bob@globex.test', 'GLOBEX CONTACT');
INSERT INTO app.note VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 1, 'acme note'), ('bbbbbbbb-0000-4000-8000-00000000000b', 1, 'GLOBEX NOTE');
INSERT INTO app.note_long VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 2, 'acme long note', 9), ('bbbbbbbb-0000-4000-8000-00000000000b', 2, 'GLOBEX LONG NOTE', 9);
INSERT INTO app.ledger VALUES ('acme', 1, 'acme entry'), ('globex', 1, 'GLOBEX ENTRY');
INSERT INTO app.ticket VALUES (7, 1, 'acme ticket'), (8, 1, 'GLOBEX TICKET');

SELECT crm_tree.attach_tree('app.account', 'id', 'parent');
SELECT crm_tree.protect('app.account');
SELECT crm_tree.protect('app.deal');
SELECT crm_tree.protect('app.contact');
SELECT crm_tree.protect('app.note');
SELECT crm_tree.protect('app.ledger', 'tenant');
SELECT crm_tree.protect('app.ticket', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app
    TO mallory_the_app_user, trudy_of_two_orgs, eve_without_grant;
RESET ROLE;

SELECT crm_tree.grant_org('mallory_the_app_user', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
SELECT crm_tree.grant_org('mallory_the_app_user', 'acme');
SELECT crm_tree.grant_org('mallory_the_app_user', 7);
SELECT crm_tree.grant_org('oscar_the_owner', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
SELECT crm_tree.grant_org('wanda_of_all_data', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
SELECT crm_tree.grant_org('trudy_of_two_orgs', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid, for_session => true);
SELECT crm_tree.grant_org('trudy_of_two_orgs', 'cccccccc-0000-4000-8000-00000000000c'::uuid, for_session => true);
SELECT crm_tree.grant_org('trudy_of_two_orgs', 'acme', for_session => true);

-- What the superuser asks at the end of a file: is every row of globex as it was?
CREATE SCHEMA referee;
CREATE FUNCTION referee.fingerprint() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
        SELECT 'account' || a FROM app.account a WHERE org_id = 'bbbbbbbb-0000-4000-8000-00000000000b'
        UNION ALL SELECT 'deal' || d FROM app.deal d WHERE org_id = 'bbbbbbbb-0000-4000-8000-00000000000b'
        UNION ALL SELECT 'contact' || c FROM app.contact c WHERE org_id = 'bbbbbbbb-0000-4000-8000-00000000000b'
        UNION ALL SELECT 'note' || n FROM app.note n WHERE org_id = 'bbbbbbbb-0000-4000-8000-00000000000b'
        UNION ALL SELECT 'ledger' || l FROM app.ledger l WHERE tenant = 'globex'
        UNION ALL SELECT 'ticket' || t FROM app.ticket t WHERE tenant = 8) AS all_rows(line)
$$;
CREATE TABLE referee.start AS SELECT referee.fingerprint();
CREATE FUNCTION referee.globex() RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN fingerprint = referee.fingerprint() THEN 'untouched' ELSE 'CHANGED' END FROM referee.start
$$;
SELECT referee.globex();
