//! Background workers and what runs in them: starting and connecting them, their signals and
//! transactions, the lock that keeps a job from running twice, and working as a job's owner.

use super::role;
use crate::error::Refusal;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::pg_sys::Oid;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_guard, pg_sys};
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::time::Duration;

/// The workers' types, as `pg_stat_activity.backend_type` shows them.
pub const LAUNCHER: &str = "crm_tree launcher";
const SCHEDULER: &str = "crm_tree scheduler";
const RUNNER: &str = "crm_tree job";

/// What each kind of worker does, once it is connected.
pub struct Bodies {
    pub launcher: fn(),
    pub scheduler: fn(),
    pub runner: fn(job: i64),
}

static BODIES: OnceLock<Bodies> = OnceLock::new();

/// Registers the launcher: one a cluster, started once recovery is over (so never on a standby).
/// Does nothing outside `shared_preload_libraries` and during pg_upgrade.
pub fn register_launcher(bodies: Bodies) {
    let _ = BODIES.set(bodies);
    note_load();
    // SAFETY: reads two statics of the server's.
    let wanted = unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade };
    if wanted {
        BackgroundWorkerBuilder::new(LAUNCHER)
            .set_library("crm_tree")
            .set_function("crm_tree_launcher_main")
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_restart_time(Some(Duration::from_secs(10)))
            .enable_spi_access()
            .load();
    }
}

/// Is this process a crm_tree worker that may start others, or could one run here at all?
pub fn is_preloaded() -> bool {
    // SAFETY: reads a static: true from the end of preloading on, in the postmaster's children too,
    // whose library list then holds us only if `register_launcher` ran before it.
    unsafe { pg_sys::process_shared_preload_libraries_done && LOADED_BY_POSTMASTER }
}

static mut LOADED_BY_POSTMASTER: bool = false;

/// Remembers whether the postmaster itself loaded the library.
fn note_load() {
    // SAFETY: the only writer, before any reader; children inherit the value by fork.
    unsafe { LOADED_BY_POSTMASTER = pg_sys::process_shared_preload_libraries_in_progress }
}

/// A started worker that its starter can wait for.
pub struct Started(DynamicBackgroundWorker);

impl Started {
    /// Waits for the worker's end. The wait can be interrupted; then the process ends.
    pub fn wait(self) {
        let _ = self.0.wait_for_shutdown();
    }
}

fn start(kind: &str, function: &str, extra: &str) -> Option<Started> {
    // SAFETY: reads a static.
    let me = unsafe { pg_sys::MyProcPid };
    BackgroundWorkerBuilder::new(kind)
        .set_library("crm_tree")
        .set_function(function)
        .set_extra(extra)
        .set_notify_pid(me)
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .enable_spi_access()
        .load_dynamic()
        .ok()
        .map(Started)
}

/// Starts the scheduler of one database. None where the server has no worker slot left.
pub fn start_scheduler(database: Oid) -> Option<Started> {
    start(SCHEDULER, "crm_tree_scheduler_main", &database.to_u32().to_string())
}

/// Starts the worker that runs one job of this database, connected as `role`, or as the bootstrap
/// superuser where `role` is None. None where the server has no worker slot left.
pub fn start_runner(role: Option<Oid>, job: i64) -> Option<Started> {
    // SAFETY: reads a static.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let role = role.unwrap_or(Oid::INVALID).to_u32();
    start(RUNNER, "crm_tree_job_main", &format!("{database} {role} {job}"))
}

/// The numbers its starter gave this worker.
fn arguments() -> Vec<i64> {
    pgrx::bgworkers::BackgroundWorker::get_extra().split(' ').filter_map(|word| word.parse().ok()).collect()
}

fn oid(number: i64) -> Oid {
    Oid::from(u32::try_from(number).unwrap_or(0))
}

