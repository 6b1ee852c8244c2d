-- How walls have to stand, and how they do; and the event triggers that keep them so.

CREATE FUNCTION crm_tree._wall_of(relation oid) RETURNS name
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT w.org_column FROM crm_tree.wall w WHERE w.relation = $1';
COMMENT ON FUNCTION crm_tree._wall_of(oid) IS 'Private: the org column of a table that is registered itself; null of another. For everybody, as _walls().';

-- These in plpgsql, which keeps its plans: planning costs ten times what the answer does, and they are asked at every DDL. With little
-- memory: a recursive union makes its hash table for as many rows as are estimated, which is all that work_mem has room for.
CREATE FUNCTION crm_tree._wall_family(relations oid[] DEFAULT NULL) RETURNS TABLE (relation oid, root oid, org_column name)
    LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 100 SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET work_mem = '1MB'
    -- By the indexes, step by step: a hash of pg_inherits is all of it, at every step.
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    -- In both, a partition that was protected by itself too belongs to itself.
    IF relations IS NULL THEN
        RETURN QUERY
        WITH RECURSIVE family(relation, root, org_column) AS (
            SELECT w.relation, w.relation, w.org_column FROM crm_tree._walls() w JOIN pg_class c ON c.oid = w.relation
            UNION
            SELECT i.inhrelid, f.root, f.org_column FROM family f JOIN pg_inherits i ON i.inhparent = f.relation)
        SELECT DISTINCT ON (relation) relation, root, org_column FROM family ORDER BY relation, relation <> root;
    ELSE
        RETURN QUERY
        WITH RECURSIVE up(relation, top) AS (
            SELECT r, r FROM unnest(relations) AS r
            UNION
            SELECT u.relation, i.inhparent FROM up u JOIN pg_inherits i ON i.inhrelid = u.top)
        SELECT DISTINCT ON (u.relation) u.relation, u.top, w.org_column
          FROM up u CROSS JOIN LATERAL crm_tree._wall_of(u.top) AS w(org_column)
         WHERE w.org_column IS NOT NULL
         ORDER BY u.relation, u.relation <> u.top;
    END IF;
END
$$;
COMMENT ON FUNCTION crm_tree._wall_family(oid[]) IS 'Private: the protected tables with their partitions and children, or those of them that are named. For everybody, as the catalog is: protect() asks as its caller.';

CREATE FUNCTION crm_tree._with_below(relations oid[]) RETURNS oid[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET work_mem = '1MB' AS $$
BEGIN
    RETURN (WITH RECURSIVE down(oid) AS (SELECT unnest($1) UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.oid)
            SELECT array_agg(oid) FROM down);
END
$$;
COMMENT ON FUNCTION crm_tree._with_below(oid[]) IS 'Private: tables, and all their partitions and children.';
REVOKE ALL ON FUNCTION crm_tree._with_below(oid[]) FROM PUBLIC;

-- Not pg_get_expr(): it takes a lock on the table whose expression it is, and so waits for whoever holds that. The workers of a parallel restore
-- hold a partition each, and would wait for one another.
CREATE FUNCTION crm_tree._policy_shape(expression pg_node_tree) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT regexp_replace($1::text, ' :(?!(?:opno|args|varno|varattno|varlevelsup|funcid|arg|resulttype) )[[:alnum:]_]+ (?:[(][b ]*[)]|[^ (){}]+)', '', 'g')
$$;
COMMENT ON FUNCTION crm_tree._policy_shape(pg_node_tree) IS 'Private: an expression without what follows from the operators, functions and columns in it, and what differs from version to version.';

CREATE FUNCTION crm_tree._wall_shape(relation oid, org_column name) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('{OPEXPR :opno %s :args (%s {FUNCEXPR :funcid %s :args <>})}', w.operator::oid,
                  CASE a.atttypid WHEN 'varchar'::regtype THEN format('{RELABELTYPE :arg %s :resulttype %s}', v.var, 'text'::regtype::oid) ELSE v.var END, w.asked::oid)
      FROM pg_attribute a
     CROSS JOIN LATERAL format('{VAR :varno 1 :varattno %s :varlevelsup 0}', a.attnum) AS v(var)
     CROSS JOIN LATERAL (SELECT CASE a.atttypid
               WHEN 'uuid'::regtype THEN '=(uuid,uuid)'::regoperator
               WHEN 'text'::regtype THEN '=(text,text)'::regoperator
               WHEN 'varchar'::regtype THEN '=(text,text)'::regoperator
               WHEN 'int2'::regtype THEN '=(int2,int8)'::regoperator
               WHEN 'int4'::regtype THEN '=(int4,int8)'::regoperator
               ELSE '=(int8,int8)'::regoperator END,
           CASE a.atttypid
               WHEN 'uuid'::regtype THEN 'crm_tree.current_org()'::regprocedure
               WHEN 'text'::regtype THEN 'crm_tree.current_org_text()'::regprocedure
               WHEN 'varchar'::regtype THEN 'crm_tree.current_org_text()'::regprocedure
               ELSE 'crm_tree.current_org_bigint()'::regprocedure END) AS w(operator, asked)
     WHERE a.attrelid = $1 AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION crm_tree._wall_shape(oid, name) IS 'Private: the condition of a wall as _policy_shape() shows it.';

CREATE FUNCTION crm_tree._changes_column(key pg_constraint, number int2, actions "char"[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT $2 = ANY ($1.conkey) AND ($1.confupdtype = ANY ($3) OR $1.confdeltype <> 'c' AND $1.confdeltype = ANY ($3) AND $2 = ANY (coalesce($1.confdelsetcols, $1.conkey)))
$$;
COMMENT ON FUNCTION crm_tree._changes_column(pg_constraint, int2, "char"[]) IS 'Private: does one of these actions of a foreign key change this column, on update or delete?';
REVOKE ALL ON FUNCTION crm_tree._changes_column(pg_constraint, int2, "char"[]) FROM PUBLIC;

CREATE FUNCTION crm_tree._wall_faults(relations oid[] DEFAULT NULL) RETURNS TABLE (relation oid, root oid, org_column name, fault text)
    LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10 SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH member AS MATERIALIZED (
        SELECT f.*, c.relkind, c.relrowsecurity, c.relforcerowsecurity, crm_tree._wall_shape(f.relation, f.org_column) AS shape
          FROM crm_tree._wall_family(relations) f JOIN pg_class c ON c.oid = f.relation),
    walled AS MATERIALIZED (
        SELECT f.relation, f.org_column FROM crm_tree._wall_family(ARRAY(
            SELECT DISTINCT i.inhparent FROM member m JOIN pg_inherits i ON i.inhrelid = m.relation)) f)
    SELECT m.relation, m.root, m.org_column, fault
      FROM member m
     CROSS JOIN LATERAL (
        SELECT 'foreign_partition' WHERE m.relkind = 'f'
        UNION ALL
        SELECT 'org_column' WHERE m.shape IS NULL
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
               AND crm_tree._policy_shape(p.polqual) = m.shape AND crm_tree._policy_shape(p.polwithcheck) = m.shape)
        UNION ALL
        SELECT 'base_policy' WHERE EXISTS (
            SELECT FROM pg_policy p
             WHERE p.polrelid = m.relation AND p.polname ~ '^crm_tree_base' AND p.polpermissive
               AND (coalesce(crm_tree._policy_shape(p.polqual) <> m.shape, false)
                    OR coalesce(crm_tree._policy_shape(p.polwithcheck) <> m.shape, false)))
        UNION ALL
        SELECT CASE WHEN bool_or(t.tgenabled = 'A') THEN NULL WHEN count(t.oid) > 0 THEN 'truncate_trigger_off' ELSE 'truncate_trigger' END
          FROM pg_trigger t
         WHERE t.tgrelid = m.relation AND t.tgname = 'crm_tree_refuse_truncate' AND t.tgfoid = 'crm_tree.refuse_truncate()'::regprocedure
           AND t.tgtype & 34 = 34 AND t.tgqual IS NULL AND m.relkind <> 'f'
        HAVING m.relkind <> 'f'
        UNION ALL
        -- A rule's action runs in the plan of whatever sets it off: a cascade's, or path maintenance's, which go past row security.
        SELECT 'rewrite_rule' WHERE EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = m.relation)
        UNION ALL
        -- It goes when the session ends, and the table with it, unseen.
        SELECT 'temporary_type' WHERE EXISTS (
            SELECT FROM pg_class c JOIN pg_type y ON y.oid = c.reloftype JOIN pg_namespace n ON n.oid = y.typnamespace
             WHERE c.oid = m.relation AND starts_with(n.nspname, 'pg_temp_'))
        UNION ALL
        -- PostgreSQL asks restrictive policies in the order of their names' bytes: one that comes before is asked of every org's rows.
        SELECT 'policy_before_wall' WHERE EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = m.relation AND NOT p.polpermissive AND p.polname::text COLLATE "C" < 'crm_tree_wall')
        UNION ALL
        -- Whoever writes to a table without a wall would move rows from org to org: a foreign key's action goes past row security. Of a
        -- default nobody has asked whose org it is.
        SELECT 'org_key' WHERE EXISTS (
            SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = m.relation AND a.attname = m.org_column
             WHERE k.conrelid = m.relation AND k.contype = 'f' AND crm_tree._changes_column(k, a.attnum, '{c,n,d}')
               AND (crm_tree._changes_column(k, a.attnum, '{d}') OR NOT EXISTS (
                   SELECT FROM crm_tree._wall_family(ARRAY[k.confrelid]) f JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attname = f.org_column
                     JOIN unnest(k.conkey, k.confkey) AS u(ours, theirs) ON u.ours = a.attnum AND u.theirs = b.attnum)))
        UNION ALL
        SELECT 'outer_parent' WHERE EXISTS (
            SELECT FROM pg_inherits i WHERE i.inhrelid = m.relation AND (i.inhparent, m.org_column) NOT IN (SELECT w.relation, w.org_column FROM walled w))
     ) AS found(fault)
     WHERE fault IS NOT NULL;
