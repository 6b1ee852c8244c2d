-- Loads the sample CRM: three orgs, each a software company with its own customers.
--
--   A  Acme Cloud         sells to JPMorgan Chase & Co. and 119 of its subsidiaries
--   B  Bluewater Systems  sells to Volkswagen AG and 73 of its subsidiaries
--   C  Cobalt Software    sells to 10,000 generated accounts
--
-- ILLUSTRATIVE: the company names are real, as public filings list them; the structure is simplified, and
-- every figure, deal and person is invented. See README.md in this folder.
--
-- Into a database that has the extension and SELECT crm_tree.create_crm(), as a superuser:
--
--   psql -d DATABASE -v dir=examples/sample -f examples/sample/load.sql
--
-- dir: where the CSV files are (default: the current folder). crm: the CRM's schema (default: crm).
-- owner: the role that create_crm gave the CRM to (default: crm_tree_owner).

\set ON_ERROR_STOP on
\if :{?crm}
\else
    \set crm crm
\endif
\if :{?owner}
\else
    \set owner crm_tree_owner
\endif
\if :{?dir}
    \cd :dir
\endif
SET client_min_messages = warning;

\set org_a aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa
\set org_b bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb
\set org_c cccccccc-cccc-4ccc-8ccc-cccccccccccc

SELECT set_config('search_path', 'pg_catalog, pg_temp', false) \g /dev/null
\echo 'sample: building 10,194 accounts, two years of ARR and the pipeline in temporary tables'
\i stage.sql

-- From here on as the CRM's owner, who is no superuser: the tables are FORCEd, so the wall stands for the
-- owner too, and each org's rows can only go in while that org is bound.
GRANT SELECT ON st_account, st_team, st_arr, st_stage, st_opportunity, st_event TO :"owner";

\set org_key A
\set org_id :org_a
\set org_name 'Acme Cloud'
\i load_org.sql

\set org_key B
\set org_id :org_b
\set org_name 'Bluewater Systems'
\i load_org.sql

\set org_key C
\set org_id :org_c
\set org_name 'Cobalt Software'
\i load_org.sql

DROP TABLE csv_account, st_account, st_team, st_arr, st_stage, st_opportunity, st_event;
RESET search_path;
RESET client_min_messages;
