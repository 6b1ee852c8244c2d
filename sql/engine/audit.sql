-- The audit: every hole in the database that is known to be one. One private function a family of holes, each returning
-- (code, severity, object, detail, fix); audit_walls() puts them together and leaves out what was acknowledged.

CREATE TABLE crm_tree.accepted_finding (
    code        text NOT NULL,
    object      text NOT NULL,
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

-- The tables an audit is about: those behind the wall, those that look like they should be, and those with row security of another making.
CREATE FUNCTION crm_tree._audited_tables() RETURNS TABLE (relation oid, root oid, org_column name, walled boolean, name text, relname name, owner oid, kind "char", rls boolean, forced boolean)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH family AS MATERIALIZED (SELECT * FROM crm_tree._wall_family()),
    -- What somebody took for an org column in a table of his says nothing of others' tables; a superuser's choice does.
    org_names(name, owner) AS MATERIALIZED (
        VALUES ('org_id'::name, NULL::oid), ('tenant_id', NULL), ('organization_id', NULL), ('organisation_id', NULL)
        -- A table of the orgs themselves is protected by its "id", which every table has.
        UNION SELECT f.org_column, CASE WHEN NOT o.rolsuper THEN o.oid END
          FROM family f JOIN pg_class t ON t.oid = f.root JOIN pg_roles o ON o.oid = t.relowner WHERE f.org_column <> 'id')
    SELECT c.oid, coalesce(f.root, c.oid), coalesce(f.org_column, o.attname), f.relation IS NOT NULL,
           c.oid::regclass::text, c.relname, c.relowner, c.relkind, c.relrowsecurity, c.relforcerowsecurity
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN family f ON f.relation = c.oid
      LEFT JOIN LATERAL (
          SELECT a.attname FROM pg_attribute a
           WHERE a.attrelid = c.oid AND EXISTS (SELECT FROM org_names w WHERE w.name = a.attname AND (w.owner IS NULL OR w.owner = c.relowner)) AND NOT a.attisdropped AND a.attnum > 0
             AND a.atttypid IN ('uuid'::regtype, 'int8'::regtype, 'int4'::regtype, 'int2'::regtype, 'text'::regtype, 'varchar'::regtype)
           ORDER BY a.attname <> 'org_id', a.attnum LIMIT 1) o ON true
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'crm_tree')
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       AND (f.relation IS NOT NULL OR o.attname IS NOT NULL OR c.relrowsecurity)
$$;
COMMENT ON FUNCTION crm_tree._audited_tables() IS 'Private: protected tables, and others with an org column or row security.';

