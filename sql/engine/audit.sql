-- The audit: every hole in the database that is known to be one. One private function a family of holes, each returning
-- (code, severity, object, detail, fix); audit_walls() puts them together and leaves out what was acknowledged.

CREATE TABLE crm_tree.accepted_finding (
    code        text NOT NULL,
    object      text NOT NULL,
    severity    text NOT NULL,
    reason      text NOT NULL CHECK (reason <> ''),
    accepted_by text NOT NULL DEFAULT session_user,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accepted_finding_pkey PRIMARY KEY (code, object)
);
ALTER TABLE crm_tree.accepted_finding ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.accepted_finding FROM PUBLIC;
COMMENT ON TABLE crm_tree.accepted_finding IS 'Findings of audit_walls() that somebody answers for. Written by accept_finding() and withdraw_finding().';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.accepted_finding', '');

-- Who is under no row security whatever it says. A role without login and members is nobody until a superuser says so.
CREATE FUNCTION crm_tree._passes_walls(role oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT coalesce((SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE oid = $1), true)';
COMMENT ON FUNCTION crm_tree._passes_walls(oid) IS 'Private: is the role a superuser or BYPASSRLS?';

-- What an extension brings is its own business, but not where a role under row security can put things into it.
CREATE FUNCTION crm_tree._is_packaged(class oid, object oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = $1 AND d.objid = $2 AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND crm_tree._passes_walls(e.extowner))
$$;
COMMENT ON FUNCTION crm_tree._is_packaged(oid, oid) IS 'Private: is it a part of an extension whose owner no wall holds?';

-- The temporary schema is looked through first where a path does not name it, and PostgreSQL's own last where a path says so.
CREATE FUNCTION crm_tree._path_of(settings text[]) RETURNS name[]
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT coalesce(replace(m[1], '""', '"'), m[2])::name FROM regexp_matches(substr(x, 13), '"((?:[^"]|"")+)"|([^,[:space:]"]+)', 'g') AS m)
      FROM unnest($1) AS x WHERE starts_with(x, 'search_path=')
$$;
COMMENT ON FUNCTION crm_tree._path_of(text[]) IS 'Private: the search path that a function sets; null where it sets none.';
CREATE FUNCTION crm_tree._pins_path(settings text[]) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT p[cardinality(p)] = 'pg_temp' AND NOT '$user' = ANY (p) AND coalesce(array_position(p, 'pg_catalog'), 1) = 1 FROM crm_tree._path_of($1) AS p), false)
$$;
COMMENT ON FUNCTION crm_tree._pins_path(text[]) IS 'Private: can no caller put anything in front of what a function names?';
CREATE FUNCTION crm_tree._pinning(settings text[], schemas name[]) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'SET search_path = ' || concat_ws(', ', 'pg_catalog', (SELECT string_agg(quote_ident(s), ', ' ORDER BY n) FROM unnest(coalesce(crm_tree._path_of($1), $2)) WITH ORDINALITY AS u(s, n)
                                                                   WHERE s NOT IN ('pg_catalog', 'pg_temp', '$user')), 'pg_temp')
$$;
COMMENT ON FUNCTION crm_tree._pinning(text[], name[]) IS 'Private: how a function is to set its path: as it does, or to these schemas, with the temporary one last.';

-- Work is done as a table's owner, who need not be able to make a key in its schema, or even to find his table there.
CREATE FUNCTION crm_tree._with_schema(relation oid, makes_key boolean, fix text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN l.rights IS NULL THEN $3
                ELSE format('GRANT %s ON SCHEMA %I TO %I; ', l.rights, n.nspname, r.rolname) || $3 || format(' REVOKE %s ON SCHEMA %I FROM %I;', l.rights, n.nspname, r.rolname) END
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
     CROSS JOIN LATERAL (
         SELECT string_agg(p, ', ' ORDER BY p DESC) AS rights FROM unnest(ARRAY['USAGE', 'CREATE']) AS p
          WHERE (p = 'USAGE' OR $2) AND NOT has_schema_privilege(c.relowner, c.relnamespace, p)) l
     WHERE c.oid = $1
$$;
COMMENT ON FUNCTION crm_tree._with_schema(oid, boolean, text) IS 'Private: the fix, with rights on the schema lent to the table''s owner where he lacks them.';

CREATE FUNCTION crm_tree._altering(relation oid, action text, makes_key boolean DEFAULT false) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT crm_tree._with_schema($1, $3, format(''SELECT crm_tree.alter_table(%L, %L);'', $1::regclass, $2))';
COMMENT ON FUNCTION crm_tree._altering(oid, text, boolean) IS 'Private: the fix that alters a table and runs nothing of its owner''s as who runs it.';

-- A superuser revokes as the object's owner, and so what the owner granted alone. What a grantee handed on goes with his grant option, which he is
-- given first where he holds it by the whole table and handed on a column.
CREATE FUNCTION crm_tree._revoking(privilege text, columns text, target text, owner oid, grantee oid, grantor oid, acl aclitem[]) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN $6 = $4 THEN format('REVOKE %s ON %s FROM %s CASCADE;', $1 || coalesce($2, ''), $3, coalesce(quote_ident(e.rolname), 'PUBLIC'))
                ELSE CASE WHEN NOT h.option THEN format('GRANT %s ON %s TO %I WITH GRANT OPTION; ', $1 || coalesce($2, ''), $3, b.rolname) ELSE '' END
                  || format('REVOKE %s%s ON %s FROM %I CASCADE;', CASE WHEN h.held THEN 'GRANT OPTION FOR ' END, $1 || coalesce($2, ''), $3, b.rolname) END
      FROM (SELECT coalesce(bool_or(true), false) AS held, coalesce(bool_or(x.is_grantable), false) AS option
              FROM aclexplode($7) x WHERE x.grantee = $6 AND x.grantor = $4 AND x.privilege_type = $1) h
      LEFT JOIN pg_roles e ON e.oid = $5 LEFT JOIN pg_roles b ON b.oid = $6
$$;
COMMENT ON FUNCTION crm_tree._revoking(text, text, text, oid, oid, oid, aclitem[]) IS 'Private: the fix that takes a right away, whoever granted it.';

-- The tables an audit is about: those behind the wall, those that look like they should be, and those with row security of another making.
CREATE FUNCTION crm_tree._audited_tables() RETURNS TABLE (relation oid, root oid, org_column name, walled boolean, name text, relname name, owner oid, kind "char", rls boolean, forced boolean)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH family AS MATERIALIZED (SELECT * FROM crm_tree._wall_family()),
    -- What somebody took for an org column in a table of his says nothing of others' tables; a superuser's choice does.
    org_names(name, owner) AS MATERIALIZED (
        VALUES ('org_id'::name, NULL::oid), ('tenant_id', NULL), ('organization_id', NULL), ('organisation_id', NULL)
        -- A table of the orgs themselves is protected by its "id", which every table has.
        UNION SELECT f.org_column, CASE WHEN NOT o.rolsuper THEN o.oid END
          FROM family f JOIN pg_class t ON t.oid = f.root JOIN pg_roles o ON o.oid = t.relowner WHERE f.org_column <> 'id')
    SELECT c.oid AS relation, coalesce(f.root, c.oid) AS root, coalesce(f.org_column, o.attname) AS org_column, f.relation IS NOT NULL AS walled,
           c.oid::regclass::text AS name, c.relname, c.relowner AS owner, c.relkind AS kind, c.relrowsecurity AS rls, c.relforcerowsecurity AS forced
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN family f ON f.relation = c.oid
      LEFT JOIN LATERAL (
          SELECT a.attname FROM pg_attribute a
           WHERE a.attrelid = c.oid AND EXISTS (SELECT FROM org_names w WHERE w.name = a.attname AND (w.owner IS NULL OR w.owner = c.relowner)) AND NOT a.attisdropped AND a.attnum > 0
           ORDER BY a.attname <> 'org_id', a.attnum LIMIT 1) o ON true
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'crm_tree')
       AND (f.relation IS NOT NULL OR (o.attname IS NOT NULL OR c.relrowsecurity) AND NOT crm_tree._is_packaged('pg_class'::regclass, c.oid))
$$;
COMMENT ON FUNCTION crm_tree._audited_tables() IS 'Private: protected tables, and others with an org column or row security.';

