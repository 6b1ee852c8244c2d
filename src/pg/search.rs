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

/// Defines `$name`, a function of PostgreSQL's by version 1, as `$body`.
macro_rules! search_function {
    ($name:ident, $info:ident, $body:expr) => {
        /// # Safety
        /// Called by PostgreSQL with the arguments of the function of its own.
        #[unsafe(no_mangle)]
        #[pg_guard]
        pub unsafe extern "C-unwind" fn $name(fcinfo: FunctionCallInfo) -> Datum {
            // SAFETY: the call is handed on as it came.
            unsafe { $body(fcinfo) }
        }

        finfo!($info);
    };
}

/// False, and GIN_FALSE.
const NO: usize = 0;

unsafe fn ts_match(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as the function that it is called for.
    unsafe { if fits(fcinfo, 1) { pg_sys::ts_match_vq(fcinfo) } else { Datum::from(NO) } }
}

/// Bytes of a word longer than any that a tsvector holds.
const NO_WORD: [u8; 2048] = [b'x'; 2048];

/// What to look up for a query. Nothing, of which GIN takes that nothing matches, where it does not fit.
///
/// Where `gin_fuzzy_search_limit` is set, which anybody may do, GIN leaves out some of what it finds if everything that it
/// looks up is in more rows than that, of whatever org. So then a word is looked up too that is in none.
unsafe fn keys(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as the function that it is called for: the addresses of the number of keys, and of the arrays that say of
    // each whether it is a beginning, and where it stands in the query.
    unsafe {
        let args = (*fcinfo).args.as_slice(5);
        let count = args[1].value.cast_mut_ptr::<i32>();
        if !fits(fcinfo, 0) {
            *count = 0;
            return Datum::from(0);
        }
        let keys = pg_sys::gin_extract_tsquery(fcinfo);
        if pg_sys::GinFuzzySearchLimit == 0 || *count == 0 {
            return keys;
        }
        let no_word = pg_sys::cstring_to_text_with_len(NO_WORD.as_ptr().cast(), NO_WORD.len() as i32);
        let known = *count as usize;
        with_one_more(args[3].value.cast_mut_ptr::<*mut bool>(), known, false);
        let places = args[4].value.cast_mut_ptr::<*mut *mut std::ffi::c_char>();
        if !(*places).is_null() {
            with_one_more(places, known, **places);
        }
        let mut keys = keys.cast_mut_ptr::<Datum>();
        with_one_more(&raw mut keys, known, Datum::from(no_word));
        *count += 1;
        Datum::from(keys)
    }
}

/// Makes room in a palloc'd array of `count` for one more; of none it makes none.
unsafe fn with_one_more<T>(array: *mut *mut T, count: usize, more: T) {
    // SAFETY: as above.
    unsafe {
        if !(*array).is_null() {
            *array = pg_sys::repalloc((*array).cast(), (count + 1) * size_of::<T>()).cast();
            (*array).add(count).write(more);
        }
    }
}

unsafe fn consistent(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as the function that it is called for.
    unsafe { if fits(fcinfo, 2) { pg_sys::gin_tsquery_consistent(fcinfo) } else { Datum::from(NO) } }
}

unsafe fn triconsistent(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: as the function that it is called for.
    unsafe { if fits(fcinfo, 2) { pg_sys::gin_tsquery_triconsistent(fcinfo) } else { Datum::from(NO) } }
}

search_function!(crm_tree_ts_match, pg_finfo_crm_tree_ts_match, ts_match);
search_function!(crm_tree_search_keys, pg_finfo_crm_tree_search_keys, keys);
search_function!(crm_tree_search_consistent, pg_finfo_crm_tree_search_consistent, consistent);
search_function!(crm_tree_search_triconsistent, pg_finfo_crm_tree_search_triconsistent, triconsistent);
