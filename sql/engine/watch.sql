-- How walls have to stand, and how they do: read by the audit and by the event triggers.

CREATE FUNCTION crm_tree._wall_family() RETURNS TABLE (relation oid, root oid, org_column name)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE family(relation, root, org_column) AS (
        SELECT w.relation, w.relation, w.org_column FROM crm_tree._walls() w JOIN pg_class c ON c.oid = w.relation
        UNION
        SELECT i.inhrelid, f.root, f.org_column FROM family f JOIN pg_inherits i ON i.inhparent = f.relation)
    -- A partition that was protected by itself too belongs to itself.
    SELECT DISTINCT ON (relation) relation, root, org_column FROM family ORDER BY relation, relation <> root
$$;
COMMENT ON FUNCTION crm_tree._wall_family() IS 'Private: the protected tables with their partitions and children.';

CREATE FUNCTION crm_tree._wall_predicate(relation oid, org_column name) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE a.atttypid
               WHEN 'uuid'::regtype THEN format('(%I = crm_tree.current_org())', a.attname)
               WHEN 'text'::regtype THEN format('(%I = crm_tree.current_org_text())', a.attname)
               WHEN 'varchar'::regtype THEN format('((%I)::text = crm_tree.current_org_text())', a.attname)
               ELSE format('(%I = crm_tree.current_org_bigint())', a.attname)
           END
      FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION crm_tree._wall_predicate(oid, name) IS 'Private: the condition of a wall as pg_get_expr() shows it under the search path of the functions here.';

CREATE FUNCTION crm_tree._wall_faults(relations oid[] DEFAULT NULL) RETURNS TABLE (relation oid, root oid, org_column name, fault text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH family AS MATERIALIZED (SELECT * FROM crm_tree._wall_family()),
    member AS (
        SELECT f.*, c.relkind, c.relrowsecurity, c.relforcerowsecurity, crm_tree._wall_predicate(f.relation, f.org_column) AS predicate
          FROM family f JOIN pg_class c ON c.oid = f.relation
         WHERE relations IS NULL OR f.relation = ANY (relations))
    SELECT m.relation, m.root, m.org_column, fault
      FROM member m
     CROSS JOIN LATERAL (
        SELECT 'foreign_partition' WHERE m.relkind = 'f'
        UNION ALL
        SELECT 'org_column' WHERE m.predicate IS NULL
        UNION ALL
        SELECT 'org_nullable' FROM pg_attribute a
         WHERE a.attrelid = m.relation AND a.attname = m.org_column AND NOT a.attnotnull AND NOT a.attisdropped AND m.relkind <> 'f'
        UNION ALL
        SELECT 'rls_off' WHERE NOT m.relrowsecurity AND m.relkind <> 'f'
        UNION ALL
        SELECT 'rls_not_forced' WHERE m.relrowsecurity AND NOT m.relforcerowsecurity
        UNION ALL
        SELECT 'wall_policy' WHERE m.relkind <> 'f' AND NOT EXISTS (
            SELECT FROM pg_policy p
             WHERE p.polrelid = m.relation AND p.polname = 'crm_tree_wall' AND NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}'
               AND pg_get_expr(p.polqual, p.polrelid) = m.predicate AND pg_get_expr(p.polwithcheck, p.polrelid) = m.predicate)
        UNION ALL
        SELECT 'base_policy' WHERE EXISTS (
            SELECT FROM pg_policy p
             WHERE p.polrelid = m.relation AND p.polname ~ '^crm_tree_base' AND p.polpermissive
               AND (coalesce(pg_get_expr(p.polqual, p.polrelid) <> m.predicate, false)
                    OR coalesce(pg_get_expr(p.polwithcheck, p.polrelid) <> m.predicate, false)))
        UNION ALL
        SELECT CASE WHEN bool_or(t.tgenabled = 'A') THEN NULL WHEN count(t.oid) > 0 THEN 'truncate_trigger_off' ELSE 'truncate_trigger' END
          FROM pg_trigger t
         WHERE t.tgrelid = m.relation AND t.tgname = 'crm_tree_refuse_truncate' AND t.tgfoid = 'crm_tree.refuse_truncate()'::regprocedure
           AND t.tgtype & 34 = 34 AND t.tgqual IS NULL AND m.relkind <> 'f'
        HAVING m.relkind <> 'f'
        UNION ALL
        SELECT 'outer_parent' WHERE EXISTS (
            SELECT FROM pg_inherits i WHERE i.inhrelid = m.relation AND i.inhparent NOT IN (SELECT relation FROM family))
     ) AS found(fault)
     WHERE fault IS NOT NULL
$$;
COMMENT ON FUNCTION crm_tree._wall_faults(oid[]) IS 'Private: where a protected table, partition or child does not stand as protect() left it.';
REVOKE ALL ON FUNCTION crm_tree._wall_family(), crm_tree._wall_predicate(oid, name), crm_tree._wall_faults(oid[]) FROM PUBLIC;
