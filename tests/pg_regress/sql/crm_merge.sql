-- merge_account: everything that belongs to an account goes along, or nothing.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
SELECT format('CREATE ROLE %I LOGIN', 'merger') WHERE to_regrole('merger') IS NULL \gexec
SELECT crm_tree.create_crm('mrg');
SELECT mrg.grant_app('merger');
SELECT crm_tree.grant_org('merger', '00000000-0000-0000-0000-0000000d0001', for_session => true);
SET SESSION AUTHORIZATION merger;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000d0001'::uuid);
CREATE FUNCTION pg_temp.a(n text) RETURNS uuid LANGUAGE sql AS $$ SELECT ('a0000000-0000-0000-0000-' || lpad(n, 12, '0'))::uuid $$;
INSERT INTO mrg.app_user (user_id, display_name) VALUES ('ann', 'Ann'), ('bob', 'Bob'), ('cid', 'Cid');
-- 1 Group: 2 into, 3 from. 2: 21. 3: 31, 32 (owned by 40 %). 4, 5, 6, 7 apart.
INSERT INTO mrg.account (account_id, parent_account_id, name, ownership_pct, owner_user_id)
SELECT pg_temp.a(i), pg_temp.a(p), n, o, u FROM (VALUES
    ('1', NULL, 'Group', 100, 'ann'), ('2', '1', 'into', 50, 'ann'), ('3', '1', 'from', 50, 'bob'), ('21', '2', 'below into', 100, NULL),
    ('31', '3', 'below from', 100, NULL), ('32', '3', 'shared by both', 40, NULL), ('4', NULL, 'owns both', 100, NULL),
    ('5', NULL, 'owned by both', 100, NULL), ('6', NULL, 'owned by from', 100, NULL), ('7', NULL, 'owns from', 100, NULL)) v(i, p, n, o, u);
INSERT INTO mrg.account_link (parent_account_id, child_account_id, ownership_pct)
SELECT pg_temp.a(p), pg_temp.a(c), o FROM (VALUES
    ('3', '2', 5), ('4', '2', 10), ('4', '3', 30), ('2', '5', 20), ('3', '5', 25), ('3', '6', 50), ('7', '3', 15), ('2', '32', 35)) v(p, c, o);
INSERT INTO mrg.opportunity (account_id, name) SELECT pg_temp.a(x), 'deal of ' || x FROM unnest('{2,3,3,31}'::text[]) x;
INSERT INTO mrg.fct_account_arr_snapshot (snapshot_date, account_id, arr_usd)
SELECT d::date, pg_temp.a(i), v FROM (VALUES ('2026-01-31', '2', 100), ('2026-01-31', '3', 11.50), ('2026-02-28', '3', 12), ('2026-03-31', '2', 300)) v(d, i, v);
INSERT INTO mrg.account_share (account_id, user_id, permission_level)
SELECT pg_temp.a(i), u, l FROM (VALUES ('2', 'cid', 'read'), ('3', 'cid', 'edit'), ('3', 'bob', 'read')) v(i, u, l);
SELECT * FROM mrg.recompute_sharing();
SELECT * FROM crm_tree.preview_merge('mrg.account', pg_temp.a('3')::text, pg_temp.a('2')::text);
SELECT mrg.org_total('2026-01-31') AS january, mrg.org_total('2026-02-28') AS february;

