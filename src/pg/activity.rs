//! What other sessions and the log are shown of the statement that runs.

use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Takes a secret out of the statement's text, where the client wrote it as a literal.
pub fn hide(secret: &str) {
    // SAFETY: null, or the C string the server holds while the statement runs.
    let text = unsafe {
        if pg_sys::debug_query_string.is_null() {
            return;
        }
        CStr::from_ptr(pg_sys::debug_query_string).to_string_lossy()
    };
    if !secret.is_empty() && text.contains(secret) {
        show_instead(&text.replace(secret, "…"));
    }
}

/// Shows another text than the statement's, in `pg_stat_activity` and as the STATEMENT of a logged error.
/// What the server wrote or copied before (`log_statement`, `log_min_duration_statement`) keeps the old one.
pub fn show_instead(text: &str) {
    let Ok(text) = CString::new(text) else { return };
    // SAFETY: MessageContext lives as long as the statement text that the copy replaces; a process that
    // has none takes no statements from a client.
    unsafe {
        if pg_sys::MessageContext.is_null() || pg_sys::debug_query_string.is_null() {
            return;
        }
        let copy = pg_sys::MemoryContextStrdup(pg_sys::MessageContext, text.as_ptr());
        pg_sys::debug_query_string = copy;
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, copy);
    }
}
