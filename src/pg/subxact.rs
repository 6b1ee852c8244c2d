//! Savepoints: how deep we are, how one ends, and which rows this transaction has written.

use pgrx::pg_sys;

/// How a savepoint, or an exception block, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Released,
    RolledBack,
}

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
