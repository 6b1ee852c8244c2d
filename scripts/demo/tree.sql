-- Accounts form a tree; each may have revenue (ARR) of its own. arr_rollup_tree() computes the total
-- of every node in one pass. Drawn below: the first levels, largest first.

BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);     -- as org A
--tree
SELECT account_id, parent_account_id, name, own_usd, total_usd, descendants + 1
  FROM crm.arr_rollup_tree() ORDER BY depth, total_usd DESC, name;
--check (SELECT count(*) FROM crm.account) = 120
COMMIT;
