-- Binding and the wall, as an ordinary role sees them.
DROP ROLE IF EXISTS tenant_app, tenant_other;
CREATE ROLE tenant_app LOGIN;
CREATE ROLE tenant_other LOGIN;
CREATE SCHEMA tenant;
GRANT USAGE ON SCHEMA tenant TO tenant_app;
CREATE TABLE tenant.note (org_id uuid, id int, body text, PRIMARY KEY (org_id, id));
INSERT INTO tenant.note VALUES
    ('00000000-0000-0000-0000-00000000000a', 1, 'a one'),
    ('00000000-0000-0000-0000-00000000000a', 2, 'a two'),
    ('00000000-0000-0000-0000-00000000000b', 1, 'b one');
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.note TO tenant_app;
SELECT crm_tree.protect('tenant.note');
SELECT crm_tree.protect('tenant.note');  -- may be run again
SELECT polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
  FROM pg_policy WHERE polrelid = 'tenant.note'::regclass ORDER BY 1;
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'tenant.note'::regclass;

SELECT crm_tree.grant_org('tenant_app', '00000000-0000-0000-0000-00000000000a'::uuid);
SELECT crm_tree.grant_org('nobody_here', 1);
SELECT crm_tree.grant_org('tenant_app', '');

SET SESSION AUTHORIZATION tenant_app;
-- Unbound: refused, with the cure.
SELECT * FROM tenant.note;
INSERT INTO tenant.note VALUES (DEFAULT, 3, 'c');
SELECT crm_tree.is_bound(), crm_tree.current_user_id();
-- A binding that could not outlive its statement is refused.
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid);

BEGIN;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid, 'ann');
SELECT crm_tree.current_org(), crm_tree.current_org_text(), crm_tree.current_user_id(), crm_tree.is_bound();
SELECT id, body FROM tenant.note ORDER BY id;
INSERT INTO tenant.note (id, body) VALUES (3, 'a three') RETURNING org_id;
SAVEPOINT s;
INSERT INTO tenant.note VALUES ('00000000-0000-0000-0000-00000000000b', 9, 'not mine');  -- SHOULD FAIL
ROLLBACK TO s;
UPDATE tenant.note SET org_id = '00000000-0000-0000-0000-00000000000b' WHERE id = 1;  -- SHOULD FAIL
ROLLBACK TO s;
-- Written once: another org, another user, and every way to take the first one back.
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000b'::uuid);  -- SHOULD FAIL: no grant
ROLLBACK TO s;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid, 'bob');  -- SHOULD FAIL
ROLLBACK TO s;
RESET ALL;
SELECT crm_tree.is_bound();
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid, 'bob');  -- SHOULD FAIL
ROLLBACK TO s;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a', 'ann');  -- the same pair again
SELECT crm_tree.current_org_bigint();  -- SHOULD FAIL: a uuid is no bigint
ROLLBACK;
SELECT crm_tree.is_bound();

-- A savepoint gives back the binding made in it, but not the freedom to make another.
BEGIN;
SAVEPOINT s;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid);
ROLLBACK TO s;
SELECT crm_tree.is_bound();
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid, 'bob');  -- SHOULD FAIL
ROLLBACK;

-- DO binds its own transaction.
DO $$ BEGIN PERFORM crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid); RAISE NOTICE 'bound: %', crm_tree.is_bound(); END $$;
SELECT crm_tree.is_bound();

-- A session binding has a grant of its own.
SELECT crm_tree.bind_session('00000000-0000-0000-0000-00000000000a'::uuid);  -- SHOULD FAIL
RESET SESSION AUTHORIZATION;
SELECT crm_tree.grant_org('tenant_app', '00000000-0000-0000-0000-00000000000a'::uuid, for_session => true);
SELECT crm_tree.grant_org('tenant_app', '00000000-0000-0000-0000-00000000000b'::uuid, for_session => true);
SET SESSION AUTHORIZATION tenant_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-00000000000a'::uuid);
SELECT count(*) FROM tenant.note;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-00000000000b'::uuid);  -- SHOULD FAIL: still bound
BEGIN;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_session('00000000-0000-0000-0000-00000000000b'::uuid);  -- SHOULD FAIL: this transaction was bound
ROLLBACK;
SELECT count(*) FROM tenant.note;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_session('00000000-0000-0000-0000-00000000000b'::uuid);
SELECT count(*) FROM tenant.note;
DISCARD ALL;
SELECT crm_tree.is_bound();
RESET SESSION AUTHORIZATION;

