-- What the planner believes of functions, and ought not to: that one which is given no column tells nothing of a row,
-- and that one which says STABLE says the same thing twice.
-- Attacker: mallory, the application's role, with a schema to make functions in.
-- To gain: globex's rows, to read and to write; failing that, whether there is one with a given value.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
SET ROLE oscar_the_owner;
CREATE INDEX by_secret ON app.contact (secret COLLATE "C");
CREATE INDEX by_org ON app.contact (org_id) INCLUDE (secret);
CREATE TABLE app.flag (org_id uuid NOT NULL, is_globex boolean);
CREATE TABLE app.memo (org_id uuid NOT NULL, words tsvector);
CREATE INDEX ON app.memo USING gin (words crm_tree.tsvector_wall_ops);
INSERT INTO app.flag VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', false), ('bbbbbbbb-0000-4000-8000-00000000000b', true);
INSERT INTO app.memo VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'globex memo');
SELECT crm_tree.protect('app.flag'), crm_tree.protect('app.memo');
-- Two orgs whose names differ by case alone.
CREATE TABLE app.name (org_id text, secret text);
INSERT INTO app.name VALUES ('acme', 'acme name'), ('ACME', 'GLOBEX NAME');
SELECT crm_tree.protect('app.name');
GRANT SELECT ON app.flag, app.memo, app.name TO mallory_the_app_user;
RESET ROLE;
\c - mallory_the_app_user
-- Says acme a number of times, and globex from then on.
CREATE FUNCTION lair.lies() RETURNS uuid STABLE LANGUAGE plpgsql AS $$
DECLARE
    calls int := current_setting('lair.calls')::int;
BEGIN
    PERFORM set_config('lair.calls', (calls + 1)::text, true);
    RETURN CASE WHEN calls < current_setting('lair.truths')::int THEN 'aaaaaaaa-0000-4000-8000-00000000000a' ELSE 'bbbbbbbb-0000-4000-8000-00000000000b' END;