/// Installs the handlers of an ordinary backend: SIGTERM interrupts a running query (pgrx's own
/// handler only sets a flag), SIGINT cancels it, SIGHUP rereads the configuration at the next wait.
fn take_signals() {
    unsafe extern "C-unwind" {
        // Not pgrx's bindings: those are Rust wrappers, and a handler must be the bare function.
        fn die(signal: c_int);
        fn SignalHandlerForConfigReload(signal: c_int);
    }
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // SAFETY: async-signal-safe handlers of the server's own, installed while signals are blocked.
    unsafe {
        pqsignal(pg_sys::SIGTERM as c_int, Some(die));
        pqsignal(pg_sys::SIGHUP as c_int, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

fn connect(database: Oid, role: Oid) {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let flags = 0;
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let flags = pg_sys::BGWORKER_BYPASS_ROLELOGINCHECK;
    // SAFETY: called once, in a worker registered with a database connection, outside a transaction.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(database, role, flags) }
}

/// Can a worker connect as a role without LOGIN?
pub const CONNECTS_WITHOUT_LOGIN: bool = cfg!(not(any(feature = "pg15", feature = "pg16")));

/// Sleeps, rereads the configuration when told to, and ends the process on SIGTERM or when the
/// postmaster dies.
pub fn sleep(time: Duration) {
    let timeout = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: MyLatch is this process's own; interrupts are served where nothing is held.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as c_int, timeout, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    serve_signals();
}

/// Does what a signal asked for, between two transactions.
pub fn serve_signals() {
    // SAFETY: called where nothing is held; SIGTERM ends the process here.
    unsafe {
        pgrx::check_for_interrupts!();
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Shows in pg_stat_activity what this worker is at.
pub fn report_activity(what: &str) {
    let what = std::ffi::CString::new(what.replace('\0', " ")).unwrap_or_default();
    // SAFETY: copies the string into this backend's own slot.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, what.as_ptr()) }
}

/// The databases one can connect to, templates left out. Reads the shared catalog directly: the
/// launcher is connected to no database and has nothing to run a query with.
pub fn databases() -> Vec<Oid> {
    let mut found = Vec::new();
    // SAFETY: relation and scan are opened and closed in pairs inside the caller's transaction;
    // every tuple of pg_database begins with FormData_pg_database.
    unsafe {
        let rel = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let scan = pg_sys::table_beginscan_catalog(rel, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_database;
            // A limit of -2 marks a database whose DROP did not finish.
            if (*row).datallowconn && !(*row).datistemplate && (*row).datconnlimit != -2 {
                found.push((*row).oid);
            }
        }
        let end = (*(*(*scan).rs_rd).rd_tableam).scan_end.expect("every access method has it");
        end(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
    found
}

/// What went wrong in a transaction of a worker.
#[derive(Clone, Debug)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
}

fn failure(cause: CaughtError) -> Failure {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = cause;
    Failure { sqlstate: sqlstate(report.sql_error_code()), message: report.message().to_owned() }
}

impl Failure {
    pub fn is_cancel(&self) -> bool {
        self.sqlstate == sqlstate(PgSqlErrorCode::ERRCODE_QUERY_CANCELED)
    }
}

fn sqlstate(code: PgSqlErrorCode) -> String {
    let packed = code as i32;
    (0..5).map(|i| (((packed >> (6 * i)) & 0x3f) as u8 + b'0') as char).collect()
}

/// Runs `work` in a transaction of its own. An error is caught *outside* it and the transaction
/// aborted: caught inside, half-done work would be committed.
pub fn transaction<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: a worker's main loop, outside any transaction; each step undoes at the error
        // handler's AbortCurrentTransaction.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let result = work();
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            Ok(result)
        }
    }))
    .catch_others(|cause| Err(failure(cause)))
    .catch_rust_panic(|cause| Err(failure(cause)))
    .execute();
    if result.is_err() {
        // SAFETY: what PostgreSQL's own main loop does after an error; with interrupts held, so that
        // the clean-up is not itself interrupted.
        unsafe {
            pg_sys::InterruptHoldoffCount += 1;
            pg_sys::AbortCurrentTransaction();
            pg_sys::InterruptHoldoffCount -= 1;
        }
    }
    result
}

/// Argument `n` (from 0), a jsonb, as text. pgrx's own reading of jsonb passes numbers through f64.
pub fn jsonb_argument(fcinfo: pg_sys::FunctionCallInfo, n: usize) -> Option<String> {
    // SAFETY: the caller's argument `n` is declared jsonb, so that its output function fits.
    unsafe {
        let value = pgrx::pg_getarg_datum(fcinfo, n)?;
        let text = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), value);
        Some(std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

/// Holds no Rust value while it calls: errors of the job leave it by longjmp, with all that they carry.
///
/// # Safety
/// Called by PostgreSQL as the function `crm_tree._job_call(regproc, jsonb)`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crm_tree_job_call(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the call is one that was prepared, of a function that has an address.
    unsafe {
        let call = prepare_job_call(fcinfo);
        let result = match (*(*call).flinfo).fn_addr {
            Some(function) => function(call),
            None => pg_sys::Datum::from(0),
        };
        (*fcinfo).isnull = (*call).isnull;
        result
    }
}

finfo!(pg_finfo_crm_tree_job_call);

/// A call of a function of one jsonb that returns jsonb, by its oid: a name could be another's by now.
#[pg_guard]
unsafe extern "C-unwind" fn prepare_job_call(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::FunctionCallInfo {
    // SAFETY: our function is strict, of an oid and a jsonb; syscache lookups; what is to be called has the
    // signature that is looked at.
    unsafe {
        let args = (*fcinfo).args.as_ptr();
        let (proc, config) = (Oid::from((*args).value.value() as u32), (*args.add(1)).value);
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        let result = pg_sys::get_func_signature(proc, &mut types, &mut count);
        let fits = result == pg_sys::JSONBOID
            && count == 1
            && *types == pg_sys::JSONBOID
            && pg_sys::get_func_prokind(proc) as u8 == pg_sys::PROKIND_FUNCTION
            && !pg_sys::get_func_retset(proc);
        if !fits || !role::may_execute(role::current(), proc) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("the function with oid {} is none that this role's job can call", proc.to_u32()),
            )
            .hint("It takes one jsonb and returns jsonb, and the job's owner may EXECUTE it and has USAGE on its schema.")
            .raise()
        }
        // In the memory of the expression that calls, as the result is.
        let info = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info(proc, info);
        let size = size_of::<pg_sys::FunctionCallInfoBaseData>() + size_of::<pg_sys::NullableDatum>();
        let call = pg_sys::palloc0(size).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*call).flinfo = info;
        (*call).nargs = 1;
        (*call).args.as_mut_ptr().write(pg_sys::NullableDatum { value: config, isnull: false });
        call
    }
}

