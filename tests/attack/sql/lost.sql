-- Learning of rows by whether a plan that has outlived its binding raises. A condition that is leak-proof is asked of
-- every org's rows: did the wall's condition raise, where no org is bound, only rows that pass the first would make it.
-- In each pair the first answer is to what globex has, the second to what nobody has: were they different, the
-- difference would be the answer.
-- Attacker: mallory, the application's role.
-- To gain: every value of globex's that can be compared, letter by letter.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
SET ROLE oscar_the_owner;
CREATE INDEX by_secret ON app.contact (secret COLLATE "C");
CREATE VIEW app.contacts WITH (security_invoker = true) AS SELECT * FROM app.contact;
GRANT SELECT ON app.contacts TO mallory_the_app_user;
RESET ROLE;
\c - mallory_the_app_user
CREATE FUNCTION lair.ask_statically(what text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT count(*) FROM app.contact WHERE secret COLLATE "C" = what);
END $$;
SET plan_cache_mode = force_generic_plan;
SET enable_bitmapscan = off;
BEGIN;
SELECT crm_tree.bind_org(:acme);
SET LOCAL enable_indexscan = off;
PREPARE by_scan(text) AS SELECT count(*) FROM app.contact WHERE secret COLLATE "C" = $1;
EXPLAIN (COSTS OFF) EXECUTE by_scan('nothing');
SET LOCAL enable_seqscan = off;
SET LOCAL enable_indexscan = on;
PREPARE by_index(text) AS SELECT count(*) FROM app.contact WHERE secret COLLATE "C" = $1;
EXPLAIN (COSTS OFF) EXECUTE by_index('nothing');
SET LOCAL enable_indexscan = off;
SET LOCAL enable_seqscan = on;
PREPARE by_name(text) AS SELECT count(*) FROM app.contact WHERE org_id = crm_tree.current_org() AND secret COLLATE "C" = $1;
EXPLAIN (COSTS OFF) EXECUTE by_name('nothing');
SET LOCAL enable_seqscan = off;
SET LOCAL enable_indexscan = on;
PREPARE by_view(text) AS SELECT count(*) FROM app.contacts WHERE secret COLLATE "C" = $1;
PREPARE by_update(text) AS UPDATE app.contact SET email = 'new' WHERE secret COLLATE "C" = $1;
PREPARE by_delete(text) AS DELETE FROM app.contact WHERE secret COLLATE "C" = $1;
PREPARE by_merge(text) AS MERGE INTO app.contact c USING (SELECT $1 AS what) v ON c.secret COLLATE "C" = v.what WHEN MATCHED THEN DELETE;
EXECUTE by_view('nothing');
EXECUTE by_update('nothing');
EXECUTE by_delete('nothing');
EXECUTE by_merge('nothing');
SELECT lair.ask_statically('nothing');
COMMIT;
-- SHOULD GAIN NOTHING: in a transaction that is not bound
SELECT plan, lair.told(format('EXECUTE %I(%L)', plan, 'GLOBEX CON' || 'TACT')) AS there, lair.told(format('EXECUTE %I(%L)', plan, 'nowhere')) AS nowhere
  FROM unnest('{by_scan,by_name,by_index,by_view,by_update,by_delete,by_merge}'::text[]) AS plan;
SELECT lair.told($$SELECT lair.ask_statically('GLOBEX CON' || 'TACT')$$) AS there, lair.told($$SELECT lair.ask_statically('nowhere')$$) AS nowhere;
-- SHOULD GAIN NOTHING: bound to an org that is not of the column's type
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT plan, lair.told(format('EXECUTE %I(%L)', plan, 'GLOBEX CON' || 'TACT')) AS there, lair.told(format('EXECUTE %I(%L)', plan, 'nowhere')) AS nowhere
  FROM unnest('{by_scan,by_name,by_index,by_view,by_update,by_delete,by_merge}'::text[]) AS plan;
