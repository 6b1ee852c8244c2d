//! An error of PostgreSQL's that goes through Rust, and comes out as it went in. pgrx carries its text, and drops a
//! user's own SQLSTATE, the constraint, table, column and type, and the context. So what may run a user's code is
//! called by `whole`, which catches the error itself, and whoever is called by PostgreSQL throws that one again.

use crate::error::Refusal;
use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys::panic::ErrorReportWithLevel;
use pgrx::pg_sys::{self, ErrorData};
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Those of PostgreSQL's functions that run statements, without pgrx's guard, which would catch their errors first.
/// For `whole` alone.
pub mod unguarded {
    use pgrx::pg_sys;
    use std::ffi::{c_char, c_int, c_long};

    unsafe extern "C-unwind" {
        pub fn SPI_prepare(
            src: *const c_char,
            nargs: c_int,
            argtypes: *mut pg_sys::Oid,
        ) -> pg_sys::SPIPlanPtr;
        pub fn SPI_plan_get_cached_plan(plan: pg_sys::SPIPlanPtr) -> *mut pg_sys::CachedPlan;
        pub fn SPI_execute(src: *const c_char, read_only: bool, tcount: c_long) -> c_int;
        pub fn SPI_execute_snapshot(
            plan: pg_sys::SPIPlanPtr,
            values: *mut pg_sys::Datum,
            nulls: *const c_char,
            snapshot: pg_sys::Snapshot,
            crosscheck_snapshot: pg_sys::Snapshot,
            read_only: bool,
            fire_triggers: bool,
            tcount: c_long,
        ) -> c_int;
    }
}

unsafe extern "C-unwind" {
    /// Not pgrx's guarded bindings: they are called where no Rust value is alive, to leave by longjmp.
    #[link_name = "ThrowErrorData"]
    fn throw_error_data(data: *mut ErrorData);
    #[link_name = "ReThrowError"]
    fn re_throw_error(data: *mut ErrorData) -> !;
}

/// An error to be thrown once every Rust frame is gone.
pub enum Thrown {
    /// Of a refusal's.
    New(*mut ErrorData),
    /// One that was on its way.
    Again(*mut ErrorData),
}

impl Thrown {
    /// # Safety
    /// No Rust value with a destructor may be alive in the calling frames.
    pub unsafe fn throw(self) {
        // SAFETY: complete errors, and leaving by longjmp skips only plain frames.
        unsafe {
            match self {
                Thrown::New(error) => throw_error_data(error),
                Thrown::Again(error) => re_throw_error(error),
            }
        }
    }
}

/// Who waits for an error.
#[derive(Clone, Copy)]
struct Witness {
    /// PostgreSQL's handler where he was called: another is that of a call which he has made, and what is below that
    /// is not his.
    handler: *mut pg_sys::sigjmp_buf,
    /// Where he keeps it. It outlives the savepoint that the error ends.
    memory: pg_sys::MemoryContext,
}

thread_local! {
    static WITNESS: Cell<Option<Witness>> = const { Cell::new(None) };
}

/// What `whole` has caught, as a panic.
struct Caught(*mut ErrorData);
// SAFETY: a backend has one thread, and a panic is caught in that.
unsafe impl Send for Caught {}

/// Runs `body`. Err is an error of a refusal's, or one that `whole` caught; anything else unwinds on.
///
/// # Safety
/// In a transaction, and called by PostgreSQL.
pub unsafe fn witnessed<R>(body: impl FnOnce() -> R) -> Result<R, Thrown> {
    // SAFETY: reads backend state.
    let here =
        unsafe { Witness { handler: pg_sys::PG_exception_stack, memory: pg_sys::CurrentMemoryContext } };
    let before = WITNESS.replace(Some(here));
    let result = catch_unwind(AssertUnwindSafe(body));
    WITNESS.set(before);
    let payload = match result {
        Ok(answer) => return Ok(answer),
        Err(payload) => payload,
    };
    let payload = match payload.downcast::<Caught>() {
        Ok(caught) => return Err(Thrown::Again(caught.0)),
        Err(payload) => payload,
    };
    let raised = payload.downcast_ref::<ErrorReportWithLevel>();
    match raised.and_then(|error| Refusal::raised_last(error.sql_error_code(), error.message())) {
        Some(refusal) => Err(Thrown::New(error_data(&refusal))),
        None => resume_unwind(payload),
    }
}

