-- Searching words of rows that the wall hides: the search operator is asked before the wall, so that whatever it tells by
-- other means than its answer, an error above all, is told of every org's rows.
-- Attacker: mallory, the application's role.
-- To gain: whether another org's rows have a word.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
SET ROLE oscar_the_owner;
CREATE TABLE app.memo (org_id uuid, id int, words tsvector);  -- no index but that of the words
INSERT INTO app.memo VALUES
    ('aaaaaaaa-0000-4000-8000-00000000000a', 1, 'acme boat'), ('bbbbbbbb-0000-4000-8000-00000000000b', 1, 'globex merger');
CREATE INDEX memo_words ON app.memo USING gin (words crm_tree.tsvector_wall_ops);
SELECT crm_tree.protect('app.memo');
GRANT SELECT ON app.memo TO mallory_the_app_user;
RESET ROLE;
\c - mallory_the_app_user
-- What comes of a search for a word and something deep behind it, at a depth of calls of one's choice: how much
-- stack is left is then tuned by both.
CREATE FUNCTION lair.outcome(word text, parts int, shape text, calls int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    IF calls > 0 THEN
        RETURN lair.outcome(word, parts, shape, calls - 1);
    END IF;
    EXECUTE format('SELECT count(*) FROM app.memo WHERE words OPERATOR(crm_tree.@@) %L::tsquery', word || ' & ' ||
        CASE shape WHEN 'chain' THEN '(' || repeat('globex <-> ', parts) || 'globex)'
                   ELSE repeat('(globex | ', parts) || 'globex' || repeat(')', parts) END) INTO found;
    RETURN found;
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate;
END $$;
CREATE FUNCTION lair.differ(plan text) RETURNS TABLE (asked bigint, told bigint) LANGUAGE plpgsql AS $$
DECLARE
    deepest int := 1;
BEGIN
    PERFORM set_config('enable_seqscan', (plan = 'seq')::text, true), set_config('enable_bitmapscan', (plan = 'index')::text, true);
    -- How deep calls can go.
    WHILE lair.outcome('boat', 1, 'chain', deepest) <> '54001' LOOP
        deepest := deepest + 8;
    END LOOP;
    RETURN QUERY
    SELECT count(*), count(*) FILTER (WHERE lair.outcome('merger', parts, shape, calls) <> lair.outcome('nobody', parts, shape, calls))
      FROM unnest('{chain,nest}'::text[]) shape, generate_series(0, 24) g, unnest(ARRAY[(g + 1) * 650, g]) parts,
           unnest(ARRAY[0, deepest / 2, deepest * 9 / 10, deepest - 12, deepest - 10, deepest - 9, deepest - 8]) calls;
END $$;
-- SHOULD GAIN NOTHING
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT count(*) FROM app.memo WHERE words OPERATOR(crm_tree.@@) 'boat | merger'::tsquery;
SELECT told, asked > 600 AS much FROM lair.differ('seq');
SELECT told, asked > 600 AS much FROM lair.differ('index');
COMMIT;
-- SHOULD GAIN NOTHING: the estimate
BEGIN;
SELECT crm_tree.bind_org(:acme);
SET LOCAL enable_seqscan = off;
EXPLAIN SELECT FROM app.memo WHERE words OPERATOR(crm_tree.@@) 'merger'::tsquery;
EXPLAIN SELECT FROM app.memo WHERE words OPERATOR(crm_tree.@@) 'nobody'::tsquery;
COMMIT;
DROP FUNCTION lair.outcome(text, int, text, int), lair.differ(text);
\c - :super
DROP TABLE app.memo;
SELECT referee.globex();