SELECT lair.told($$SELECT lair.ask_statically('GLOBEX CON' || 'TACT')$$) AS there, lair.told($$SELECT lair.ask_statically('nowhere')$$) AS nowhere;
ROLLBACK;
-- SHOULD GAIN NOTHING: unbound before a cursor is read
BEGIN;
SELECT crm_tree.bind_org(:acme);
DECLARE there CURSOR FOR SELECT email FROM app.contact WHERE secret COLLATE "C" = 'GLOBEX CON' || 'TACT';
DECLARE nowhere CURSOR FOR SELECT email FROM app.contact WHERE secret COLLATE "C" = 'nowhere';
SET LOCAL enable_indexscan = off;
DECLARE by_name CURSOR FOR SELECT email FROM app.contact WHERE secret COLLATE "C" = 'GLOBEX CON' || 'TACT' AND crm_tree.current_org() = org_id AND org_id = crm_tree.current_org();
SELECT crm_tree.unbind();
SELECT lair.told('FETCH there') AS there, lair.told('FETCH by_name') AS by_name, lair.told('FETCH nowhere') AS nowhere;
ROLLBACK;
-- SHOULD GAIN NOTHING: unbound by the statement itself, before it comes to the table
CREATE FUNCTION lair.told_bound(condition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.bind_org('aaaaaaaa-0000-4000-8000-00000000000a'::uuid);
    RETURN lair.told(format('WITH lost AS MATERIALIZED (SELECT crm_tree.unbind()) SELECT count(*) FROM lost LEFT JOIN app.contact ON secret COLLATE "C" = %s WHERE email IS NOT NULL', condition));
END $$;
SELECT lair.told_bound($$'GLOBEX CON' || 'TACT'$$) AS there, lair.told_bound($$'nowhere'$$) AS nowhere;
-- SHOULD GAIN NOTHING: a savepoint that takes the binding along
BEGIN;
SAVEPOINT before;
SELECT crm_tree.bind_org(:acme);
PREPARE in_savepoint(text) AS SELECT count(*) FROM app.contact WHERE secret COLLATE "C" = $1;
EXECUTE in_savepoint('nothing');
ROLLBACK TO before;
SELECT lair.told(format('EXECUTE in_savepoint(%L)', 'GLOBEX CON' || 'TACT')) AS there, lair.told('EXECUTE in_savepoint(''nowhere'')') AS nowhere;
ROLLBACK;
-- SHOULD GAIN NOTHING: words, by the leak-proof operator and its index
\c - :super
SET ROLE oscar_the_owner;
CREATE TABLE app.memo (org_id uuid NOT NULL, words tsvector);
CREATE INDEX ON app.memo USING gin (words crm_tree.tsvector_wall_ops);
INSERT INTO app.memo VALUES ('bbbbbbbb-0000-4000-8000-00000000000b', 'globex memo');
SELECT crm_tree.protect('app.memo');
GRANT SELECT ON app.memo TO mallory_the_app_user;
\c - mallory_the_app_user
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_indexscan = off;
BEGIN;
SELECT crm_tree.bind_org(:acme);
PREPARE by_word(tsquery) AS SELECT count(*) FROM app.memo WHERE words OPERATOR(crm_tree.@@) $1;
EXPLAIN (COSTS OFF) EXECUTE by_word('nothing');
COMMIT;
SELECT lair.told('EXECUTE by_word(''globex'')') AS there, lair.told('EXECUTE by_word(''nowhere'')') AS nowhere;
-- What is asked in so many words still says that there is none.
SELECT crm_tree.current_org();
BEGIN;
SELECT crm_tree.bind_org('acme');
SELECT crm_tree.current_org_bigint();
ROLLBACK;
DROP FUNCTION lair.ask_statically, lair.told_bound;
\c - :super
DROP TABLE app.memo;
DROP VIEW app.contacts;
DROP INDEX app.by_secret;
SELECT referee.globex();
