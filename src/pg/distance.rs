//! Rows ordered by their distance to something, through an index. Where the index knows the distance roughly, the executor
//! computes it again for each row that it comes to, before it asks any condition, the wall's among them, and raises where
//! it is less than what the index said. A function that tells the index one thing and the executor another so learns of
//! a row whether it is nearer than that. So what the distance is to has to be the same whoever asks.

use super::planned::bare;
use super::relation;
use crate::error::Refusal;
use pgrx::pg_sys::{self, List, Node, NodeTag, Oid};
use pgrx::prelude::*;
use std::ffi::c_void;

const LANGUAGE_INTERNAL: u32 = 12;
const LANGUAGE_C: u32 = 13;
const ALWAYS_WRITTEN_ALIKE: [u32; 9] = [
    pg_sys::F_TEXTOUT,
    pg_sys::F_VARCHAROUT,
    pg_sys::F_BPCHAROUT,
    pg_sys::F_UUID_OUT,
    pg_sys::F_INT2OUT,
    pg_sys::F_INT4OUT,
    pg_sys::F_INT8OUT,
    pg_sys::F_NUMERIC_OUT,
    pg_sys::F_BOOLOUT,
];

/// Raises where it can be different.
///
/// # Safety
/// What a plan's scan of the table orders its rows by, or null.
pub(super) unsafe fn expect_one_value(table: Oid, distances: *mut List) {
    // SAFETY: by the caller.
    unsafe {
        if computes_differently(distances.cast(), std::ptr::null_mut()) {
            refuse(table);
        }
    }
}

unsafe extern "C-unwind" fn computes_differently(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: nodes of the plan's; PostgreSQL's walkers are given what they give.
    unsafe {
        !node.is_null()
            && (is_of_session(node)
                || pg_sys::check_functions_in_node(node, Some(is_changeable), context)
                || bare::expression_tree_walker(node, computes_differently, context))
    }
}

/// The user and the schema can be others at the next row; CURRENT_TIMESTAMP and its like cannot.
unsafe fn is_of_session(node: *const Node) -> bool {
    // SAFETY: the node is read as what its tag says.
    unsafe {
        (*node).type_ == NodeTag::T_SQLValueFunction
            && (*node.cast::<pg_sys::SQLValueFunction>()).op >= pg_sys::SQLValueFunctionOp::SVFOP_CURRENT_ROLE
    }
}

/// What PostgreSQL or an extension calls immutable, and the time of the transaction, are the same at every row. But not
/// how a value is written, which goes by settings (`bytea_output`, `extra_float_digits`) that can be set at any row.
#[pg_guard]
unsafe extern "C-unwind" fn is_changeable(function: Oid, _context: *mut c_void) -> bool {
    if [pg_sys::F_NOW, pg_sys::F_STATEMENT_TIMESTAMP].contains(&function.to_u32()) {
        return false;
    }
    // SAFETY: a syscache lookup; the tuple is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, function.into());
        if tuple.is_null() {
            return true;
        }
        let proc = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let writes = proc.prorettype == pg_sys::CSTRINGOID
            && !ALWAYS_WRITTEN_ALIKE.contains(&function.to_u32())
            || function.to_u32() == pg_sys::F_QUOTE_IDENT;
        let is_sure = !writes
            && proc.provolatile as u8 == pg_sys::PROVOLATILE_IMMUTABLE
            && [LANGUAGE_INTERNAL, LANGUAGE_C].contains(&proc.prolang.to_u32());
        pg_sys::ReleaseSysCache(tuple);
        !is_sure
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn refuse(table: Oid) {
    let facts = relation::facts(table);
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "rows of {}.{} would be ordered by their distance to what a function says, before the wall is asked",
            facts.schema, facts.name
        ),
    )
    .hint("Have it computed once: ORDER BY … <-> (SELECT …).")
    .table(&facts.schema, &facts.name)
    .raise()
}
