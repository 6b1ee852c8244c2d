//! The two settings that hold the binding, `crm_tree.org` and `crm_tree.user_id`, and the parsed
//! copy of the first that the policies read.
//!
//! The settings give what a static cannot: savepoints restore them, the end of the transaction
//! clears them, parallel workers receive them. Nobody sets them from outside, superusers and
//! `GRANT SET ON PARAMETER` included: the check hook accepts a value only while `assign` is at work
//! or a parallel worker takes over its leader's state.

use crate::tenant::org::{OrgId, OrgKind};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// Bytes of the longest org as a text datum, header included.
pub(super) const MAX_TEXT: usize = crate::tenant::org::MAX_BYTES + pg_sys::VARHDRSZ;

/// The bound org in the three forms a policy may ask for. Written only by the assign hook.
#[repr(C, align(8))]
pub(super) struct Bound {
    /// A text datum of `text_size` bytes; of none when unbound.
    pub text: [u8; MAX_TEXT],
    pub text_size: usize,
    pub uuid: Option<[u8; 16]>,
    pub bigint: Option<i64>,
    /// Another one with each assignment.
    pub version: u64,
}

pub(super) static mut BOUND: Bound =
    Bound { text: [0; MAX_TEXT], text_size: 0, uuid: None, bigint: None, version: 0 };
static mut ORG: *mut c_char = std::ptr::null_mut();
static mut USER: *mut c_char = std::ptr::null_mut();
static mut ASSIGNING: bool = false;

/// Told the value a binding had when something takes it away in the middle of a transaction.
pub type LossListener = fn(org: &str, user: Option<&str>);
static mut ON_LOSS: Option<LossListener> = None;

/// How long an assignment lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Transaction,
    Session,
}

/// Defines the settings. Called once, when the library is loaded.
pub fn init(on_loss: LossListener) {
    // SAFETY: names and descriptions are 'static, the value addresses are statics of this module,
    // the hooks have the signatures PostgreSQL expects and never unwind.
    unsafe {
        ON_LOSS = Some(on_loss);
        let flags = (pg_sys::GUC_NOT_IN_SAMPLE | pg_sys::GUC_DISALLOW_IN_FILE) as c_int;
        pg_sys::DefineCustomStringVariable(
            c"crm_tree.org".as_ptr(),
            c"The org this transaction or session is bound to.".as_ptr(),
            c"Set by crm_tree.bind_org() and its kin, by nothing else.".as_ptr(),
            &raw mut ORG,
            c"".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            flags,
            Some(check),
            Some(assign_org),
            None,
        );
        pg_sys::DefineCustomStringVariable(
            c"crm_tree.user_id".as_ptr(),
            c"The application's user on whose behalf this transaction or session works.".as_ptr(),
            c"Set by crm_tree.bind_org() and its kin, by nothing else.".as_ptr(),
            &raw mut USER,
            c"".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            flags,
            Some(check),
            None,
            None,
        );
    }
}

/// Refuses settings of ours that nobody defined, from here on.
pub fn reserve_prefix() {
    // SAFETY: the name is 'static.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"crm_tree".as_ptr()) }
}

/// The bound org as text, None when unbound.
pub fn org() -> Option<String> {
    // SAFETY: the setting's value is null or a C string owned by the GUC machinery.
    unsafe { read(ORG) }
}

/// Is an org bound that a column of this kind can be compared with?
pub fn is_bound_as(kind: OrgKind) -> bool {
    let bound = &raw const BOUND;
    // SAFETY: written by the assign hook only, never during this call.
    unsafe {
        match kind {
            OrgKind::Uuid => (*bound).uuid.is_some(),
            OrgKind::Bigint => (*bound).bigint.is_some(),
            OrgKind::Text => (*bound).text_size > 0,
        }
    }
}

/// The bound user, None when unbound or bound without one.
pub fn user() -> Option<String> {
    // SAFETY: as above.
    unsafe { read(USER) }
}

unsafe fn read(value: *const c_char) -> Option<String> {
    if value.is_null() {
        return None;
    }
    // SAFETY: the caller's pointer is a live C string.
    let text = unsafe { CStr::from_ptr(value) };
    // Each statement asks, and to find that nothing is lossy takes ten times as long.
    let text = text.to_str().map_or_else(|_| text.to_string_lossy().into_owned(), str::to_owned);
    (!text.is_empty()).then_some(text)
}

/// Binds (`Some`) or unbinds (`None`). The caller has checked that it may be done.
pub fn assign(org: Option<&OrgId>, user: Option<&str>, scope: Scope) {
    set(c"crm_tree.user_id", user.unwrap_or(""), scope);
    set(c"crm_tree.org", org.map_or("", OrgId::as_str), scope);
}

fn set(name: &CStr, value: &str, scope: Scope) {
    let value = CString::new(value).expect("orgs and users hold no NUL: checked where they enter");
    let action = match scope {
        Scope::Transaction => pg_sys::GucAction::GUC_ACTION_LOCAL,
        Scope::Session => pg_sys::GucAction::GUC_ACTION_SET,
    };
    let done = pgrx::PgTryBuilder::new(|| {
        // SAFETY: both strings outlive the call; ASSIGNING is only read by the check hook below it.
        unsafe {
            ASSIGNING = true;
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
                action,
                true,
                0,
                false,
            )
        }
    })
    .finally(|| {
        // SAFETY: single-threaded backend state.
        unsafe { ASSIGNING = false }
    })
    .execute();
    debug_assert_eq!(done, 1);
}

unsafe extern "C-unwind" fn check(
    newval: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL passes a valid pointer to a C string or null.
    unsafe {
        let unset = (*newval).is_null() || **newval == 0;
        unset || ASSIGNING || pg_sys::InitializingParallelWorker
    }
}

unsafe extern "C-unwind" fn assign_org(newval: *const c_char, _extra: *mut c_void) {
    // SAFETY: runs in the backend's only thread; ORG still has the old value, `newval` is a C string
    // or null. Nothing here raises: this also runs while a transaction is being cleaned up.
    unsafe {
        if let (Some(listener), Some(old)) = (ON_LOSS, read(ORG)) {
            let kept = !newval.is_null() && CStr::from_ptr(newval).to_bytes() == old.as_bytes();
            if !kept && pg_sys::IsTransactionState() {
                listener(&old, read(USER).as_deref());
            }
        }
        let bound = &raw mut BOUND;
        (*bound).version += 1;
        (*bound).text_size = 0;
        (*bound).uuid = None;
        (*bound).bigint = None;
        if let Some(text) = read(newval) {
            let size = text.len() + pg_sys::VARHDRSZ;
            // A longer one was never assigned here; it would read as unbound, which is closed.
            if size <= MAX_TEXT {
                let org = OrgId::from_stored(&text);
                (*bound).uuid = org.uuid();
                (*bound).bigint = org.bigint();
                let block = (&raw mut (*bound).text).cast::<u8>();
                pgrx::set_varsize_4b(block.cast(), size as i32);
                std::ptr::copy_nonoverlapping(text.as_ptr(), block.add(pg_sys::VARHDRSZ), text.len());
                (*bound).text_size = size;
            }
        }
    }
}
