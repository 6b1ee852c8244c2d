-- Full-text search that keeps its index behind the wall.
--
-- Behind row security a condition reaches an index only if its operator is leak-proof: it could else show,
-- by an error or a message, rows that the wall has yet to filter out. `@@` is not marked so, and is not: it
-- compares lexemes of values that were checked when they were made, but a deep query runs out of stack in one row
-- and not in the next. These ask for the stack first, and are PostgreSQL's own functions but for that.
CREATE FUNCTION crm_tree.ts_match(tsvector, tsquery) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE COST 2 AS 'MODULE_PATHNAME', 'crm_tree_ts_match';
COMMENT ON FUNCTION crm_tree.ts_match(tsvector, tsquery) IS 'What the operator crm_tree.@@ runs: PostgreSQL''s own text search match, made leak-proof. A query of more parts (words and operators) than the stack has room for matches nothing, and raises nothing: with max_stack_depth = 2MB that is some 1,900.';

-- A constant estimate: tsmatchsel looks words up in the statistics of all orgs, and EXPLAIN would tell how
-- common a word is among them.
CREATE OPERATOR crm_tree.@@ (
    LEFTARG = tsvector, RIGHTARG = tsquery, FUNCTION = crm_tree.ts_match, RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR crm_tree.@@ (tsvector, tsquery) IS 'As @@, and usable for an index behind row security: WHERE body OPERATOR(crm_tree.@@) websearch_to_tsquery(…).';

CREATE FUNCTION crm_tree._search_keys(tsvector, internal, smallint, internal, internal, internal, internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'crm_tree_search_keys';
CREATE FUNCTION crm_tree._search_consistent(internal, smallint, tsvector, integer, internal, internal, internal, internal) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'crm_tree_search_consistent';
CREATE FUNCTION crm_tree._search_triconsistent(internal, smallint, tsvector, integer, internal, internal, internal) RETURNS "char"
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'crm_tree_search_triconsistent';

CREATE OPERATOR CLASS crm_tree.tsvector_wall_ops FOR TYPE tsvector USING gin AS
    OPERATOR 1 crm_tree.@@ (tsvector, tsquery),
    FUNCTION 1 pg_catalog.gin_cmp_tslexeme(text, text),
    FUNCTION 2 pg_catalog.gin_extract_tsvector(tsvector, internal, internal),
    FUNCTION 3 crm_tree._search_keys(tsvector, internal, smallint, internal, internal, internal, internal),
    FUNCTION 4 crm_tree._search_consistent(internal, smallint, tsvector, integer, internal, internal, internal, internal),
    FUNCTION 5 pg_catalog.gin_cmp_prefix(text, text, smallint, internal),
    FUNCTION 6 crm_tree._search_triconsistent(internal, smallint, tsvector, integer, internal, internal, internal),
    STORAGE text;
COMMENT ON OPERATOR CLASS crm_tree.tsvector_wall_ops USING gin IS 'Words, for the operator crm_tree.@@. create_search_index() makes indexes of it.';

CREATE FUNCTION crm_tree.create_search_index("table" regclass, "column" text) RETURNS regclass
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'create_search_index_wrapper';
COMMENT ON FUNCTION crm_tree.create_search_index(regclass, text) IS 'Makes the GIN index of a protected table that serves "column" OPERATOR(crm_tree.@@) query behind the wall: (org, column) where the org column is uuid, bigint, text or varchar, which needs the extension btree_gin; (column) alone where it is integer or smallint. The column is a tsvector. Returns the one that is there already.';
