//! Jobs on a real preloaded server: schedules, walls, failures, crashes.

use crm_tree_server_tests::{Cluster, first, sqlstate, wait_for};
use postgres::Client;
use std::time::Duration;

/// Three orgs, a role that may bind them, and a log that jobs write.
fn set_up(cluster: &Cluster) -> Client {
    let mut db = cluster.superuser();
    db.batch_execute(
        "CREATE ROLE nightly LOGIN;
         CREATE ROLE other LOGIN;
         SELECT crm_tree.create_org(name, id::uuid) FROM (VALUES
             ('a', '00000000-0000-0000-0000-00000000000a'),
             ('b', '00000000-0000-0000-0000-00000000000b'),
             ('c', '00000000-0000-0000-0000-00000000000c')) AS o(name, id);
         SELECT crm_tree.grant_org('nightly', '*');
         CREATE SCHEMA app;
         GRANT ALL ON SCHEMA app TO nightly;
         GRANT USAGE ON SCHEMA app TO other;
         CREATE TABLE app.log (org_id uuid NOT NULL DEFAULT crm_tree.current_org(), who text, session text, note text);
         SELECT crm_tree.protect('app.log');
         GRANT SELECT, INSERT ON app.log TO nightly, other;
         CREATE FUNCTION app.note(config jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO app.log (who, session, note) VALUES (current_user, session_user, config->>'note');
             IF config->>'fail' = crm_tree.current_org_text() THEN
                 RAISE EXCEPTION 'no luck' USING ERRCODE = 'CT001';
             END IF;
             IF config ? 'sleep' THEN
                 PERFORM pg_sleep((config->>'sleep')::float);
             END IF;
             RETURN jsonb_build_object('seen', (SELECT count(*) FROM app.log));
         END $$;",
    )
    .expect("the set-up runs");
    db
}

fn add(db: &mut Client, name: &str, schedule: &str, config: &str) {
    db.execute(
        &format!("SELECT crm_tree.add_job($1, 'app.note', $2, owner => 'nightly', config => '{config}')"),
        &[&name, &schedule],
    )
    .expect("the job is added");
}

/// The run's status once it has ended.
fn ended(db: &mut Client, job: &str, after: i64) -> (i64, String) {
    wait_for(&format!("a run of {job}"), || {
        first(
            db,
            "SELECT run_id, status FROM crm_tree.job_history WHERE job = $1 AND run_id > $2 AND status <> 'running' ORDER BY run_id",
            &[&job, &after],
        )
        .map(|row| (row.get(0), row.get(1)))
    })
}

fn running_pid(db: &mut Client, job: &str) -> i32 {
    wait_for("the job to be at work", || {
        first(
            db,
            "SELECT p.pid FROM crm_tree.job_progress p JOIN pg_stat_activity a USING (pid)
              WHERE p.job = $1 AND p.alive AND a.wait_event = 'PgSleep'",
            &[&job],
        )
        .map(|row| row.get(0))
    })
}

#[test]
fn runs_on_schedule_as_its_owner_behind_each_wall() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    add(&mut db, "note", "1 second", "{\"note\": \"x\"}");
    let (run, status) = ended(&mut db, "note", 0);
    assert_eq!(status, "succeeded");
    let row = first(
        &mut db,
        "SELECT count(*), count(DISTINCT org), bool_and((result->>'seen')::int = 1) FROM crm_tree.job_org_history WHERE run_id = $1",
        &[&run],
    )
    .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 3));
    assert!(row.get::<_, bool>(2), "each org saw its own row only");
    let row = first(&mut db, "SELECT DISTINCT who, session FROM app.log", &[]).unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("nightly".into(), "nightly".into()));
    ended(&mut db, "note", run);
}

