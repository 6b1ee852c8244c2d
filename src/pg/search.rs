//! Full-text match that tells nothing of a row but whether it matches: what `crm_tree.@@` and its operator
//! class run, before the wall has filtered anything.
//!
//! PostgreSQL's functions ask the two sides of `&` one after the other, each a recursion that raises where
//! the stack runs out. Which side runs out is the row's doing, and how much stack there is, the caller's, by
//! the depth he calls at. So nothing recurses that has no room for the whole query. Where room is short,
//! nothing matches: an error would tell that a row was looked at.

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

/// What a part of a query takes of the stack at most; the largest frame, TS_phrase_execute's, is some 300 bytes.
const PART: usize = 1024;
/// What is called below the last part, and between here and the first.
const ENDS: usize = 8 * 1024;

/// Whether the stack has room for the query that is argument `n`.
///
/// # Safety
/// Argument `n` is a tsquery, and not null.
unsafe fn fits(fcinfo: FunctionCallInfo, n: usize) -> bool {
    // SAFETY: by the caller; a tsquery has a header of a length and the number of its parts. The argument stays
    // as it is: a constant's is used for the next row too.
    let parts = unsafe {
        let query = (*fcinfo).args.as_slice(n + 1)[n].value.cast_mut_ptr();
        (*pg_sys::pg_detoast_datum(query).cast::<pg_sys::TSQueryData>()).size
    };
    usize::try_from(parts)
        .ok()
        .and_then(|parts| parts.checked_mul(PART))
        .is_some_and(|bytes| has_room(bytes.saturating_add(ENDS)))
}

/// Whether `bytes` more of the stack can be used before PostgreSQL finds that it is too deep.
fn has_room(bytes: usize) -> bool {
    let here = 0_u8;
    // SAFETY: the base is put back at once, and nothing asks for it in between.
    let (base, most) = unsafe {
        let base = pg_sys::set_stack_base();
        pg_sys::restore_stack_base(base);
        (base, pg_sys::max_stack_depth)
    };
    let used = (base as usize).abs_diff(&raw const here as usize);
    let most = usize::try_from(most).unwrap_or(0).saturating_mul(1024);
    used.saturating_add(bytes) < most
}

/// Defines `$name`: what `$built_in` answers where the query, argument `$query`, fits, or else a plain no.
macro_rules! search_function {
    ($name:ident, $info:ident, $built_in:path, $query:literal, $no:expr) => {
        /// # Safety
        /// Called by PostgreSQL with the arguments of the function of its own.
        #[unsafe(no_mangle)]
        #[pg_guard]
        pub unsafe extern "C-unwind" fn $name(fcinfo: FunctionCallInfo) -> Datum {
            // SAFETY: the call is handed on as it came.
            unsafe { if fits(fcinfo, $query) { $built_in(fcinfo) } else { $no(fcinfo) } }
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            &pg_sys::Pg_finfo_record { api_version: 1 }
        }
    };
}

/// False, and GIN_FALSE.
fn no(_: FunctionCallInfo) -> Datum {
    Datum::from(0)
}

/// No keys to look up, which GIN takes for: nothing matches.
///
/// # Safety
/// Argument 1 is the address of the number of keys.
unsafe fn no_keys(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: by the caller.
    unsafe { *(*fcinfo).args.as_slice(2)[1].value.cast_mut_ptr::<i32>() = 0 };
    Datum::from(0)
}

search_function!(crm_tree_ts_match, pg_finfo_crm_tree_ts_match, pg_sys::ts_match_vq, 1, no);
search_function!(
    crm_tree_search_keys,
    pg_finfo_crm_tree_search_keys,
    pg_sys::gin_extract_tsquery,
    0,
    no_keys
);
search_function!(
    crm_tree_search_consistent,
    pg_finfo_crm_tree_search_consistent,
    pg_sys::gin_tsquery_consistent,
    2,
    no
);
search_function!(
    crm_tree_search_triconsistent,
    pg_finfo_crm_tree_search_triconsistent,
    pg_sys::gin_tsquery_triconsistent,
    2,
    no
);
