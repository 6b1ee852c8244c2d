-- Jobs: schedules, the registry, runs in a session. What needs workers is in tests/server/tests/jobs.rs.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS crm_tree;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
\set SHOW_CONTEXT never

-- schedules
SELECT schedule, zone, after, crm_tree.next_run(schedule, zone, after::timestamptz) FROM (VALUES
    ('0 3 * * *',            'UTC',              '2026-07-10 03:00'),
    ('0 3 * * *',            'Europe/Berlin',    '2026-07-10 03:00'),
    ('0 3 * * *',            'america/new_york', '2026-01-10 03:00'),
    ('30 2 * * *',           'Europe/Berlin',    '2026-03-28 12:00'), -- the clock skips it: right after the gap
    ('30 2 * * *',           'Europe/Berlin',    '2026-10-24 12:00'), -- the clock shows it twice:
    ('30 2 * * *',           'Europe/Berlin',    '2026-10-25 00:30'), -- only once
    ('*/15 8-18 * * MON-FRI','UTC',              '2026-07-10 18:50'),
    ('*/10 * * * * *',       'UTC',              '2026-07-10 00:00:05'),
    ('@monthly',             'UTC',              '2026-07-10'),
    ('0 0 13 * FRI',         'UTC',              '2026-07-10'),       -- the 13th or a Friday
    ('15 minutes',           'UTC',              '2026-07-10'),
    ('1 day',                'Europe/Berlin',    '2026-03-28 12:00'), -- a day of 23 hours
    ('24 hours',             'Europe/Berlin',    '2026-03-28 12:00'),
    ('1 month',              'UTC',              '2026-01-31'),
    ('P1DT2H',               'UTC',              '2026-07-10')
) AS t(schedule, zone, after);
SELECT crm_tree.next_run('61 * * * *', 'UTC', '2026-07-10');
SELECT crm_tree.next_run('every day', 'UTC', '2026-07-10');
SELECT crm_tree.next_run('0.5 seconds', 'UTC', '2026-07-10');
SELECT crm_tree.next_run('1 day -1 hour', 'UTC', '2026-07-10');
SELECT crm_tree.next_run('0 0 30 2 *', 'UTC', '2026-07-10');
SELECT crm_tree.next_run('0 3 * * *', 'Mars/Olympus', '2026-07-10');
SELECT crm_tree.next_run('0 3 * * *', 'UTC', 'infinity');

-- the registry
CREATE ROLE jobs_owner;
CREATE ROLE jobs_other;
CREATE SCHEMA jobs_test;
GRANT USAGE ON SCHEMA jobs_test TO jobs_owner, jobs_other;
CREATE FUNCTION jobs_test.org_text(config jsonb) RETURNS jsonb LANGUAGE sql
    RETURN jsonb_build_object('org', crm_tree.current_org_text(), 'config', config);
CREATE FUNCTION jobs_test.wrong_signature(config json) RETURNS jsonb LANGUAGE sql RETURN NULL::jsonb;
CREATE FUNCTION jobs_test.closed(config jsonb) RETURNS jsonb LANGUAGE sql RETURN NULL::jsonb;
REVOKE ALL ON FUNCTION jobs_test.closed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_tree.add_job TO jobs_owner;

SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily');
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily', owner => 'jobs_nobody');
SELECT crm_tree.add_job('j', 'jobs_test.wrong_signature', '@daily', owner => 'jobs_owner');
SELECT crm_tree.add_job('j', 'jobs_test.closed', '@daily', owner => 'jobs_owner');
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@noon', owner => 'jobs_owner');
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily', 'CEST5', owner => 'jobs_owner');
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily', config => '[]', owner => 'jobs_owner');
SELECT crm_tree.add_job('', 'jobs_test.org_text', '@daily', owner => 'jobs_owner');
SET ROLE jobs_other;
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily');
SET ROLE jobs_owner;
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily', owner => 'jobs_other');
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '0 3 29 2 *', 'Europe/Berlin', '{"a": 1.10}') > 0 AS added;
SELECT crm_tree.add_job('j', 'jobs_test.org_text', '@daily');
SELECT name, proc, schedule, timezone, config, per_org, owner, enabled, next_run > now() AS in_future FROM crm_tree.job_list;
SELECT crm_tree.alter_job('j', timezone => 'Nowhere');
SELECT crm_tree.alter_job('j', config => '{"b": 2}', enabled => false);
SELECT crm_tree.alter_job('k', enabled => false);
SELECT name, schedule, timezone, config, enabled FROM crm_tree.job_list;
SELECT * FROM crm_tree.job;
SET ROLE jobs_other;
SELECT count(*) FROM crm_tree.job_list;
SELECT crm_tree.alter_job('j', enabled => true);
SELECT crm_tree.delete_job('j');
CALL crm_tree.run_job('j');
SELECT crm_tree._job_step();
RESET ROLE;

