-- Rollups: the snapshot fact, the register of snapshot days, and totals over subtrees.

CREATE TABLE @schema@.fct_account_arr_snapshot (
    org_id        uuid          NOT NULL DEFAULT crm_tree.current_org(),
    snapshot_date date          NOT NULL CHECK (isfinite(snapshot_date)),
    account_id    uuid          NOT NULL,
    arr_usd       numeric(14,2) NOT NULL CHECK (arr_usd <> 'NaN'),
    PRIMARY KEY (org_id, snapshot_date, account_id) INCLUDE (arr_usd),
    FOREIGN KEY (org_id, account_id) REFERENCES @schema@.account (org_id, account_id)
) PARTITION BY RANGE (snapshot_date);
CREATE INDEX fct_account_arr_snapshot_account_idx
    ON @schema@.fct_account_arr_snapshot (org_id, account_id, snapshot_date);
COMMENT ON TABLE @schema@.fct_account_arr_snapshot IS 'Annual recurring revenue of an account itself (without the accounts below it) on a day. One partition a month.';
COMMENT ON COLUMN @schema@.fct_account_arr_snapshot.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.fct_account_arr_snapshot.arr_usd IS 'May be negative (credits); never NaN.';

-- Reading the latest day out of the fact costs more than a rollup does: it would open every month.
-- Days are entered and never taken away, and readers ask whether a day has facts. A transaction that
-- took one away would have to see the facts of all others, those that have not committed among them.
-- The transaction is in the key, so that those who bring the same new day do not wait for each other.
CREATE TABLE @schema@.arr_snapshot_status (
    org_id        uuid        NOT NULL DEFAULT crm_tree.current_org(),
    snapshot_date date        NOT NULL,
    noted_by      xid8        NOT NULL DEFAULT pg_current_xact_id(),
    noted_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, snapshot_date, noted_by)
) @partition_by_org@;
COMMENT ON TABLE @schema@.arr_snapshot_status IS 'The days on which an org has or had snapshots, kept by triggers on fct_account_arr_snapshot: one row a day, more where transactions brought it at the same time.';
COMMENT ON COLUMN @schema@.arr_snapshot_status.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.arr_snapshot_status.noted_at IS 'When the transaction that brought the day began.';
COMMENT ON COLUMN @schema@.arr_snapshot_status.noted_by IS 'The transaction that brought the day.';

SELECT crm_tree.protect('@schema@.fct_account_arr_snapshot');
SELECT crm_tree.protect('@schema@.arr_snapshot_status');

