//! Reading a registry by our own index scan: past row security, under a snapshot taken now,
//! whoever the caller is. Registries have row security without a policy, so no query reads them.

use pgrx::prelude::*;
use pgrx::{PgTupleDesc, pg_sys};
use std::ffi::CString;

/// The rows of `crm_tree.<table>` whose leading column of `index` equals `key` (both text).
/// Each row is handed to `read` as it is found; `read` answers whether to stop.
pub fn by_text_key(
    table: &str,
    index: &str,
    key: &str,
    mut read: impl FnMut(&PgHeapTuple<'_, AllocatedByRust>) -> bool,
) -> bool {
    let table = CString::new(table).expect("a constant");
    let index = CString::new(index).expect("a constant");
    let key = key.into_datum().expect("text is never null");
    // SAFETY: relation and scan are opened and closed in pairs; on an error PostgreSQL's resource
    // owner closes them. The tuple is copied before it is handed on.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), false);
        let rel_id = pg_sys::get_relname_relid(table.as_ptr(), namespace);
        let index_id = pg_sys::get_relname_relid(index.as_ptr(), namespace);
        let rel = pg_sys::table_open(rel_id, pg_sys::AccessShareLock as i32);
        let mut scan_key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut scan_key,
            1,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_TEXTEQ.into(),
            key,
        );
        scan_key.sk_collation = pg_sys::C_COLLATION_OID.into();
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(rel, index_id, true, snapshot, 1, &mut scan_key);
        let mut found = false;
        while !found {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let desc = PgTupleDesc::from_pg_copy((*rel).rd_att);
            let row = PgHeapTuple::from_heap_tuple(desc, tuple).into_owned();
            found = read(&row);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
        found
    }
}