/// Calls one of `unguarded`, which runs the statement `sql`.
///
/// # Safety
/// As the function called demands; the closure holds and makes nothing that has a destructor, and does not panic.
pub unsafe fn whole<R>(sql: &str, call: impl FnOnce() -> R) -> R {
    // SAFETY: as the caller says. All state of PostgreSQL's error handling is put back before anything else is
    // called, and the result is there where nothing jumped.
    unsafe {
        let handler = pg_sys::PG_exception_stack;
        let Some(witness) = WITNESS.get().filter(|witness| witness.handler == handler) else {
            return pg_sys::ffi::pg_guard_ffi_boundary(call);
        };
        let (contexts, memory) = (pg_sys::error_context_stack, pg_sys::CurrentMemoryContext);
        let mut result = MaybeUninit::uninit();
        let jumped = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = std::ptr::from_ref::<SigJmpBufFields>(buffer).cast_mut().cast();
            result.write(call());
            0
        });
        pg_sys::PG_exception_stack = handler;
        pg_sys::error_context_stack = contexts;
        if jumped == 0 {
            return result.assume_init();
        }
        pg_sys::CurrentMemoryContext = witness.memory;
        let error = pg_sys::CopyErrorData();
        pg_sys::FlushErrorState();
        forget_statement(error, sql);
        pg_sys::CurrentMemoryContext = memory;
        resume_unwind(Box::new(Caught(error)))
    }
}

/// Takes the statement of ours out of the context: it says nothing to whoever wrote another. The innermost, of several.
///
/// # Safety
/// A whole error.
unsafe fn forget_statement(error: *mut ErrorData, sql: &str) {
    // SAFETY: the context is a C string of the error's own, or null.
    unsafe {
        let context = (*error).context;
        if context.is_null() {
            return;
        }
        if let Some(rest) = without_statement(CStr::from_ptr(context).to_bytes(), sql.as_bytes()) {
            (*error).context = if rest.is_empty() { std::ptr::null_mut() } else { copied(&rest) };
        }
    }
}

/// A context without the lines that name this statement, in whatever language.
fn without_statement(context: &[u8], sql: &[u8]) -> Option<Vec<u8>> {
    let at = context.windows(sql.len()).position(|text| text == sql)?;
    let before = context[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = at + sql.len();
    let after =
        context[end..].iter().position(|byte| *byte == b'\n').map_or(context.len(), |next| end + next + 1);
    let mut rest = [&context[..before], &context[after..]].concat();
    if rest.last() == Some(&b'\n') {
        rest.pop();
    }
    Some(rest)
}

/// In the current memory context, without NULs.
fn copied(text: &[u8]) -> *mut c_char {
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0).collect();
    let text = std::ffi::CString::new(text).unwrap_or_default();
    // SAFETY: copies a C string.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

fn error_data(refusal: &Refusal) -> *mut ErrorData {
    let copy = |text: &str| copied(text.as_bytes());
    let optional = |text: Option<&str>| text.map_or(std::ptr::null_mut(), copy);
    // SAFETY: palloc0 gives a zeroed block of the right size, and zero is a valid ErrorData.
    unsafe {
        let data = pg_sys::palloc0(size_of::<ErrorData>()) as *mut ErrorData;
        (*data).elevel = pgrx::PgLogLevel::ERROR as i32;
        (*data).sqlerrcode = refusal.code as i32;
        (*data).message = copy(&refusal.message);
        (*data).detail = optional(refusal.detail.as_deref());
        (*data).hint = optional(refusal.hint.as_deref());
        (*data).constraint_name = optional(refusal.constraint);
        (*data).schema_name = optional(refusal.table.as_ref().map(|t| t.0.as_str()));
        (*data).table_name = optional(refusal.table.as_ref().map(|t| t.1.as_str()));
        data
    }
}

#[cfg(test)]
mod tests {
    use super::without_statement;

    fn left(context: &str, sql: &str) -> Option<String> {
        without_statement(context.as_bytes(), sql.as_bytes()).map(|rest| String::from_utf8(rest).unwrap())
    }

    #[test]
    fn the_innermost_line_that_names_the_statement_goes() {
        assert_eq!(
            left("a\nSQL statement \"x\"\nb\nSQL statement \"x\"", "x"),
            Some("a\nb\nSQL statement \"x\"".into())
        );
        assert_eq!(left("SQL-Anweisung »x«\nb", "x"), Some("b".into()));
        assert_eq!(left("a\nSQL statement \"x\ny\"", "x\ny"), Some("a".into()));
        assert_eq!(left("SQL statement \"x\"", "x"), Some(String::new()));
        assert_eq!(left("SQL statement \"y\"", "x"), None);
    }
}
