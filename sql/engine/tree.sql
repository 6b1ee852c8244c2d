-- Trees: attach, maintain, read, check, repair.

CREATE TABLE crm_tree.tree (
    relation      regclass PRIMARY KEY,
    org_column    name NOT NULL,
    id_column     name NOT NULL,
    parent_column name NOT NULL,
    path_column   name NOT NULL,
    depth_column  name NOT NULL,
    max_depth     integer NOT NULL,
    on_delete     text NOT NULL CHECK (on_delete IN ('restrict', 'adopt', 'rootify', 'cascade')),
    history       regclass,
    attached_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE crm_tree.tree ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.tree FROM PUBLIC;
COMMENT ON TABLE crm_tree.tree IS 'Attached trees. Written by attach_tree() and detach_tree(). The triggers carry the same facts as arguments; check_tree() reports one that is missing.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.tree', 'WHERE relation IN (SELECT oid FROM pg_catalog.pg_class)');

CREATE FUNCTION crm_tree._trees() RETURNS SETOF crm_tree.tree
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT * FROM crm_tree.tree';
COMMENT ON FUNCTION crm_tree._trees() IS 'The attached trees. Definer: the same facts stand in pg_trigger for everybody, and the registry has no policy.';

CREATE FUNCTION crm_tree._tree_lock() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_lock';
COMMENT ON FUNCTION crm_tree._tree_lock() IS 'BEFORE STATEMENT trigger of attached trees: takes the org''s lock before any row is locked.';
CREATE FUNCTION crm_tree._tree_place() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_place';
COMMENT ON FUNCTION crm_tree._tree_place() IS 'BEFORE ROW trigger of attached trees: sets path and depth, keeps the key fixed, and lets a delete have its org alone.';
CREATE FUNCTION crm_tree._tree_settle() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_settle';
COMMENT ON FUNCTION crm_tree._tree_settle() IS 'AFTER ROW trigger of attached trees: judges the statement''s final state and rewrites the paths below what moved.';
CREATE FUNCTION crm_tree._tree_adopt() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_adopt';
COMMENT ON FUNCTION crm_tree._tree_adopt() IS 'AFTER DELETE trigger of trees that adopt: gives the children to the nearest ancestor left.';

