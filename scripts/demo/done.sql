SELECT EXISTS (SELECT FROM crm_tree.job_history WHERE job = 'reconcile_paths' AND status = 'succeeded');
