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
SELECT name, depth, own_usd, total_usd, descendants, missing, as_of, source FROM reg_rollup.arr_rollup_tree();
SELECT name, depth, own_usd, total_usd, descendants, missing, as_of, source FROM reg_rollup.arr_rollup_tree('00000000-0000-0000-0000-0000000000a2', '2026-02-27');
SELECT reg_rollup.org_total(), reg_rollup.org_total('2026-02-01'), reg_rollup.org_total('2020-01-01');
-- as_of is the latest snapshot on or before the day
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', '2026-02-27');
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', '2025-12-31');
-- behind the wall the sum of a subtree reads two indexes, and no row of either table
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT sum(f.arr_usd) FILTER (WHERE a.ownership_pct = 100)
  FROM reg_rollup.account a JOIN reg_rollup.fct_account_arr_snapshot f ON f.org_id = a.org_id AND f.account_id = a.account_id
 WHERE f.snapshot_date = '2026-01-31' AND a.materialized_path >= '/00000000-0000-0000-0000-0000000000a1/' AND a.materialized_path < '/00000000-0000-0000-0000-0000000000a10';
RESET enable_seqscan;
RESET enable_bitmapscan;
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
SELECT a.name, r.* FROM reg_rollup.account a, reg_rollup.arr_rollup(a.account_id, mode => 'weighted') r ORDER BY a.materialized_path;
-- a subtree: what is below a second parent is in the totals, not among the rows
SELECT name, depth, own_usd, total_usd, descendants, duplicates_suppressed, unallocated_usd, missing, source FROM reg_rollup.arr_rollup_tree('00000000-0000-0000-0000-0000000000a5');
-- but never round and round
INSERT INTO reg_rollup.account_link (parent_account_id, child_account_id, ownership_pct) VALUES
    ('00000000-0000-0000-0000-0000000000a3', '00000000-0000-0000-0000-0000000000a5', 10);

-- refusals, and nothing for an account that is not there
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', mode => 'all');
SELECT * FROM reg_rollup.arr_rollup_tree(mode => 'all');
SELECT * FROM reg_rollup.arr_rollup_tree('00000000-0000-0000-0000-0000000000ff');
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000ff');
SELECT * FROM reg_rollup.arr_rollup(NULL);
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) VALUES ('2026-01-01', '00000000-0000-0000-0000-0000000000a1', 'NaN');
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd) VALUES ('infinity', '00000000-0000-0000-0000-0000000000a1', 1);

-- the figures follow deletes, changed dates, and days outside every month; the register keeps what was
DELETE FROM reg_rollup.fct_account_arr_snapshot WHERE snapshot_date = '2026-02-28' AND account_id = '00000000-0000-0000-0000-0000000000a1';
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
DELETE FROM reg_rollup.fct_account_arr_snapshot WHERE snapshot_date = '2026-02-28';
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT name, total_usd, as_of FROM reg_rollup.arr_rollup_tree() WHERE depth = 0;
SELECT reg_rollup.org_total(), (reg_rollup.arr_rollup_as_of('00000000-0000-0000-0000-0000000000a1', NULL, now())).as_of;
UPDATE reg_rollup.fct_account_arr_snapshot SET snapshot_date = '1999-12-31';
SELECT snapshot_date FROM reg_rollup.arr_snapshot_status ORDER BY 1;
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT total_usd, as_of FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1', '1999-12-30');
SELECT reg_rollup.refresh_arr_snapshot_status();
-- a day that the register lacks is entered
RESET ROLE;
SET crm_tree.guard = off;
DELETE FROM reg_rollup.arr_snapshot_status WHERE snapshot_date = '1999-12-31';
RESET crm_tree.guard;
SET ROLE rollup_app;
SELECT reg_rollup.org_total();
SELECT reg_rollup.refresh_arr_snapshot_status();
SELECT reg_rollup.org_total();
SELECT snapshot_date FROM reg_rollup.arr_snapshot_status ORDER BY 1;
-- the figures agree with an independent recursive query, on a random tree
SELECT setseed(0.5);
INSERT INTO reg_rollup.account (account_id, parent_account_id, name)
SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid,
       CASE WHEN i > 1005 THEN ('00000000-0000-0000-0000-' || lpad((1001 + floor(random() * (i - 1001)))::text, 12, '0'))::uuid END, 'r' || i
  FROM generate_series(1001, 1500) i;
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
SELECT '2026-03-31', account_id, (random() * 1000)::numeric(14,2) FROM reg_rollup.account WHERE name LIKE 'r%' AND random() < 0.9;
-- 300 second parents, from elder to younger so that no circle closes, some shares below 100
UPDATE reg_rollup.account SET ownership_pct = (ARRAY[100, 60, 33.3333])[1 + floor(random() * 3)] WHERE name LIKE 'r%';
CREATE TEMP TABLE pair AS
SELECT DISTINCT p, c FROM (
    SELECT 1001 + floor(random() * 250)::int AS p, 1251 + floor(random() * 250)::int AS c FROM generate_series(1, 300)) x;
