-- What every file below builds on.
CREATE EXTENSION IF NOT EXISTS crm_tree;
SELECT count(*) AS undocumented
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'crm_tree' AND p.proname !~ '^_' AND obj_description(p.oid, 'pg_proc') IS NULL;
-- Private functions are nobody's but those that policies, views and triggers call as the caller.
SELECT p.oid::regprocedure AS unpinned_definer
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'crm_tree' AND p.prosecdef AND NOT coalesce(array_to_string(p.proconfig, ' ') ~ 'search_path=pg_catalog', false);
SELECT c.relname AS registry_without_row_security
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'crm_tree' AND c.relkind = 'r' AND NOT c.relrowsecurity;
-- The files look at other orgs' rows as the superuser, whom the guard would refuse; `guard` is about that.
ALTER ROLE CURRENT_USER SET crm_tree.guard = off;
