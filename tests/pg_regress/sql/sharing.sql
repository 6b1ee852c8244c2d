-- Sharing: who may see an account, and why; the bridge follows its sources
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT format('CREATE ROLE %I', 'sharing_app') WHERE to_regrole('sharing_app') IS NULL \gexec
SELECT crm_tree.create_crm('reg_sharing');
SELECT reg_sharing.grant_app('sharing_app');
SELECT crm_tree.grant_org('sharing_app', '*', for_session => true);
SET ROLE sharing_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0031'::uuid, 'ann');
INSERT INTO reg_sharing.role (role_id, parent_role_id, name) VALUES
    ('00000000-0000-0000-0000-0000000000d1', NULL, 'CRO'),
    ('00000000-0000-0000-0000-0000000000d2', '00000000-0000-0000-0000-0000000000d1', 'VP East'),
    ('00000000-0000-0000-0000-0000000000d3', '00000000-0000-0000-0000-0000000000d2', 'Rep East'),
    ('00000000-0000-0000-0000-0000000000d4', '00000000-0000-0000-0000-0000000000d1', 'VP West'),
    ('00000000-0000-0000-0000-0000000000d5', NULL, 'Legal');
INSERT INTO reg_sharing.app_user (user_id, display_name, role_id, active) VALUES
    ('carla', 'Carla', '00000000-0000-0000-0000-0000000000d1', true),
    ('victor', 'Victor', '00000000-0000-0000-0000-0000000000d2', true),
    ('rita', 'Rita', '00000000-0000-0000-0000-0000000000d3', true),
    ('wes', 'Wes', '00000000-0000-0000-0000-0000000000d4', true),
    ('lea', 'Lea', '00000000-0000-0000-0000-0000000000d5', true),
    ('ina', 'Ina', '00000000-0000-0000-0000-0000000000d1', false),
    ('sue', 'Sue', NULL, true);
INSERT INTO reg_sharing.account (account_id, parent_account_id, name, owner_user_id) VALUES
    ('00000000-0000-0000-0000-0000000000a1', NULL, 'Group', 'rita'),
    ('00000000-0000-0000-0000-0000000000a2', '00000000-0000-0000-0000-0000000000a1', 'Bank', NULL),
    ('00000000-0000-0000-0000-0000000000a3', '00000000-0000-0000-0000-0000000000a2', 'Branch', 'wes'),
    ('00000000-0000-0000-0000-0000000000a4', '00000000-0000-0000-0000-0000000000a1', 'Fund', NULL),
    ('00000000-0000-0000-0000-0000000000a5', NULL, 'Other', 'victor');
CREATE TEMP VIEW bridge AS
SELECT a.name, b.user_id, b.granted_via, b.permission_level AS level
  FROM reg_sharing.bridge_account_user_access b JOIN reg_sharing.account a USING (account_id) ORDER BY 1, 2, 3;
CREATE TEMP VIEW drift AS
SELECT a.name, d.user_id, d.granted_via, d.bridge_level, d.source_level
  FROM reg_sharing.sharing_drift() d JOIN reg_sharing.account a USING (account_id) ORDER BY 1, 2, 3;

-- nothing before the first recompute; then ownership and the role tree; then nothing more to write
SELECT reg_sharing.check_access('rita', '00000000-0000-0000-0000-0000000000a1');
SELECT * FROM reg_sharing.recompute_sharing('full');
SELECT * FROM bridge;
SELECT * FROM reg_sharing.recompute_sharing('full');

-- shares and rules
INSERT INTO reg_sharing.account_share (share_id, account_id, user_id, permission_level) VALUES
    ('00000000-0000-0000-0000-000000000051', '00000000-0000-0000-0000-0000000000a2', 'sue', 'read'),
    ('00000000-0000-0000-0000-000000000052', '00000000-0000-0000-0000-0000000000a3', 'ina', 'manage');
INSERT INTO reg_sharing.sharing_rule (rule_id, name, owner_role_id, grantee_role_id, permission_level) VALUES
    ('00000000-0000-0000-0000-000000000061', 'Legal reads east', '00000000-0000-0000-0000-0000000000d2', '00000000-0000-0000-0000-0000000000d5', 'read');
SELECT * FROM drift;
SELECT * FROM reg_sharing.recompute_sharing();
SELECT * FROM drift;

-- who may: inherited down the account tree, never for the inactive
SELECT u.user_id, string_agg(CASE WHEN reg_sharing.check_access(u.user_id, a.account_id, 'manage') THEN 'manage'
                                  WHEN reg_sharing.check_access(u.user_id, a.account_id, 'edit') THEN 'edit'
                                  WHEN reg_sharing.check_access(u.user_id, a.account_id) THEN 'read' ELSE '-' END, ' ' ORDER BY a.account_id)
       AS "Group Bank Branch Fund Other"
  FROM reg_sharing.app_user u, reg_sharing.account a GROUP BY 1 ORDER BY 1;
