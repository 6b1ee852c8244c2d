//! The registry of orgs whose stored paths are not kept up. Probed by our own index scan: past row
//! security, whoever asks.

use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;

/// Which flags count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Those that the calling statement sees, as it sees its rows: the flag comes and goes in the
    /// transactions that leave paths behind and that mend them.
    ByStatement,
    /// Those committed by now, and the transaction's own. For whoever holds the org's lock.
    Now,
}

/// Is an org of a tree flagged? Of a partition: of its tree.
pub fn is_flagged(table: Oid, org: &str, seen: Seen) -> bool {
    let mut found = false;
    scan(table, Some(org), seen, |_| found = true);
    found
}

/// The flagged orgs of a tree.
pub fn flagged_orgs(table: Oid, seen: Seen) -> Vec<String> {
    let mut orgs = Vec::new();
    scan(table, None, seen, |org| orgs.push(org.to_owned()));
    orgs.sort_unstable();
    orgs
}

/// Hands each flagged org to `found`.
fn scan(table: Oid, org: Option<&str>, seen: Seen, mut found: impl FnMut(&str)) {
    let table = super::relation::partition_root(table);
    let equal = pg_sys::BTEqualStrategyNumber as u16;
    let mut keys = [pg_sys::ScanKeyData::default(); 2];
    // SAFETY: the keys are those of the index, (oid, text); the text outlives the scan. Relation, scan and
    // snapshot are opened and closed in pairs; on an error PostgreSQL's resource owner closes them.
    unsafe {
        pg_sys::ScanKeyInit(&mut keys[0], 1, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(table));
        if let Some(org) = org {
            let org = org.into_datum().expect("text is never null");
            pg_sys::ScanKeyInit(&mut keys[1], 2, equal, pg_sys::F_TEXTEQ.into(), org);
            keys[1].sk_collation = pg_sys::C_COLLATION_OID;
        }
        let count = if org.is_some() { 2 } else { 1 };
        let namespace = pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), false);
        let index_id = pg_sys::get_relname_relid(c"stale_org_pkey".as_ptr(), namespace);
        let rel_id = pg_sys::get_relname_relid(c"stale_org".as_ptr(), namespace);
        let rel = pg_sys::table_open(rel_id, pg_sys::AccessShareLock as i32);
        let snapshot = if seen == Seen::ByStatement && pg_sys::ActiveSnapshotSet() {
            pg_sys::GetActiveSnapshot()
        } else {
            pg_sys::GetLatestSnapshot()
        };
        let snapshot = pg_sys::RegisterSnapshot(snapshot);
        let scan = pg_sys::systable_beginscan(rel, index_id, true, snapshot, count, keys.as_mut_ptr());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let org = pg_sys::SPI_getvalue(tuple, (*rel).rd_att, 2);
            found(&CStr::from_ptr(org).to_string_lossy());
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
    }
}
