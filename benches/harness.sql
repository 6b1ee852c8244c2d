-- Measuring inside the server: each variant is a plpgsql function that runs one prepared statement k
-- times and returns the milliseconds of one. No network, no parsing, no client in the figure.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

DROP SCHEMA IF EXISTS m CASCADE;
CREATE SCHEMA m;
GRANT USAGE ON SCHEMA m TO bench_app, bench_bare;
CREATE TABLE m.sample (
    id      bigint GENERATED ALWAYS AS IDENTITY,
    measure text   NOT NULL,
    variant text   NOT NULL,
    run     int    NOT NULL,
    ms      float8 NOT NULL,
    PRIMARY KEY (measure, variant, run)
);
CREATE TABLE m.variant (name text PRIMARY KEY, walled boolean NOT NULL);

-- A function m.<name>(k) of the query. A walled one is called by the application's role, bound to org 1;
-- the others by one that is as ordinary, but has no wall. Never the same function by both: the plan would be thrown away at each turn.
-- In the query: root, lo, hi, day are variables, so they are parameters of a prepared statement.
CREATE PROCEDURE m.variant(name text, walled boolean, root int, query text, plans text DEFAULT 'force_custom_plan')
    LANGUAGE plpgsql AS $make$
BEGIN
    INSERT INTO m.variant VALUES (name, walled);
    EXECUTE format($f$
        CREATE FUNCTION m.%I(k int) RETURNS float8 LANGUAGE plpgsql SET plan_cache_mode = %s AS $$
        DECLARE
            root    uuid := %L;
            lo      text := %L;
            hi      text := %L;
            day     date := %L;
            started timestamptz := clock_timestamp();
        BEGIN
            FOR i IN 1..k LOOP
                PERFORM %s;
            END LOOP;
            RETURN extract(epoch FROM clock_timestamp() - started) * 1000 / k;
        END $$ $f$,
        name, plans, bench.account(1, root),
        (SELECT path FROM bench.parent WHERE o = 1 AND n = root),
        (SELECT crm_tree.subtree_end(path) FROM bench.parent WHERE o = 1 AND n = root),
        bench.day(), regexp_replace(query, '^\s*SELECT\s', '', 'i'));
END
$make$;

-- All variants of a measure by turns, in a new order each time, in one session.
CREATE PROCEDURE m.measure(measure text, k int, runs int, variants text[], slow text[] DEFAULT '{}')
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    v   text;
    ms  float8;
BEGIN
    PERFORM crm_tree.bind_org(bench.org(1));
    PERFORM set_config('bench.org', bench.org(1)::text, true);
    FOR run IN 0..runs LOOP
        FOR v IN SELECT u.x FROM unnest(variants) u (x) ORDER BY md5(run || u.x) LOOP
            IF (SELECT q.walled FROM m.variant q WHERE q.name = v) THEN
                SET LOCAL crm_tree.guard = enforce; -- as it is for the application's own sessions
                SET LOCAL ROLE bench_app;
            ELSE
                SET LOCAL ROLE bench_bare;
            END IF;
            -- The slow ones less often, so that a run of all takes about as long in each.
            EXECUTE format('SELECT m.%I($1)', v) INTO ms
                USING CASE WHEN v = ANY (slow) THEN greatest(1, k / 20) ELSE k END;
            RESET ROLE;
            SET LOCAL crm_tree.guard = off;
            IF run > 0 THEN -- the first warms up
                INSERT INTO m.sample (measure, variant, run, ms) VALUES (measure, v, run, ms);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