CREATE FUNCTION crm_tree._is_before_wall(policy pg_policy) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT NOT $1.polpermissive AND $1.polname::text COLLATE "C" < ''crm_tree_wall''';
COMMENT ON FUNCTION crm_tree._is_before_wall(pg_policy) IS 'Private: would PostgreSQL ask the policy before the wall''s, of every org''s rows?';
CREATE FUNCTION crm_tree._behind_wall(policy pg_policy) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('ALTER POLICY %I ON %s RENAME TO %I;', $1.polname, $1.polrelid::regclass,
                  (SELECT f.name FROM generate_series(1, 9) AS n CROSS JOIN LATERAL CAST(repeat('zz_', n) || $1.polname AS name) AS f(name)
                    WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = $1.polrelid AND p.polname = f.name) ORDER BY n LIMIT 1))
$$;
COMMENT ON FUNCTION crm_tree._behind_wall(pg_policy) IS 'Private: the SQL that gives the policy a name which sorts behind the wall''s.';

-- Asked of few: of a database in order, of none.
CREATE FUNCTION crm_tree._protecting(relations oid[]) RETURNS TABLE (relation oid, cure text, obstacle text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE family AS MATERIALIZED (SELECT * FROM crm_tree._wall_family()),
    listed AS MATERIALIZED (SELECT * FROM crm_tree._audited_tables()),
    audited AS MATERIALIZED (SELECT a.* FROM listed a WHERE a.relation = ANY ($1)),
    -- Up to the topmost table that can be read through and has no wall.
    up(start, relation, org_column, level) AS (
        SELECT DISTINCT a.root, a.root, a.org_column, 0 FROM audited a WHERE a.org_column IS NOT NULL
        UNION
        SELECT u.start, i.inhparent, u.org_column, u.level + 1 FROM up u JOIN pg_inherits i ON i.inhrelid = u.relation
         WHERE NOT EXISTS (SELECT FROM family f WHERE f.relation = i.inhparent AND f.org_column = u.org_column)),
    whole AS MATERIALIZED (SELECT DISTINCT ON (u.start, u.org_column) u.* FROM up u ORDER BY u.start, u.org_column, u.level DESC, u.relation),
    down(top, relation) AS (
        SELECT DISTINCT w.relation, w.relation FROM whole w
        UNION
        SELECT d.top, i.inhrelid FROM down d JOIN pg_inherits i ON i.inhparent = d.relation),
    held AS MATERIALIZED (
        SELECT w.start, w.org_column, w.relation AS top, coalesce(
            (SELECT format('It is a partition or child of %s, which has no column "%s": take it out of that, or give it the column, and protect the whole.', u.relation::regclass, w.org_column)
               FROM up u WHERE u.start = w.start AND u.org_column = w.org_column
                AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = u.relation AND a.attname = w.org_column AND NOT a.attisdropped) ORDER BY u.level LIMIT 1),
            (SELECT format('Its org column is of type %s, which protect() does not take: make it uuid, bigint, integer, smallint, text or varchar.', format_type(a.atttypid, a.atttypmod))
               FROM pg_attribute a
              WHERE a.attrelid = w.relation AND a.attname = w.org_column
                AND a.atttypid NOT IN ('uuid'::regtype, 'int8'::regtype, 'int4'::regtype, 'int2'::regtype, 'text'::regtype, 'varchar'::regtype)),
            (SELECT CASE WHEN a.attidentity = '' THEN 'Its org column is generated: keep the org in a column of its own.'
                         ELSE 'Its org column is an identity column: ALTER TABLE … ALTER COLUMN … DROP IDENTITY first.' END
               FROM pg_attribute a WHERE a.attrelid = w.relation AND a.attname = w.org_column AND (a.attgenerated <> '' OR a.attidentity <> '')),
            (SELECT 'Its org column has a nondeterministic collation, under which two orgs can be equal: give it another.'
               FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation
              WHERE a.attrelid = w.relation AND a.attname = w.org_column AND NOT l.collisdeterministic),
            (SELECT format('Below it is the foreign table %s, which cannot have row security: detach it, and protect what is left.', min(c.oid::regclass::text))
               FROM down d JOIN pg_class c ON c.oid = d.relation
              WHERE d.top = w.relation AND c.relkind = 'f' AND NOT EXISTS (SELECT FROM family f WHERE f.relation = c.oid) HAVING count(*) > 0),
            (SELECT format('%s below it belongs to another role: give it to the owner of %s, and protect the whole.', min(c.oid::regclass::text), w.relation::regclass)
               FROM down d JOIN pg_class c ON c.oid = d.relation JOIN pg_class t ON t.oid = w.relation
              WHERE d.top = w.relation AND c.relkind <> 'f' AND c.relowner <> t.relowner HAVING count(*) > 0),
            (SELECT format('Its foreign key %I changes the org with %s: protect that first, and audit again.', min(k.conname), min(k.confrelid::regclass::text))
               FROM down d JOIN pg_constraint k ON k.conrelid = d.relation JOIN pg_attribute a ON a.attrelid = d.relation AND a.attname = w.org_column
               JOIN listed r ON r.relation = k.confrelid JOIN pg_attribute b ON b.attrelid = r.relation AND b.attname = r.org_column
              WHERE d.top = w.relation AND k.contype = 'f' AND k.conparentid = 0 AND NOT r.walled AND r.root <> w.start
                AND crm_tree._changes_column(k, a.attnum, '{c,n}') AND (a.attnum, b.attnum) IN (SELECT * FROM unnest(k.conkey, k.confkey)) HAVING count(*) > 0),
            (SELECT format('It is joined by inheritance with %s, whose wall is on another column.', min(f.relation::regclass::text))
               FROM down d JOIN family f ON f.relation = d.relation WHERE d.top = w.relation AND f.org_column <> w.org_column HAVING count(*) > 0)) AS obstacle
          FROM whole w)
    SELECT a.relation,
           CASE WHEN h.obstacle IS NULL THEN
               -- Several findings of one table have this cure, and each is to run behind the others.
               coalesce((SELECT string_agg(format('DO %L;', format('BEGIN IF EXISTS (SELECT FROM pg_policy WHERE polrelid = %L::regclass AND polname = %L) THEN %s END IF; END',
                                                                   p.polrelid::regclass, p.polname, crm_tree._behind_wall(p))), ' ' ORDER BY p.oid) || ' ' FROM down d JOIN pg_policy p ON p.polrelid = d.relation
                          WHERE d.top = h.top AND crm_tree._is_before_wall(p)), '')
               || crm_tree._with_schema(h.top, false, format('SELECT crm_tree.protect(%L, %L);', h.top::regclass::text, a.org_column)) END,
           h.obstacle
      FROM audited a JOIN held h ON h.start = a.root AND h.org_column = a.org_column
$$;
COMMENT ON FUNCTION crm_tree._protecting(oid[]) IS 'Private: the SQL that puts the wall up on the whole that a table belongs to, or what keeps it from being put up.';

-- Tables -----------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_tables() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE listed AS MATERIALIZED (SELECT * FROM crm_tree._audited_tables()),
    fault AS MATERIALIZED (SELECT * FROM crm_tree._wall_faults()),
    audited AS MATERIALIZED (
        SELECT l.*, p.cure, p.obstacle
          FROM listed l LEFT JOIN crm_tree._protecting(ARRAY(SELECT l.relation FROM listed l WHERE NOT l.walled AND l.org_column IS NOT NULL UNION SELECT f.relation FROM fault f)) p ON p.relation = l.relation),
    above(relation, parent) AS (
        SELECT i.inhrelid, i.inhparent FROM pg_inherits i
        UNION
        SELECT a.relation, i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.parent),
    parent AS MATERIALIZED (SELECT a.relation, bool_or(u.rls) AS rls FROM above a JOIN audited u ON u.relation = a.parent WHERE u.org_column IS NOT NULL GROUP BY a.relation)
    SELECT 'table_without_wall', 'fix', a.name,
           concat_ws(' ', format('Its column "%s" names an org, and nothing keeps the orgs apart.', a.org_column), a.obstacle), a.cure
      FROM audited a
     WHERE NOT a.walled AND a.org_column IS NOT NULL AND NOT a.rls AND a.kind <> 'f' AND NOT EXISTS (SELECT FROM parent p WHERE p.relation = a.relation)
    UNION ALL
    SELECT 'partition_without_wall', 'fix', a.name,
           concat_ws(' ', 'Named directly, this partition or child has no row security: its policies are its own.', a.obstacle), a.cure
      FROM audited a JOIN parent p USING (relation)
     WHERE NOT a.walled AND a.org_column IS NOT NULL AND NOT a.rls AND a.kind <> 'f' AND p.rls
    UNION ALL
    SELECT 'rls_not_forced', 'fix', a.name, 'Its owner and every member of the owner role pass row security that is not forced.',
           format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', a.name)
      FROM audited a WHERE NOT a.walled AND a.org_column IS NOT NULL AND a.rls AND NOT a.forced
    UNION ALL
    SELECT 'org_nullable', 'fix', a.name, format('A row without an org in "%s" belongs to nobody, and to everybody where a policy forgives a null.', a.org_column),
           crm_tree._altering(a.relation, format('ALTER COLUMN %I SET NOT NULL', a.org_column))
      FROM audited a JOIN pg_attribute t ON t.attrelid = a.relation AND t.attname = a.org_column
     WHERE NOT a.walled AND a.rls AND NOT t.attnotnull AND a.kind <> 'f'
    UNION ALL
    SELECT CASE WHEN f.relation <> f.root AND f.fault IN ('rls_off', 'wall_policy') THEN 'partition_without_wall' ELSE f.fault END,
           'fix', f.relation::regclass::text,
           concat_ws(' ', CASE f.fault
               WHEN 'org_column' THEN format('The wall is registered for the column "%s", which is not there.', f.org_column)
               WHEN 'org_nullable' THEN format('Its org column "%s" may be null, and such a row belongs to nobody.', f.org_column)
               WHEN 'rls_off' THEN CASE WHEN f.relation = f.root THEN 'Row security is switched off: every role with rights on the table reads every org.'
                                        ELSE 'Named directly, this partition or child has no row security: its policies are its own.' END
               WHEN 'rls_not_forced' THEN 'Its owner and every member of the owner role pass row security that is not forced.'
               WHEN 'wall_policy' THEN CASE WHEN f.relation = f.root THEN 'The policy crm_tree_wall is missing or not the one that protect() made.'
                                            ELSE 'Named directly, this partition or child has no wall, or another than protect() made.' END
               WHEN 'base_policy' THEN 'A policy crm_tree_base was altered: the table would be open if the wall policy went.'
               WHEN 'truncate_trigger' THEN 'TRUNCATE ignores row security, and the trigger that refuses it is gone.'
               WHEN 'truncate_trigger_off' THEN 'TRUNCATE ignores row security, and the trigger that refuses it is disabled.'
               WHEN 'outer_parent' THEN format('It is a partition or child of a table without a wall on "%s", and read through that it shows every org.', f.org_column)
                                     || CASE WHEN a.obstacle IS NOT NULL THEN ' The fix takes it out of that: its rows are not read there any more.' ELSE '' END
               WHEN 'temporary_type' THEN 'It is of a temporary type, and goes with that when the session ends which made it.'
               WHEN 'foreign_partition' THEN 'It is a foreign table, which cannot have row security. The fix takes it out of the table above: its rows are not read there any more.'
           END,
           CASE WHEN f.fault IN ('rls_off', 'wall_policy', 'base_policy', 'truncate_trigger') THEN a.obstacle END),
           CASE f.fault
               WHEN 'org_column' THEN format('SELECT crm_tree.unprotect(%L);', f.root::regclass::text)
               WHEN 'org_nullable' THEN crm_tree._altering(f.relation, format('ALTER COLUMN %I SET NOT NULL', f.org_column))
               WHEN 'rls_not_forced' THEN format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', f.relation::regclass)
               WHEN 'temporary_type' THEN crm_tree._altering(f.relation, 'NOT OF')
               WHEN 'truncate_trigger_off' THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER crm_tree_refuse_truncate;', f.relation::regclass)
               WHEN 'foreign_partition' THEN (
                   SELECT CASE WHEN c.relispartition THEN crm_tree._altering(i.inhparent, format('DETACH PARTITION %s', i.inhrelid::regclass))
                               ELSE format('ALTER FOREIGN TABLE %s NO INHERIT %s;', i.inhrelid::regclass, i.inhparent::regclass) END
                     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhrelid = f.relation LIMIT 1)
               WHEN 'outer_parent' THEN coalesce(a.cure, (
                   SELECT CASE WHEN c.relispartition THEN crm_tree._altering(i.inhparent, format('DETACH PARTITION %s', i.inhrelid::regclass))
                               ELSE format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::regclass, i.inhparent::regclass) END
                     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                    WHERE i.inhrelid = f.relation AND NOT EXISTS (SELECT FROM crm_tree._wall_family() w WHERE w.relation = i.inhparent AND w.org_column = f.org_column) LIMIT 1))
               ELSE a.cure
           END
      FROM fault f LEFT JOIN audited a ON a.relation = f.relation
     -- Rules, policies and keys have a finding each; and one where one protect() mends both.
     WHERE f.fault NOT IN ('rewrite_rule', 'policy_before_wall', 'org_key')
       AND NOT (f.fault = 'wall_policy' AND f.relation <> f.root
                AND EXISTS (SELECT FROM pg_class c WHERE c.oid = f.relation AND NOT c.relrowsecurity))
       AND NOT (f.fault = 'truncate_trigger' AND f.relation <> f.root
                AND NOT EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = f.relation AND y.polname = 'crm_tree_wall'))
    UNION ALL
    SELECT 'policy_before_wall', 'fix', format('%s.%I', a.name, p.polname),
           'PostgreSQL asks restrictive policies in the order of their names'' bytes: before the wall this one is asked of every org''s rows.',
           crm_tree._behind_wall(p)
      FROM audited a JOIN pg_policy p ON p.polrelid = a.relation
     WHERE a.walled AND crm_tree._is_before_wall(p)
    UNION ALL
    SELECT 'wall_of_nothing', 'fix', w.relation::text, 'The registry has a wall for a table that is not there, and a new table could take its oid.',
           format('DELETE FROM crm_tree.wall WHERE relation = %s;', w.relation)
      FROM crm_tree._walls() w WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation)
    UNION ALL
    -- With a foreign partition taken out of it the wall is whole, and no event trigger sees that.
    SELECT 'wall_not_watched', 'fix', w.relation::regclass::text, 'Its wall is whole, but since a restore nobody has looked, and the event triggers do not defend it.',
           'SELECT * FROM crm_tree.check_restore();'
      FROM crm_tree._walls() w JOIN pg_class c ON c.oid = w.relation
     WHERE NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = w.relation)
       AND NOT EXISTS (SELECT FROM fault f WHERE f.root = w.relation AND f.fault <> 'foreign_partition')
    UNION ALL
    SELECT 'wall_not_registered', 'fix', a.name, concat_ws(' ', 'It has the policy of a wall, or had one, and is in no registry, so nothing watches it.', a.obstacle), a.cure
      FROM audited a
     WHERE NOT a.walled AND a.org_column IS NOT NULL
       AND (EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = a.relation AND p.polname = 'crm_tree_wall')
            OR EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = a.relation))
    UNION ALL
    SELECT 'owner_passes_wall', 'accept', a.name,
           format('Its owner %s is under no row security, and triggers that a foreign key''s cascade reaches run as him.', quote_ident(r.rolname)), NULL
      FROM audited a JOIN pg_roles r ON r.oid = a.owner JOIN pg_class t ON t.oid = a.root
     WHERE a.walled AND (a.relation = a.root OR a.owner <> t.relowner) AND crm_tree._passes_walls(a.owner)
    UNION ALL
    SELECT 'foreign_table', 'fix', format('%s to %s', a.name, h.name), format('A foreign table cannot have row security, and %s may use it.', h.name),
           string_agg(DISTINCT CASE WHEN x.grantor = a.owner THEN format('REVOKE ALL ON TABLE %s FROM %s CASCADE;', a.name, h.name)
                                    ELSE crm_tree._revoking(x.privilege_type, x.columns, 'TABLE ' || a.name, a.owner, x.grantee, x.grantor, x.acl) END, ' ')
      FROM audited a
     CROSS JOIN LATERAL (
         SELECT e.*, NULL AS columns, c.relacl AS acl FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) e WHERE c.oid = a.relation
         UNION ALL
         SELECT e.*, format(' (%I)', t.attname), t.attacl FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) e WHERE t.attrelid = a.relation) x
     CROSS JOIN LATERAL (SELECT coalesce((SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = x.grantee), 'PUBLIC') AS name) h
     WHERE a.kind = 'f' AND x.grantee <> a.owner AND a.org_column IS NOT NULL
     GROUP BY a.name, h.name
$$;
COMMENT ON FUNCTION crm_tree._audit_tables() IS 'Private: findings about tables and how their walls stand.';

-- Policies of somebody else's making -------------------------------------------------------------

-- As pg_get_expr() shows a condition, every AND, OR and NOT is in parentheses with what it joins: it is taken apart from the inside out.
CREATE FUNCTION crm_tree._reads_org(condition text, org_column text) RETURNS TABLE (compares boolean, forgives boolean)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    org   CONSTANT text := chr(1);
    other CONSTANT text := chr(2);
    none  CONSTANT text := chr(3);
    bare  text;
    part  text;
BEGIN
    forgives := false;
    -- What is in a literal or in another's quoted name is no name of the column and no parenthesis.
    bare := regexp_replace($1, '''[^'']*''', '''''', 'g');
    IF quote_ident($2) <> $2 THEN
        bare := replace(bare, quote_ident($2), org);
    END IF;
    bare := regexp_replace(bare, '"[^"]*"', other, 'g');
    IF quote_ident($2) = $2 THEN
        bare := regexp_replace(bare, '(?<![[:alnum:]_$])' || $2 || '(?![[:alnum:]_$(])', org, 'g');
    END IF;
    bare := regexp_replace(bare, '([[:alnum:]_$]+\.)*' || org || ' IS NOT NULL', other, 'g');
    bare := regexp_replace(bare, '([[:alnum:]_$]+\.)*' || org || ' IS NULL', none, 'g');
    LOOP
        part := substring(bare from '\([^()]*\)');
        EXIT WHEN part IS NULL;
        IF part ~ ' OR ' THEN
            forgives := forgives OR strpos(part, none) > 0;
            bare := replace(bare, part, CASE WHEN strpos(part, org) = 0 OR EXISTS (SELECT FROM regexp_split_to_table(part, ' OR ') arm WHERE strpos(arm, org) = 0 AND strpos(arm, none) = 0) THEN other ELSE org END);
        ELSIF part = '(' || none || ')' THEN
            bare := replace(bare, part, none);
        ELSE
            forgives := forgives OR part !~ ' AND ' AND part ~ 'COALESCE' AND strpos(part, org) > 0;
            bare := replace(bare, part, CASE WHEN strpos(part, org) > 0 THEN org ELSE other END);
        END IF;
    END LOOP;
    compares := coalesce(strpos(bare, org) > 0, false);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION crm_tree._reads_org(text, text) IS 'Private: does every way to fulfil a policy''s condition look at the org column, for more than whether it is null? Does it let rows without an org through, or fall back?';

CREATE FUNCTION crm_tree._audit_policies() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH listed AS MATERIALIZED (SELECT a.* FROM crm_tree._audited_tables() a WHERE EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = a.relation)),
    audited AS MATERIALIZED (
        SELECT l.*, p.cure, p.obstacle FROM listed l LEFT JOIN crm_tree._protecting(ARRAY(SELECT l.relation FROM listed l WHERE NOT l.walled)) p ON p.relation = l.relation),
    policy AS MATERIALIZED (
        SELECT p.*, a.name || '.' || quote_ident(p.polname) AS object, a.name AS table_name, a.org_column, a.walled, a.relation,
               concat_ws(' ', x.using, x.checks) AS expression, a.cure AS fix,
               -- Behind a wall of ours, which is restrictive, no other policy opens anything.
               CASE WHEN a.org_column IS NULL THEN 'Let it ask crm_tree.current_org(), or another of them.' ELSE a.obstacle END AS note,
               -- A policy without a condition lets nothing through, and holds nothing back.
               x.using IS NOT NULL AS has_using, coalesce(x.checks, x.using) IS NOT NULL AS has_check,
               d.asks AND u.compares AS reads, d.asks AND w.compares AS writes, u.forgives OR w.forgives AS forgives
          FROM pg_policy p JOIN audited a ON a.relation = p.polrelid
         CROSS JOIN LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS checks) x
         CROSS JOIN LATERAL (
             SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_attribute t ON t.attrelid = p.polrelid AND t.attnum = d.refobjsubid
                             WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid AND t.attname = a.org_column) AS asks) d
         CROSS JOIN LATERAL crm_tree._reads_org(CASE WHEN NOT a.walled THEN x.using END, a.org_column) u
         CROSS JOIN LATERAL crm_tree._reads_org(CASE WHEN NOT a.walled THEN coalesce(x.checks, x.using) END, a.org_column) w),
    -- For one command: who may read or change rows by it, and who may write them.
    one AS MATERIALIZED (
        SELECT y.*, c.command, c.command <> 'a' AS uses, c.command IN ('a', 'w') AS checks
          FROM policy y CROSS JOIN unnest(CASE y.polcmd WHEN '*' THEN '{r,a,w,d}'::"char"[] ELSE ARRAY[y.polcmd] END) AS c(command)
         WHERE NOT y.walled AND y.org_column IS NOT NULL),
    -- Not where a restrictive policy for the same roles looks at the org.
    open AS MATERIALIZED (
        SELECT o.*, NOT EXISTS (SELECT FROM one r WHERE r.relation = o.relation AND r.command = o.command AND NOT r.polpermissive AND (r.reads OR NOT r.uses) AND (r.writes OR NOT r.checks)
                                                    AND (r.polroles = '{0}' OR r.polroles @> o.polroles)) AS alone
          FROM one o WHERE o.polpermissive AND CASE WHEN o.uses THEN o.has_using ELSE o.has_check END),
    used AS MATERIALIZED (
        SELECT y.object, y.walled, y.fix, y.note, y.relation, f.oid AS function, f.proname, n.nspname, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS prosrc,
               f.prosqlbody IS NOT NULL AS parsed, f.provolatile, f.pronargs, f.proconfig, l.lanname
          FROM policy y
          JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = y.oid AND d.refclassid = 'pg_proc'::regclass
          JOIN pg_proc f ON f.oid = d.refobjid JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang)
    SELECT 'policies_ored', 'fix', o.table_name,
           concat_ws(' ', format('Permissive policies are ORed, and it has %s for one command and no restrictive one: the widest decides.', max(o.n)), min(o.note)), min(o.fix)
      FROM (SELECT y.table_name, y.fix, y.note,
                   (SELECT count(*) FROM open z WHERE z.relation = y.relation AND z.command = y.command AND z.alone
                                                  AND (z.polroles && y.polroles OR z.polroles = '{0}' OR y.polroles = '{0}')) AS n
              FROM open y WHERE y.alone) o
     GROUP BY o.table_name HAVING max(o.n) > 1
    UNION ALL
    SELECT 'policy_open', 'fix', y.object,
           concat_ws(' ', format('It lets rows of every org be %s: it can be passed without comparing "%s".',
                                 string_agg(CASE y.command WHEN 'r' THEN 'read' WHEN 'w' THEN 'changed' ELSE 'deleted' END, ', ' ORDER BY y.command DESC), y.org_column), y.note), y.fix
      FROM open y WHERE y.alone AND y.uses AND NOT y.reads
     GROUP BY y.object, y.org_column, y.note, y.fix
    UNION ALL
    SELECT DISTINCT 'policy_check_open', 'fix', y.object, concat_ws(' ', format('It lets rows be written into any org: it can be passed without comparing "%s".', y.org_column), y.note), y.fix
      FROM open y WHERE y.alone AND y.checks AND NOT y.writes
    UNION ALL
    SELECT 'policy_fallback', 'fix', y.object, concat_ws(' ', 'Unbound, or for a row without an org, it falls back to letting the row through.', y.note), y.fix
      FROM policy y WHERE NOT y.walled AND y.org_column IS NOT NULL AND y.forgives
    UNION ALL
    SELECT 'policy_setting', 'fix', y.object,
           concat_ws(' ', format('It asks the setting %s, which every user may set.', substring(y.expression from 'current_setting\((''[^'']*'')')), y.note), y.fix
      FROM policy y WHERE NOT y.walled AND y.expression ~ '\mcurrent_setting\('
    UNION ALL
    SELECT 'policy_setting', 'fix', u.object, concat_ws(' ', format('It asks a setting, which every user may set, through the function %s.', u.function::regprocedure), u.note), u.fix
      FROM used u WHERE NOT u.walled AND u.prosrc ~* '\mcurrent_setting\M'
    UNION ALL
    SELECT DISTINCT 'policy_function_immutable', 'fix', u.function::regprocedure::text,
           'A policy asks it, and it is IMMUTABLE: a kept plan serves one org''s answer to the next.', format('ALTER FUNCTION %s STABLE;', u.function::regprocedure)
      FROM used u WHERE u.provolatile = 'i' AND (u.pronargs = 0 OR u.prosrc ~* '\mcurrent_')
    UNION ALL
    SELECT DISTINCT 'policy_function_search_path', 'fix', u.function::regprocedure::text,
           'A policy asks it, and its names are looked up where the caller can put things of his own: on his search path, or in his temporary schema.',
           format('ALTER FUNCTION %s %s;', u.function::regprocedure, crm_tree._pinning(u.proconfig, ARRAY[u.nspname]))
      FROM used u
     WHERE u.lanname NOT IN ('c', 'internal') AND NOT u.parsed
       AND NOT crm_tree._pins_path(u.proconfig)
$$;
COMMENT ON FUNCTION crm_tree._audit_policies() IS 'Private: findings about policies that are not the wall''s, and the functions that policies ask.';

-- Ways in with another's rights ------------------------------------------------------------------

-- By what a body that is kept as text calls things: its comments left out, in its literals the qualified names alone. Names without a schema are
-- looked up on a path where one is pinned.
CREATE FUNCTION crm_tree._names_in(body text) RETURNS TABLE (schema text, name text)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH text AS MATERIALIZED (
        SELECT regexp_replace($1, '([eE]''([^''\\]|\\.|'''')*''|''([^'']|'''')*''|"[^"]*")|--[^\n]*|/\*([^*]|\*+[^*/])*\*+/', '\1 ', 'g') AS said),
    names AS (
        SELECT m
          FROM text, regexp_matches(regexp_replace(said, '[eE]''([^''\\]|\\.|'''')*''|''([^'']|'''')*''', ' ', 'g'),
                                    '(?:([[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")\s*\.\s*)?([[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")', 'g') AS m
        UNION ALL
        SELECT m
          FROM text, regexp_matches(said, '([[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")\s*\.\s*([[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")', 'g') AS m
        UNION ALL
        -- The database's name before them.
        SELECT m
          FROM text, regexp_matches(said, '(?:[[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")\s*\.\s*([[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")\s*\.\s*([[:alpha:]_][[:alnum:]_$]*|"(?:[^"]|"")+")', 'g') AS m)
    SELECT DISTINCT p.schema, p.name
      FROM names CROSS JOIN LATERAL (
          SELECT CASE WHEN m[1] ~ '^"' THEN replace(substr(m[1], 2, length(m[1]) - 2), '""', '"') ELSE lower(m[1]) END AS schema,
                 CASE WHEN m[2] ~ '^"' THEN replace(substr(m[2], 2, length(m[2]) - 2), '""', '"') ELSE lower(m[2]) END AS name) p
