//! The registry of orgs whose stored paths are not kept up. A flag comes and goes in the transactions
//! that leave paths behind and that mend them: readers look by their statement, as at their rows,
//! and whoever holds the org's lock looks at what is so now.

use super::relation;
use super::scan::{self, Key};
use pgrx::pg_sys::Oid;

pub use super::scan::Seen;

const TABLE: &std::ffi::CStr = c"stale_org";
const INDEX: &std::ffi::CStr = c"stale_org_pkey";

/// Is an org of a tree flagged? Of a partition: of its tree.
pub fn is_flagged(table: Oid, org: &str, seen: Seen) -> bool {
    let keys = [Key::Relation(relation::partition_root(table)), Key::Text(org)];
    scan::by_keys(TABLE, INDEX, &keys, seen, |_| true)
}

/// Is any org of a tree flagged now?
pub fn is_any_flagged(tree: Oid) -> bool {
    scan::by_keys(TABLE, INDEX, &[Key::Relation(tree)], Seen::Now, |_| true)
}

/// The flagged orgs of a tree.
pub fn flagged_orgs(table: Oid, seen: Seen) -> Vec<String> {
    let mut orgs = Vec::new();
    scan::by_keys(TABLE, INDEX, &[Key::Relation(relation::partition_root(table))], seen, |found| {
        orgs.extend(found.shown(c"org"));
        false
    });
    orgs.sort_unstable();
    orgs
}
