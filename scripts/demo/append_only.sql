
-- History cannot be rewritten, not even by a superuser who has switched the guard off:
SET crm_tree.guard = off;
--refused 55000
UPDATE crm.fct_stage_change SET amount_usd = 0;
