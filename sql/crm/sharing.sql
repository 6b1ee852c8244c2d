-- Sharing: who may see an account, and why. One bridge row per (account, user, source).

CREATE TABLE @schema@.account_share (
    org_id           uuid        NOT NULL DEFAULT crm_tree.current_org(),
    share_id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    account_id       uuid        NOT NULL,
    user_id          text        NOT NULL,
    permission_level text        NOT NULL CHECK (permission_level IN ('read', 'edit', 'manage')),
    shared_by        text        DEFAULT crm_tree.current_user_id(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, share_id),
    FOREIGN KEY (org_id, account_id) REFERENCES @schema@.account (org_id, account_id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, user_id) REFERENCES @schema@.app_user (org_id, user_id) ON DELETE CASCADE
) @partition_by_org@;
CREATE INDEX account_share_account_idx ON @schema@.account_share (org_id, account_id);
CREATE INDEX account_share_user_idx ON @schema@.account_share (org_id, user_id);
COMMENT ON TABLE @schema@.account_share IS 'Single shares by hand: an account and everything below it, to one user.';
COMMENT ON COLUMN @schema@.account_share.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.account_share.shared_by IS 'Who shared it; the bound user unless given.';

CREATE TABLE @schema@.sharing_rule (
    org_id            uuid        NOT NULL DEFAULT crm_tree.current_org(),
    rule_id           uuid        NOT NULL DEFAULT gen_random_uuid(),
    name              text        NOT NULL CHECK (name <> ''),
    owner_role_id     uuid        NOT NULL,
    owners_below      boolean     NOT NULL DEFAULT true,
    grantee_role_id   uuid        NOT NULL,
    grantees_below    boolean     NOT NULL DEFAULT false,
    permission_level  text        NOT NULL CHECK (permission_level IN ('read', 'edit', 'manage')),
    active            boolean     NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, rule_id),
    FOREIGN KEY (org_id, owner_role_id) REFERENCES @schema@.role (org_id, role_id),
    FOREIGN KEY (org_id, grantee_role_id) REFERENCES @schema@.role (org_id, role_id)
) @partition_by_org@;
CREATE INDEX sharing_rule_owner_role_idx ON @schema@.sharing_rule (org_id, owner_role_id);
CREATE INDEX sharing_rule_grantee_role_idx ON @schema@.sharing_rule (org_id, grantee_role_id);
COMMENT ON TABLE @schema@.sharing_rule IS 'Accounts owned in one role are shared with the holders of another.';
COMMENT ON COLUMN @schema@.sharing_rule.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.sharing_rule.owner_role_id IS 'Shared are the accounts whose owner holds this role.';
COMMENT ON COLUMN @schema@.sharing_rule.owners_below IS 'Or a role below it.';
COMMENT ON COLUMN @schema@.sharing_rule.grantee_role_id IS 'They are shared with the holders of this role.';
COMMENT ON COLUMN @schema@.sharing_rule.grantees_below IS 'And with the holders of the roles below it.';

CREATE TABLE @schema@.bridge_account_user_access (
    org_id           uuid NOT NULL DEFAULT crm_tree.current_org(),
    account_id       uuid NOT NULL,
    user_id          text NOT NULL,
    granted_via      text NOT NULL CHECK (granted_via IN ('owner', 'role', 'rule', 'manual')),
    source_id        uuid NOT NULL,
    permission_level text NOT NULL CHECK (permission_level IN ('read', 'edit', 'manage')),
    PRIMARY KEY (org_id, account_id, user_id, granted_via, source_id),
    FOREIGN KEY (org_id, account_id) REFERENCES @schema@.account (org_id, account_id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, user_id) REFERENCES @schema@.app_user (org_id, user_id) ON DELETE CASCADE
) @partition_by_org@;
CREATE INDEX bridge_user_idx ON @schema@.bridge_account_user_access (org_id, user_id, account_id);
COMMENT ON TABLE @schema@.bridge_account_user_access IS 'Who has access to what, a row a source. Written by recompute_sharing only. A grant covers the accounts below too; that is found through the path and not stored.';
COMMENT ON COLUMN @schema@.bridge_account_user_access.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.bridge_account_user_access.granted_via IS 'owner, role, rule or manual.';
COMMENT ON COLUMN @schema@.bridge_account_user_access.source_id IS 'owner: the account; role: the role the user holds; rule: sharing_rule; manual: account_share.';

SELECT crm_tree.protect('@schema@.account_share');
SELECT crm_tree.protect('@schema@.sharing_rule');
SELECT crm_tree.protect('@schema@.bridge_account_user_access');

CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.account_share FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();
CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.sharing_rule FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();

-- What the sources say --------------------------------------------------------------------------

CREATE VIEW @schema@._access_sources WITH (security_invoker = true) AS
WITH role_pairs AS NOT MATERIALIZED (
    -- (a role, itself or a role above it), from the role's path
    SELECT r.org_id, r.role_id, u.id::uuid AS above_id
      FROM @schema@.role r
      LEFT JOIN crm_tree._deferred_paths('@schema@.role') d ON d.org::uuid = r.org_id AND d.id::uuid = r.role_id
     CROSS JOIN LATERAL unnest(crm_tree.path_ids(coalesce(d.path, r.materialized_path))) AS u (id)
)
SELECT a.org_id, a.account_id, u.user_id, 'owner'::text AS granted_via, a.account_id AS source_id,
       'manage'::text AS permission_level
  FROM @schema@.account a
  JOIN @schema@.app_user u ON u.org_id = a.org_id AND u.user_id = a.owner_user_id AND u.active
UNION ALL
-- The owner may be inactive: those above him still answer for his accounts.
SELECT a.org_id, a.account_id, m.user_id, 'role', m.role_id, 'edit'
  FROM @schema@.account a
  JOIN @schema@.app_user o ON o.org_id = a.org_id AND o.user_id = a.owner_user_id
  JOIN role_pairs p ON p.org_id = o.org_id AND p.role_id = o.role_id AND p.above_id <> p.role_id
  JOIN @schema@.app_user m ON m.org_id = p.org_id AND m.role_id = p.above_id AND m.active
UNION ALL
SELECT s.org_id, s.account_id, u.user_id, 'manual', s.share_id, s.permission_level
  FROM @schema@.account_share s
  JOIN @schema@.app_user u ON u.org_id = s.org_id AND u.user_id = s.user_id AND u.active
UNION ALL
SELECT a.org_id, a.account_id, g.user_id, 'rule', l.rule_id, l.permission_level
  FROM @schema@.sharing_rule l
  JOIN role_pairs po ON po.org_id = l.org_id AND po.above_id = l.owner_role_id
                    AND (l.owners_below OR po.role_id = l.owner_role_id)
  JOIN @schema@.app_user o ON o.org_id = po.org_id AND o.role_id = po.role_id
  JOIN @schema@.account a ON a.org_id = o.org_id AND a.owner_user_id = o.user_id
  JOIN role_pairs pg ON pg.org_id = l.org_id AND pg.above_id = l.grantee_role_id
                    AND (l.grantees_below OR pg.role_id = l.grantee_role_id)
  JOIN @schema@.app_user g ON g.org_id = pg.org_id AND g.role_id = pg.role_id AND g.active
 WHERE l.active;
COMMENT ON VIEW @schema@._access_sources IS 'What the bridge should hold, computed from ownership, roles, rules and shares. Only active users.';

