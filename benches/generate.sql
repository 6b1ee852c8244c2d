-- The data: :orgs orgs of 10,000 accounts each, one day of ARR. Nothing random: the same on every machine.
\set ON_ERROR_STOP on
\o /dev/null
SET client_min_messages = warning;
SET synchronous_commit = off;

CREATE EXTENSION crm_tree;
CREATE EXTENSION ltree;
SELECT crm_tree.create_crm();
-- The figures are those of a tree without history; a bare table keeps none either.
SELECT crm_tree.attach_tree('crm.account', id => 'account_id', parent => 'parent_account_id');
CREATE SCHEMA bench;

SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_app') AS has_role \gset
\if :has_role
\else
    CREATE ROLE bench_app LOGIN;
\endif
SELECT crm.grant_app('bench_app');
-- An application without a wall: its permissions are checked as those of the other.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_bare') AS has_role \gset
\if :has_role
\else
    CREATE ROLE bench_bare BYPASSRLS;
\endif
GRANT USAGE ON SCHEMA bench, crm TO bench_bare;
GRANT SELECT ON ALL TABLES IN SCHEMA crm TO bench_bare;
SELECT crm_tree.grant_org('bench_app', '*', for_session => true);
GRANT USAGE ON SCHEMA bench TO bench_app;
GRANT pg_read_all_stats TO bench_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA bench GRANT SELECT ON TABLES TO bench_app, bench_bare;

-- Ids -------------------------------------------------------------------------------------------

