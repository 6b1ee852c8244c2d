-- COPY behind the wall.

CREATE FUNCTION crm_tree.load() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'crm_tree_load';
COMMENT ON FUNCTION crm_tree.load() IS 'Trigger of load views: puts the rows aside and inserts them into the table at the end of the statement, with the rights and behind the wall of whoever loads.';

CREATE FUNCTION crm_tree.create_load_view("table" regclass) RETURNS regclass
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'create_load_view_wrapper';
COMMENT ON FUNCTION crm_tree.create_load_view(regclass) IS 'Makes the view <table>_load, which takes COPY FROM of roles that are behind the wall. The rows are inserted by one statement at the end; loading needs INSERT on view and table. By the owner of a protected table; run it again after adding a column or changing a default.';
