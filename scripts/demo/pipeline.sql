-- Every change of stage is an event in an append-only table, the only truth about deals.
-- Where they are now:

BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT c.stage, s.outcome, count(*) AS deals, sum(c.amount_usd) AS amount_usd
  FROM crm.current_stage c JOIN crm.stage s USING (org_id, stage)
 GROUP BY c.stage, s.outcome, s.position ORDER BY s.position;
--check (SELECT count(*) FROM crm.current_stage) = (SELECT count(*) FROM crm.opportunity)

-- One deal's way: it skipped "proposal", then had to go back to it. The last visit is still open:
SELECT t.stage, t.visit, t.entered::date, t."left"::date,
       round(extract(epoch FROM t.duration) / 86400, 1) AS days
  FROM crm.opportunity o, crm.time_in_stage(o.opportunity_id) t
 WHERE o.name = 'Group-wide risk platform';
--check (SELECT count(*) = 5 AND max(t.visit) = 2 FROM crm.opportunity o, crm.time_in_stage(o.opportunity_id) t WHERE o.name = 'Group-wide risk platform')

-- How long deals sit in each stage, here below J.P. Morgan International Finance Limited only:
SELECT d.stage, d.visits, d.still_there,
       round(extract(epoch FROM d.median) / 86400, 1) AS median_days,
       round(extract(epoch FROM d.p90) / 86400, 1) AS p90_days
  FROM crm.account a, crm.stage_durations(account_id => a.account_id) d
 WHERE a.name = 'J.P. Morgan International Finance Limited' AND d.outcome = 'open'
 ORDER BY d.position;

-- Forgotten deals: open, and longer in their stage than the stage allows:
SELECT o.name AS deal, left(a.name, 34) AS account, c.stage,
       extract(day FROM now() - c.changed_at) AS days, c.amount_usd
  FROM crm.current_stage c
  JOIN crm.stage s       USING (org_id, stage)
  JOIN crm.opportunity o USING (org_id, opportunity_id)
  JOIN crm.account a     USING (org_id, account_id)
 WHERE s.outcome = 'open' AND now() - c.changed_at > s.stale_after
 ORDER BY c.amount_usd DESC LIMIT 4;
COMMIT;
