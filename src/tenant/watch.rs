//! What the event triggers that watch the walls (`sql/engine/watch.sql`) need of Rust: to know our
//! own DDL from everybody else's, and to put a wall up for them.

use super::wall;
use crate::catalog::Table;
use crate::error::Refusal;
use crate::pg::scan::{self, Seen};
use crate::pg::{role, xact};
use pgrx::prelude::*;
use std::cell::Cell;
use std::collections::HashSet;

thread_local! {
    /// How many of our own pieces of work on a wall are under way. No SQL sets it.
    static MOVING: Cell<u32> = const { Cell::new(0) };
}

struct Moved;

impl Drop for Moved {
    fn drop(&mut self) {
        MOVING.with(|m| m.set(m.get() - 1));
    }
}

/// Runs DDL that takes walls down or puts them up: the event triggers let it pass. Nothing of a
/// user's may run inside, since that would pass too.
pub fn moving<R>(work: impl FnOnce() -> R) -> R {
    MOVING.with(|m| m.set(m.get() + 1));
    let _moved = Moved;
    work()
}

#[pg_extern(sql = false)]
fn _wall_is_moving() -> bool {
    MOVING.with(Cell::get) > 0
}

/// Event triggers read the registries and the catalogs as the transaction sees them. One that keeps its
/// snapshot may have taken it before a wall was put up, and would let pass what lowers that.
#[pg_extern(sql = false)]
fn _expect_current_walls() {
    if !xact::keeps_one_snapshot() {
        return;
    }
    let standing = |seen| {
        let mut relations = HashSet::new();
        scan::by_keys(c"wall_standing", c"wall_standing_pkey", &[], seen, |wall| {
            relations.extend(wall.oid(c"relation"));
            false
        });
        relations
    };
    let seen = standing(Seen::ByStatement);
    if standing(Seen::Now).iter().any(|relation| !seen.contains(relation)) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "a wall was put up after this transaction took its snapshot, which does not show it",
        )
        .hint("Begin again; DDL is best done at READ COMMITTED.")
        .raise()
    }
}

/// The wall of the table and of all below it stands as we left it; from here on the event triggers
/// keep it so.
pub fn stands(root: pg_sys::Oid) {
    role::as_extension_owner(|| Spi::run_with_args("SELECT crm_tree._wall_stands($1)", &[root.into()]))
        .expect("the registry takes every table");
}

/// The wall was taken down, by who may.
pub fn fell(root: pg_sys::Oid) {
    role::as_extension_owner(|| Spi::run_with_args("SELECT crm_tree._wall_fell($1)", &[root.into()]))
        .expect("the registry lets every table go");
}

/// Puts the wall of its family up on one partition or child, with the rights of its owner.
#[pg_extern(sql = false)]
fn _raise_wall(table: pg_sys::Oid, org_column: &str) {
    let table = Table::get(table);
    let (_, org_type) = wall::expect_org_column(&table, org_column);
    wall::refuse_other_column(&table, org_column);
    role::as_table_owner_confined(table.owner, || {
        moving(|| wall::raise_wall(&table, &org_type.predicate(org_column)));
    });
}
