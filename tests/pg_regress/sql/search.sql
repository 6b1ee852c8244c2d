-- Full-text search that keeps its index behind the wall. Where the server comes without btree_gin, the plan
-- has the org alone: search_1.out.
DROP ROLE IF EXISTS search_app;
CREATE ROLE search_app LOGIN;
CREATE SCHEMA search;
GRANT USAGE ON SCHEMA search TO search_app;
SET client_min_messages = warning;
CREATE TABLE search.note (
    org_id uuid, id int, body text, words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED, PRIMARY KEY (org_id, id));
INSERT INTO search.note
SELECT ('00000000-0000-0000-0000-00000000000' || o)::uuid, g,
       CASE WHEN g % 100 = 0 THEN 'The boats of org ' || o ELSE 'nothing to see' END
  FROM generate_series(1, 2000) g, unnest('{a,b}'::text[]) o;
CREATE TABLE search.memo (tenant int, id int, words tsvector, PRIMARY KEY (tenant, id));
INSERT INTO search.memo SELECT g % 2, g, to_tsvector('english', 'memo ' || g) FROM generate_series(1, 2000) g;
SELECT crm_tree.create_search_index('search.note', 'words');  -- SHOULD FAIL: no wall
SELECT crm_tree.protect('search.note'), crm_tree.protect('search.memo', 'tenant');
SELECT crm_tree.create_search_index('search.note', 'body');
SELECT crm_tree.create_search_index('search.note', 'nothing');
SELECT crm_tree.create_search_index('search.note', 'words');  -- SHOULD FAIL: no btree_gin
SELECT crm_tree.create_search_index('search.memo', 'words');
SELECT crm_tree.create_search_index('search.memo', 'words');  -- there already
DO $$ BEGIN CREATE EXTENSION btree_gin SCHEMA search; EXCEPTION WHEN feature_not_supported OR undefined_file THEN NULL; END $$;
SELECT crm_tree.create_search_index('search.note', 'words') IS NOT NULL AS made;
GRANT SELECT ON search.note, search.memo TO search_app;
ANALYZE search.note, search.memo;
SELECT crm_tree.grant_org('search_app', '00000000-0000-0000-0000-00000000000a'::uuid), crm_tree.grant_org('search_app', 1);

SET SESSION AUTHORIZATION search_app;
SET enable_seqscan = off;
SET enable_indexscan = off;
BEGIN;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid);
SELECT count(*), min(id), max(body) FROM search.note WHERE words OPERATOR(crm_tree.@@) websearch_to_tsquery('english', 'boat');
SELECT count(*) FROM search.note WHERE words OPERATOR(crm_tree.@@) websearch_to_tsquery('english', '"boats of org" -fish');
-- The words are looked up by the index; with the plain operator they are a filter over the org's rows.
EXPLAIN (COSTS OFF) SELECT id FROM search.note WHERE words OPERATOR(crm_tree.@@) 'boat'::tsquery;
EXPLAIN (COSTS OFF) SELECT id FROM search.note WHERE words @@ 'boat'::tsquery;
-- Without a constant, as an application asks.
PREPARE find(text) AS SELECT count(*) FROM search.note WHERE words OPERATOR(crm_tree.@@) websearch_to_tsquery('english', $1);
SET LOCAL plan_cache_mode = force_generic_plan;
EXECUTE find('boats');
EXPLAIN (COSTS OFF) EXECUTE find('boats');
COMMIT;
-- The estimate says nothing of the words: it is the same for one of every hundred rows and for none.
CREATE FUNCTION pg_temp.estimate(word text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (FORMAT json) SELECT FROM search.note WHERE words OPERATOR(crm_tree.@@) %L::tsquery', word) INTO plan;
    RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
END $$;
BEGIN;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-00000000000a'::uuid);
SELECT pg_temp.estimate('boat') = pg_temp.estimate('unheard') AS same;
COMMIT;
DROP FUNCTION pg_temp.estimate(text);
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT id FROM search.memo WHERE words OPERATOR(crm_tree.@@) '77'::tsquery;
SELECT id FROM search.memo WHERE words OPERATOR(crm_tree.@@) '78'::tsquery;  -- another org's
EXPLAIN (COSTS OFF) SELECT id FROM search.memo WHERE words OPERATOR(crm_tree.@@) '77'::tsquery;
COMMIT;
SELECT count(*) FROM search.note WHERE words OPERATOR(crm_tree.@@) 'boat'::tsquery;  -- SHOULD FAIL: unbound
RESET SESSION AUTHORIZATION;

-- The same answers as the plain operator, for every kind of query.
SELECT q, count(*) FILTER (WHERE words @@ q::tsquery) AS plain,
       count(*) FILTER (WHERE (words OPERATOR(crm_tree.@@) q::tsquery) IS DISTINCT FROM (words @@ q::tsquery)) AS differ
  FROM search.note, unnest('{boat, boat & org, boat | noth, !boat, boat <2> org, bo:*, boat:A, (boat | see) & !org}'::text[]) q
 GROUP BY q ORDER BY q;
-- A query that the stack may not have room for matches nothing, in the table and by the index, and raises nothing.
CREATE TABLE search.word AS SELECT g AS id, 'boat org'::tsvector AS words FROM generate_series(1, 3) g;
CREATE INDEX ON search.word USING gin (words crm_tree.tsvector_wall_ops);
CREATE FUNCTION pg_temp.found(parts int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM search.word WHERE words OPERATOR(crm_tree.@@) %L::tsquery', repeat('boat & ', parts) || 'org') INTO found;
    RETURN found;
END $$;
SELECT parts, pg_temp.found(parts) FROM unnest('{10, 500, 2000, 15000}'::int[]) parts;
SET enable_seqscan = off;
SELECT parts, pg_temp.found(parts) FROM unnest('{10, 500, 2000, 15000}'::int[]) parts;
-- What GIN leaves out for a limit goes by the rows of all orgs: nothing is left out.
VACUUM search.word;
SET gin_fuzzy_search_limit = 1;
SELECT DISTINCT (SELECT count(*) FROM search.word WHERE words OPERATOR(crm_tree.@@) q::tsquery AND g > 0), q
  FROM generate_series(1, 25) g, unnest('{boat, !nothing, boat <-> org, nothing, boat & org}'::text[]) q ORDER BY q;
EXPLAIN (COSTS OFF) SELECT FROM search.word WHERE words OPERATOR(crm_tree.@@) 'boat';
RESET gin_fuzzy_search_limit;
RESET enable_seqscan;
DROP FUNCTION pg_temp.found(int);
DROP SCHEMA search CASCADE;
SELECT crm_tree.revoke_org('search_app', '00000000-0000-0000-0000-00000000000a'::uuid), crm_tree.revoke_org('search_app', 1);
DROP ROLE search_app;
