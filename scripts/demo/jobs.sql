
-- As crm_jobs. Totals go by the paths, so one is wrong now. check_tree() compares paths and links; it
-- names the children of a spoiled row too, as their paths do not continue their parent's:
BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT r.accounts, r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r
 WHERE a.name = 'JPMorgan Chase & Co.';
SELECT problem, count(*) FROM crm_tree.check_tree('crm.account') GROUP BY problem;
--check (SELECT count(*) > 0 FROM crm_tree.check_tree('crm.account') WHERE problem = 'stale_path')
--check (SELECT r.accounts < 120 FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.name = 'JPMorgan Chase & Co.')
COMMIT;

-- Two jobs, nightly and daily, on the clock of a named time zone:
--hush
SELECT crm_tree.add_job('reconcile_paths', 'crm_tree.reconcile_paths',
                        '30 2 * * *', 'Europe/Berlin');
--hush
SELECT crm_tree.add_job('cascade_sharing', 'crm.cascade_sharing',
                        '0 6 * * *', 'Europe/Berlin');
SELECT name, schedule, timezone, next_run FROM crm_tree.job_list ORDER BY next_run;

-- Nobody wants to wait for the night here, so the first one is due now:
--hush
SELECT crm_tree.alter_job('reconcile_paths', next_run => now());
