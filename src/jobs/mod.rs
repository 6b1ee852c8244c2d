//! Jobs: functions run on a schedule, once per org, each org in its own transaction, bound to it and
//! as the job's owner. The workers and `CALL crm_tree.run_job()` take the same steps (`run`).

pub mod registry;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod worker;

/// Called once, when the library is loaded, before the settings' prefix is reserved.
pub fn init() {
    settings::init();
    crate::pg::worker::register_launcher(crate::pg::worker::Bodies {
        launcher: worker::launch,
        scheduler: worker::schedule,
        runner: worker::run,
    });
}