END
$$;
COMMENT ON FUNCTION crm_tree._wall_faults(oid[]) IS 'Private: where a protected table, partition or child does not stand as protect() left it. Takes no lock on any of them.';

-- Walls that were seen to stand, table by table. What is in here is defended by the event triggers. Not dumped: a wall that is being restored is
-- built up statement by statement, and is let alone until the last of them has made it whole.
CREATE TABLE crm_tree.wall_standing (
    relation oid PRIMARY KEY,
    owner    oid NOT NULL
);
ALTER TABLE crm_tree.wall_standing ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.wall_standing FROM PUBLIC;
COMMENT ON TABLE crm_tree.wall_standing IS 'Protected tables, partitions and children whose wall was whole when it was last looked at, and their owners then.';

CREATE TABLE crm_tree.watched_schema (
    schema     name PRIMARY KEY,
    action     text NOT NULL CHECK (action IN ('protect', 'warn', 'refuse')),
    org_column name NOT NULL,
    namespace  oid NOT NULL
);
ALTER TABLE crm_tree.watched_schema ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.watched_schema FROM PUBLIC;
COMMENT ON TABLE crm_tree.watched_schema IS 'Schemas in which new tables with an org column are protected, reported or refused. Written by watch_schema() and unwatch_schema().';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.watched_schema', '');
-- A watch goes with its schema, whatever that is called; a restore finds it by its name.
CREATE FUNCTION crm_tree._find_watched() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.namespace := (SELECT n.oid FROM pg_namespace n WHERE n.nspname = NEW.schema);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm_tree._find_watched() IS 'Trigger: the schema of that name.';
REVOKE ALL ON FUNCTION crm_tree._find_watched() FROM PUBLIC;
CREATE TRIGGER find_watched BEFORE INSERT OR UPDATE ON crm_tree.watched_schema FOR EACH ROW EXECUTE FUNCTION crm_tree._find_watched();
ALTER TABLE crm_tree.watched_schema ENABLE ALWAYS TRIGGER find_watched;

