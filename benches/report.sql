-- The table, as Markdown. A ratio is the median of the ratios of the runs, each run's two sides measured
-- one right after the other.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
CREATE TEMP TABLE line (n serial, what text, measure text, ours text, rival_name text, rival text, op text, figure numeric);
INSERT INTO line (what, measure, ours, rival_name, rival, op, figure) VALUES
    ('sum over a subtree of 100, behind the wall', 'rollup_100', 'range_100', 'bare', 'range_bare_100', '<=', 1.15),
    ('', 'rollup_100', 'range_100', 'ltree behind RLS', 'ltree_100', '>=', 20),
    ('', 'rollup_100', 'range_100', '`LIKE` behind RLS', 'like_100', '>=', 20),
    ('', 'rollup_100', 'range_100', 'recursive CTE behind RLS', 'cte_100', '>=', 1.5),
    ('', 'rollup_100', 'range_100', 'closure table behind RLS', 'closure_100', NULL, NULL),
    ('the same through `arr_rollup()`', 'rollup_100', 'arr_rollup_100', 'bare', 'range_bare_100', '<=', 1.5),
    ('sum over a subtree of 10,000, behind the wall', 'rollup_10000', 'range_10000', 'bare', 'range_bare_10000', '<=', 1.15),
    ('', 'rollup_10000', 'range_10000', 'recursive CTE behind RLS', 'cte_10000', '>=', 10),
    ('', 'rollup_10000', 'range_10000', 'ltree behind RLS', 'ltree_10000', NULL, NULL),
    ('', 'rollup_10000', 'range_10000', '`LIKE` behind RLS', 'like_10000', NULL, NULL),
    ('', 'rollup_10000', 'range_10000', 'closure table behind RLS', 'closure_10000', NULL, NULL),
    ('the same through `arr_rollup()`', 'rollup_10000', 'arr_rollup_10000', 'bare', 'range_bare_10000', NULL, NULL),
    ('', 'rollup_10000', 'arr_rollup_10000', 'recursive CTE behind RLS', 'cte_10000', NULL, NULL),
    ('full scan behind the wall, no index', 'scan', 'scan', 'bare', 'scan_bare', '<=', 1.15),
    ('', 'scan', 'scan', 'policy on `current_setting()`', 'scan_setting', NULL, NULL),
    ('point read by key behind the wall, prepared', 'point', 'point', 'bare', 'point_bare', '<=', 1.1),
    ('the same, planned each time', 'point_custom', 'point_custom', 'bare', 'point_custom_bare', NULL, NULL),
    ('`bind_org` sent with BEGIN, then SELECT, COMMIT', 'bind', 'bind_with_begin', 'BEGIN, SELECT, COMMIT', 'no_bind', '<=', 1.05),
    ('`bind_org` as a statement of its own', 'bind', 'bind_alone', 'BEGIN, SELECT, COMMIT', 'no_bind', NULL, NULL),
    ('', 'bind', 'bind_alone', 'with `SELECT 1` in its place', 'select_1', NULL, NULL),
    ('single-row insert', 'insert', 'insert_tree', 'bare', 'insert_bare', '<=', 1.25),
    ('8 parallel inserters of one org (time per row)', 'parallel_insert', 'parallel_tree', 'keys and foreign keys only', 'parallel_bare', '<=', round(1 / 0.85, 3)),
    ('move of a subtree of 10,000', 'move', 'move_tree', 'plain `UPDATE`', 'move_bare', '<=', 1.15),
    ('totals for every node of an org of 10,000, `arr_rollup_tree()`', 'totals', 'totals', 'recursive CTE per root', 'totals_cte_per_root', '>=', 15),
    ('', 'totals', 'totals', 'one recursive CTE for all roots', 'totals_one_cte', NULL, NULL),
    ('', 'totals', 'totals', '`GROUP BY` over unnested paths', 'totals_unnest', '>=', 3),
    ('the same of one root, `arr_rollup_tree(root)`', 'totals', 'totals_below', 'recursive CTE per root', 'totals_cte_per_root', NULL, NULL),
    ('`check_access`, 10,000 calls, per call', 'check_access', 'check_access', '15 µs', NULL, '<=', 1);

SELECT '| measure | ours, ms | rival | rival, ms | ratio | figure | |';
SELECT '|---|--:|---|--:|--:|--:|---|';
SELECT format('| %s | %s | %s | %s | %s | %s | %s |',
              coalesce(nullif(l.what, ''), '″'), s.ours, l.rival_name, coalesce(s.rival, '0.015'),
              CASE WHEN l.op = '>=' OR l.op IS NULL AND s.ratio < 0.67 THEN round(1 / s.ratio, 1) || ' × faster' ELSE round(s.ratio, 2) || ' ×' END,
              CASE l.op WHEN '<=' THEN '≤ ' || l.figure || ' ×' WHEN '>=' THEN '≥ ' || l.figure || ' × faster' ELSE '–' END,
              CASE WHEN l.op IS NULL THEN '' WHEN l.op = '<=' AND s.ratio <= l.figure OR l.op = '>=' AND 1 / s.ratio >= l.figure
                   THEN 'met' ELSE '**short**' END)
  FROM line l CROSS JOIN LATERAL (
       SELECT to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY o.ms), 'FM99990.0000') AS ours,
              to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.ms), 'FM99990.0000') AS rival,
              (percentile_cont(0.5) WITHIN GROUP (ORDER BY o.ms / coalesce(r.ms, 0.015)))::numeric AS ratio
         FROM m.sample o LEFT JOIN m.sample r ON r.measure = o.measure AND r.run = o.run AND r.variant = l.rival
        WHERE o.measure = l.measure AND o.variant = l.ours AND (l.rival IS NULL OR r.ms IS NOT NULL)) s
 WHERE s.ratio IS NOT NULL
 ORDER BY l.n;