$$;
COMMENT ON FUNCTION crm_tree._names_in(text) IS 'Private: the names in the body of a function, with their schemas where they have one.';

CREATE FUNCTION crm_tree._definer_ways(only_object oid DEFAULT NULL) RETURNS TABLE (code text, severity text, object text, detail text, fix text, oid oid)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH RECURSIVE audited AS MATERIALIZED (SELECT a.relation, a.relname FROM crm_tree._audited_tables() a WHERE a.walled OR a.org_column IS NOT NULL),
    -- Views and materialized views over them, over views of them, and so on.
    reading(relation) AS (
        SELECT a.relation FROM audited a
        UNION
        SELECT r.ev_class FROM reading g
          JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = g.relation AND d.classid = 'pg_rewrite'::regclass
          JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'),
    named AS MATERIALIZED (
        SELECT g.relation, n.nspname, c.relname FROM reading g JOIN pg_class c ON c.oid = g.relation JOIN pg_namespace n ON n.oid = c.relnamespace),
    passing AS MATERIALIZED (SELECT oid, quote_ident(rolname) AS name FROM pg_roles WHERE rolsuper OR rolbypassrls),
    lent AS MATERIALIZED (
        SELECT p.oid, p.prokind, r.name AS owner,
               crm_tree._is_packaged('pg_proc'::regclass, p.oid) AS packaged
          FROM pg_proc p JOIN passing r ON r.oid = p.proowner
         WHERE p.prosecdef AND p.prokind IN ('f', 'p') AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'crm_tree'::regnamespace)
           AND (only_object IS NULL OR p.oid = only_object)),
    -- What those call, and what that calls, in their name and where it pins no path of its own on theirs.
    called(start, oid, path, depth) AS (
        SELECT l.oid, l.oid, o.path, 0 FROM lent l JOIN pg_proc p ON p.oid = l.oid
         CROSS JOIN LATERAL crm_tree._path_of(p.proconfig) AS o(path)
        UNION
        SELECT c.start, h.oid, coalesce(o.path, c.path), c.depth + 1
          FROM called c JOIN pg_proc p ON p.oid = c.oid
         CROSS JOIN LATERAL (
             SELECT q.oid FROM crm_tree._names_in(CASE WHEN p.prosqlbody IS NULL THEN p.prosrc END) m JOIN pg_proc q ON q.proname = m.name JOIN pg_namespace n ON n.oid = q.pronamespace
              WHERE m.schema = n.nspname OR m.schema IS NULL AND (c.path IS NULL OR n.nspname = ANY (c.path) OR '$user' = ANY (c.path))
             UNION
             SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass) k
          JOIN pg_proc h ON h.oid = k.oid
         CROSS JOIN LATERAL crm_tree._path_of(h.proconfig) AS o(path)
         WHERE c.depth < 5 AND h.oid <> c.start AND h.oid >= 16384 AND h.prokind IN ('f', 'p') AND h.pronamespace <> 'crm_tree'::regnamespace
           -- A definer of its own works for another; what an extension does is its own business.
           AND (NOT h.prosecdef OR h.proowner IN (SELECT oid FROM passing))
           AND NOT crm_tree._is_packaged('pg_proc'::regclass, h.oid)),
    body AS MATERIALIZED (
        SELECT c.start, c.oid, c.depth,
               CASE WHEN p.prosqlbody IS NOT NULL THEN EXISTS (SELECT FROM pg_depend d JOIN reading g ON g.relation = d.refobjid
                                                                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass)
                    ELSE EXISTS (SELECT FROM crm_tree._names_in(p.prosrc) m JOIN named n ON n.relname = m.name
                                  WHERE m.schema = n.nspname OR m.schema IS NULL AND (c.path IS NULL OR n.nspname = ANY (c.path) OR '$user' = ANY (c.path))) END AS reads,
               l.lanname NOT IN ('sql', 'plpgsql') OR p.prosqlbody IS NULL AND p.prosrc ~* '\mU&"'
                 OR EXISTS (SELECT FROM crm_tree._names_in(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)) m
                             WHERE l.lanname = 'plpgsql' AND m.name = 'execute' AND m.schema IS NULL
                                OR m.name ~ '^((query|table|schema|database|cursor)_to_xml(schema|_and_xmlschema)?|ts_stat|ts_rewrite|dblink.*|crosstab.*|connectby|xpath_table)$') AS dynamic
          FROM called c JOIN pg_proc p ON p.oid = c.oid JOIN pg_language l ON l.oid = p.prolang),
    -- Views can name each other in a circle.
    upon(start, oid) AS (
        SELECT c.oid, c.oid FROM reading g JOIN pg_class c ON c.oid = g.relation WHERE c.relkind = 'm'
        UNION
        SELECT u.start, r.ev_class
          FROM upon u JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid AND d.classid = 'pg_rewrite'::regclass
          JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN' WHERE r.ev_class <> u.oid),
    above AS MATERIALIZED (
        SELECT u.start, string_agg(u.oid::regclass::text, ', ' ORDER BY u.oid::regclass::text) FILTER (WHERE u.oid <> u.start) AS names,
               -- By name, or by the type of its rows: functions, defaults, columns and rules.
               (SELECT min(pg_describe_object(d.classid, d.objid, d.objsubid))
                  FROM upon v JOIN pg_class k ON k.oid = v.oid JOIN pg_type y ON y.oid = k.reltype
                  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = k.oid OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray)
                  LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
                 WHERE v.start = u.start AND d.deptype = 'n' AND coalesce(w.rulename, '') <> '_RETURN') AS others
          FROM upon u GROUP BY u.start)
    SELECT 'definer_view', 'fix', c.oid::regclass::text,
           format('It reads protected rows with the rights of %s, who is under no row security.', r.name),
           format('ALTER VIEW %s SET (security_invoker = true);', c.oid::regclass), c.oid
      FROM reading g JOIN pg_class c ON c.oid = g.relation JOIN passing r ON r.oid = c.relowner
     WHERE c.relkind = 'v' AND NOT coalesce(array_to_string(c.reloptions, ' ') ~ 'security_invoker=(true|on|yes|1)', false)
       AND (only_object IS NULL OR c.oid = only_object)
    UNION ALL
    SELECT 'materialized_view', 'fix', c.oid::regclass::text,
           concat_ws(' ', 'It holds copies of protected rows, and has no row security.',
                     CASE WHEN b.others IS NOT NULL THEN format('Drop it; %s depends on it.', b.others) WHEN b.names IS NOT NULL THEN format('The fix drops %s too.', b.names) END),
           -- Another's fix may have been here.
           CASE WHEN b.others IS NULL THEN format('DROP MATERIALIZED VIEW IF EXISTS %s%s;', c.oid::regclass, CASE WHEN b.names IS NOT NULL THEN ' CASCADE' END) END, c.oid
      FROM above b JOIN pg_class c ON c.oid = b.start WHERE only_object IS NULL OR c.oid = only_object
    UNION ALL
    SELECT 'definer_function', CASE WHEN b.reads THEN 'fix' ELSE 'accept' END, p.oid::regprocedure::text,
           format(CASE WHEN b.direct THEN 'It names a protected table and runs with the rights of %s, who is under no row security.'
                       WHEN b.reads THEN 'It reaches a protected table through %2$s, and runs with the rights of %1$s, who is under no row security.'
                       ELSE 'It runs with the rights of %s, who is under no row security, and what it reads cannot be told from its text.' END, p.owner, b.through),
           format('ALTER %s %s SECURITY INVOKER;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure), p.oid
      FROM lent p
      JOIN (SELECT start, bool_or(y.reads) AS reads, bool_or(y.reads AND depth = 0) AS direct, bool_or(y.dynamic) AS dynamic, min(y.oid::regprocedure::text) FILTER (WHERE y.reads) AS through
              FROM body y GROUP BY start) b ON b.start = p.oid
     -- What an extension does dynamically is its own business, unless it names a table of ours.
     WHERE b.reads OR NOT p.packaged AND b.dynamic
    UNION ALL
    SELECT 'rewrite_rule', 'fix', format('%s.%I', w.ev_class::regclass, w.rulename),
           CASE WHEN t.relation IS NOT NULL THEN 'A rule runs as the table''s owner, and takes along what is written behind the wall.'
                ELSE format('A rule runs as the owner of its table, %s, who is under no row security, and it names a protected table.', r.name) END,
           format('DROP RULE %I ON %s;', w.rulename, w.ev_class::regclass), w.ev_class
      FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class LEFT JOIN passing r ON r.oid = c.relowner LEFT JOIN audited t ON t.relation = w.ev_class
     WHERE w.rulename <> '_RETURN' AND (only_object IS NULL OR w.ev_class = only_object)
       AND (t.relation IS NOT NULL
            OR r.oid IS NOT NULL
               AND EXISTS (SELECT FROM pg_depend d JOIN reading g ON g.relation = d.refobjid
                            WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class))
$$;
COMMENT ON FUNCTION crm_tree._definer_ways(oid) IS 'Private: views, materialized views, functions and rules that lead past row security; of one object where it is named.';

CREATE FUNCTION crm_tree._audit_definers() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.code, w.severity, w.object, w.detail, w.fix FROM crm_tree._definer_ways() w
    UNION ALL
    SELECT 'definer_search_path', 'fix', p.oid::regprocedure::text,
           format('It runs with the rights of %s and looks names up where its caller can put things of his own: on his search path, or in his temporary schema.', quote_ident(r.rolname)),
           format('ALTER %s %s %s;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure, crm_tree._pinning(p.proconfig, ARRAY[n.nspname]))
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
     WHERE p.prosecdef AND p.prokind IN ('f', 'p') AND p.pronamespace <> 'pg_catalog'::regnamespace AND crm_tree._passes_walls(p.proowner)
       AND p.prosqlbody IS NULL AND l.lanname NOT IN ('c', 'internal')
       AND NOT crm_tree._pins_path(p.proconfig)
       AND NOT crm_tree._is_packaged('pg_proc'::regclass, p.oid)
    UNION ALL
    -- An action of a foreign key runs as the table's owner past his row security, and takes the triggers there along.
    SELECT DISTINCT 'cascade_trigger', 'accept', format('%s.%I', t.tgrelid::regclass, t.tgname),
           format('The action of the foreign key "%s" reaches it, and it then runs as the table''s owner, sees every org, and can write a row into any: name the org in each of its queries, and leave it alone in NEW.', k.conname), NULL
      FROM pg_constraint k JOIN crm_tree._audited_tables() a ON a.relation = k.conrelid JOIN pg_trigger t ON t.tgrelid = k.conrelid JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE k.contype = 'f' AND (a.walled OR a.rls) AND NOT t.tgisinternal AND t.tgparentid = 0
       AND (k.confdeltype = 'c' AND t.tgtype & 8 <> 0 OR (k.confdeltype IN ('n', 'd') OR k.confupdtype IN ('c', 'n', 'd')) AND t.tgtype & 16 <> 0)
       AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND e.extname = 'crm_tree')
    UNION ALL
    SELECT 'code_of_another', 'fix', p.oid::regprocedure::text,
           format('It belongs to %s, who can change it, and the event trigger %s calls it as whoever alters anything, superusers too.', quote_ident(r.rolname), string_agg(quote_ident(t.evtname), ', ' ORDER BY t.evtname)),
           format('ALTER FUNCTION %s OWNER TO %I;', p.oid::regprocedure, (SELECT o.rolname FROM pg_roles o WHERE o.oid = 10))
      FROM pg_event_trigger t JOIN pg_proc p ON p.oid = t.evtfoid JOIN pg_roles r ON r.oid = p.proowner
     WHERE NOT crm_tree._passes_walls(p.proowner)
     GROUP BY p.oid, r.rolname
    UNION ALL
    -- Paths are rewritten as the table's owner, under the search path of whoever moves a node.
    SELECT 'tree_trigger_search_path', 'fix', p.oid::regprocedure::text,
           format('A trigger of the tree %s calls it, as the table''s owner where paths are rewritten, and its names are looked up where whoever moves a node can put things of his own: on his search path, or in his temporary schema.',
                  string_agg(DISTINCT t.tgrelid::regclass::text, ', ')),
           -- Its own first, and that of each tree which it may name without a schema.
           format('ALTER FUNCTION %s %s;', p.oid::regprocedure, crm_tree._pinning(p.proconfig, o.nspname || coalesce(array_agg(DISTINCT n.nspname) FILTER (WHERE n.oid <> o.oid), '{}')))
      FROM crm_tree._trees() a CROSS JOIN LATERAL (SELECT a.relation::oid AS oid UNION SELECT relid FROM pg_partition_tree(a.relation)) AS part
      JOIN pg_trigger t ON t.tgrelid = part.oid JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace o ON o.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
     WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 16 <> 0 AND NOT p.prosecdef AND l.lanname NOT IN ('c', 'internal')
       AND NOT crm_tree._pins_path(p.proconfig)
     GROUP BY p.oid, o.oid, o.nspname
    UNION ALL
    -- The server's own are as the first transaction left them; any later one may have marked them.
    SELECT 'leakproof_function', CASE WHEN d.packaged THEN 'accept' ELSE 'fix' END, p.oid::regprocedure::text,
           'It is marked LEAKPROOF, so a user''s condition may run it on another org''s rows before the wall''s.'
             || CASE WHEN p.oid < 16384 THEN ' The server''s own mark, or one made by hand: it was altered since the server was set up.' WHEN d.packaged THEN ' It is an extension''s.' ELSE '' END,
           format('ALTER FUNCTION %s NOT LEAKPROOF;', p.oid::regprocedure)
      FROM pg_proc p
     CROSS JOIN LATERAL (SELECT crm_tree._is_packaged('pg_proc'::regclass, p.oid) AS packaged) d
     WHERE p.proleakproof AND (p.oid >= 16384 OR p.xmin <> '1'::xid) AND p.pronamespace <> 'crm_tree'::regnamespace
$$;
COMMENT ON FUNCTION crm_tree._audit_definers() IS 'Private: findings about views, functions, rules and triggers.';

-- Keys -------------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._columns(relation oid, numbers int2[]) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n) FROM unnest($2) WITH ORDINALITY AS u(num, n) JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = num
$$;
COMMENT ON FUNCTION crm_tree._columns(oid, int2[]) IS 'Private: columns as a list in SQL.';

