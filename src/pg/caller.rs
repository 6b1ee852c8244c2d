//! A write on the caller's demand, with his rights and behind his wall, the owner's included.

use super::{frames, spi};
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CString;

/// Runs a statement that writes to `table`, named in it, whose arguments are text, and answers how many
/// rows it wrote. It sees what is committed now, also where the transaction keeps one snapshot: a row that
/// this one does not show is then a serialization failure, as for foreign keys.
pub fn write(table: pg_sys::Oid, sql: &str, args: &[&str]) -> u64 {
    let text = CString::new(sql).expect("no NUL in a statement");
    let mut types = vec![pg_sys::TEXTOID; args.len()];
    let mut values: Vec<pg_sys::Datum> =
        args.iter().map(|arg| arg.into_datum().expect("text is never null")).collect();
    let nulls = CString::new(vec![b' '; args.len()]).expect("spaces");
    // SAFETY: connect and finish are paired; on an error PostgreSQL ends the connection, and the plan
    // in it, with the (sub)transaction. All pointers live through the calls.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            error!("could not connect to SPI");
        }
        let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
        if plan.is_null() {
            error!("could not prepare: {sql}");
        }
        frames::naming(table, || spi::execute(plan, &mut values, &nulls));
        let written = pg_sys::SPI_processed;
        pg_sys::SPI_finish();
        written
    }
}