-- Grants and revokes; '*' grants every org and names none; 07 is not 7, '7' is.
SELECT crm_tree.revoke_org('tenant_app', '00000000-0000-0000-0000-00000000000b'::uuid);
SELECT crm_tree.revoke_org('tenant_app', '00000000-0000-0000-0000-00000000000b'::uuid);
SELECT crm_tree.grant_org('tenant_other', 7);
SET SESSION AUTHORIZATION tenant_other;
BEGIN; SELECT crm_tree.bind_org('7'); SELECT crm_tree.current_org_bigint(); COMMIT;
BEGIN; SELECT crm_tree.bind_org('07'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org('*'); ROLLBACK;
SELECT crm_tree.grant_org('tenant_other', '*');  -- SHOULD FAIL
RESET SESSION AUTHORIZATION;
SELECT crm_tree.grant_org('tenant_other', '*');
SET SESSION AUTHORIZATION tenant_other;
BEGIN; SELECT crm_tree.bind_org('07'); SELECT crm_tree.current_org_text(); COMMIT;
BEGIN; SELECT crm_tree.bind_org('*'); ROLLBACK;
RESET SESSION AUTHORIZATION;

-- Nobody sets the binding from outside, superusers included.
SET crm_tree.org = 'x';
SELECT set_config('crm_tree.org', 'x', false);
ALTER ROLE tenant_app SET crm_tree.org = 'x';
SET crm_tree.other = 'x';

-- Orgs of each type; partitions and children; what protect refuses.
CREATE TABLE tenant.by_int (tenant int, id int, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
CREATE TABLE tenant.by_int_1 PARTITION OF tenant.by_int FOR VALUES IN (1);
CREATE TABLE tenant.by_int_2 PARTITION OF tenant.by_int FOR VALUES IN (2);
INSERT INTO tenant.by_int VALUES (1, 1), (2, 2);
SELECT crm_tree.protect('tenant.by_int', 'tenant');
CREATE TABLE tenant.by_varchar (tenant varchar(20), id int, PRIMARY KEY (tenant, id));
INSERT INTO tenant.by_varchar VALUES ('1', 1), ('2', 2);
SELECT crm_tree.protect('tenant.by_varchar', 'tenant');
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA tenant TO tenant_app;
SELECT crm_tree.grant_org('tenant_app', 1);
SET SESSION AUTHORIZATION tenant_app;
BEGIN; SELECT crm_tree.bind_org(1);
SELECT * FROM tenant.by_int; SELECT * FROM tenant.by_int_2; SELECT * FROM tenant.by_varchar;
INSERT INTO tenant.by_varchar (id) VALUES (5) RETURNING *;
COMMIT;
RESET SESSION AUTHORIZATION;
TRUNCATE tenant.by_int_2;  -- SHOULD FAIL
CREATE TABLE tenant.bad (id int PRIMARY KEY, org_id numeric, maybe uuid, other text);
INSERT INTO tenant.bad VALUES (1, 1, NULL, 'x');
SELECT crm_tree.protect('tenant.bad');
SELECT crm_tree.protect('tenant.bad', 'nowhere');
SELECT crm_tree.protect('tenant.bad', 'maybe');
SELECT crm_tree.protect('tenant.bad', 'other', strict => true);
CREATE VIEW tenant.v AS SELECT 1 AS org_id;
SELECT crm_tree.protect('tenant.v');
SELECT relrowsecurity FROM pg_class WHERE oid = 'tenant.bad'::regclass;

-- Down: not by owning the table alone.
ALTER TABLE tenant.note OWNER TO tenant_other;
GRANT USAGE ON SCHEMA tenant TO tenant_other;
SET SESSION AUTHORIZATION tenant_other;
SELECT crm_tree.unprotect('tenant.note');  -- SHOULD FAIL
SELECT * FROM tenant.note;  -- SHOULD FAIL: forced on the owner too
RESET SESSION AUTHORIZATION;
SELECT crm_tree.unprotect('tenant.note');
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'tenant.note'::regclass;
SELECT crm_tree.unprotect('tenant.note');

SET client_min_messages = warning;
DROP SCHEMA tenant CASCADE;
DROP OWNED BY tenant_app, tenant_other;
DROP ROLE tenant_app, tenant_other;