-- What a key has beside its columns, and loses when it is made anew.
CREATE FUNCTION crm_tree._commenting(key oid) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(' COMMENT ON CONSTRAINT %I ON %s IS %L;', k.conname, k.conrelid::regclass, d)
      FROM pg_constraint k CROSS JOIN obj_description(k.oid, 'pg_constraint') d WHERE k.oid = $1 AND d IS NOT NULL
$$;
COMMENT ON FUNCTION crm_tree._commenting(oid) IS 'Private: the rest of the fix of a constraint: its comment, null where it has none.';

CREATE FUNCTION crm_tree._enforcing(key pg_constraint) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat(CASE WHEN $1.condeferrable THEN ' DEFERRABLE' END, CASE WHEN $1.condeferred THEN ' INITIALLY DEFERRED' END,
                  CASE WHEN to_jsonb($1) ->> 'conenforced' = 'false' THEN ' NOT ENFORCED' WHEN NOT $1.convalidated THEN ' NOT VALID' END)
$$;
COMMENT ON FUNCTION crm_tree._enforcing(pg_constraint) IS 'Private: how a foreign key ends in SQL: when it is looked at, and whether.';

CREATE FUNCTION crm_tree._restoring(index oid, key oid) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat(
        ' ' || (SELECT format('ALTER INDEX %s SET TABLESPACE %I;', c.oid::regclass, s.spcname) FROM pg_tablespace s WHERE s.oid = c.reltablespace),
        ' ' || CASE WHEN i.indisreplident THEN crm_tree._altering(i.indrelid, format('REPLICA IDENTITY USING INDEX %I', c.relname)) END,
        ' ' || CASE WHEN i.indisclustered THEN crm_tree._altering(i.indrelid, format('CLUSTER ON %I', c.relname)) END,
        ' ' || (SELECT format('COMMENT ON INDEX %s IS %L;', c.oid::regclass, d) FROM obj_description(c.oid, 'pg_class') d WHERE d IS NOT NULL),
        crm_tree._commenting($2))
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indexrelid = $1
$$;
COMMENT ON FUNCTION crm_tree._restoring(oid, oid) IS 'Private: the rest of the fix of a key: its tablespace, replica identity, CLUSTER mark and comments.';