CREATE FUNCTION crm_tree._wall_is_moving(touched oid[]) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_wall_is_moving_wrapper';
COMMENT ON FUNCTION crm_tree._wall_is_moving(oid[]) IS 'Private: is DDL of protect() or unprotect() under way in this session? 40001 where it touched other tables than its own.';
CREATE FUNCTION crm_tree._drop_is_moving() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_drop_is_moving_wrapper';
COMMENT ON FUNCTION crm_tree._drop_is_moving() IS 'Private: the same of what was dropped; what that was, _others_stand() looks at when the work is done.';
CREATE FUNCTION crm_tree._expect_current_walls(touched oid[]) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_expect_current_walls_wrapper';
COMMENT ON FUNCTION crm_tree._expect_current_walls(oid[]) IS 'Private: 40001 where the transaction keeps a snapshot that does not show how the walls of these tables and their kin stand now.';
CREATE FUNCTION crm_tree._wall_off(relations oid[], closed boolean) RETURNS oid[]
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '_wall_off_wrapper';
COMMENT ON FUNCTION crm_tree._wall_off(oid[], boolean) IS 'Private: closes tables to everybody by the policy crm_tree_walled_off, or takes that away. Returns those that are still there.';
CREATE FUNCTION crm_tree._lock_against_children(relations oid[]) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_lock_against_children_wrapper';
COMMENT ON FUNCTION crm_tree._lock_against_children(oid[]) IS 'Private: nobody gives these tables a child, or takes one away, to the end of the transaction.';
CREATE FUNCTION crm_tree._raise_wall("table" regclass, org_column text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '_raise_wall_wrapper';
COMMENT ON FUNCTION crm_tree._raise_wall(regclass, text) IS 'Private: puts the wall up on one partition or child, as its owner.';

CREATE FUNCTION crm_tree._fault_shown(fault text, org_column name) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE $1
        WHEN 'rls_off' THEN 'row security is off'
        WHEN 'rls_not_forced' THEN 'row security is not forced on its owner'
        WHEN 'wall_policy' THEN 'the policy crm_tree_wall is gone or is another'
        WHEN 'base_policy' THEN 'a policy crm_tree_base is another'
        WHEN 'truncate_trigger' THEN 'the trigger that refuses TRUNCATE is gone'
        WHEN 'truncate_trigger_off' THEN 'the trigger that refuses TRUNCATE is disabled'
        WHEN 'org_nullable' THEN format('its org column "%s" may be null', $2)
        WHEN 'org_column' THEN format('its org column "%s" is gone', $2)
        WHEN 'org_key' THEN format('a foreign key changes its org column "%s" with a table that has no wall of the same org, or to its default', $2)
        WHEN 'rewrite_rule' THEN 'it has a rewrite rule, which runs past row security in cascades'
        WHEN 'outer_parent' THEN 'it can be read through a parent without this wall'
        WHEN 'temporary_type' THEN 'it is of a temporary type, and would go with that'
        WHEN 'policy_before_wall' THEN 'a restrictive policy whose name sorts before "crm_tree_wall" is asked of every org''s rows'
        ELSE $1 END
$$;
COMMENT ON FUNCTION crm_tree._fault_shown(text, name) IS 'Private: a fault of a wall in words.';
REVOKE ALL ON FUNCTION crm_tree._fault_shown(text, name) FROM PUBLIC;

CREATE FUNCTION crm_tree._wall_stands(root oid) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    members oid[] := ARRAY(SELECT f.relation FROM crm_tree._wall_family(crm_tree._with_below(ARRAY[$1])) f WHERE f.root = $1);
    fault   record;
BEGIN
    SELECT * INTO fault FROM crm_tree._wall_faults(members) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the wall of table % does not stand: table %: %', $1::regclass, fault.relation::regclass, crm_tree._fault_shown(fault.fault, fault.org_column)
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = CASE fault.fault
                WHEN 'org_key' THEN 'Protect the table that the key refers to first, or make the key anew without ON UPDATE, and without SET of the org column.'
                WHEN 'rewrite_rule' THEN 'DROP RULE first; a trigger can do the same.'
                ELSE 'Something changed it while it was put up. Look for event triggers of your own.' END;
    END IF;
    INSERT INTO crm_tree.wall_standing AS s (relation, owner)
    SELECT c.oid, c.relowner FROM pg_class c WHERE c.oid = ANY (members)
     -- In one order: two sessions may see the same wall stand.
     ORDER BY c.oid
    -- Another version each time: that is how a transaction knows that its snapshot is older.
    ON CONFLICT (relation) DO UPDATE SET owner = excluded.owner;
END
$$;
COMMENT ON FUNCTION crm_tree._wall_stands(oid) IS 'Private: from here on the wall of this table and all below it is defended.';

CREATE FUNCTION crm_tree._wall_fell(root oid) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
BEGIN
    DELETE FROM crm_tree.wall_standing s
     WHERE s.relation = $1 OR NOT EXISTS (SELECT FROM crm_tree._wall_family() f WHERE f.relation = s.relation);
    SELECT k.conrelid::regclass AS relation, k.conname INTO held
      FROM pg_constraint k JOIN crm_tree.wall_standing s ON s.relation = k.conrelid
     WHERE k.contype = 'f' AND k.confrelid = $1 AND EXISTS (SELECT FROM crm_tree._wall_faults(ARRAY[k.conrelid]) f WHERE f.relation = k.conrelid AND f.fault = 'org_key')
     ORDER BY k.conrelid, k.conname LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the wall of table % holds that of table %, whose foreign key "%" changes the org with it', $1::regclass, held.relation, held.conname
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('First SELECT crm_tree.unprotect(%L), or make the key anew without ON UPDATE.', held.relation);
    END IF;
    PERFORM crm_tree._wall_event_logged('unprotect', $1::regclass, 'the wall was taken down');
END
$$;
COMMENT ON FUNCTION crm_tree._wall_fell(oid) IS 'Private: the wall of this table was taken down by unprotect().';

CREATE FUNCTION crm_tree._wall_alarm(kind text, relation oid, detail text, cure text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM crm_tree._wall_event_logged($1, $2::regclass, $3);
    RAISE WARNING '%', $3 USING HINT = coalesce($4, 'SELECT * FROM crm_tree.audit_walls();');
END
$$;
COMMENT ON FUNCTION crm_tree._wall_alarm(text, oid, text, text) IS 'Private: an event, and a WARNING to whoever caused it.';

-- Looks at what a command left, not at the command: there are many ways to say the same. Definer: it reads the registries, and writes them.
CREATE FUNCTION crm_tree._watch_relations(touched oid[], altered boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    -- Superusers only: a restore into a database whose walls stand, and whoever knows what he does.
    lenient constant boolean := current_setting('session_replication_role') = 'replica';
    below   oid[];
    members oid[];
    roots   oid[];
    found   record;
    above   record;
    shown   text;
    locked  oid[] := '{}';
    joining oid[];
BEGIN
    IF touched IS NULL THEN
        RETURN;
    END IF;
    below := crm_tree._with_below(touched);
    SELECT array_agg(DISTINCT f.relation), array_agg(DISTINCT f.root) INTO members, roots
      FROM crm_tree._wall_family(below) f;
    -- What joins a family may be getting children of its own at this moment: whoever makes one goes first, or waits.
    -- Nobody waits for who is at those that stand there already.
    WHILE EXISTS (SELECT FROM unnest(roots) AS r(oid) JOIN crm_tree.wall_standing s ON s.relation = r.oid) LOOP
        joining := crm_tree._with_below(ARRAY(
            SELECT m.oid FROM unnest(members) AS m(oid) WHERE NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = m.oid)));
        EXIT WHEN joining IS NULL OR joining <@ locked;
        PERFORM crm_tree._lock_against_children(ARRAY(
            SELECT c.oid FROM pg_class c WHERE c.oid = ANY (joining) AND NOT c.oid = ANY (locked) AND c.relkind IN ('r', 'p') ORDER BY c.oid));
        locked := locked || joining;
        below := crm_tree._with_below(touched);
        SELECT array_agg(DISTINCT f.relation), array_agg(DISTINCT f.root) INTO members, roots
          FROM crm_tree._wall_family(below) f;
    END LOOP;

    -- What was detached keeps its wall, and gets a place of its own in the registry: what has no parent any more, or others that
    -- have no wall. The topmost first, which brings along what is below it.
    FOR found IN
        WITH orphan AS MATERIALIZED (
            SELECT s.relation FROM crm_tree.wall_standing s
             WHERE NOT EXISTS (SELECT FROM crm_tree.wall w WHERE w.relation = s.relation)
               AND (NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = s.relation)
                    OR s.relation = ANY (below) AND NOT s.relation = ANY (coalesce(members, '{}'))))
        SELECT DISTINCT s.relation, w.attname, EXISTS (SELECT FROM pg_inherits i JOIN orphan o ON o.relation = i.inhparent WHERE i.inhrelid = s.relation) AS lower
          FROM orphan s JOIN pg_class c ON c.oid = s.relation
          LEFT JOIN LATERAL (
              SELECT a.attname FROM pg_policy p
                JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
                                AND d.refobjid = p.polrelid AND d.refobjsubid > 0
                JOIN pg_attribute a ON a.attrelid = p.polrelid AND a.attnum = d.refobjsubid
               WHERE p.polrelid = s.relation AND p.polname = 'crm_tree_wall') w ON true
         WHERE w.attname IS NOT NULL OR s.relation = ANY (below)
         ORDER BY lower, s.relation
    LOOP
        CONTINUE WHEN found.lower AND EXISTS (SELECT FROM crm_tree._wall_family(ARRAY[found.relation]));
        shown := format('table %s: it is in no family of a wall any more, and its policy crm_tree_wall is gone', found.relation::regclass);
        IF found.attname IS NULL AND lenient THEN
            PERFORM crm_tree._wall_alarm('lowered', found.relation, 'the wall was lowered: ' || shown, NULL);
            DELETE FROM crm_tree.wall_standing s WHERE s.relation = found.relation;
            CONTINUE;
        ELSIF found.attname IS NULL THEN
            RAISE EXCEPTION 'this would lower the wall of %', shown USING ERRCODE = 'insufficient_privilege',
                HINT = 'A superuser or a wall administrator takes walls down by SELECT crm_tree.unprotect(…), on the table above.';
        END IF;
        INSERT INTO crm_tree.wall (relation, org_column) VALUES (found.relation, found.attname) ON CONFLICT (relation) DO NOTHING;
        PERFORM crm_tree._wall_event_logged('detached', found.relation::regclass, 'was detached, and keeps its wall');
        -- What a command has not touched it has not lowered; and nobody's command is refused for another's table.
        IF found.relation = ANY (below) THEN
            members := array_append(members, found.relation);
            roots := array_append(roots, found.relation);
        END IF;
    END LOOP;

    -- New partitions and children of a wall that stands.
    FOR found IN
        SELECT f.*, c.relkind, c.relowner, c.relpersistence FROM crm_tree._wall_family(members) f JOIN pg_class c ON c.oid = f.relation
         WHERE members IS NOT NULL AND f.relation <> f.root
           AND EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = f.root)
           AND NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = f.relation)
         ORDER BY f.relation
    LOOP
        IF lenient THEN
            RAISE WARNING 'table % is new below % and has no wall of its own', found.relation::regclass, found.root::regclass
                USING HINT = 'Afterwards: SELECT * FROM crm_tree.check_restore();';
            CONTINUE;
        ELSIF found.relkind = 'f' THEN
            RAISE EXCEPTION 'foreign table % cannot have row security, and so cannot be a partition or child of the protected table %', found.relation::regclass, found.root::regclass
                USING ERRCODE = 'wrong_object_type', HINT = 'Keep its rows in a table of this database, or protect them on the server where they live.';
        END IF;
        IF found.relpersistence = 't' THEN
            RAISE EXCEPTION 'temporary table % cannot be a child of the protected table %', found.relation::regclass, found.root::regclass
                USING ERRCODE = 'feature_not_supported', HINT = 'Make an ordinary or an UNLOGGED table: nothing sees a temporary one go with its session.';
        END IF;
        PERFORM crm_tree._raise_wall(found.relation::regclass, found.org_column::text);
        PERFORM crm_tree._protect_histories(ARRAY[found.relation]);
        PERFORM crm_tree._wall_event_logged('healed', found.relation::regclass, format('new below %s: the wall was put up', found.root::regclass));
        INSERT INTO crm_tree.wall_standing SELECT c.oid, c.relowner FROM pg_class c WHERE c.oid = found.relation;
        SELECT t.relation, c.relowner::regrole AS owner INTO above
          FROM crm_tree._trees() t JOIN pg_class c ON c.oid = t.relation
         WHERE (t.relation = found.root OR t.relation IN (SELECT relid FROM pg_partition_ancestors(found.relation))) AND c.relowner <> found.relowner;
        IF above.relation IS NOT NULL THEN
            PERFORM crm_tree._wall_alarm('owner', found.relation,
                format('table %s belongs to %s and the tree %s above it to %s: writes that need its paths are refused', found.relation::regclass, found.relowner::regrole, above.relation, above.owner),
                format('ALTER TABLE %s OWNER TO %s;', found.relation::regclass, above.owner));
        END IF;
    END LOOP;

    FOR found IN
        SELECT w.*, s.relation IS NOT NULL AS stood
          FROM crm_tree._wall_faults(members) w LEFT JOIN crm_tree.wall_standing s ON s.relation = w.relation
         WHERE members IS NOT NULL
         ORDER BY w.relation, w.fault
    LOOP
        CONTINUE WHEN NOT found.stood;
        shown := format('table %s: %s', found.relation::regclass, crm_tree._fault_shown(found.fault, found.org_column));
        IF lenient THEN
            PERFORM crm_tree._wall_alarm('lowered', found.relation, 'the wall was lowered: ' || shown, NULL);
            DELETE FROM crm_tree.wall_standing s WHERE s.relation = found.relation;
        ELSIF found.fault = 'truncate_trigger_off' THEN
            PERFORM crm_tree._raise_wall(found.relation::regclass, found.org_column::text);
            PERFORM crm_tree._wall_alarm('healed', found.relation, shown || '; it was enabled again', 'It stays enabled on a protected table.');
        ELSE
            RAISE EXCEPTION 'this would lower the wall of %', shown
                USING ERRCODE = 'insufficient_privilege',
                      HINT = CASE found.fault
                          WHEN 'org_key' THEN 'Leave ON UPDATE, and SET of the org column, out of the key; or protect the table that it refers to, and have the key compare the orgs.'
                          WHEN 'policy_before_wall' THEN 'They go by the bytes of their names: give it one behind that, "zz_…" say.'
                          ELSE format('A superuser or a wall administrator takes a wall down by SELECT crm_tree.unprotect(%L);', found.root::regclass) END;
        END IF;
    END LOOP;

    -- A wall that was being built up, and is whole now. Two sessions that end it at once see nothing of each other's part: then
    -- check_restore() looks. To make one wait for the other would be to deadlock some day.
    FOR found IN
        SELECT r.root FROM unnest(roots) AS r(root) WHERE NOT EXISTS (SELECT FROM crm_tree.wall_standing s WHERE s.relation = r.root)
    LOOP
        -- First what was touched: while a wall is built up that is cheaper, and mostly enough.
        CONTINUE WHEN EXISTS (SELECT FROM crm_tree._wall_faults(members) f WHERE f.root = found.root);
        CONTINUE WHEN EXISTS (SELECT FROM crm_tree._wall_faults(crm_tree._with_below(ARRAY[found.root])) f WHERE f.root = found.root);
        PERFORM crm_tree._wall_stands(found.root);
        PERFORM crm_tree._wall_event_logged('stands', found.root::regclass, 'the wall is whole');
    END LOOP;

    FOR found IN
        SELECT s.relation, o.rolname AS was, n.rolname AS is, n.oid FROM crm_tree.wall_standing s JOIN pg_class c ON c.oid = s.relation
          JOIN pg_roles n ON n.oid = c.relowner LEFT JOIN pg_roles o ON o.oid = s.owner
         WHERE s.relation = ANY (touched) AND c.relowner <> s.owner
    LOOP
        UPDATE crm_tree.wall_standing s SET owner = found.oid WHERE s.relation = found.relation;
        IF crm_tree._passes_walls(found.oid) THEN
            PERFORM crm_tree._wall_alarm('owner', found.relation,
                format('table %s now belongs to %s, who is under no row security', found.relation::regclass, quote_ident(found.is)),
                format('ALTER TABLE %s OWNER TO %s;', found.relation::regclass, coalesce(quote_ident(found.was), 'an ordinary role')));
        ELSE
            PERFORM crm_tree._wall_event_logged('owner', found.relation::regclass, format('belongs to %s, was %s''s', quote_ident(found.is), coalesce(quote_ident(found.was), 'nobody')));
        END IF;
    END LOOP;

    UPDATE crm_tree.wall_standing s SET owner = s.owner WHERE s.relation = ANY (touched);

    -- Tables with an org column in a watched schema; those below others behind them.
    FOR found IN
        SELECT c.oid, c.relkind, w.action, w.org_column, top.oid AS top
          FROM pg_class c JOIN crm_tree.watched_schema w ON w.namespace = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.org_column AND NOT a.attisdropped
         CROSS JOIN LATERAL (
             WITH RECURSIVE up(oid, level) AS (
                 SELECT c.oid, 0
                 UNION ALL
                 SELECT i.inhparent, up.level + 1 FROM up JOIN pg_inherits i ON i.inhrelid = up.oid)
             SELECT up.oid, up.level FROM up ORDER BY up.level DESC, up.oid LIMIT 1) AS top
         WHERE altered AND c.oid = ANY (below) AND c.relkind IN ('r', 'p', 'f')
         ORDER BY top.level, c.oid
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM crm_tree._wall_family(ARRAY[found.oid]));
        shown := format('table %s has an org column "%s" and no wall', found.oid::regclass, found.org_column);
        -- Below a table without a wall no wall would stand, and that table was not touched; a foreign one cannot have any.
        IF lenient OR found.action = 'warn' OR found.action = 'protect' AND (found.top <> found.oid OR found.relkind = 'f') THEN
            PERFORM crm_tree._wall_alarm('unwalled', found.oid, shown, CASE WHEN found.relkind = 'f' THEN 'A foreign table cannot have row security: grant it to nobody.'
                                                                            ELSE format('SELECT crm_tree.protect(%L, %L);', found.top::regclass, found.org_column) END);
        ELSIF found.action = 'protect' THEN
            PERFORM crm_tree.protect(found.oid::regclass, found.org_column::text);
            PERFORM crm_tree._wall_event_logged('protected', found.oid::regclass, 'made in a watched schema: the wall was put up');
        ELSE
            INSERT INTO crm_tree.wall_pending VALUES (found.oid, found.org_column);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm_tree._watch_relations(oid[], boolean) IS 'Private: heals, refuses or reports what a command did to the walls of these relations.';

