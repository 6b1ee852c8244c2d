//! Working as the service role until the transaction ends, read-only.

use super::{role, xact};
use crate::error::Refusal;
use pgrx::pg_sys;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Who opened it, and with which security context: what a commit goes back to.
    static OPENED_BY: Cell<Option<(Oid, i32, Oid)>> = const { Cell::new(None) };
}

/// Called once, when the library is loaded.
pub fn init() {
    xact::at_top_end(close);
    xact::before_commit(expect_read_only);
    xact::before_prepare(refuse_prepare);
}

/// Switches to the role. The caller has checked that it may be done, and that the transaction is at
/// its top level: so the switch holds until its end, and a rolled back savepoint leaves it alone.
pub fn open(service: Oid) {
    let (mut user, mut context) = (Oid::INVALID, 0);
    // SAFETY: sets backend state that the end of the transaction puts back. The flag forbids SET ROLE
    // and SET SESSION AUTHORIZATION meanwhile. Once a snapshot is taken, PostgreSQL lets nobody SET
    // the transaction writable again; for RESET see `expect_read_only`. A LOCAL setting would end with a
    // function that has a SET clause.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::set_config_option(
            c"transaction_read_only".as_ptr(),
            c"on".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            0,
            false,
        );
        let switched = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        pg_sys::SetUserIdAndSecContext(service, switched);
    }
    OPENED_BY.set(Some((user, context, service)));
}

/// Nobody could finish what was prepared as the service role, and its record would wait for that.
fn refuse_prepare() {
    if is_open() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "a transaction behind the service door cannot be prepared",
        )
        .hint("It is read-only: COMMIT it.")
        .raise()
    }
}

/// At the end of the transaction. An abort has gone back already, and so has a definer function in
/// which it was opened. A function with `SET role` puts the role back and leaves the flag, which would
/// keep the session from SET ROLE and DISCARD ALL.
fn close() {
    if let Some((user, context, service)) = OPENED_BY.take() {
        // SAFETY: as above; raises nothing.
        unsafe {
            if role::current() == service {
                pg_sys::SetUserIdAndSecContext(user, context);
            } else {
                let (mut now, mut left) = (Oid::INVALID, 0);
                pg_sys::GetUserIdAndSecContext(&mut now, &mut left);
                pg_sys::SetUserIdAndSecContext(now, left & !(pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32));
            }
        }
    }
}

/// Asked before each statement but those that end the transaction, and before it commits: PostgreSQL checks
/// what is SET, and not what is RESET. Cheap, and quiet where there is nothing to refuse.
#[inline]
pub(super) fn expect_read_only() {
    if OPENED_BY.get().is_some() && !xact::is_read_only() {
        // SAFETY: guarded; what it raises is an ordinary PostgreSQL error here.
        unsafe { refuse_writable() }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn refuse_writable() {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
        "the service door is open, and the transaction is not read-only any more",
    )
    .hint("Behind the door nothing is written: ROLLBACK, and leave transaction_read_only alone.")
    .raise()
}

/// Is it open?
pub fn is_open() -> bool {
    OPENED_BY.get().is_some_and(|(_, _, service)| role::current() == service)
}
