-- Pipeline: the append-only fact, idempotent events, where deals are and how long they sat
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT format('CREATE ROLE %I', 'pipeline_app') WHERE to_regrole('pipeline_app') IS NULL \gexec
SELECT crm_tree.create_crm('reg_pipeline');
SELECT reg_pipeline.create_month_partitions('2026-01-01', '2026-03-01') >= 0 AS months;
SELECT reg_pipeline.grant_app('pipeline_app');
SELECT crm_tree.grant_org('pipeline_app', '*', for_session => true);
SET ROLE pipeline_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0021'::uuid, 'ann');
INSERT INTO reg_pipeline.account (account_id, parent_account_id, name) VALUES
    ('00000000-0000-0000-0000-0000000000a1', NULL, 'Group'),
    ('00000000-0000-0000-0000-0000000000a2', '00000000-0000-0000-0000-0000000000a1', 'Bank'),
    ('00000000-0000-0000-0000-0000000000a3', NULL, 'Other');
INSERT INTO reg_pipeline.stage (stage, position, outcome) VALUES ('lead', 1, 'open'), ('proposal', 2, 'open'), ('won', 3, 'won');
INSERT INTO reg_pipeline.opportunity (opportunity_id, account_id, name) VALUES
    ('00000000-0000-0000-0000-0000000000b1', '00000000-0000-0000-0000-0000000000a2', 'Deal 1'),
    ('00000000-0000-0000-0000-0000000000b2', '00000000-0000-0000-0000-0000000000a3', 'Deal 2');

-- late, out of order, twice in one statement, and two at one moment
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd) VALUES
    ('00000000-0000-0000-0000-0000000000e3', '00000000-0000-0000-0000-0000000000b1', '2026-01-11 00:00Z', 'proposal', 20),
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-01-01 00:00Z', 'lead', 10),
    ('00000000-0000-0000-0000-0000000000e2', '00000000-0000-0000-0000-0000000000b1', '2026-01-05 00:00Z', 'lead', 20),
    ('00000000-0000-0000-0000-0000000000e3', '00000000-0000-0000-0000-0000000000b1', '2026-01-11 00:00Z', 'proposal', 20),
    ('00000000-0000-0000-0000-0000000000e4', '00000000-0000-0000-0000-0000000000b1', '2026-01-21 00:00Z', 'lead', 20),
    ('00000000-0000-0000-0000-0000000000e6', '00000000-0000-0000-0000-0000000000b1', '2026-01-31 00:00Z', 'proposal', 25),
    ('00000000-0000-0000-0000-0000000000e5', '00000000-0000-0000-0000-0000000000b1', '2026-01-31 00:00Z', 'lead', 20);
-- the same event again, from a session that writes moments otherwise: skipped
SET timezone = 'Asia/Tokyo';
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd) VALUES
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-01-01 09:00', 'lead', 10.00);
SET timezone = 'UTC';
-- the same id with other content, in another month too: refused
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd) VALUES
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-02-01 00:00Z', 'lead', 10);
-- a failed statement takes no key
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage) VALUES
    ('00000000-0000-0000-0000-0000000000e8', '00000000-0000-0000-0000-0000000000b1', '2026-02-01 00:00Z', 'nowhere');
SELECT count(*) FROM reg_pipeline.fct_stage_change;

SELECT * FROM reg_pipeline.record_stage_changes('[
    {"event_id": "00000000-0000-0000-0000-0000000000e6", "opportunity_id": "00000000-0000-0000-0000-0000000000b1", "changed_at": "2026-01-31T00:00:00Z", "to_stage": "proposal", "amount_usd": 25},
    {"event_id": "00000000-0000-0000-0000-0000000000e7", "opportunity_id": "00000000-0000-0000-0000-0000000000b2", "changed_at": "2026-02-03T12:00:00Z", "to_stage": "lead", "amount_usd": 7.5, "expected_close": "2026-09-30"}]');
SELECT * FROM reg_pipeline.record_stage_changes('[]');
SELECT * FROM reg_pipeline.record_stage_changes('{}');
SELECT * FROM reg_pipeline.record_stage_changes('[1]');
SELECT * FROM reg_pipeline.record_stage_changes('[{"event_id": "00000000-0000-0000-0000-0000000000e9", "amount": 1}]');
SELECT * FROM reg_pipeline.record_stage_changes('[{"opportunity_id": "00000000-0000-0000-0000-0000000000b1"}]');
INSERT INTO reg_pipeline.fct_stage_change (opportunity_id, changed_at, to_stage, amount_usd) VALUES ('00000000-0000-0000-0000-0000000000b1', '2026-03-01 00:00Z', 'won', -1);

