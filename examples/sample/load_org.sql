-- One org of the sample, behind the wall. Included by load.sql, once an org; one transaction, bound to the org.
-- org_id is in no INSERT: it defaults to the bound org.

\echo 'sample:' :org_key :org_name
BEGIN;
SELECT crm_tree.create_org(:'org_name', :'org_id'::uuid) \g /dev/null
SELECT crm_tree.grant_org(:'owner', :'org_id'::uuid) \g /dev/null
SET LOCAL ROLE :"owner";
SELECT crm_tree.bind_org(:'org_id'::uuid) \g /dev/null

-- Parents may come after their children; parents first is quicker.
INSERT INTO :"crm".role (role_id, parent_role_id, name)
SELECT DISTINCT role_id, parent_role_id, role_name FROM st_team WHERE org = :'org_key';

INSERT INTO :"crm".app_user (user_id, email, display_name, role_id)
SELECT user_id, email, display_name, role_id FROM st_team WHERE org = :'org_key';

INSERT INTO :"crm".account (account_id, parent_account_id, name, owner_user_id, custom)
SELECT account_id, parent_account_id, name, owner_user_id, jsonb_build_object('jurisdiction', jurisdiction)
  FROM st_account WHERE org = :'org_key' ORDER BY line;

INSERT INTO :"crm".fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
SELECT snapshot_date, account_id, arr_usd FROM st_arr WHERE org = :'org_key';

INSERT INTO :"crm".stage (stage, position, outcome, stale_after)
SELECT stage, position, outcome, stale_after FROM st_stage;

INSERT INTO :"crm".opportunity (opportunity_id, account_id, owner_user_id, name)
SELECT opportunity_id, account_id, owner_user_id, name FROM st_opportunity WHERE org = :'org_key';

INSERT INTO :"crm".fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd, forecast_usd,
                                     forecast_category, expected_close, changed_by)
SELECT event_id, opportunity_id, changed_at, to_stage, amount_usd, forecast_usd,
       forecast_category, expected_close, changed_by
  FROM st_event WHERE org = :'org_key';

-- Without statistics the planner takes the org for empty.
ANALYZE :"crm".role, :"crm".app_user, :"crm".account;
SELECT * FROM :"crm".recompute_sharing('full') \g /dev/null
RESET ROLE;
SELECT crm_tree.revoke_org(:'owner', :'org_id'::uuid) \g /dev/null
COMMIT;
