-- Second parents: a table of further edges beside a tree's own.

CREATE TABLE crm_tree.tree_links (
    relation        regclass PRIMARY KEY,
    tree            regclass NOT NULL UNIQUE,
    org_column      text NOT NULL,
    parent_column   text NOT NULL,
    child_column    text NOT NULL,
    pct_column      text,
    tree_pct_column text,
    attached_at     timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE crm_tree.tree_links ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.tree_links FROM PUBLIC;
COMMENT ON TABLE crm_tree.tree_links IS 'Tables of second parents, one a tree at most. Written by attach_links() and detach_links().';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.tree_links', 'WHERE relation IN (SELECT oid FROM pg_catalog.pg_class)');

CREATE FUNCTION crm_tree._tree_links() RETURNS SETOF crm_tree.tree_links
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS 'SELECT * FROM crm_tree.tree_links l WHERE l.relation IN (SELECT c.oid FROM pg_class c)';
COMMENT ON FUNCTION crm_tree._tree_links() IS 'The attached tables of second parents. Definer: the registry has no policy, and its content is no secret.';

CREATE FUNCTION crm_tree._links_lock() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_links_lock';
COMMENT ON FUNCTION crm_tree._links_lock() IS 'BEFORE STATEMENT trigger of second parents and of trees that have them: takes the org''s lock as a mover does.';
CREATE FUNCTION crm_tree._links_settle() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'crm_tree_links_settle';
COMMENT ON FUNCTION crm_tree._links_settle() IS 'AFTER ROW trigger of second parents and of trees that have them: refuses cycles over both kinds of edge, and children owned beyond 100 percent.';

CREATE FUNCTION crm_tree.attach_links(links regclass, tree regclass, parent text, child text, org text DEFAULT 'org_id',
        pct text DEFAULT NULL, tree_pct text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'attach_links_wrapper';
COMMENT ON FUNCTION crm_tree.attach_links(regclass, regclass, text, text, text, text, text) IS 'Makes the rows of a table second parents in an attached tree: adds the key (org, parent, child), the foreign keys and the index it lacks, and triggers on both tables that refuse cycles over both kinds of edge. pct and tree_pct name the columns that say how many percent of the child the edge owns, in the links and in the tree; together at most 100 a child. The caller owns both tables; may be run again.';
CREATE FUNCTION crm_tree.detach_links(links regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'detach_links_wrapper';
COMMENT ON FUNCTION crm_tree.detach_links(regclass) IS 'Removes the triggers of a table of second parents, and its rows are none any more. Columns, keys and indexes stay.';
