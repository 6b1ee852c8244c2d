CREATE EXTENSION crm_tree;
--hush
SELECT crm_tree.create_crm();                    -- tables, views, functions in the schema crm
--check EXISTS (SELECT FROM pg_namespace WHERE nspname = 'crm')

CREATE ROLE crm_app LOGIN;                       -- what the application logs in as
--hush
SELECT crm.grant_app('crm_app');                 -- it may use the tables, and own none
--hush
SELECT crm_tree.grant_org('crm_app', org)        -- and work for these orgs, one a transaction
  FROM unnest(ARRAY['aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa',
                    'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb',
                    'cccccccc-cccc-4ccc-8ccc-cccccccccccc']::uuid[]) AS org;
