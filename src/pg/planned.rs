//! Statements of users that come up inside a foreign key's query, or inside our own maintenance, are
//! analysed and planned without the exemption from row security that those have.
//!
//! Row security is written into a statement when that is rewritten, by what runs at that moment, and
//! stays in it: what somebody prepares in there would go past a wall whenever it is run later. The
//! functions through which users get there are called without the exemption (see `cascade`), but for
//! those that were looked up before, a cursor's or a cast's, and SQL functions.
//!
//! A foreign key sets the exemption anew for its next statement, and has its own rewritten when users'
//! code runs: so it is taken away for good. Ours, which is for more than one statement, is let alone: what
//! users reach in there is functions, and keeps no plans.

use super::{frames, role};
use pgrx::pg_sys::{self, Query};
use pgrx::prelude::*;
use std::ffi::{c_char, c_int};

static mut NEXT_ANALYZE: pg_sys::post_parse_analyze_hook_type = None;
static mut NEXT_PLANNER: pg_sys::planner_hook_type = None;

/// Not pgrx's guarded binding: it is called where no Rust value is alive, and left by longjmp.
mod bare {
    use super::*;

    unsafe extern "C-unwind" {
        pub fn standard_planner(
            query: *mut Query,
            text: *const c_char,
            options: c_int,
            params: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
    }
}

/// Called once, when the library is loaded.
pub fn init() {
    // SAFETY: the hooks have the signatures PostgreSQL expects and hand on to whoever was there.
    unsafe {
        NEXT_ANALYZE = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(analyzed);
        NEXT_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
    }
}

/// Before the statement is rewritten.
unsafe extern "C-unwind" fn analyzed(
    state: *mut pg_sys::ParseState,
    query: *mut Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: PostgreSQL's own arguments are handed on.
    unsafe {
        if let Some(next) = NEXT_ANALYZE {
            next(state, query, jumble);
        }
    }
    if role::is_past_forced_row_security() {
        // SAFETY: guarded.
        unsafe { take_exemption() }
    }
}

/// What the planner puts in line is rewritten while it plans.
unsafe extern "C-unwind" fn plan(
    query: *mut Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    if role::is_past_forced_row_security() {
        // SAFETY: guarded.
        unsafe { take_exemption() }
    }
    // SAFETY: PostgreSQL's own arguments are handed on.
    unsafe {
        match NEXT_PLANNER {
            Some(next) => next(query, text, options, params),
            None => bare::standard_planner(query, text, options, params),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn take_exemption() {
    if frames::is_foreign_keys() {
        // What is computed while it is planned runs inside of it.
        frames::remember();
    } else if !frames::is_own() && !role::is_own_exemption() {
        role::set_past_forced_row_security(false);
    }
}