CREATE FUNCTION crm_tree._altering(relation oid, action text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT format(''SELECT crm_tree.alter_table(%L, %L);'', $1::regclass, $2)';
COMMENT ON FUNCTION crm_tree._altering(oid, text) IS 'Private: the fix that alters a table and runs nothing of its owner''s as who runs it.';

-- Tables -----------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_tables() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH audited AS MATERIALIZED (SELECT * FROM crm_tree._audited_tables()),
    protect AS (
        SELECT a.relation, format('SELECT crm_tree.protect(%L, %L);', r.oid::regclass::text, a.org_column) AS fix,
               EXISTS (SELECT FROM pg_inherits i JOIN audited u ON u.relation = i.inhparent WHERE i.inhrelid = a.relation) AS below
          FROM audited a JOIN pg_class r ON r.oid = a.root)
    SELECT 'table_without_wall', 'fix', a.name,
           format('Its column "%s" names an org, and nothing keeps the orgs apart.', a.org_column), p.fix
      FROM audited a JOIN protect p USING (relation)
     WHERE NOT a.walled AND a.org_column IS NOT NULL AND NOT a.rls AND a.kind <> 'f' AND NOT p.below
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
           CASE f.fault
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
               WHEN 'foreign_partition' THEN 'It is a foreign table, which cannot have row security.'
           END,
           CASE f.fault
               WHEN 'org_column' THEN format('SELECT crm_tree.unprotect(%L);', f.root::regclass::text)
               WHEN 'org_nullable' THEN crm_tree._altering(f.relation, format('ALTER COLUMN %I SET NOT NULL', f.org_column))
               WHEN 'rls_not_forced' THEN format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', f.relation::regclass)
               WHEN 'truncate_trigger_off' THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER crm_tree_refuse_truncate;', f.relation::regclass)
               WHEN 'foreign_partition' THEN (
                   SELECT CASE WHEN c.relispartition THEN crm_tree._altering(i.inhparent, format('DETACH PARTITION %s', i.inhrelid::regclass))
                               ELSE format('ALTER FOREIGN TABLE %s NO INHERIT %s;', i.inhrelid::regclass, i.inhparent::regclass) END
                     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhrelid = f.relation LIMIT 1)
               WHEN 'outer_parent' THEN (
                   SELECT CASE WHEN c.relispartition THEN crm_tree._altering(i.inhparent, format('DETACH PARTITION %s', i.inhrelid::regclass))
                               ELSE format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::regclass, i.inhparent::regclass) END
                     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                    WHERE i.inhrelid = f.relation AND NOT EXISTS (SELECT FROM crm_tree._wall_family() w WHERE w.relation = i.inhparent AND w.org_column = f.org_column) LIMIT 1)
               ELSE p.fix
           END
      FROM crm_tree._wall_faults() f LEFT JOIN protect p ON p.relation = f.relation
     -- Rules have a finding each; and one where one protect() mends both.
     WHERE f.fault <> 'rewrite_rule'
       AND NOT (f.fault = 'wall_policy' AND f.relation <> f.root
                AND EXISTS (SELECT FROM pg_class c WHERE c.oid = f.relation AND NOT c.relrowsecurity))
       AND NOT (f.fault = 'truncate_trigger' AND f.relation <> f.root
                AND NOT EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = f.relation AND y.polname = 'crm_tree_wall'))
    UNION ALL
    SELECT 'wall_of_nothing', 'fix', w.relation::text, 'The registry has a wall for a table that is not there, and a new table could take its oid.',
           format('DELETE FROM crm_tree.wall WHERE relation = %s;', w.relation)
      FROM crm_tree._walls() w WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation)
    UNION ALL
    SELECT 'wall_not_watched', 'fix', w.relation::regclass::text, 'Its wall is whole, but since a restore nobody has looked, and the event triggers do not defend it.',
           'SELECT * FROM crm_tree.check_restore();'
      FROM crm_tree._walls() w JOIN pg_class c ON c.oid = w.relation
     WHERE NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = w.relation)
       AND NOT EXISTS (SELECT FROM crm_tree._wall_faults() f WHERE f.root = w.relation)
    UNION ALL
    SELECT 'wall_not_registered', 'fix', a.name, 'It has the policy of a wall, or had one, and is in no registry, so nothing watches it.',
           format('SELECT crm_tree.protect(%L, %L);', a.name, a.org_column)
      FROM audited a
     WHERE NOT a.walled AND a.org_column IS NOT NULL
       AND (EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = a.relation AND p.polname = 'crm_tree_wall')
            OR EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = a.relation))
    UNION ALL
    SELECT 'owner_passes_wall', 'accept', a.name,
           format('Its owner %s is under no row security, and triggers that a foreign key''s cascade reaches run as him.', quote_ident(r.rolname)), NULL
      FROM audited a JOIN pg_roles r ON r.oid = a.owner
     WHERE a.walled AND a.relation = a.root AND crm_tree._passes_walls(a.owner)
    UNION ALL
    SELECT 'foreign_table', 'fix', a.name, 'A foreign table cannot have row security, and others than its owner may use it.',
           format('REVOKE ALL ON %s FROM %s;', a.name, string_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', '))
      FROM audited a JOIN pg_class c ON c.oid = a.relation CROSS JOIN LATERAL aclexplode(c.relacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
     WHERE a.kind = 'f' AND x.grantee <> a.owner AND a.org_column IS NOT NULL
     GROUP BY a.name
$$;
COMMENT ON FUNCTION crm_tree._audit_tables() IS 'Private: findings about tables and how their walls stand.';

-- Policies of somebody else's making -------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_policies() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH policy AS MATERIALIZED (
        SELECT p.*, a.name || '.' || quote_ident(p.polname) AS object, a.name AS table_name, a.org_column, a.walled, a.relation,
               concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS expression,
               -- Behind a wall of ours, which is restrictive, no other policy opens anything.
               CASE WHEN a.org_column IS NULL THEN format('DROP POLICY %I ON %s;', p.polname, a.name)
                    ELSE format('SELECT crm_tree.protect(%L, %L);', a.name, a.org_column) END AS fix
          FROM pg_policy p JOIN crm_tree._audited_tables() a ON a.relation = p.polrelid),
    used AS MATERIALIZED (
        SELECT y.object, y.walled, y.fix, y.relation, f.oid AS function, f.proname, f.prosrc, f.prosqlbody IS NOT NULL AS parsed, f.provolatile, f.pronargs, f.proconfig, l.lanname
          FROM policy y
          JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = y.oid AND d.refclassid = 'pg_proc'::regclass
          JOIN pg_proc f ON f.oid = d.refobjid JOIN pg_language l ON l.oid = f.prolang)
    SELECT 'policies_ored', 'fix', o.table_name,
           format('Permissive policies are ORed, and it has %s for one command and no restrictive one: the widest decides.', max(o.n)), min(o.fix)
      FROM (SELECT y.table_name, command, count(*) AS n, min(y.fix) AS fix
              FROM policy y CROSS JOIN unnest(CASE y.polcmd WHEN '*' THEN '{r,a,w,d}'::"char"[] ELSE ARRAY[y.polcmd] END) AS command
             WHERE NOT y.walled AND y.org_column IS NOT NULL AND y.polpermissive AND y.polroles = '{0}'
               AND NOT EXISTS (SELECT FROM pg_policy r WHERE r.polrelid = y.relation AND NOT r.polpermissive)
             GROUP BY y.table_name, command) o
     GROUP BY o.table_name HAVING max(o.n) > 1
    UNION ALL
    SELECT 'policy_open', 'fix', y.object, 'It lets every row be read.', y.fix
      FROM policy y
     WHERE NOT y.walled AND y.org_column IS NOT NULL AND y.polpermissive AND y.polcmd IN ('*', 'r') AND pg_get_expr(y.polqual, y.polrelid) = 'true'
    UNION ALL
    SELECT 'policy_check_open', 'fix', y.object, 'It lets rows be written into any org.', y.fix
      FROM policy y
     WHERE NOT y.walled AND y.org_column IS NOT NULL AND y.polpermissive AND y.polcmd IN ('*', 'a', 'w')
       AND coalesce(pg_get_expr(y.polwithcheck, y.polrelid), pg_get_expr(y.polqual, y.polrelid)) = 'true'
    UNION ALL
    SELECT 'policy_fallback', 'fix', y.object, 'Unbound, or for a row without an org, it falls back to letting the row through.', y.fix
      FROM policy y
     WHERE NOT y.walled AND (y.expression ~* '\mcoalesce\(' OR y.expression ~ '\mOR\M.*\mIS NULL\M|\mIS NULL\M.*\mOR\M')
    UNION ALL
    SELECT 'policy_setting', 'fix', y.object, format('It asks the setting %s, which every user may set.', substring(y.expression from 'current_setting\((''[^'']*'')')), y.fix
      FROM policy y WHERE NOT y.walled AND y.expression ~ '\mcurrent_setting\('
    UNION ALL
    SELECT 'policy_setting', 'fix', u.object, format('It asks a setting, which every user may set, through the function %s.', u.function::regprocedure), u.fix
      FROM used u WHERE NOT u.walled AND u.prosrc ~* '\mcurrent_setting\M'
    UNION ALL
    SELECT DISTINCT 'policy_function_immutable', 'fix', u.function::regprocedure::text,
           'A policy asks it, and it is IMMUTABLE: a kept plan serves one org''s answer to the next.', format('ALTER FUNCTION %s STABLE;', u.function::regprocedure)
      FROM used u WHERE u.provolatile = 'i' AND (u.pronargs = 0 OR u.prosrc ~* '\mcurrent_')
    UNION ALL
    SELECT DISTINCT 'policy_function_search_path', 'fix', u.function::regprocedure::text,
           'A policy asks it, and its names are looked up on the caller''s search path, where he can put functions of his own.',
           format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp;', u.function::regprocedure)
      FROM used u
     WHERE u.lanname NOT IN ('c', 'internal') AND NOT u.parsed
       AND NOT coalesce(array_to_string(u.proconfig, E'\n') ~ '(^|\n)search_path=', false)
