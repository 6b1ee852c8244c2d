-- Pipeline: stages, opportunities, and the append-only fact that alone knows where a deal is.

CREATE TABLE @schema@.stage (
    org_id      uuid        NOT NULL DEFAULT crm_tree.current_org(),
    stage       text        NOT NULL CHECK (stage <> ''),
    position    int         NOT NULL,
    outcome     text        NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'won', 'lost')),
    stale_after interval    CHECK (stale_after > interval '0'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, stage)
) @partition_by_org@;
COMMENT ON TABLE @schema@.stage IS 'The stages of an org''s pipeline, in order.';
COMMENT ON COLUMN @schema@.stage.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.stage.position IS 'Order of the stages.';
COMMENT ON COLUMN @schema@.stage.outcome IS 'open, or how a deal in this stage has ended: won, lost.';
COMMENT ON COLUMN @schema@.stage.stale_after IS 'A deal longer than this in the stage is stale; null: never.';

CREATE TABLE @schema@.opportunity (
    org_id         uuid        NOT NULL DEFAULT crm_tree.current_org(),
    opportunity_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    account_id     uuid        NOT NULL,
    owner_user_id  text,
    name           text        NOT NULL CHECK (name <> ''),
    custom         jsonb       NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, opportunity_id),
    FOREIGN KEY (org_id, account_id) REFERENCES @schema@.account (org_id, account_id),
    FOREIGN KEY (org_id, owner_user_id) REFERENCES @schema@.app_user (org_id, user_id)
) @partition_by_org@;
CREATE INDEX opportunity_account_idx ON @schema@.opportunity (org_id, account_id);
CREATE INDEX opportunity_owner_idx ON @schema@.opportunity (org_id, owner_user_id);
COMMENT ON TABLE @schema@.opportunity IS 'Deals. The stage is not here: it is the latest event of fct_stage_change (view current_stage).';
COMMENT ON COLUMN @schema@.opportunity.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.opportunity.custom IS 'Fields of your own.';

-- A unique index over monthly partitions must contain the moment, so it cannot make event_id unique.
CREATE TABLE @schema@.stage_event_key (
    org_id       uuid  NOT NULL DEFAULT crm_tree.current_org(),
    event_id     uuid  NOT NULL,
    content_hash bytea NOT NULL,
    PRIMARY KEY (org_id, event_id)
) @partition_by_org@;
COMMENT ON TABLE @schema@.stage_event_key IS 'The events an org has recorded: what makes fct_stage_change idempotent by event_id across its partitions. Written by its trigger only.';
COMMENT ON COLUMN @schema@.stage_event_key.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.stage_event_key.content_hash IS 'SHA-256 of the event without org_id, event_id and recorded_at.';

CREATE TABLE @schema@.fct_stage_change (
    org_id            uuid          NOT NULL DEFAULT crm_tree.current_org(),
    event_id          uuid          NOT NULL DEFAULT gen_random_uuid(),
    opportunity_id    uuid          NOT NULL,
    changed_at        timestamptz   NOT NULL DEFAULT now() CHECK (isfinite(changed_at)),
    to_stage          text          NOT NULL,
    amount_usd        numeric(14,2) CHECK (amount_usd >= 0 AND amount_usd <> 'NaN'),
    forecast_usd      numeric(14,2) CHECK (forecast_usd >= 0 AND forecast_usd <> 'NaN'),
    forecast_category text          CHECK (forecast_category <> ''),
    expected_close    date          CHECK (isfinite(expected_close)),
    changed_by        text          DEFAULT crm_tree.current_user_id(),
    recorded_at       timestamptz   NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, event_id, changed_at),
    FOREIGN KEY (org_id, opportunity_id) REFERENCES @schema@.opportunity (org_id, opportunity_id),
    FOREIGN KEY (org_id, to_stage) REFERENCES @schema@.stage (org_id, stage)
) PARTITION BY RANGE (changed_at);
CREATE INDEX fct_stage_change_opportunity_idx
    ON @schema@.fct_stage_change (org_id, opportunity_id, changed_at, event_id);
