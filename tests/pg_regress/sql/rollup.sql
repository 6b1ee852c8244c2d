-- Rollups: totals of subtrees, one pass for all nodes, second parents, the register of days
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT format('CREATE ROLE %I', 'rollup_app') WHERE to_regrole('rollup_app') IS NULL \gexec
SELECT crm_tree.create_crm('reg_rollup');
SELECT reg_rollup.create_month_partitions('2026-01-01', '2026-03-01') >= 0 AS months;
SELECT reg_rollup.grant_app('rollup_app');
SELECT crm_tree.grant_org('rollup_app', '*', for_session => true);
SET ROLE rollup_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0011'::uuid);

INSERT INTO reg_rollup.account (account_id, parent_account_id, name, ownership_pct) VALUES
    ('00000000-0000-0000-0000-0000000000a1', NULL, 'Group', 100),
    ('00000000-0000-0000-0000-0000000000a2', '00000000-0000-0000-0000-0000000000a1', 'Bank', 100),
    ('00000000-0000-0000-0000-0000000000a3', '00000000-0000-0000-0000-0000000000a2', 'Branch', 60),
    ('00000000-0000-0000-0000-0000000000a4', '00000000-0000-0000-0000-0000000000a1', 'Fund', 50),
    ('00000000-0000-0000-0000-0000000000a5', NULL, 'Other', 100),
    ('00000000-0000-0000-0000-0000000000a6', NULL, 'Silent', 100);
-- before there is any snapshot
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT reg_rollup.org_total();

INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
SELECT d, account_id, CASE name WHEN 'Group' THEN 0.01 WHEN 'Bank' THEN 200 WHEN 'Branch' THEN 300 WHEN 'Fund' THEN 400.10 ELSE -50 END
       * CASE WHEN d = '2026-02-28' THEN 10 ELSE 1 END
  FROM reg_rollup.account, unnest('{2026-01-31,2026-02-28}'::date[]) d WHERE name <> 'Silent';
SELECT snapshot_date FROM reg_rollup.arr_snapshot_status ORDER BY 1;
SELECT a.name, r.* FROM reg_rollup.account a, reg_rollup.arr_rollup(a.account_id) r ORDER BY a.materialized_path;
SELECT name, depth, own_usd, total_usd, descendants, as_of FROM reg_rollup.arr_rollup_tree();
SELECT name, depth, own_usd, total_usd, descendants, as_of FROM reg_rollup.arr_rollup_tree('00000000-0000-0000-0000-0000000000a2', '2026-02-27');
SELECT reg_rollup.org_total(), reg_rollup.org_total('2026-02-01'), reg_rollup.org_total('2020-01-01');
-- as_of is the latest snapshot on or before the day
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', '2026-02-27');
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', '2025-12-31');
-- a re-org is one UPDATE; the totals follow
UPDATE reg_rollup.account SET parent_account_id = '00000000-0000-0000-0000-0000000000a5' WHERE name = 'Bank';
SELECT name, depth, total_usd, descendants FROM reg_rollup.arr_rollup_tree();
UPDATE reg_rollup.account SET parent_account_id = '00000000-0000-0000-0000-0000000000a1' WHERE name = 'Bank';

-- second parents: each account once
INSERT INTO reg_rollup.account_link (parent_account_id, child_account_id, ownership_pct) VALUES
    ('00000000-0000-0000-0000-0000000000a2', '00000000-0000-0000-0000-0000000000a4', 30),
    ('00000000-0000-0000-0000-0000000000a5', '00000000-0000-0000-0000-0000000000a3', 40);
SELECT a.name, r.* FROM reg_rollup.account a, reg_rollup.arr_rollup(a.account_id) r ORDER BY a.materialized_path;
SELECT a.name, r.* FROM reg_rollup.account a, reg_rollup.arr_rollup(a.account_id, mode => 'primary') r ORDER BY a.materialized_path;
-- but never round and round
INSERT INTO reg_rollup.account_link (parent_account_id, child_account_id, ownership_pct) VALUES
    ('00000000-0000-0000-0000-0000000000a3', '00000000-0000-0000-0000-0000000000a5', 10);