/// Are we in a transaction block that a COMMIT inside a procedure could not end?
pub fn in_transaction_block() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::IsTransactionBlock() }
}

// The lock of a job, and the slots that bound the number of workers. They are session locks of the
// *default* lock method, like VACUUM's: unlike the user's advisory locks they are gone when a
// transaction aborts (a cancelled CALL must not leave one held), and pg_advisory_unlock_all() in a
// job does not touch them. Nobody takes them from a process that ends between two transactions, and
// they would stay in shared memory: hence `release_at_exit`. In pg_locks they are advisory locks with
// these objsubids.
const JOB: u16 = 0x4356;
const SLOT: u16 = 0x4357;

fn tag(database: Oid, key: u64, space: u16) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: space,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

fn job_tag(job: i64) -> pg_sys::LOCKTAG {
    // SAFETY: reads a static.
    tag(unsafe { pg_sys::MyDatabaseId }, job as u64, JOB)
}

const EXCLUSIVE: c_int = pg_sys::ExclusiveLock as c_int;

unsafe extern "C-unwind" fn at_exit(_code: c_int, _arg: pg_sys::Datum) {
    // SAFETY: as logical replication workers do. The last transaction is over by then (this is no
    // `before` callback), so that session locks are all that is left. It raises nothing.
    unsafe { pg_sys::LockReleaseAll(pg_sys::DEFAULT_LOCKMETHOD as pg_sys::LOCKMETHODID, true) }
}

fn release_at_exit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: called after this process has its PGPROC, so that the callback runs before that goes;
    // a forked child starts with an empty list and its own `ONCE`, for the postmaster takes no lock.
    ONCE.call_once(|| unsafe { pg_sys::on_shmem_exit(Some(at_exit), pg_sys::Datum::from(0)) });
}

/// Takes the lock for the session. False where anybody, this session included, holds it.
fn try_lock(tag: &pg_sys::LOCKTAG) -> bool {
    release_at_exit();
    // SAFETY: the tag is complete; with dontWait the answer comes at once.
    let got = unsafe { pg_sys::LockAcquire(tag, EXCLUSIVE, true, true) };
    if got == pg_sys::LockAcquireResult::LOCKACQUIRE_ALREADY_HELD {
        unlock(tag);
    }
    got == pg_sys::LockAcquireResult::LOCKACQUIRE_OK
}