COMMENT ON TABLE @schema@.fct_stage_change IS 'Append-only: a row an event, the only truth about stages. Idempotent by event_id. One partition a month (UTC).';
COMMENT ON COLUMN @schema@.fct_stage_change.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.fct_stage_change.event_id IS 'The sender''s id of the event: sent again with the same content it is skipped, with other content rejected.';
COMMENT ON COLUMN @schema@.fct_stage_change.changed_at IS 'When it happened. Events of one moment are ordered by event_id.';
COMMENT ON COLUMN @schema@.fct_stage_change.forecast_usd IS 'What the rep predicted at that moment.';
COMMENT ON COLUMN @schema@.fct_stage_change.changed_by IS 'Who did it; the bound user unless given.';
COMMENT ON COLUMN @schema@.fct_stage_change.recorded_at IS 'When the database learned of it.';

SELECT crm_tree.protect('@schema@.stage');
SELECT crm_tree.protect('@schema@.opportunity');
SELECT crm_tree.protect('@schema@.stage_event_key');
SELECT crm_tree.protect('@schema@.fct_stage_change');

CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.stage FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();
CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.opportunity FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();

-- Append-only -----------------------------------------------------------------------------------

CREATE FUNCTION @schema@._append_only() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% of %.% is refused: the fact is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Record a further event instead: INSERT INTO @schema@.fct_stage_change (opportunity_id, to_stage) VALUES (…).',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION @schema@._append_only() IS 'Trigger: refuses UPDATE, DELETE and TRUNCATE, for every role.';

-- The statement triggers stand on the root and on every partition by itself, because those of the root
-- fire neither for a statement that names a partition nor after a DETACH. ALWAYS: also under
-- session_replication_role = replica.
CREATE FUNCTION @schema@._arm_stage_change(part regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION @schema@._append_only()', part);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', part);
END
$$;
COMMENT ON FUNCTION @schema@._arm_stage_change(regclass) IS 'Puts the append-only trigger on one table of the stage fact.';
SELECT @schema@._arm_stage_change('@schema@.fct_stage_change');

-- Row triggers are cloned to every partition, those made by hand included.
CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON @schema@.fct_stage_change
    FOR EACH ROW EXECUTE FUNCTION @schema@._append_only();
ALTER TABLE @schema@.fct_stage_change ENABLE ALWAYS TRIGGER append_only_row;

-- Idempotency -----------------------------------------------------------------------------------