CREATE FUNCTION pg_temp.id(i int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid $$;
INSERT INTO reg_rollup.account_link (parent_account_id, child_account_id, ownership_pct)
SELECT pg_temp.id(p), pg_temp.id(c), trunc((100 - a.ownership_pct) / count(*) OVER (PARTITION BY c), 4)
  FROM pair JOIN reg_rollup.account a ON a.account_id = pg_temp.id(c) AND a.parent_account_id <> pg_temp.id(p);
CREATE TEMP TABLE oracle AS
WITH RECURSIVE edge (up, down, share, of_tree) AS (
    SELECT parent_account_id, account_id, ownership_pct, true FROM reg_rollup.account WHERE parent_account_id IS NOT NULL
    UNION ALL SELECT parent_account_id, child_account_id, ownership_pct, false FROM reg_rollup.account_link),
way (mode, top, id, share) AS ( -- every way down, one by one
    SELECT m, account_id, account_id, 1::numeric FROM reg_rollup.account, unnest('{ways,primary}'::text[]) m
    UNION ALL
    SELECT w.mode, w.top, e.down, trim_scale(w.share * e.share * 0.01) FROM way w JOIN edge e ON e.up = w.id WHERE w.mode = 'ways' OR e.of_tree),
fact AS (SELECT account_id AS id, arr_usd FROM reg_rollup.fct_account_arr_snapshot WHERE snapshot_date = '2026-03-31'),
free AS (SELECT down AS id, (100 - sum(share)) * 0.01 AS free FROM edge GROUP BY down)
SELECT 'distinct' AS mode, top, count(*) AS accounts, coalesce(sum(arr_usd), 0) AS total, count(*) - count(arr_usd) AS missing,
       coalesce(sum(arr_usd * free) FILTER (WHERE id <> top), 0) AS unallocated
  FROM (SELECT DISTINCT top, id FROM way WHERE mode = 'ways') w LEFT JOIN fact USING (id) LEFT JOIN free USING (id) GROUP BY top
UNION ALL
SELECT 'weighted', top, count(DISTINCT id), coalesce(sum(arr_usd * share), 0), count(DISTINCT id) FILTER (WHERE arr_usd IS NULL), NULL
  FROM way LEFT JOIN fact USING (id) WHERE mode = 'ways' GROUP BY top
UNION ALL
SELECT 'primary', top, count(*), coalesce(sum(arr_usd), 0), count(*) - count(arr_usd), NULL
  FROM way LEFT JOIN fact USING (id) WHERE mode = 'primary' GROUP BY top;
SELECT o.mode, count(*) AS nodes, count(*) FILTER (WHERE o.total <> 0) > 400 AS figures,
       count(*) FILTER (WHERE t.total_usd <> o.total) AS totals_wrong,
       count(*) FILTER (WHERE t.descendants + 1 <> o.accounts OR t.missing <> o.missing) AS counts_wrong,
       count(*) FILTER (WHERE t.unallocated_usd <> o.unallocated) AS unallocated_wrong,
       sum(t.duplicates_suppressed) > 0 AS duplicates,
       -- and a node alone says what the tree says
       count(*) FILTER (WHERE (r.own_usd, r.total_usd, r.accounts, r.duplicates_suppressed, r.unallocated_usd, r.missing, r.as_of, r.source)
                           <> (t.own_usd, t.total_usd, t.descendants + 1, t.duplicates_suppressed, t.unallocated_usd, t.missing, t.as_of, t.source)) AS alone_wrong
  FROM unnest('{distinct,weighted,primary}'::text[]) m (mode)
 CROSS JOIN LATERAL reg_rollup.arr_rollup_tree(mode => m.mode) t
  JOIN oracle o ON o.mode = m.mode AND o.top = t.account_id
 CROSS JOIN LATERAL reg_rollup.arr_rollup(t.account_id, mode => m.mode) r
 GROUP BY o.mode ORDER BY o.mode;
SELECT bool_and(w.total <= d.total) AS weighted_at_most_distinct, count(*) FILTER (WHERE w.total < d.total) > 50 AS some_less
  FROM oracle w JOIN oracle d USING (top) WHERE w.mode = 'weighted' AND d.mode = 'distinct' AND top >= pg_temp.id(1001);
-- the same measure by the generic form
SELECT count(*) AS nodes, count(*) FILTER (WHERE (g.own, g.total, g.descendants, g.depth, g.missing, g.unallocated, g.source)
                             IS DISTINCT FROM (t.own_usd, t.total_usd, t.descendants, t.depth, t.missing, t.unallocated_usd, t.source)) AS wrong
  FROM reg_rollup.arr_rollup_tree(mode => 'weighted') t
  FULL JOIN crm_tree.rollup('reg_rollup.account', $$ SELECT account_id, arr_usd FROM reg_rollup.fct_account_arr_snapshot
      WHERE snapshot_date = '2026-03-31' -- a comment at the end $$, 'weighted') g ON g.id = t.account_id::text;
SELECT count(*) FILTER (WHERE root_account_id::text <> crm_tree.path_root(materialized_path)) AS wrong, count(DISTINCT root_account_id) AS roots,
       count(*) FILTER (WHERE root_name IS NULL) AS without FROM reg_rollup.account_with_root;
RESET ROLE;
GRANT SELECT ON oracle TO rollup_app;

-- paths that are not up to date: a flag, an unset path; the answers come from the links, and are the same. A path in the wrong
-- place does not matter where the whole org is read
DO $$
DECLARE
    way text; n int; sources text; wrong int; deep int;
BEGIN
    FOREACH way IN ARRAY '{flag,unset,wrong,none}'::text[] LOOP
        BEGIN
            SET LOCAL session_replication_role = replica;
            IF way = 'flag' THEN
                INSERT INTO crm_tree.stale_org VALUES ('reg_rollup.account', '00000000-0000-0000-0000-0000000c0011');
            ELSIF way = 'unset' THEN
                UPDATE reg_rollup.account SET materialized_path = NULL, depth = NULL WHERE name IN ('r1003', 'r1100');
            ELSIF way = 'wrong' THEN
                UPDATE reg_rollup.account SET materialized_path = '/' || account_id || '/' WHERE parent_account_id IS NOT NULL AND name = 'r1100';
            END IF;
            SET LOCAL session_replication_role = origin;
            SET LOCAL ROLE rollup_app;
            SELECT count(*), string_agg(DISTINCT t.source, ','), count(*) FILTER (WHERE t.total_usd <> o.total), max(t.depth)
              INTO n, sources, wrong, deep
              FROM unnest('{distinct,weighted,primary}'::text[]) m (mode)
             CROSS JOIN LATERAL reg_rollup.arr_rollup_tree(mode => m.mode) t JOIN oracle o ON o.mode = m.mode AND o.top = t.account_id;
            RAISE WARNING '%: % rows by %, % wrong, to depth %', way, n, sources, wrong, deep;
            IF way <> 'wrong' THEN
                SELECT count(*), string_agg(DISTINCT r.source, ','), count(*) FILTER (WHERE r.total_usd <> o.total OR r.accounts <> o.accounts)
                  INTO n, sources, wrong
                  FROM oracle o CROSS JOIN LATERAL reg_rollup.arr_rollup(o.top, mode => o.mode) r WHERE o.top::text LIKE '%1_00';
                RAISE WARNING '%: % alone by %, % wrong', way, n, sources, wrong;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'RB000';
        EXCEPTION WHEN SQLSTATE 'RB000' THEN NULL;
        END;
    END LOOP;
END $$;

-- the generic form on a table of one's own: another org's rows do not count, and what cannot be
CREATE TABLE reg_rollup.team (org_id int NOT NULL, id int NOT NULL, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('reg_rollup.team', 'id', 'parent');
INSERT INTO reg_rollup.team VALUES (1, 1, NULL), (1, 2, 1), (1, 3, 2), (1, 4, 1), (2, 1, NULL);
CREATE TABLE reg_rollup.person (team int, name text);
INSERT INTO reg_rollup.person VALUES (1, 'a'), (2, 'b'), (2, 'c'), (3, 'd'), (77, 'nowhere'), (NULL, 'nobody');
SELECT crm_tree.unbind();
SELECT * FROM crm_tree.rollup('reg_rollup.team', 'SELECT team, 1 FROM reg_rollup.person');
SELECT crm_tree.bind_session(1);
SELECT * FROM crm_tree.rollup('reg_rollup.team', 'SELECT team, 1 FROM reg_rollup.person');
SELECT id, total FROM crm_tree.rollup('reg_rollup.team', 'SELECT team, 1 FROM reg_rollup.person', 'primary', '2');
SELECT * FROM crm_tree.rollup('reg_rollup.team', 'SELECT team, 1 FROM reg_rollup.person', top => '9');
SELECT * FROM crm_tree.rollup('reg_rollup.team', 'SELECT 1');
SELECT * FROM crm_tree.rollup('reg_rollup.team', 'DELETE FROM reg_rollup.person');
SELECT * FROM crm_tree.rollup('reg_rollup.team', 'SELECT 1, 1', 'sideways');
SELECT count(*) FROM (SELECT crm_tree.rollup('reg_rollup.team', 'SELECT 1, 1')) x;
SELECT * FROM crm_tree.rollup('reg_rollup.person', 'SELECT 1, 1');
SELECT crm_tree.unbind();

-- another org, and nobody's
SET ROLE rollup_app;
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0012'::uuid);
SELECT * FROM reg_rollup.arr_rollup('00000000-0000-0000-0000-0000000000a1');
SELECT * FROM reg_rollup.arr_rollup_tree();
SELECT reg_rollup.org_total();
-- of 1,500 accounts, planned for as many, and of fewer: as the one pass over the tree has them
INSERT INTO reg_rollup.account (account_id, parent_account_id, name, ownership_pct)
SELECT pg_temp.id(5000 + i), CASE WHEN i > 1 THEN pg_temp.id(5000 + i / 2) END, 'b' || i, CASE WHEN i % 3 = 0 THEN 60 ELSE 100 END FROM generate_series(1, 1500) i;
INSERT INTO reg_rollup.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
SELECT '2026-03-31', pg_temp.id(5000 + i), i + 0.01 FROM generate_series(1, 1500) i WHERE i % 5 <> 0;
SELECT * FROM reg_rollup.arr_rollup(pg_temp.id(5001));
SELECT (SELECT sum(i + 0.01) FROM generate_series(1, 1500) i WHERE i % 5 <> 0) AS total, (SELECT sum((i + 0.01) * 0.4) FROM generate_series(1, 1500) i WHERE i % 5 <> 0 AND i % 3 = 0) AS unallocated;
SELECT count(*) AS nodes, max(r.accounts) AS most,
       count(*) FILTER (WHERE (r.own_usd, r.total_usd, r.accounts, r.duplicates_suppressed, r.unallocated_usd, r.missing, r.as_of, r.source)
                           <> (t.own_usd, t.total_usd, t.descendants + 1, t.duplicates_suppressed, t.unallocated_usd, t.missing, t.as_of, t.source)) AS wrong
  FROM reg_rollup.arr_rollup_tree() t CROSS JOIN LATERAL reg_rollup.arr_rollup(t.account_id) r;
SELECT crm_tree.unbind();
RESET ROLE;
-- a row whose parent is not among those of the path's range: taken by the links, as a root; links that turn have no totals
SELECT * FROM crm_tree._node_totals($$ SELECT * FROM (VALUES (1, NULL, 'a'::text, 0, 100::numeric, 1::numeric), (2, 1, 'b', 9, 50, 2), (3, 7, 'c', 9, 100, 4)) n (id, parent, label, depth, share, own) WHERE true $$,
    NULL, '(''/'' || n.id)', NULL, NULL, NULL, 'weighted', false, false)
    AS t (id int, parent int, name text, depth int, own numeric, total numeric, nodes bigint, duplicates bigint, unallocated numeric, missing bigint, day date, source text);
SELECT * FROM crm_tree._node_totals($$ SELECT * FROM (VALUES (1, 2, 'a'::text, 0, 100::numeric, 1::numeric), (2, 1, 'b', 9, 50, 2)) n (id, parent, label, depth, share, own) WHERE true $$,
    NULL, 'n.id::text', NULL, NULL, NULL, 'distinct', true, false)
    AS t (id int, parent int, name text, depth int, own numeric, total numeric, nodes bigint, duplicates bigint, unallocated numeric, missing bigint, day date, source text);
-- rows of other types than those asked for
SELECT * FROM crm_tree._node_totals($$ SELECT * FROM (VALUES (1, NULL::int, 'a'::text, 0, 100::numeric, 1::numeric)) n (id, parent, label, depth, share, own) WHERE true $$,
    NULL, '(''/'' || n.id)', NULL, NULL, NULL, 'distinct', false, false)
    AS t (id uuid, parent int, name text, depth int, own numeric, total numeric, nodes bigint, duplicates bigint, unallocated numeric, missing bigint, day date, source text);
