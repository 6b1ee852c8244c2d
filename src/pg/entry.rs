//! Functions that SQL calls like any other, but whose errors keep their constraint, table and SQLSTATE, which
//! pgrx's own error path drops.

use super::trigger::{Answer, finish, version_1};
use super::witness::witnessed;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;

/// # Safety
/// `fcinfo` is the call info of a strict function that returns bigint, and `body` reads its arguments by their types.
#[allow(improper_ctypes_definitions)] // Called from Rust only; the ABI is for `pg_guard`.
#[pg_guard]
unsafe extern "C-unwind" fn guarded(
    fcinfo: pg_sys::FunctionCallInfo,
    body: unsafe fn(pg_sys::FunctionCallInfo) -> Option<i64>,
) -> Answer {
    // SAFETY: PostgreSQL calls a function, in a transaction.
    match unsafe { witnessed(|| body(fcinfo)) } {
        Ok(answer) => Answer::Return(answer.and_then(IntoDatum::into_datum).unwrap_or(Datum::from(0))),
        Err(error) => Answer::Throw(error),
    }
}

unsafe fn load_tree(fcinfo: pg_sys::FunctionCallInfo) -> Option<i64> {
    // SAFETY: as `guarded` demands.
    let argument = |n| unsafe { pgrx::fcinfo::pg_getarg::<Oid>(fcinfo, n) };
    Some(crate::tree::load::load_tree(argument(0)?, argument(1)?))
}

unsafe fn merge_nodes(fcinfo: pg_sys::FunctionCallInfo) -> Option<i64> {
    // SAFETY: as `guarded` demands.
    let (table, text) = unsafe {
        (pgrx::fcinfo::pg_getarg::<Oid>(fcinfo, 0)?, |n| pgrx::fcinfo::pg_getarg::<String>(fcinfo, n))
    };
    Some(crate::tree::merge::merge_nodes(table, &text(1)?, &text(2)?))
}

version_1!(crm_tree_load_tree, pg_finfo_crm_tree_load_tree, guarded, load_tree);
version_1!(crm_tree_merge_nodes, pg_finfo_crm_tree_merge_nodes, guarded, merge_nodes);