-- where they are
SELECT opportunity_id, stage, changed_at, amount_usd, expected_close, changed_by FROM reg_pipeline.current_stage ORDER BY 1;
-- how long they sat: e2 and e5 begin no visit; the open ones run to as_of
SELECT * FROM reg_pipeline.time_in_stage(as_of => '2026-02-10 00:00Z');
SELECT * FROM reg_pipeline.time_in_stage('00000000-0000-0000-0000-0000000000b1', '2026-01-15 00:00Z');
SELECT * FROM reg_pipeline.time_in_stage('00000000-0000-0000-0000-0000000000b9');
SELECT * FROM reg_pipeline.stage_durations('2026-01-01 00:00Z', '2026-02-10 00:00Z');
SELECT stage, visits, still_there, mean, mean_cumulative FROM reg_pipeline.stage_durations('2026-01-01 00:00Z', '2026-02-10 00:00Z', '00000000-0000-0000-0000-0000000000a1');
SELECT * FROM reg_pipeline.stage_durations(account_id => '00000000-0000-0000-0000-0000000000ff');
SELECT * FROM reg_pipeline.pipeline_rollup();
SELECT * FROM reg_pipeline.pipeline_rollup('00000000-0000-0000-0000-0000000000a1');

-- append-only: for the application, ...
UPDATE reg_pipeline.fct_stage_change SET amount_usd = 0;
DELETE FROM reg_pipeline.fct_stage_change;
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage) VALUES
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-01-01 00:00Z', 'lead')
    ON CONFLICT (org_id, event_id, changed_at) DO UPDATE SET amount_usd = 0;
-- ... the owner, ...
RESET ROLE;
SET ROLE crm_tree_owner;
UPDATE reg_pipeline.fct_stage_change SET amount_usd = 0 WHERE false;
DELETE FROM reg_pipeline.fct_stage_change;
MERGE INTO reg_pipeline.fct_stage_change f USING (VALUES (1)) v ON f.org_id IS NOT NULL WHEN MATCHED THEN DELETE;
-- (of a partition, whose name depends on the day this runs only through its default)
DELETE FROM reg_pipeline.fct_stage_change_default;
DELETE FROM reg_pipeline.opportunity;
RESET ROLE;
-- ... and a superuser, with triggers meant to be off too
SET session_replication_role = replica;
UPDATE reg_pipeline.fct_stage_change_default SET amount_usd = 0;
DELETE FROM reg_pipeline.fct_stage_change;
TRUNCATE reg_pipeline.fct_stage_change_default;
RESET session_replication_role;
-- a partition that was detached keeps its guard
SELECT reg_pipeline.create_month_partitions('2001-01-01', '2001-01-01');
INSERT INTO reg_pipeline.fct_stage_change (opportunity_id, changed_at, to_stage) VALUES ('00000000-0000-0000-0000-0000000000b2', '2001-01-31 23:59Z', 'lead');
ALTER TABLE reg_pipeline.fct_stage_change DETACH PARTITION reg_pipeline.fct_stage_change_2001_01;
DELETE FROM reg_pipeline.fct_stage_change_2001_01;
TRUNCATE reg_pipeline.fct_stage_change_2001_01;
-- a month whose rows came before it
INSERT INTO reg_pipeline.fct_stage_change (opportunity_id, changed_at, to_stage) VALUES ('00000000-0000-0000-0000-0000000000b2', '2002-01-31 23:59Z', 'lead');
SELECT reg_pipeline.create_month_partitions('2002-01-01', '2002-01-01');
-- columns of one's own are content as well
ALTER TABLE reg_pipeline.fct_stage_change ADD COLUMN note text;
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd) VALUES
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-01-01 00:00Z', 'lead', 10);
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd, changed_by, note) VALUES
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-01-01 00:00Z', 'lead', 10, 'ann', 'x');

-- another org may use the same event id, and sees nothing of the first
SELECT crm_tree.unbind();
SET ROLE pipeline_app;
SELECT crm_tree.bind_session('00000000-0000-0000-0000-0000000c0022'::uuid);
SELECT count(*) FROM reg_pipeline.current_stage;
SELECT count(*) FROM reg_pipeline.time_in_stage();
INSERT INTO reg_pipeline.fct_stage_change (org_id, opportunity_id, to_stage) VALUES ('00000000-0000-0000-0000-0000000c0021', '00000000-0000-0000-0000-0000000000b1', 'won');
INSERT INTO reg_pipeline.fct_stage_change (opportunity_id, changed_at, to_stage) VALUES ('00000000-0000-0000-0000-0000000000b1', '2026-03-01 00:00Z', 'won');
INSERT INTO reg_pipeline.stage (stage, position) VALUES ('lead', 1);
INSERT INTO reg_pipeline.account (account_id, name) VALUES ('00000000-0000-0000-0000-0000000000a1', 'Theirs');
INSERT INTO reg_pipeline.opportunity (opportunity_id, account_id, name) VALUES ('00000000-0000-0000-0000-0000000000b1', '00000000-0000-0000-0000-0000000000a1', 'Theirs');
INSERT INTO reg_pipeline.fct_stage_change (event_id, opportunity_id, changed_at, to_stage, amount_usd) VALUES
    ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000b1', '2026-03-01 00:00Z', 'lead', 99);
SELECT stage, amount_usd FROM reg_pipeline.current_stage;
SELECT crm_tree.unbind();
SELECT * FROM reg_pipeline.current_stage;
RESET ROLE;
