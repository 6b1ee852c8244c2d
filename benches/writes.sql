-- Writes against the bare copy of the account table. Needs generate.sql and harness.sql.
\set ON_ERROR_STOP on
\o /dev/null
SET client_min_messages = warning;
SET jit = off;
SET synchronous_commit = off;

-- k rows, a statement each, below accounts of every depth, in one transaction that is rolled back.
CREATE FUNCTION m.insert_tree(k int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    ids     uuid[] := ARRAY(SELECT gen_random_uuid() FROM generate_series(1, k));
    parents uuid[] := ARRAY(SELECT id FROM bench.parent WHERE o = 1 ORDER BY md5(n::text) LIMIT k);
    started timestamptz;
BEGIN
    started := clock_timestamp();
    FOR i IN 1..k LOOP
        INSERT INTO crm.account (account_id, parent_account_id, name, owner_user_id)
        VALUES (ids[i], parents[i], 'New account', 'user-50');
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'TIME0', MESSAGE = (extract(epoch FROM clock_timestamp() - started) * 1000 / k)::text;
EXCEPTION WHEN SQLSTATE 'TIME0' THEN
    RETURN SQLERRM::float8;
END $$;
CREATE FUNCTION m.insert_bare(k int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    org     uuid := bench.org(1);
    ids     uuid[] := ARRAY(SELECT gen_random_uuid() FROM generate_series(1, k));
    parents uuid[] := ARRAY(SELECT id FROM bench.parent WHERE o = 1 ORDER BY md5(n::text) LIMIT k);
    paths   text[] := ARRAY(SELECT path || i.id || '/' FROM unnest(parents, ids) WITH ORDINALITY i (parent, id, n)
                              JOIN bench.parent p ON p.o = 1 AND p.id = i.parent ORDER BY i.n);
    depths  int[] := ARRAY(SELECT p.depth + 1 FROM unnest(parents) WITH ORDINALITY i (parent, n)
                             JOIN bench.parent p ON p.o = 1 AND p.id = i.parent ORDER BY i.n);
    started timestamptz;
BEGIN
    started := clock_timestamp();
    FOR i IN 1..k LOOP
        INSERT INTO bench.bare (org_id, account_id, parent_account_id, name, owner_user_id, materialized_path, depth)
        VALUES (org, ids[i], parents[i], 'New account', 'user-50', paths[i], depths[i]);
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'TIME0', MESSAGE = (extract(epoch FROM clock_timestamp() - started) * 1000 / k)::text;
EXCEPTION WHEN SQLSTATE 'TIME0' THEN
    RETURN SQLERRM::float8;
END $$;
INSERT INTO m.variant VALUES ('insert_tree', true), ('insert_bare', false);

-- The tree of 10,000 from one holding to the other and back, each time in a transaction of its own.
-- Bare: the two statements an application would write, paths in hand.
CREATE PROCEDURE m.move(first int, last int) LANGUAGE plpgsql AS $$
DECLARE
    org     uuid := bench.org(1);
    top     uuid := bench.account(1, 0);
    target  uuid;
    old     text;
    start   timestamptz;
    took    float8;
    touched bigint;
    ours    boolean;
BEGIN
    FOR run IN first..last LOOP
        SELECT id INTO target FROM bench.hold WHERE h = 1 + run % 2;
        FOREACH ours IN ARRAY CASE WHEN run % 2 = 0 THEN '{t,f}'::boolean[] ELSE '{f,t}' END LOOP
            IF ours THEN
                PERFORM crm_tree.bind_org(org);
                SET LOCAL ROLE bench_app;
                start := clock_timestamp();
                UPDATE crm.account SET parent_account_id = target WHERE account_id = top;
                took := extract(epoch FROM clock_timestamp() - start) * 1000;
                RESET ROLE;
            ELSE
                SELECT materialized_path INTO old FROM bench.bare WHERE org_id = org AND account_id = top;
                SET LOCAL ROLE bench_bare;
                start := clock_timestamp();
                UPDATE bench.bare SET parent_account_id = target WHERE org_id = org AND account_id = top;
                UPDATE bench.bare
                   SET materialized_path = '/' || target || '/' || top || '/' || substr(materialized_path, length(old) + 1),
                       depth = depth + CASE WHEN old = '/' || top || '/' THEN 1 ELSE 0 END
                 WHERE org_id = org AND materialized_path >= old AND materialized_path < rtrim(old, '/') || '0';
                took := extract(epoch FROM clock_timestamp() - start) * 1000;
                GET DIAGNOSTICS touched = ROW_COUNT;
                RESET ROLE;
                ASSERT touched = 10000;
            END IF;
            IF run > 0 THEN -- the first moves a root, one level down
                INSERT INTO m.sample (measure, variant, run, ms)
                VALUES ('move', CASE WHEN ours THEN 'move_tree' ELSE 'move_bare' END, run, took);
            END IF;
            COMMIT;
        END LOOP;
    END LOOP;
END
$$;

\echo '    insert'
VACUUM crm.account, bench.bare;
CHECKPOINT;
CALL m.measure('insert', 1000, :runs, '{insert_tree,insert_bare}');
\echo '    move'
VACUUM crm.account, bench.bare;
CHECKPOINT;
CALL m.move(0, 2);
VACUUM crm.account, bench.bare;
CALL m.move(3, 4);
VACUUM crm.account, bench.bare;
CALL m.move(5, 6);
VACUUM crm.account, bench.bare;
CALL m.move(7, 8);
VACUUM crm.account, bench.bare;
-- Both tables say the same, and the tree is one.
DO $$
BEGIN
    PERFORM crm_tree.bind_org(bench.org(1));
    ASSERT (SELECT count(*) FROM crm_tree.check_tree('crm.account')) = 0, 'check_tree';
    ASSERT NOT EXISTS (SELECT account_id, materialized_path, depth FROM crm.account WHERE org_id = bench.org(1)
                       EXCEPT SELECT account_id, materialized_path, depth FROM bench.bare WHERE org_id = bench.org(1)), 'paths';
END
$$;
