-- Bringing the backend down: values that outlive what they point to, triggers without a row.
-- Attacker: trudy and mallory, with one schema of her own.
-- To gain: foreign memory, or a crash that takes every session of the server along.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - trudy_of_two_orgs
-- What current_org() returned, held on to while the binding goes: if it stood in memory of the
-- binding's own, it would change under its holder, or be read after it was freed.
-- SHOULD GAIN NOTHING: a value that was the bound org's stays what it was when the binding changes
CREATE PROCEDURE lair.keep(org uuid, org_text text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree.unbind();
    COMMIT;
    PERFORM crm_tree.bind_org('cccccccc-0000-4000-8000-00000000000c'::uuid);
    RAISE NOTICE 'called with %, %', org, org_text;
END $$;
SELECT crm_tree.bind_session(:acme);
CALL lair.keep(crm_tree.current_org(), crm_tree.current_org_text());
SELECT crm_tree.unbind();

-- SHOULD GAIN NOTHING: a row that reads the org and unbinds it, then fills the memory it stood in
SELECT crm_tree.bind_session(:acme);
SELECT crm_tree.current_org_text(), crm_tree.unbind(), set_config('lair.a', repeat('\', 39), false) IS NULL AS a,
       set_config('lair.b', repeat('t', 39), false) IS NULL AS b, set_config('lair.c', repeat('t', 39), false) IS NULL AS c;
SELECT crm_tree.bind_session(:acme);
SELECT crm_tree.current_org(), crm_tree.unbind(), set_config('lair.a', repeat('\', 39), false) IS NULL AS a;

DROP PROCEDURE lair.keep(uuid, text);

-- SHOULD FAIL: the tree's trigger functions at moments they are not written for, where there is no row,
-- no old row, or nothing to return; the table is a tree in earnest
\c - mallory_the_app_user
SET client_min_messages = error;
CREATE TABLE lair.own (org_id uuid, id int, parent int, other text);
SELECT crm_tree.attach_tree('lair.own', 'id', 'parent', on_delete => 'adopt');
INSERT INTO lair.own VALUES (:acme, 1, NULL, 'x'), (:acme, 2, 1, 'x');
DO $$
DECLARE
    f text; moment text; event text; level text; said text;
BEGIN
    FOREACH f IN ARRAY ARRAY['_tree_lock', '_tree_place', '_tree_settle', '_tree_adopt'] LOOP
    FOREACH moment IN ARRAY ARRAY['BEFORE', 'AFTER'] LOOP
    FOREACH event IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
    FOREACH level IN ARRAY ARRAY['ROW', 'STATEMENT'] LOOP
        CONTINUE WHEN event = 'TRUNCATE' AND level = 'ROW';
        EXECUTE format('CREATE TRIGGER odd %s %s ON lair.own FOR EACH %s EXECUTE FUNCTION crm_tree.%I(''org_id'', ''id'', ''parent'', ''materialized_path'', ''depth'', ''32'', ''adopt'')',
                       moment, event, level, f);
        BEGIN
            said := 'passed';
            CASE event
                WHEN 'INSERT' THEN INSERT INTO lair.own VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 3, 2, 'x');
                WHEN 'UPDATE' THEN UPDATE lair.own SET parent = NULL, other = 'y' WHERE id = 2;
                WHEN 'DELETE' THEN DELETE FROM lair.own WHERE id = 1;
                ELSE TRUNCATE lair.own;
            END CASE;
        EXCEPTION WHEN OTHERS THEN said := SQLERRM;
        END;
        RAISE INFO '% % % % %: %', f, moment, event, level, repeat(' ', 40 - length(concat(f, moment, event, level))), said;
        DROP TRIGGER odd ON lair.own;
        DELETE FROM lair.own;
        INSERT INTO lair.own VALUES ('aaaaaaaa-0000-4000-8000-00000000000a', 1, NULL, 'x'), ('aaaaaaaa-0000-4000-8000-00000000000a', 2, 1, 'x');
    END LOOP;
    END LOOP;
    END LOOP;
    END LOOP;
END $$;
-- SHOULD FAIL: columns of other types under the triggers that stay
DROP TRIGGER zz_crm_tree_place_update ON lair.own;
DROP TRIGGER crm_tree_lock_update ON lair.own;
BEGIN;
ALTER TABLE lair.own ALTER COLUMN depth TYPE text;
INSERT INTO lair.own VALUES (:acme, 4, 2, 'x');
ROLLBACK;
BEGIN;
ALTER TABLE lair.own ALTER COLUMN depth TYPE numeric;
INSERT INTO lair.own VALUES (:acme, 4, 2, 'x');
ROLLBACK;
BEGIN;
ALTER TABLE lair.own DROP COLUMN depth;
INSERT INTO lair.own VALUES (:acme, 4, 2, 'x');
ROLLBACK;
BEGIN;
ALTER TABLE lair.own ALTER COLUMN org_id TYPE text;
INSERT INTO lair.own VALUES ('acme', 4, NULL, 'x');
ROLLBACK;
DROP TABLE lair.own;
-- SHOULD FAIL: values that are none
SELECT crm_tree.path_ids(repeat('/', 1000000)) IS NULL AS a, crm_tree.path_depth(repeat('/x', 1000000)) AS b, crm_tree.path_lca('', '//') AS c,
       crm_tree.path_parent('/') AS d, crm_tree.path_root('') AS e, crm_tree.subtree_end('') AS f, crm_tree.path_is_within('', '') AS g;
SELECT crm_tree.bind_session(repeat('x', 100000));
SELECT crm_tree.bind_session(NULL::uuid);
SELECT crm_tree.bind_session(NULL::bigint, NULL);
SELECT * FROM crm_tree.repair_tree(NULL);
BEGIN;
SELECT crm_tree.bind_org(:acme, repeat('x', 1000000));
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme, E'a\nb');
ROLLBACK;
SELECT crm_tree._job_call('pg_catalog.int4in', '{}');
SELECT crm_tree._job_call(0, '{}'), crm_tree._job_call(4294967295::oid::regproc, '{}');
SELECT * FROM crm_tree.subtree(0, '1');
SELECT * FROM crm_tree.check_tree('pg_class');
SELECT * FROM crm_tree.ancestors('app.account_pkey', '1');
\c - :super
SELECT referee.globex();
