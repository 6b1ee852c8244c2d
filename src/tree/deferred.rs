//! Orgs whose paths are not kept up.
//!
//! With `crm_tree.defer_paths` on, the first move flags its org, and leaves every path as it is but its own
//! row's, which goes. Until `repair_tree` has put the paths right, everything in the org goes by the parent
//! links, whatever the setting says then.
//!
//! The flag is a row, so it is rolled back with what it stands for. It is set and cleared by whoever holds the
//! org's lock alone: who shares the lock knows it to the end of his transaction.

use crate::pg::relation::{self, Remembered};
use crate::pg::spi::{self, Arg};
use crate::pg::stale::{self, Seen};
use crate::pg::trigger::{Call, Outcome};
use crate::pg::{role, xact};
use crate::tenant::wall;
use pgrx::pg_sys::Oid;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

static DEFER: GucSetting<bool> = GucSetting::<bool>::new(false);

type TreeOrg = (Oid, String);

thread_local! {
    /// Has the tree flagged orgs? Each transaction that inserts asks, and a look at the registry costs as much as
    /// one at the parent's row.
    static ANY: RefCell<Remembered<bool>> = RefCell::default();
    /// What was found under the org's lock.
    static KNOWN: RefCell<HashMap<TreeOrg, bool>> = RefCell::new(HashMap::new());
    /// Orgs found flagged by this transaction's writes. Its snapshot may be older than the flag, and
    /// show the rows it has written without a path all the same.
    static WRITTEN: RefCell<HashSet<TreeOrg>> = RefCell::new(HashSet::new());
}

pub fn init() {
    GucRegistry::define_bool_guc(
        c"crm_tree.defer_paths",
        c"Whether moves leave the paths below them to crm_tree.repair_tree().",
        c"Until then whatever reads or changes the org's tree goes by the parent links: slower, with the same answers.",
        &DEFER,
        GucContext::Userset,
        GucFlags::default(),
    );
    xact::at_top_end(|| {
        KNOWN.with(|k| k.borrow_mut().clear());
        WRITTEN.with(|w| w.borrow_mut().clear());
    });
    // The lock goes with the savepoint that took it, and so does the flag.
    xact::at_sub_abort(|| KNOWN.with(|k| k.borrow_mut().clear()));
}

fn remember(tree_org: &TreeOrg, flagged: bool) {
    KNOWN.with(|k| k.borrow_mut().insert(tree_org.clone(), flagged));
    if flagged {
        WRITTEN.with(|w| w.borrow_mut().insert(tree_org.clone()));
    }
}

/// Does the org go by links? For whoever holds its lock.
pub fn is_flagged(tree_org: &TreeOrg) -> bool {
    if let Some(known) = KNOWN.with(|k| k.borrow().get(tree_org).copied()) {
        return known;
    }
    // Whoever flagged the org told of it before he gave its lock back: see `changed`.
    relation::hear_of_changes();
    let tree = relation::partition_root(tree_org.0);
    if !Remembered::get(&ANY, tree, || stale::is_any_flagged(tree)) {
        return false;
    }
    let flagged = stale::is_flagged(tree, &tree_org.1, Seen::Now);
    remember(tree_org, flagged);
    flagged
}

/// AFTER STATEMENT, on the registry: every session looks again whether a tree has flagged orgs.
pub fn changed<'a>(call: &Call<'a>) -> Outcome<'a> {
    relation::invalidate(call.relation());
    Outcome::Done
}

/// Would a move now leave the paths as they are? Without a lock: true for the moment.
pub fn would_defer(tree: Oid, org: &str) -> bool {
    DEFER.get() || stale::is_flagged(tree, org, Seen::Now)
}

/// Does a move leave the paths as they are? Flags the org where the setting asks for it. Under the
/// org's exclusive lock.
pub fn defers(tree_org: &TreeOrg) -> bool {
    if is_flagged(tree_org) {
        return true;
    }
    if !DEFER.get() {
        return false;
    }
    let (tree, org) = tree_org;
    role::as_extension_owner(|| {
        spi::write::<0>(
            "INSERT INTO crm_tree.stale_org (relation, org) VALUES ($1::pg_catalog.oid, $2) ON CONFLICT DO NOTHING",
            vec![Arg::Text(&tree.to_u32().to_string()), Arg::Text(org)],
        )
    });
    remember(tree_org, true);
    true
}

/// Takes the flag away. By who has seen, under the org's exclusive lock, that the paths are right.
pub fn clear(tree_org: &TreeOrg) {
    let (tree, org) = tree_org;
    role::as_extension_owner(|| {
        spi::write::<0>(
            "DELETE FROM crm_tree.stale_org AS s
              WHERE s.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND s.org OPERATOR(pg_catalog.=) $2",
            vec![Arg::Text(&tree.to_u32().to_string()), Arg::Text(org)],
        )
    });
    KNOWN.with(|k| k.borrow_mut().insert(tree_org.clone(), false));
    WRITTEN.with(|w| w.borrow_mut().remove(tree_org));
}

/// Takes the flags of a table away that is no tree any more.
pub fn forget(tree: Oid) {
    for org in stale::flagged_orgs(tree, Seen::Now) {
        clear(&(tree, org));
    }
}

/// Is a reader to go by links? By the snapshot of the statement that reads.
pub fn reads_links(tree: Oid, org: &str) -> bool {
    let tree = relation::partition_root(tree);
    stale::is_flagged(tree, org, Seen::ByStatement)
        || WRITTEN.with(|w| {
            let written = w.borrow();
            !written.is_empty() && written.contains(&(tree, org.to_owned()))
        })
}

/// The same for who names the org himself: of one that row security keeps from him he is not told. By links
/// he sees nothing of it.
pub fn reads_links_of_named(tree: Oid, org: &str) -> bool {
    !wall::may_be_told(role::current(), tree, org) || reads_links(tree, org)
}

/// The orgs of a tree whose readers go by links.
pub fn orgs_read_by_links(tree: Oid) -> Vec<String> {
    let tree = relation::partition_root(tree);
    let mut orgs = stale::flagged_orgs(tree, Seen::ByStatement);
    WRITTEN.with(|w| {
        orgs.extend(w.borrow().iter().filter(|(of, _)| *of == tree).map(|(_, org)| org.clone()));
    });
    orgs.sort_unstable();
    orgs.dedup();
    orgs
}
