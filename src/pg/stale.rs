//! Is an org of a tree flagged to have stale paths? One probe of the registry's index, past row
//! security, whoever asks.

use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

/// Under the statement's own snapshot, the one its rows are read by: the flag goes in the
/// transaction that mends the paths.
pub fn is_stale(table: Oid, org: &str) -> bool {
    let table = super::relation::partition_root(table);
    // SAFETY: relation, scan and snapshot are opened and closed in pairs; on an error PostgreSQL's
    // resource owner closes them.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), false);
        let index_id = pg_sys::get_relname_relid(c"stale_org_pkey".as_ptr(), namespace);
        let rel_id = pg_sys::get_relname_relid(c"stale_org".as_ptr(), namespace);
        let rel = pg_sys::table_open(rel_id, pg_sys::AccessShareLock as i32);
        let mut keys = [pg_sys::ScanKeyData::default(); 2];
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut keys[0], 1, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(table));
        let org = org.into_datum().expect("text is never null");
        pg_sys::ScanKeyInit(&mut keys[1], 2, equal, pg_sys::F_TEXTEQ.into(), org);
        keys[1].sk_collation = pg_sys::C_COLLATION_OID;
        let snapshot = if pg_sys::ActiveSnapshotSet() {
            pg_sys::GetActiveSnapshot()
        } else {
            pg_sys::GetLatestSnapshot()
        };
        let snapshot = pg_sys::RegisterSnapshot(snapshot);
        let scan = pg_sys::systable_beginscan(rel, index_id, true, snapshot, 2, keys.as_mut_ptr());
        let found = !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
        found
    }
}