BEGIN;
SELECT * FROM mrg.merge_account(pg_temp.a('3'), pg_temp.a('2'));
SELECT right(account_id::text, 2) AS id, right(parent_account_id::text, 2) AS parent, name, depth, ownership_pct FROM mrg.account ORDER BY materialized_path;
SELECT right(parent_account_id::text, 2) AS parent, right(child_account_id::text, 2) AS child, ownership_pct FROM mrg.account_link ORDER BY 1, 2;
SELECT right(account_id::text, 2) AS account, name FROM mrg.opportunity ORDER BY 1, 2;
SELECT snapshot_date, right(account_id::text, 2) AS account, arr_usd FROM mrg.fct_account_arr_snapshot ORDER BY 1, 2;
SELECT snapshot_date FROM mrg.arr_snapshot_status ORDER BY 1;
SELECT mrg.org_total('2026-01-31') AS january, mrg.org_total('2026-02-28') AS february;
SELECT right(account_id::text, 2) AS account, user_id, permission_level FROM mrg.account_share ORDER BY 2, 3;
-- Access by single shares holds at once; the bridge says what the sources say.
SELECT right(account_id::text, 2) AS account, user_id, permission_level FROM mrg.bridge_account_user_access WHERE granted_via = 'manual' ORDER BY 2, 3;
SELECT mrg.check_access('cid', pg_temp.a('31'), 'edit') AS cid, mrg.check_access('bob', pg_temp.a('31'), 'read') AS bob,
       mrg.check_access('bob', pg_temp.a('31'), 'edit') AS bob_owns_no_more;
SELECT * FROM mrg.sharing_drift();
SELECT * FROM crm_tree.check_tree('mrg.account');
ROLLBACK;

-- The same through the link that points down the tree, and a merge into the parent.
BEGIN;
SELECT * FROM mrg.merge_account(pg_temp.a('3'), pg_temp.a('1'));
SELECT right(account_id::text, 2) AS id, right(parent_account_id::text, 2) AS parent, depth FROM mrg.account ORDER BY materialized_path;
SELECT right(parent_account_id::text, 2) AS parent, right(child_account_id::text, 2) AS child, ownership_pct FROM mrg.account_link ORDER BY 1, 2;
ROLLBACK;

-- Refused, and nothing is changed.
SELECT mrg.merge_account(pg_temp.a('3'), pg_temp.a('3'));
SELECT mrg.merge_account(pg_temp.a('3'), pg_temp.a('31'));
SELECT mrg.merge_account(pg_temp.a('3'), pg_temp.a('404'));
SELECT mrg.merge_account(pg_temp.a('404'), pg_temp.a('3'));
SELECT mrg.merge_account(NULL, pg_temp.a('3'));
SELECT count(*), sum(arr_usd) FROM mrg.account LEFT JOIN mrg.fct_account_arr_snapshot USING (account_id);
-- What refers to the account beyond the template keeps it.
RESET SESSION AUTHORIZATION;
CREATE TABLE mrg.note (org_id uuid, account_id uuid, FOREIGN KEY (org_id, account_id) REFERENCES mrg.account (org_id, account_id));
INSERT INTO mrg.note VALUES ('00000000-0000-0000-0000-0000000d0001', 'a0000000-0000-0000-0000-000000000003');
SET SESSION AUTHORIZATION merger;
SELECT mrg.merge_account(pg_temp.a('3'), pg_temp.a('2'));
SELECT crm_tree.unbind();
SELECT mrg.merge_account(pg_temp.a('3'), pg_temp.a('2'));
-- What "into" owns of an account twice is none of the merge's.
BEGIN;
SELECT crm_tree.bind_org('00000000-0000-0000-0000-0000000d0001'::uuid);
INSERT INTO mrg.account (account_id, parent_account_id, name, ownership_pct) VALUES (pg_temp.a('51'), NULL, 'Into', 100), (pg_temp.a('52'), pg_temp.a('51'), 'Below', 40), (pg_temp.a('53'), NULL, 'Empty', 100);
INSERT INTO mrg.account_link (parent_account_id, child_account_id, ownership_pct) VALUES (pg_temp.a('51'), pg_temp.a('52'), 30);
SELECT links, links_added_up, links_dropped FROM mrg.merge_account(pg_temp.a('53'), pg_temp.a('51'));
SELECT a.ownership_pct, l.ownership_pct AS by_link FROM mrg.account a JOIN mrg.account_link l ON l.child_account_id = a.account_id WHERE a.account_id = pg_temp.a('52');
ROLLBACK;
RESET SESSION AUTHORIZATION;
DROP SCHEMA mrg CASCADE;
SELECT crm_tree.revoke_org('merger', '00000000-0000-0000-0000-0000000d0001');
DROP OWNED BY merger;
DROP ROLE merger;