CREATE FUNCTION bench.org(o int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN md5('org ' || o)::uuid;
CREATE FUNCTION bench.account(o int, i int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN md5('account ' || o || ' ' || i)::uuid;
CREATE FUNCTION bench.day() RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN DATE '2026-06-30';

-- The shape of an org: 100 groups of 100. Groups hang below one another ten by ten, the accounts of a
-- group four by four. Group 10 and later are exactly 100 accounts, account 0 is all 10,000.
CREATE TABLE bench.shape AS
WITH RECURSIVE edge AS (
    SELECT i, CASE WHEN i = 0 THEN NULL
                   WHEN i % 100 = 0 THEN (i / 100 - 1) / 10 * 100
                   ELSE i / 100 * 100 + (i % 100 - 1) / 4 END AS parent
      FROM generate_series(0, 9999) i
), node AS (
    SELECT i, parent, ARRAY[i] AS ids FROM edge WHERE parent IS NULL
    UNION ALL
    SELECT e.i, e.parent, n.ids || e.i FROM node n JOIN edge e ON e.parent = n.i
)
SELECT * FROM node;

\echo '    orgs, users, accounts'
INSERT INTO crm_tree.org (org_id, name) SELECT bench.org(o), 'Org ' || o FROM generate_series(1, :orgs) o;

-- The generator knows the paths: triggers and foreign keys are off. Rows come org by org, as tenants are
-- taken on and as a nightly job writes snapshots, and within an org in the order of a hash.
SET session_replication_role = replica;

INSERT INTO crm.role (org_id, role_id, parent_role_id, name, materialized_path, depth)
SELECT org, id, parent, 'Role ' || r,
       '/' || CASE WHEN r = 0 THEN '' WHEN r <= 5 THEN top || '/' ELSE top || '/' || parent || '/' END || id || '/',
       CASE WHEN r = 0 THEN 0 WHEN r <= 5 THEN 1 ELSE 2 END
  FROM generate_series(1, :orgs) o
 CROSS JOIN generate_series(0, 25) r
 CROSS JOIN LATERAL (
       SELECT bench.org(o) AS org, md5('role ' || o || ' ' || r)::uuid AS id, md5('role ' || o || ' 0')::uuid AS top,
              CASE WHEN r = 0 THEN NULL WHEN r <= 5 THEN md5('role ' || o || ' 0')::uuid
                   ELSE md5('role ' || o || ' ' || (r - 6) / 4 + 1)::uuid END AS parent) x;

INSERT INTO crm.app_user (org_id, user_id, display_name, role_id)
SELECT bench.org(o), 'user-' || u, 'User ' || u,
       md5('role ' || o || ' ' || CASE WHEN u = 0 THEN 0 WHEN u <= 5 THEN u ELSE 6 + u % 20 END)::uuid
  FROM generate_series(1, :orgs) o CROSS JOIN generate_series(0, 199) u;

INSERT INTO crm.account (org_id, account_id, parent_account_id, name, owner_user_id, materialized_path, depth)
SELECT bench.org(o), bench.account(o, i), bench.account(o, parent), 'Account ' || i, 'user-' || 6 + i % 194,
       '/' || (SELECT string_agg(bench.account(o, u.x)::text, '/' ORDER BY u.n)
                 FROM unnest(ids) WITH ORDINALITY u (x, n)) || '/',
       cardinality(ids) - 1
  FROM generate_series(1, :orgs) o CROSS JOIN bench.shape
 ORDER BY o, md5(i || ':' || o);

\echo '    ARR'
SELECT crm.create_month_partitions(bench.day(), bench.day());
INSERT INTO crm.fct_account_arr_snapshot (org_id, snapshot_date, account_id, arr_usd)
SELECT bench.org(o), bench.day(), bench.account(o, i), (i::bigint * 7919 + o * 104729) % 1000000 / 100.0
  FROM generate_series(1, :orgs) o CROSS JOIN bench.shape
 ORDER BY o, md5(o || ':' || i);
INSERT INTO crm.arr_snapshot_status (org_id, snapshot_date)
SELECT bench.org(o), bench.day() FROM generate_series(1, :orgs) o;
RESET session_replication_role;

-- The rivals ------------------------------------------------------------------------------------

\echo '    a bare copy: same keys, foreign keys and indexes, no triggers, no wall'
CREATE TABLE bench.bare (LIKE crm.account INCLUDING ALL);
ALTER TABLE bench.bare ALTER org_id DROP DEFAULT;
SET session_replication_role = replica;
INSERT INTO bench.bare SELECT * FROM crm.account;
RESET session_replication_role;
ALTER TABLE bench.bare
    ADD FOREIGN KEY (org_id, parent_account_id) REFERENCES bench.bare (org_id, account_id),
    ADD FOREIGN KEY (org_id, owner_user_id) REFERENCES crm.app_user (org_id, user_id);
-- Referenced as the other is: each key that points at a table is a pair of triggers on it.
DO $$
DECLARE
    key record;
BEGIN
    FOR key IN SELECT oid, confdeltype FROM pg_constraint
                WHERE confrelid = 'crm.account'::regclass AND conrelid <> confrelid AND conparentid = 0 LOOP
        EXECUTE format('CREATE TABLE bench.bare_%s (org_id uuid, account_id uuid,
                            FOREIGN KEY (org_id, account_id) REFERENCES bench.bare (org_id, account_id) ON DELETE %s)',
                       key.oid, CASE key.confdeltype WHEN 'c' THEN 'CASCADE' ELSE 'NO ACTION' END);
    END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON bench.bare TO bench_app, bench_bare;

\echo '    ltree with GiST, behind the same wall'
CREATE TABLE bench.ltree_account (org_id uuid NOT NULL, account_id uuid NOT NULL, path ltree NOT NULL,
    PRIMARY KEY (org_id, account_id));
INSERT INTO bench.ltree_account
SELECT org_id, account_id, translate(trim(both '/' from materialized_path), '/-', '.')::ltree FROM crm.account;
CREATE INDEX ON bench.ltree_account USING gist (path);

\echo '    closure table, behind the same wall'
CREATE TABLE bench.closure (org_id uuid NOT NULL, ancestor_id uuid NOT NULL, descendant_id uuid NOT NULL);
INSERT INTO bench.closure
SELECT a.org_id, x::uuid, a.account_id
  FROM crm.account a CROSS JOIN LATERAL unnest(crm_tree.path_ids(a.materialized_path)) x;
ALTER TABLE bench.closure ADD PRIMARY KEY (org_id, ancestor_id, descendant_id);

\echo '    tables without an index, for the full scan'
CREATE TABLE bench.scan (org_id uuid NOT NULL, n int NOT NULL);
INSERT INTO bench.scan SELECT org_id, depth FROM crm.account;
CREATE TABLE bench.scan_setting (org_id uuid NOT NULL, n int NOT NULL);
INSERT INTO bench.scan_setting SELECT * FROM bench.scan;
ALTER TABLE bench.scan_setting ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_setting ON bench.scan_setting USING (org_id = current_setting('bench.org')::uuid);

SELECT crm_tree.protect('bench.ltree_account');
SELECT crm_tree.protect('bench.closure');
SET client_min_messages = error; -- no key that leads with the org: that is the point
SELECT crm_tree.protect('bench.scan');
SET client_min_messages = warning;

-- Two more roots in the first org, to move the tree of 10,000 to and fro between; and parents for inserts.
CREATE TABLE bench.hold AS SELECT h, md5('hold ' || h)::uuid AS id FROM generate_series(1, 2) h;
BEGIN;
SELECT crm_tree.bind_org(bench.org(1));
INSERT INTO crm.account (account_id, name) SELECT id, 'Holding ' || h FROM bench.hold;
COMMIT;
INSERT INTO bench.bare (org_id, account_id, name, materialized_path, depth)
SELECT bench.org(1), id, 'Holding ' || h, '/' || id || '/', 0 FROM bench.hold;
-- What an application knows of the accounts of the first two orgs: parents to insert below.
CREATE TABLE bench.parent (o int, n int, id uuid NOT NULL, path text COLLATE "C" NOT NULL, depth int NOT NULL,
    PRIMARY KEY (o, n));
INSERT INTO bench.parent
SELECT o, s.i, a.account_id, a.materialized_path, a.depth
  FROM generate_series(1, 2) o CROSS JOIN bench.shape s
  JOIN crm.account a ON a.org_id = bench.org(o) AND a.account_id = bench.account(o, s.i);

\echo '    the access bridge of the first org'
BEGIN;
SELECT crm_tree.bind_org(bench.org(1));
SELECT * FROM crm.recompute_sharing();
COMMIT;

\echo '    vacuum, analyze'
VACUUM ANALYZE;
CHECKPOINT;

-- Not measured, asserted: what is measured below is right.
BEGIN;
SELECT crm_tree.bind_org(bench.org(1));
DO $$
BEGIN
    ASSERT (SELECT count(*) FROM crm_tree.check_tree('crm.account')) = 0, 'the generated paths are wrong';
END
$$;
COMMIT;
