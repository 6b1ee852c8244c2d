-- What the examples work on: notes of two orgs, and a role that may bind both, as an application's may.
CREATE EXTENSION IF NOT EXISTS crm_tree;
DROP SCHEMA IF EXISTS drivers CASCADE;
CREATE SCHEMA drivers;
CREATE TABLE drivers.note (org_id uuid, id int, body text, PRIMARY KEY (org_id, id));
INSERT INTO drivers.note VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 1, 'of org a'),
    ('bbbbbbbb-0000-4000-8000-00000000000b', 1, 'of org b');
SELECT crm_tree.protect('drivers.note');
DO $$ BEGIN CREATE ROLE drivers_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA drivers TO drivers_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON drivers.note TO drivers_app;
SELECT crm_tree.grant_org('drivers_app', 'aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
SELECT crm_tree.grant_org('drivers_app', 'bbbbbbbb-0000-4000-8000-00000000000b'::uuid);
