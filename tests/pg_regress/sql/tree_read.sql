-- Reading trees: every function against the rows, behind the wall and unbound, and by index.
SET client_min_messages = warning;
DROP ROLE IF EXISTS read_owner, read_app;
CREATE ROLE read_owner NOLOGIN;
CREATE ROLE read_app LOGIN;
CREATE SCHEMA read AUTHORIZATION read_owner;
GRANT USAGE ON SCHEMA read TO read_app;
SET ROLE read_owner;
CREATE TABLE read.node (org int NOT NULL, id bigint NOT NULL, up bigint, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('read.node', 'id', 'up', org => 'org');
-- Org 1: a tree of 9 and 10 and 100 sorting as numbers, and a second root. Org 2 has the same ids, other links.
INSERT INTO read.node VALUES
    (1, 1, NULL), (1, 100, 1), (1, 9, 1), (1, 10, 1), (1, 91, 9), (1, 92, 9), (1, 911, 91), (1, 5, NULL), (1, 6, NULL),
    (2, 9, NULL), (2, 1, 9), (2, 91, 1);
SELECT crm_tree.protect('read.node', 'org');
GRANT SELECT ON read.node TO read_app;
RESET ROLE;
SELECT crm_tree.grant_org('read_app', 1);
RESET client_min_messages;

SET SESSION AUTHORIZATION read_app;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT * FROM crm_tree.children('read.node', '1');
SELECT * FROM crm_tree.siblings('read.node', '9');
SELECT * FROM crm_tree.siblings('read.node', '5');
SELECT * FROM crm_tree.leaves('read.node', '1');
SELECT * FROM crm_tree.leaves('read.node', '100');
SELECT * FROM crm_tree.root_of('read.node', '911');
SELECT * FROM crm_tree.root_of('read.node', '5');
SELECT * FROM crm_tree.lowest_common_ancestor('read.node', '911', '92');
SELECT * FROM crm_tree.lowest_common_ancestor('read.node', '911', '9');
SELECT * FROM crm_tree.lowest_common_ancestor('read.node', '911', '911');
SELECT * FROM crm_tree.lowest_common_ancestor('read.node', '911', '5');
SELECT n.id, c.* FROM read.node n, crm_tree.node_counts('read.node', n.id::text) c ORDER BY n.id;
-- An id written in another way is the same id; one of another type is an error.
SELECT id FROM crm_tree.siblings('read.node', ' 009');
-- Unknown, null, of another org: no rows.
SELECT (SELECT count(*) FROM crm_tree.children('read.node', x)) AS children, (SELECT count(*) FROM crm_tree.siblings('read.node', x)) AS siblings,
       (SELECT count(*) FROM crm_tree.leaves('read.node', x)) AS leaves, (SELECT count(*) FROM crm_tree.root_of('read.node', x)) AS root,
       (SELECT count(*) FROM crm_tree.lowest_common_ancestor('read.node', x, '9')) AS lca,
       (SELECT count(*) FROM crm_tree.lowest_common_ancestor('read.node', '9', x)) AS lca_b, (SELECT count(*) FROM crm_tree.node_counts('read.node', x)) AS counts
  FROM (VALUES ('404'), (NULL)) v(x);
SELECT * FROM crm_tree.children('read.node', 'nine');
ROLLBACK;
-- Unbound: refused behind the wall,
SELECT * FROM crm_tree.children('read.node', '9');
SELECT * FROM crm_tree.node_counts('read.node', '9');
RESET SESSION AUTHORIZATION;
-- and every org that has the id where nothing holds back.
SELECT * FROM crm_tree.children('read.node', '9');
SELECT * FROM crm_tree.siblings('read.node', '1');
SELECT * FROM crm_tree.root_of('read.node', '91');
SELECT * FROM crm_tree.lowest_common_ancestor('read.node', '91', '1');
SELECT * FROM crm_tree.node_counts('read.node', '9');

-- A node without a path has links alone.
SET session_replication_role = replica;
UPDATE read.node SET materialized_path = NULL WHERE org = 1 AND id = 9;
RESET session_replication_role;
BEGIN;
SELECT crm_tree.bind_org(1);
SELECT (SELECT count(*) FROM crm_tree.children('read.node', '9')) AS children, (SELECT count(*) FROM crm_tree.siblings('read.node', '9')) AS siblings,
       (SELECT count(*) FROM crm_tree.leaves('read.node', '9')) AS leaves, (SELECT count(*) FROM crm_tree.root_of('read.node', '9')) AS root;
ROLLBACK;
SELECT repaired FROM crm_tree.repair_tree('read.node');

-- Random trees: the functions agree with the links.
SET client_min_messages = warning;
CREATE TABLE read.big (org int NOT NULL, id text NOT NULL, up text, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('read.big', 'id', 'up', org => 'org', max_depth => 200);
SELECT setseed(0.25);
INSERT INTO read.big SELECT o, 'n' || g, CASE WHEN g > 3 THEN 'n' || 1 + floor(random() * (g - 1))::int END
  FROM generate_series(1, 2) o, generate_series(1, 3000) g;
ANALYZE read.big;
ALTER TABLE read.big OWNER TO read_owner;
SELECT crm_tree.protect('read.big', 'org');
GRANT SELECT ON read.big TO read_app;
RESET client_min_messages;
CREATE VIEW read.closure AS
WITH RECURSIVE c(org, top, id, level) AS (
    SELECT org, id, id, 0 FROM read.big UNION ALL SELECT c.org, c.top, b.id, level + 1 FROM c JOIN read.big b ON b.org = c.org AND b.up = c.id)
SELECT * FROM c;
BEGIN;
SELECT crm_tree.bind_org(2);
WITH closure AS MATERIALIZED (SELECT * FROM read.closure WHERE org = 2),
asked AS MATERIALIZED (SELECT 'n' || g AS id, 'n' || (g * 7) % 3000 + 1 AS other FROM generate_series(1, 3000, 59) g),
truth AS (
    SELECT a.id,
           (SELECT array_agg(b.id ORDER BY b.id) FROM read.big b WHERE b.org = 2 AND b.up = a.id) AS children,
           (SELECT array_agg(c.id ORDER BY c.id) FROM closure c WHERE c.top = a.id
               AND NOT EXISTS (SELECT FROM read.big b WHERE b.org = 2 AND b.up = c.id)) AS leaves,
           (SELECT c.top FROM closure c WHERE c.id = a.id ORDER BY level DESC LIMIT 1) AS root,
           (SELECT c.top FROM closure c JOIN closure d ON d.top = c.top AND d.id = a.other WHERE c.id = a.id ORDER BY c.level LIMIT 1) AS lca,
           (SELECT (count(*) FILTER (WHERE level = 1), count(*) - 1,
                    count(*) FILTER (WHERE NOT EXISTS (SELECT FROM read.big b WHERE b.org = 2 AND b.up = c.id)), max(level))::text
              FROM closure c WHERE c.top = a.id) AS counts
      FROM asked a)
SELECT count(*) AS asked,
       count(*) FILTER (WHERE t.children IS DISTINCT FROM (SELECT array_agg(f.id ORDER BY f.id) FROM crm_tree.children('read.big', a.id) f)) AS children,
       count(*) FILTER (WHERE t.leaves IS DISTINCT FROM (SELECT array_agg(f.id ORDER BY f.id) FROM crm_tree.leaves('read.big', a.id) f)) AS leaves,
       count(*) FILTER (WHERE t.root IS DISTINCT FROM (SELECT id FROM crm_tree.root_of('read.big', a.id))) AS root,
       count(*) FILTER (WHERE t.lca IS DISTINCT FROM (SELECT id FROM crm_tree.lowest_common_ancestor('read.big', a.id, a.other))) AS lca,
       count(*) FILTER (WHERE t.counts IS DISTINCT FROM (SELECT f::text FROM crm_tree.node_counts('read.big', a.id) f)) AS counts
  FROM truth t JOIN asked a USING (id);
ROLLBACK;

-- What the functions read, behind the wall: by index, and no more rows than they return, the node's own
-- one besides. The counters are those of the transaction so far.
SET SESSION AUTHORIZATION read_app;
BEGIN;
SELECT crm_tree.bind_org(1);
CREATE FUNCTION pg_temp.cost(query text, OUT rows bigint, OUT seq_scans bigint, OUT read_beyond bigint) LANGUAGE plpgsql AS $$
DECLARE seq bigint; read bigint;
BEGIN
    SELECT seq_scan, idx_tup_fetch + seq_tup_read INTO seq, read FROM pg_stat_xact_user_tables WHERE relid = 'read.big'::regclass;
    EXECUTE 'SELECT count(*) FROM ' || query INTO rows;
    SELECT seq_scan - seq, idx_tup_fetch + seq_tup_read - read - rows INTO seq_scans, read_beyond
      FROM pg_stat_xact_user_tables WHERE relid = 'read.big'::regclass;
END $$;
SELECT name, (pg_temp.cost(format('crm_tree.%s', call))).*
  FROM (VALUES ('subtree', 'subtree(''read.big'', ''n50'')'), ('ancestors', 'ancestors(''read.big'', ''n2999'')'),
               ('children', 'children(''read.big'', ''n50'')'), ('siblings', 'siblings(''read.big'', ''n2999'')'),
               ('roots', 'siblings(''read.big'', ''n1'')'), ('root', 'root_of(''read.big'', ''n2999'')'),
               ('lca', 'lowest_common_ancestor(''read.big'', ''n2999'', ''n2998'')')) v(name, call);
-- These two read the subtree once.
SELECT name, rows, seq_scans, read_beyond - ((SELECT count(*) FROM crm_tree.subtree('read.big', 'n50')) - rows) AS read_beyond_subtree
  FROM (SELECT name, (pg_temp.cost(format('crm_tree.%s', call))).*
          FROM (VALUES ('leaves', 'leaves(''read.big'', ''n50'')'), ('counts', 'node_counts(''read.big'', ''n50'')')) v(name, call)) c;
-- The same range as a statement of one's own.
EXPLAIN (COSTS OFF) SELECT id FROM read.big WHERE materialized_path >= '/n1/n50/' AND materialized_path < '/n1/n500';
ROLLBACK;
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
DROP SCHEMA read CASCADE;
DROP OWNED BY read_app, read_owner;
DROP ROLE read_app, read_owner;
