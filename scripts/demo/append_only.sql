
-- History cannot be rewritten, not even by a superuser:
--refused 55000
UPDATE crm.fct_stage_change SET amount_usd = 0;