$$;
COMMENT ON FUNCTION crm_tree._audit_policies() IS 'Private: findings about policies that are not the wall''s, and the functions that policies ask.';

-- Ways in with another's rights ------------------------------------------------------------------

CREATE FUNCTION crm_tree._definer_ways(only_object oid DEFAULT NULL) RETURNS TABLE (code text, severity text, object text, detail text, fix text, oid oid)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE audited AS MATERIALIZED (SELECT a.relation, a.relname FROM crm_tree._audited_tables() a WHERE a.walled OR a.org_column IS NOT NULL),
    -- Views and materialized views over them, over views of them, and so on.
    reading(relation) AS (
        SELECT a.relation FROM audited a
        UNION
        SELECT r.ev_class FROM reading g
          JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = g.relation AND d.classid = 'pg_rewrite'::regclass
          JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'),
    -- Their names as one pattern, for bodies that are kept as text.
    named(pattern) AS MATERIALIZED (
        SELECT '\m(' || string_agg(DISTINCT regexp_replace(c.relname, '([^[:alnum:]_])', '\\\1', 'g'), '|') || ')\M' FROM reading g JOIN pg_class c ON c.oid = g.relation),
    passing AS MATERIALIZED (SELECT oid, quote_ident(rolname) AS name FROM pg_roles WHERE rolsuper OR rolbypassrls),
    lent AS MATERIALIZED (
        SELECT p.oid, p.prokind, p.prosrc, p.prosqlbody IS NOT NULL AS parsed, l.lanname, r.name AS owner,
               EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') AS packaged
          FROM pg_proc p JOIN passing r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
         WHERE p.prosecdef AND p.prokind IN ('f', 'p') AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'crm_tree'::regnamespace)
           AND (only_object IS NULL OR p.oid = only_object))
    SELECT 'definer_view', 'fix', c.oid::regclass::text,
           format('It reads protected rows with the rights of %s, who is under no row security.', r.name),
           format('ALTER VIEW %s SET (security_invoker = true);', c.oid::regclass), c.oid
      FROM reading g JOIN pg_class c ON c.oid = g.relation JOIN passing r ON r.oid = c.relowner
     WHERE c.relkind = 'v' AND NOT coalesce(array_to_string(c.reloptions, ' ') ~ 'security_invoker=(true|on|yes|1)', false)
       AND (only_object IS NULL OR c.oid = only_object)
    UNION ALL
    SELECT 'materialized_view', 'fix', c.oid::regclass::text, 'It holds copies of protected rows, and has no row security.',
           format('DROP MATERIALIZED VIEW %s;', c.oid::regclass), c.oid
      FROM reading g JOIN pg_class c ON c.oid = g.relation WHERE c.relkind = 'm' AND (only_object IS NULL OR c.oid = only_object)
    UNION ALL
    SELECT 'definer_function', CASE WHEN reads THEN 'fix' ELSE 'accept' END, p.oid::regprocedure::text,
           format(CASE WHEN reads THEN 'It names a protected table and runs with the rights of %s, who is under no row security.'
                       ELSE 'It runs with the rights of %s, who is under no row security, and what it reads cannot be told from its text.' END, p.owner),
           format('ALTER %s %s SECURITY INVOKER;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure), p.oid
      FROM lent p CROSS JOIN named
     CROSS JOIN LATERAL (
         SELECT CASE WHEN p.parsed THEN EXISTS (SELECT FROM pg_depend d JOIN reading g ON g.relation = d.refobjid
                                                 WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass)
                     ELSE coalesce(p.prosrc ~* named.pattern, false) END AS reads) AS body
     -- What an extension does dynamically is its own business, unless it names a table of ours.
     WHERE reads OR NOT p.packaged AND (p.lanname NOT IN ('sql', 'plpgsql') OR p.lanname = 'plpgsql' AND p.prosrc ~* '\mexecute\M')
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
           format('It runs with the rights of %s and looks names up on the caller''s search path, where he can put functions of his own.', quote_ident(r.rolname)),
           format('ALTER %s %s SET search_path = pg_catalog, pg_temp;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure)
      FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
     WHERE p.prosecdef AND p.prokind IN ('f', 'p') AND p.pronamespace <> 'pg_catalog'::regnamespace AND crm_tree._passes_walls(p.proowner)
       AND p.prosqlbody IS NULL AND l.lanname NOT IN ('c', 'internal')
       AND NOT coalesce(array_to_string(p.proconfig, E'\n') ~ '(^|\n)search_path=', false)
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    -- An action of a foreign key runs as the table's owner past his row security, and takes the triggers there along.
    SELECT DISTINCT 'cascade_trigger', 'accept', format('%s.%I', t.tgrelid::regclass, t.tgname),
           format('The action of the foreign key "%s" reaches it, and it then runs as the table''s owner and sees every org: name the org in each of its queries.', k.conname), NULL
      FROM pg_constraint k JOIN crm_tree._audited_tables() a ON a.relation = k.conrelid JOIN pg_trigger t ON t.tgrelid = k.conrelid JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE k.contype = 'f' AND a.walled AND NOT t.tgisinternal AND t.tgparentid = 0
       AND (k.confdeltype = 'c' AND t.tgtype & 8 <> 0 OR (k.confdeltype IN ('n', 'd') OR k.confupdtype IN ('c', 'n', 'd')) AND t.tgtype & 16 <> 0)
       AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND e.extname = 'crm_tree')
    UNION ALL
    -- Paths are rewritten as the table's owner, under the search path of whoever moves a node.
    SELECT DISTINCT 'tree_trigger_search_path', 'fix', p.oid::regprocedure::text,
           format('A trigger of the tree %s calls it, as the table''s owner where paths are rewritten, and its names are looked up on the path of whoever moves a node.', t.tgrelid::regclass),
           format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp;', p.oid::regprocedure, n.nspname)
      FROM crm_tree._trees() a CROSS JOIN LATERAL (SELECT a.relation::oid AS oid UNION SELECT relid FROM pg_partition_tree(a.relation)) AS part
      JOIN pg_trigger t ON t.tgrelid = part.oid JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang
     WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 16 <> 0 AND NOT p.prosecdef AND l.lanname NOT IN ('c', 'internal')
       AND NOT coalesce(array_to_string(p.proconfig, E'\n') ~ '(^|\n)search_path=', false)
    UNION ALL
    SELECT 'leakproof_function', 'fix', p.oid::regprocedure::text,
           'It is marked LEAKPROOF, so a user''s condition may run it on another org''s rows before the wall''s.', format('ALTER FUNCTION %s NOT LEAKPROOF;', p.oid::regprocedure)
      FROM pg_proc p
     WHERE p.proleakproof AND p.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
$$;
COMMENT ON FUNCTION crm_tree._audit_definers() IS 'Private: findings about views, functions, rules and triggers.';

-- Keys -------------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_keys() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH walled AS MATERIALIZED (
        SELECT a.*, t.attnum FROM crm_tree._audited_tables() a JOIN pg_attribute t ON t.attrelid = a.relation AND t.attname = a.org_column WHERE a.walled),
    key AS MATERIALIZED (
        SELECT k.*, r.name AS referenced, r.org_column AS their_org,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n) FROM unnest(k.conkey) WITH ORDINALITY AS u(num, n) JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = num) AS ours,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n) FROM unnest(k.confkey) WITH ORDINALITY AS u(num, n) JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = num) AS theirs,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n) FROM unnest(k.confdelsetcols) WITH ORDINALITY AS u(num, n) JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = num) AS set_columns,
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indpred IS NULL AND i.indimmediate
                          AND (SELECT array_agg(c ORDER BY c) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u(c, n) WHERE n <= i.indnkeyatts)
                            = (SELECT array_agg(c ORDER BY c) FROM unnest(k.confkey || r.attnum) c)) AS has_key
          FROM pg_constraint k JOIN walled r ON r.relation = k.confrelid
         WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT r.attnum = ANY (k.confkey))
    SELECT 'foreign_key_without_org', 'fix', format('%s.%I', k.conrelid::regclass, k.conname),
           'It leaves the org out: it can point at another org''s row, tells whether that exists, and cascades across.',
           CASE WHEN o.org_column IS NULL THEN crm_tree._altering(k.conrelid, format('DROP CONSTRAINT %I', k.conname))
                ELSE CASE WHEN NOT k.has_key THEN crm_tree._altering(k.confrelid, format('ADD UNIQUE (%I, %s)', k.their_org, k.theirs)) || ' ' ELSE '' END
                  || crm_tree._altering(k.conrelid, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%I, %s) REFERENCES %s (%I, %s)%s%s%s%s%s%s',
                            k.conname, k.conname, o.org_column, k.ours, k.referenced, k.their_org, k.theirs,
                            CASE k.confmatchtype WHEN 'f' THEN ' MATCH FULL' END,
                            ' ON UPDATE ' || CASE k.confupdtype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END,
                            -- SET NULL without a list would take the org too.
                            ' ON DELETE ' || CASE k.confdeltype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN format('SET NULL (%s)', coalesce(k.set_columns, k.ours))
                                                                WHEN 'd' THEN format('SET DEFAULT (%s)', coalesce(k.set_columns, k.ours)) END,
                            CASE WHEN k.condeferrable THEN ' DEFERRABLE' END, CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' END,
                            CASE WHEN NOT k.convalidated THEN ' NOT VALID' END)) END
      FROM key k LEFT JOIN crm_tree._audited_tables() o ON o.relation = k.conrelid AND o.org_column IS NOT NULL
    UNION ALL
    SELECT CASE WHEN i.indisexclusion THEN 'exclusion_without_org' ELSE 'unique_without_org' END, 'fix', format('%s.%I', w.name, c.relname),
           'It leaves the org out, and answers "taken" for another org''s value, through ON CONFLICT too.',
           CASE WHEN i.indisexclusion THEN
                    CASE WHEN e.method = 'gist' THEN 'CREATE EXTENSION IF NOT EXISTS btree_gist; ' ELSE '' END
                    || crm_tree._altering(w.relation, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I EXCLUDE USING %I (%I WITH =, %s', k.conname, k.conname, e.method, w.org_column,
                              substr(pg_get_constraintdef(k.oid), length(e.head) + 1)))
                WHEN k.oid IS NOT NULL THEN
                    crm_tree._altering(w.relation, format('DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', k.conname, k.conname,
                           overlay(pg_get_constraintdef(k.oid) PLACING format('(%I, ', w.org_column) FROM strpos(pg_get_constraintdef(k.oid), '(') FOR 1)))
                -- No pattern: any of the names may hold what it would look for.
                WHEN starts_with(pg_get_indexdef(c.oid), d.head) THEN
                    format('DROP INDEX %s; ', c.oid::regclass) || d.head || format('%I, ', w.org_column) || substr(pg_get_indexdef(c.oid), length(d.head) + 1) || ';' END
      FROM walled w JOIN pg_index i ON i.indrelid = w.relation JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
      LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
     CROSS JOIN LATERAL (
         SELECT format('CREATE UNIQUE INDEX %I ON %s%I.%I USING %I (', c.relname, CASE c.relkind WHEN 'I' THEN 'ONLY ' ELSE '' END, n.nspname, t.relname, m.amname) AS head
           FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE t.oid = w.relation) d
     -- These two take one column alone.
     CROSS JOIN LATERAL (
         SELECT CASE m.amname WHEN 'hash' THEN 'btree' WHEN 'spgist' THEN 'gist' ELSE m.amname END AS method, format('EXCLUDE USING %I (', m.amname) AS head) e
     WHERE (i.indisunique OR i.indisexclusion) AND NOT w.attnum = ANY (i.indkey::int2[]) AND NOT c.relispartition
    UNION ALL
    -- Of a table's columns pg_stats shows nothing to whom row security applies; it does not know of indexes.
    SELECT 'expression_statistics', 'info', c.oid::regclass::text,
           'ANALYZE keeps values of its expression, of every org, where the table''s owner and pg_read_all_data read them.',
           -- Not while the fix of its key is to make another index, with the columns counted otherwise.
           CASE WHEN NOT (i.indisunique OR i.indisexclusion) OR w.attnum = ANY (i.indkey::int2[]) THEN
               string_agg(format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0; ', c.oid::regclass, t.attnum), '' ORDER BY t.attnum)
                 || format('DELETE FROM pg_catalog.pg_statistic WHERE starelid = %s;', c.oid) END
      FROM walled w JOIN pg_index i ON i.indrelid = w.relation JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
      JOIN pg_attribute t ON t.attrelid = c.oid AND i.indkey[t.attnum - 1] = 0
     WHERE i.indexprs IS NOT NULL AND coalesce(t.attstattarget, -1) <> 0
     GROUP BY c.oid, i.indisunique, i.indisexclusion, i.indkey::int2[], w.attnum
    UNION ALL
    SELECT DISTINCT 'sequence_readable', 'fix', s.oid::regclass::text,
           format('%s may read or set it, and so learn how much other orgs write.', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END),
           format('REVOKE SELECT, UPDATE ON SEQUENCE %s FROM %s CASCADE;', s.oid::regclass, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)
      FROM walled w
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = w.relation AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' CROSS JOIN LATERAL aclexplode(s.relacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
     WHERE x.privilege_type IN ('SELECT', 'UPDATE') AND x.grantee <> s.relowner AND NOT coalesce(r.rolsuper, false)
$$;
COMMENT ON FUNCTION crm_tree._audit_keys() IS 'Private: findings about keys and sequences.';

-- Rights -----------------------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_grants() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH audited AS MATERIALIZED (SELECT a.* FROM crm_tree._audited_tables() a WHERE (a.walled OR a.org_column IS NOT NULL) AND a.kind <> 'f'),
    holder AS (SELECT oid, quote_ident(rolname) AS name, rolsuper FROM pg_roles UNION ALL SELECT 0, 'PUBLIC', false),
    given AS (
        SELECT a.name, a.owner, x.* FROM audited a JOIN pg_class c ON c.oid = a.relation CROSS JOIN LATERAL aclexplode(c.relacl) x
        UNION
        SELECT a.name, a.owner, x.* FROM audited a JOIN pg_attribute t ON t.attrelid = a.relation CROSS JOIN LATERAL aclexplode(t.attacl) x)
    SELECT DISTINCT 'grant_' || lower(g.privilege_type), 'fix', g.name,
           CASE g.privilege_type
               WHEN 'TRUNCATE' THEN format('%s may TRUNCATE it, which ignores row security and empties every org.', h.name)
               WHEN 'REFERENCES' THEN format('%s may point foreign keys at it, which tell which keys other orgs have.', h.name)
               ELSE format('%s may put triggers on it, which see every row that others write.', h.name) END,
           -- What a grantee handed on goes with what he was given.
           format('REVOKE %s ON %s FROM %s CASCADE;', g.privilege_type, g.name, CASE WHEN g.grantor = g.owner THEN h.name ELSE b.name END)
      FROM given g JOIN holder h ON h.oid = g.grantee JOIN holder b ON b.oid = g.grantor
     WHERE g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER') AND g.grantee <> g.owner AND NOT h.rolsuper
    UNION ALL
    SELECT DISTINCT 'default_privileges', 'fix', o.name || coalesce(' in ' || quote_ident(n.nspname), ''),
           format('Every table that %s makes is handed to %s before it has a wall.', o.name, h.name),
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s REVOKE ALL ON TABLES FROM %s;', o.name, coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), h.name)
      FROM pg_default_acl d JOIN holder o ON o.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
     CROSS JOIN LATERAL aclexplode(d.defaclacl) x JOIN holder h ON h.oid = x.grantee
     WHERE d.defaclobjtype = 'r' AND x.grantee <> d.defaclrole AND NOT h.rolsuper
    UNION ALL
    SELECT 'schema_create', 'fix', quote_ident(n.nspname), 'Everybody may create functions and tables in it, and have them found in place of others''.',
           format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC;', n.nspname)
      FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) x WHERE x.grantee = 0 AND x.privilege_type = 'CREATE'
    UNION ALL
    SELECT 'domain_of_another', 'fix', a.name || '.' || quote_ident(t.attname),
           format('%s owns its domain %s: a check that he adds to that sees the column''s values of every org. The fix leaves the domain''s checks behind.', h.name, d.domain::regtype),
           crm_tree._altering(a.relation, format('ALTER COLUMN %I TYPE %s%s', t.attname, d.plain, ' COLLATE ' || nullif(t.attcollation, 0)::regcollation))
      FROM audited a JOIN pg_attribute t ON t.attrelid = a.relation AND t.attinhcount = 0
     CROSS JOIN LATERAL (
         WITH RECURSIVE chain(domain, owner, base, modifier) AS (
             SELECT y.oid, y.typowner, y.typbasetype, y.typtypmod FROM pg_type y WHERE y.oid = t.atttypid AND y.typtype = 'd'
             UNION ALL
             SELECT y.oid, y.typowner, y.typbasetype, y.typtypmod FROM chain c JOIN pg_type y ON y.oid = c.base AND y.typtype = 'd')
         SELECT c.domain, c.owner, (SELECT format_type(b.base, b.modifier) FROM chain b WHERE b.base NOT IN (SELECT domain FROM chain)) AS plain
           FROM chain c WHERE c.owner <> a.owner AND NOT crm_tree._passes_walls(c.owner) LIMIT 1) d
      JOIN holder h ON h.oid = d.owner
     WHERE a.walled
    UNION ALL
    SELECT 'temp_tables', 'accept', quote_ident(d.datname) || ' for ' || h.name,
           'A temporary table of a pooled connection outlives the binding that filled it, and can stand in front of a protected one.',
           format('REVOKE TEMPORARY ON DATABASE %I FROM %s;', d.datname, h.name)
      FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x JOIN holder h ON h.oid = x.grantee
     WHERE d.datname = current_database() AND x.privilege_type = 'TEMPORARY' AND x.grantee <> d.datdba AND NOT h.rolsuper
    UNION ALL
    SELECT 'publication', 'accept', quote_ident(p.pubname), format('Its subscribers receive every org of %s.', t.tables),
           CASE WHEN p.puballtables THEN format('DROP PUBLICATION %I;', p.pubname)
                WHEN t.schemas IS NOT NULL THEN format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %s;', p.pubname, t.schemas)
                ELSE format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, t.tables) END
      FROM pg_publication p
     CROSS JOIN LATERAL (
         SELECT string_agg(DISTINCT a.name, ', ') AS tables,
                (SELECT string_agg(quote_ident(n.nspname), ', ') FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid) AS schemas
           FROM audited a JOIN pg_class c ON c.oid = a.relation
          WHERE p.puballtables
             OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = a.relation)
             OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)) t
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
    SELECT 'wall_administrator', 'accept', h.name, 'It may take down the walls of the tables it owns.', format('REVOKE EXECUTE ON FUNCTION crm_tree.unprotect(regclass) FROM %s;', h.name)
      FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) x JOIN holder h ON h.oid = x.grantee
     WHERE p.oid = 'crm_tree.unprotect(regclass)'::regprocedure AND x.grantee <> p.proowner AND NOT h.rolsuper