#[test]
fn repairs_paths_broken_on_purpose() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    db.batch_execute(
        "CREATE TABLE app.node (org_id uuid NOT NULL, id bigint NOT NULL, parent bigint, PRIMARY KEY (org_id, id),
                                FOREIGN KEY (org_id, parent) REFERENCES app.node (org_id, id));
         ALTER TABLE app.node OWNER TO nightly;
         SELECT crm_tree.attach_tree('app.node', 'id', 'parent');
         SELECT crm_tree.protect('app.node');
         INSERT INTO app.node (org_id, id, parent)
         SELECT ('00000000-0000-0000-0000-00000000000' || o)::uuid, n, NULLIF(n / 2, 0)
           FROM unnest('{a,b}'::text[]) o, generate_series(1, 50) n;
         SET session_replication_role = replica;
         UPDATE app.node SET materialized_path = '/wrong/' WHERE id % 7 = 0;
         RESET session_replication_role;",
    )
    .expect("the tree is made and broken");
    let broken: i64 =
        first(&mut db, "SELECT count(*) FROM crm_tree.check_tree('app.node')", &[]).unwrap().get(0);
    assert!(broken > 0);
    db.execute(
        "SELECT crm_tree.add_job('paths', 'crm_tree.reconcile_paths', '1 second', owner => 'nightly')",
        &[],
    )
    .unwrap();
    let (run, status) = ended(&mut db, "paths", 0);
    assert_eq!(status, "succeeded");
    let left: i64 =
        first(&mut db, "SELECT count(*) FROM crm_tree.check_tree('app.node')", &[]).unwrap().get(0);
    assert_eq!(left, 0);
    let repaired: i64 = first(
        &mut db,
        "SELECT sum((result->'app.node'->>'repaired')::int) FROM crm_tree.job_org_history WHERE run_id = $1",
        &[&run],
    )
    .unwrap()
    .get(0);
    assert!(repaired >= 14, "{repaired}");
}

#[test]
fn one_failing_org_does_not_stop_the_rest() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    add(&mut db, "note", "1 second", "{\"fail\": \"00000000-0000-0000-0000-00000000000b\"}");
    let (run, status) = ended(&mut db, "note", 0);
    assert_eq!(status, "failed");
    let rows = db
        .query(
            "SELECT right(org, 1), status, sqlstate, error FROM crm_tree.job_org_history WHERE run_id = $1 ORDER BY org",
            &[&run],
        )
        .unwrap();
    let seen: Vec<(String, String, Option<String>, Option<String>)> =
        rows.iter().map(|r| (r.get(0), r.get(1), r.get(2), r.get(3))).collect();
    assert_eq!(seen[0], ("a".into(), "succeeded".into(), None, None));
    assert_eq!(seen[1], ("b".into(), "failed".into(), Some("CT001".into()), Some("no luck".into())));
    assert_eq!(seen[2], ("c".into(), "succeeded".into(), None, None));
    let of_b: i64 =
        first(&mut db, "SELECT count(*) FROM app.log WHERE org_id::text LIKE '%b'", &[]).unwrap().get(0);
    assert_eq!(of_b, 0, "what the failed org wrote is taken back");
}

#[test]
fn a_worker_killed_mid_job_is_closed_as_crashed_and_the_next_run_completes() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    add(&mut db, "slow", "1 second", "{\"sleep\": 20}");
    let pid = running_pid(&mut db, "slow");
    // Or it is due again, and at work for a minute, before it is altered below.
    db.batch_execute("SELECT crm_tree.alter_job('slow', enabled => false)").unwrap();
    cluster.kill9(pid);
    cluster.await_ready();
    let mut db = cluster.superuser();
    let (run, status) = ended(&mut db, "slow", 0);
    assert_eq!(status, "crashed");
    db.batch_execute("SELECT crm_tree.alter_job('slow', config => '{}', enabled => true, next_run => now())")
        .unwrap();
    let (next, status) = ended(&mut db, "slow", run);
    assert!(next > run);
    assert_eq!(status, "succeeded");
}

