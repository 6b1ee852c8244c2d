-- Jobs: the registry, the runs and their history, the steps of a run, the shipped jobs.

CREATE TABLE crm_tree.job (
    job_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL CONSTRAINT job_name_key UNIQUE,
    proc         text NOT NULL,
    proc_owner   name NOT NULL,
    schedule     text NOT NULL,
    timezone     text NOT NULL,
    config       jsonb NOT NULL DEFAULT '{}',
    per_org      boolean NOT NULL DEFAULT true,
    owner        regrole NOT NULL,
    owner_name   name NOT NULL,
    as_superuser boolean NOT NULL DEFAULT false,
    enabled      boolean NOT NULL DEFAULT true,
    next_run     timestamptz,
    launched_at  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE crm_tree.job ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.job FROM PUBLIC;
COMMENT ON TABLE crm_tree.job IS 'The jobs. Written by add_job(), alter_job(), delete_job() and the workers. proc is text, because a regprocedure column stops pg_upgrade. A job runs only while owner still has the name owner_name, and proc still belongs to proc_owner. launched_at: a worker was started and has not begun yet.';
SELECT pg_catalog.pg_extension_config_dump('crm_tree.job', '');
SELECT pg_catalog.pg_extension_config_dump('crm_tree.job_job_id_seq', '');

CREATE TABLE crm_tree.job_run (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id       bigint NOT NULL,
    job_name     text NOT NULL,
    owner        regrole NOT NULL,
    owner_name   name NOT NULL,
    scheduled    boolean NOT NULL,
    status       text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'crashed')),
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    pid          int,
    orgs_total   int NOT NULL DEFAULT 0,
    orgs_done    int NOT NULL DEFAULT 0,
    orgs_failed  int NOT NULL DEFAULT 0,
    orgs_skipped int NOT NULL DEFAULT 0,
    result       jsonb,
    error        text
);
CREATE INDEX job_run_job ON crm_tree.job_run (job_id, run_id);
CREATE INDEX job_run_started ON crm_tree.job_run (started_at);
CREATE INDEX job_run_running ON crm_tree.job_run (job_id) WHERE status = 'running';
ALTER TABLE crm_tree.job_run ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.job_run FROM PUBLIC;
COMMENT ON TABLE crm_tree.job_run IS 'The runs. Kept when their job is deleted, until prune_job_history() takes them. Not dumped.';

CREATE TABLE crm_tree.job_run_org (
    run_id      bigint NOT NULL REFERENCES crm_tree.job_run ON DELETE CASCADE,
    org         text COLLATE "C" NOT NULL,
    turns       int NOT NULL DEFAULT 1,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    status      text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed')),
    result      jsonb,
    sqlstate    text,
    error       text,
    PRIMARY KEY (run_id, org)
);
ALTER TABLE crm_tree.job_run_org ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON crm_tree.job_run_org FROM PUBLIC;
COMMENT ON TABLE crm_tree.job_run_org IS 'What became of each org in a run. status running: the org asked for another turn and has not had it yet.';

-- Views: everyone sees the jobs of roles whose privileges he has, pg_monitor all. They read the registries with
-- their owner's rights; security_barrier keeps a caller's own condition from seeing other rows first.
CREATE VIEW crm_tree.job_list WITH (security_barrier) AS
    SELECT j.job_id, j.name, j.proc, j.schedule, j.timezone, j.config, j.per_org, j.owner_name AS owner, j.enabled, j.next_run
      FROM crm_tree.job j
     WHERE pg_catalog.pg_has_role(current_user, j.owner, 'USAGE') OR pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE');
COMMENT ON VIEW crm_tree.job_list IS 'The jobs of roles whose privileges you have; all of them for pg_monitor.';

CREATE VIEW crm_tree.job_history WITH (security_barrier) AS
    SELECT r.run_id, r.job_name AS job, r.owner_name AS owner, r.scheduled, r.status, r.started_at, r.finished_at,
           r.finished_at - r.started_at AS duration, r.orgs_total, r.orgs_done, r.orgs_failed, r.orgs_skipped, r.result, r.error
      FROM crm_tree.job_run r
     WHERE pg_catalog.pg_has_role(current_user, r.owner, 'USAGE') OR pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE');
COMMENT ON VIEW crm_tree.job_history IS 'The runs of those jobs. orgs_skipped: orgs that the owner has no grant for.';

CREATE VIEW crm_tree.job_org_history WITH (security_barrier) AS
    SELECT o.run_id, r.job_name AS job, o.org, o.status, o.turns, o.started_at, o.finished_at, o.result, o.sqlstate, o.error
      FROM crm_tree.job_run_org o
      JOIN crm_tree.job_run r USING (run_id)
     WHERE pg_catalog.pg_has_role(current_user, r.owner, 'USAGE') OR pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE');
COMMENT ON VIEW crm_tree.job_org_history IS 'What became of each org in those runs.';