-- a run in the session: without a grant, then org by org
SELECT crm_tree.alter_job('j', config => '{"orgs": ["jobs-1", "jobs-2", "jobs-9"]}');
CALL crm_tree.run_job('j');
SELECT crm_tree.grant_org('jobs_owner', o) FROM unnest('{jobs-1,jobs-2,jobs-3}'::text[]) o;
CALL crm_tree.run_job('j');
BEGIN;
CALL crm_tree.run_job('j');
ROLLBACK;
SELECT job, owner, scheduled, status, orgs_total, orgs_done, orgs_failed, orgs_skipped, error
  FROM crm_tree.job_history WHERE job = 'j' ORDER BY run_id;
SELECT org, status, turns, result, sqlstate, error FROM crm_tree.job_org_history WHERE job = 'j' ORDER BY run_id, org;
SELECT count(*) FROM crm_tree.job_progress WHERE job = 'j';

-- what fails is taken back and told, deferred constraints included; an org with more to do gets another turn after the others
CREATE TABLE jobs_test.known (org text PRIMARY KEY);
INSERT INTO jobs_test.known VALUES ('jobs-1'), ('jobs-2');
CREATE TABLE jobs_test.work (n serial, org text DEFAULT crm_tree.current_org_text() REFERENCES jobs_test.known DEFERRABLE INITIALLY DEFERRED, turn int, who text DEFAULT current_user);
GRANT SELECT, INSERT ON jobs_test.work, jobs_test.known TO jobs_owner;
GRANT USAGE ON SEQUENCE jobs_test.work_n_seq TO jobs_owner;
CREATE FUNCTION jobs_test.batches(config jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    turn int := coalesce((config->>'continue')::int, 1);
BEGIN
    INSERT INTO jobs_test.work (turn) VALUES (turn);
    IF crm_tree.current_org_text() = 'jobs-2' AND turn = 2 THEN
        RAISE EXCEPTION 'no luck' USING ERRCODE = 'CT001', DETAIL = 'at all';
    END IF;
    RETURN CASE WHEN turn < 3 THEN jsonb_build_object('continue', turn + 1) END;
END $$;
SELECT crm_tree.add_job('b', 'jobs_test.batches', '0 3 29 2 *', config => '{"orgs": ["jobs-1", "jobs-2", "jobs-3"]}', owner => 'jobs_owner') > 0 AS added;
-- a session of another role may not defer triggers
CALL crm_tree.run_job('b');
SELECT org, status, sqlstate, error FROM crm_tree.job_org_history WHERE job = 'b' ORDER BY run_id, org;
-- the owner's own may
SET SESSION AUTHORIZATION jobs_owner;
CALL crm_tree.run_job('b');
RESET SESSION AUTHORIZATION;
SELECT org, status, turns, sqlstate, error FROM crm_tree.job_org_history
 WHERE job = 'b' AND run_id = (SELECT max(run_id) FROM crm_tree.job_history WHERE job = 'b') ORDER BY org;
SELECT org, turn, who FROM jobs_test.work ORDER BY n;

-- once, and not per org
SELECT crm_tree.add_job('p', 'crm_tree.prune_job_history', '0 3 29 2 *', owner => 'jobs_owner', per_org => false) > 0 AS added;
UPDATE crm_tree.job_run SET started_at = now() - interval '91 days' WHERE job_name = 'b';
CALL crm_tree.run_job('p');
SELECT job, status, result FROM crm_tree.job_history WHERE job IN ('b', 'p');
SELECT crm_tree.prune_job_history('{"keep_days": 0}');

-- the function must still be the one the job was given
ALTER FUNCTION jobs_test.org_text OWNER TO jobs_other;
CALL crm_tree.run_job('j');
DROP FUNCTION jobs_test.org_text;
CALL crm_tree.run_job('j');
SELECT crm_tree.delete_job(name) FROM unnest('{j,b,p}'::text[]) name;
SELECT count(*) FROM crm_tree.job_list;

-- steps of a run are refused to a job's own function, and a superuser's job must be meant
CREATE FUNCTION jobs_test.inner_step(config jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN PERFORM crm_tree._job_step(); RETURN NULL; END';
SELECT crm_tree.add_job('s', 'jobs_test.inner_step', '0 3 29 2 *', per_org => false, allow_superuser => true) > 0 AS added;
CALL crm_tree.run_job('s');
SELECT crm_tree.delete_job('s');

-- reconcile_paths only mends what its caller owns, and says what
SELECT crm_tree.reconcile_paths();

-- the orgs of a tree: of each type that an org can have, by whichever index there is or by none, in its partitions and children
CREATE FUNCTION jobs_test.orgs(key_type text, keys text, extra text, VARIADIC orgs text[]) RETURNS text LANGUAGE plpgsql AS $$ DECLARE
    found text;
    made record;
BEGIN
    EXECUTE format('CREATE TABLE jobs_test.t (org_id %s, id int, parent int, %s)', key_type, keys);
    EXECUTE extra;
    PERFORM crm_tree.attach_tree('jobs_test.t', 'id', 'parent');
    FOR made IN SELECT indexrelid::regclass AS index FROM pg_index WHERE indrelid = to_regclass('jobs_test.t') AND pg_get_indexdef(indexrelid) ~ 'org_id, (parent|materialized_path)' LOOP
        EXECUTE 'DROP INDEX ' || made.index;
    END LOOP;
    INSERT INTO jobs_test.rows SELECT o, i FROM unnest(orgs) o, generate_series(1, 3) i;
    EXECUTE format('INSERT INTO jobs_test.t (org_id, id) SELECT org::%s, id FROM jobs_test.rows', key_type);
    EXECUTE 'INSERT INTO jobs_test.t (org_id, id) SELECT org_id, id + 10 FROM jobs_test.t';
    SELECT string_agg(regexp_replace(o, '(long)+', 'long'), ' ') INTO found FROM crm_tree._tree_orgs('jobs_test.t') o;
    RAISE EXCEPTION USING MESSAGE = found;
EXCEPTION WHEN raise_exception THEN
    RETURN SQLERRM;
END $$;
CREATE TABLE jobs_test.rows (org text, id int);
SELECT kind, key, jobs_test.orgs(kind, key, '', VARIADIC orgs) FROM (VALUES
    ('uuid', ARRAY['b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'ff000000-0000-4000-8000-000000000001']),
    ('bigint', '{9,-3,10,9223372036854775807}'), ('int', '{9,-3,10}'), ('smallint', '{9,-3,10}'),
    ('text', '{b,a,"a ",A,é,aa}'), ('varchar(9)', '{b,a,"a ",A,é,aa}'), ('text COLLATE "C"', '{b,a,"a ",A,é,aa}')) t(kind, orgs),
    unnest('{"PRIMARY KEY (org_id, id)","PRIMARY KEY (id, org_id)"}'::text[]) key;
SELECT index, jobs_test.orgs('text', 'UNIQUE (id, org_id)', 'CREATE INDEX ON jobs_test.t ' || index, 'b', 'a', 'a ', 'A', 'aa', repeat('long', 600))
  FROM (VALUES ('(org_id)'), ('(org_id DESC)'), ('(org_id DESC NULLS LAST)'), ('(org_id NULLS FIRST)'), ('(org_id text_pattern_ops)'), ('(org_id bpchar_pattern_ops)'),
               ('(org_id) WHERE id = 1'), ('(lower(org_id))'), ('USING hash (org_id)')) t(index);
SELECT jobs_test.orgs('int', 'PRIMARY KEY (org_id, id)', 'DROP TABLE jobs_test.t;
    CREATE TABLE jobs_test.t (org_id int, id int, parent int, PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id);
    CREATE TABLE jobs_test.t1 PARTITION OF jobs_test.t FOR VALUES IN (1, 2);
    CREATE TABLE jobs_test.t2 (gone int, parent int, id int NOT NULL, org_id int NOT NULL) PARTITION BY LIST (org_id);
    ALTER TABLE jobs_test.t2 DROP COLUMN gone;
    CREATE TABLE jobs_test.t3 PARTITION OF jobs_test.t2 DEFAULT;
    ALTER TABLE jobs_test.t ATTACH PARTITION jobs_test.t2 DEFAULT', '1', '2', '3', '4');
CREATE TABLE jobs_test.t (org_id int, id int, parent int, PRIMARY KEY (org_id, id));
SELECT crm_tree.attach_tree('jobs_test.t', 'id', 'parent');
CREATE TABLE jobs_test.child (other int) INHERITS (jobs_test.t);
CREATE TEMPORARY TABLE jobs_grandchild () INHERITS (jobs_test.child);
INSERT INTO jobs_test.t VALUES (1, 1);
INSERT INTO jobs_test.child VALUES (2, 1);
INSERT INTO jobs_grandchild VALUES (3, 1);
SELECT crm_tree._tree_orgs('jobs_test.t');
BEGIN;
INSERT INTO jobs_test.t VALUES (4, 1);
DELETE FROM jobs_test.t WHERE org_id = 2;
SELECT crm_tree._tree_orgs('jobs_test.t');
ROLLBACK;
-- what a foreign table has stays where it is
CREATE FOREIGN DATA WRAPPER jobs_far;
CREATE SERVER jobs_far FOREIGN DATA WRAPPER jobs_far;
CREATE FOREIGN TABLE jobs_test.far () INHERITS (jobs_test.child) SERVER jobs_far;
SELECT crm_tree._tree_orgs('jobs_test.t');
DROP FOREIGN DATA WRAPPER jobs_far CASCADE;
DROP TABLE jobs_test.t CASCADE;

-- nulls for what must be given
SELECT crm_tree.add_job(NULL, 'now', '0 3 * * *');
SELECT crm_tree.add_job('null', NULL, '0 3 * * *');
SELECT crm_tree.add_job('null', 'now', NULL);
SELECT crm_tree.alter_job(NULL);
SELECT crm_tree.revoke_org('jobs_owner', o) FROM unnest('{jobs-1,jobs-2,jobs-3}'::text[]) o;
DELETE FROM crm_tree.job_run;
REVOKE ALL ON FUNCTION crm_tree.add_job FROM jobs_owner;
DROP SCHEMA jobs_test CASCADE;
DROP ROLE jobs_owner, jobs_other;