CREATE FUNCTION crm_tree._tree_note() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_note';
COMMENT ON FUNCTION crm_tree._tree_note() IS 'BEFORE DELETE row trigger of trees with history: notes the node, takes the org''s lock where the statement could not.';
CREATE FUNCTION crm_tree._tree_record() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_record';
COMMENT ON FUNCTION crm_tree._tree_record() IS 'AFTER ROW trigger of trees with history: writes down the edges that the statement has changed.';
CREATE FUNCTION crm_tree._tree_history_guard() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_history_guard';
COMMENT ON FUNCTION crm_tree._tree_history_guard() IS 'BEFORE STATEMENT trigger of history tables: refuses whoever is not the tree. On the tree itself it refuses TRUNCATE.';
CREATE FUNCTION crm_tree._is_own_xid(xid text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'is_own_xid_wrapper';
COMMENT ON FUNCTION crm_tree._is_own_xid(text) IS 'Is it a transaction id of this transaction or one of its savepoints? For a row''s xmin.';

CREATE FUNCTION crm_tree._protect_histories(relations oid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM crm_tree.protect(t.history, 'org') FROM crm_tree.tree t WHERE t.history IS NOT NULL AND t.relation = ANY (relations);
END
$$;
COMMENT ON FUNCTION crm_tree._protect_histories(oid[]) IS 'Private: protects the histories of those of the tables that are trees with one.';
REVOKE ALL ON FUNCTION crm_tree._protect_histories(oid[]) FROM PUBLIC;

-- A wall that is put up after the history was begun goes up around the history too. In a restore the
-- wall's policy is not there yet, and the history's own comes with the dump.
CREATE FUNCTION crm_tree._protect_history() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_policy WHERE polrelid = NEW.relation AND polname = 'crm_tree_wall') THEN
        PERFORM crm_tree._protect_histories(crm_tree._with_below(ARRAY[NEW.relation::oid]));
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm_tree._protect_history() IS 'Trigger of crm_tree.wall: protects the histories of the trees among a table that is being protected and all below it.';
CREATE TRIGGER protect_history AFTER INSERT OR UPDATE ON crm_tree.wall FOR EACH ROW EXECUTE FUNCTION crm_tree._protect_history();

CREATE FUNCTION crm_tree.path_ids(path text) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'path_ids_wrapper';
COMMENT ON FUNCTION crm_tree.path_ids(text) IS 'The ids on a path, root first.';
CREATE FUNCTION crm_tree.path_depth(path text) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'path_depth_wrapper';
COMMENT ON FUNCTION crm_tree.path_depth(text) IS 'Levels below the root, 0 for a root; null for what is no path.';
CREATE FUNCTION crm_tree.path_parent(path text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'path_parent_wrapper';
COMMENT ON FUNCTION crm_tree.path_parent(text) IS 'The parent''s path; null for a root.';
CREATE FUNCTION crm_tree.path_root(path text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'path_root_wrapper';
COMMENT ON FUNCTION crm_tree.path_root(text) IS 'The root''s id.';
CREATE FUNCTION crm_tree.path_is_within(path text, ancestor text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'path_is_within_wrapper';
COMMENT ON FUNCTION crm_tree.path_is_within(text, text) IS 'Is the first path the second or below it? For filters; an index serves the range path >= p AND path < subtree_end(p).';
CREATE FUNCTION crm_tree.path_lca(a text, b text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'path_lca_wrapper';
COMMENT ON FUNCTION crm_tree.path_lca(text, text) IS 'The path of the lowest common ancestor, a node counting as its own; null where the two share no root.';
CREATE FUNCTION crm_tree.subtree_end(path text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'subtree_end_wrapper';
COMMENT ON FUNCTION crm_tree.subtree_end(text) IS 'The end of a subtree''s range: path >= p AND path < subtree_end(p) is the node p and all below it, under COLLATE "C". Compute both bounds first; from a column of the join the upper one is no index condition.';

CREATE FUNCTION crm_tree.attach_tree("table" regclass, id text, parent text, org text DEFAULT 'org_id',
        path text DEFAULT 'materialized_path', depth text DEFAULT 'depth', max_depth integer DEFAULT 32,
        on_delete text DEFAULT 'restrict', history boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'attach_tree_wrapper';
COMMENT ON FUNCTION crm_tree.attach_tree(regclass, text, text, text, text, text, integer, text, boolean) IS 'Makes a table a tree: adds the path and depth columns, the key (org, id), the foreign key (org, parent) and the indexes it lacks, fills the paths, installs the triggers. on_delete is restrict, adopt, rootify or cascade; history keeps the edges of every moment in <table>_history. 23514 where the links are no tree. The caller owns the table; may be run again with other settings.';
CREATE FUNCTION crm_tree.detach_tree("table" regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'detach_tree_wrapper';
COMMENT ON FUNCTION crm_tree.detach_tree(regclass) IS 'Removes the triggers of a tree. Columns, keys, indexes and its history stay.';

CREATE TYPE crm_tree.tree_node AS (id text, parent text, path text, depth integer);
COMMENT ON TYPE crm_tree.tree_node IS 'A node of any attached tree.';

CREATE FUNCTION crm_tree.subtree("table" regclass, id text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'subtree_wrapper';
COMMENT ON FUNCTION crm_tree.subtree(regclass, text) IS 'The node and all below it, in path order (a parent before its children). Read as the caller, behind his wall; in an unbound session of every org that has the id.';
CREATE FUNCTION crm_tree.ancestors("table" regclass, id text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'ancestors_wrapper';
COMMENT ON FUNCTION crm_tree.ancestors(regclass, text) IS 'The nodes above a node, root first, without the node itself.';
CREATE FUNCTION crm_tree.children("table" regclass, id text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'children_wrapper';
COMMENT ON FUNCTION crm_tree.children(regclass, text) IS 'The nodes whose parent is the node, in the order of the key.';
CREATE FUNCTION crm_tree.siblings("table" regclass, id text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'siblings_wrapper';
COMMENT ON FUNCTION crm_tree.siblings(regclass, text) IS 'The other nodes below the node''s parent, in the order of the key; of a root, the other roots of its org.';
CREATE FUNCTION crm_tree.leaves("table" regclass, id text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'leaves_wrapper';
COMMENT ON FUNCTION crm_tree.leaves(regclass, text) IS 'The nodes of a subtree that have no children, in path order; the node itself where it has none.';
CREATE FUNCTION crm_tree.root_of("table" regclass, id text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'root_of_wrapper';
COMMENT ON FUNCTION crm_tree.root_of(regclass, text) IS 'The root above a node; a root is its own.';
CREATE FUNCTION crm_tree.lowest_common_ancestor("table" regclass, a text, b text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'lowest_common_ancestor_wrapper';
COMMENT ON FUNCTION crm_tree.lowest_common_ancestor(regclass, text, text) IS 'The deepest node that has both below it or is one of them. No row where they share no root.';
CREATE FUNCTION crm_tree.node_counts("table" regclass, id text) RETURNS TABLE (children bigint, descendants bigint, leaves bigint, height integer)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'node_counts_wrapper';
COMMENT ON FUNCTION crm_tree.node_counts(regclass, text) IS 'Of a subtree: how many nodes are children, how many lie below at any level, how many are leaves (the node itself where it is one), and how many levels lie below the node.';

CREATE FUNCTION crm_tree.preview_move("table" regclass, id text, new_parent text)
        RETURNS TABLE (rows_touched bigint, new_depth integer, deepest integer, cycles boolean, refusal text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'preview_move_wrapper';
COMMENT ON FUNCTION crm_tree.preview_move(regclass, text, text) IS 'What UPDATE … SET parent = new_parent (null: a root) would do to the node: the rows whose link or path it writes, the node''s new depth, the deepest level of its subtree then, whether it would make a cycle, and the message it would be refused with. Changes and locks nothing. No row for an id that is not there to be seen. Takes the right to update the parent.';

-- No SET clause: the caller's statements that it runs fire the triggers of the table, which may need his search_path.
CREATE FUNCTION crm_tree.merge_nodes("table" regclass, "from" text, "into" text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'crm_tree_merge_nodes';
COMMENT ON FUNCTION crm_tree.merge_nodes(regclass, text, text) IS 'Gives the children of the node "from" to the node "into" and deletes "from", under the org''s exclusive lock. As the caller, behind his wall; refused (42501) where children would stay behind that he may not see. Returns how many children moved. Rows of other tables that refer to "from" go by their foreign keys.';
CREATE FUNCTION crm_tree.preview_merge("table" regclass, "from" text, "into" text)
        RETURNS TABLE (children bigint, rows_touched bigint, deepest integer, refusal text)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'preview_merge_wrapper';
COMMENT ON FUNCTION crm_tree.preview_merge(regclass, text, text) IS 'What merge_nodes() would do: the children that move, the rows whose link or path it writes (the deleted one aside), the deepest of them then, and the message it would be refused with. Changes and locks nothing. No row where one of the two is not there to be seen.';

-- No SET clause, as for merge_nodes.
CREATE FUNCTION crm_tree.load_tree(target regclass, staging regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'crm_tree_load_tree';
COMMENT ON FUNCTION crm_tree.load_tree(regclass, regclass) IS 'Inserts the rows of a staging table into a tree, columns matched by name, with paths computed by the set, and returns how many. In any order; parents may be in the staging table or in the tree. As the caller, behind his wall; all rows or none, with the same refusals as INSERT. 55000 where the org''s paths are deferred.';

CREATE FUNCTION crm_tree.subtree_as_of("table" regclass, id text, at timestamptz) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'subtree_as_of_wrapper';
COMMENT ON FUNCTION crm_tree.subtree_as_of(regclass, text, timestamptz) IS 'The node and all that was below it at a moment, in path order, along the edges that stood then. Of a tree attached with history => true; read as the caller, behind his wall, from <table>_history.';
CREATE FUNCTION crm_tree.ancestors_as_of("table" regclass, id text, at timestamptz) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'ancestors_as_of_wrapper';
COMMENT ON FUNCTION crm_tree.ancestors_as_of(regclass, text, timestamptz) IS 'The nodes that were above a node at a moment, root first, without the node itself.';

CREATE TABLE crm_tree._tree_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    relation regclass NOT NULL,
    org      text,
    kind     text NOT NULL,
    count    bigint NOT NULL,
    example  text
);
ALTER TABLE crm_tree._tree_event ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree._tree_event FROM PUBLIC;
COMMENT ON TABLE crm_tree._tree_event IS 'What repair_tree() found before it repaired. Written by it alone.';

-- As the owner of the trees' registry; security_barrier keeps a caller's own condition from other owners' rows.
CREATE VIEW crm_tree.tree_event WITH (security_barrier) AS
    SELECT e.event_id, e.at, e.relation, e.org, e.kind, e.count, e.example
      FROM crm_tree._tree_event e
      LEFT JOIN pg_catalog.pg_class c ON c.oid = e.relation
     WHERE pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') OR pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE');
GRANT SELECT ON crm_tree.tree_event TO PUBLIC;
COMMENT ON VIEW crm_tree.tree_event IS 'Drift that repair_tree() found, a row an org and kind: how many nodes, and one of them. Kinds are those of check_tree(). Of trees whose owner''s privileges you have; all of them for pg_monitor.';

CREATE FUNCTION crm_tree.check_tree("table" regclass) RETURNS TABLE (org text, id text, problem text, detail text)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'check_tree_wrapper';
COMMENT ON FUNCTION crm_tree.check_tree(regclass) IS 'What is wrong in a tree: cycle, orphan, stale_path, wrong_depth, too_deep, bad_id, trigger_missing, key_missing, stale_history; with second parents also link_cycle and ownership. Empty is right. Of the bound org, or of all the caller may read.';
CREATE FUNCTION crm_tree.repair_tree("table" regclass, org text DEFAULT NULL) RETURNS TABLE (repaired bigint, cycles bigint, orphans bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'repair_tree_wrapper';
COMMENT ON FUNCTION crm_tree.repair_tree(regclass, text) IS 'Recomputes paths and depths from the parent links and rewrites only the rows that differ, org by org; an org in which nothing is wrong is not locked. Ends the deferral of an org''s paths (crm_tree.defer_paths) once all of them are right. Opens and closes what its history is behind by. Writes down in tree_event what it found. Cycles and orphans are counted, not mended: the links do not say how. Of the org given, else of the bound one, else of all. The caller owns the table.';
CREATE FUNCTION crm_tree._tree_orgs("table" regclass) RETURNS SETOF text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tree_orgs_wrapper';
COMMENT ON FUNCTION crm_tree._tree_orgs(regclass) IS 'The orgs that have nodes in a tree, or deferred paths, for jobs that go org by org. The caller owns the table.';
CREATE FUNCTION crm_tree._is_rewriting_paths() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'is_rewriting_paths_wrapper';

CREATE FUNCTION crm_tree._lock_org_work(about regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'lock_org_work_wrapper';
COMMENT ON FUNCTION crm_tree._lock_org_work(regclass) IS 'Private: makes computations of a table for the bound org take turns, until the transaction ends. No user''s advisory lock is in its way.';

CREATE FUNCTION crm_tree.touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT crm_tree._is_rewriting_paths() THEN
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm_tree.touch_updated_at() IS 'BEFORE UPDATE row trigger: sets updated_at, except where only path maintenance writes the row.';
