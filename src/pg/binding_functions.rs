//! `current_org()` and its two sisters as raw version-1 functions: a policy calls them once a row,
//! and the general wrapper costs twice the row itself.

use super::session::{BOUND, MAX_TEXT};
use super::{enforced, planned};
use crate::tenant::binding;
use crate::tenant::org::OrgKind;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// What a call site has handed out. A value must outlive the binding it was read under, as a
/// procedure's argument does that unbinds and commits: it is copied into the memory of the
/// expression that calls, once a binding instead of once a row.
struct Copy {
    version: u64,
    size: usize,
    bytes: [u8; MAX_TEXT],
}

/// The call site's copy of `size` bytes at `from`, which are of the binding `version`.
///
/// # Safety
/// `fcinfo` is PostgreSQL's call info, and `from` has `size` bytes.
#[inline]
unsafe fn keep(
    fcinfo: pg_sys::FunctionCallInfo,
    version: u64,
    from: *const u8,
    size: usize,
) -> pg_sys::Datum {
    // SAFETY: `fn_extra` is this function's own, null or set below.
    unsafe {
        let copy = (*(*fcinfo).flinfo).fn_extra as *const Copy;
        if !copy.is_null() && (*copy).version == version {
            return pg_sys::Datum::from((&raw const (*copy).bytes).cast::<u8>());
        }
        keep_anew(fcinfo, version, from, size)
    }
}

/// A changed binding gets a block of its own: somebody may hold the last one still.
#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn keep_anew(
    fcinfo: pg_sys::FunctionCallInfo,
    version: u64,
    from: *const u8,
    size: usize,
) -> pg_sys::Datum {
    // SAFETY: the block is in the memory that PostgreSQL names for `fn_extra`, and `size` is at most
    // MAX_TEXT.
    unsafe {
        let info = (*fcinfo).flinfo;
        let last = (*info).fn_extra as *mut Copy;
        let same = !last.is_null()
            && (*last).size == size
            && std::slice::from_raw_parts((&raw const (*last).bytes).cast::<u8>(), size)
                == std::slice::from_raw_parts(from, size);
        let copy = if same {
            last
        } else {
            let block = std::mem::offset_of!(Copy, bytes) + size;
            let copy = pg_sys::MemoryContextAlloc((*info).fn_mcxt, block) as *mut Copy;
            std::ptr::copy_nonoverlapping(from, (&raw mut (*copy).bytes).cast(), size);
            (*copy).size = size;
            (*info).fn_extra = copy.cast();
            copy
        };
        (*copy).version = version;
        pg_sys::Datum::from((&raw const (*copy).bytes).cast::<u8>())
    }
}

macro_rules! raw_function {
    ($name:ident, $info:ident, |$bound:ident, $fcinfo:ident| $fast:expr, $kind:expr) => {
        /// # Safety
        /// Called by PostgreSQL as a version-1 function without arguments.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            let $bound = &raw const BOUND;
            // SAFETY: BOUND is written by the assign hook only, never during this call.
            match unsafe { $fast } {
                Some(datum) => datum,
                // SAFETY: may raise; no Rust value is alive in this frame.
                None => unsafe { missing($fcinfo, $kind) },
            }
        }

        finfo!($info);
    };
}

raw_function!(
    crm_tree_current_org,
    pg_finfo_crm_tree_current_org,
    |bound, fcinfo| {
        let bound = &*bound;
        bound.uuid.as_ref().map(|uuid| keep(fcinfo, bound.version, uuid.as_ptr(), uuid.len()))
    },
    OrgKind::Uuid
);
raw_function!(
    crm_tree_current_org_bigint,
    pg_finfo_crm_tree_current_org_bigint,
    |bound, fcinfo| (*bound).bigint.map(pg_sys::Datum::from),
    OrgKind::Bigint
);
raw_function!(
    crm_tree_current_org_text,
    pg_finfo_crm_tree_current_org_text,
    |bound, fcinfo| {
        match (*bound).text_size {
            0 => None,
            size => Some(keep(fcinfo, (*bound).version, (&raw const (*bound).text).cast(), size)),
        }
    },
    OrgKind::Text
);

/// What is asked of a row must not raise: a condition that is leak-proof is asked before the wall, and an error would
/// tell that it let a row of another org pass. A plan can outlive its binding: whether there is one is asked where it
/// starts, of no row (`guard`); where it is lost meanwhile, nothing is the bound org's.
///
/// # Safety
/// `fcinfo` is PostgreSQL's call info.
#[cold]
unsafe fn missing(fcinfo: pg_sys::FunctionCallInfo, kind: OrgKind) -> pg_sys::Datum {
    // SAFETY: by the caller.
    unsafe {
        if !enforced::is_condition((*(*fcinfo).flinfo).fn_expr.cast()) {
            refuse(kind);
        }
        (*fcinfo).isnull = true;
    }
    pg_sys::Datum::from(0)
}

#[pg_guard]
unsafe extern "C-unwind" fn refuse(kind: OrgKind) {
    binding::refuse_unbound(kind.name())
}

#[pg_guard]
unsafe extern "C-unwind" fn refuse_unseen() {
    binding::refuse_unseen(OrgKind::Text.name())
}

/// Asked while a statement is planned that calls one of the three. Where the library was not loaded before, by this
/// call or by one that the planner has made to compute something, the statement goes by the hooks that see to the wall.
///
/// # Safety
/// Called by PostgreSQL as a planner's support function.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn crm_tree_org_support(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the one argument is a node, read as what its tag says; no Rust value is alive in this frame.
    unsafe {
        let request: *const pg_sys::Node = (*fcinfo).args.as_slice(1)[0].value.cast_mut_ptr();
        if (*request).type_ == pg_sys::NodeTag::T_SupportRequestSimplify
            && !planned::is_seen()
            // Of a statement, not of a column's default alone.
            && !(*request.cast::<pg_sys::SupportRequestSimplify>()).root.is_null()
        {
            refuse_unseen();
        }
    }
    pg_sys::Datum::from(0)
}

finfo!(pg_finfo_crm_tree_org_support);