-- A table of a watched schema may be made and protected by two statements of one transaction.
CREATE TABLE crm_tree.wall_pending (
    relation   oid NOT NULL,
    org_column name NOT NULL
);
ALTER TABLE crm_tree.wall_pending ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.wall_pending FROM PUBLIC;
COMMENT ON TABLE crm_tree.wall_pending IS 'Tables that must have a wall when the transaction that made them ends. Empty outside of such.';
CREATE FUNCTION crm_tree._refuse_unwalled() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM crm_tree.wall_pending p WHERE p.relation = NEW.relation;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = NEW.relation AND a.attname = NEW.org_column AND NOT a.attisdropped)
       AND NOT EXISTS (SELECT FROM crm_tree._wall_family(ARRAY[NEW.relation])) THEN
        RAISE EXCEPTION 'table % has an org column "%" and no wall, which its schema does not allow', NEW.relation::regclass, NEW.org_column
            USING ERRCODE = 'insufficient_privilege',
                  HINT = CASE WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid = NEW.relation AND c.relkind = 'f') THEN 'A foreign table cannot have row security: keep its rows in a table of this database.'
                              ELSE format('In the same transaction: SELECT crm_tree.protect(%L, %L);', NEW.relation::regclass, NEW.org_column) END;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm_tree._refuse_unwalled() IS 'Private: looks at the end of a transaction whether the tables it made in a watched schema have a wall.';