-- Definer: the application role may read the register but not write it. Still behind the wall (the
-- owner's RLS is forced), so whoever writes snapshots is bound, superusers included.
CREATE FUNCTION @schema@._note_snapshot_days() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @schema@.arr_snapshot_status (org_id, snapshot_date)
    SELECT n.org_id, n.snapshot_date FROM (SELECT DISTINCT org_id, snapshot_date FROM new_rows) n
     -- A row that is seen is committed, or this transaction's own, and stays.
     WHERE NOT EXISTS (SELECT FROM @schema@.arr_snapshot_status s
                        WHERE s.org_id = n.org_id AND s.snapshot_date = n.snapshot_date);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION @schema@._note_snapshot_days() IS 'Trigger: enters new days into arr_snapshot_status.';

-- Statement triggers of the root do not fire for a statement that names a partition, so the
-- partitions get their own (see create_month_partitions).
CREATE FUNCTION @schema@._arm_arr_snapshot(part regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER note_days AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION @schema@._note_snapshot_days()', part);
    EXECUTE format('CREATE TRIGGER note_days_update AFTER UPDATE ON %s REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION @schema@._note_snapshot_days()', part);
END
$$;
COMMENT ON FUNCTION @schema@._arm_arr_snapshot(regclass) IS 'Puts the day-register triggers on one table of the snapshot fact.';
SELECT @schema@._arm_arr_snapshot('@schema@.fct_account_arr_snapshot');

CREATE FUNCTION @schema@.refresh_arr_snapshot_status() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
BEGIN
    WITH day AS (SELECT DISTINCT f.snapshot_date FROM @schema@.fct_account_arr_snapshot f
                  WHERE f.org_id = crm_tree.current_org()),
         noted AS (INSERT INTO @schema@.arr_snapshot_status (snapshot_date)
                   SELECT d.snapshot_date FROM day d
                    WHERE NOT EXISTS (SELECT FROM @schema@.arr_snapshot_status s
                                       WHERE s.org_id = crm_tree.current_org() AND s.snapshot_date = d.snapshot_date))
    SELECT count(*) INTO n FROM day;
    RETURN n;
END
$$;
COMMENT ON FUNCTION @schema@.refresh_arr_snapshot_status() IS 'Enters the days that the register of the bound org lacks, after a load with triggers off. Returns on how many days the org has snapshots.';

-- Reading ---------------------------------------------------------------------------------------

-- One probe of the register and one of the fact, and two more for each later day that has no facts any more.
CREATE FUNCTION @schema@._snapshot_day(as_of date) RETURNS date
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
    SET enable_sort = off -- the planner takes a day for a few rows, and would sort ten thousand for the first
AS $$
DECLARE
    wish date := coalesce($1, 'infinity');
    day  date;
BEGIN
    LOOP
        SELECT s.snapshot_date INTO day FROM @schema@.arr_snapshot_status s
         WHERE s.org_id = crm_tree.current_org() AND s.snapshot_date <= wish AND s.snapshot_date IS DISTINCT FROM day
         ORDER BY s.snapshot_date DESC LIMIT 1;
        -- A range in the order of the key: for a row of one day the planner may read the org's month through.
        PERFORM FROM @schema@.fct_account_arr_snapshot f
          WHERE f.org_id = crm_tree.current_org() AND f.snapshot_date BETWEEN day AND day ORDER BY f.snapshot_date LIMIT 1;
        IF FOUND OR day IS NULL THEN
            RETURN day;
        END IF;
        wish := day;
    END LOOP;
END
$$;
COMMENT ON FUNCTION @schema@._snapshot_day(date) IS 'The latest day with snapshots on or before the day asked for (null: the latest of all).';

-- A row type of its own and not RETURNS TABLE: plpgsql allows no result column named like a parameter.
CREATE TYPE @schema@.arr_rollup_row AS (
    own_usd               numeric,
    total_usd             numeric,
    accounts              bigint,
    duplicates_suppressed bigint,
    unallocated_usd       numeric,
    missing               bigint,
    as_of                 date,
    source                text
);
COMMENT ON TYPE @schema@.arr_rollup_row IS 'What arr_rollup returns.';

-- What crm_tree._node_totals() reads. $3 is the day; it adds the bounds of the path.
CREATE FUNCTION @schema@._rollup_nodes() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN $q$SELECT a.account_id, a.parent_account_id, a.name, a.depth, a.ownership_pct, f.arr_usd
  FROM @schema@.account a
  LEFT JOIN @schema@.fct_account_arr_snapshot f
         ON f.org_id = a.org_id AND f.snapshot_date = $3 AND f.account_id = a.account_id
 WHERE a.org_id = crm_tree.current_org()$q$;
COMMENT ON FUNCTION @schema@._rollup_nodes() IS 'The query of accounts and their figures for the rollups.';
CREATE FUNCTION @schema@._rollup_links() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN $q$SELECT l.parent_account_id, l.child_account_id, l.ownership_pct, p.materialized_path::text, c.materialized_path::text
  FROM @schema@.account_link l
  JOIN @schema@.account p ON p.org_id = l.org_id AND p.account_id = l.parent_account_id
  JOIN @schema@.account c ON c.org_id = l.org_id AND c.account_id = l.child_account_id
 WHERE l.org_id = crm_tree.current_org()$q$;
COMMENT ON FUNCTION @schema@._rollup_links() IS 'The query of second parents for the rollups.';

-- Inlined where it is called: planned for the list's own length where that is a constant, for a short
-- one where it is a parameter.
CREATE FUNCTION @schema@._arr_of(accounts uuid[], shares numeric[], root uuid, day date)
    RETURNS SETOF @schema@.arr_rollup_row
    LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT coalesce(sum(f.arr_usd) FILTER (WHERE a.id = root), 0),
           coalesce(sum(f.arr_usd), 0),
           count(*),
           0::bigint,
           trim_scale(coalesce(sum(CASE WHEN a.share < 100 AND a.id <> root THEN f.arr_usd * (100 - a.share) * 0.01 END), 0)),
           count(*) - count(f.arr_usd),
           day,
           'path'::text
      FROM unnest(accounts, shares) AS a (id, share)
      LEFT JOIN @schema@.fct_account_arr_snapshot f
             ON f.org_id = crm_tree.current_org() AND f.snapshot_date = day AND f.account_id = a.id;
END;
COMMENT ON FUNCTION @schema@._arr_of(uuid[], numeric[], uuid, date) IS 'The row of arr_rollup for a list of accounts and how much of each its parent owns.';

-- Two steps and not a join: the planner multiplies the share of the org by that of the range of paths,
-- although the org holds the range, takes ten thousand accounts for fifty, and looks the figure of each
-- up. The length of a list it knows. A few accounts are looked up by a plan that is made once.
CREATE FUNCTION @schema@.arr_rollup(account_id uuid, as_of date DEFAULT NULL, mode text DEFAULT 'distinct')
    RETURNS SETOF @schema@.arr_rollup_row
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    root     ALIAS FOR $1;
    wish     ALIAS FOR $2;
    how      ALIAS FOR $3;
    lo       text;
    hi       text;
    day      date;
    linked   boolean;
    stale    boolean;
    ids      uuid[];
    shares   numeric[];
BEGIN
    IF how IS NULL OR how NOT IN ('distinct', 'weighted', 'primary') THEN
        RAISE EXCEPTION 'unknown rollup mode: %', coalesce(quote_literal(how), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use ''distinct'', ''weighted'' or ''primary''.';
    END IF;

    -- Both bounds of the path range and the day have to be scalars before the sum is planned: a bound
    -- computed inside the join is not leak-proof and would become a filter behind the wall.
    SELECT a.materialized_path,
           @schema@._snapshot_day(wish),
           EXISTS (SELECT FROM @schema@.account_link l WHERE l.org_id = crm_tree.current_org()),
           NOT crm_tree._paths_are_fresh('@schema@.account', crm_tree.current_org()::text)
               OR EXISTS (SELECT FROM @schema@.account n WHERE n.org_id = crm_tree.current_org() AND n.materialized_path IS NULL)
      INTO lo, day, linked, stale
      FROM @schema@.account a
     WHERE a.org_id = crm_tree.current_org() AND a.account_id = root;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    IF stale OR how = 'weighted' OR linked AND how = 'distinct' THEN
        RETURN QUERY
        SELECT t.own, t.total, t.nodes, t.duplicates, t.unallocated, t.missing, t.day, t.source
          FROM crm_tree._node_totals(@schema@._rollup_nodes(), CASE WHEN linked THEN @schema@._rollup_links() END,
                   'a.materialized_path', lo, root::text, day, how, stale, true)
               AS t (id uuid, parent uuid, label text, depth int, own numeric, total numeric, nodes bigint,
                     duplicates bigint, unallocated numeric, missing bigint, day date, source text);
        RETURN;
    END IF;

    hi := crm_tree.subtree_end(lo);
    SELECT array_agg(a.account_id), array_agg(a.ownership_pct) INTO ids, shares
      FROM @schema@.account a
     WHERE a.org_id = crm_tree.current_org()
       AND a.materialized_path >= lo AND a.materialized_path < hi;
    IF cardinality(ids) <= 1000 THEN
        RETURN QUERY SELECT * FROM @schema@._arr_of(ids, shares, root, day);
    ELSE
        RETURN QUERY EXECUTE 'SELECT * FROM @schema@._arr_of($1, $2, $3, $4)' USING ids, shares, root, day;
    END IF;
END
$$;
COMMENT ON FUNCTION @schema@.arr_rollup(uuid, date, text) IS
'ARR of an account and everything below it. as_of: the latest snapshot on or before that day (null: the latest of all); the column as_of says which day it was. mode: distinct (second parents included, each account once), weighted (by ownership, over every way down) or primary (the tree alone). missing: accounts without a figure that day. source: path, or links where the stored paths are not up to date. No row for an account that the bound org does not have.';

CREATE TYPE @schema@.arr_rollup_tree_row AS (
    account_id            uuid,
    parent_account_id     uuid,
    name                  text,
    depth                 int,
    own_usd               numeric,
    total_usd             numeric,
    descendants           bigint,
    duplicates_suppressed bigint,
    unallocated_usd       numeric,
    missing               bigint,
    as_of                 date,
    source                text
);
COMMENT ON TYPE @schema@.arr_rollup_tree_row IS 'What arr_rollup_tree returns, a row a node.';

-- Inlined into the query that calls it, so that the rows are stored once on their way.
CREATE FUNCTION @schema@.arr_rollup_tree(account_id uuid DEFAULT NULL, as_of date DEFAULT NULL, mode text DEFAULT 'distinct')
    RETURNS SETOF @schema@.arr_rollup_tree_row
    LANGUAGE sql STABLE ROWS 10000
BEGIN ATOMIC
    SELECT t.id, t.parent, t.name, t.depth, t.own, t.total, t.nodes - 1, t.duplicates, t.unallocated, t.missing, t.day, t.source
      FROM crm_tree._node_totals(
               @schema@._rollup_nodes(), @schema@._rollup_links(), 'a.materialized_path',
               (SELECT a.materialized_path::text FROM @schema@.account a
                 WHERE a.org_id = crm_tree.current_org() AND a.account_id = arr_rollup_tree.account_id),
               arr_rollup_tree.account_id::text,
               @schema@._snapshot_day(arr_rollup_tree.as_of),
               arr_rollup_tree.mode,
               NOT crm_tree._paths_are_fresh('@schema@.account', crm_tree.current_org()::text)
                   OR EXISTS (SELECT FROM @schema@.account n
                               WHERE n.org_id = crm_tree.current_org() AND n.materialized_path IS NULL),
               false)
           AS t (id uuid, parent uuid, name text, depth int, own numeric, total numeric, nodes bigint,
                 duplicates bigint, unallocated numeric, missing bigint, day date, source text);
END;
COMMENT ON FUNCTION @schema@.arr_rollup_tree(uuid, date, text) IS
'Own and rolled-up ARR of every account of a subtree (null: of the whole org), in tree order, each as arr_rollup says. Accounts below a second parent are in its total, not among its rows.';

CREATE VIEW @schema@.account_with_root WITH (security_invoker = true) AS
SELECT a.*, r.account_id AS root_account_id, r.name AS root_name
  FROM @schema@.account a
  -- Nothing where no path is deferred.
  LEFT JOIN crm_tree._deferred_paths('@schema@.account') d ON d.org::uuid = a.org_id AND d.id::uuid = a.account_id
  LEFT JOIN @schema@.account r ON r.org_id = a.org_id
        AND r.account_id = crm_tree.path_root(coalesce(d.path, a.materialized_path))::uuid;
COMMENT ON VIEW @schema@.account_with_root IS 'Accounts with their ultimate parent in the tree, themselves where they are at the top; null while the path is unset.';

CREATE FUNCTION @schema@.org_total(as_of date DEFAULT NULL) RETURNS numeric
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    day   date := @schema@._snapshot_day($1);
    total numeric;
BEGIN
    SELECT coalesce(sum(f.arr_usd), 0) INTO total FROM @schema@.fct_account_arr_snapshot f
     WHERE f.org_id = crm_tree.current_org() AND f.snapshot_date = day;
    RETURN total;
END
$$;
COMMENT ON FUNCTION @schema@.org_total(date) IS
'ARR of the bound org: every account''s own figure once, whatever the edges.';

CREATE FUNCTION @schema@.arr_rollup_as_of(account_id uuid, snapshot date, structure timestamptz)
    RETURNS TABLE (own_usd numeric, total_usd numeric, accounts bigint, missing bigint, as_of date)
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    root ALIAS FOR $1;
    wish ALIAS FOR $2;
    at   ALIAS FOR $3;
    day  date;
    ids  uuid[];
BEGIN
    ids := ARRAY(SELECT n.id::uuid FROM crm_tree.subtree_as_of('@schema@.account', root::text, at) n);
    IF cardinality(ids) = 0 THEN
        RETURN;
    END IF;
    day := @schema@._snapshot_day(wish);
    -- By the list, not by a join with the account: one that was deleted since is counted, as missing.
    RETURN QUERY SELECT t.own_usd, t.total_usd, t.accounts, t.missing, t.as_of FROM @schema@._arr_of(ids, NULL, root, day) t;
END
$$;
COMMENT ON FUNCTION @schema@.arr_rollup_as_of(uuid, date, timestamptz) IS
'The figures of one day under the structure of another: ARR of the accounts that the tree had below an account at the moment "structure", from the latest snapshot on or before the day "snapshot" (null: the latest of all). missing counts those without a snapshot on that day. Second parents are not followed. No row for an account that was not there then.';
