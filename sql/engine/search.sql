-- Full-text search that keeps its index behind the wall.
--
-- Behind row security a condition reaches an index only if its operator is leak-proof: it could else show,
-- by an error or a message, rows that the wall has yet to filter out. `@@` is not marked so. What it runs,
-- ts_match_vq, compares the lexemes of the two values, which are checked when they are made. What is left
-- to show a row by: a query so deep that one side of it runs out of stack behind a word that matched.
-- Marking PostgreSQL's own function would change it for the whole database; this is another one for the same code.
CREATE FUNCTION crm_tree.ts_match(tsvector, tsquery) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE COST 2 AS 'ts_match_vq';
COMMENT ON FUNCTION crm_tree.ts_match(tsvector, tsquery) IS 'What the operator crm_tree.@@ runs: PostgreSQL''s own text search match, marked leak-proof.';

-- A constant estimate: tsmatchsel looks words up in the statistics of all orgs, and EXPLAIN would tell how
-- common a word is among them.
CREATE OPERATOR crm_tree.@@ (
    LEFTARG = tsvector, RIGHTARG = tsquery, FUNCTION = crm_tree.ts_match, RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR crm_tree.@@ (tsvector, tsquery) IS 'As @@, and usable for an index behind row security: WHERE body OPERATOR(crm_tree.@@) websearch_to_tsquery(…).';

CREATE OPERATOR CLASS crm_tree.tsvector_wall_ops FOR TYPE tsvector USING gin AS
    OPERATOR 1 crm_tree.@@ (tsvector, tsquery),
    FUNCTION 1 pg_catalog.gin_cmp_tslexeme(text, text),
    FUNCTION 2 pg_catalog.gin_extract_tsvector(tsvector, internal, internal),
    FUNCTION 3 pg_catalog.gin_extract_tsquery(tsvector, internal, smallint, internal, internal, internal, internal),
    FUNCTION 4 pg_catalog.gin_tsquery_consistent(internal, smallint, tsvector, integer, internal, internal, internal, internal),
    FUNCTION 5 pg_catalog.gin_cmp_prefix(text, text, smallint, internal),
    FUNCTION 6 pg_catalog.gin_tsquery_triconsistent(internal, smallint, tsvector, integer, internal, internal, internal),
    STORAGE text;
COMMENT ON OPERATOR CLASS crm_tree.tsvector_wall_ops USING gin IS 'Words, for the operator crm_tree.@@. create_search_index() makes indexes of it.';

CREATE FUNCTION crm_tree.create_search_index("table" regclass, "column" text) RETURNS regclass
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'create_search_index_wrapper';
COMMENT ON FUNCTION crm_tree.create_search_index(regclass, text) IS 'Makes the GIN index of a protected table that serves "column" OPERATOR(crm_tree.@@) query behind the wall: (org, column) where the org column is uuid, bigint, text or varchar, which needs the extension btree_gin; (column) alone where it is integer or smallint. The column is a tsvector. Returns the one that is there already.';