$$;
COMMENT ON FUNCTION crm_tree._audit_grants() IS 'Private: findings about rights on tables, schemas and orgs, and on the types of columns.';

-- Roles and settings -----------------------------------------------------------------------------

CREATE FUNCTION crm_tree._audit_roles() RETURNS TABLE (code text, severity text, object text, detail text, fix text)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH role AS (SELECT r.*, quote_ident(r.rolname) AS name FROM pg_roles r),
    member AS (SELECT m.roleid, m.member, g.name AS granted, g.rolname AS granted_role, r.name, r.rolsuper FROM pg_auth_members m JOIN role g ON g.oid = m.roleid JOIN role r ON r.oid = m.member)
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
    SELECT 'member_of_bypass', 'fix', m.name, format('It may SET ROLE %s, which is under no row security.', m.granted), format('REVOKE %s FROM %s;', m.granted, m.name)
      FROM member m WHERE crm_tree._passes_walls(m.roleid) AND NOT crm_tree._passes_walls(m.member)
    UNION ALL
    SELECT 'server_files', 'fix', m.name, format('Through %s it reads or runs files as the server, and so the tables'' own.', m.granted), format('REVOKE %s FROM %s;', m.granted, m.name)
      FROM member m WHERE m.granted_role IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program') AND NOT m.rolsuper
    UNION ALL
    SELECT 'all_data', 'accept', m.name, format('%s gives it rights on every table, those without a wall and new ones included.', m.granted), format('REVOKE %s FROM %s;', m.granted, m.name)
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
    -- Settings that walls hang on: ours, those that switch triggers off, and those that policies ask.
    WITH asked(name) AS (
        SELECT DISTINCT (regexp_matches(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), 'current_setting\(''([^'']*)''', 'g'))[1] FROM pg_policy p),
    kept AS (
        SELECT s.setdatabase, s.setrole, split_part(line, '=', 1) AS name, d.datname, r.rolname
          FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS line LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole)
    SELECT 'kept_setting', 'fix', concat_ws(' in ', quote_ident(k.rolname), quote_ident(k.datname)) || ': ' || k.name,
           'Set for every session of it, where it decides for which org, or whether at all, the wall stands.',
           CASE WHEN k.setrole <> 0 THEN format('ALTER ROLE %I%s RESET %s;', k.rolname, coalesce(' IN DATABASE ' || quote_ident(k.datname), ''), k.name)
                WHEN k.setdatabase = 0 THEN format('ALTER ROLE ALL RESET %s;', k.name)
                ELSE format('ALTER DATABASE %I RESET %s;', k.datname, k.name) END
      FROM kept k
     WHERE (k.setdatabase = 0 OR k.datname = current_database())
       AND (k.name ~ '^crm_tree\.(org|user_id|guard)$' OR k.name IN ('session_replication_role', 'event_triggers') OR k.name IN (SELECT name FROM asked))
    UNION ALL
    SELECT 'parameter_grant', 'fix', p.parname, format('%s may set it, and with it switch off what the wall is made of.', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END),
           format('REVOKE ALL ON PARAMETER %s FROM %s CASCADE;', p.parname, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)
      FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
     WHERE (p.parname ~ '^crm_tree\.' OR p.parname IN ('session_replication_role', 'event_triggers', 'session_preload_libraries') OR p.parname IN (SELECT name FROM asked))
       AND NOT coalesce(r.rolsuper, false)
    UNION ALL
    SELECT 'event_triggers_off', 'fix', 'event_triggers', 'Event triggers are switched off: nothing sees a wall go down.', 'ALTER SYSTEM RESET event_triggers; SELECT pg_reload_conf();'
     WHERE current_setting('event_triggers', true) = 'off'
    UNION ALL
    SELECT 'event_trigger_disabled', 'fix', quote_ident(t.evtname), 'It is not enabled ALWAYS: DDL goes by it unseen.', format('ALTER EVENT TRIGGER %I ENABLE ALWAYS;', t.evtname)
      FROM pg_event_trigger t JOIN pg_depend d ON d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid
     WHERE e.extname = 'crm_tree' AND t.evtenabled <> 'A'
    UNION ALL
    SELECT 'not_preloaded', 'accept', quote_ident(current_database()), 'The library is loaded by the first call of a function of it: until then a session is without the guard.',
           format('ALTER DATABASE %I SET session_preload_libraries = crm_tree;', current_database())
     WHERE NOT coalesce(current_setting('shared_preload_libraries', true) ~ '\mcrm_tree\M', false)
       AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN unnest(s.setconfig) AS line
                        WHERE d.datname = current_database() AND s.setrole = 0 AND line ~ '^session_preload_libraries=.*\mcrm_tree\M')
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
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT f.code, CASE WHEN a.code IS NULL THEN f.severity ELSE 'accepted' END, f.object, f.detail, f.fix
      FROM (SELECT 1 AS place, * FROM crm_tree._audit_tables()
            UNION ALL SELECT 2, * FROM crm_tree._audit_policies()
            UNION ALL SELECT 3, * FROM crm_tree._audit_definers()
            UNION ALL SELECT 4, * FROM crm_tree._audit_keys()
            UNION ALL SELECT 5, * FROM crm_tree._audit_grants()
            UNION ALL SELECT 6, * FROM crm_tree._audit_roles()
            UNION ALL SELECT 7, * FROM crm_tree._audit_settings()) AS f
      LEFT JOIN crm_tree.accepted_finding a ON a.code = f.code AND a.object = f.object
     WHERE include_accepted OR a.code IS NULL
     ORDER BY CASE f.severity WHEN 'fix' THEN 1 WHEN 'accept' THEN 2 ELSE 3 END, f.place, f.code, f.object, f.detail
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
    SELECT w.severity INTO found FROM crm_tree.audit_walls(true) w WHERE w.code = $1 AND w.object = $2 LIMIT 1;
    IF found IS NULL THEN
        RAISE EXCEPTION 'the audit has no finding % of %', $1, $2
            USING ERRCODE = 'undefined_object', HINT = 'Take code and object from SELECT * FROM crm_tree.audit_walls();';
    ELSIF found = 'info' THEN
        RAISE EXCEPTION 'finding % of % is for information, and there is nothing to accept', $1, $2
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'crm_tree.assert_walls() does not count it.';
    ELSIF $3 !~ '\S' THEN
        RAISE EXCEPTION 'a finding is accepted for a reason'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT crm_tree.accept_finding(''bypassrls'', ''backup'', ''pg_dump runs as it'');';
    END IF;
    INSERT INTO crm_tree.accepted_finding AS a (code, object, reason) VALUES ($1, $2, $3)
    ON CONFLICT ON CONSTRAINT accepted_finding_pkey DO UPDATE SET reason = excluded.reason, accepted_by = session_user, accepted_at = now();
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
    SELECT a.code, a.object, a.reason, a.accepted_by, a.accepted_at, (a.code, a.object) IN (SELECT w.code, w.object FROM crm_tree.audit_walls(true) w)
      FROM crm_tree.accepted_finding a ORDER BY a.code, a.object
$$;
COMMENT ON FUNCTION crm_tree.accepted_findings() IS 'What was accepted, by whom and why, and whether the audit would still find it. For superusers and pg_monitor.';
REVOKE ALL ON FUNCTION crm_tree.accepted_findings(), crm_tree._audited_tables(), crm_tree._audit_tables(), crm_tree._audit_policies(), crm_tree._definer_ways(oid),
    crm_tree._audit_definers(), crm_tree._audit_keys(), crm_tree._audit_grants(), crm_tree._audit_roles(), crm_tree._audit_settings(), crm_tree._passes_walls(oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_tree.accepted_findings() TO pg_monitor;
