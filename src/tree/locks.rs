//! The locks that keep paths right under concurrency.
//!
//! Whoever inserts shares the org's lock, whoever moves or deletes has it alone, both to the end of the
//! transaction: a path read from a parent stays true until it is committed, and a mover sees every
//! row below what he moves. A statement in an unbound session cannot know its orgs beforehand and
//! takes the tree's lock instead, which bound statements hold in a mode that meets only those.

use crate::pg::lock::{Mode, Space, for_transaction, key_of};
use crate::pg::{session, xact};
use crate::tenant::binding;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Reads a path and builds on it: an insert.
    Place,
    /// Changes paths that others build on, or takes them away.
    Move,
}

/// What this transaction holds of a tree.
#[derive(Default)]
struct Held {
    all: Option<Work>,
    orgs: HashMap<String, Work>,
}

thread_local! {
    /// A savepoint that rolls back releases what was taken in it, so the memory goes then; asking
    /// PostgreSQL twice is harmless.
    static HELD: RefCell<HashMap<Oid, Held>> = RefCell::new(HashMap::new());
}

pub fn init() {
    xact::at_top_end(forget);
    xact::at_sub_abort(forget);
}

fn forget() {
    HELD.with(|held| held.borrow_mut().clear());
}

/// Takes what `work` on `org` needs; None is every org of the tree.
pub fn take(tree: Oid, org: Option<&str>, work: Work) {
    if is_held(tree, org, work) {
        return;
    }
    let tree_key = u64::from(tree.to_u32());
    match org {
        None => {
            let mode = if work == Work::Move { Mode::All } else { Mode::Write };
            for_transaction(Space::Tree, tree_key, mode);
        }
        Some(org) => {
            let (intent, mode) = match work {
                Work::Place => (Mode::IntendWrite, Mode::Write),
                Work::Move => (Mode::IntendMove, Mode::All),
            };
            for_transaction(Space::Tree, tree_key, intent);
            for_transaction(Space::TreeOrg, key_of(tree, org), mode);
        }
    }
    HELD.with(|h| {
        let mut all = h.borrow_mut();
        let held = all.entry(tree).or_default();
        match org {
            None => held.all = Some(work),
            Some(org) => {
                held.orgs.insert(org.to_owned(), work);
            }
        }
    });
}

fn is_held(tree: Oid, org: Option<&str>, work: Work) -> bool {
    HELD.with(|h| {
        h.borrow().get(&tree).is_some_and(|held| {
            held.all >= Some(work) || org.and_then(|org| held.orgs.get(org).copied()) >= Some(work)
        })
    })
}

/// Waits until this transaction alone computes `about` for the bound org. Nobody locks another org
/// out: users' advisory locks are elsewhere, and this takes the bound one's only.
#[pg_extern(sql = false)]
fn lock_org_work(about: Oid) {
    let Some(org) = session::org() else { binding::refuse_unbound("key") };
    for_transaction(Space::OrgWork, key_of(about, &org), Mode::All);
}
