-- Previews agree with what is then done; merges are done whole, or refused.
SET client_min_messages = warning;
DROP ROLE IF EXISTS merge_owner, merge_app, merge_part, merge_reader;
CREATE ROLE merge_owner NOLOGIN;
CREATE ROLE merge_app LOGIN;
CREATE ROLE merge_part LOGIN;
CREATE ROLE merge_reader LOGIN;
CREATE SCHEMA merge AUTHORIZATION merge_owner;
GRANT USAGE ON SCHEMA merge TO merge_app, merge_part, merge_reader;
SET ROLE merge_owner;
CREATE TABLE merge.node (org int NOT NULL, id int NOT NULL, up int, secret boolean NOT NULL DEFAULT false, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('merge.node', 'id', 'up', org => 'org', max_depth => 4);
INSERT INTO merge.node VALUES
    (1, 1, NULL), (1, 2, 1), (1, 3, 2), (1, 4, 3), (1, 5, 1), (1, 6, 5), (1, 7, NULL), (1, 8, 7), (1, 9, 8), (1, 10, 9), (1, 11, 2),
    (2, 1, NULL), (2, 77, 1);
SELECT crm_tree.protect('merge.node', 'org');
GRANT SELECT, INSERT, UPDATE, DELETE ON merge.node TO merge_app, merge_part;
GRANT SELECT ON merge.node TO merge_reader;
RESET ROLE;
SELECT crm_tree.grant_org('merge_app', 1), crm_tree.grant_org('merge_part', 1), crm_tree.grant_org('merge_reader', 1);
RESET client_min_messages;

SET SESSION AUTHORIZATION merge_app;
-- Every move of a node of org 1 below every node, itself, nowhere, and what is not there: previewed, then tried.
CREATE FUNCTION pg_temp.try_move(i int, p int, OUT said text, OUT done text) LANGUAGE plpgsql AS $$
DECLARE before jsonb; new_depth int; deepest int; touched bigint; message text;
BEGIN
    SELECT jsonb_object_agg(id, concat(up, ' ', materialized_path)) INTO before FROM merge.node;
    SELECT concat_ws(' | ', v.rows_touched, v.new_depth, v.deepest, v.cycles, v.refusal IS NOT NULL) INTO said
      FROM crm_tree.preview_move('merge.node', i::text, p::text) v;
    SELECT v.new_depth, v.deepest, v.refusal INTO new_depth, deepest, message FROM crm_tree.preview_move('merge.node', i::text, p::text) v;
    BEGIN
        UPDATE merge.node SET up = p WHERE id = i;
        SELECT count(*) FILTER (WHERE before ->> id::text <> concat(up, ' ', materialized_path)) INTO touched FROM merge.node;
        SELECT concat_ws(' | ', touched, n.depth, (SELECT max(depth) FROM crm_tree.subtree('merge.node', i::text)), false, false) INTO done
          FROM merge.node n WHERE id = i;
        RAISE EXCEPTION USING ERRCODE = 'P9999';
    EXCEPTION WHEN SQLSTATE 'P9999' THEN NULL;
    WHEN foreign_key_violation OR check_violation THEN
        done := concat_ws(' | ', 0, new_depth, deepest, SQLERRM ~ 'own ancestor', true);
        -- Of several nodes too deep, the UPDATE may name another.
        IF regexp_replace(SQLERRM, 'node "\d+" would be at depth \d', '') IS DISTINCT FROM regexp_replace(message, 'node "\d+" would be at depth \d', '') THEN
            done := concat(done, ' ', SQLERRM, ' and not ', message);
        END IF;
    END;
END $$;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT count(*) AS moves, count(*) FILTER (WHERE said LIKE '% | f | f') AS accepted, count(*) FILTER (WHERE said LIKE '%| t | t') AS cycles,
       count(*) FILTER (WHERE said IS DISTINCT FROM done) AS disagree
  FROM generate_series(1, 11) i, (SELECT generate_series(1, 11) UNION ALL VALUES (NULL), (404), (77)) p(p), pg_temp.try_move(i, p);
SELECT i, p, t.* FROM generate_series(1, 11) i, (SELECT generate_series(1, 11) UNION ALL VALUES (NULL), (404), (77)) p(p), pg_temp.try_move(i, p) t
 WHERE said IS DISTINCT FROM done;
SELECT * FROM crm_tree.preview_move('merge.node', '2', '7');
SELECT * FROM crm_tree.preview_move('merge.node', '2', '8');
SELECT * FROM crm_tree.preview_move('merge.node', '2', '9');
SELECT * FROM crm_tree.preview_move('merge.node', '1', ' 04');
SELECT * FROM crm_tree.preview_move('merge.node', '2', NULL);
SELECT * FROM crm_tree.preview_move('merge.node', '2', '1');
SELECT * FROM crm_tree.preview_move('merge.node', '2', '77');
SELECT * FROM crm_tree.preview_move('merge.node', '77', '1');
SELECT * FROM crm_tree.preview_move('merge.node', NULL, '1');
SELECT * FROM crm_tree.check_tree('merge.node');
-- A preview takes no lock that stops anybody.
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';
ROLLBACK;

-- Merges, each previewed and then done or refused alike.
CREATE FUNCTION pg_temp.try_merge(f int, t int, OUT children bigint, OUT previewed text, OUT done text) LANGUAGE plpgsql AS $$
DECLARE before jsonb; touched bigint; v record; moved bigint; top text;
BEGIN
    SELECT jsonb_object_agg(id, concat(up, ' ', materialized_path)) INTO before FROM merge.node;
    SELECT * INTO v FROM crm_tree.preview_merge('merge.node', f::text, t::text);
    children := v.children;
    previewed := coalesce(v.refusal, concat_ws(' | ', v.children, v.rows_touched, v.deepest));
    SELECT materialized_path INTO top FROM merge.node WHERE id = t;
    BEGIN
        moved := crm_tree.merge_nodes('merge.node', f::text, t::text);
        SELECT concat_ws(' | ', moved, count(*), max(depth)) INTO done FROM merge.node WHERE before ->> id::text <> concat(up, ' ', materialized_path);
        IF EXISTS (SELECT FROM merge.node WHERE id = f OR up = f) THEN done := 'left something'; END IF;
        IF EXISTS (SELECT FROM crm_tree.check_tree('merge.node')) THEN done := 'wrong paths'; END IF;
        RAISE EXCEPTION USING ERRCODE = 'P9999';
    EXCEPTION WHEN SQLSTATE 'P9999' THEN NULL;
    WHEN OTHERS THEN done := SQLERRM;
    END;
END $$;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT count(*) AS pairs, count(*) FILTER (WHERE previewed ~ '^\d') AS merged,
       count(*) FILTER (WHERE previewed IS DISTINCT FROM done AND regexp_replace(previewed, 'node "\d+" would', '') IS DISTINCT FROM regexp_replace(done, 'node "\d+" would', '')) AS disagree
  FROM generate_series(1, 11) f, generate_series(1, 11) t, pg_temp.try_merge(f, t);
SELECT * FROM crm_tree.preview_merge('merge.node', '2', '7');
SELECT crm_tree.merge_nodes('merge.node', '2', '7');
SELECT id, up, materialized_path, depth FROM merge.node ORDER BY materialized_path;
ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '2'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '4'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '10'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '77'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '404', '2'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT * FROM crm_tree.preview_merge('merge.node', '404', '2'); SELECT crm_tree.merge_nodes('merge.node', NULL, '2'); ROLLBACK;
SELECT crm_tree.merge_nodes('merge.node', '2', '7');
-- Without the rights to update and delete: refused, the previews too, since they tell of hidden nodes.
SET SESSION AUTHORIZATION merge_reader;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.preview_move('merge.node', '2', '7'); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '7'); ROLLBACK;
RESET SESSION AUTHORIZATION;
-- Unbound, past the wall: which org is meant has to be clear.
SELECT crm_tree.merge_nodes('merge.node', '77', '2');
INSERT INTO merge.node (org, id, up) VALUES (2, 2, 1);
SELECT crm_tree.merge_nodes('merge.node', '2', '1');
BEGIN; SELECT crm_tree.merge_nodes('merge.node', '77', '2'); SELECT org, id, materialized_path FROM merge.node WHERE org = 2 ORDER BY 3; ROLLBACK;

