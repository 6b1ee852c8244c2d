-- Deferred paths: what the template asks where an org's paths may not be kept up.

CREATE FUNCTION crm_tree._any_paths_are_stale("table" regclass) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'any_paths_are_stale_wrapper';
COMMENT ON FUNCTION crm_tree._any_paths_are_stale(regclass) IS 'Is any org of the tree flagged in stale_org? One index probe, for queries that would ask once a row.';

CREATE FUNCTION crm_tree._path_now("table" regclass, org text, id text, path text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'path_now_wrapper';
COMMENT ON FUNCTION crm_tree._path_now(regclass, text, text, text) IS 'The path given, which is the node''s stored one; of an org flagged in stale_org the one that the parent links say, null for a node that the caller does not see.';

CREATE FUNCTION crm_tree._nodes_by_links("table" regclass, org text) RETURNS SETOF crm_tree.tree_node
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 10000 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'nodes_by_links_wrapper';
COMMENT ON FUNCTION crm_tree._nodes_by_links(regclass, text) IS 'All nodes of an org that the caller sees, in path order, with the paths that the parent links say.';
