//! One run of a job, step by step: begin, a step for each org, end. `CALL crm_tree.run_job()` and the
//! worker take the same steps, with a commit between them; a run lives in the session that began it.

use super::registry::{self, Job, get, query, registry};
use crate::error::Refusal;
use crate::pg::session::Scope;
use crate::pg::{role, worker};
use crate::tenant::{grants, org::OrgId};
use chrono::{DateTime, Utc};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

struct Run {
    id: i64,
    job: Job,
    /// What is left to do: an org (None for a job that is not per org) and the config it is called
    /// with. An org with more to do goes to the end, so that a large one cannot starve the rest.
    queue: VecDeque<(Option<String>, String)>,
    /// What the step in progress is at, and since when.
    current: Option<(Option<String>, DateTime<Utc>)>,
    done: i32,
    failed: i32,
    skipped: i32,
    error: Option<String>,
    /// Why the job may not go on.
    obstacle: Option<String>,
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// The session's run, out of its place for the length of a step: a job that calls the steps itself
/// finds none. It goes back when the step ends, by an error too.
struct Taken(Option<Run>);

impl Taken {
    fn now() -> Option<Taken> {
        RUN.with(|run| run.borrow_mut().take()).map(|run| Taken(Some(run)))
    }

    fn run(&mut self) -> &mut Run {
        self.0.as_mut().expect("taken out only by drop")
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let run = self.0.take();
        RUN.with(|place| *place.borrow_mut() = run);
    }
}

/// The run in progress; refuses where there is none, or where an abort took its lock since. And who may not
/// run the job: a session can pass from role to role in the middle of a run.
fn in_progress() -> Taken {
    let taken = Taken::now();
    if let Some(mut taken) = taken {
        if worker::holds_job(taken.run().job.id) {
            taken.run().job.expect_owner();
            return taken;
        }
        taken.0 = None;
    }
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "no run of a job is in progress in this session",
    )
    .hint("Run one with CALL crm_tree.run_job('<name>');")
    .raise()
}

/// Closes runs that nobody is at any more. The caller holds the job's lock, which is what proves it.
/// A scheduled run is tried again after a minute, but not for ever: a job that brings the server down
/// would bring it down each minute.
pub fn close_crashed(job: i64) {
    registry(
        "WITH crashed AS (
             UPDATE crm_tree.job_run SET status = 'crashed', finished_at = pg_catalog.clock_timestamp(),
                    error = 'the session or worker ended, or was cancelled, before the run did'
              WHERE job_id OPERATOR(pg_catalog.=) $1 AND status OPERATOR(pg_catalog.=) 'running'
              RETURNING scheduled)
         UPDATE crm_tree.job SET next_run = LEAST(next_run, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) '1 minute'::pg_catalog.interval)
          WHERE job_id OPERATOR(pg_catalog.=) $1 AND EXISTS (SELECT FROM crashed WHERE scheduled)
            AND (SELECT pg_catalog.count(*) FROM (
                     SELECT r.status FROM crm_tree.job_run r WHERE r.job_id OPERATOR(pg_catalog.=) $1
                      ORDER BY r.run_id DESC LIMIT 4) AS last
                  WHERE last.status OPERATOR(pg_catalog.=) 'crashed') OPERATOR(pg_catalog.<) 3",
        &[job.into()],
        |_| (),
    );
}

/// Records a run that could not be started, and turns to the job's next time.
pub fn refuse_scheduled(job: &Job, why: &str) {
    registry(
        "INSERT INTO crm_tree.job_run (job_id, job_name, owner, owner_name, scheduled, status, finished_at, error)
         VALUES ($1, $2, $3::pg_catalog.oid::pg_catalog.regrole, $4, true, 'failed', pg_catalog.clock_timestamp(), $5)",
        &[job.id.into(), job.name.as_str().into(), job.owner.into(), job.owner_name.as_str().into(), why.into()],
        |_| (),
    );
    set_next_run(job);
}

fn set_next_run(job: &Job) {
    let next = job.following_run().and_then(registry::to_timestamp);
    registry(
        "UPDATE crm_tree.job SET next_run = $2, launched_at = NULL WHERE job_id OPERATOR(pg_catalog.=) $1",
        &[job.id.into(), next.into()],
        |_| (),
    );
}

