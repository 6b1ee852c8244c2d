//! What an error that passes through Rust said when it was raised. pgrx carries its text, and drops a user's own
//! SQLSTATE, the constraint, table, column and type, and the context.

use crate::error::Refusal;
use pgrx::PgLogLevel;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::pg_sys::{self, ErrorData};
use pgrx::prelude::*;
use std::any::Any;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

unsafe extern "C-unwind" {
    /// Not pgrx's guarded bindings, which put an error handler of their own in place: it is called while an
    /// error is being handled.
    #[link_name = "CopyErrorData"]
    fn copy_error_data() -> *mut ErrorData;
    #[link_name = "FreeErrorData"]
    fn free_error_data(data: *mut ErrorData);
}

/// Runs `body`. Err is an error of a refusal's or of PostgreSQL's that left it, whole and ready to be thrown;
/// anything else unwinds on.
///
/// # Safety
/// In a transaction. Whoever throws the error must have no Rust value with a destructor alive.
pub unsafe fn witnessed<R>(body: impl FnOnce() -> R) -> Result<R, *mut ErrorData> {
    let mut seen = Seen { last: [std::ptr::null_mut(); KEPT], next: 0 };
    // SAFETY: the frame is taken off the stack before it goes, however `body` ends.
    let result = unsafe {
        let mut frame = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(note),
            arg: (&raw mut seen).cast(),
        };
        pg_sys::error_context_stack = &raw mut frame;
        let result = catch_unwind(AssertUnwindSafe(body));
        pg_sys::error_context_stack = frame.previous;
        result
    };
    let payload = match result {
        Ok(answer) => {
            // SAFETY: what was caught on the way, and is nobody else's.
            unsafe {
                seen.last
                    .into_iter()
                    .filter(|error| !error.is_null())
                    .for_each(|error| free_error_data(error))
            };
            return Ok(answer);
        }
        Err(payload) => payload,
    };
    let Some(report) = report_of(&*payload) else { resume_unwind(payload) };
    if let Some(refusal) = Refusal::raised_last(report.sql_error_code(), report.message()) {
        // SAFETY: allocates in the current context.
        return Err(unsafe { super::trigger::error_data(&refusal) });
    }
    // SAFETY: what `note` has left are whole copies.
    unsafe {
        match seen.newest_first().find(|error| is_told_by(*error, report)) {
            Some(error) => {
                forget_own_statement(error);
                Err(error)
            }
            None => resume_unwind(payload),
        }
    }
}

/// Errors that are kept: one that was caught may be thrown again behind others.
const KEPT: usize = 8;

struct Seen {
    last: [*mut ErrorData; KEPT],
    next: usize,
}

impl Seen {
    fn newest_first(&self) -> impl Iterator<Item = *mut ErrorData> {
        (1..=KEPT).map(|back| self.last[(self.next + KEPT - back) % KEPT]).filter(|error| !error.is_null())
    }
}

/// Is it the error that pgrx carries? A code that is nobody's but a user's is an internal error there.
unsafe fn is_told_by(error: *mut ErrorData, report: &ErrorReportWithLevel) -> bool {
    let same = |text: *const std::ffi::c_char, told: Option<&str>| match (text.is_null(), told) {
        (true, None) => true,
        // SAFETY: a C string of the error's own.
        (false, Some(told)) => unsafe { CStr::from_ptr(text) }.to_string_lossy() == told,
        _ => false,
    };
    // SAFETY: a whole copy.
    unsafe {
        PgSqlErrorCode::from((*error).sqlerrcode) as i32 == report.sql_error_code() as i32
            && same((*error).message, Some(report.message()))
            && same((*error).detail, report.detail())
            && same((*error).hint, report.hint())
    }
}

/// Takes the statement of ours, in which it happened, out of the context: it is the outermost there, and says nothing
/// to whoever wrote another.
unsafe fn forget_own_statement(error: *mut ErrorData) {
    // SAFETY: the context is a C string of the error's own, or null.
    unsafe {
        let context = (*error).context;
        if context.is_null() {
            return;
        }
        let text = CStr::from_ptr(context).to_bytes();
        let begins = b"SQL statement \"";
        let starts = |at: &usize| text[*at..].starts_with(begins) && (*at == 0 || text[*at - 1] == b'\n');
        match (0..text.len()).rev().find(starts) {
            Some(0) => (*error).context = std::ptr::null_mut(),
            Some(at) => *context.add(at - 1) = 0,
            None => {}
        }
    }
}

fn report_of(payload: &(dyn Any + Send)) -> Option<&ErrorReportWithLevel> {
    if let Some(report) = payload.downcast_ref::<ErrorReportWithLevel>() {
        return Some(report);
    }
    match payload.downcast_ref::<CaughtError>()? {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => Some(report),
        CaughtError::RustPanic { .. } => None,
    }
}

/// PostgreSQL calls it for whatever is reported below, to be told where that was: the context is complete up to here.
unsafe extern "C-unwind" fn note(seen: *mut c_void) {
    let seen = seen.cast::<Seen>();
    // SAFETY: `seen` is the frame's own, and an error is being reported.
    unsafe {
        if pg_sys::geterrcode() == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as i32 {
            return;
        }
        // It outlives the savepoint that it ends.
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
        let data = copy_error_data();
        pg_sys::MemoryContextSwitchTo(before);
        if (*data).elevel != PgLogLevel::ERROR as i32 {
            return free_error_data(data);
        }
        let place = (*seen).next % KEPT;
        if !(&(*seen).last)[place].is_null() {
            free_error_data((&(*seen).last)[place]);
        }
        (&mut (*seen).last)[place] = data;
        (*seen).next = (place + 1) % KEPT;
    }
}