CREATE CONSTRAINT TRIGGER refuse_unwalled AFTER INSERT ON crm_tree.wall_pending DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crm_tree._refuse_unwalled();
ALTER TABLE crm_tree.wall_pending ENABLE ALWAYS TRIGGER refuse_unwalled;

CREATE FUNCTION crm_tree._locked(modes text[]) RETURNS oid[]
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT DISTINCT l.relation FROM pg_locks l
                  WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = ANY ($1) AND l.granted
                    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
$$;
COMMENT ON FUNCTION crm_tree._locked(text[]) IS 'Private: the relations that this transaction has locked so.';

CREATE FUNCTION crm_tree._watch_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET standard_conforming_strings = on AS $$
DECLARE
    touched oid[];
    lent    record;
BEGIN
    IF TG_TAG = 'ALTER SCHEMA' THEN
        FOR lent IN
            UPDATE crm_tree.watched_schema s SET schema = n.nspname
              FROM crm_tree.watched_schema was JOIN pg_namespace n ON n.oid = was.namespace
             WHERE s.schema = was.schema AND n.nspname <> was.schema RETURNING was.schema AS was, s.schema AS is
        LOOP
            PERFORM crm_tree._wall_alarm('watch', NULL, format('schema %I, which is watched, was renamed to %I: another of its old name is not watched', lent.was, lent.is),
                                         format('SELECT crm_tree.watch_schema(%L, …);', lent.was));
        END LOOP;
        RETURN;
    END IF;
    -- Of an extension's own script: its business.
    SELECT array_agg(DISTINCT relation) INTO touched
      FROM (SELECT CASE c.classid
                       WHEN 'pg_class'::regclass THEN c.objid
                       WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = c.objid)
                       WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = c.objid)
                       WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = c.objid)
                   END AS relation
              FROM pg_event_trigger_ddl_commands() c WHERE NOT c.in_extension) AS t
     WHERE relation IS NOT NULL;
    -- What is done to a composite type is done to the tables of that type; that of a table is the table's own.
    IF TG_TAG = 'ALTER TYPE' THEN
        IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
           AND EXISTS (SELECT FROM pg_event_trigger_ddl_commands() d LEFT JOIN pg_type y ON d.classid = 'pg_type'::regclass AND y.oid = d.objid
                        WHERE d.classid = 'pg_class'::regclass OR y.typtype = 'c') THEN
            RAISE EXCEPTION 'a composite type is altered at READ COMMITTED: a snapshot that is kept may not show all tables of the type'
                USING ERRCODE = 'invalid_transaction_state', HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED;';
        END IF;
        touched := touched || ARRAY(
            SELECT DISTINCT c.oid
              FROM pg_event_trigger_ddl_commands() d
              JOIN pg_class c ON c.reloftype = d.objid OR c.reloftype = (SELECT t.reltype FROM pg_class t WHERE t.oid = d.objid AND t.relkind = 'c')
             WHERE c.reloftype <> 0);
    END IF;
    IF crm_tree._wall_is_moving(touched) THEN
        RETURN;
    END IF;
    -- PostgreSQL tells nothing of what is done inside of a REFRESH MATERIALIZED VIEW: then it is one of those that DDL has locked.
    IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands()) THEN
        touched := crm_tree._locked('{AccessExclusiveLock,ExclusiveLock,ShareRowExclusiveLock,ShareUpdateExclusiveLock}');
    END IF;
    PERFORM crm_tree._expect_current_walls(touched);
    PERFORM crm_tree._watch_relations(touched, true);
    IF TG_TAG ~ 'RULE' AND EXISTS (SELECT FROM crm_tree.tree t WHERE t.relation = ANY (touched)) THEN
        RAISE EXCEPTION 'table % is a tree, which cannot have a rewrite rule', (SELECT t.relation FROM crm_tree.tree t WHERE t.relation = ANY (touched) LIMIT 1)
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'A trigger can do the same; detach_tree() first where it has to be a rule.';
    END IF;

    -- Views, materialized views, rules and functions that open a definer's way in.
    IF EXISTS (SELECT FROM crm_tree._walls()) THEN
        FOR lent IN
            SELECT DISTINCT w.* FROM (
                SELECT c.oid FROM pg_class c
                 WHERE c.oid = ANY (touched) AND (c.relkind = 'm' OR c.relhasrules AND (TG_TAG ~ 'RULE' OR crm_tree._passes_walls(c.relowner)))
                UNION
                SELECT p.oid FROM pg_event_trigger_ddl_commands() c JOIN pg_proc p ON c.classid = 'pg_proc'::regclass AND p.oid = c.objid
                 WHERE NOT c.in_extension AND p.prosecdef AND crm_tree._passes_walls(p.proowner)) AS made
             CROSS JOIN LATERAL crm_tree._definer_ways(made.oid) w
             ORDER BY w.code, w.object
        LOOP
            PERFORM crm_tree._wall_alarm(lent.code, CASE WHEN lent.code <> 'definer_function' THEN lent.oid END, format('%s: %s', lent.object, lent.detail), lent.fix);
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION crm_tree._watch_ddl() IS 'Event trigger: keeps the walls that stand as they are.';