CREATE FUNCTION crm_tree._audit_keys() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH audited AS MATERIALIZED (
        SELECT a.*, t.attnum, t.atttypid, c.relnamespace, CASE WHEN t.atttypid IN ('int8'::regtype, 'int4'::regtype, 'int2'::regtype) THEN 'int8'::regtype WHEN t.atttypid = 'varchar'::regtype THEN 'text'::regtype ELSE t.atttypid END AS compared_as
          FROM crm_tree._audited_tables() a JOIN pg_class c ON c.oid = a.relation JOIN pg_attribute t ON t.attrelid = a.relation AND t.attname = a.org_column AND NOT t.attisdropped
         WHERE a.kind <> 'f'),
    -- The org has to be compared with the org: with the columns that are left, and what the key that they point at is to be called.
    key AS MATERIALIZED (
        SELECT k.*, format('%s.%I', k.conrelid::regclass, k.conname) AS object, r.name AS referenced, r.relname, r.org_column AS their_org, r.attnum AS their_number, r.relnamespace, o.org_column AS our_org,
               left_over.ours, left_over.theirs, left_over.n,
               crm_tree._columns(k.conrelid, ARRAY(SELECT c FROM unnest(k.confdelsetcols) WITH ORDINALITY AS u(c, n) WHERE c = ANY (left_over.ours) ORDER BY n)) AS set_columns,
               has_table_privilege(ours.relowner, k.confrelid, 'REFERENCES') AS may_refer, has_schema_privilege(ours.relowner, r.relnamespace, 'USAGE') OR r.relnamespace = ours.relnamespace AS may_find,
               quote_ident(w.rolname) AS who, quote_ident(s.nspname) AS their_schema, crm_tree._enforcing(k) AS enforcing,
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indimmediate AND i.indexprs IS NULL
                          AND (SELECT array_agg(c ORDER BY c) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u(c, n) WHERE n <= i.indnkeyatts)
                            = (SELECT array_agg(c ORDER BY c) FROM unnest(left_over.theirs || r.attnum) c)) AS has_key,
               CASE WHEN o.attnum = ANY (left_over.ours) THEN 'No fix: its org column is compared with another one too. Decide what it is to compare, and make it anew.'
                    WHEN k.confupdtype IN ('n', 'd') THEN 'No fix: ON UPDATE SET NULL or SET DEFAULT would take the org too. Decide what an update is to do, and make it anew with the org.'
                    WHEN r.compared_as <> o.compared_as THEN 'No fix: the two org columns are of types that cannot be compared. Give them one, and make it anew with the org.'
                    WHEN to_jsonb(k) ->> 'conperiod' = 'true' THEN 'No fix: it is over a period. Make it anew with the org.' END AS stuck
          FROM pg_constraint k JOIN audited r ON r.relation = k.confrelid JOIN pg_class ours ON ours.oid = k.conrelid JOIN pg_roles w ON w.oid = ours.relowner JOIN pg_namespace s ON s.oid = r.relnamespace
          LEFT JOIN audited o ON o.relation = k.conrelid
         CROSS JOIN LATERAL (
             SELECT array_agg(a ORDER BY n) AS ours, array_agg(b ORDER BY n) AS theirs, count(*) AS n FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(a, b, n) WHERE b <> r.attnum) left_over
         WHERE k.contype = 'f' AND k.conparentid = 0 AND left_over.n > 0
           AND NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS u(a, b) WHERE b = r.attnum AND (o.attnum IS NULL OR a = o.attnum))),
    named AS MATERIALIZED (
        SELECT k.*, CASE WHEN EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = k.relnamespace AND c.relname = n.key_name) THEN n.key_name || '_org' ELSE n.key_name END AS key_name
          FROM key k
         CROSS JOIN LATERAL (SELECT left(concat_ws('_', k.relname, k.their_org, string_agg(t.attname, '_' ORDER BY u.n), 'key'), 40) AS key_name
                               FROM unnest(k.theirs) WITH ORDINALITY AS u(num, n) JOIN pg_attribute t ON t.attrelid = k.confrelid AND t.attnum = u.num) n)
    SELECT 'foreign_key_without_org', 'fix', k.object,
           concat_ws(' ', CASE WHEN k.their_number = ANY (k.confkey) THEN 'It compares the org with another column than the org of its own table: it can point at another org''s row, and cascades across.'
                               ELSE 'It leaves the org out: it can point at another org''s row, tells whether that exists, and cascades across.' END,
                     CASE WHEN k.our_org IS NULL THEN 'Its table has no org column, and the fix drops it.' ELSE k.stuck END),
           CASE WHEN k.our_org IS NULL THEN crm_tree._altering(k.conrelid, format('DROP CONSTRAINT %I', k.conname))
                WHEN k.stuck IS NOT NULL THEN NULL
                ELSE
                  -- As who runs it: an index on columns alone runs nothing of the owner's. Another key may have made it.
                  CASE WHEN k.has_key THEN '' ELSE format('CREATE UNIQUE INDEX IF NOT EXISTS %I ON %s (%I, %s); ', k.key_name, k.referenced, k.their_org, crm_tree._columns(k.confrelid, k.theirs)) END
                  || CASE WHEN k.may_find THEN '' ELSE format('GRANT USAGE ON SCHEMA %s TO %s; ', k.their_schema, k.who) END
                  || CASE WHEN k.may_refer THEN '' ELSE format('GRANT REFERENCES ON %s TO %s; ', k.referenced, k.who) END
                  || crm_tree._altering(k.conrelid, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%I, %s) REFERENCES %s (%I, %s)%s%s%s%s',
                            k.conname, k.conname, k.our_org, crm_tree._columns(k.conrelid, k.ours), k.referenced, k.their_org, crm_tree._columns(k.confrelid, k.theirs),
                            ' ON UPDATE ' || CASE k.confupdtype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' END,
                            -- SET NULL without a list would take the org too.
                            ' ON DELETE ' || CASE k.confdeltype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN format('SET NULL (%s)', coalesce(k.set_columns, crm_tree._columns(k.conrelid, k.ours)))
                                                                WHEN 'd' THEN format('SET DEFAULT (%s)', coalesce(k.set_columns, crm_tree._columns(k.conrelid, k.ours))) END,
                            k.enforcing,
                            -- The org is never null: MATCH FULL would forbid every null beside it, which it did not.
                            CASE WHEN k.confmatchtype = 'f' AND k.n > 1 THEN format(', ADD CHECK (num_nulls(%s) IN (0, %s))', crm_tree._columns(k.conrelid, k.ours), k.n) END))
                  || CASE WHEN k.may_refer THEN '' ELSE format(' REVOKE REFERENCES ON %s FROM %s;', k.referenced, k.who) END
                  || CASE WHEN k.may_find THEN '' ELSE format(' REVOKE USAGE ON SCHEMA %s FROM %s;', k.their_schema, k.who) END
                  || coalesce(crm_tree._commenting(k.oid), '') END
      FROM named k
    UNION ALL
    SELECT CASE WHEN m.moves THEN 'org_key' ELSE 'foreign_key_acts' END, CASE WHEN m.moves THEN 'fix' ELSE 'accept' END, format('%s.%I', a.name, k.conname),
           format(CASE WHEN m.defaults THEN 'It sets the org to its default, which can be another''s, and the wall is not asked.'
                       WHEN m.moves THEN 'Who writes to %s, which has no wall, moves rows from org to org by it.'
                       ELSE 'Who writes to %s, which has no wall, changes or deletes rows of every org by it.' END, k.confrelid::regclass),
           crm_tree._altering(k.conrelid, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s)%s%s', k.conname, k.conname,
                     crm_tree._columns(k.conrelid, k.conkey), k.confrelid::regclass, crm_tree._columns(k.confrelid, k.confkey), CASE k.confmatchtype WHEN 'f' THEN ' MATCH FULL' END, crm_tree._enforcing(k)))
             || coalesce(crm_tree._commenting(k.oid), '')
      FROM audited a JOIN pg_constraint k ON k.conrelid = a.relation AND k.contype = 'f' AND k.conparentid = 0
      LEFT JOIN audited r ON r.relation = k.confrelid
     CROSS JOIN LATERAL (SELECT crm_tree._changes_column(k, a.attnum, '{c,n,d}'), crm_tree._changes_column(k, a.attnum, '{d}'), (a.attnum, r.attnum) IN (SELECT * FROM unnest(k.conkey, k.confkey))) AS m(moves, defaults, compared)
     WHERE CASE WHEN a.walled THEN m.defaults OR (k.confupdtype IN ('c', 'n', 'd') OR k.confdeltype IN ('c', 'n', 'd')) AND NOT coalesce(r.walled, false)
                ELSE m.moves AND (m.defaults OR NOT coalesce(m.compared, false)) END
    UNION ALL
    SELECT CASE WHEN i.indisexclusion THEN 'exclusion_without_org' ELSE 'unique_without_org' END, 'fix', format('%s.%I', w.name, c.relname),
           concat_ws(' ', CASE WHEN across.found THEN 'It compares orgs other than by equality, so that rows of one refuse those of another. The fix drops it: within one org it would say nothing.'
                               ELSE 'It leaves the org out, and answers "taken" for another org''s value, through ON CONFLICT too.' END, s.stuck),
           CASE WHEN s.stuck IS NOT NULL THEN NULL
                WHEN across.found THEN crm_tree._altering(w.relation, format('DROP CONSTRAINT %I', k.conname))
                -- The key that a foreign key is to point at takes its place, whether it is there already or not.
                WHEN again.key_name IS NOT NULL THEN
                    format('CREATE UNIQUE INDEX IF NOT EXISTS %I ON %s (%I, %s); ', again.key_name, w.name, w.org_column, crm_tree._columns(w.relation, e.keys))
                    || crm_tree._altering(w.relation, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I %s USING INDEX %I', k.conname, k.conname, CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, again.key_name), true)
                    || crm_tree._restoring(c.oid, k.oid)
                WHEN k.contype IN ('p', 'u') THEN
                    CASE WHEN i.indisexclusion THEN 'CREATE EXTENSION IF NOT EXISTS btree_gist; ' ELSE '' END
                    || crm_tree._altering(w.relation, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I %s (%I, %s%s)%s%s%s%s', k.conname, k.conname,
                              CASE WHEN k.contype = 'p' THEN 'PRIMARY KEY' WHEN i.indnullsnotdistinct THEN 'UNIQUE NULLS NOT DISTINCT' ELSE 'UNIQUE' END,
                              w.org_column, crm_tree._columns(w.relation, e.keys), CASE WHEN to_jsonb(k) ->> 'conperiod' = 'true' THEN ' WITHOUT OVERLAPS' END,
                              ' INCLUDE (' || crm_tree._columns(w.relation, e.included) || ')',
                              ' WITH (' || (SELECT string_agg(format('%I = %L', o.option_name, o.option_value), ', ') FROM pg_options_to_table(c.reloptions) o) || ')',
                              CASE WHEN k.condeferrable THEN ' DEFERRABLE' END, CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' END), true)
                    || crm_tree._restoring(c.oid, k.oid)
                WHEN i.indisexclusion THEN
                    CASE WHEN e.method = 'gist' THEN 'CREATE EXTENSION IF NOT EXISTS btree_gist; ' ELSE '' END
                    || crm_tree._altering(w.relation, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I EXCLUDE USING %I (%I WITH =, %s', k.conname, k.conname, e.method, w.org_column,
                              substr(pg_get_constraintdef(k.oid), length(e.head) + 1)), true)
                    || crm_tree._restoring(c.oid, k.oid)
                -- No pattern: any of the names may hold what it would look for.
                WHEN starts_with(pg_get_indexdef(c.oid), d.head) THEN
                    format('DROP INDEX %s; ', c.oid::regclass) || d.makes || format('%I, ', w.org_column) || substr(pg_get_indexdef(c.oid), length(d.head) + 1) || ';'
                    || crm_tree._restoring(c.oid, NULL) END
      FROM audited w JOIN pg_index i ON i.indrelid = w.relation JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
      LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
     -- ONLY would leave the index of a partitioned table without its partitions', and invalid.
     CROSS JOIN LATERAL (
         SELECT format('CREATE UNIQUE INDEX %I ON %s%I.%I USING %I (', c.relname, CASE c.relkind WHEN 'I' THEN 'ONLY ' ELSE '' END, n.nspname, t.relname, m.amname) AS head,
                format('CREATE UNIQUE INDEX %I ON %I.%I USING %I (', c.relname, n.nspname, t.relname, m.amname) AS makes
           FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE t.oid = w.relation) d
     CROSS JOIN LATERAL (
         -- These two take one column alone.
         SELECT CASE m.amname WHEN 'hash' THEN 'btree' WHEN 'spgist' THEN 'gist' ELSE m.amname END AS method, format('EXCLUDE USING %I (', m.amname) AS head,
                (i.indkey::int2[])[0:i.indnkeyatts - 1] AS keys, array_remove((i.indkey::int2[])[i.indnkeyatts:], w.attnum) AS included) e
     -- Is the org among the columns that are compared, and how?
     CROSS JOIN LATERAL (
         SELECT coalesce(bool_or(true), false) AS found,
                coalesce(bool_or(k.conexclop IS NULL OR EXISTS (SELECT FROM pg_amop o JOIN pg_am b ON b.oid = o.amopmethod WHERE o.amopopr = k.conexclop[n] AND b.amname = 'btree' AND o.amopstrategy = 3)), false) AS equal
           FROM unnest(e.keys) WITH ORDINALITY AS u(c, n) WHERE c = w.attnum) across
     CROSS JOIN LATERAL (
         SELECT coalesce(
             (SELECT format('No fix: the foreign key %s.%I points at it, and has none itself.', f.conrelid::regclass, f.conname) FROM key f WHERE f.conindid = c.oid AND f.stuck IS NOT NULL AND f.our_org IS NOT NULL LIMIT 1),
             (SELECT format('No fix: %s needs it. Drop that, make it anew with the org, and that again.', min(pg_describe_object(p.classid, p.objid, 0)))
                FROM pg_depend p WHERE p.refclassid = 'pg_constraint'::regclass AND p.refobjid = k.oid AND p.deptype = 'n' AND p.classid <> 'pg_constraint'::regclass HAVING count(*) > 0),
             (SELECT format('No fix: it is the replica identity of the partition %s. Make it anew with the org, and that too.', min(p.indrelid::regclass::text))
                FROM pg_partition_tree(c.oid) t JOIN pg_index p ON p.indexrelid = t.relid WHERE p.indisreplident AND p.indexrelid <> c.oid AND c.relkind = 'I' HAVING count(*) > 0)) AS stuck) s
      LEFT JOIN LATERAL (
          SELECT f.key_name FROM named f
           WHERE f.confrelid = w.relation AND f.theirs = e.keys AND NOT f.has_key AND f.stuck IS NULL AND f.our_org IS NOT NULL
             AND k.contype IN ('p', 'u') AND c.relkind = 'i' AND NOT k.condeferrable AND NOT i.indnullsnotdistinct AND NOT i.indisexclusion AND i.indnatts = i.indnkeyatts AND c.reloptions IS NULL
           LIMIT 1) again ON true
     WHERE (i.indisunique OR i.indisexclusion) AND NOT across.equal AND NOT c.relispartition
    UNION ALL
    -- Of a table's columns pg_stats shows nothing to whom row security applies; it does not know of indexes.
    SELECT 'expression_statistics', 'info', c.oid::regclass::text,
           'ANALYZE keeps values of its expression, of every org, where the table''s owner and pg_read_all_data read them.',
           -- Not while the fix of its key is to make another index, with the columns counted otherwise.
           CASE WHEN NOT (i.indisunique OR i.indisexclusion) OR w.attnum = ANY (i.indkey::int2[]) THEN
               string_agg(format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0; ', c.oid::regclass, t.attnum), '' ORDER BY t.attnum)
                 || format('DELETE FROM pg_catalog.pg_statistic WHERE starelid = %s;', c.oid) END
      FROM audited w JOIN pg_index i ON i.indrelid = w.relation JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
      JOIN pg_attribute t ON t.attrelid = c.oid AND i.indkey[t.attnum - 1] = 0
     WHERE i.indexprs IS NOT NULL AND coalesce(t.attstattarget, -1) <> 0 AND (w.walled OR w.rls)
     GROUP BY c.oid, i.indisunique, i.indisexclusion, i.indkey::int2[], w.attnum
    UNION ALL
    SELECT 'sequence_readable', 'fix', format('%s to %s', s.oid::regclass, h.name), format('%s may read or set it, and so learn how much other orgs write.', h.name),
           string_agg(DISTINCT crm_tree._revoking(x.privilege_type, NULL, format('SEQUENCE %s', s.oid::regclass), s.relowner, x.grantee, x.grantor, s.relacl), ' ')
      FROM (SELECT d.objid FROM audited w JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = w.relation AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
            UNION
            -- One that a default draws from need not be the column's own.
            SELECT d.refobjid FROM audited w JOIN pg_attrdef f ON f.adrelid = w.relation
              JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass) AS drawn(oid)
      JOIN pg_class s ON s.oid = drawn.oid AND s.relkind = 'S' CROSS JOIN LATERAL aclexplode(s.relacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
     CROSS JOIN LATERAL (SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS name) h
     WHERE x.privilege_type IN ('SELECT', 'UPDATE') AND x.grantee <> s.relowner AND NOT coalesce(r.rolsuper, false)
     GROUP BY s.oid, h.name
$$;
COMMENT ON FUNCTION crm_tree._audit_keys() IS 'Private: findings about keys and sequences.';

-- Rights -----------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_grants() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH audited AS MATERIALIZED (SELECT a.* FROM crm_tree._audited_tables() a WHERE (a.walled OR a.org_column IS NOT NULL) AND a.kind <> 'f'),
    holder AS (SELECT oid, quote_ident(rolname) AS name, rolsuper FROM pg_roles UNION ALL SELECT 0, 'PUBLIC', false),
    given AS (
        SELECT a.name, a.owner, NULL AS columns, c.relacl AS acl, x.* FROM audited a JOIN pg_class c ON c.oid = a.relation CROSS JOIN LATERAL aclexplode(c.relacl) x
        UNION ALL
        SELECT a.name, a.owner, format(' (%I)', t.attname), t.attacl, x.* FROM audited a JOIN pg_attribute t ON t.attrelid = a.relation CROSS JOIN LATERAL aclexplode(t.attacl) x)
    SELECT 'grant_' || lower(g.privilege_type), 'fix', format('%s to %s', g.name, h.name),
           CASE g.privilege_type
               WHEN 'TRUNCATE' THEN format('%s may TRUNCATE it, which ignores row security and empties every org.', h.name)
               WHEN 'REFERENCES' THEN format('%s may point foreign keys at it, which tell which keys other orgs have.', h.name)
               ELSE format('%s may put triggers on it, which see every row that others write.', h.name) END,
           -- Taken from the whole table, it is taken from its columns too.
           string_agg(DISTINCT crm_tree._revoking(g.privilege_type, CASE WHEN g.grantor <> g.owner THEN g.columns END, 'TABLE ' || g.name, g.owner, g.grantee, g.grantor, g.acl), ' ')
      FROM given g JOIN holder h ON h.oid = g.grantee
     WHERE g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER') AND g.grantee <> g.owner AND NOT h.rolsuper
     GROUP BY g.privilege_type, g.name, h.name
    UNION ALL
    SELECT DISTINCT 'default_privileges', 'fix', o.name || coalesce(' in ' || quote_ident(n.nspname), '') || ' to ' || h.name,
           format('Every table that %s makes is handed to %s before it has a wall.', o.name, h.name),
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s REVOKE ALL ON TABLES FROM %s;', o.name, coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), h.name)
      FROM pg_default_acl d JOIN holder o ON o.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
     CROSS JOIN LATERAL aclexplode(d.defaclacl) x JOIN holder h ON h.oid = x.grantee
     WHERE d.defaclobjtype = 'r' AND x.grantee <> d.defaclrole AND NOT h.rolsuper
    UNION ALL
    SELECT 'schema_create', 'fix', quote_ident(n.nspname) || CASE WHEN x.grantee <> 0 THEN ' to ' || h.name ELSE '' END,
           CASE WHEN n.nspname = 'crm_tree' THEN 'What is made in it is found in place of the extension''s own, and runs as its owner.'
                ELSE 'Everybody may create functions and tables in it, and have them found in place of others''.' END,
           string_agg(crm_tree._revoking('CREATE', NULL, format('SCHEMA %I', n.nspname), n.nspowner, x.grantee, x.grantor, n.nspacl), ' ')
      FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) x JOIN holder h ON h.oid = x.grantee
     WHERE x.privilege_type = 'CREATE' AND (x.grantee = 0 OR n.nspname = 'crm_tree' AND x.grantee <> n.nspowner AND NOT h.rolsuper)
     GROUP BY n.nspname, x.grantee, h.name
    UNION ALL
    -- What the extension has not handed out itself.
    SELECT 'extension_grant', 'fix', r.kind || ' of crm_tree to ' || r.holder,
           CASE r.kind WHEN 'tables' THEN 'A trigger there runs with the rights of the extension''s owner, and who may empty or read them lowers walls and forges tokens: '
                       ELSE 'They are the extension''s own, and check nothing: ' END || string_agg(r.names, ', ' ORDER BY r.names) || '.',
           string_agg(coalesce(r.others, format('REVOKE %s ON %s %s FROM %s CASCADE;', r.rights, r.target, r.names, r.holder)), ' ' ORDER BY r.rights, r.names)
      FROM (SELECT o.kind, o.target, o.holder, o.rights, o.others, string_agg(DISTINCT o.name, ', ') AS names
              FROM (SELECT g.kind, g.target, g.name, h.name AS holder, string_agg(g.privilege_type || coalesce(g.columns, ''), ', ' ORDER BY g.columns, g.privilege_type) AS rights,
                           CASE WHEN bool_or(g.grantor <> g.owner) THEN
                               string_agg(crm_tree._revoking(g.privilege_type, g.columns, g.target || ' ' || g.name, g.owner, g.grantee, g.grantor, g.acl), ' ') END AS others
                      FROM (SELECT 'tables' AS kind, 'TABLE' AS target, c.oid::regclass::text AS name, c.relowner AS owner, a.columns, a.acl, NULL::aclitem[] AS at_first, x.*
                              FROM pg_class c
                             CROSS JOIN LATERAL (
                                 SELECT NULL AS columns, c.relacl AS acl
                                 UNION ALL
                                 SELECT format(' (%I)', t.attname), t.attacl FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL) AS a
                             CROSS JOIN LATERAL aclexplode(a.acl) x
                             WHERE c.relnamespace = 'crm_tree'::regnamespace
                            UNION ALL
                            SELECT 'functions', 'ROUTINE', p.oid::regprocedure::text, p.proowner, NULL, p.proacl,
                                   coalesce((SELECT i.initprivs FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid), acldefault('f', p.proowner)), x.*
                              FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) x
                             WHERE p.pronamespace = 'crm_tree'::regnamespace AND starts_with(p.proname, '_')) g
                      JOIN holder h ON h.oid = g.grantee
                     WHERE g.grantee <> g.owner AND NOT h.rolsuper
                       AND (g.kind = 'functions' OR g.privilege_type <> 'SELECT' OR g.name = 'crm_tree.signing_key')
                       -- The script itself gives to these two alone, whatever an event trigger added while it ran, and of tables only to read them.
                       AND NOT (g.kind = 'functions' AND g.grantee IN (0, 'pg_monitor'::regrole)
                                AND EXISTS (SELECT FROM aclexplode(g.at_first) y WHERE y.grantee = g.grantee AND y.privilege_type = g.privilege_type))
                     GROUP BY g.kind, g.target, g.name, h.name) AS o
             GROUP BY o.kind, o.target, o.holder, o.rights, o.others) AS r
     GROUP BY r.kind, r.holder
    UNION ALL
    SELECT 'extension_object', 'fix', o.name,
           CASE WHEN o.is_ours THEN format('It is the extension''s own and belongs to %s, who can change what runs with the rights of the extension''s owner.', h.name)
                ELSE 'It is not the extension''s own, and is found in place of what is. The fix moves it into the schema public.' END,
           format('ALTER %s %s %s;', o.kind, o.name, CASE WHEN o.is_ours THEN format('OWNER TO %s', e.name) ELSE 'SET SCHEMA public' END)
      FROM (SELECT x.oid, x.extowner, w.name FROM pg_extension x JOIN holder w ON w.oid = x.extowner WHERE x.extname = 'crm_tree') AS e
     CROSS JOIN LATERAL (
         SELECT m.*, m.kind = 'SCHEMA' OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = m.class AND d.objid = m.object AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e') AS is_ours
           FROM (SELECT 'pg_class'::regclass AS class, c.oid AS object, 'TABLE' AS kind, c.oid::regclass::text AS name, c.relowner AS owner
                   FROM pg_class c WHERE c.relnamespace = 'crm_tree'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                 UNION ALL
                 -- What is a column's goes with its table.
                 SELECT 'pg_class', c.oid, 'SEQUENCE', c.oid::regclass::text, c.relowner
                   FROM pg_class c WHERE c.relnamespace = 'crm_tree'::regnamespace AND c.relkind = 'S'
                    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)
                 UNION ALL
                 SELECT 'pg_operator', o.oid, 'OPERATOR', o.oid::regoperator::text, o.oprowner FROM pg_operator o WHERE o.oprnamespace = 'crm_tree'::regnamespace
                 UNION ALL
                 SELECT 'pg_proc', p.oid, 'ROUTINE', p.oid::regprocedure::text, p.proowner FROM pg_proc p WHERE p.pronamespace = 'crm_tree'::regnamespace
                 UNION ALL
                 SELECT 'pg_type', t.oid, 'TYPE', t.oid::regtype::text, t.typowner FROM pg_type t WHERE t.typnamespace = 'crm_tree'::regnamespace
                    AND (t.typtype IN ('d', 'e', 'b', 'r') AND t.typelem = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
                 UNION ALL
                 SELECT 'pg_namespace', n.oid, 'SCHEMA', quote_ident(n.nspname), n.nspowner FROM pg_namespace n WHERE n.nspname = 'crm_tree') AS m) AS o
      JOIN holder h ON h.oid = o.owner
     -- What another extension has put there is that one's.
     WHERE NOT o.is_ours AND NOT crm_tree._is_packaged(o.class, o.object)
        OR o.is_ours AND o.owner <> e.extowner AND NOT h.rolsuper
    UNION ALL
    SELECT 'domain_of_another', 'fix', a.name || '.' || quote_ident(t.attname),
           format('%s: a check sees the column''s values of every org.', string_agg(DISTINCT d.why, ', '))
             || ' The fix' || concat_ws(', and', CASE WHEN bool_or(d.gives IS NOT NULL) THEN ' gives the domain away' END, CASE WHEN bool_or(d.checks IS NOT NULL) THEN ' drops the check' END) || '.',
           string_agg(concat_ws(' ', d.checks, d.gives), ' ')
      FROM audited a JOIN pg_attribute t ON t.attrelid = a.relation AND t.attinhcount = 0 AND NOT t.attisdropped
     CROSS JOIN LATERAL (
         -- Of an array, a row type or a range: what those are made of.
         WITH RECURSIVE made_of(type) AS (
             SELECT t.atttypid
             UNION
             SELECT m.oid FROM made_of JOIN pg_type y ON y.oid = made_of.type
              CROSS JOIN LATERAL (
                  SELECT y.typbasetype UNION ALL SELECT y.typelem
                  UNION ALL SELECT u.atttypid FROM pg_attribute u WHERE u.attrelid = y.typrelid AND u.attnum > 0 AND NOT u.attisdropped
                  UNION ALL SELECT CASE g.rngtypid WHEN y.oid THEN g.rngsubtype ELSE g.rngtypid END FROM pg_range g WHERE y.oid IN (g.rngtypid, g.rngmultitypid)) AS m(oid)
              WHERE m.oid <> 0),
         chain AS MATERIALIZED (SELECT y.oid AS domain, y.typowner AS owner FROM made_of JOIN pg_type y ON y.oid = made_of.type WHERE y.typtype = 'd')
         SELECT c.domain, g.gives, k.checks, concat_ws(', ', CASE WHEN g.gives IS NOT NULL THEN format('%s owns its domain %s', h.name, c.domain::regtype) END, k.why) AS why
           FROM chain c JOIN holder h ON h.oid = c.owner
          CROSS JOIN LATERAL (
              -- Where it is inside of another type, or tables of several owners have it, to the superuser that the cluster was made with: a check of one would see the others' values.
              SELECT CASE WHEN c.owner <> a.owner AND NOT crm_tree._passes_walls(c.owner) THEN
                         format('ALTER DOMAIN %s OWNER TO %s;', c.domain::regtype,
                                (SELECT o.name FROM holder o WHERE o.oid = CASE WHEN t.atttypid NOT IN (SELECT domain FROM chain) OR EXISTS (
                                     SELECT FROM pg_attribute u JOIN pg_class b ON b.oid = u.attrelid
                                      WHERE u.atttypid IN (SELECT domain FROM chain) AND b.relowner <> a.owner AND NOT crm_tree._passes_walls(b.relowner)) THEN 10 ELSE a.owner END)) END AS gives) g
          CROSS JOIN LATERAL (
              -- A function in a check is its owner's, whoever the domain belongs to.
              SELECT string_agg(DISTINCT format('ALTER DOMAIN %s DROP CONSTRAINT %I;', c.domain::regtype, k.conname), ' ') AS checks, string_agg(DISTINCT format('its check %s calls %s of another role', quote_ident(k.conname), p.oid::regprocedure), ', ') AS why
                FROM pg_constraint k JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass JOIN pg_proc p ON p.oid = d.refobjid
               WHERE k.contypid = c.domain AND p.proowner <> a.owner AND NOT crm_tree._passes_walls(p.proowner)) k
          WHERE g.gives IS NOT NULL OR k.checks IS NOT NULL) d
     WHERE a.walled
     GROUP BY a.name, t.attname, t.atttypid
    UNION ALL
    SELECT 'code_of_another', CASE WHEN p.prosecdef THEN 'accept' ELSE 'fix' END, p.oid::regprocedure::text,
           format('It belongs to %s, who can change it, and %s calls it, with the rights and the org of whoever comes there.', h.name, string_agg(DISTINCT e.name || ' of ' || c.name, ', ')),
           -- It would lend the new owner's rights.
           CASE WHEN NOT p.prosecdef THEN
               format('ALTER ROUTINE %s OWNER TO %s;', p.oid::regprocedure, (SELECT o.name FROM holder o WHERE o.oid = CASE WHEN count(DISTINCT c.owner) > 1 THEN 10 ELSE min(c.owner::bigint)::oid END)) END
      FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner AND NOT r.rolsuper AND NOT r.rolbypassrls JOIN holder h ON h.oid = r.oid
     CROSS JOIN LATERAL (
         SELECT d.classid, d.objid FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
         UNION ALL SELECT d.classid, d.objid FROM pg_operator o JOIN pg_depend d ON d.refclassid = 'pg_operator'::regclass AND d.refobjid = o.oid WHERE o.oprcode = p.oid) AS d
     CROSS JOIN LATERAL (
         SELECT k.conrelid, 'check ' || quote_ident(k.conname) FROM pg_constraint k WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
         UNION ALL SELECT f.adrelid, 'column ' || quote_ident(t.attname) FROM pg_attrdef f JOIN pg_attribute t ON t.attrelid = f.adrelid AND t.attnum = f.adnum WHERE d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
         UNION ALL SELECT i.indrelid, 'index ' || i.indexrelid::regclass FROM pg_index i WHERE d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
         UNION ALL SELECT d.objid, 'partition key' WHERE d.classid = 'pg_class'::regclass
         UNION ALL SELECT g.tgrelid, 'trigger ' || quote_ident(g.tgname) FROM pg_trigger g WHERE d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
         UNION ALL SELECT y.polrelid, 'policy ' || quote_ident(y.polname) FROM pg_policy y WHERE d.classid = 'pg_policy'::regclass AND y.oid = d.objid
         UNION ALL SELECT x.stxrelid, 'statistics ' || quote_ident(x.stxname) FROM pg_statistic_ext x WHERE d.classid = 'pg_statistic_ext'::regclass AND x.oid = d.objid) AS e(relation, name)
      JOIN audited c ON c.relation = e.relation
     WHERE c.walled AND p.proowner <> c.owner
     GROUP BY p.oid, p.prosecdef, h.name
    UNION ALL
    SELECT 'temp_tables', 'accept', quote_ident(d.datname) || ' for ' || h.name,
           'A temporary table of a pooled connection outlives the binding that filled it, and can stand in front of a protected one.',
           string_agg(crm_tree._revoking('TEMPORARY', NULL, format('DATABASE %I', d.datname), d.datdba, x.grantee, x.grantor, d.datacl), ' ')
      FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x JOIN holder h ON h.oid = x.grantee
     WHERE d.datname = current_database() AND x.privilege_type = 'TEMPORARY' AND x.grantee <> d.datdba AND NOT h.rolsuper
     GROUP BY d.datname, h.name
    UNION ALL
    SELECT 'publication', 'accept', quote_ident(p.pubname), format('Its subscribers receive every org of %s.', t.tables),
           CASE WHEN p.puballtables THEN format('DROP PUBLICATION %I;', p.pubname)
                ELSE concat_ws(' ', format('ALTER PUBLICATION %I DROP ', p.pubname) || 'TABLES IN SCHEMA ' || t.schemas || ';', format('ALTER PUBLICATION %I DROP ', p.pubname) || 'TABLE ' || t.named || ';') END
      FROM pg_publication p
     CROSS JOIN LATERAL (
         SELECT string_agg(a.name, ', ' ORDER BY a.name) AS tables, string_agg(a.name, ', ' ORDER BY a.name) FILTER (WHERE r.oid IS NOT NULL) AS named,
                string_agg(DISTINCT quote_ident(n.nspname), ', ') FILTER (WHERE s.oid IS NOT NULL) AS schemas
           FROM audited a JOIN pg_class c ON c.oid = a.relation JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = a.relation
           LEFT JOIN pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = c.relnamespace
          WHERE p.puballtables OR r.oid IS NOT NULL OR s.oid IS NOT NULL) t
     WHERE t.tables IS NOT NULL
    UNION ALL
    SELECT 'grant_of_nobody', 'fix', format('%s to %s', g.org, quote_ident(g.role_name)),
           'The role that was granted this org is gone or has another name; the grant counts for nobody.',
           format('DELETE FROM crm_tree.org_grant WHERE org = %L AND role = %s;', g.org, g.role::oid)
      FROM crm_tree.org_grant g WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = g.role AND r.rolname = g.role_name)
    UNION ALL
    SELECT 'grant_of_every_org', 'accept', quote_ident(g.role_name), 'It may bind any org: a stacked COMMIT and bind_org() gets whichever an attacker names.',
           format('SELECT crm_tree.revoke_org(%L, ''*'');', g.role_name)
      FROM crm_tree.org_grant g JOIN pg_roles r ON r.oid = g.role AND r.rolname = g.role_name WHERE g.org = '*'
    UNION ALL
    SELECT 'wall_administrator', 'accept', h.name, 'It may take down the walls of the tables it owns.', string_agg(crm_tree._revoking('EXECUTE', NULL, 'FUNCTION crm_tree.unprotect(regclass)', p.proowner, x.grantee, x.grantor, p.proacl), ' ')
      FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) x JOIN holder h ON h.oid = x.grantee
     WHERE p.oid = 'crm_tree.unprotect(regclass)'::regprocedure AND x.grantee <> p.proowner AND NOT h.rolsuper
     GROUP BY h.name
    UNION ALL
    SELECT a.code, 'accept', format('%s by %s', h.name, p.oid::regprocedure), a.detail,
           string_agg(crm_tree._revoking('EXECUTE', NULL, format('FUNCTION %s', p.oid::regprocedure), p.proowner, x.grantee, x.grantor, p.proacl), ' ')
      FROM pg_proc p
     CROSS JOIN LATERAL (
         SELECT CASE WHEN p.proname IN ('grant_org', 'revoke_org', 'add_signing_key', 'retire_signing_key', 'grant_service_door', 'revoke_service_door') THEN 'org_administrator'
                     WHEN p.proname IN ('accept_finding', 'withdraw_finding', 'reset_stat_walls') THEN 'audit_administrator'
                     WHEN p.proname IN ('watch_schema', 'unwatch_schema') THEN 'watch_administrator'
                     ELSE 'extension_administrator' END) AS n(code)
     CROSS JOIN LATERAL (
         SELECT n.code, CASE n.code WHEN 'org_administrator' THEN 'It decides who may bind which org, or see all of them.'
                                    WHEN 'audit_administrator' THEN 'It decides what the audit leaves out, or what was counted.'
                                    WHEN 'watch_administrator' THEN 'It decides in which schemas a table without a wall is seen when it is made.'
                                    ELSE 'The extension gives that to superusers alone.' END) AS a(code, detail)
     CROSS JOIN LATERAL aclexplode(p.proacl) x JOIN holder h ON h.oid = x.grantee
     WHERE p.pronamespace = 'crm_tree'::regnamespace AND NOT starts_with(p.proname, '_') AND p.oid <> 'crm_tree.unprotect(regclass)'::regprocedure AND x.grantee <> p.proowner AND NOT h.rolsuper
       AND NOT EXISTS (SELECT FROM aclexplode(coalesce((SELECT i.initprivs FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid), acldefault('f', p.proowner))) y
                        WHERE y.grantee IN (0, x.grantee))
     GROUP BY a.code, a.detail, h.name, p.oid
    UNION ALL
    SELECT 'catalog_grant', CASE WHEN c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject') THEN 'fix' ELSE 'accept' END, format('%s to %s', c.oid::regclass, h.name),
           format(CASE WHEN c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject') THEN 'It holds values of every org, and %s has rights on it that the server gives to superusers alone.'
                       ELSE '%s has rights on the catalog that the server gives to superusers alone.' END, h.name),
           string_agg(crm_tree._revoking(x.privilege_type, NULL, format('TABLE %s', c.oid::regclass), c.relowner, x.grantee, x.grantor, c.relacl), ' ')
      FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x JOIN holder h ON h.oid = x.grantee
     WHERE c.relnamespace = 'pg_catalog'::regnamespace AND x.grantee <> c.relowner AND NOT h.rolsuper
       AND NOT EXISTS (SELECT FROM pg_init_privs i CROSS JOIN LATERAL aclexplode(i.initprivs) y
                        WHERE i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0 AND y.grantee = x.grantee AND y.privilege_type = x.privilege_type)
     GROUP BY c.oid, c.relname, h.name
    UNION ALL
    SELECT 'service_door', 'accept', quote_ident(g.role_name), 'It may read every org through the service door, where it is logged.', format('SELECT crm_tree.revoke_service_door(%L);', g.role_name)
      FROM crm_tree.door_grant g JOIN pg_roles r ON r.oid = g.role AND r.rolname = g.role_name