END $$;
CREATE FUNCTION lair.got(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    theirs int := 0;
    ours   int := 0;
    found  record;
BEGIN
    FOR truths IN 0..12 LOOP
        PERFORM set_config('lair.truths', truths::text, true), set_config('lair.calls', '0', true);
        BEGIN
            FOR found IN EXECUTE statement LOOP
                theirs := theirs + (found.org_id <> 'aaaaaaaa-0000-4000-8000-00000000000a')::int;
                ours := ours + (found.org_id = 'aaaaaaaa-0000-4000-8000-00000000000a')::int;
            END LOOP;
            RAISE 'undone' USING ERRCODE = 'UE000';
        EXCEPTION
            WHEN SQLSTATE 'UE000' THEN
                NULL;
            WHEN insufficient_privilege THEN
                theirs := theirs + (SQLERRM NOT LIKE 'new row violates%')::int;
        END;
    END LOOP;
    RETURN format('globex''s: %s, acme''s: %s', theirs, CASE WHEN ours > 0 THEN 'some' ELSE 'none' END);
END $$;
-- SHOULD GAIN NOTHING: the org that a lying function names
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT lair.got('SELECT org_id FROM app.note WHERE org_id = lair.lies()') AS of_parent, lair.got('SELECT org_id FROM app.deal WHERE org_id = lair.lies()') AS of_partitions,
       lair.got('SELECT org_id FROM app.contact WHERE org_id = lair.lies()') AS of_index, lair.got('SELECT org_id FROM app.contact WHERE lair.lies() = org_id AND org_id = crm_tree.current_org()') AS turned;
SELECT lair.got('WITH d AS (DELETE FROM app.note WHERE org_id = lair.lies() RETURNING org_id) SELECT * FROM d') AS deleted,
       lair.got($$WITH u AS (UPDATE app.contact SET secret = 'MINE' WHERE org_id = lair.lies() RETURNING org_id) SELECT * FROM u$$) AS updated,
       lair.got($$WITH u AS (UPDATE app.contact c SET email = 'MINE' FROM app.contact o WHERE c.org_id = lair.lies() AND o.org_id = c.org_id RETURNING o.org_id) SELECT * FROM u$$) AS joined;
SELECT lair.got('SELECT c.org_id FROM app.contact c JOIN app.note n USING (org_id) WHERE n.org_id = lair.lies()') AS join, lair.got('SELECT org_id FROM (SELECT * FROM app.contact OFFSET 0) c WHERE org_id = lair.lies()') AS fence,
       lair.got('SELECT org_id FROM app.contact WHERE org_id IN (SELECT lair.lies() FROM generate_series(1, 3))') AS semi, lair.got('SELECT org_id FROM app.note WHERE org_id = ANY (ARRAY[lair.lies(), lair.lies()])') AS of_array;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT lair.got('SELECT org_id FROM app.contact WHERE org_id = lair.lies()') AS by_index_only;
SET LOCAL lair.calls = 0;
SET LOCAL lair.truths = 99;
EXPLAIN (COSTS OFF) SELECT org_id FROM app.contact WHERE org_id = lair.lies();
COMMIT;
-- SHOULD GAIN NOTHING: a condition of one's own that reads like the wall's, by a collation that takes more for equal, in the wall's place
CREATE COLLATION lair.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
CREATE FUNCTION lair.lies_by_name() RETURNS text STABLE LANGUAGE sql AS $$SELECT CASE lair.lies() WHEN 'aaaaaaaa-0000-4000-8000-00000000000a' THEN 'acme' ELSE 'ACME' END$$;
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT lair.got($$SELECT CASE org_id WHEN 'acme' THEN 'aaaaaaaa-0000-4000-8000-00000000000a' ELSE 'bbbbbbbb-0000-4000-8000-00000000000b' END::uuid AS org_id
                    FROM app.name WHERE org_id = lair.lies_by_name() AND org_id COLLATE lair.loose = crm_tree.current_org_text()$$) AS loose;
SET LOCAL lair.calls = 0;
SET LOCAL lair.truths = 99;
EXPLAIN (COSTS OFF) SELECT FROM app.name WHERE org_id = lair.lies_by_name() AND org_id COLLATE lair.loose = crm_tree.current_org_text();
COMMIT;
-- SHOULD GAIN NOTHING: the owner's partial index, whose condition said globex when it was made, read alone
\c - oscar_the_owner
CREATE FUNCTION lair.named() RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RETURN current_setting('lair.named'); END$$;
SET lair.named = 'bbbbbbbb-0000-4000-8000-00000000000b';
CREATE INDEX peep ON app.contact (secret) WHERE org_id = lair.named();
\c - oscar_the_owner
SET lair.named = 'aaaaaaaa-0000-4000-8000-00000000000a';
SET enable_seqscan = off;
SET enable_bitmapscan = off;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SELECT secret FROM app.contact WHERE org_id = :acme ORDER BY secret;
SELECT count(*), min(secret) FROM app.contact WHERE org_id = :acme;
COMMIT;
DROP INDEX app.peep;
DROP FUNCTION lair.named;
-- SHOULD GAIN NOTHING: what is asked again of rows that an index has found roughly, counted
\c - oscar_the_owner
CREATE TABLE app.rough (org_id uuid NOT NULL, secret text COLLATE "C", round circle);
INSERT INTO app.rough VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 'acme rough', '<(1000,0),1>'), ('bbbbbbbb-0000-4000-8000-00000000000b', 'GLOBEX ROUGH', '<(123,0),1>');
CREATE TABLE app.sorted (org_id uuid, id int, secret text, PRIMARY KEY (org_id, id));
INSERT INTO app.sorted VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 1, 'acme sorted'), ('bbbbbbbb-0000-4000-8000-00000000000b', 77, 'GLOBEX SORTED');
CREATE INDEX rough_range ON app.rough USING brin (org_id, secret);
CREATE INDEX rough_hash ON app.rough USING hash (secret);
CREATE INDEX rough_round ON app.rough USING gist (round);
SELECT crm_tree.protect('app.rough'), crm_tree.protect('app.sorted');
GRANT SELECT ON app.rough, app.sorted TO mallory_the_app_user;
\c - mallory_the_app_user
CREATE FUNCTION lair.counts(answer text) RETURNS text STABLE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lair.counted', (current_setting('lair.counted')::int + 1)::text, true);
    RETURN answer;