CREATE FUNCTION crm_tree._others_stand(moved oid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    others oid[] := ARRAY(SELECT s.relation FROM crm_tree.wall_standing s WHERE s.relation = ANY (crm_tree._locked('{AccessExclusiveLock}')) AND NOT s.relation = ANY (moved));
BEGIN
    -- Its DDL names tables by text, and their schemas' owners can rename those at any time.
    IF cardinality(others) > 0 AND EXISTS (SELECT FROM crm_tree._wall_faults(others) f WHERE f.relation = ANY (others)) THEN
        RAISE EXCEPTION 'another table took the place of the one whose wall was to be moved'
            USING ERRCODE = 'serialization_failure', HINT = 'Somebody renamed it, or its schema. Try again.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm_tree._others_stand(oid[]) IS 'Private: 40001 where a wall has fallen beside those that were moved.';

CREATE FUNCTION crm_tree._watch_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    named  oid[];
    locked oid[];
    ended  name;
BEGIN
    -- A snapshot that is kept may not show the registry's rows of what is gone.
    PERFORM crm_tree._expect_current_walls(ARRAY(
        SELECT d.objid FROM pg_event_trigger_dropped_objects() d WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.object_type IN ('table', 'foreign table')));
    DELETE FROM crm_tree.wall_standing s USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND s.relation = d.objid;
    FOR ended IN
        DELETE FROM crm_tree.watched_schema s USING pg_event_trigger_dropped_objects() d
         WHERE d.classid = 'pg_namespace'::regclass AND s.namespace = d.objid RETURNING s.schema
    LOOP
        PERFORM crm_tree._wall_alarm('watch', NULL, format('schema %I was dropped, and is watched no more', ended),
                                     format('Where it is made again: SELECT crm_tree.watch_schema(%L, …);', ended));
    END LOOP;
    -- Not by a query, which a snapshot that is kept answers with the names of its time; a temporary one's is not that of its schema.
    SELECT array_agg(DISTINCT t.oid) INTO named
      FROM pg_event_trigger_dropped_objects() d
     CROSS JOIN LATERAL CAST(to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) AS oid) AS t(oid)
     WHERE d.object_type IN ('policy', 'trigger', 'rule', 'table column') AND t.oid IS NOT NULL;
    IF crm_tree._drop_is_moving() THEN
        RETURN;
    END IF;
    PERFORM crm_tree._expect_current_walls(named);
    -- A policy that is gone has no table any more but by those names, which may be another's by now. Who drops it, or a trigger or
    -- a column, has the table to himself to the end of the transaction: where a wall may have fallen, it is looked for among those.
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                WHERE d.object_type = 'policy' AND starts_with(d.address_names[3], 'crm_tree')
                   OR d.object_type = 'trigger' AND d.address_names[3] = 'crm_tree_refuse_truncate'
                   OR d.object_type = 'table column') THEN
        locked := crm_tree._locked('{AccessExclusiveLock}');
        PERFORM crm_tree._expect_current_walls(locked);
        named := named || ARRAY(SELECT s.relation FROM crm_tree.wall_standing s WHERE s.relation = ANY (locked));
    END IF;
    PERFORM crm_tree._watch_relations(named, false);