$$;
COMMENT ON FUNCTION crm_tree._audit_grants() IS 'Private: findings about rights on tables, schemas and orgs, and on the types of columns.';

-- Roles and settings -----------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_roles() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH role AS (SELECT r.*, quote_ident(r.rolname) AS name FROM pg_roles r),
    member AS (
        SELECT m.roleid, m.member, g.name AS granted, g.rolname AS granted_role, r.name, r.rolsuper, format('%s to %s', g.name, r.name) AS object,
               -- From 16 on each grantor's is another; before, nobody asks who it was.
               string_agg(format('REVOKE %s FROM %s%s CASCADE;', g.name, r.name, ' GRANTED BY ' || b.name), ' ' ORDER BY b.name) AS fix
          FROM pg_auth_members m JOIN role g ON g.oid = m.roleid JOIN role r ON r.oid = m.member LEFT JOIN role b ON b.oid = m.grantor AND b.oid <> 10
         GROUP BY m.roleid, m.member, g.name, g.rolname, r.name, r.rolsuper)
    -- The role the cluster was made with cannot be demoted.
    SELECT 'superuser', CASE WHEN r.oid = 10 THEN 'info' ELSE 'accept' END, r.name, 'A superuser is under no row security.',
           CASE WHEN r.oid <> 10 THEN format('ALTER ROLE %s NOSUPERUSER;', r.name) END
      FROM role r WHERE r.rolsuper
    UNION ALL
    SELECT 'bypassrls', 'accept', r.name, 'BYPASSRLS: it is under no row security.', format('ALTER ROLE %s NOBYPASSRLS;', r.name)
      FROM role r
     WHERE r.rolbypassrls AND NOT r.rolsuper
       -- The service door's own: nobody can become it.
       AND NOT (r.rolname = 'crm_tree_service' AND NOT r.rolcanlogin AND NOT EXISTS (SELECT FROM member m WHERE m.roleid = r.oid))
    UNION ALL
    SELECT 'member_of_bypass', 'fix', m.object, format('It may SET ROLE %s, which is under no row security.', m.granted), m.fix
      FROM member m WHERE crm_tree._passes_walls(m.roleid) AND NOT crm_tree._passes_walls(m.member)
    UNION ALL
    SELECT 'server_files', 'fix', m.object, format('Through %s it reads or runs files as the server, and so the tables'' own.', m.granted), m.fix
      FROM member m WHERE m.granted_role IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program') AND NOT m.rolsuper
    UNION ALL
    SELECT 'server_files', 'fix', format('%s to %s', p.oid::regprocedure, h.name), format('%s may call it, and so reads or writes files as the server, or connects as it without a password.', h.name),
           string_agg(DISTINCT crm_tree._revoking('EXECUTE', NULL, format('FUNCTION %s', p.oid::regprocedure), p.proowner, x.grantee, x.grantor, p.proacl), ' ')
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     CROSS JOIN LATERAL aclexplode(p.proacl) x
     CROSS JOIN LATERAL (SELECT 'PUBLIC' AS name, 0 AS passes WHERE x.grantee = 0 UNION ALL SELECT r.name, (r.rolsuper OR r.rolname ~ '^pg_')::int FROM role r WHERE r.oid = x.grantee) h
     WHERE x.grantee <> p.proowner AND h.passes = 0 AND x.privilege_type = 'EXECUTE'
       AND (n.nspname = 'pg_catalog' AND p.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'lo_import', 'lo_export', 'pg_file_read', 'pg_file_write', 'pg_file_rename', 'pg_file_unlink')
            OR p.proname = 'dblink_connect_u')
     GROUP BY p.oid, h.name
    UNION ALL
    SELECT 'user_mapping', 'accept', format('%s on %s', u.name, quote_ident(v.srvname)), format('%s works on that server in another''s name and without a password: where it is this one, that role''s rights are lent.', u.name),
           format('ALTER USER MAPPING FOR %s SERVER %I OPTIONS (SET password_required ''true'');', u.name, v.srvname)
      FROM pg_user_mapping m JOIN pg_foreign_server v ON v.oid = m.umserver
     CROSS JOIN LATERAL (SELECT 'PUBLIC' AS name WHERE m.umuser = 0 UNION ALL SELECT r.name FROM role r WHERE r.oid = m.umuser AND NOT r.rolsuper) u
     WHERE EXISTS (SELECT FROM pg_options_to_table(m.umoptions) o WHERE o.option_name = 'password_required' AND o.option_value ~* '^(f|false|off|no|0)')
    UNION ALL
    SELECT 'all_data', 'accept', m.object, format('%s gives it rights on every table, those without a wall and new ones included.', m.granted), m.fix
      FROM member m WHERE m.granted_role IN ('pg_read_all_data', 'pg_write_all_data') AND NOT m.rolsuper
    UNION ALL
    SELECT 'replication', 'accept', r.name, 'REPLICATION: it can stream the whole cluster.', format('ALTER ROLE %s NOREPLICATION;', r.name)
      FROM role r WHERE r.rolreplication AND NOT r.rolsuper
    UNION ALL
    SELECT 'createrole', 'accept', r.name, 'CREATEROLE: it can make itself a member of other roles, owners of tables among them.', format('ALTER ROLE %s NOCREATEROLE;', r.name)
      FROM role r WHERE r.rolcreaterole AND NOT r.rolsuper
    UNION ALL
    SELECT 'owner_login', 'accept', r.name, 'It owns protected tables and can log in, or has members that can: its DDL reaches past what policies say.',
           CASE WHEN r.rolcanlogin THEN format('ALTER ROLE %s NOLOGIN;', r.name) END
      FROM role r
     WHERE NOT r.rolsuper AND (r.rolcanlogin OR EXISTS (SELECT FROM role l WHERE l.rolcanlogin AND NOT l.rolsuper AND pg_has_role(l.oid, r.oid, 'MEMBER')))
       AND EXISTS (SELECT FROM crm_tree._audited_tables() a WHERE a.walled AND a.owner = r.oid)
