-- J.P. Morgan International Finance Limited, with everything below it, moves from the bank to the
-- holding company. Totals before:

BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT a.name, r.accounts, r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r
 WHERE a.depth <= 1 ORDER BY a.depth, a.name;
--quiet
SELECT r.total_usd AS root_before, r.accounts AS root_accounts FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.depth = 0 \gset
SELECT r.total_usd AS bank_before FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.name LIKE 'JPMorgan Chase Bank, N%' \gset
SELECT r.total_usd AS moved_usd, r.accounts AS moved FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.name = 'J.P. Morgan International Finance Limited' \gset
--loud

-- The re-org. One row is updated; the paths of all accounts below it follow in the same transaction.
UPDATE crm.account
   SET parent_account_id = (SELECT account_id FROM crm.account
                             WHERE name = 'JPMorgan Chase Holdings LLC')
 WHERE name = 'J.P. Morgan International Finance Limited';

-- Totals after. The holding company has what the bank has lost; the group's total is the same:
SELECT a.name, r.accounts, r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r
 WHERE a.depth <= 1 ORDER BY a.depth, a.name;
--check (SELECT r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.depth = 0) = :root_before
--check (SELECT r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.name LIKE 'JPMorgan Chase Bank, N%') = :bank_before - :moved_usd
--check :moved_usd > 0 AND :moved > 40
COMMIT;

-- And back, by another UPDATE of one row:
BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
UPDATE crm.account
   SET parent_account_id = (SELECT account_id FROM crm.account
                             WHERE name = 'JPMorgan Chase Bank, National Association')
 WHERE name = 'J.P. Morgan International Finance Limited';
--check (SELECT r.total_usd FROM crm.account a, crm.arr_rollup(a.account_id) r WHERE a.name LIKE 'JPMorgan Chase Bank, N%') = :bank_before
--check NOT EXISTS (SELECT FROM crm_tree.check_tree('crm.account'))
COMMIT;
