-- Deferred paths: what the template asks where an org's paths may not be kept up.

CREATE FUNCTION crm_tree._path_now("table" regclass, org text, id text, path text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'path_now_wrapper';
COMMENT ON FUNCTION crm_tree._path_now(regclass, text, text, text) IS 'The path given, which is the node''s stored one; of an org flagged in stale_org the one that the parent links say, null for a node that the caller does not see.';

-- Few rows as a rule, and many where it matters how they are joined.
CREATE FUNCTION crm_tree._deferred_paths("table" regclass) RETURNS TABLE (org text, id text, path text)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 1000 SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'deferred_paths_wrapper';
COMMENT ON FUNCTION crm_tree._deferred_paths(regclass) IS 'Of orgs flagged in stale_org, or of the bound one if it is, the nodes that the caller sees, with the paths that the parent links say. No rows, and one index probe, where none is.';
