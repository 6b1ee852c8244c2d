//! Reading a registry by our own index scan: past row security, under a snapshot taken now,
//! whoever the caller is. Registries have row security without a policy, so no query reads them.

use pgrx::prelude::*;
use pgrx::{PgTupleDesc, pg_sys};
use std::ffi::CStr;

/// A row that was found.
pub struct Found<'a> {
    pub row: PgHeapTuple<'a, AllocatedByRust>,
    tuple: pg_sys::HeapTuple,
    desc: pg_sys::TupleDesc,
}

impl Found<'_> {
    /// A column's value as PostgreSQL writes it; for `name`, which pgrx does not read.
    pub fn shown(&self, column: &CStr) -> Option<String> {
        // SAFETY: tuple and descriptor are the scan's, which stands still while the row is read.
        unsafe {
            let number = pg_sys::SPI_fnumber(self.desc, column.as_ptr());
            let value = pg_sys::SPI_getvalue(self.tuple, self.desc, number);
            (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }

    /// The bytes of a column stored as `bytea` is, whatever its type shows.
    pub fn bytes(&self, column: &CStr) -> Option<Vec<u8>> {
        // SAFETY: as above; the column's values are varlenas.
        unsafe {
            let number = pg_sys::SPI_fnumber(self.desc, column.as_ptr());
            let mut is_null = false;
            let value = pg_sys::SPI_getbinval(self.tuple, self.desc, number, &mut is_null);
            Vec::<u8>::from_datum(value, is_null)
        }
    }
}

/// The rows of `crm_tree.<table>` whose leading column of `index` equals `key` (both text).
/// Each row is handed to `read` as it is found; `read` answers whether to stop.
pub fn by_text_key(table: &CStr, index: &CStr, key: &str, read: impl FnMut(&Found<'_>) -> bool) -> bool {
    let key = key.into_datum().expect("text is never null");
    by_key(table, index, pg_sys::F_TEXTEQ, key, read)
}

/// The same for a key column that is a `regclass`.
pub fn by_relation(
    table: &CStr,
    index: &CStr,
    key: pg_sys::Oid,
    read: impl FnMut(&Found<'_>) -> bool,
) -> bool {
    by_key(table, index, pg_sys::F_OIDEQ, pg_sys::Datum::from(key), read)
}

fn by_key(
    table: &CStr,
    index: &CStr,
    equal: u32,
    key: pg_sys::Datum,
    read: impl FnMut(&Found<'_>) -> bool,
) -> bool {
    scan(table, Some((index, equal, key)), read)
}

/// All rows of `crm_tree.<table>`, for one that has few.
pub fn all(table: &CStr, read: impl FnMut(&Found<'_>) -> bool) -> bool {
    scan(table, None, read)
}

fn scan(
    table: &CStr,
    by: Option<(&CStr, u32, pg_sys::Datum)>,
    mut read: impl FnMut(&Found<'_>) -> bool,
) -> bool {
    // SAFETY: relation and scan are opened and closed in pairs; on an error PostgreSQL's resource
    // owner closes them. The tuple is copied before it is handed on.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), false);
        let rel_id = pg_sys::get_relname_relid(table.as_ptr(), namespace);
        let rel = pg_sys::table_open(rel_id, pg_sys::AccessShareLock as i32);
        let mut scan_key = pg_sys::ScanKeyData::default();
        let mut index_id = pg_sys::Oid::INVALID;
        if let Some((index, equal, key)) = by {
            index_id = pg_sys::get_relname_relid(index.as_ptr(), namespace);
            pg_sys::ScanKeyInit(&mut scan_key, 1, pg_sys::BTEqualStrategyNumber as u16, equal.into(), key);
            scan_key.sk_collation = pg_sys::C_COLLATION_OID;
        }
        let keys = i32::from(by.is_some());
        // No snapshot: one for catalogs is taken, which shows what is committed now and may be taken
        // in a parallel operation too.
        let now = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(rel, index_id, by.is_some(), now, keys, &mut scan_key);
        let mut found = false;
        while !found {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let desc = PgTupleDesc::from_pg_copy((*rel).rd_att);
            let row = PgHeapTuple::from_heap_tuple(desc, tuple).into_owned();
            found = read(&Found { row, tuple, desc: (*rel).rd_att });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
        found
    }
}
