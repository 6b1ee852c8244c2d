//! The settings of the jobs module. All are read by workers at each turn, so a reload is enough.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::Duration;

/// One switch for all databases: to restore a dump, or to keep a copy of production quiet.
static JOBS: GucSetting<bool> = GucSetting::<bool>::new(true);

/// A look costs one short connection per database; ten seconds late is nothing to a nightly job.
static NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(10);

/// Jobs compete with users for processors. PostgreSQL's default of eight worker processes leaves the
/// other four to the launcher, the scheduler and parallel queries.
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);

pub fn init() {
    GucRegistry::define_bool_guc(
        c"crm_tree.jobs",
        c"Whether scheduled jobs are started.",
        c"Jobs that run are not stopped; CALL crm_tree.run_job() is not affected.",
        &JOBS,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"crm_tree.launcher_naptime",
        c"How long the launcher sleeps between two looks for jobs that are due.",
        c"",
        &NAPTIME,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"crm_tree.max_job_workers",
        c"How many scheduled jobs run at once in the whole cluster.",
        c"They come out of max_worker_processes.",
        &MAX_WORKERS,
        1,
        1024,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

pub fn jobs() -> bool {
    JOBS.get()
}

pub fn naptime() -> Duration {
    Duration::from_secs(NAPTIME.get().unsigned_abs().into())
}

pub fn max_workers() -> i32 {
    MAX_WORKERS.get()
}