END
$$;
COMMENT ON FUNCTION crm_tree._watch_drop() IS 'Event trigger: as _watch_ddl(), for what is dropped; and the registries forget what is gone.';

CREATE EVENT TRIGGER crm_tree_watch ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'CREATE SCHEMA', 'ALTER SCHEMA',
                 'CREATE POLICY', 'ALTER POLICY', 'CREATE TRIGGER', 'ALTER TRIGGER', 'CREATE RULE', 'ALTER RULE', 'CREATE VIEW', 'ALTER VIEW',
                 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE PROCEDURE', 'ALTER PROCEDURE', 'ALTER ROUTINE', 'ALTER TYPE')
    EXECUTE FUNCTION crm_tree._watch_ddl();
ALTER EVENT TRIGGER crm_tree_watch ENABLE ALWAYS;
CREATE EVENT TRIGGER crm_tree_watch_drop ON sql_drop EXECUTE FUNCTION crm_tree._watch_drop();
ALTER EVENT TRIGGER crm_tree_watch_drop ENABLE ALWAYS;

-- When the extension goes, so do the policies that ask its functions, but not the permissive ones of users' own: alone they would open their
-- tables. The event triggers go too, before sql_drop or ddl_command_end would call them. So ddl_command_start closes such tables, without
-- knowing what is going to be dropped, and ddl_command_end, where it is still there to be called, opens them again.
CREATE TABLE crm_tree.closed_for_drop (
    relation oid PRIMARY KEY
);
ALTER TABLE crm_tree.closed_for_drop ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.closed_for_drop FROM PUBLIC;
COMMENT ON TABLE crm_tree.closed_for_drop IS 'Tables that are closed while a DROP runs that could be the extension''s own. Empty outside of such.';

CREATE FUNCTION crm_tree._opened_by_our_end() RETURNS SETOF oid
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE going(classid, objid, objsubid) AS (
        SELECT 'pg_extension'::regclass::oid, e.oid, 0 FROM pg_extension e WHERE e.extname = 'crm_tree'
        UNION
        SELECT n.classid, n.objid, n.objsubid
          FROM going g
         CROSS JOIN LATERAL (
             -- What depends on it; of a table, where only the column goes, what depends on that.
             SELECT d.classid, d.objid, d.objsubid FROM pg_depend d
              WHERE d.refclassid = g.classid AND d.refobjid = g.objid AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
             UNION ALL
             -- And what it is a part of: a rule's view, a column that is computed.
             SELECT d.refclassid, d.refobjid, d.refobjsubid FROM pg_depend d
              WHERE d.classid = g.classid AND d.objid = g.objid AND d.deptype = 'i' AND g.classid IN ('pg_rewrite'::regclass, 'pg_attrdef'::regclass)) AS n),
    policy AS MATERIALIZED (
        SELECT p.polrelid, p.polname, p.polpermissive, EXISTS (SELECT FROM going g WHERE g.classid = 'pg_policy'::regclass AND g.objid = p.oid) AS goes
          FROM pg_policy p)
    SELECT polrelid FROM policy JOIN pg_class c ON c.oid = polrelid AND c.relpersistence <> 't' GROUP BY polrelid
    HAVING bool_or(goes AND NOT polpermissive) AND bool_or(polpermissive AND NOT goes) AND NOT bool_or(polname = 'crm_tree_walled_off' AND NOT polpermissive)
     ORDER BY polrelid
$$;
COMMENT ON FUNCTION crm_tree._opened_by_our_end() IS 'Private: tables that would keep a permissive policy and lose a restrictive one with the extension.';

CREATE FUNCTION crm_tree._close_before_drop() RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO crm_tree.closed_for_drop SELECT unnest(crm_tree._wall_off(ARRAY(SELECT * FROM crm_tree._opened_by_our_end()), true));
    IF EXISTS (SELECT FROM crm_tree._opened_by_our_end()) THEN
        RAISE EXCEPTION 'another table took the place of one that was to be closed'
            USING ERRCODE = 'serialization_failure', HINT = 'Somebody renamed it, or gave it a policy. Try again.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm_tree._close_before_drop() IS 'Private: closes tables that would be open without the extension. For who may drop it.';

-- As its caller: it asks what he may do.
CREATE FUNCTION crm_tree._before_drop() RETURNS event_trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Others cannot drop the extension, and are not to lock tables by dropping what is theirs.
    IF NOT has_function_privilege('crm_tree._close_before_drop()', 'EXECUTE') THEN
        RETURN;
    END IF;
    IF TG_TAG = 'DROP OWNED' THEN
        -- What the bootstrap superuser owns cannot be dropped so.
        IF NOT EXISTS (SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                        WHERE e.extname IN ('crm_tree', 'plpgsql') AND (e.extowner <> 10 OR e.extname = 'crm_tree' AND n.nspowner <> 10))
           AND NOT EXISTS (SELECT FROM pg_language l WHERE l.lanname = 'plpgsql' AND l.lanowner <> 10) THEN
            RETURN;
        END IF;
    -- One statement that plainly names others need not lock what it does not touch.
    ELSIF current_query() ~* '^[[:space:]]*DROP[[:space:]]+(SCHEMA|EXTENSION|LANGUAGE)[[:space:]][[:alnum:]_[:space:],]*;?[[:space:]]*$'
          AND current_query() !~* 'crm_tree|plpgsql' THEN
        RETURN;
    END IF;
    PERFORM crm_tree._close_before_drop();
END
$$;
COMMENT ON FUNCTION crm_tree._before_drop() IS 'Event trigger: no table is to be open because the extension is gone.';

CREATE FUNCTION crm_tree._after_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    closed oid[];
BEGIN
    WITH gone AS (DELETE FROM crm_tree.closed_for_drop RETURNING relation)
    SELECT array_agg(relation) INTO closed FROM gone;
    PERFORM crm_tree._wall_off(closed, false);
