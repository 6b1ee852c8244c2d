//! Users' code inside a foreign key's query, or inside our own maintenance, stands behind the wall.
//!
//! PostgreSQL runs the queries of foreign keys past the row security that owners are forced under, and
//! with them every function they reach: triggers on rows that a cascade deletes, defaults, checks, what
//! an index computes. A plan that is made in there carries no policy, and stays in the session after
//! the cascade: no later look at the role could tell. So what is not the server's own or ours is called
//! without the exemption, and plans its statements as it would anywhere.

use super::role;
use pgrx::pg_sys::{self, Datum, FmgrHookEventType, Oid};
use pgrx::prelude::*;
use std::cell::RefCell;

/// The same in every version.
const LANGUAGE_C: u32 = 13;
const LANGUAGE_SQL: u32 = 14;
const PROCONFIG: i32 = pg_sys::Anum_pg_proc_proconfig as i32;
const PROSQLBODY: i32 = pg_sys::Anum_pg_proc_prosqlbody as i32;

static mut NEXT_NEEDS: pg_sys::needs_fmgr_hook_type = None;
static mut NEXT_HOOK: pg_sys::fmgr_hook_type = None;

thread_local! {
    /// For each function under way that we were asked about: was the exemption taken from it?
    static TAKEN: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
}

/// Called once, when the library is loaded.
pub fn init() {
    // SAFETY: the hooks have the signatures PostgreSQL expects and hand on to whoever was there.
    unsafe {
        NEXT_NEEDS = pg_sys::needs_fmgr_hook;
        pg_sys::needs_fmgr_hook = Some(needs);
        NEXT_HOOK = pg_sys::fmgr_hook;
        pg_sys::fmgr_hook = Some(call);
    }
}

/// Asked whenever a function that is not built in is looked up to be called.
unsafe extern "C-unwind" fn needs(function: Oid) -> bool {
    // SAFETY: as PostgreSQL would call it; nothing of Rust's is alive.
    let next = unsafe { NEXT_NEEDS.is_some_and(|next| next(function)) };
    // SAFETY: guarded.
    next || role::is_past_forced_row_security() && !unsafe { is_exempt(function) }
}

/// C functions in our schema, which superusers alone can put there and which know what they do; and SQL
/// functions that the planner may put in line of an expression: asked about, they would not be, in what the
/// relation cache keeps of indexes neither. What they run is seen to where it is analysed (see `planned`);
/// what was analysed when the function was made is not, so those are asked about. So are those that
/// return sets: put in line they are a part of the statement that is planned, with its exemption.
#[pg_guard]
unsafe extern "C-unwind" fn is_exempt(function: Oid) -> bool {
    // SAFETY: syscache lookups; the tuple is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, function.into());
        if tuple.is_null() {
            return false;
        }
        let proc = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let exempt = match proc.prolang.to_u32() {
            LANGUAGE_C => proc.pronamespace == pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), true),
            LANGUAGE_SQL => {
                let is_null = |column| pg_sys::heap_attisnull(tuple, column, std::ptr::null_mut());
                !proc.proretset && !proc.prosecdef && is_null(PROCONFIG) && is_null(PROSQLBODY)
            }
            _ => false,
        };
        pg_sys::ReleaseSysCache(tuple);
        exempt
    }
}

/// Holds no Rust value when it calls on: errors of other hooks leave it by longjmp.
unsafe extern "C-unwind" fn call(
    event: FmgrHookEventType::Type,
    function: *mut pg_sys::FmgrInfo,
    private: *mut Datum,
) {
    // SAFETY: PostgreSQL's own arguments. Each start is followed by an end or an abort.
    unsafe {
        if let Some(next) = NEXT_HOOK {
            next(event, function, private);
        }
        match event {
            FmgrHookEventType::FHET_START => {
                let take = role::is_past_forced_row_security() && !is_exempt((*function).fn_oid);
                if take {
                    role::set_past_forced_row_security(false);
                }
                TAKEN.with(|taken| taken.borrow_mut().push(take));
            }
            FmgrHookEventType::FHET_END => {
                if TAKEN.with(|taken| taken.borrow_mut().pop()) == Some(true) {
                    role::set_past_forced_row_security(true);
                }
            }
            // Whatever catches the error puts the security context back.
            _ => {
                TAKEN.with(|taken| taken.borrow_mut().pop());
            }
        }
    }
}
