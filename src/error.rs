//! Every refusal is built here: SQLSTATE, message with the offending value, detail, hint, and the
//! constraint and table it belongs to.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use std::cell::RefCell;

thread_local! {
    /// The refusal raised last. pgrx carries an error through Rust without its constraint and table;
    /// `pg::witness` puts them back from here.
    static LAST: RefCell<Option<Refusal>> = const { RefCell::new(None) };
}

/// An argument that must be given; the function takes nulls for the sake of others.
pub fn given<T>(argument: Option<T>, name: &str) -> T {
    argument.unwrap_or_else(|| {
        Refusal::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{name}\" is null"))
            .hint("It has to be given.")
            .raise()
    })
}

/// One refusal, ready to be raised.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: PgSqlErrorCode,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub constraint: Option<&'static str>,
    pub table: Option<(String, String)>,
}

impl Refusal {
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), detail: None, hint: None, constraint: None, table: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn constraint(mut self, name: &'static str) -> Self {
        self.constraint = Some(name);
        self
    }

    /// Names the table, for clients that read the error's schema and table fields.
    pub fn table(mut self, schema: &str, name: &str) -> Self {
        self.table = Some((schema.to_owned(), name.to_owned()));
        self
    }

    /// Raises the refusal as a PostgreSQL ERROR.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.code, self.message.clone(), "crm_tree");
        if let Some(detail) = &self.detail {
            report = report.set_detail(detail.clone());
        }
        if let Some(hint) = &self.hint {
            report = report.set_hint(hint.clone());
        }
        LAST.with(|last| *last.borrow_mut() = Some(self));
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    /// The refusal raised last, if it is the one with this code and message.
    pub fn raised_last(code: PgSqlErrorCode, message: &str) -> Option<Refusal> {
        LAST.with(|last| last.take().filter(|r| r.code == code && r.message == message))
    }
}