-- Definer, so that an ordinary role needs no right to write keys; the wall holds all the same (the
-- owner's RLS is forced), so an event for another org fails here already.
-- The time zone is pinned because jsonb writes moments in the session's.
CREATE FUNCTION @schema@._stage_event_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    -- Columns users have added are content too. Nulls are left out, so that adding a column does not
    -- change what an event recorded earlier hashes to.
    hash  bytea := sha256(convert_to(
        jsonb_strip_nulls(to_jsonb(NEW) - '{org_id,event_id,recorded_at}'::text[])::text, 'UTF8'));
    known bytea;
BEGIN
    -- Waits for another transaction that is recording the same id.
    INSERT INTO @schema@.stage_event_key (org_id, event_id, content_hash)
    VALUES (NEW.org_id, NEW.event_id, hash)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN NEW;
    END IF;
    SELECT k.content_hash INTO known FROM @schema@.stage_event_key k
     WHERE k.org_id = NEW.org_id AND k.event_id = NEW.event_id;
    IF known = hash THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'event % is recorded already, with other content', NEW.event_id
        USING ERRCODE = 'unique_violation',
              DETAIL = 'An event is sent again with the same content, or it is another event.',
              HINT = 'Give the new event an id of its own, or leave event_id out; when repeating an event, repeat its changed_at too.',
              CONSTRAINT = 'stage_event_key_pkey', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION @schema@._stage_event_key() IS 'Trigger: takes the key of an event; skips an event that is recorded already, rejects one whose id is taken by other content.';

-- The last of the BEFORE triggers by name: it hashes what will be stored, and takes no key for a row
-- that another trigger drops.
CREATE TRIGGER zz_event_key BEFORE INSERT ON @schema@.fct_stage_change
    FOR EACH ROW EXECUTE FUNCTION @schema@._stage_event_key();

CREATE FUNCTION @schema@.record_stage_changes(events jsonb, OUT recorded bigint, OUT skipped bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known constant text[] := '{event_id,opportunity_id,changed_at,to_stage,amount_usd,forecast_usd,forecast_category,expected_close,changed_by}';
    example constant text := 'Example: SELECT * FROM @schema@.record_stage_changes(''[{"event_id": "3f1c…", "opportunity_id": "9b20…", "changed_at": "2026-01-31T10:00:00Z", "to_stage": "proposal", "amount_usd": 1000}]'').';
    e   jsonb;
    pos bigint;
    bad text;
BEGIN
    IF events IS NULL OR jsonb_typeof(events) <> 'array' THEN
        RAISE EXCEPTION 'stage changes must be a JSON array, not %', coalesce(jsonb_typeof(events), 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = example;
    END IF;
    FOR e, pos IN SELECT x.value, x.ordinality FROM jsonb_array_elements(events) WITH ORDINALITY x LOOP
        IF jsonb_typeof(e) <> 'object' THEN
            RAISE EXCEPTION 'stage change % is not a JSON object', pos
                USING ERRCODE = 'invalid_parameter_value', HINT = example;
        END IF;
        SELECT k INTO bad FROM jsonb_object_keys(e) k WHERE k <> ALL (known) ORDER BY k LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'stage change % has an unknown field: "%"', pos, bad
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = format('Fields: %s.', array_to_string(known, ', ')),
                      HINT = 'Columns of your own are filled by INSERT INTO @schema@.fct_stage_change.';
        END IF;
        -- Without its id and its moment an event cannot be recognised when it comes again.
        SELECT k INTO bad FROM unnest('{event_id,opportunity_id,changed_at,to_stage}'::text[]) k
         WHERE e ->> k IS NULL LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'stage change % has no "%"', pos, bad
                USING ERRCODE = 'invalid_parameter_value', HINT = example;
        END IF;
    END LOOP;

    INSERT INTO @schema@.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd,
                                          forecast_usd, forecast_category, expected_close, changed_by)
    SELECT x.event_id, x.opportunity_id, x.changed_at, x.to_stage, x.amount_usd,
           x.forecast_usd, x.forecast_category, x.expected_close,
           coalesce(x.changed_by, crm_tree.current_user_id())
      FROM jsonb_to_recordset(events) AS x (
               event_id uuid, opportunity_id uuid, changed_at timestamptz, to_stage text, amount_usd numeric,
               forecast_usd numeric, forecast_category text, expected_close date, changed_by text);
    GET DIAGNOSTICS recorded = ROW_COUNT;
    skipped := jsonb_array_length(events) - recorded;
END
$$;
COMMENT ON FUNCTION @schema@.record_stage_changes(jsonb) IS
'Records an array of events {event_id, opportunity_id, changed_at, to_stage, …}, in any order; events recorded already are skipped. All or nothing. A moment without an offset is read in the session''s time zone.';

-- Reading ---------------------------------------------------------------------------------------

CREATE VIEW @schema@.current_stage WITH (security_invoker = true) AS
SELECT DISTINCT ON (e.org_id, e.opportunity_id)
       e.org_id, e.opportunity_id, e.to_stage AS stage, e.changed_at, e.amount_usd, e.forecast_usd,
       e.forecast_category, e.expected_close, e.changed_by, e.event_id
  FROM @schema@.fct_stage_change e
 ORDER BY e.org_id, e.opportunity_id, e.changed_at DESC, e.event_id DESC;
COMMENT ON VIEW @schema@.current_stage IS 'The latest event of each opportunity; of several at one moment the one with the highest event_id.';

CREATE FUNCTION @schema@._visits(as_of timestamptz)
    RETURNS TABLE (opportunity_id uuid, stage text, entered timestamptz, "left" timestamptz,
                   duration interval, visit bigint)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    -- Islands: an event that repeats the stage before it (an amount changed) does not begin a visit.
    SELECT v.opportunity_id, v.to_stage, v.changed_at, v.next_at,
           coalesce(v.next_at, as_of) - v.changed_at,
           row_number() OVER (PARTITION BY v.opportunity_id, v.to_stage ORDER BY v.changed_at, v.event_id)
      FROM (SELECT b.opportunity_id, b.to_stage, b.changed_at, b.event_id,
                   lead(b.changed_at) OVER (PARTITION BY b.opportunity_id ORDER BY b.changed_at, b.event_id) AS next_at
              FROM (SELECT e.opportunity_id, e.to_stage, e.changed_at, e.event_id,
                           lag(e.to_stage) OVER (PARTITION BY e.opportunity_id
                                                 ORDER BY e.changed_at, e.event_id) AS before_stage
                      FROM @schema@.fct_stage_change e
                     WHERE e.org_id = crm_tree.current_org() AND e.changed_at <= as_of) b
             WHERE b.before_stage IS DISTINCT FROM b.to_stage) v;
END;
COMMENT ON FUNCTION @schema@._visits(timestamptz) IS 'The visits of every opportunity as of a moment; inlined, so that a condition on opportunity_id reaches the index.';

CREATE FUNCTION @schema@.time_in_stage(opportunity_id uuid DEFAULT NULL, as_of timestamptz DEFAULT now())
    RETURNS TABLE (opportunity_id uuid, stage text, entered timestamptz, "left" timestamptz,
                   duration interval, visit bigint)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT v.opportunity_id, v.stage, v.entered, v."left", v.duration, v.visit
      FROM @schema@._visits($2) v
     WHERE $1 IS NULL OR v.opportunity_id = $1
     ORDER BY v.opportunity_id, v.entered, v.visit;
END;
COMMENT ON FUNCTION @schema@.time_in_stage(uuid, timestamptz) IS
'A row a visit of an opportunity to a stage, with what was known as of a moment: left is null while it is still there, and duration then runs to as_of; visit counts the visits of this opportunity to this stage.';

-- The opportunities of the accounts below one account; null account: null, which means all.
CREATE FUNCTION @schema@._opportunities_below(account_id uuid) RETURNS uuid[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root ALIAS FOR $1;
    lo   text;
    hi   text;
    ids  uuid[];
BEGIN
    IF root IS NULL THEN
        RETURN NULL;
    END IF;
    IF NOT crm_tree._paths_are_fresh('@schema@.account', crm_tree.current_org()::text) THEN
        SELECT coalesce(array_agg(o.opportunity_id), '{}') INTO ids
          FROM crm_tree.subtree('@schema@.account', root::text) a
          JOIN @schema@.opportunity o ON o.org_id = crm_tree.current_org() AND o.account_id = a.id::uuid;
        RETURN ids;
    END IF;
    SELECT a.materialized_path INTO lo FROM @schema@.account a
     WHERE a.org_id = crm_tree.current_org() AND a.account_id = root;
    IF FOUND AND lo IS NULL THEN
        RAISE EXCEPTION 'account % has no path', root
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Repair the tree: SELECT * FROM crm_tree.repair_tree(''@schema@.account'').';
    END IF;
    hi := crm_tree.subtree_end(lo);
    SELECT coalesce(array_agg(o.opportunity_id), '{}') INTO ids
      FROM @schema@.account a
      JOIN @schema@.opportunity o ON o.org_id = a.org_id AND o.account_id = a.account_id
     WHERE a.org_id = crm_tree.current_org()
       AND a.materialized_path >= lo AND a.materialized_path < hi;
    RETURN ids;
END
$$;
COMMENT ON FUNCTION @schema@._opportunities_below(uuid) IS 'The opportunities of an account and of all accounts below it.';

CREATE FUNCTION @schema@.stage_durations(from_time timestamptz DEFAULT '-infinity',
                                         to_time timestamptz DEFAULT 'infinity',
                                         account_id uuid DEFAULT NULL)
    RETURNS TABLE (stage text, "position" int, outcome text, opportunities bigint, visits bigint, still_there bigint,
                   mean interval, median interval, p90 interval,
                   mean_first interval, mean_cumulative interval)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    root   ALIAS FOR $3;
    -- The end of the window is also the moment as of which the visits are seen, so that the figures of
    -- a closed window do not change when later events arrive. A window into the future ends now.
    moment timestamptz := least(to_time, now());
    below  uuid[];
BEGIN
    IF root IS NOT NULL THEN
        below := @schema@._opportunities_below(root);
    END IF;
    RETURN QUERY
    WITH v AS MATERIALIZED (
        SELECT x.* FROM @schema@._visits(moment) x WHERE root IS NULL
        UNION ALL
        SELECT x.* FROM @schema@._visits(moment) x WHERE root IS NOT NULL AND x.opportunity_id = ANY (below)
    ), w AS (
        SELECT v.*, sum(v.duration) OVER (PARTITION BY v.opportunity_id, v.stage) AS cumulative,
               row_number() OVER (PARTITION BY v.opportunity_id, v.stage ORDER BY v.entered, v.visit) AS nth
          FROM v
         WHERE v.entered >= from_time AND v.entered < to_time
    )
    SELECT s.stage, s.position, s.outcome,
           count(DISTINCT w.opportunity_id), count(*), count(*) FILTER (WHERE w."left" IS NULL),
           justify_hours(avg(w.duration)),
           justify_hours(percentile_cont(0.5) WITHIN GROUP (ORDER BY w.duration)),
           justify_hours(percentile_cont(0.9) WITHIN GROUP (ORDER BY w.duration)),
           justify_hours(avg(w.duration) FILTER (WHERE w.visit = 1)),
           justify_hours(avg(w.cumulative) FILTER (WHERE w.nth = 1))
      FROM w
      JOIN @schema@.stage s ON s.org_id = crm_tree.current_org() AND s.stage = w.stage
     GROUP BY s.stage, s.position, s.outcome
     ORDER BY s.position, s.stage;
END
$$;
COMMENT ON FUNCTION @schema@.stage_durations(timestamptz, timestamptz, uuid) IS
'Per stage, for visits that began in [from_time, to_time), of one account''s subtree if named: opportunities, visits, visits still open, mean, median and 90th percentile of a visit, mean of first visits, and mean of the time an opportunity spent there in all its visits of the window. A visit still open at to_time (or now) counts up to it.';

CREATE FUNCTION @schema@.pipeline_rollup(account_id uuid DEFAULT NULL)
    RETURNS TABLE (stage text, "position" int, opportunities bigint, amount_usd numeric)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    root  ALIAS FOR $1;
    below uuid[];
BEGIN
    IF root IS NOT NULL THEN
        below := @schema@._opportunities_below(root);
    END IF;
    RETURN QUERY
    SELECT s.stage, s.position, count(c.opportunity_id), coalesce(sum(c.amount_usd), 0)
      FROM @schema@.stage s
      LEFT JOIN (SELECT x.* FROM @schema@.current_stage x WHERE root IS NULL
                 UNION ALL
                 SELECT x.* FROM @schema@.current_stage x WHERE root IS NOT NULL AND x.opportunity_id = ANY (below)) c
             ON c.org_id = s.org_id AND c.stage = s.stage
     WHERE s.org_id = crm_tree.current_org() AND s.outcome = 'open'
     GROUP BY s.stage, s.position
     ORDER BY s.position, s.stage;
END
$$;
COMMENT ON FUNCTION @schema@.pipeline_rollup(uuid) IS
'Open deals and their amounts by stage, of an account and everything below it (null: of the whole org).';
