//! `current_org()` and its two sisters as raw version-1 functions: a policy calls them once a row,
//! and the general wrapper costs twice the row itself.

use super::session::BOUND;
use crate::tenant::binding;
use pgrx::pg_sys;
use pgrx::prelude::*;

macro_rules! raw_function {
    ($name:ident, $info:ident, $fast:expr, $kind:expr) => {
        /// # Safety
        /// Called by PostgreSQL as a version-1 function without arguments.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(_: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: BOUND is written by the assign hook only, between statements or calls; the
            // datum points into it and is read before the next assignment.
            match unsafe { $fast } {
                Some(datum) => datum,
                // SAFETY: raises; no Rust value is alive in this frame.
                None => unsafe { refuse($kind) },
            }
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            &pg_sys::Pg_finfo_record { api_version: 1 }
        }
    };
}

raw_function!(
    crm_tree_current_org,
    pg_finfo_crm_tree_current_org,
    (*(&raw const BOUND)).uuid.as_ref().map(|u| pg_sys::Datum::from(u.as_ptr())),
    0
);
raw_function!(
    crm_tree_current_org_bigint,
    pg_finfo_crm_tree_current_org_bigint,
    (*(&raw const BOUND)).bigint.map(pg_sys::Datum::from),
    1
);
raw_function!(
    crm_tree_current_org_text,
    pg_finfo_crm_tree_current_org_text,
    {
        let text = (*(&raw const BOUND)).text;
        (!text.is_null()).then(|| pg_sys::Datum::from(text))
    },
    2
);

#[pg_guard]
unsafe extern "C-unwind" fn refuse(kind: i32) -> pg_sys::Datum {
    binding::refuse_unbound(["uuid", "bigint", "text"][kind as usize])
}