/// Begins a run; the caller has checked that the job may run. None where it runs already.
fn begin(id: i64, scheduled: bool) -> Option<i64> {
    if !worker::try_lock_job(id) {
        return None;
    }
    close_crashed(id);
    // Read again under the lock: another worker may just have done this run.
    let job = Job::by_id(id)
        .filter(|job| !scheduled || job.enabled && job.next_run.is_some_and(|at| at <= registry::now()));
    let Some(job) = job else {
        worker::unlock_job(id);
        return None;
    };
    if scheduled {
        set_next_run(&job);
    }
    let (orgs, skipped) = if job.per_org { orgs(&job) } else { (Vec::new(), 0) };
    let total = i32::try_from(orgs.len()).unwrap_or(i32::MAX);
    let run = registry(
        "INSERT INTO crm_tree.job_run (job_id, job_name, owner, owner_name, scheduled, status, pid, orgs_total, orgs_skipped)
         VALUES ($1, $2, $3::pg_catalog.oid::pg_catalog.regrole, $4, $5, 'running', pg_catalog.pg_backend_pid(), $6, $7) RETURNING run_id",
        &[
            job.id.into(),
            job.name.as_str().into(),
            job.owner.into(),
            job.owner_name.as_str().into(),
            scheduled.into(),
            total.into(),
            skipped.into(),
        ],
        |row| get::<i64>(row, 1).unwrap_or(0),
    );
    let id = run[0];
    let mut queue: VecDeque<_> = orgs.into_iter().map(|org| (Some(org), job.config.clone())).collect();
    if !job.per_org {
        queue.push_back((None, job.config.clone()));
    }
    let run = Run { id, job, queue, current: None, done: 0, failed: 0, skipped, error: None, obstacle: None };
    RUN.with(|place| *place.borrow_mut() = Some(run));
    Some(id)
}

/// The orgs of a run, in order, and how many more there are that the owner has no grant for. Those
/// are counted only: their names are none of his business.
fn orgs(job: &Job) -> (Vec<String>, i32) {
    let config: serde_json::Value = serde_json::from_str(&job.config).unwrap_or_default();
    let all: BTreeSet<String> = match config.get("orgs").and_then(|orgs| orgs.as_array()) {
        Some(named) => {
            named.iter().map(|org| org.as_str().map_or_else(|| org.to_string(), str::to_owned)).collect()
        }
        None => known_orgs(),
    };
    let superuser = role::is_superuser(job.owner);
    let may = |org: &String| {
        OrgId::parse(org).is_ok() && (superuser || grants::may_bind(job.owner, org, Scope::Transaction))
    };
    let (mine, others): (Vec<_>, Vec<_>) = all.into_iter().partition(may);
    (mine, i32::try_from(others.len()).unwrap_or(i32::MAX))
}

/// The registered orgs, and those that attached trees have rows of.
fn known_orgs() -> BTreeSet<String> {
    registry("SELECT org FROM crm_tree._known_orgs() org", &[], |row| get::<String>(row, 1))
        .into_iter()
        .flatten()
        .collect()
}

/// Does one org's turn. False when nothing is left to do, or the job may not go on.
pub fn step() -> bool {
    let mut taken = in_progress();
    let run = taken.run();
    let Some((org, config)) = run.queue.pop_front() else { return false };
    // Asked at each turn: meanwhile another's function can have come under the name of the job's.
    // And called by what it is, not by that name.
    let proc = match run.job.function() {
        Ok(proc) => proc,
        Err(obstacle) => {
            run.obstacle = Some(obstacle.message);
            run.queue.clear();
            return false;
        }
    };
    run.current = Some((org.clone(), registry::now()));
    worker::report_activity(&match &org {
        Some(org) => format!("crm_tree job {:?}, org {org}", run.job.name),
        None => format!("crm_tree job {:?}", run.job.name),
    });
    let outcome = worker::as_job_owner(run.job.owner, || {
        query(
            "SELECT result, failed_with, error FROM crm_tree._job_attempt($1::pg_catalog.regproc, $2, $3)",
            &[proc.into(), org.as_deref().into(), config.as_str().into()],
            |row| (get::<String>(row, 1), get::<String>(row, 2), get::<String>(row, 3)),
        )
    });
    let (result, sqlstate, error) = outcome.into_iter().next().unwrap_or_default();
    let more = continuation(&config, result.as_deref());
    record(run, result.as_deref(), sqlstate.as_deref(), error.as_deref(), more.is_some());
    if let Some(config) = more {
        run.queue.push_back((org, config));
    }
    true
}

/// A result with a `continue` in it asks for another turn of the same org, after the others had
/// theirs, with that value in its config.
fn continuation(config: &str, result: Option<&str>) -> Option<String> {
    query(
        "SELECT ($1::pg_catalog.jsonb OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('continue', $2::pg_catalog.jsonb OPERATOR(pg_catalog.->) 'continue'))::pg_catalog.text
          WHERE pg_catalog.jsonb_typeof($2::pg_catalog.jsonb) OPERATOR(pg_catalog.=) 'object'
            AND pg_catalog.jsonb_typeof($2::pg_catalog.jsonb OPERATOR(pg_catalog.->) 'continue') OPERATOR(pg_catalog.<>) 'null'",
        &[config.into(), result?.into()],
        |row| get::<String>(row, 1),
    )
    .pop()
    .flatten()
}

