-- Rollups over any tree: totals of every node in one pass.

CREATE FUNCTION crm_tree._subtree_totals(query text, lo text, hi text, day date)
    RETURNS TABLE (id uuid, parent uuid, name text, depth int, own numeric, total numeric, descendants bigint)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000
    AS 'MODULE_PATHNAME', 'subtree_totals_wrapper';
COMMENT ON FUNCTION crm_tree._subtree_totals(text, text, text, date) IS
'Runs a query of (id uuid, parent uuid, name text, depth int, own numeric) in path order, as the caller, with $1 = lo, $2 = hi, $3 = day, and adds the total and the number of descendants of each node.';
