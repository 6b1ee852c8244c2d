-- Somebody hangs the parent company under one of its own subsidiaries, four levels down:

BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
--refused 23514
UPDATE crm.account
   SET parent_account_id = (SELECT account_id FROM crm.account
                             WHERE name = 'J.P. Morgan Securities plc')
 WHERE name = 'JPMorgan Chase & Co.';
ROLLBACK;

-- Nothing has changed:
BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT name, depth FROM crm.account WHERE parent_account_id IS NULL;
--check (SELECT count(*) = 1 AND max(depth) = 0 FROM crm.account WHERE parent_account_id IS NULL)
COMMIT;
