SET ROLE crm_app;   -- a superuser passes row security; the application's role does not

-- 1. The ten largest subtrees of Volkswagen AG, as org B sees them
BEGIN;
SELECT crm_tree.bind_org('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'::uuid);
SELECT name, depth, descendants, own_usd, total_usd
  FROM crm.arr_rollup_tree() ORDER BY total_usd DESC LIMIT 10;
COMMIT;

-- 2. The way from a subsidiary up to its ultimate parent
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT up.depth, a.name
  FROM crm.account leaf, crm_tree.ancestors('crm.account', leaf.account_id::text) up
  JOIN crm.account a ON a.account_id = up.id::uuid
 WHERE leaf.name = 'J.P. Morgan Cazenove Limited' ORDER BY up.depth;
COMMIT;

-- 3. How ARR below one company developed, month by month
BEGIN;
SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT day::date, r.accounts, r.total_usd
  FROM crm.account a,
       generate_series(date_trunc('month', now() - interval '11 months'), now(), '1 month') day,
       crm.arr_rollup(a.account_id, day::date) r
 WHERE a.name = 'J.P. Morgan International Finance Limited';
COMMIT;
