-- Org C has 10,000 accounts in 120 groups, up to twelve levels deep. One call totals all of them:

BEGIN; SELECT crm_tree.bind_org('cccccccc-cccc-4ccc-8ccc-cccccccccccc'::uuid);     -- as org C
CREATE TEMP TABLE total ON COMMIT DROP AS SELECT * FROM crm.arr_rollup_tree();
SELECT count(*) AS accounts, max(depth) + 1 AS levels, sum(own_usd) AS arr_usd,
       sum(total_usd) FILTER (WHERE depth = 0) AS sum_of_groups, crm.org_total() AS org_total
  FROM total;
--check (SELECT count(*) = 10000 AND sum(own_usd) = sum(total_usd) FILTER (WHERE depth = 0) FROM total)
--check (SELECT sum(own_usd) = crm.org_total() FROM total)

-- The largest groups:
SELECT name, descendants, own_usd, total_usd FROM total
 WHERE depth = 0 ORDER BY total_usd DESC LIMIT 4;

-- For comparison the usual way, a recursive query from every account. The same figures:
CREATE TEMP TABLE usual ON COMMIT DROP AS
WITH RECURSIVE below AS (
    SELECT account_id AS top, account_id FROM crm.account
  UNION ALL
    SELECT b.top, a.account_id FROM below b
      JOIN crm.account a ON a.parent_account_id = b.account_id
)
SELECT b.top AS account_id, sum(f.arr_usd) AS total_usd
  FROM below b
  LEFT JOIN crm.fct_account_arr_snapshot f
         ON f.account_id = b.account_id AND f.snapshot_date = date_trunc('month', now())::date
 GROUP BY b.top;
--check (SELECT count(*) = 10000 AND bool_and(coalesce(u.total_usd, 0) = coalesce(t.total_usd, 0)) FROM usual u JOIN total t USING (account_id))
COMMIT;
