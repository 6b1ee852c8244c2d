//! What the three kinds of workers do. The launcher, one a cluster, is connected to no database; it
//! starts a scheduler in each database in turn. The scheduler closes crashed runs, starts a worker
//! for each job that is due, and leaves, so that it does not stand in the way of DROP DATABASE. A job's
//! worker does one run and leaves.

use super::registry::{Job, get, query};
use super::{run, settings};
use crate::pg::worker::{self, transaction};
use std::time::{Duration, Instant};

/// The launcher's life. It ends by SIGTERM only.
pub fn launch() {
    let mut complained: Option<Instant> = None;
    loop {
        if settings::jobs() {
            for database in transaction(worker::databases).unwrap_or_default() {
                match worker::start_scheduler(database) {
                    Some(scheduler) => scheduler.wait(),
                    None => {
                        if complained.is_none_or(|at| at.elapsed() > Duration::from_secs(3600)) {
                            complained = Some(Instant::now());
                            pgrx::warning!(
                                "crm_tree cannot look for jobs: no worker process is free; raise max_worker_processes"
                            );
                        }
                    }
                }
            }
        }
        worker::sleep(settings::naptime());
    }
}

/// The scheduler's life: one look at one database.
pub fn schedule() {
    // A lock that a restore or an upgrade holds must not hold up the other databases. Well below
    // deadlock_timeout: where a DROP EXTENSION and a look block each other, the look gives way.
    let installed = transaction(|| {
        query("SET lock_timeout = '200ms'", &[], |_| ());
        query(
            "SELECT pg_catalog.to_regprocedure('crm_tree._job_attempt(pg_catalog.regproc,text,text)') IS NOT NULL
               FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'crm_tree'",
            &[],
            |row| get::<bool>(row, 1),
        )
    });
    if !matches!(installed.as_deref(), Ok([Some(true)])) {
        return;
    }
    close_crashed();
    let due = or_leave(transaction(Job::due)).unwrap_or_default();
    let mut slots = match or_leave(transaction(|| worker::free_slots(settings::max_workers()))) {
        Some(slots) if !due.is_empty() => slots,
        _ => return,
    };
    for job in due {
        if slots == 0 {
            break;
        }
        if or_leave(transaction(|| prepare(&job))) != Some(true) {
            continue;
        }
        let login = or_leave(transaction(|| may_log_in(&job))) == Some(true);
        let role = (login || worker::CONNECTS_WITHOUT_LOGIN).then_some(job.owner);
        if worker::start_runner(role, job.id).is_none() {
            // Said at most once a minute for each job: that long it is not due again.
            pgrx::warning!(
                "crm_tree cannot start job {:?}: no worker process is free; raise max_worker_processes",
                job.name
            );
        }
        slots -= 1;
    }
}

/// A failure of a worker's own is logged, and the next look tries again; waiting for a lock in vain is
/// no news.
fn or_leave<R>(result: Result<R, worker::Failure>) -> Option<R> {
    result
        .map_err(|failure| {
            if failure.sqlstate != "55P03" {
                pgrx::log!("crm_tree jobs: {} ({})", failure.message, failure.sqlstate);
            }
        })
        .ok()
}

fn close_crashed() {
    let running = transaction(|| {
        query(
            "SELECT DISTINCT job_id FROM crm_tree.job_run WHERE status OPERATOR(pg_catalog.=) 'running'",
            &[],
            |row| get::<i64>(row, 1),
        )
    });
    for job in or_leave(running).unwrap_or_default().into_iter().flatten() {
        let closed = transaction(|| {
            let dead = worker::try_lock_job(job);
            if dead {
                run::close_crashed(job);
            }
            dead
        });
        if or_leave(closed) == Some(true) {
            let _ = or_leave(transaction(|| worker::unlock_job(job)));
        }
    }
}

/// May the job's worker be started now? What stands in its way for good goes into the history.
fn prepare(job: &Job) -> bool {
    if !worker::try_lock_job(job.id) {
        return false;
    }
    let obstacle = job.obstacle().map(|refusal| refusal.message).or_else(|| {
        let connects = query(
            "SELECT pg_catalog.has_database_privilege($1, pg_catalog.current_database(), 'CONNECT')",
            &[job.owner.into()],
            |row| get::<bool>(row, 1),
        );
        (connects != [Some(true)])
            .then(|| format!("role \"{}\" may not connect to this database", job.owner_name))
    });
    match &obstacle {
        Some(why) => run::refuse_scheduled(job, why),
        None => {
            query(
                "UPDATE crm_tree.job SET launched_at = pg_catalog.clock_timestamp() WHERE job_id OPERATOR(pg_catalog.=) $1",
                &[job.id.into()],
                |_| (),
            );
        }
    }
    worker::unlock_job(job.id);
    obstacle.is_none()
}

fn may_log_in(job: &Job) -> bool {
    query(
        "SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE oid OPERATOR(pg_catalog.=) $1",
        &[job.owner.into()],
        |row| get::<bool>(row, 1),
    ) == [Some(true)]
}

/// The life of a job's worker: one run.
pub fn run(job: i64) {
    let begun = transaction(|| {
        if worker::take_slot(settings::max_workers()) { run::begin_scheduled(job) } else { None }
    });
    if or_leave(begun).flatten().is_none() {
        return;
    }
    loop {
        match transaction(run::step) {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => {
                if or_leave(transaction(|| run::recover(&failure))) != Some(true) {
                    return;
                }
            }
        }
        worker::serve_signals();
    }
    let _ = or_leave(transaction(run::end));
    let _ = or_leave(transaction(run::release));
}