$$;
COMMENT ON FUNCTION crm_tree._audit_roles() IS 'Private: findings about roles.';

CREATE FUNCTION crm_tree._audit_settings() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    -- Settings that walls hang on: ours, those that switch triggers off, and those that policies ask, by themselves or in a function. Written in any
    -- case. Anybody can have a policy that asks what he likes: the server's own are not taken from there, nor is anything to be mended for a stranger's.
    WITH trusted AS MATERIALIZED (SELECT a.owner FROM crm_tree._audited_tables() a WHERE a.walled),
    said AS (
        SELECT c.relowner, concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        UNION ALL
        SELECT c.relowner, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc)
          FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
          JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass JOIN pg_proc f ON f.oid = d.refobjid),
    asked AS MATERIALIZED (
        SELECT y.name, CASE WHEN bool_or(crm_tree._passes_walls(y.relowner) OR y.relowner IN (SELECT owner FROM trusted)) THEN 'fix' ELSE 'accept' END AS severity
          FROM (SELECT relowner, lower((regexp_matches(said.text, 'current_setting\s*\(\s*''([^'']*)''', 'gi'))[1]) AS name FROM said) y
         WHERE strpos(y.name, '.') > 0 AND y.name NOT IN (SELECT lower(g.name) FROM pg_settings g) GROUP BY y.name
        UNION ALL VALUES ('crm_tree.org', 'fix'), ('crm_tree.user_id', 'fix'), ('crm_tree.guard', 'fix'), ('session_replication_role', 'fix'), ('event_triggers', 'fix'), ('allow_system_table_mods', 'fix')),
    kept AS MATERIALIZED (
        SELECT s.setdatabase, s.setrole, split_part(line, '=', 1) AS name, substr(line, strpos(line, '=') + 1) AS value, d.datname, r.rolname,
               concat_ws(' in ', quote_ident(r.rolname), quote_ident(d.datname)) AS place,
               CASE WHEN s.setrole <> 0 THEN format('ALTER ROLE %I%s', r.rolname, ' IN DATABASE ' || quote_ident(d.datname))
                    WHEN s.setdatabase = 0 THEN 'ALTER ROLE ALL' ELSE format('ALTER DATABASE %I', d.datname) END AS alters
          FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS line LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
         WHERE s.setdatabase = 0 OR d.datname = current_database()),
    -- What every session loads: the narrowest place decides, and what a place has it has instead of the others'.
    loaded AS (
        SELECT coalesce((SELECT k.value FROM kept k WHERE k.name = 'session_preload_libraries' AND k.setrole = 0 ORDER BY k.setdatabase = 0 LIMIT 1),
                        (SELECT g.reset_val FROM pg_settings g WHERE g.name = 'session_preload_libraries' AND g.source NOT IN ('user', 'database user')), '') AS libraries,
               coalesce(current_setting('shared_preload_libraries', true) ~ '\mcrm_tree\M', false) AS shared),
    loading AS (
        SELECT quote_ident(current_database()) AS place, format('ALTER DATABASE %I', current_database()) AS alters, l.libraries FROM loaded l
        UNION ALL
        SELECT k.place, k.alters, k.value FROM kept k WHERE k.name = 'session_preload_libraries' AND k.setrole <> 0)
    SELECT 'kept_setting', q.severity, k.place || ': ' || k.name,
           'Set for every session of it, where it decides for which org, or whether at all, the wall stands.',
           format('%s RESET %s;', k.alters, (SELECT string_agg(quote_ident(part), '.' ORDER BY n) FROM regexp_split_to_table(k.name, '\.') WITH ORDINALITY AS u(part, n)))
      FROM kept k JOIN asked q ON q.name = lower(k.name)
    UNION ALL
    SELECT DISTINCT 'kept_setting', q.severity, f.file || ': ' || lower(f.name),
           format('Set for every session in %s, where it decides for which org, or whether at all, the wall stands. %s', f.file,
                  CASE WHEN f.file = 'postgresql.auto.conf' THEN 'Then SELECT pg_reload_conf();' ELSE format('Take line %s out, and reload.', f.sourceline) END),
           -- Alone: it runs in no transaction block.
           CASE WHEN f.file = 'postgresql.auto.conf' THEN format('ALTER SYSTEM RESET %s;', (SELECT string_agg(quote_ident(part), '.' ORDER BY n) FROM regexp_split_to_table(f.name, '\.') WITH ORDINALITY AS u(part, n))) END
      FROM (SELECT g.*, regexp_replace(g.sourcefile, '^.*/', '') AS file FROM pg_show_all_file_settings() AS g(sourcefile, sourceline, seqno, name, setting, applied, error)) f JOIN asked q ON q.name = lower(f.name)
     WHERE q.name <> 'event_triggers'
       AND NOT (lower(f.name) IN ('crm_tree.guard', 'session_replication_role') AND lower(f.setting) IN ('enforce', 'origin', 'local'))
       AND NOT (q.name = 'allow_system_table_mods' AND lower(f.setting) IN ('off', 'false', 'no', '0'))
    UNION ALL
    SELECT 'kept_setting', 'fix', 'server: ' || g.name, 'Set for every session on the server''s command line, where it decides whether the wall stands. Start it without.', NULL
      FROM pg_settings g WHERE g.name IN ('session_replication_role', 'crm_tree.guard') AND g.source IN ('command line', 'environment variable') AND g.reset_val NOT IN ('enforce', 'origin', 'local')
    UNION ALL
    SELECT 'parameter_grant', coalesce(min(a.severity), 'fix'), format('%s to %s', p.parname, h.name), format('%s may set it, and with it switch off what the wall is made of.', h.name),
           string_agg(DISTINCT CASE WHEN x.grantor = 10 THEN format('REVOKE ALL ON PARAMETER %s FROM %s CASCADE;', q.name, h.name)
                                    ELSE crm_tree._revoking(x.privilege_type, NULL, 'PARAMETER ' || q.name, 10, x.grantee, x.grantor, p.paracl) END, ' ')
      FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) x LEFT JOIN pg_roles r ON r.oid = x.grantee LEFT JOIN asked a ON a.name = lower(p.parname)
     CROSS JOIN LATERAL (SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS name) h
     CROSS JOIN LATERAL (SELECT string_agg(quote_ident(part), '.' ORDER BY n) AS name FROM regexp_split_to_table(p.parname, '\.') WITH ORDINALITY AS u(part, n)) q
     WHERE (lower(p.parname) ~ '^crm_tree\.' OR lower(p.parname) = 'session_preload_libraries' OR a.name IS NOT NULL)
       AND NOT coalesce(r.rolsuper, false)
     GROUP BY p.parname, h.name
    UNION ALL
    SELECT 'event_triggers_off', 'fix', 'event_triggers', 'Event triggers are switched off: nothing sees a wall go down. Where it is off in a file, SELECT pg_reload_conf() after the fix.', 'ALTER SYSTEM SET event_triggers = on;'
     WHERE current_setting('event_triggers', true) = 'off'
    UNION ALL
    SELECT 'event_trigger_disabled', 'fix', quote_ident(t.evtname), 'It is not enabled ALWAYS: DDL goes by it unseen.', format('ALTER EVENT TRIGGER %I ENABLE ALWAYS;', t.evtname)
      FROM pg_event_trigger t JOIN pg_depend d ON d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid
     WHERE e.extname = 'crm_tree' AND t.evtenabled <> 'A'
    UNION ALL
    SELECT 'registry_trigger_disabled', 'fix', format('%I on %s', t.tgname, t.tgrelid::regclass), 'What is written to that table of the extension''s own goes by it unseen.',
           format('ALTER TABLE %s ENABLE %sTRIGGER %I;', t.tgrelid::regclass, CASE WHEN t.tgname <> 'protect_history' THEN 'ALWAYS ' END, t.tgname)
      FROM pg_trigger t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = t.tgrelid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid
     WHERE e.extname = 'crm_tree' AND NOT t.tgisinternal AND NOT (t.tgenabled = 'A' OR t.tgname = 'protect_history' AND t.tgenabled = 'O')
    UNION ALL
    SELECT 'not_preloaded', 'accept', i.place, 'The library is loaded by the first call of a function of it: until then a session is without the guard.',
           format('%s SET session_preload_libraries = %s;', i.alters,
                  (SELECT string_agg(format('%L', x), ', ') FROM (SELECT btrim(x, ' "') AS x FROM regexp_split_to_table(i.libraries, ',') x UNION ALL SELECT 'crm_tree') e WHERE x <> ''))
      FROM loading i WHERE NOT (SELECT shared FROM loaded) AND i.libraries !~ '\mcrm_tree\M'
    UNION ALL
    SELECT 'server_version', 'accept', current_setting('server_version'), 'This server is older than PostgreSQL''s own fixes of row security (15.14, 16.10, 17.6).', NULL
     WHERE EXISTS (SELECT FROM (VALUES (150000, 150014), (160000, 160010), (170000, 170006)) AS v(major, fixed)
                    WHERE current_setting('server_version_num')::int BETWEEN v.major AND v.fixed - 1)
    UNION ALL
    SELECT i.code, 'info', quote_ident(current_database()), i.detail, NULL
      FROM (VALUES ('listen_notify', 'LISTEN and NOTIFY are not per org: send ids, never data.'),
                   ('large_objects', 'Large objects have no row security: keep none of an org''s data there.'),
                   ('planner_estimates', 'EXPLAIN, pg_class.reltuples and partition bounds tell about all orgs together.'),
                   ('session_activity', 'pg_stat_activity shows a role the statements of its other sessions: pass values as parameters.')) AS i(code, detail)