fn unlock(tag: &pg_sys::LOCKTAG) {
    // SAFETY: the tag is complete; releasing what is not held only warns.
    unsafe {
        pg_sys::LockRelease(tag, EXCLUSIVE, true);
    }
}

/// Takes a job's lock until `unlock_job`, the session's end, or the next abort of a transaction.
pub fn try_lock_job(job: i64) -> bool {
    try_lock(&job_tag(job))
}

pub fn unlock_job(job: i64) {
    unlock(&job_tag(job))
}

/// Does this session still hold the job's lock?
pub fn holds_job(job: i64) -> bool {
    let tag = job_tag(job);
    // SAFETY: as in `try_lock`; whatever this call took is given back below.
    let got = unsafe { pg_sys::LockAcquire(&tag, EXCLUSIVE, true, true) };
    if got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
        unlock(&tag);
    }
    got == pg_sys::LockAcquireResult::LOCKACQUIRE_ALREADY_HELD
}

fn slot_tag(slot: i32) -> pg_sys::LOCKTAG {
    tag(Oid::INVALID, slot as u64, SLOT)
}

/// Takes one of the cluster's `limit` worker slots, for this process's life.
pub fn take_slot(limit: i32) -> bool {
    (0..limit).any(|slot| try_lock(&slot_tag(slot)))
}

/// How many of the slots are free at this moment.
pub fn free_slots(limit: i32) -> usize {
    let free = |slot: &i32| {
        let tag = slot_tag(*slot);
        let free = try_lock(&tag);
        if free {
            unlock(&tag);
        }
        free
    };
    (0..limit).filter(free).count()
}

/// Is this session nobody else's than `role`'s, with nothing to go back to?
fn session_is(role: Oid) -> bool {
    let (mut user, mut context) = (Oid::INVALID, 0);
    // SAFETY: reads backend state.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        user == role && context == 0 && pg_sys::GetSessionUserId() == role
    }
}

/// Works as a job's owner. In a session of another role (a superuser's CALL, a worker whose owner may
/// not log in) the owner's code must not get at that role: it runs restricted, as PostgreSQL runs index
/// functions in maintenance. SET ROLE, deferred triggers, holdable cursors and temporary tables, which
/// would act as the session's role later on, are refused there. Settings are put back in any case.
pub fn as_job_owner<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    let (mut user, mut context) = (Oid::INVALID, 0);
    // SAFETY: sets the two statics and opens a level of settings; both are put back below, and by
    // PostgreSQL where an error passes.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        if !session_is(owner) {
            let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
            pg_sys::SetUserIdAndSecContext(owner, context | restricted as c_int);
        }
        let result = work();
        pg_sys::SetUserIdAndSecContext(user, context);
        pg_sys::AtEOXact_GUC(false, level);
        result
    }
}

/// Runs a worker's body; what it raises is logged and ends the worker, not the server.
fn guarded(body: impl FnOnce(&Bodies)) {
    let failed = PgTryBuilder::new(AssertUnwindSafe(|| {
        // Filled when the library was loaded, which is how the postmaster found this function.
        BODIES.get().map(body);
        None
    }))
    .catch_others(|cause| Some(failure(cause)))
    .catch_rust_panic(|cause| Some(failure(cause)))
    .execute();
    if let Some(failure) = failed {
        // SAFETY: brings the backend back to no transaction before it leaves.
        unsafe { pg_sys::AbortCurrentTransaction() };
        pgrx::log!("crm_tree worker gave up: {} ({})", failure.message, failure.sqlstate);
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn crm_tree_launcher_main(_arg: pg_sys::Datum) {
    take_signals();
    connect(Oid::INVALID, Oid::INVALID);
    guarded(|bodies| (bodies.launcher)());
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn crm_tree_scheduler_main(_arg: pg_sys::Datum) {
    if let [database] = arguments()[..] {
        take_signals();
        connect(oid(database), Oid::INVALID);
        guarded(|bodies| (bodies.scheduler)());
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn crm_tree_job_main(_arg: pg_sys::Datum) {
    if let [database, role, job] = arguments()[..] {
        take_signals();
        connect(oid(database), oid(role));
        guarded(|bodies| (bodies.runner)(job));
    }
}