END
$$;
COMMENT ON FUNCTION crm_tree._after_drop() IS 'Event trigger: something else was dropped, and what _before_drop() closed is open again.';

CREATE EVENT TRIGGER crm_tree_before_drop ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP LANGUAGE')
    EXECUTE FUNCTION crm_tree._before_drop();
ALTER EVENT TRIGGER crm_tree_before_drop ENABLE ALWAYS;
CREATE EVENT TRIGGER crm_tree_after_drop ON ddl_command_end WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP LANGUAGE')
    EXECUTE FUNCTION crm_tree._after_drop();
ALTER EVENT TRIGGER crm_tree_after_drop ENABLE ALWAYS;

CREATE FUNCTION crm_tree.watch_schema(schema text, action text DEFAULT 'protect', org_column text DEFAULT 'org_id') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = $1) THEN
        RAISE EXCEPTION 'schema "%" does not exist', $1 USING ERRCODE = 'invalid_schema_name', HINT = format('CREATE SCHEMA %I;', $1);
    ELSIF $2 NOT IN ('protect', 'warn', 'refuse') THEN
        RAISE EXCEPTION 'action is "%", which is none of protect, warn, refuse', $2
            USING ERRCODE = 'invalid_parameter_value', HINT = format('SELECT crm_tree.watch_schema(%L, action => ''warn'');', $1);
    END IF;
    INSERT INTO crm_tree.watched_schema AS s (schema, action, org_column) VALUES ($1, $2, $3)
    ON CONFLICT ON CONSTRAINT watched_schema_pkey DO UPDATE SET action = excluded.action, org_column = excluded.org_column;
    FOR found IN
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE n.nspname = $1 AND a.attname = $3 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM crm_tree._wall_family() f WHERE f.relation = c.oid)
         ORDER BY c.relname
    LOOP
        RAISE WARNING 'table % has an org column "%" and no wall', found, $3 USING HINT = format('SELECT crm_tree.protect(%L, %L);', found, $3);
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm_tree.watch_schema(text, text, text) IS 'Watches a schema for tables with an org column and no wall that are made, altered or moved there: protect puts the wall up, warn reports, refuse refuses at the end of the transaction (42501). Those already there are reported. For superusers and roles granted EXECUTE.';
CREATE FUNCTION crm_tree.unwatch_schema(schema text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM crm_tree.watched_schema s WHERE s.schema = $1;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION crm_tree.unwatch_schema(text) IS 'Ends watch_schema(); false where it was not watched.';

CREATE FUNCTION crm_tree.check_restore() RETURNS TABLE (code text, object text, detail text, fix text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET quote_all_identifiers = off AS $$
DECLARE
    off record;
BEGIN
    -- pg_restore --disable-triggers leaves what was enabled ALWAYS enabled as others are. Ours are: the walls', the registries', the CRM's.
    FOR off IN
        SELECT f.relation::regclass AS relation, 'crm_tree_refuse_truncate' AS trigger FROM crm_tree._wall_faults() f WHERE f.fault = 'truncate_trigger_off'
        UNION
        SELECT t.tgrelid, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE t.tgenabled <> 'A' AND NOT t.tgisinternal
           AND ((t.tgrelid, t.tgname) IN (('crm_tree.wall'::regclass, 'wall_changed'), ('crm_tree.stale_org'::regclass, 'flags_changed'), ('crm_tree.watched_schema'::regclass, 'find_watched'))
                OR p.proname = '_append_only' AND p.pronamespace::regnamespace::text IN (SELECT quote_ident(i.schema) FROM crm_tree.crm_instance i))
         ORDER BY 1, 2
    LOOP
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', off.relation, off.trigger);
    END LOOP;
    UPDATE crm_tree.watched_schema SET schema = schema;
    PERFORM crm_tree._wall_stands(w.relation)
       FROM crm_tree._walls() w JOIN pg_class c ON c.oid = w.relation
      WHERE NOT EXISTS (SELECT FROM crm_tree._wall_faults() f WHERE f.root = w.relation);
    RETURN QUERY
        SELECT a.code, a.object, a.detail, a.fix FROM crm_tree.audit_walls(true) a
         WHERE a.code IN ('table_without_wall', 'wall_of_nothing', 'wall_not_registered', 'grant_of_nobody', 'event_trigger_disabled')
            OR EXISTS (SELECT FROM crm_tree._wall_faults() f
                        WHERE f.fault = a.code AND (a.object = f.relation::regclass::text OR starts_with(a.object, f.relation::regclass::text || '.')))
            OR a.code = 'partition_without_wall'
        UNION ALL
        -- Closed, and so no hole, but not as protect() left it.
        SELECT 'base_policy_missing', m.relation::regclass::text,
               format('No permissive policy is there for %s, which is refused to everybody.', string_agg(command.name, ', ' ORDER BY command.place)),
               format('SELECT crm_tree.protect(%L, %L);', m.root::regclass::text, m.org_column)
          FROM crm_tree._wall_family() m JOIN pg_class c ON c.oid = m.relation AND c.relkind <> 'f'
         CROSS JOIN (VALUES (1, 'r', 'SELECT'), (2, 'a', 'INSERT'), (3, 'w', 'UPDATE'), (4, 'd', 'DELETE')) AS command(place, code, name)
         WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = m.relation AND p.polpermissive AND p.polcmd IN ('*', command.code::"char"))
           -- Its fix is the same.
           AND NOT EXISTS (SELECT FROM crm_tree._wall_faults() f WHERE f.relation = m.relation AND f.fault IN ('rls_off', 'wall_policy', 'org_column'))
         GROUP BY m.relation, m.root, m.org_column;
END
$$;
COMMENT ON FUNCTION crm_tree.check_restore() IS 'After a restore: has every wall everything it needs? Returns what is missing, and the SQL that mends it. Empty is right. Triggers that have to be are enabled ALWAYS again, and walls that are whole are watched from here on. For superusers.';

REVOKE ALL ON FUNCTION crm_tree.watch_schema(text, text, text), crm_tree.unwatch_schema(text), crm_tree.check_restore(),
    crm_tree._policy_shape(pg_node_tree), crm_tree._wall_shape(oid, name), crm_tree._wall_faults(oid[]), crm_tree._raise_wall(regclass, text), crm_tree._wall_off(oid[], boolean), crm_tree._lock_against_children(oid[]), crm_tree._locked(text[]), crm_tree._others_stand(oid[]),
    crm_tree._opened_by_our_end(), crm_tree._close_before_drop(), crm_tree._refuse_unwalled(), crm_tree._wall_stands(oid), crm_tree._wall_fell(oid), crm_tree._wall_alarm(text, oid, text, text), crm_tree._watch_relations(oid[], boolean) FROM PUBLIC;