-- Who may see only part of the children: nothing is lost, whatever on_delete says.
CREATE POLICY no_secrets ON merge.node AS RESTRICTIVE TO merge_part USING (NOT secret);
UPDATE merge.node SET secret = true WHERE org = 1 AND id = 11;
SELECT format($$SET ROLE merge_owner;
  SELECT crm_tree.attach_tree('merge.node', 'id', 'up', org => 'org', max_depth => 4, on_delete => %L); RESET ROLE;
  SET SESSION AUTHORIZATION merge_part; BEGIN; SELECT crm_tree.bind_org(1);
  SELECT refusal FROM crm_tree.preview_merge('merge.node', '2', '7'); SELECT crm_tree.merge_nodes('merge.node', '2', '7');$$, mode), 'ROLLBACK; RESET SESSION AUTHORIZATION'
  FROM unnest('{restrict,adopt,rootify,cascade}'::text[]) mode \gexec
SELECT count(*), count(*) FILTER (WHERE secret) AS secret FROM merge.node WHERE org = 1;
-- Below a child that he may see, hidden ones move along.
UPDATE merge.node SET secret = id = 4 WHERE org = 1;
SET SESSION AUTHORIZATION merge_part;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT * FROM crm_tree.preview_merge('merge.node', '2', '7');
SELECT crm_tree.merge_nodes('merge.node', '2', '7');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT id, up, materialized_path, secret FROM merge.node WHERE org = 1 ORDER BY materialized_path;
SELECT * FROM crm_tree.check_tree('merge.node');
INSERT INTO merge.node (org, id, up) VALUES (1, 2, 1);
UPDATE merge.node SET up = 2 WHERE org = 1 AND id IN (3, 11);
-- A policy for UPDATE alone, and one that keeps the node: refused, nothing half done.
DROP POLICY no_secrets ON merge.node;
CREATE POLICY not_three ON merge.node AS RESTRICTIVE FOR UPDATE TO merge_part USING (id <> 3);
SET SESSION AUTHORIZATION merge_part;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '7'); ROLLBACK;
RESET SESSION AUTHORIZATION;
DROP POLICY not_three ON merge.node;
CREATE POLICY keeps_two ON merge.node AS RESTRICTIVE FOR DELETE TO merge_part USING (id <> 2);
SET SESSION AUTHORIZATION merge_part;
BEGIN; SELECT crm_tree.bind_org(1); SELECT crm_tree.merge_nodes('merge.node', '2', '7'); ROLLBACK;
RESET SESSION AUTHORIZATION;
-- A trigger of the table's own that needs the caller's search_path.
CREATE TABLE merge.log (id int);
GRANT INSERT, SELECT ON merge.log TO merge_app;
CREATE FUNCTION merge.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (OLD.id); RETURN NULL; END';
CREATE TRIGGER note AFTER DELETE ON merge.node FOR EACH ROW EXECUTE FUNCTION merge.note();
SET SESSION AUTHORIZATION merge_app;
BEGIN;
SET LOCAL search_path = merge, public;
SELECT crm_tree.bind_org(1);
SELECT crm_tree.merge_nodes('node', '2', '7');
SELECT * FROM log;
ROLLBACK;
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
DROP SCHEMA merge CASCADE;
DROP OWNED BY merge_app, merge_part, merge_reader, merge_owner;
DROP ROLE merge_app, merge_part, merge_reader, merge_owner;
