//! Entry points of the triggers of second parents.

use super::trigger::{finish, guarded};
use pgrx::pg_sys::{self, Datum};

/// # Safety
/// Called by PostgreSQL as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crm_tree_links_lock(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: PostgreSQL's call info is handed on; nothing of Rust's is alive here.
    unsafe { finish(guarded(fcinfo, crate::tree::judge::lock)) }
}

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_crm_tree_links_lock() -> &'static pg_sys::Pg_finfo_record {
    &pg_sys::Pg_finfo_record { api_version: 1 }
}

/// # Safety
/// Called by PostgreSQL as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crm_tree_links_settle(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: as above.
    unsafe { finish(guarded(fcinfo, crate::tree::judge::settle)) }
}

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_crm_tree_links_settle() -> &'static pg_sys::Pg_finfo_record {
    &pg_sys::Pg_finfo_record { api_version: 1 }
}