END $$;
CREATE FUNCTION lair.counted(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lair.calls', '0', true), set_config('lair.counted', '0', true);
    RETURN lair.told(statement) || ', calls ' || current_setting('lair.counted');
END $$;
-- By how many truths does it tell what is there from what is not?
CREATE FUNCTION lair.differs(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    FOR truths IN 0..12 LOOP
        PERFORM set_config('lair.truths', truths::text, true);
        IF lair.counted(replace(question, '%', '''GLOBEX RO'' || ''UGH''')) <> lair.counted(replace(question, '%', '''GLOBEX S''')) THEN
            found := concat_ws(', ', found, truths);
        END IF;
    END LOOP;
    RETURN coalesce(found, 'never');
END $$;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SET LOCAL enable_seqscan = off;
SELECT q AS question, lair.differs(q) FROM unnest(ARRAY['SELECT count(*) FROM app.rough WHERE secret >= % AND secret <= lair.counts(''zz'')',
                                                         'SELECT count(*) FROM app.rough WHERE secret >= % AND secret <= lair.counts(''zz'') AND org_id = lair.lies()',
                                                         'SELECT count(*) FROM app.rough WHERE secret = lair.counts(%)']) AS q;
SET LOCAL lair.calls = 0;
SET LOCAL lair.counted = 0;
EXPLAIN (COSTS OFF) SELECT FROM app.rough WHERE secret > '' AND secret <= lair.counts('zz') AND org_id = lair.lies();
EXPLAIN (COSTS OFF) SELECT FROM app.rough WHERE secret = lair.counts('');
-- SHOULD GAIN NOTHING: rows of the org that a function names, found by an index and counted where the wall drops them
CREATE FUNCTION lair.removed(truths int, wanted int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line  text;
    lines text := '';
BEGIN
    PERFORM set_config('lair.calls', '0', true), set_config('lair.truths', truths::text, true);
    FOR line IN EXECUTE format('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM app.sorted WHERE org_id = lair.lies() AND id = %s', wanted) LOOP
        lines := lines || replace(line, wanted::text, '');
    END LOOP;
    RETURN lines;
END $$;
CREATE FUNCTION lair.removes(scan text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    PERFORM set_config('enable_' || s, CASE s WHEN scan THEN 'on' ELSE 'off' END, true) FROM unnest('{indexscan,indexonlyscan,bitmapscan}'::text[]) AS s;
    -- The scan of an index alone wants the other switch too.
    PERFORM set_config('enable_indexscan', 'on', true) WHERE scan = 'indexonlyscan';
    FOR truths IN 0..8 LOOP
        IF lair.removed(truths, 77) <> lair.removed(truths, 78) THEN
            found := concat_ws(', ', found, truths);
        END IF;
    END LOOP;
    RETURN coalesce(found, 'never');
END $$;
SELECT lair.removes('indexscan') AS by_index, lair.removes('indexonlyscan') AS by_index_alone, lair.removes('bitmapscan') AS by_bitmap;
SET LOCAL lair.calls = 0;
SET LOCAL lair.truths = 99;
EXPLAIN (COSTS OFF) SELECT secret FROM app.sorted WHERE org_id = lair.lies() AND id = 77;
SET LOCAL enable_indexscan = on;
SET LOCAL enable_indexonlyscan = on;
SET LOCAL enable_bitmapscan = on;
-- SHOULD GAIN NOTHING: rows ordered by an index that knows their distance roughly
CREATE FUNCTION lair.moves() RETURNS point STABLE LANGUAGE plpgsql AS $$
DECLARE
    calls int := current_setting('lair.calls')::int;
BEGIN
    PERFORM set_config('lair.calls', (calls + 1)::text, true);
    RETURN point(CASE WHEN calls < 1 THEN current_setting('lair.guess')::int ELSE 100 END, 0);
END $$;
SELECT guess, lair.counted('SELECT count(*) FROM (SELECT FROM app.rough ORDER BY round <-> lair.moves()) AS near')
  FROM unnest('{99,101}'::int[]) AS guess CROSS JOIN set_config('lair.guess', guess::text, true);
SELECT lair.counted('SELECT count(*) FROM (SELECT FROM app.rough ORDER BY round <-> (SELECT lair.moves())) AS near') AS once,
       lair.counted('SELECT count(*) FROM (SELECT FROM app.rough ORDER BY round <-> point(1, 2)) AS near') AS constant;
SELECT q AS operand, lair.told(format('SELECT count(*) FROM (SELECT FROM app.rough ORDER BY round <-> %s) AS near', q)) ~ 'distance' AS refused
  FROM unnest(ARRAY['point(length((SELECT ''ab''::bytea)::text), 0)', 'point(length((SELECT 0.1::float8)::text), 0)', 'point(length(CURRENT_SCHEMA::text), 0)',
                    'point(length(current_setting(''lair.guess'')), 0)', 'point(length((SELECT 7)::text), 0)', 'point((SELECT 7), 0)', 'point(extract(year FROM CURRENT_DATE)::float8, 0)']) AS q;
COMMIT;
-- SHOULD GAIN NOTHING: in a session's first statement, which the library is not there to see where it is not preloaded
\c - mallory_the_app_user
CREATE FUNCTION lair.binds() RETURNS boolean STABLE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    RETURN true;
END $$;
\c - mallory_the_app_user
SET lair.truths = 1;
SET lair.calls = 0;
SELECT n.secret FROM app.note n WHERE (SELECT lair.binds()) AND n.org_id = lair.lies();
-- ... nor where that comes in the middle of it, and sees another one planned first
CREATE FUNCTION lair.binds_and_plans() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    BEGIN
        PERFORM 1 FROM pg_class WHERE 1 / (relnatts - relnatts) = 0;
    EXCEPTION WHEN division_by_zero THEN
        NULL;
    END;
    BEGIN
        EXECUTE 'SELECT 1 / 0';
    EXCEPTION WHEN division_by_zero THEN
        RETURN true;
    END;
END $$;
\c - mallory_the_app_user
SET lair.truths = 3;
SET lair.calls = 0;
SELECT n.secret FROM app.note n WHERE lair.binds_and_plans() AND n.org_id = lair.lies();
-- SHOULD GAIN NOTHING: what raises, or leaves something behind, where the row that it is not given passes what comes first.
-- The first answer is to what globex has, the second to what nobody has.
CREATE FUNCTION lair.raises() RETURNS boolean COST 0.0001 LANGUAGE plpgsql AS $$ BEGIN RAISE 'it is there'; END $$;
CREATE FUNCTION lair.asks(condition text) RETURNS TABLE (n bigint, there text, nowhere text) LANGUAGE sql AS $$
    SELECT n, lair.told(replace(replace(condition, '%', '''GLOBEX CON'' || ''TACT'''), '$', '''globex''')), lair.told(replace(replace(condition, '%', '''nowhere'''), '$', '''nowhere'''))
      FROM unnest(ARRAY[condition]) WITH ORDINALITY AS c(condition, n)
$$;
CREATE VIEW lair.questions AS SELECT n, q FROM unnest(ARRAY[
    'SELECT count(*) FROM app.contact WHERE CASE WHEN secret COLLATE "C" = % THEN (SELECT 1 / (random() * 0)::int = 1) END',
    'SELECT count(*) FROM app.contact WHERE secret COLLATE "C" = % AND lair.raises()',
    'SELECT count(*) FROM app.contact WHERE CASE WHEN secret COLLATE "C" = % THEN lair.raises() END',
    'SELECT count(*) FROM app.contact WHERE org_id <> ''aaaaaaaa-0000-4000-8000-00000000000a'' AND CASE WHEN secret COLLATE "C" = % THEN lair.raises() END',
    'SELECT count(*) FROM app.contact WHERE org_id = ''aaaaaaaa-0000-4000-8000-00000000000a'' AND CASE WHEN secret COLLATE "C" = % THEN lair.raises() END',
    'SELECT count(*) FROM app.contact WHERE org_id = lair.lies() AND CASE WHEN secret COLLATE "C" = % THEN lair.raises() END',
    'SELECT count(*) FROM app.contact c JOIN lair.ids i ON CASE WHEN c.secret COLLATE "C" = % THEN lair.raises() END',
    'SELECT count(*) FROM lair.ids i LEFT JOIN app.contact c ON i.id = 1 AND CASE WHEN c.secret COLLATE "C" = % THEN lair.raises() END',
    'SELECT count(*) FROM app.contact c JOIN lair.ids i ON coalesce(nullif(c.secret COLLATE "C", %), (SELECT (1 / (random() * 0)::int)::text)) = i.word',
    'UPDATE app.contact SET secret = ''MINE'' WHERE CASE WHEN secret COLLATE "C" = % THEN lair.raises() END RETURNING 1',
    'DELETE FROM app.contact WHERE CASE WHEN secret COLLATE "C" = % THEN lair.raises() END RETURNING 1',
    'SELECT count(*) FROM app.flag WHERE is_globex = ($ = ''globex'') AND CASE WHEN is_globex THEN lair.raises() END',
    'SELECT count(*) FROM app.memo WHERE CASE WHEN words OPERATOR(crm_tree.@@) $ THEN lair.raises() END',
    'SELECT count(*) FROM app.memo WHERE words OPERATOR(crm_tree.@@) $ AND lair.raises()']) WITH ORDINALITY AS questions(q, n);
CREATE TABLE lair.ids (id int, word text);
INSERT INTO lair.ids VALUES (1, 'x');
BEGIN;
SELECT crm_tree.bind_org(:acme);
SET LOCAL lair.calls = 0;
SET LOCAL lair.truths = 99;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT q.n, a.there = a.nowhere AS same, CASE WHEN a.there <> a.nowhere THEN a.there END AS there, a.nowhere FROM lair.questions q, lair.asks(q.q) a ORDER BY q.n;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_indexscan = on;
SET LOCAL enable_bitmapscan = on;
SELECT q.n, a.there = a.nowhere AS same, CASE WHEN a.there <> a.nowhere THEN a.there END AS there, a.nowhere FROM lair.questions q, lair.asks(q.q) a ORDER BY q.n;
-- SHOULD GAIN NOTHING: a lock that is left
SELECT count(*) FROM app.contact WHERE CASE WHEN secret COLLATE "C" = 'GLOBEX CON' || 'TACT' THEN pg_try_advisory_lock(4711) END;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711;
ROLLBACK;
DROP VIEW lair.questions;
DROP TABLE lair.ids;
DROP COLLATION lair.loose;
DROP FUNCTION lair.lies_by_name, lair.lies, lair.got, lair.binds, lair.binds_and_plans, lair.raises, lair.asks, lair.counts, lair.counted, lair.differs, lair.removed, lair.removes, lair.moves;
\c - :super
DROP TABLE app.flag, app.memo, app.name, app.rough, app.sorted;
DROP INDEX app.by_secret, app.by_org;
SELECT referee.globex();
