-- The instance as a whole: months of the facts, rights.

-- Definer: the partitions belong to the owner of the fact, whoever asks for them. Not for the
-- application role: DDL locks the fact.
CREATE FUNCTION @schema@.create_month_partitions(from_date date, to_date date) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    first   date := date_trunc('month', from_date);
    month   date;
    fact    regclass;
    part    text;
    made    int := 0;
    total   int := 0;
BEGIN
    IF from_date IS NULL OR to_date IS NULL OR NOT isfinite(from_date) OR NOT isfinite(to_date) OR to_date < from_date THEN
        RAISE EXCEPTION 'no months from % to %', coalesce(from_date::text, 'NULL'), coalesce(to_date::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'SELECT @schema@.create_month_partitions(''2026-01-01'', ''2026-12-31'');';
    END IF;
    FOREACH fact IN ARRAY ARRAY['@schema@.fct_stage_change', '@schema@.fct_account_arr_snapshot']::regclass[] LOOP
        made := 0;
        month := first;
        WHILE month <= to_date LOOP
            part := (SELECT relname FROM pg_class WHERE oid = fact) || to_char(month, '_YYYY_MM');
            IF to_regclass(format('%s.%I', '@schema@', part)) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE %s.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                        '@schema@', part, fact, month, (month + interval '1 month')::date);
                EXCEPTION WHEN check_violation THEN
                    RAISE EXCEPTION 'the default partition of % holds rows of the month %', fact, to_char(month, 'YYYY-MM')
                        USING ERRCODE = 'check_violation',
                              DETAIL = 'A month cannot be created while rows of it lie in the default partition.',
                              HINT = 'They can stay there: reads find them. Create months before their rows arrive.';
                END;
                PERFORM @schema@._arm_partition(fact, format('%s.%I', '@schema@', part)::regclass);
                made := made + 1;
            END IF;
            month := month + interval '1 month';
        END LOOP;
        IF made > 0 THEN
            -- A partition has policies and rights of its own: the wall is put up on the new ones too.
            PERFORM crm_tree.protect(fact);
            total := total + made;
        END IF;
    END LOOP;
    RETURN total;
END
$$;
COMMENT ON FUNCTION @schema@.create_month_partitions(date, date) IS
'Creates the missing monthly partitions of both facts, from the month of the first day to that of the last, each behind the wall and with the triggers of its fact. Returns how many. Rows of a month without a partition go to the default partition.';

CREATE FUNCTION @schema@._arm_partition(fact regclass, part regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF fact = '@schema@.fct_stage_change'::regclass THEN
        PERFORM @schema@._arm_stage_change(part);
    ELSE
        PERFORM @schema@._arm_arr_snapshot(part);
    END IF;
END
$$;
COMMENT ON FUNCTION @schema@._arm_partition(regclass, regclass) IS 'Puts the statement triggers of a fact on one of its partitions.';

CREATE TABLE @schema@.fct_stage_change_default PARTITION OF @schema@.fct_stage_change DEFAULT;
CREATE TABLE @schema@.fct_account_arr_snapshot_default PARTITION OF @schema@.fct_account_arr_snapshot DEFAULT;
SELECT @schema@._arm_partition('@schema@.fct_stage_change', '@schema@.fct_stage_change_default');
SELECT @schema@._arm_partition('@schema@.fct_account_arr_snapshot', '@schema@.fct_account_arr_snapshot_default');
SELECT crm_tree.protect('@schema@.fct_stage_change');
SELECT crm_tree.protect('@schema@.fct_account_arr_snapshot');
SELECT @schema@.create_month_partitions((now() - interval '36 months')::date, (now() + interval '3 months')::date);

CREATE FUNCTION @schema@.grant_app(role name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA @schema@ TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON
        @schema@.role, @schema@.app_user, @schema@.account, @schema@.account_link, @schema@.stage,
        @schema@.opportunity, @schema@.account_share, @schema@.sharing_rule,
        @schema@.fct_account_arr_snapshot TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT ON @schema@.fct_stage_change TO %I', role);
    EXECUTE format('GRANT SELECT ON @schema@.arr_snapshot_status, @schema@.bridge_account_user_access,
        @schema@.account_history, @schema@.current_stage, @schema@.account_with_root, @schema@._access_sources TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        @schema@.arr_rollup(uuid, date, text), @schema@.arr_rollup_tree(uuid, date, text), @schema@.org_total(date),
        @schema@.arr_rollup_as_of(uuid, date, timestamptz), @schema@._rollup_nodes(), @schema@._rollup_links(),
        @schema@._arr_of(uuid[], numeric[], uuid, date), @schema@._snapshot_day(date),
        @schema@.refresh_arr_snapshot_status(),
        @schema@.record_stage_changes(jsonb), @schema@._visits(timestamptz), @schema@.time_in_stage(uuid, timestamptz),
        @schema@._opportunities_below(uuid), @schema@.stage_durations(timestamptz, timestamptz, uuid),
        @schema@.pipeline_rollup(uuid),
        @schema@.recompute_sharing(text), @schema@.cascade_sharing(jsonb), @schema@.sharing_drift(),
        @schema@._levels_from(text), @schema@._covering_accounts(uuid), @schema@.check_access(text, uuid, text),
        @schema@.list_users(uuid, text, text, int), @schema@.list_accounts(text, text, uuid, int),
        @schema@.explain_access(text, uuid),
        @schema@.merge_account(uuid, uuid), @schema@._carry_shares(uuid) TO %I', role);
END
$$;
COMMENT ON FUNCTION @schema@.grant_app(name) IS
'Gives an application role the rights of an ordinary user of this instance: all but writing the bridge, the event keys and the snapshot days, changing recorded events, and DDL. Which orgs the role may bind is crm_tree.grant_org.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA @schema@ FROM PUBLIC;

-- What the service door shows. Its transactions are read-only.
GRANT USAGE ON SCHEMA @schema@ TO crm_tree_service;
GRANT SELECT ON ALL TABLES IN SCHEMA @schema@ TO crm_tree_service;
