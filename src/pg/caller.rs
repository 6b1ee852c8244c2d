//! What is done on the caller's demand, with his rights and behind his wall, the owner's included. It sees
//! what is committed now, also where the transaction keeps one snapshot.

use super::witness::{unguarded, whole};
use super::{frames, settings, spi};
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CString;

/// Runs a statement that writes to `table`, named in it, whose arguments are text, and answers how many
/// rows it wrote. A row that the transaction's one snapshot does not show is a serialization failure, as
/// for foreign keys.
pub fn write(table: pg_sys::Oid, sql: &str, args: &[&str]) -> u64 {
    let args: Vec<Option<&str>> = args.iter().copied().map(Some).collect();
    // SAFETY: reads backend state.
    run(Some(table), sql, &args, || unsafe { pg_sys::SPI_processed })
}

/// Runs a query whose columns and arguments are text.
pub fn read<const N: usize>(sql: &str, args: &[Option<&str>]) -> spi::Rows<N> {
    // SAFETY: called when the query has run.
    settings::on_safe_path(|| run(None, sql, args, || unsafe { spi::copy_rows() }))
}

fn run<R>(table: Option<pg_sys::Oid>, sql: &str, args: &[Option<&str>], answer: impl FnOnce() -> R) -> R {
    let text = CString::new(sql).expect("no NUL in a statement");
    let mut types = vec![pg_sys::TEXTOID; args.len()];
    let nulls: Vec<u8> = args.iter().map(|arg| if arg.is_none() { b'n' } else { b' ' }).collect();
    let nulls = CString::new(nulls).expect("letters and spaces");
    let mut values: Vec<pg_sys::Datum> =
        args.iter().map(|arg| arg.into_datum().unwrap_or(pg_sys::Datum::from(0))).collect();
    // SAFETY: connect and finish are paired; on an error PostgreSQL ends the connection, and the plan
    // in it, with the (sub)transaction. All pointers live through the calls.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            error!("could not connect to SPI");
        }
        let (source, count, types) = (text.as_ptr(), types.len() as i32, types.as_mut_ptr());
        let plan = whole(sql, || unguarded::SPI_prepare(source, count, types));
        if plan.is_null() {
            error!("could not prepare: {sql}");
        }
        let mut execute = || spi::execute(sql, plan, &mut values, &nulls);
        match table {
            Some(table) => frames::naming(table, execute),
            None => execute(),
        }
        let result = answer();
        pg_sys::SPI_finish();
        result
    }
}