/// Writes down how a turn ended, in the transaction of that turn.
fn record(run: &mut Run, result: Option<&str>, sqlstate: Option<&str>, error: Option<&str>, more: bool) {
    let Some((org, since)) = run.current.take() else { return };
    if sqlstate.is_some() {
        run.failed += 1;
        run.error.get_or_insert_with(|| error.unwrap_or("no message").to_owned());
    } else if !more {
        run.done += 1;
    }
    let status = match (sqlstate, more) {
        (Some(_), _) => "failed",
        (None, true) => "running",
        (None, false) => "succeeded",
    };
    if let Some(org) = org {
        registry(
            "INSERT INTO crm_tree.job_run_org AS o (run_id, org, started_at, finished_at, status, result, sqlstate, error)
             VALUES ($1, $2, $3, pg_catalog.clock_timestamp(), $4, $5::pg_catalog.jsonb, $6, $7)
             ON CONFLICT (run_id, org) DO UPDATE SET finished_at = excluded.finished_at, status = excluded.status,
                    result = excluded.result, sqlstate = excluded.sqlstate, error = excluded.error, turns = o.turns OPERATOR(pg_catalog.+) 1",
            &[
                run.id.into(),
                org.into(),
                registry::to_timestamp(since).into(),
                status.into(),
                result.into(),
                sqlstate.into(),
                error.into(),
            ],
            |_| (),
        );
        registry(
            "UPDATE crm_tree.job_run SET orgs_done = $2, orgs_failed = $3 WHERE run_id OPERATOR(pg_catalog.=) $1",
            &[run.id.into(), run.done.into(), run.failed.into()],
            |_| (),
        );
    } else {
        registry(
            "UPDATE crm_tree.job_run SET result = $2::pg_catalog.jsonb WHERE run_id OPERATOR(pg_catalog.=) $1",
            &[run.id.into(), result.into()],
            |_| (),
        );
    }
}

/// After a step whose transaction was aborted (a commit that failed, a cancel): takes the run up
/// again and records the failure. False where the run is lost, because another took it for crashed.
pub fn recover(failure: &worker::Failure) -> bool {
    let Some(mut taken) = Taken::now() else { return false };
    let run = taken.run();
    let still = worker::try_lock_job(run.job.id)
        && !registry(
            "SELECT 1 FROM crm_tree.job_run WHERE run_id OPERATOR(pg_catalog.=) $1 AND status OPERATOR(pg_catalog.=) 'running'",
            &[run.id.into()],
            |_| (),
        )
        .is_empty();
    if still {
        record(run, None, Some(&failure.sqlstate), Some(&failure.message), false);
        if failure.is_cancel() {
            run.queue.clear();
        }
    } else {
        taken.0 = None;
    }
    still
}

/// Writes down how the run ended. Its lock is held until `release`, after the commit.
pub fn end() -> String {
    let mut taken = in_progress();
    let run = taken.run();
    let mut error = run.error.clone();
    if run.obstacle.is_some() {
        error = run.obstacle.clone();
    } else if run.failed > 0 && run.job.per_org {
        error = Some(format!(
            "{} of {} orgs failed, the first with: {}",
            run.failed,
            run.failed + run.done,
            error.unwrap_or_default()
        ));
    } else if run.done == 0 && run.failed == 0 && run.skipped > 0 {
        error = Some(format!(
            "role \"{0}\" may bind none of the {1} orgs; crm_tree.grant_org('{0}', '*') allows all",
            run.job.owner_name, run.skipped
        ));
    }
    let status = if error.is_some() { "failed" } else { "succeeded" };
    registry(
        "UPDATE crm_tree.job_run SET status = $2, finished_at = pg_catalog.clock_timestamp(), error = $3
          WHERE run_id OPERATOR(pg_catalog.=) $1",
        &[run.id.into(), status.into(), error.as_deref().into()],
        |_| (),
    );
    if let Some(error) = error {
        pgrx::warning!("job {:?} failed: {error}", run.job.name);
    }
    status.to_owned()
}

/// Ends the session's part in the run, once its end is committed.
pub fn release() {
    if let Some(mut taken) = Taken::now() {
        taken.run().job.expect_owner();
        let job = taken.run().job.id;
        taken.0 = None;
        if worker::holds_job(job) {
            worker::unlock_job(job);
        }
    }
}

/// Begins a run that is due. None where there is nothing to do, or another is at it.
pub fn begin_scheduled(job: i64) -> Option<i64> {
    begin(job, true)
}

// The steps as run_job() calls them. The procedure runs as its caller (a procedure that commits can be
// neither SECURITY DEFINER nor pin its settings), so they are executable by everybody and check for
// themselves that the caller may run the job, all but the first also that a run of it is in progress here.

#[pg_extern(sql = false)]
fn _job_begin(name: &str) -> i64 {
    if worker::in_transaction_block() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "run_job() commits after each org and cannot run in a transaction block",
        )
        .hint("Send CALL crm_tree.run_job('<name>') by itself, with the client's autocommit on.")
        .raise()
    }
    let job = Job::of_caller(name);
    if let Some(refusal) = job.obstacle() {
        refusal.raise()
    }
    begin(job.id, false).unwrap_or_else(|| {
        Refusal::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, format!("job {name:?} is running already"))
            .hint("SELECT * FROM crm_tree.job_progress; shows how far it is.")
            .raise()
    })
}

#[pg_extern(sql = false)]
fn _job_step() -> bool {
    step()
}

#[pg_extern(sql = false)]
fn _job_end() -> String {
    end()
}

#[pg_extern(sql = false)]
fn _job_release() {
    release()
}
