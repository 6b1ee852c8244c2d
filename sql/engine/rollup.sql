-- Rollups over any tree: the totals of every node, second parents included.

CREATE TABLE crm_tree.stale_org (
    relation regclass NOT NULL,
    org      text     COLLATE "C" NOT NULL,
    PRIMARY KEY (relation, org)
);
ALTER TABLE crm_tree.stale_org ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.stale_org FROM PUBLIC;
COMMENT ON TABLE crm_tree.stale_org IS 'Orgs of trees whose stored paths are known not to say what the parent links do: everything in them goes by the links. Entered by the first move under crm_tree.defer_paths, taken out by repair_tree().';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.stale_org', '');
CREATE FUNCTION crm_tree._flags_changed() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'crm_tree_flags_changed';
COMMENT ON FUNCTION crm_tree._flags_changed() IS 'Trigger of the registry of flagged orgs: every session looks again whether a tree has some.';
REVOKE ALL ON FUNCTION crm_tree._flags_changed() FROM PUBLIC;
CREATE TRIGGER flags_changed AFTER INSERT OR DELETE ON crm_tree.stale_org FOR EACH STATEMENT EXECUTE FUNCTION crm_tree._flags_changed();
ALTER TABLE crm_tree.stale_org ENABLE ALWAYS TRIGGER flags_changed;

CREATE FUNCTION crm_tree._paths_are_fresh("table" regclass, org text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'paths_are_fresh_wrapper';
COMMENT ON FUNCTION crm_tree._paths_are_fresh(regclass, text) IS 'Is the org of the tree not flagged in stale_org? One index probe. Of another org than the bound one, false to whoever row security of the table holds back.';

CREATE FUNCTION crm_tree._node_totals(nodes text, links text, path text, top_path text, top text, day date, mode text,
        stale boolean, only_top boolean) RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10000 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'node_totals_wrapper';
COMMENT ON FUNCTION crm_tree._node_totals(text, text, text, text, text, date, text, boolean, boolean) IS
'Runs, as the caller, a query of nodes (id, parent, label, depth integer, share numeric, own numeric; it ends in a WHERE clause, $3 is the day) and one of links (parent, child, share numeric, the paths of both), and returns (id, parent, label, depth integer, own numeric, total numeric, nodes bigint, duplicates bigint, unallocated numeric, missing bigint, day date, source text) of the node top and all below it, or of top alone.';

CREATE FUNCTION crm_tree.rollup(tree regclass, facts text, mode text DEFAULT 'distinct', top text DEFAULT NULL)
    RETURNS TABLE (id text, parent text, depth integer, own numeric, total numeric, descendants bigint,
                   duplicates_suppressed bigint, unallocated numeric, missing bigint, source text)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10000 AS 'MODULE_PATHNAME', 'rollup_tree_wrapper';
COMMENT ON FUNCTION crm_tree.rollup(regclass, text, text, text) IS
'Rolls a measure up over an attached tree: facts is a query of (id, amount), run as the caller, whose amounts are added up by id. A row for every node of the bound org, or for top and all below it, in tree order. mode: distinct (second parents of attach_links() included, each node once), weighted (by their ownership) or primary (the tree alone).';
