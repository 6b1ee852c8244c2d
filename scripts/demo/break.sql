-- A superuser switches the guard and the triggers off and spoils paths, the way a careless import might:

SET crm_tree.guard = off;
SET session_replication_role = replica;
UPDATE crm.account SET materialized_path = '/lost' || materialized_path, depth = depth + 1
 WHERE org_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa' AND depth = 4;
RESET session_replication_role; RESET crm_tree.guard;

-- Once, too: a role for jobs, which may do what the CRM's owner may, and work for any org, one by one.
CREATE ROLE crm_jobs LOGIN;
GRANT crm_tree_owner TO crm_jobs;
GRANT EXECUTE ON FUNCTION crm_tree.add_job TO crm_jobs;
--hush
SELECT crm_tree.grant_org('crm_jobs', '*');