#[test]
fn sigterm_interrupts_a_running_query() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    add(&mut db, "slow", "1 second", "{\"sleep\": 60}");
    let pid = running_pid(&mut db, "slow");
    db.batch_execute("SELECT crm_tree.alter_job('slow', enabled => false)").unwrap();
    db.execute("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    let (_, status) = ended(&mut db, "slow", 0);
    assert_eq!(status, "crashed");
    let held: i64 =
        first(&mut db, "SELECT count(*) FROM pg_locks WHERE objsubid IN (17238, 17239)", &[]).unwrap().get(0);
    assert_eq!(held, 0);
    // The whole server stops without waiting for a job.
    db.batch_execute("SELECT crm_tree.alter_job('slow', enabled => true, next_run => now())").unwrap();
    running_pid(&mut db, "slow");
    drop(db);
    let begun = std::time::Instant::now();
    cluster.stop("fast");
    assert!(begun.elapsed() < Duration::from_secs(10));
    cluster.start_again();
}

#[test]
fn a_cancelled_run_ends_and_frees_the_job() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    // By a worker: the run is closed by itself.
    add(&mut db, "slow", "1 second", "{\"sleep\": 60}");
    let pid = running_pid(&mut db, "slow");
    db.batch_execute("SELECT crm_tree.alter_job('slow', enabled => false)").unwrap();
    db.execute("SELECT pg_cancel_backend($1)", &[&pid]).unwrap();
    let (run, status) = ended(&mut db, "slow", 0);
    assert_eq!(status, "failed");
    let row =
        first(&mut db, "SELECT sqlstate FROM crm_tree.job_org_history WHERE run_id = $1", &[&run]).unwrap();
    assert_eq!(row.get::<_, String>(0), "57014");
    // In a session: the next look closes it.
    let mut owner = cluster.connect("nightly", "postgres");
    owner.batch_execute("SET statement_timeout = '500ms'").unwrap();
    assert_eq!(sqlstate(owner.batch_execute("CALL crm_tree.run_job('slow')")), "57014");
    let (_, status) = ended(&mut db, "slow", run);
    assert_eq!(status, "crashed");
    db.batch_execute("SELECT crm_tree.alter_job('slow', config => '{}')").unwrap();
    owner.batch_execute("CALL crm_tree.run_job('slow')").expect("the job is free again");
}

#[test]
fn never_runs_twice_at_once() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    add(&mut db, "slow", "1 day", "{\"sleep\": 3}");
    let mut one = cluster.connect("nightly", "postgres");
    let mut two = cluster.connect("nightly", "postgres");
    let first_run = std::thread::spawn(move || one.batch_execute("CALL crm_tree.run_job('slow')"));
    running_pid(&mut db, "slow");
    assert_eq!(sqlstate(two.batch_execute("CALL crm_tree.run_job('slow')")), "55006");
    // Due while it runs: the worker leaves it alone, and does it afterwards.
    db.batch_execute("SELECT crm_tree.alter_job('slow', next_run => now())").unwrap();
    first_run.join().unwrap().expect("the first run is not disturbed");
    let (run, status) = ended(&mut db, "slow", 0);
    assert_eq!(status, "succeeded");
    let (_, status) = ended(&mut db, "slow", run);
    assert_eq!(status, "succeeded");
    let overlaps: i64 = first(
        &mut db,
        "SELECT count(*) FROM crm_tree.job_history a JOIN crm_tree.job_history b
             ON a.run_id < b.run_id AND b.started_at < a.finished_at",
        &[],
    )
    .unwrap()
    .get(0);
    assert_eq!(overlaps, 0);
}