-- A run that is still marked running but whose job's lock nobody holds (objsubid 17238 = 0x4356, src/pg/worker.rs) is dead.
CREATE VIEW crm_tree.job_progress WITH (security_barrier) AS
    SELECT r.run_id, r.job_name AS job, r.owner_name AS owner, r.started_at, clock_timestamp() - r.started_at AS running_for, r.pid,
           EXISTS (SELECT FROM pg_catalog.pg_locks l
                    WHERE l.locktype = 'advisory' AND l.objsubid = 17238 AND l.granted AND l.pid = r.pid
                      AND l.classid = ((r.job_id >> 32) & 4294967295)::oid AND l.objid = (r.job_id & 4294967295)::oid
                      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) AS alive,
           r.orgs_total, r.orgs_done, r.orgs_failed,
           CASE WHEN r.orgs_total > 0 THEN pg_catalog.round(100.0 * (r.orgs_done + r.orgs_failed) / r.orgs_total, 1) END AS percent
      FROM crm_tree.job_run r
     WHERE r.status = 'running'
       AND (pg_catalog.pg_has_role(current_user, r.owner, 'USAGE') OR pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE'));
COMMENT ON VIEW crm_tree.job_progress IS 'The runs in progress. alive is false where a run was cut off; it is closed as crashed at the next look or start.';

GRANT SELECT ON crm_tree.job_list, crm_tree.job_history, crm_tree.job_org_history, crm_tree.job_progress TO PUBLIC;

CREATE FUNCTION crm_tree.next_run(schedule text, timezone text, after timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'next_run_wrapper';
COMMENT ON FUNCTION crm_tree.next_run(text, text, timestamptz) IS 'When a schedule comes next: a cron expression (five fields, six with seconds, or @daily and its kin) on the clock of a time zone, or an interval. A time the clock skips comes right after the gap, one it shows twice comes once. 22023 for a schedule or zone that is none.';

CREATE FUNCTION crm_tree.add_job(name text, proc regproc, schedule text, timezone text DEFAULT 'UTC', config jsonb DEFAULT '{}',
                                 owner text DEFAULT NULL, per_org boolean DEFAULT true, allow_superuser boolean DEFAULT false) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'add_job_wrapper';
COMMENT ON FUNCTION crm_tree.add_job(text, regproc, text, text, jsonb, text, boolean, boolean) IS 'Adds a job and returns its id. proc(config jsonb) RETURNS jsonb is called once for each org the owner may bind, each in its own transaction bound to it; once and unbound where per_org is false. The owner is the caller unless named.';

CREATE FUNCTION crm_tree.alter_job(name text, schedule text DEFAULT NULL, timezone text DEFAULT NULL, config jsonb DEFAULT NULL, enabled boolean DEFAULT NULL,
                                   proc regproc DEFAULT NULL, owner text DEFAULT NULL, next_run timestamptz DEFAULT NULL, allow_superuser boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_job_wrapper';
COMMENT ON FUNCTION crm_tree.alter_job(text, text, text, jsonb, boolean, regproc, text, timestamptz, boolean) IS 'Changes what is given of a job; null leaves it. For its owner and superusers (42501). next_run => now() runs it at the next look.';

CREATE FUNCTION crm_tree.delete_job(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'delete_job_wrapper';
COMMENT ON FUNCTION crm_tree.delete_job(text) IS 'Deletes a job. A run in progress goes on to its end, and the history stays. For its owner and superusers (42501).';

-- The steps of a run. Executable by everybody because run_job() runs as its caller; they check for themselves.
CREATE FUNCTION crm_tree._job_begin(name text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_job_begin_wrapper';
CREATE FUNCTION crm_tree._job_step() RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_job_step_wrapper';
CREATE FUNCTION crm_tree._job_end() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_job_end_wrapper';
CREATE FUNCTION crm_tree._job_release() RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', '_job_release_wrapper';
COMMENT ON FUNCTION crm_tree._job_begin(text) IS 'Private: begins a run in this session.';
COMMENT ON FUNCTION crm_tree._job_step() IS 'Private: one org''s turn; false when nothing is left.';
COMMENT ON FUNCTION crm_tree._job_end() IS 'Private: writes down how the run ended.';
COMMENT ON FUNCTION crm_tree._job_release() IS 'Private: gives the job free, after the commit of its end.';

-- Called as the job's owner. The exception block is what takes a failed org's work back, and keeps its SQLSTATE; a cancel passes through it.
-- Deferred constraints are settled here, where their failure is still this org's. No settings are pinned: the function called pins its own.
-- So every name in it is qualified, operators too: it stays compiled for the session, under whose path ever it ran first.
CREATE FUNCTION crm_tree._job_call(proc regproc, config jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'crm_tree_job_call';
COMMENT ON FUNCTION crm_tree._job_call(regproc, jsonb) IS 'Private: calls a job''s function, by what it is and not by its name, as whoever calls this.';

CREATE FUNCTION crm_tree._job_attempt(proc regproc, org text, config text, OUT result text, OUT failed_with text, OUT error text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
    detail pg_catalog.text;
BEGIN
    IF org IS NOT NULL THEN
        PERFORM crm_tree.bind_org(org);
    END IF;
    result := crm_tree._job_call(proc, config::pg_catalog.jsonb)::pg_catalog.text;
    SET CONSTRAINTS ALL IMMEDIATE;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    GET STACKED DIAGNOSTICS failed_with = RETURNED_SQLSTATE, error = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    result := NULL;
    error := pg_catalog.concat_ws(': ', error, CASE WHEN detail OPERATOR(pg_catalog.<>) '' THEN detail END);
END
$$;
COMMENT ON FUNCTION crm_tree._job_attempt(regproc, text, text) IS 'Private: binds an org and calls a job''s function as whoever calls this, with no rights of its own.';

CREATE PROCEDURE crm_tree.run_job(name text)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM crm_tree._job_begin(name);
    COMMIT;
    WHILE crm_tree._job_step() LOOP
        COMMIT;
    END LOOP;
    PERFORM crm_tree._job_end();
    COMMIT;
    PERFORM crm_tree._job_release();
END
$$;
COMMENT ON PROCEDURE crm_tree.run_job(text) IS 'Runs a job now, in this session, as its owner. For its owner and superusers (42501); refused while the job runs (55006) and in a transaction block (25001). In a session of another role than the owner the job''s function may not SET ROLE, defer triggers, hold cursors or make temporary tables.';

CREATE FUNCTION crm_tree._known_orgs() RETURNS SETOF text
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tree regclass;
BEGIN
    RETURN QUERY SELECT o.org_id::text FROM crm_tree.org o;
    FOR tree IN SELECT t.relation FROM crm_tree.tree t JOIN pg_class c ON c.oid = t.relation AND c.relkind IN ('r', 'p') LOOP
        -- Anybody can attach a tree and spoil it; the others' jobs go on.
        BEGIN
            RETURN QUERY SELECT crm_tree._tree_orgs(tree);
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            RAISE WARNING 'the orgs of tree % cannot be listed: %', tree, SQLERRM;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm_tree._known_orgs() IS 'Private: the registered orgs, and those that attached trees have rows of; an org can come more than once. Reads the registries as the extension''s owner.';
REVOKE ALL ON FUNCTION crm_tree._known_orgs() FROM PUBLIC;

CREATE FUNCTION crm_tree.reconcile_paths(config jsonb DEFAULT '{}') RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound  text := crm_tree.current_org_text();
    tree   record;
    counts record;
    total  jsonb := '{}';
    failed boolean := false;
BEGIN
    -- The turn after one in which a tree failed: it fails the org, and what was mended of the others stays.
    IF config ? 'continue' THEN
        RAISE EXCEPTION 'not every tree could be repaired'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = config ->> 'continue',
                  HINT = 'Mend what raises the error, a trigger or an index of the table, and run repair_tree() on it.';
    END IF;
    FOR tree IN
        SELECT t.relation, a.atttypid::regtype AS org_type
          FROM crm_tree._trees() t
          JOIN pg_class c ON c.oid = t.relation
          JOIN pg_attribute a ON a.attrelid = t.relation AND a.attname = t.org_column AND NOT a.attisdropped
         WHERE pg_has_role(current_user, c.relowner, 'USAGE')
         ORDER BY t.relation::text
    LOOP
        -- An org of another kind than the tree's column has no rows there, and cannot be asked for.
        CONTINUE WHEN tree.org_type = 'uuid'::regtype AND bound !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                   OR tree.org_type IN ('bigint'::regtype, 'integer'::regtype) AND bound !~ '^-?[0-9]+$';
        -- Anybody can attach a tree and spoil it; the others are repaired. Whatever the error: its code is
        -- the owner's to choose, and it comes back as the failure of the org.
        BEGIN
            SELECT * INTO counts FROM crm_tree.repair_tree(tree.relation, bound);
            total := total || jsonb_build_object(tree.relation::text, to_jsonb(counts));
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            RAISE WARNING 'tree % cannot be repaired: %', tree.relation, SQLERRM;
            total := total || jsonb_build_object(tree.relation::text, jsonb_build_object('sqlstate', SQLSTATE, 'error', SQLERRM));
            failed := true;
        END;
    END LOOP;
    RETURN total || CASE WHEN failed THEN jsonb_build_object('continue', total) ELSE '{}' END;
END
$$;
COMMENT ON FUNCTION crm_tree.reconcile_paths(jsonb) IS 'A job''s function: repairs the bound org''s paths in every attached tree whose owner''s privileges the caller has, and returns the counts of repair_tree() for each, or its error. With an error it asks for another turn, which fails the org.';

CREATE FUNCTION crm_tree.prune_job_history(config jsonb DEFAULT '{}') RETURNS jsonb
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'prune_job_history_wrapper';
COMMENT ON FUNCTION crm_tree.prune_job_history(jsonb) IS 'A job''s function, to be added with per_org => false: deletes runs older than config.keep_days (90) from the history of jobs whose owner''s privileges the caller has.';

-- A job is a worker process and a look at how many orgs there are: not for everybody.
REVOKE ALL ON FUNCTION crm_tree.add_job(text, regproc, text, text, jsonb, text, boolean, boolean) FROM PUBLIC;
