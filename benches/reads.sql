-- Reads, behind the wall and bare. Needs generate.sql and harness.sql; :runs pairs of each.
\set ON_ERROR_STOP on
\o /dev/null
SET client_min_messages = warning;
SET jit = off;
SET max_parallel_workers_per_gather = 0;

-- Subtree sums. 5700 is an account with 100 below and with it, 0 one with 10,000.
DO $$
DECLARE
    size  text;
    top   int;
    f     text := 'JOIN crm.fct_account_arr_snapshot f ON f.org_id = a.org_id AND f.account_id = a.account_id WHERE f.snapshot_date = day';
    bare  text := format(' AND a.org_id = %L', bench.org(1));
BEGIN
    FOR size, top IN VALUES ('100', 5700), ('10000', 0) LOOP
        CALL m.variant('range_' || size, true, top, 'SELECT sum(f.arr_usd) FROM crm.account a ' || f
            || ' AND a.materialized_path >= lo AND a.materialized_path < hi');
        CALL m.variant('range_bare_' || size, false, top, 'SELECT sum(f.arr_usd) FROM crm.account a ' || f
            || ' AND a.materialized_path >= lo AND a.materialized_path < hi' || bare);
        CALL m.variant('like_' || size, true, top, 'SELECT sum(f.arr_usd) FROM crm.account a ' || f
            || ' AND a.materialized_path LIKE lo || ''%''');
        CALL m.variant('ltree_' || size, true, top, 'SELECT sum(f.arr_usd) FROM bench.ltree_account a ' || f
            || ' AND a.path <@ translate(trim(both ''/'' from lo), ''/-'', ''.'')::ltree');
        CALL m.variant('cte_' || size, true, top, '
            SELECT sum(f.arr_usd) FROM (
                WITH RECURSIVE t AS (
                    SELECT x.org_id, x.account_id FROM crm.account x WHERE x.account_id = root
                    UNION ALL
                    SELECT c.org_id, c.account_id FROM t
                      JOIN crm.account c ON c.org_id = t.org_id AND c.parent_account_id = t.account_id)
                SELECT * FROM t) a ' || f);
        CALL m.variant('closure_' || size, true, top, 'SELECT sum(f.arr_usd) FROM bench.closure a
            JOIN crm.fct_account_arr_snapshot f ON f.org_id = a.org_id AND f.account_id = a.descendant_id
            WHERE f.snapshot_date = day AND a.ancestor_id = root');
        -- As users get it: with the server's own choice of plans.
        CALL m.variant('arr_rollup_' || size, true, top, 'SELECT * FROM crm.arr_rollup(root)', 'auto');
    END LOOP;

    CALL m.variant('scan', true, 0, 'SELECT sum(n) FROM bench.scan');
    CALL m.variant('scan_bare', false, 0, format('SELECT sum(n) FROM bench.scan WHERE org_id = %L', bench.org(1)));
    CALL m.variant('scan_setting', true, 0, 'SELECT sum(n) FROM bench.scan_setting');

    CALL m.variant('point', true, 1234, 'SELECT name FROM crm.account WHERE account_id = root', 'auto');
    CALL m.variant('point_bare', false, 1234,
        format('SELECT name FROM crm.account WHERE org_id = %L AND account_id = root', bench.org(1)), 'auto');
    CALL m.variant('point_custom', true, 1234, 'SELECT name FROM crm.account WHERE account_id = root');
    CALL m.variant('point_custom_bare', false, 1234,
        format('SELECT name FROM crm.account WHERE org_id = %L AND account_id = root', bench.org(1)));

    CALL m.variant('totals', true, 0, 'SELECT count(*), sum(total_usd) FROM crm.arr_rollup_tree()', 'auto');
    CALL m.variant('totals_below', true, 0, 'SELECT count(*), sum(total_usd) FROM crm.arr_rollup_tree(root)', 'auto');
    CALL m.variant('totals_cte_per_root', true, 0, '
        SELECT count(*), sum(s.total) FROM crm.account a CROSS JOIN LATERAL (
            WITH RECURSIVE t AS (
                SELECT a.org_id, a.account_id
                UNION ALL
                SELECT c.org_id, c.account_id FROM t
                  JOIN crm.account c ON c.org_id = t.org_id AND c.parent_account_id = t.account_id)
            SELECT sum(f.arr_usd) AS total FROM t
              JOIN crm.fct_account_arr_snapshot f ON f.org_id = t.org_id AND f.account_id = t.account_id
             WHERE f.snapshot_date = day) s
        WHERE a.materialized_path >= lo AND a.materialized_path < hi');
    CALL m.variant('totals_one_cte', true, 0, '
        SELECT count(*), sum(s.total) FROM (
            WITH RECURSIVE t AS (
                SELECT a.org_id, a.account_id AS top, a.account_id FROM crm.account a
                 WHERE a.materialized_path >= lo AND a.materialized_path < hi
                UNION ALL
                SELECT c.org_id, t.top, c.account_id FROM t
                  JOIN crm.account c ON c.org_id = t.org_id AND c.parent_account_id = t.account_id)
            SELECT t.top, sum(f.arr_usd) AS total FROM t
              JOIN crm.fct_account_arr_snapshot f ON f.org_id = t.org_id AND f.account_id = t.account_id
             WHERE f.snapshot_date = day GROUP BY t.top) s');
    CALL m.variant('totals_unnest', true, 0, '
        SELECT count(*), sum(s.total) FROM (
            SELECT u.id, sum(f.arr_usd) AS total
              FROM crm.account a
              JOIN crm.fct_account_arr_snapshot f ON f.org_id = a.org_id AND f.account_id = a.account_id
             CROSS JOIN LATERAL unnest(string_to_array(trim(both ''/'' from a.materialized_path), ''/'')) u (id)
             WHERE f.snapshot_date = day AND a.materialized_path >= lo AND a.materialized_path < hi
             GROUP BY u.id) s');

    -- 10,000 calls for accounts and users all over the org.
    INSERT INTO m.variant VALUES ('check_access', true);
    CREATE FUNCTION m.check_access(k int) RETURNS float8 LANGUAGE plpgsql AS $f$
    DECLARE
        accounts uuid[] := ARRAY(SELECT bench.account(1, (i::bigint * 7919 % 10000)::int) FROM generate_series(1, k) i);
        users    text[] := ARRAY(SELECT 'user-' || i::bigint * 31 % 200 FROM generate_series(1, k) i);
        started  timestamptz := clock_timestamp();
    BEGIN
        FOR i IN 1..k LOOP
            PERFORM crm.check_access(users[i], accounts[i], 'read');
        END LOOP;
        RETURN extract(epoch FROM clock_timestamp() - started) * 1000 / k;
    END $f$;
END
$$;

-- All forms must say the same before any is measured.
BEGIN;
SELECT crm_tree.bind_org(bench.org(1));
SET LOCAL ROLE bench_app;
DO $$
DECLARE
    i int; lo text; hi text; want numeric; got numeric;
BEGIN
    FOR i IN SELECT x FROM unnest(ARRAY[0, 5700]) x LOOP
        SELECT path, crm_tree.subtree_end(path) INTO lo, hi FROM bench.parent WHERE o = 1 AND n = i;
        SELECT sum(f.arr_usd) INTO want FROM bench.closure c
          JOIN crm.fct_account_arr_snapshot f ON f.org_id = c.org_id AND f.account_id = c.descendant_id
         WHERE c.ancestor_id = bench.account(1, i) AND f.snapshot_date = bench.day();
        SELECT sum(f.arr_usd) INTO got FROM crm.account a JOIN crm.fct_account_arr_snapshot f
            ON f.org_id = a.org_id AND f.account_id = a.account_id AND f.snapshot_date = bench.day()
         WHERE a.materialized_path >= lo AND a.materialized_path < hi;
        ASSERT got = want, 'range';
        ASSERT (SELECT total_usd FROM crm.arr_rollup(bench.account(1, i))) = want, 'arr_rollup';
        ASSERT (SELECT total_usd FROM crm.arr_rollup_tree(bench.account(1, i)) WHERE account_id = bench.account(1, i)) = want, 'arr_rollup_tree';
        ASSERT (SELECT sum(f.arr_usd) FROM bench.ltree_account a JOIN crm.fct_account_arr_snapshot f USING (org_id, account_id)
                 WHERE f.snapshot_date = bench.day() AND a.path <@ translate(trim(both '/' from lo), '/-', '.')::ltree) = want, 'ltree';
    END LOOP;
END
$$;
COMMIT;

\echo '    subtree of 100'
CALL m.measure('rollup_100', 100, :runs,
    '{range_100,range_bare_100,like_100,ltree_100,cte_100,closure_100,arr_rollup_100}', '{like_100,ltree_100}');
\echo '    subtree of 10,000'
CALL m.measure('rollup_10000', 2, :runs,
    '{range_10000,range_bare_10000,like_10000,ltree_10000,cte_10000,closure_10000,arr_rollup_10000}');
\echo '    full scan'
CALL m.measure('scan', 2, :runs, '{scan,scan_bare,scan_setting}');
\echo '    point read'
CALL m.measure('point', 5000, :runs, '{point,point_bare}');
CALL m.measure('point_custom', 2000, :runs, '{point_custom,point_custom_bare}');
\echo '    totals of every node'
CALL m.measure('totals', 20, :few, '{totals,totals_below,totals_unnest,totals_one_cte,totals_cte_per_root}', '{totals_one_cte,totals_cte_per_root}');
\echo '    check_access'
CALL m.measure('check_access', 10000, :few, '{check_access}');
