
-- The background worker has run it meanwhile, org by org, bound to each:
SELECT job, scheduled, status, orgs_done, orgs_failed, duration FROM crm_tree.job_history;
SELECT left(org, 8) AS org, status, finished_at - started_at AS took,
       result -> 'crm.account' -> 'repaired' AS accounts_repaired
  FROM crm_tree.job_org_history WHERE job = 'reconcile_paths' ORDER BY org;

-- And the tree is right again:
BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT count(*) AS problems FROM crm_tree.check_tree('crm.account');
SELECT r.accounts, r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r
 WHERE a.name = 'JPMorgan Chase & Co.';
--check NOT EXISTS (SELECT FROM crm_tree.check_tree('crm.account'))
--check (SELECT r.accounts = 120 FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.name = 'JPMorgan Chase & Co.')
COMMIT;
