-- Merging accounts: what belongs to one goes to the other, then the tree merges the nodes.

CREATE FUNCTION @schema@.merge_account("from" uuid, "into" uuid,
        OUT children bigint, OUT opportunities bigint, OUT snapshots bigint, OUT snapshots_added_up bigint,
        OUT links bigint, OUT links_added_up bigint, OUT links_dropped bigint, OUT shares bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    org     uuid := crm_tree.current_org();
    source  ALIAS FOR $1;
    target  ALIAS FOR $2;
    refused text;
    above   uuid;
    key     name;
    n       bigint;
BEGIN
    -- A statement that may change parents takes the org's exclusive lock before any row is locked, also
    -- if it finds none.
    UPDATE @schema@.account SET parent_account_id = parent_account_id WHERE false;
    SELECT p.refusal INTO refused FROM crm_tree.preview_merge('@schema@.account', source::text, target::text) p;
    IF NOT FOUND OR refused IS NOT NULL THEN
        -- Raises what it is refused with.
        children := crm_tree.merge_nodes('@schema@.account', source::text, target::text);
        RAISE EXCEPTION 'accounts % and % cannot be merged', coalesce(source::text, 'NULL'), coalesce(target::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT * FROM @schema@.merge_account(''…'', ''…'');';
    END IF;
    -- Nobody gives either a deal or a snapshot meanwhile: a foreign key waits for these rows.
    PERFORM FROM @schema@.account a WHERE a.org_id = org AND a.account_id IN (source, target) ORDER BY a.account_id FOR UPDATE;

    UPDATE @schema@.opportunity o SET account_id = target WHERE o.org_id = org AND o.account_id = source;
    GET DIAGNOSTICS opportunities = ROW_COUNT;

    -- Two figures of one day are those of two customers that are one now.
    UPDATE @schema@.fct_account_arr_snapshot f SET arr_usd = f.arr_usd + g.arr_usd
      FROM @schema@.fct_account_arr_snapshot g
     WHERE f.org_id = org AND f.account_id = target
       AND g.org_id = org AND g.account_id = source AND g.snapshot_date = f.snapshot_date;
    GET DIAGNOSTICS snapshots_added_up = ROW_COUNT;
    DELETE FROM @schema@.fct_account_arr_snapshot g USING @schema@.fct_account_arr_snapshot f
     WHERE f.org_id = org AND f.account_id = target
       AND g.org_id = org AND g.account_id = source AND g.snapshot_date = f.snapshot_date;
    UPDATE @schema@.fct_account_arr_snapshot g SET account_id = target WHERE g.org_id = org AND g.account_id = source;
    GET DIAGNOSTICS snapshots = ROW_COUNT;

    -- Links that would lead from the account to itself, or stand beside the tree edge above it.
    SELECT a.parent_account_id INTO above FROM @schema@.account a WHERE a.org_id = org AND a.account_id = target;
    DELETE FROM @schema@.account_link l
     WHERE l.org_id = org
       AND (l.parent_account_id IN (source, target) AND l.child_account_id IN (source, target)
            OR l.parent_account_id = above AND l.child_account_id = source);
    GET DIAGNOSTICS links_dropped = ROW_COUNT;
    -- A further parent of both owns a share of each: the larger one stands for both.
    WITH twice AS (
        DELETE FROM @schema@.account_link l USING @schema@.account_link k
         WHERE l.org_id = org AND l.child_account_id = source
           AND k.org_id = org AND k.child_account_id = target AND k.parent_account_id = l.parent_account_id
        RETURNING l.parent_account_id, l.ownership_pct
    ), raised AS (
        UPDATE @schema@.account_link k SET ownership_pct = t.ownership_pct FROM twice t
         WHERE k.org_id = org AND k.child_account_id = target AND k.parent_account_id = t.parent_account_id
           AND k.ownership_pct < t.ownership_pct
    )
    SELECT links_dropped + count(*) INTO links_dropped FROM twice;
    -- What both own of a third is owned by one now: the shares add up,
    WITH twice AS (
        DELETE FROM @schema@.account_link l USING @schema@.account_link k
         WHERE l.org_id = org AND l.parent_account_id = source
           AND k.org_id = org AND k.parent_account_id = target AND k.child_account_id = l.child_account_id
        RETURNING l.child_account_id, l.ownership_pct
    ), added AS (
        UPDATE @schema@.account_link k SET ownership_pct = least(100, k.ownership_pct + t.ownership_pct) FROM twice t
         WHERE k.org_id = org AND k.parent_account_id = target AND k.child_account_id = t.child_account_id
    )
    SELECT count(*) INTO links_added_up FROM twice;
    -- also where one of them is the parent in the tree, and the other by a link.
    WITH twice AS (
        DELETE FROM @schema@.account_link l USING @schema@.account c
         WHERE l.org_id = org AND l.parent_account_id IN (source, target)
           AND c.org_id = org AND c.account_id = l.child_account_id AND c.parent_account_id IN (source, target) AND c.parent_account_id <> l.parent_account_id
        RETURNING l.child_account_id, l.ownership_pct
    ), added AS (
        UPDATE @schema@.account c SET ownership_pct = least(100, c.ownership_pct + t.ownership_pct) FROM twice t
         WHERE c.org_id = org AND c.account_id = t.child_account_id
    )
    SELECT links_added_up + count(*) INTO links_added_up FROM twice;
    UPDATE @schema@.account_link l SET parent_account_id = target WHERE l.org_id = org AND l.parent_account_id = source;
    GET DIAGNOSTICS links = ROW_COUNT;
    UPDATE @schema@.account_link l SET child_account_id = target WHERE l.org_id = org AND l.child_account_id = source;
    GET DIAGNOSTICS n = ROW_COUNT;
    links := links + n;

    -- Each share stays one of its own, so that what was given can be taken back.
    UPDATE @schema@.account_share s SET account_id = target WHERE s.org_id = org AND s.account_id = source;
    GET DIAGNOSTICS shares = ROW_COUNT;
    PERFORM @schema@._carry_shares(target);

    BEGIN
        children := crm_tree.merge_nodes('@schema@.account', source::text, target::text);
    EXCEPTION WHEN foreign_key_violation THEN
        GET STACKED DIAGNOSTICS key = CONSTRAINT_NAME;
        -- What the transaction sees of the template's tables it has carried over. One that keeps its snapshot may see
        -- less than the foreign key does.
        IF current_setting('transaction_isolation') <> 'read committed'
           AND EXISTS (SELECT FROM (VALUES ('@schema@.opportunity'::regclass), ('@schema@.fct_account_arr_snapshot')) AS t(root)
                        CROSS JOIN LATERAL (SELECT t.root UNION SELECT relid FROM pg_partition_tree(t.root)) AS p(relid)
                        JOIN pg_constraint k ON k.conrelid = p.relid
                        WHERE k.contype = 'f' AND k.conname = key) THEN
            RAISE EXCEPTION 'account % was given a deal or a snapshot since this transaction took its own', source
                USING ERRCODE = 'serialization_failure', DETAIL = SQLERRM, HINT = 'Repeat the transaction; a merge is best done at READ COMMITTED.';
        END IF;
        RAISE;
    END;
END
$$;
COMMENT ON FUNCTION @schema@.merge_account(uuid, uuid) IS
'Merges the account "from" into "into": children, opportunities, ARR snapshots (figures of one day are added up), links (shares in one account are added up; links between the two, or to a parent that "into" has already, are dropped) and single shares; then deletes "from". Returns how many of each. As the caller, under the org''s exclusive lock. What "into" has of its own (name, owner, custom) stays as it is.';

-- Definer: nobody else writes the bridge. It is brought to what the shares say, whoever calls.
CREATE FUNCTION @schema@._carry_shares(account_id uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    what ALIAS FOR $1;
BEGIN
    INSERT INTO @schema@.bridge_account_user_access AS b (account_id, user_id, granted_via, source_id, permission_level)
    SELECT s.account_id, s.user_id, 'manual', s.share_id, s.permission_level
      FROM @schema@.account_share s
      JOIN @schema@.app_user u ON u.org_id = s.org_id AND u.user_id = s.user_id AND u.active
     WHERE s.org_id = crm_tree.current_org() AND s.account_id = what
    ON CONFLICT ON CONSTRAINT bridge_account_user_access_pkey
    DO UPDATE SET permission_level = excluded.permission_level WHERE b.permission_level <> excluded.permission_level;
END
$$;
COMMENT ON FUNCTION @schema@._carry_shares(uuid) IS 'Enters the single shares of an account into the bridge, for what merge_account carried there.';
