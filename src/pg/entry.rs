//! Functions that SQL calls like any other, but whose refusals keep their constraint and table, which
//! pgrx's own error path drops.

use super::trigger::{Answer, error_data, finish};
use crate::error::Refusal;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::any::Any;
use std::panic::{catch_unwind, resume_unwind};

/// The refusal that unwinds, where it is one of ours.
fn refusal_of(payload: &(dyn Any + Send)) -> Option<Refusal> {
    if let Some(report) = payload.downcast_ref::<ErrorReportWithLevel>() {
        return Refusal::raised_last(report.sql_error_code(), report.message());
    }
    match payload.downcast_ref::<CaughtError>()? {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Refusal::raised_last(report.sql_error_code(), report.message())
        }
        CaughtError::RustPanic { .. } => None,
    }
}

/// # Safety
/// `fcinfo` is the call info of a strict function of two `regclass`.
#[allow(improper_ctypes_definitions)] // Called from Rust only; the ABI is for `pg_guard`.
#[pg_guard]
unsafe extern "C-unwind" fn guarded(fcinfo: pg_sys::FunctionCallInfo, body: fn(Oid, Oid) -> i64) -> Answer {
    // SAFETY: a strict function's arguments are there.
    let [a, b] = [0, 1].map(|n| unsafe { pgrx::fcinfo::pg_getarg::<Oid>(fcinfo, n) }.unwrap_or(Oid::INVALID));
    match catch_unwind(|| body(a, b)) {
        Ok(answer) => Answer::Return(answer.into_datum().expect("a number is never null")),
        Err(payload) => match refusal_of(&*payload) {
            // SAFETY: allocates in the current context.
            Some(refusal) => Answer::Throw(unsafe { error_data(&refusal) }),
            None => resume_unwind(payload),
        },
    }
}

/// # Safety
/// Called by PostgreSQL as a strict function of two `regclass` that returns bigint.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crm_tree_load_tree(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: PostgreSQL's call info is handed on; nothing of Rust's is alive here.
    unsafe { finish(guarded(fcinfo, crate::tree::load::load_tree)) }
}

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_crm_tree_load_tree() -> &'static pg_sys::Pg_finfo_record {
    &pg_sys::Pg_finfo_record { api_version: 1 }
}
