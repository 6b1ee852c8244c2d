//! Where we stand in a transaction, and callbacks at its ends.

use super::subxact::{self, End};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{c_char, c_void};

/// What belongs to no subtransaction: not made by this transaction, or kept beyond it.
pub(super) const INVALID_SUBTRANSACTION: pg_sys::SubTransactionId = 0;

type Listener = fn();
type SubListener = fn(End, i32);
type SubStartListener = fn(i32);

thread_local! {
    static AT_TOP_END: RefCell<Vec<Listener>> = const { RefCell::new(Vec::new()) };
    static AT_SUB_ABORT: RefCell<Vec<Listener>> = const { RefCell::new(Vec::new()) };
    static AT_SUB_START: RefCell<Vec<SubStartListener>> = const { RefCell::new(Vec::new()) };
    static AT_SUB_END: RefCell<Vec<SubListener>> = const { RefCell::new(Vec::new()) };
    static BEFORE_COMMIT: RefCell<Vec<Listener>> = const { RefCell::new(Vec::new()) };
    static BEFORE_PREPARE: RefCell<Vec<Listener>> = const { RefCell::new(Vec::new()) };
}

/// Calls `listener` at each COMMIT, ABORT and PREPARE of a top-level transaction.
/// A listener must not raise: an error there takes the server down.
pub fn at_top_end(listener: Listener) {
    AT_TOP_END.with(|l| l.borrow_mut().push(listener));
}

/// Calls `listener` whenever a savepoint or an exception block rolls back. It must not raise.
pub fn at_sub_abort(listener: Listener) {
    AT_SUB_ABORT.with(|l| l.borrow_mut().push(listener));
}

/// Calls `listener` whenever a savepoint is set or an exception block begins, with its level. It must
/// not raise.
pub fn at_sub_start(listener: SubStartListener) {
    AT_SUB_START.with(|l| l.borrow_mut().push(listener));
}

/// Calls `listener` whenever a savepoint or an exception block ends, with how and at which level. It
/// must not raise.
pub fn at_sub_end(listener: SubListener) {
    AT_SUB_END.with(|l| l.borrow_mut().push(listener));
}

/// Calls `listener` before a COMMIT has done anything that stays. It may raise.
pub fn before_commit(listener: Listener) {
    BEFORE_COMMIT.with(|l| l.borrow_mut().push(listener));
}

/// Calls `listener` before PREPARE TRANSACTION has done anything. It may raise.
pub fn before_prepare(listener: Listener) {
    BEFORE_PREPARE.with(|l| l.borrow_mut().push(listener));
}

/// Registers the callbacks. Called once, when the library is loaded.
pub fn init() {
    // SAFETY: both callbacks are `extern "C-unwind"` functions that never unwind and live as long as
    // the process; PostgreSQL never unloads a library.
    unsafe {
        pg_sys::RegisterXactCallback(Some(top_callback), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(sub_callback), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn top_callback(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    if matches!(
        event,
        pg_sys::XactEvent::XACT_EVENT_COMMIT
            | pg_sys::XactEvent::XACT_EVENT_ABORT
            | pg_sys::XactEvent::XACT_EVENT_PREPARE
    ) {
        run(&AT_TOP_END);
    }
    let before = match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => &BEFORE_COMMIT,
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => &BEFORE_PREPARE,
        _ => return,
    };
    // SAFETY: guarded: what it raises is an ordinary error here.
    unsafe { run_before(before) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn run_before(listeners: &'static std::thread::LocalKey<RefCell<Vec<Listener>>>) {
    run(listeners);
}

unsafe extern "C-unwind" fn sub_callback(
    event: pg_sys::SubXactEvent::Type,
    _sub: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_START_SUB {
        for listener in AT_SUB_START.with(|l| l.borrow().clone()) {
            listener(subxact::level());
        }
    }
    let end = match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => End::Released,
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => End::RolledBack,
        _ => return,
    };
    if end == End::RolledBack {
        run(&AT_SUB_ABORT);
    }
    for listener in AT_SUB_END.with(|l| l.borrow().clone()) {
        listener(end, subxact::level());
    }
}

fn run(listeners: &'static std::thread::LocalKey<RefCell<Vec<Listener>>>) {
    let all = listeners.with(|l| l.borrow().clone());
    for listener in all {
        listener();
    }
}

/// Does what is set for "this transaction" outlive the statement that sets it? True in a
/// transaction block, in CALL and DO, and below any function that runs statements of its own.
pub fn outlives_statement() -> bool {
    // SAFETY: reads backend state. `SPI_unregister_relation` changes nothing: the name is not
    // registered, and it answers SPI_ERROR_UNCONNECTED exactly when no SPI caller is above us.
    unsafe {
        if pg_sys::IsTransactionBlock() {
            return true;
        }
        let probe = pg_sys::SPI_unregister_relation(c"crm_tree probe".as_ptr() as *const c_char);
        if probe != pg_sys::SPI_ERROR_UNCONNECTED {
            return true;
        }
        let portal = pg_sys::ActivePortal;
        portal.is_null()
            || matches!((*portal).commandTag, pg_sys::CommandTag::CMDTAG_CALL | pg_sys::CommandTag::CMDTAG_DO)
    }
}

/// Is there a savepoint or an exception block around us?
pub fn is_nested() -> bool {
    subxact::level() > 1
}

/// Has this transaction written, or taken a lock that it needed an id for?
pub fn has_written() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

pub fn is_read_only() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::XactReadOnly }
}

pub fn is_parallel_worker() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// Is the server in recovery, and can write nothing?
pub fn on_standby() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// REPEATABLE READ and SERIALIZABLE keep one snapshot for the whole transaction.
pub fn keeps_one_snapshot() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Does work whose queries see what is committed now, where they would see what the calling statement does:
/// behind a lock that was waited for.
pub fn seeing_now<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: pushed and popped in pairs; after an error the end of the (sub)transaction pops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// How deep in triggers we are: 0 outside any trigger.
pub fn trigger_depth() -> i32 {
    // SAFETY: `pg_trigger_depth` reads a static and takes no argument from its call info.
    unsafe {
        pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[])
            .expect("pg_trigger_depth() is never null")
    }
}
