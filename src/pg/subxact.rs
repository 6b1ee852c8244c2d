//! Savepoints: how deep we are, when one ends, and which rows this transaction has written.

use pgrx::pg_sys;
use std::ffi::c_void;
use std::sync::OnceLock;

/// How a savepoint, or an exception block, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Released,
    RolledBack,
}

static LISTENER: OnceLock<fn(End, i32)> = OnceLock::new();

/// 1 in a transaction outside any savepoint, one more in each.
pub fn level() -> i32 {
    // SAFETY: reads backend state.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Has this transaction, one of its savepoints included, written what carries this transaction id?
pub fn is_own(xid: u32) -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid.into()) }
}

/// Calls `listener` with the level that ends. Called once, when the library is loaded. It must not
/// raise.
pub fn init(listener: fn(End, i32)) {
    if LISTENER.set(listener).is_ok() {
        // SAFETY: an `extern "C-unwind"` function that never unwinds and lives as long as the process.
        unsafe { pg_sys::RegisterSubXactCallback(Some(callback), std::ptr::null_mut()) }
    }
}

unsafe extern "C-unwind" fn callback(
    event: pg_sys::SubXactEvent::Type,
    _sub: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    let end = match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => End::Released,
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => End::RolledBack,
        _ => return,
    };
    if let Some(listener) = LISTENER.get() {
        listener(end, level());
    }
}