-- refusals, and nothing for an account that is not there
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', mode => 'weighted');
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', mode => 'all');
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000ff');
SELECT * FROM reg_rollup.arr_rollup(NULL);
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) VALUES ('2026-01-01', '00000000-0000-0000-0000-0000000000a1', 'NaN');
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) VALUES ('infinity', '00000000-0000-0000-0000-0000000000a1', 1);

-- the register follows deletes, changed dates, and days outside every month
DELETE FROM reg_rollup.fct_account_arr_snapshot WHERE snapshot_date = '2026-02-28' AND account_id = '00000000-0000-0000-0000-0000000000a1';
SELECT snapshot_date FROM reg_rollup.arr_snapshot_status ORDER BY 1;
DELETE FROM reg_rollup.fct_account_arr_snapshot WHERE snapshot_date = '2026-02-28';
SELECT snapshot_date FROM reg_rollup.arr_snapshot_status ORDER BY 1;
UPDATE reg_rollup.fct_account_arr_snapshot SET snapshot_date = '1999-12-31';
SELECT snapshot_date FROM reg_rollup.arr_snapshot_status ORDER BY 1;
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT reg_rollup.refresh_arr_snapshot_status();
-- the figures agree with an independent recursive query, on a random tree
SELECT setseed(0.5);
INSERT INTO reg_rollup.account (account_id, parent_account_id, name)
SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid,
       CASE WHEN i > 1005 THEN ('00000000-0000-0000-0000-' || lpad((1001 + floor(random() * (i - 1001)))::text, 12, '0'))::uuid END, 'r' || i
  FROM generate_series(1001, 1500) i;
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
SELECT '2026-03-31', account_id, (random() * 1000)::numeric(14,2) FROM reg_rollup.account WHERE name LIKE 'r%' AND random() < 0.9;
CREATE TEMP VIEW oracle AS
WITH RECURSIVE below (top, id) AS (
    SELECT account_id, account_id FROM reg_rollup.account
    UNION ALL SELECT b.top, a.account_id FROM below b JOIN reg_rollup.account a ON a.parent_account_id = b.id)
SELECT top, count(*) - 1 AS descendants, coalesce(sum(arr_usd), 0) AS total
  FROM below LEFT JOIN reg_rollup.fct_account_arr_snapshot f ON f.account_id = id AND snapshot_date = '2026-03-31' GROUP BY top;
SELECT count(*) AS nodes,
       count(*) FILTER (WHERE t.total_usd <> o.total OR t.descendants <> o.descendants) AS tree_wrong,
       count(*) FILTER (WHERE r.total_usd <> o.total OR r.accounts <> o.descendants + 1 OR r.own_usd <> t.own_usd) AS rollup_wrong
  FROM reg_rollup.arr_rollup_tree() t JOIN oracle o ON o.top = t.account_id
 CROSS JOIN LATERAL reg_rollup.arr_rollup(t.account_id, mode => 'primary') r;
RESET ROLE;

-- another org, and nobody's
SELECT crm_tree.unbind();
SET ROLE rollup_app;
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0012'::uuid);
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT * FROM reg_rollup.arr_rollup_tree();
SELECT reg_rollup.org_total();
SELECT crm_tree.unbind();
RESET ROLE;
-- rows that do not stand in path order are refused, not added up wrongly
SELECT * FROM crm_tree._subtree_totals($$ VALUES
    ('00000000-0000-0000-0000-0000000000a1'::uuid, NULL::uuid, 'a', 0, 1::numeric),
    ('00000000-0000-0000-0000-0000000000a2', '00000000-0000-0000-0000-0000000000a9', 'b', 1, 1) $$, NULL, NULL, NULL);