CREATE FUNCTION @schema@.sharing_drift()
    RETURNS TABLE (account_id uuid, user_id text, granted_via text, source_id uuid,
                   bridge_level text, source_level text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT account_id, user_id, granted_via, source_id, b.permission_level, s.permission_level
      FROM (SELECT * FROM @schema@.bridge_account_user_access x WHERE x.org_id = crm_tree.current_org()) b
      FULL JOIN (SELECT * FROM @schema@._access_sources y WHERE y.org_id = crm_tree.current_org()) s
     USING (account_id, user_id, granted_via, source_id)
     WHERE b.permission_level IS DISTINCT FROM s.permission_level;
END;
COMMENT ON FUNCTION @schema@.sharing_drift() IS
'Where the bridge differs from what the sources say: bridge_level null: missing in the bridge; source_level null: to be removed. Empty after recompute_sharing.';

-- Definer: nobody else writes the bridge. Still behind the wall, by the binding.
CREATE FUNCTION @schema@.recompute_sharing(mode text DEFAULT 'full',
                                           OUT inserted bigint, OUT updated bigint, OUT deleted bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    org uuid := crm_tree.current_org();
BEGIN
    IF mode = 'incremental' THEN
        RAISE EXCEPTION 'incremental recompute is not available yet'
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'SELECT * FROM @schema@.recompute_sharing(''full''); it writes only differences.';
    ELSIF mode IS DISTINCT FROM 'full' THEN
        RAISE EXCEPTION 'unknown mode: %', coalesce(quote_literal(mode), 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT * FROM @schema@.recompute_sharing(''full'');';
    END IF;
    IF crm_tree._paths_are_fresh('@schema@.role', org::text)
       AND EXISTS (SELECT FROM @schema@.role r WHERE r.org_id = org AND r.materialized_path IS NULL) THEN
        RAISE EXCEPTION 'the role tree has rows without a path'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Repair the tree: SELECT * FROM crm_tree.repair_tree(''@schema@.role'').';
    END IF;
    -- One recompute of an org at a time: two would both find the same rows missing.
    PERFORM crm_tree._lock_org_work('@schema@.bridge_account_user_access');
    WITH diff AS MATERIALIZED (
        SELECT * FROM @schema@.sharing_drift()
    ), gone AS (
        DELETE FROM @schema@.bridge_account_user_access b USING diff d
         WHERE d.source_level IS NULL AND b.org_id = org AND b.account_id = d.account_id AND b.user_id = d.user_id
           AND b.granted_via = d.granted_via AND b.source_id = d.source_id
        RETURNING 1
    ), changed AS (
        UPDATE @schema@.bridge_account_user_access b SET permission_level = d.source_level FROM diff d
         WHERE d.source_level IS NOT NULL AND d.bridge_level IS NOT NULL
           AND b.org_id = org AND b.account_id = d.account_id AND b.user_id = d.user_id
           AND b.granted_via = d.granted_via AND b.source_id = d.source_id
        RETURNING 1
    ), added AS (
        INSERT INTO @schema@.bridge_account_user_access
               (org_id, account_id, user_id, granted_via, source_id, permission_level)
        SELECT org, d.account_id, d.user_id, d.granted_via, d.source_id, d.source_level
          FROM diff d WHERE d.bridge_level IS NULL
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM changed), (SELECT count(*) FROM gone)
      INTO inserted, updated, deleted;
END
$$;
COMMENT ON FUNCTION @schema@.recompute_sharing(text) IS
'Brings the bridge of the bound org to what the sources say, writing only the rows that differ. mode: full.';

CREATE FUNCTION @schema@.cascade_sharing(config jsonb DEFAULT '{}') RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM @schema@.recompute_sharing('full');
    RETURN jsonb_build_object('inserted', r.inserted, 'updated', r.updated, 'deleted', r.deleted);
END
$$;
COMMENT ON FUNCTION @schema@.cascade_sharing(jsonb) IS
'Job: recompute_sharing for the org the job runner has bound. crm_tree.add_job(''cascade_sharing'', ''@schema@.cascade_sharing'', ''0 3 * * *'').';

-- Asking ----------------------------------------------------------------------------------------

CREATE FUNCTION @schema@._levels_from(level text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE level
        WHEN 'read' THEN RETURN '{read,edit,manage}';
        WHEN 'edit' THEN RETURN '{edit,manage}';
        WHEN 'manage' THEN RETURN '{manage}';
        ELSE
            RAISE EXCEPTION 'unknown permission level: %', coalesce(quote_literal(level), 'NULL')
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Use ''read'', ''edit'' or ''manage''.';
    END CASE;
END
$$;
COMMENT ON FUNCTION @schema@._levels_from(text) IS 'The levels that satisfy a level.';

-- The accounts whose grants cover an account: itself and those above it. Without a path (the tree
-- awaits a repair) only itself, so that the answer errs on the closed side.
CREATE FUNCTION @schema@._covering_accounts(account_id uuid) RETURNS uuid[]
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce(crm_tree.path_ids(crm_tree._path_now('@schema@.account', a.org_id::text, a.account_id::text,
                                                         a.materialized_path))::uuid[], ARRAY[a.account_id])
      FROM @schema@.account a
     WHERE a.org_id = crm_tree.current_org() AND a.account_id = $1;
END;
COMMENT ON FUNCTION @schema@._covering_accounts(uuid) IS 'An account and its ancestors, root first.';

-- Asked one by one: a function in SQL would be planned anew in each statement that asks. One plan is
-- right for all arguments, and is taken without weighing it against planning for each of them.
CREATE FUNCTION @schema@.check_access(user_id text, account_id uuid, level text DEFAULT 'read') RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN EXISTS (
        SELECT FROM @schema@.bridge_account_user_access b
         WHERE b.org_id = crm_tree.current_org() AND b.user_id = $1
           AND b.account_id = ANY ((SELECT coalesce(crm_tree.path_ids(
                                               CASE WHEN crm_tree._paths_are_fresh('@schema@.account', a.org_id::text) THEN a.materialized_path
                                                    ELSE crm_tree._path_now('@schema@.account', a.org_id::text, a.account_id::text, a.materialized_path)
                                               END)::uuid[], ARRAY[a.account_id])
                                      FROM @schema@.account a
                                     WHERE a.org_id = crm_tree.current_org() AND a.account_id = $2)::uuid[])
           AND b.permission_level = ANY (CASE $3 WHEN 'read' THEN '{read,edit,manage}'::text[]
                                                 WHEN 'edit' THEN '{edit,manage}'::text[]
                                                 ELSE @schema@._levels_from($3) END)
           AND EXISTS (SELECT FROM @schema@.app_user u
                        WHERE u.org_id = crm_tree.current_org() AND u.user_id = $1 AND u.active));
END
$$;
COMMENT ON FUNCTION @schema@.check_access(text, uuid, text) IS
'May this user see the account at this level (read, edit, manage)? By a grant on the account or on one above it. False for an inactive user and for an account or user the bound org does not have.';

CREATE FUNCTION @schema@.list_users(account_id uuid, level text DEFAULT 'read', after text DEFAULT '', lim int DEFAULT 100)
    RETURNS TABLE (user_id text, permission_level text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    what   ALIAS FOR $1;
    levels text[] := @schema@._levels_from(level);
    ids    uuid[] := @schema@._covering_accounts(what);
BEGIN
    RETURN QUERY
    SELECT b.user_id,
           (ARRAY['read', 'edit', 'manage'])[max(array_position(ARRAY['read', 'edit', 'manage'], b.permission_level))]
      FROM @schema@.bridge_account_user_access b
      JOIN @schema@.app_user u ON u.org_id = b.org_id AND u.user_id = b.user_id AND u.active
     WHERE b.org_id = crm_tree.current_org() AND b.account_id = ANY (ids)
       AND b.permission_level = ANY (levels) AND b.user_id > coalesce(after, '')
     GROUP BY b.user_id
     ORDER BY b.user_id
     LIMIT lim;
END
$$;
COMMENT ON FUNCTION @schema@.list_users(uuid, text, text, int) IS
'The users who may see an account at a level or higher, with their effective level, in order of user_id. Next page: after => the last user_id.';

CREATE FUNCTION @schema@.list_accounts(user_id text, level text DEFAULT 'read', after uuid DEFAULT NULL, lim int DEFAULT 100)
    RETURNS TABLE (account_id uuid, permission_level text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    who    ALIAS FOR $1;
    levels text[] := @schema@._levels_from(level);
BEGIN
    IF NOT EXISTS (SELECT FROM @schema@.app_user u
                    WHERE u.org_id = crm_tree.current_org() AND u.user_id = who AND u.active) THEN
        RETURN;
    END IF;
    IF NOT crm_tree._paths_are_fresh('@schema@.account', crm_tree.current_org()::text) THEN
        RETURN QUERY
        WITH granted AS MATERIALIZED (
            SELECT b.account_id, max(array_position(ARRAY['read', 'edit', 'manage'], b.permission_level)) AS rank
              FROM @schema@.bridge_account_user_access b
             WHERE b.org_id = crm_tree.current_org() AND b.user_id = who AND b.permission_level = ANY (levels)
             GROUP BY b.account_id
        )
        SELECT a.id::uuid, (ARRAY['read', 'edit', 'manage'])[max(g.rank)]
          FROM crm_tree._deferred_paths('@schema@.account') a
         CROSS JOIN LATERAL unnest(crm_tree.path_ids(a.path)::uuid[]) AS p (id)
          JOIN granted g ON g.account_id = p.id
         WHERE after IS NULL OR a.id::uuid > after
         GROUP BY a.id::uuid
         ORDER BY a.id::uuid
         LIMIT lim;
        RETURN;
    END IF;
    RETURN QUERY
    WITH granted AS MATERIALIZED (
        SELECT b.account_id, max(array_position(ARRAY['read', 'edit', 'manage'], b.permission_level)) AS rank
          FROM @schema@.bridge_account_user_access b
         WHERE b.org_id = crm_tree.current_org() AND b.user_id = who AND b.permission_level = ANY (levels)
         GROUP BY b.account_id
    )
    SELECT a.account_id, (ARRAY['read', 'edit', 'manage'])[max(g.rank)]
      FROM @schema@.account a
     CROSS JOIN LATERAL unnest(coalesce(crm_tree.path_ids(a.materialized_path)::uuid[], ARRAY[a.account_id])) AS p (id)
      JOIN granted g ON g.account_id = p.id
     WHERE a.org_id = crm_tree.current_org() AND (after IS NULL OR a.account_id > after)
     GROUP BY a.account_id
     ORDER BY a.account_id
     LIMIT lim;
END
$$;
COMMENT ON FUNCTION @schema@.list_accounts(text, text, uuid, int) IS
'The accounts a user may see at a level or higher, inherited ones included, with the effective level, in order of account_id. Next page: after => the last account_id.';

CREATE FUNCTION @schema@.explain_access(user_id text, account_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    who     ALIAS FOR $1;
    what    ALIAS FOR $2;
    ids     uuid[] := @schema@._covering_accounts(what);
    alive   boolean;
    sources jsonb;
    top     text;
BEGIN
    SELECT u.active INTO alive FROM @schema@.app_user u
     WHERE u.org_id = crm_tree.current_org() AND u.user_id = who;
    SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
               'granted_via', b.granted_via,
               'permission_level', b.permission_level,
               'source_id', b.source_id,
               -- The source may have gone since the last recompute; the grant stands until the next.
               'source_stands', s.permission_level IS NOT DISTINCT FROM b.permission_level,
               'inherited_from', CASE WHEN b.account_id <> what
                                      THEN jsonb_build_object('account_id', b.account_id, 'name', g.name) END,
               'account_path', CASE WHEN b.account_id <> what THEN (
                   SELECT jsonb_agg(x.name ORDER BY p.n)
                     FROM unnest(ids) WITH ORDINALITY p (id, n)
                     JOIN @schema@.account x ON x.org_id = crm_tree.current_org() AND x.account_id = p.id
                    WHERE p.n >= array_position(ids, b.account_id)) END,
               'owner_user_id', CASE WHEN b.granted_via IN ('role', 'rule') THEN g.owner_user_id END,
               'role_path', CASE WHEN b.granted_via = 'role' THEN (
                   SELECT jsonb_agg(r.name ORDER BY p.n)
                     FROM @schema@.role h
                    CROSS JOIN LATERAL crm_tree.path_ids(crm_tree._path_now('@schema@.role', h.org_id::text, h.role_id::text,
                                                                            h.materialized_path)) AS w (ids)
                    CROSS JOIN LATERAL unnest(w.ids) WITH ORDINALITY p (id, n)
                     JOIN @schema@.role r ON r.org_id = h.org_id AND r.role_id = p.id::uuid
                    WHERE h.org_id = crm_tree.current_org() AND h.role_id = o.role_id
                      AND p.n >= array_position(w.ids, b.source_id::text)) END,
               'rule', CASE WHEN b.granted_via = 'rule' THEN (
                   SELECT l.name FROM @schema@.sharing_rule l
                    WHERE l.org_id = crm_tree.current_org() AND l.rule_id = b.source_id) END,
               'shared_by', CASE WHEN b.granted_via = 'manual' THEN (
                   SELECT m.shared_by FROM @schema@.account_share m
                    WHERE m.org_id = crm_tree.current_org() AND m.share_id = b.source_id) END))
               ORDER BY array_position(ARRAY['manage', 'edit', 'read'], b.permission_level),
                        array_position(ids, b.account_id) DESC, b.granted_via, b.source_id), '[]'),
           (ARRAY['read', 'edit', 'manage'])[max(array_position(ARRAY['read', 'edit', 'manage'], b.permission_level))]
      INTO sources, top
      FROM @schema@.bridge_account_user_access b
      JOIN @schema@.account g ON g.org_id = b.org_id AND g.account_id = b.account_id
      LEFT JOIN @schema@.app_user o ON o.org_id = g.org_id AND o.user_id = g.owner_user_id
      LEFT JOIN (SELECT y.* FROM @schema@._access_sources y
                  WHERE y.org_id = crm_tree.current_org() AND y.user_id = who AND y.account_id = ANY (ids)) s
             ON s.account_id = b.account_id AND s.granted_via = b.granted_via AND s.source_id = b.source_id
     WHERE b.org_id = crm_tree.current_org() AND b.user_id = who AND b.account_id = ANY (ids)
       AND alive;
    RETURN jsonb_build_object(
        'user_id', who, 'account_id', what,
        'access', top IS NOT NULL,
        'permission_level', top,
        'sources', sources)
        || CASE WHEN alive IS NULL THEN '{"note": "no such user in this org"}'
                WHEN NOT alive THEN '{"note": "the user is inactive"}'
                WHEN ids IS NULL THEN '{"note": "no such account in this org"}'
                ELSE '{}' END::jsonb;
END
$$;
COMMENT ON FUNCTION @schema@.explain_access(text, uuid) IS
'Why a user may see an account: every grant in the bridge that carries access, with the account path it is inherited along and the role path from the owner''s managers down, and whether its source still stands.';