#[test]
fn a_job_of_anothers_cannot_be_altered_run_or_seen() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    add(&mut db, "note", "1 day", "{}");
    db.batch_execute("CALL crm_tree.run_job('note')").expect("a superuser may run it");
    let who: String = first(&mut db, "SELECT DISTINCT who FROM app.log", &[]).unwrap().get(0);
    assert_eq!(who, "nightly", "as its owner");
    let mut other = cluster.connect("other", "postgres");
    for statement in [
        "CALL crm_tree.run_job('note')",
        "SELECT crm_tree.alter_job('note', enabled => false)",
        "SELECT crm_tree.delete_job('note')",
        "SELECT crm_tree.add_job('mine', 'app.note', '1 day')",
        "SELECT * FROM crm_tree.job",
        "UPDATE crm_tree.job_run SET status = 'succeeded'",
    ] {
        assert_eq!(sqlstate(other.batch_execute(statement)), "42501", "{statement}");
    }
    for step in ["_job_step()", "_job_end()"] {
        assert_eq!(sqlstate(other.batch_execute(&format!("SELECT crm_tree.{step}"))), "55000");
    }
    db.batch_execute(
        "GRANT EXECUTE ON FUNCTION crm_tree.add_job(text, regproc, text, text, jsonb, text, boolean, boolean) TO other",
    )
    .unwrap();
    let as_nightly = "SELECT crm_tree.add_job('mine', 'app.note', '1 day', owner => 'nightly')";
    assert_eq!(sqlstate(other.batch_execute(as_nightly)), "42501");
    other.batch_execute("SELECT crm_tree.add_job('mine', 'app.note', '1 day')").unwrap();
    for view in ["job_list", "job_history", "job_org_history", "job_progress"] {
        let name = if view == "job_list" { "name" } else { "job" };
        let seen: i64 =
            first(&mut other, &format!("SELECT count(*) FROM crm_tree.{view} WHERE {name} <> 'mine'"), &[])
                .unwrap()
                .get(0);
        assert_eq!(seen, 0, "{view}");
    }
}

/// A job's function gets nothing from the session of a superuser who runs it.
#[test]
fn a_superusers_call_lends_the_owner_nothing() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    let mut owner = cluster.connect("nightly", "postgres");
    owner
        .batch_execute(
            "CREATE FUNCTION app.mallory(config jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
             BEGIN
                 EXECUTE config->>'do';
                 RETURN NULL;
             END $$;
             CREATE TABLE app.trap (x int);
             CREATE FUNCTION app.spring() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 ALTER ROLE nightly SUPERUSER;
                 RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON app.trap DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION app.spring();
             CREATE FUNCTION app.later() RETURNS int LANGUAGE plpgsql AS $$
             BEGIN
                 ALTER ROLE nightly SUPERUSER;
                 RETURN 1;
             END $$;",
        )
        .unwrap();
    db.batch_execute("SELECT crm_tree.add_job('mallory', 'app.mallory', '1 day', owner => 'nightly')")
        .unwrap();
    for attack in [
        "RESET ROLE",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "ALTER ROLE nightly SUPERUSER",
        "INSERT INTO app.trap VALUES (1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT app.later()",
        "CREATE TEMP TABLE org (x int)",
        "SELECT set_config(''search_path'', ''app'', false)",
    ] {
        db.batch_execute(&format!(
            "SELECT crm_tree.alter_job('mallory', config => jsonb_build_object('do', '{attack}'))"
        ))
        .unwrap();
        db.batch_execute("CALL crm_tree.run_job('mallory')").unwrap();
        let row = first(
            &mut db,
            "SELECT rolsuper, current_user::text, current_setting('search_path') FROM pg_roles WHERE rolname = 'nightly'",
            &[],
        )
        .unwrap();
        assert!(!row.get::<_, bool>(0), "{attack}");
        assert_eq!(row.get::<_, String>(1), "postgres", "{attack}");
        assert!(!row.get::<_, String>(2).contains("app"), "{attack}");
        let status: String =
            first(&mut db, "SELECT status FROM crm_tree.job_history ORDER BY run_id DESC LIMIT 1", &[])
                .unwrap()
                .get(0);
        let harmless = attack.starts_with("SELECT set_config");
        assert_eq!(status, if harmless { "succeeded" } else { "failed" }, "{attack}");
    }
}

