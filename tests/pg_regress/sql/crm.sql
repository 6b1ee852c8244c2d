-- create_crm: what an instance is made of, who owns it, what an application role may do
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT format('CREATE ROLE %I', 'crm_app') WHERE to_regrole('crm_app') IS NULL \gexec
SELECT crm_tree.create_crm('reg_crm');
SELECT reg_crm.grant_app('crm_app');
SELECT crm_tree.grant_org('crm_app', '*', for_session => true);

SELECT schema, owner, template_version <> '' AS versioned FROM crm_tree.crm_instance WHERE schema = 'reg_crm';
SELECT rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'crm_tree_owner';

-- everything belongs to the owner
SELECT count(*) AS foreign_relations FROM pg_class WHERE relnamespace = 'reg_crm'::regnamespace AND relowner <> 'crm_tree_owner'::regrole;
SELECT count(*) AS foreign_functions FROM pg_proc WHERE pronamespace = 'reg_crm'::regnamespace AND proowner <> 'crm_tree_owner'::regrole;
-- every table, partitions included, is behind the wall
SELECT count(*) AS open_tables FROM pg_class WHERE relnamespace = 'reg_crm'::regnamespace AND relkind IN ('r', 'p')
   AND NOT (relrowsecurity AND relforcerowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND NOT polpermissive));
-- the org leads every key, index and foreign key
SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
 WHERE c.relnamespace = 'reg_crm'::regnamespace AND a.attname NOT IN ('org_id', 'org');
SELECT conrelid::regclass, conname FROM pg_constraint JOIN pg_class c ON c.oid = conrelid
  JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]
 WHERE c.relnamespace = 'reg_crm'::regnamespace AND contype = 'f' AND a.attname NOT IN ('org_id', 'org');
-- every table, view, function and type is commented, partitions aside
SELECT relname FROM pg_class WHERE relnamespace = 'reg_crm'::regnamespace AND relkind IN ('r', 'p', 'v', 'c')
   AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL AND relkind <> 'c';
SELECT proname FROM pg_proc WHERE pronamespace = 'reg_crm'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
-- functions: nothing for PUBLIC, a pinned search_path or a body parsed at creation
SELECT proname FROM pg_proc WHERE pronamespace = 'reg_crm'::regnamespace
   AND (has_function_privilege('public', oid, 'EXECUTE') OR (proconfig IS NULL AND prosqlbody IS NULL));

-- what create_crm refuses
SELECT crm_tree.create_crm('reg_crm');
SELECT crm_tree.create_crm('it''s');
SELECT crm_tree.create_crm('reg_crm2', org_partitions => -1);
SELECT crm_tree.create_crm('reg_crm2', owner => current_user);
SET ROLE crm_app;
SELECT crm_tree.create_crm('reg_crm2');
SELECT crm_tree.create_org('Mine');
RESET ROLE;

-- the registry of orgs
SELECT crm_tree.create_org('Reg Acme', '00000000-0000-0000-0000-0000000c0001');
SELECT crm_tree.create_org('Reg Beta', '00000000-0000-0000-0000-0000000c0002');
SELECT crm_tree.create_org('Reg Acme');
SELECT crm_tree.create_org('Reg Gamma', '00000000-0000-0000-0000-0000000c0001');
SELECT crm_tree.create_org('');
SET ROLE crm_app;
SELECT name FROM crm_tree.org;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0001'::uuid);
SELECT name FROM crm_tree.org;

-- an ordinary user of the instance
INSERT INTO reg_crm.account (account_id, name) VALUES
    ('00000000-0000-0000-0000-0000000000a1', 'Group'), ('00000000-0000-0000-0000-0000000000a2', 'Other');
INSERT INTO reg_crm.account (account_id, parent_account_id, name) VALUES
    ('00000000-0000-0000-0000-0000000000a3', '00000000-0000-0000-0000-0000000000a1', 'Bank'),
    ('00000000-0000-0000-0000-0000000000a4', '00000000-0000-0000-0000-0000000000a3', 'Branch');
