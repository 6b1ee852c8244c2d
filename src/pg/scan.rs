//! Reading a registry by our own index scan: past row security, whoever the caller is. Registries have
//! row security without a policy, so no query reads them.

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

    /// The oid of a column that is one: a `regclass` say.
    pub fn oid(&self, column: &CStr) -> Option<pg_sys::Oid> {
        // SAFETY: as above; the column's values are oids.
        unsafe {
            let number = pg_sys::SPI_fnumber(self.desc, column.as_ptr());
            let mut is_null = false;
            let value = pg_sys::SPI_getbinval(self.tuple, self.desc, number, &mut is_null);
            pg_sys::Oid::from_datum(value, is_null)
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

/// What a column of an index equals.
#[derive(Clone, Copy)]
pub enum Key<'k> {
    /// Of a `regclass`.
    Relation(pg_sys::Oid),
    Text(&'k str),
}

impl Key<'_> {
    fn equal(self) -> u32 {
        match self {
            Key::Relation(_) => pg_sys::F_OIDEQ,
            Key::Text(_) => pg_sys::F_TEXTEQ,
        }
    }

    fn datum(self) -> pg_sys::Datum {
        match self {
            Key::Relation(oid) => oid.into(),
            Key::Text(text) => text.into_datum().expect("text is never null"),
        }
    }
}

/// Which state of a registry is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What is committed now, and the transaction's own.
    Now,
    /// What the calling statement sees.
    ByStatement,
}

/// The rows of `crm_tree.<table>` whose leading column of `index` equals `key`. Each row is handed to
/// `read` as it is found; `read` answers whether to stop.
pub fn by_text_key(table: &CStr, index: &CStr, key: &str, read: impl FnMut(&Found<'_>) -> bool) -> bool {
    by_keys(table, index, &[Key::Text(key)], Seen::Now, read)
}

/// The same for a key column that is a `regclass`.
pub fn by_relation(
    table: &CStr,
    index: &CStr,
    key: pg_sys::Oid,
    read: impl FnMut(&Found<'_>) -> bool,
) -> bool {
    by_keys(table, index, &[Key::Relation(key)], Seen::Now, read)
}

/// The same for the leading columns, one key each, and for a state that is chosen.
pub fn by_keys(
    table: &CStr,
    index: &CStr,
    keys: &[Key<'_>],
    seen: Seen,
    read: impl FnMut(&Found<'_>) -> bool,
) -> bool {
    scan(table, Some((index, keys)), seen, read)
}

/// All rows of `crm_tree.<table>`, for one that has few.
pub fn all(table: &CStr, read: impl FnMut(&Found<'_>) -> bool) -> bool {
    scan(table, None, Seen::Now, read)
}

fn scan(
    table: &CStr,
    by: Option<(&CStr, &[Key<'_>])>,
    seen: Seen,
    mut read: impl FnMut(&Found<'_>) -> bool,
) -> bool {
    // SAFETY: relation and scan are opened and closed in pairs; on an error PostgreSQL's resource
    // owner closes them. The keys' texts outlive the scan, and the tuple is copied before it is handed on.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), false);
        let rel_id = pg_sys::get_relname_relid(table.as_ptr(), namespace);
        let rel = pg_sys::table_open(rel_id, pg_sys::AccessShareLock as i32);
        let (mut index_id, mut keys) = (pg_sys::Oid::INVALID, Vec::new());
        if let Some((index, by)) = by {
            index_id = pg_sys::get_relname_relid(index.as_ptr(), namespace);
            for (column, key) in (1..).zip(by) {
                let mut scan_key = pg_sys::ScanKeyData::default();
                let equal = pg_sys::BTEqualStrategyNumber as u16;
                pg_sys::ScanKeyInit(&mut scan_key, column, equal, key.equal().into(), key.datum());
                scan_key.sk_collation = pg_sys::C_COLLATION_OID;
                keys.push(scan_key);
            }
        }
        // Without a snapshot one for catalogs is taken, which shows what is committed now and may be
        // taken in a parallel operation too.
        let snapshot = if seen == Seen::ByStatement && pg_sys::ActiveSnapshotSet() {
            pg_sys::GetActiveSnapshot()
        } else {
            std::ptr::null_mut()
        };
        let count = keys.len() as i32;
        let scan =
            pg_sys::systable_beginscan(rel, index_id, by.is_some(), snapshot, count, keys.as_mut_ptr());
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