#[test]
fn an_owner_without_login_and_without_grants() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    db.batch_execute(
        "CREATE ROLE keeper;
         GRANT USAGE ON SCHEMA app TO keeper;
         GRANT SELECT, INSERT ON app.log TO keeper;
         SELECT crm_tree.grant_org('keeper', '00000000-0000-0000-0000-00000000000a');
         SELECT crm_tree.add_job('kept', 'app.note', '1 second', owner => 'keeper');",
    )
    .unwrap();
    let (run, status) = ended(&mut db, "kept", 0);
    assert_eq!(status, "succeeded");
    let row =
        first(&mut db, "SELECT orgs_done, orgs_skipped FROM crm_tree.job_history WHERE run_id = $1", &[&run])
            .unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (1, 2));
    let who: String = first(&mut db, "SELECT DISTINCT who FROM app.log", &[]).unwrap().get(0);
    assert_eq!(who, "keeper");
    // A role of the same oid under another name is not the owner any more: said once, in the history.
    db.batch_execute("ALTER ROLE keeper RENAME TO somebody").unwrap();
    let (_, why): (i64, String) = wait_for("the refusal", || {
        first(
            &mut db,
            "SELECT run_id, error FROM crm_tree.job_history WHERE run_id > $1 AND status = 'failed'",
            &[&run],
        )
        .map(|row| (row.get(0), row.get(1)))
    });
    assert!(why.contains("is not role \"keeper\" any more"), "{why}");
}

#[test]
fn a_database_with_jobs_can_be_dropped_and_copied() {
    let cluster = Cluster::preloaded();
    let mut db = cluster.superuser();
    db.batch_execute("CREATE DATABASE shop").unwrap();
    db.batch_execute("CREATE ROLE keeper LOGIN").unwrap();
    let mut shop = cluster.connect("postgres", "shop");
    shop.batch_execute(
        "CREATE EXTENSION crm_tree;
         SELECT crm_tree.add_job('prune', 'crm_tree.prune_job_history', '1 second', owner => 'keeper', per_org => false);",
    )
    .unwrap();
    let (_, status) = ended(&mut shop, "prune", 0);
    assert_eq!(status, "succeeded");
    drop(shop);
    db.batch_execute("CREATE DATABASE copy TEMPLATE shop").expect("no worker stays connected");
    db.batch_execute("DROP DATABASE shop").expect("no worker stays connected");
    db.batch_execute("DROP DATABASE copy").expect("no worker stays connected");
}

#[test]
fn the_time_zone_counts_and_the_switch_works() {
    let cluster = Cluster::preloaded();
    let mut db = set_up(&cluster);
    let next: String = first(
        &mut db,
        "SELECT crm_tree.next_run('0 3 * * *', 'America/New_York', '2026-07-01 12:00Z')::timestamptz AT TIME ZONE 'UTC' || ''",
        &[],
    )
    .unwrap()
    .get(0);
    assert_eq!(next, "2026-07-02 07:00:00");
    db.batch_execute(
        "SELECT crm_tree.add_job('night', 'app.note', '0 3 * * *', 'America/New_York', owner => 'nightly')",
    )
    .unwrap();
    let at_three: bool = first(
        &mut db,
        "SELECT extract(hour FROM next_run AT TIME ZONE 'America/New_York') = 3 AND next_run > now() FROM crm_tree.job_list",
        &[],
    )
    .unwrap()
    .get(0);
    assert!(at_three);
    db.batch_execute("ALTER SYSTEM SET crm_tree.jobs = off").unwrap();
    db.batch_execute("SELECT pg_reload_conf()").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    db.batch_execute("SELECT crm_tree.alter_job('night', next_run => now())").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let runs: i64 = first(&mut db, "SELECT count(*) FROM crm_tree.job_history", &[]).unwrap().get(0);
    assert_eq!(runs, 0, "switched off");
    db.batch_execute("ALTER SYSTEM RESET crm_tree.jobs").unwrap();
    db.batch_execute("SELECT pg_reload_conf()").unwrap();
    ended(&mut db, "night", 0);
    let at_three: bool = first(
        &mut db,
        "SELECT extract(hour FROM next_run AT TIME ZONE 'America/New_York') = 3 AND next_run > now() FROM crm_tree.job_list",
        &[],
    )
    .unwrap()
    .get(0);
    assert!(at_three, "and after the run the next night is due");
}