-- and why
SELECT jsonb_pretty(reg_sharing.explain_access('carla', '00000000-0000-0000-0000-0000000000a3'));
SELECT jsonb_pretty(reg_sharing.explain_access('sue', '00000000-0000-0000-0000-0000000000a3'));
SELECT reg_sharing.explain_access('lea', '00000000-0000-0000-0000-0000000000a5') #> '{sources,0,rule}' AS rule;
SELECT reg_sharing.explain_access('ina', '00000000-0000-0000-0000-0000000000a3') ->> 'note' AS inactive,
       reg_sharing.explain_access('zoe', '00000000-0000-0000-0000-0000000000a3') ->> 'note' AS unknown_user,
       reg_sharing.explain_access('sue', '00000000-0000-0000-0000-0000000000ff') ->> 'note' AS unknown_account;
SELECT * FROM reg_sharing.list_users('00000000-0000-0000-0000-0000000000a3');
SELECT * FROM reg_sharing.list_users('00000000-0000-0000-0000-0000000000a3', 'edit', after => 'carla', lim => 1);
SELECT * FROM reg_sharing.list_accounts('sue');
SELECT * FROM reg_sharing.list_accounts('carla', 'edit', after => '00000000-0000-0000-0000-0000000000a2', lim => 2);
-- the lists agree with check_access
SELECT count(*) AS wrong FROM reg_sharing.app_user u, reg_sharing.account a, unnest('{read,edit,manage}'::text[]) l
 WHERE reg_sharing.check_access(u.user_id, a.account_id, l)
       IS DISTINCT FROM EXISTS (SELECT FROM reg_sharing.list_users(a.account_id, l) x WHERE x.user_id = u.user_id)
    OR reg_sharing.check_access(u.user_id, a.account_id, l)
       IS DISTINCT FROM EXISTS (SELECT FROM reg_sharing.list_accounts(u.user_id, l) x WHERE x.account_id = a.account_id);

-- each change of a source changes exactly its rows
UPDATE reg_sharing.app_user SET role_id = '00000000-0000-0000-0000-0000000000d4' WHERE user_id = 'rita';
SELECT * FROM drift;
SELECT reg_sharing.explain_access('victor', '00000000-0000-0000-0000-0000000000a1') #> '{sources,0,source_stands}' AS stands;
SELECT * FROM reg_sharing.recompute_sharing();
UPDATE reg_sharing.account_share SET permission_level = 'edit' WHERE user_id = 'sue';
SELECT reg_sharing.cascade_sharing('{}');
UPDATE reg_sharing.role SET parent_role_id = '00000000-0000-0000-0000-0000000000d5' WHERE name = 'VP West';
SELECT * FROM drift;
SELECT * FROM reg_sharing.recompute_sharing();
-- at once, without a recompute: a deactivated user; an account or share that is deleted with its grants
UPDATE reg_sharing.app_user SET active = false WHERE user_id = 'wes';
SELECT reg_sharing.check_access('wes', '00000000-0000-0000-0000-0000000000a3');
DELETE FROM reg_sharing.account WHERE name = 'Fund';
DELETE FROM reg_sharing.account WHERE name = 'Branch';
SELECT * FROM bridge;
SELECT * FROM reg_sharing.recompute_sharing();
-- a move changes who inherits, with no recompute
SELECT reg_sharing.check_access('victor', '00000000-0000-0000-0000-0000000000a2') AS before;
UPDATE reg_sharing.account SET parent_account_id = '00000000-0000-0000-0000-0000000000a5' WHERE name = 'Bank';
SELECT reg_sharing.check_access('victor', '00000000-0000-0000-0000-0000000000a2') AS after;

-- refusals
SELECT reg_sharing.check_access('sue', '00000000-0000-0000-0000-0000000000a2', 'own');
SELECT * FROM reg_sharing.recompute_sharing('incremental');
SELECT * FROM reg_sharing.recompute_sharing('some');
INSERT INTO reg_sharing.bridge_account_user_access (account_id, user_id, granted_via, source_id, permission_level) VALUES
    ('00000000-0000-0000-0000-0000000000a1', 'sue', 'owner', '00000000-0000-0000-0000-0000000000a1', 'manage');
DELETE FROM reg_sharing.bridge_account_user_access;
INSERT INTO reg_sharing.account_share (account_id, user_id, permission_level) VALUES ('00000000-0000-0000-0000-0000000000a1', 'sue', 'own');

-- another org sees and changes nothing of it
SELECT crm_tree.unbind();
SELECT * FROM reg_sharing.recompute_sharing();
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0032'::uuid);
SELECT * FROM reg_sharing.recompute_sharing();
SELECT reg_sharing.check_access('rita', '00000000-0000-0000-0000-0000000000a1');
SELECT reg_sharing.explain_access('rita', '00000000-0000-0000-0000-0000000000a1') -> 'sources' AS sources;
SELECT crm_tree.unbind();
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0031'::uuid);
SELECT count(*) FROM bridge;
SELECT crm_tree.unbind();
RESET ROLE;