SELECT name, depth, crm_tree.path_depth(materialized_path) AS path_depth FROM reg_crm.account ORDER BY materialized_path;
-- path maintenance does not touch updated_at; an edit does, even one that also sets a path
UPDATE reg_crm.account SET parent_account_id = '00000000-0000-0000-0000-0000000000a2' WHERE name = 'Bank';
SELECT name, depth, updated_at > created_at AS touched FROM reg_crm.account ORDER BY materialized_path;
UPDATE reg_crm.account SET name = 'Group Inc', materialized_path = '/forged/' WHERE name = 'Group';
SELECT name, depth, updated_at > created_at AS touched, materialized_path FROM reg_crm.account WHERE name = 'Group Inc';
-- values that make no sense
INSERT INTO reg_crm.account (name, ownership_pct) VALUES ('x', 100.1);
INSERT INTO reg_crm.account (name, ownership_pct) VALUES ('x', 'NaN');
INSERT INTO reg_crm.account_link (parent_account_id, child_account_id, ownership_pct) VALUES
    ('00000000-0000-0000-0000-0000000000a1', '00000000-0000-0000-0000-0000000000a1', 50);
INSERT INTO reg_crm.stage (stage, position, outcome) VALUES ('x', 1, 'maybe');
INSERT INTO reg_crm.account (name, owner_user_id) VALUES ('x', 'nobody');
-- what it may not do
INSERT INTO reg_crm.stage_event_key (event_id, content_hash) VALUES (gen_random_uuid(), '');
INSERT INTO reg_crm.arr_snapshot_status (snapshot_date) VALUES ('2026-01-31');
TRUNCATE reg_crm.account;
SELECT reg_crm.create_month_partitions('2020-01-01', '2020-01-01');
RESET ROLE;

-- months
SELECT reg_crm.create_month_partitions('2019-11-15', '2020-02-01');
SELECT reg_crm.create_month_partitions('2019-11-15', '2020-02-01');
SELECT reg_crm.create_month_partitions('2020-02-01', '2019-11-15');
SELECT c.relname, pg_get_expr(relpartbound, c.oid), relowner::regrole, relforcerowsecurity,
       (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgname LIKE 'append_only%' AND tgenabled = 'A') AS guards
  FROM pg_class c WHERE relnamespace = 'reg_crm'::regnamespace AND relname ~ '_20(19|20)_..$' ORDER BY 1;

-- partitioned by org, in a schema whose name has to be quoted
SELECT crm_tree.create_crm('reg Crm-2', org_partitions => 3);
SELECT count(*) FROM pg_partition_tree('"reg Crm-2".account') WHERE isleaf;
SELECT count(*) AS open_tables FROM pg_class WHERE relnamespace = '"reg Crm-2"'::regnamespace AND relkind IN ('r', 'p')
   AND NOT (relrowsecurity AND relforcerowsecurity);
SELECT crm_tree.unbind();
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0002'::uuid);
SELECT "reg Crm-2".grant_app('crm_app');
SET ROLE crm_app;
INSERT INTO "reg Crm-2".account (account_id, name) VALUES ('00000000-0000-0000-0000-0000000000a1', 'Top');
INSERT INTO "reg Crm-2".account (parent_account_id, name) SELECT '00000000-0000-0000-0000-0000000000a1', 'n' || i FROM generate_series(1, 3) i;
INSERT INTO "reg Crm-2".fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) SELECT '2020-01-31', account_id, 5 FROM "reg Crm-2".account;
SELECT * FROM "reg Crm-2".arr_rollup('00000000-0000-0000-0000-0000000000a1');
INSERT INTO "reg Crm-2".app_user (user_id, display_name) VALUES ('ann', 'Ann');
UPDATE "reg Crm-2".account SET owner_user_id = 'ann' WHERE name = 'Top';
SELECT * FROM "reg Crm-2".recompute_sharing();
SELECT bool_and("reg Crm-2".check_access('ann', account_id, 'manage')) FROM "reg Crm-2".account;
SELECT crm_tree.unbind();
SELECT count(*) FROM reg_crm.account;
RESET ROLE;
DELETE FROM crm_tree.org WHERE name LIKE 'Reg %';