$$;
COMMENT ON FUNCTION crm_tree._audit_settings() IS 'Private: findings about settings, the server, and what no SQL can close.';

-- The whole --------------------------------------------------------------------------------------

-- Definer: the registries have no policy. For pg_monitor, as the server's own statistics are; the findings are a map for an attacker.
CREATE FUNCTION crm_tree.audit_walls(include_accepted boolean DEFAULT false)
    RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET quote_all_identifiers = off SET standard_conforming_strings = on AS $$
    SELECT f.code, CASE WHEN a.code IS NULL THEN f.severity ELSE 'accepted' END, f.object, f.detail, f.fix
      FROM (SELECT 1 AS place, * FROM crm_tree._audit_tables()
            UNION ALL SELECT 2, * FROM crm_tree._audit_policies()
            UNION ALL SELECT 3, * FROM crm_tree._audit_definers()
            UNION ALL SELECT 4, * FROM crm_tree._audit_keys()
            UNION ALL SELECT 5, * FROM crm_tree._audit_grants()
            UNION ALL SELECT 6, * FROM crm_tree._audit_roles()
            UNION ALL SELECT 7, * FROM crm_tree._audit_settings()) AS f
      LEFT JOIN crm_tree.accepted_finding a ON a.code = f.code AND a.object = f.object AND a.severity = f.severity
     WHERE include_accepted OR a.code IS NULL
     -- First what the fixes of others stumble over: protect() refuses rules, foreign partitions and such policies, and walls are watched by event triggers.
     ORDER BY CASE f.severity WHEN 'fix' THEN 1 WHEN 'accept' THEN 2 ELSE 3 END,
              CASE WHEN f.code IN ('event_triggers_off', 'event_trigger_disabled', 'registry_trigger_disabled', 'foreign_partition', 'rewrite_rule', 'policy_before_wall', 'org_key') THEN 0 ELSE f.place END, f.code, f.object, f.detail
$$;
COMMENT ON FUNCTION crm_tree.audit_walls(boolean) IS 'The holes in this database''s walls: fix (the SQL in fix closes it, run top to bottom), accept (a choice, see accept_finding()), info (nothing closes it). What was accepted is left out unless asked for. For superusers and pg_monitor.';
REVOKE ALL ON FUNCTION crm_tree.audit_walls(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_tree.audit_walls(boolean) TO pg_monitor;

CREATE FUNCTION crm_tree.assert_walls(accepts boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text;
    n     bigint;
BEGIN
    SELECT string_agg(format('%s %s: %s%s', w.code, w.object, w.detail, coalesce(E'\n    ' || w.fix, '')), E'\n'), count(*) INTO found, n
      FROM crm_tree.audit_walls() w WHERE w.severity = 'fix' OR accepts AND w.severity = 'accept';
    IF n > 0 THEN
        RAISE EXCEPTION 'the walls of database "%" have % %', current_database(), n, CASE n WHEN 1 THEN 'hole' ELSE 'holes' END
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = found,
                  HINT = 'Run the SQL shown, or answer for one with crm_tree.accept_finding(code, object, reason).';
    END IF;
END
$$;
COMMENT ON FUNCTION crm_tree.assert_walls(boolean) IS 'Raises 55000 with the list where audit_walls() has a finding to fix, with accepts => true also one to accept. For CI: psql -v ON_ERROR_STOP=1 -c "SELECT crm_tree.assert_walls()". For superusers and pg_monitor.';
REVOKE ALL ON FUNCTION crm_tree.assert_walls(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_tree.assert_walls(boolean) TO pg_monitor;

CREATE FUNCTION crm_tree.accept_finding(code text, object text, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text;
BEGIN
    SELECT CASE w.severity WHEN 'accepted' THEN (SELECT a.severity FROM crm_tree.accepted_finding a WHERE a.code = $1 AND a.object = $2) ELSE w.severity END
      INTO found FROM crm_tree.audit_walls(true) w WHERE w.code = $1 AND w.object = $2 ORDER BY w.severity = 'fix' DESC LIMIT 1;
    IF found IS NULL THEN
        RAISE EXCEPTION 'the audit has no finding % of %', $1, $2
            USING ERRCODE = 'undefined_object', HINT = 'Take code and object from SELECT * FROM crm_tree.audit_walls();';
    ELSIF found = 'info' THEN
        RAISE EXCEPTION 'finding % of % is for information, and there is nothing to accept', $1, $2
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'crm_tree.assert_walls() does not count it.';
    ELSIF btrim($3, E' \t\r\n') = '' THEN
        RAISE EXCEPTION 'a finding is accepted for a reason'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT crm_tree.accept_finding(''bypassrls'', ''backup'', ''pg_dump runs as it'');';
    END IF;
    INSERT INTO crm_tree.accepted_finding AS a (code, object, severity, reason) VALUES ($1, $2, found, $3)
    ON CONFLICT ON CONSTRAINT accepted_finding_pkey DO UPDATE SET severity = excluded.severity, reason = excluded.reason, accepted_by = session_user, accepted_at = now();
    PERFORM crm_tree._wall_event_logged('finding_accepted', NULL, format('%s %s: %s', $1, $2, $3));
END
$$;
COMMENT ON FUNCTION crm_tree.accept_finding(text, text, text) IS 'Answers for a finding of audit_walls(), by its code and object: it is left out from then on. 42704 where there is no such finding. For superusers and roles granted EXECUTE.';

CREATE FUNCTION crm_tree.withdraw_finding(code text, object text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM crm_tree.accepted_finding a WHERE a.code = $1 AND a.object = $2;
    IF FOUND THEN
        PERFORM crm_tree._wall_event_logged('finding_withdrawn', NULL, format('%s %s', $1, $2));
    END IF;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION crm_tree.withdraw_finding(text, text) IS 'Takes an accept_finding() back; false where there was none.';
REVOKE ALL ON FUNCTION crm_tree.accept_finding(text, text, text), crm_tree.withdraw_finding(text, text) FROM PUBLIC;

CREATE FUNCTION crm_tree.accepted_findings() RETURNS TABLE (code text, object text, reason text, accepted_by text, accepted_at timestamptz, still_found boolean)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.code, a.object, a.reason, a.accepted_by, a.accepted_at, (a.code, a.object) IN (SELECT w.code, w.object FROM crm_tree.audit_walls(true) w WHERE w.severity = 'accepted')
      FROM crm_tree.accepted_finding a ORDER BY a.code, a.object
$$;
COMMENT ON FUNCTION crm_tree.accepted_findings() IS 'What was accepted, by whom and why, and whether the audit would still find it. For superusers and pg_monitor.';
REVOKE ALL ON FUNCTION crm_tree._is_before_wall(pg_policy), crm_tree._behind_wall(pg_policy), crm_tree.accepted_findings(), crm_tree._audited_tables(), crm_tree._protecting(oid[]), crm_tree._audit_tables(), crm_tree._audit_policies(), crm_tree._definer_ways(oid),
    crm_tree._audit_definers(), crm_tree._audit_keys(), crm_tree._audit_grants(), crm_tree._audit_roles(), crm_tree._audit_settings(), crm_tree._passes_walls(oid), crm_tree._with_schema(oid, boolean, text),
    crm_tree._altering(oid, text, boolean), crm_tree._revoking(text, text, text, oid, oid, oid, aclitem[]), crm_tree._reads_org(text, text), crm_tree._names_in(text), crm_tree._columns(oid, int2[]),
    crm_tree._commenting(oid), crm_tree._restoring(oid, oid), crm_tree._enforcing(pg_constraint), crm_tree._is_packaged(oid, oid),
    crm_tree._path_of(text[]), crm_tree._pins_path(text[]), crm_tree._pinning(text[], name[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_tree.accepted_findings() TO pg_monitor;
