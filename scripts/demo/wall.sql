-- The same SELECT, without any WHERE, in the same table. Bound to org A:

BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT sum(arr_usd) FROM crm.fct_account_arr_snapshot;
--quiet
SELECT sum(arr_usd) AS sum_a, count(*) AS rows_a FROM crm.fct_account_arr_snapshot \gset
--loud
COMMIT;

-- Bound to org B:
BEGIN; SELECT crm_tree.bind_org('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'::uuid);
SELECT sum(arr_usd) FROM crm.fct_account_arr_snapshot;
--check (SELECT sum(arr_usd) FROM crm.fct_account_arr_snapshot) <> :sum_a
COMMIT;

-- Bound to nothing. Not zero rows, not all rows: an error.
--refused 42501
SELECT sum(arr_usd) FROM crm.fct_account_arr_snapshot;

-- A transaction that has said which org it works for cannot change its mind, whatever is injected:
BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
--refused 42501
SELECT crm_tree.bind_org('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'::uuid);
ROLLBACK;
