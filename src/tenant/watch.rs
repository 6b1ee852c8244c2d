//! What the event triggers that watch the walls (`sql/engine/watch.sql`) need of Rust: to know our
//! own DDL from everybody else's, and to put a wall up for them.

use super::wall;
use crate::catalog::{Table, ddl, rows};
use crate::error::Refusal;
use crate::pg::{protected, relation, role, scan, xact};
use pgrx::prelude::*;
use std::cell::RefCell;

/// A piece of our own work on walls that is under way.
struct Moving {
    tables: Vec<pg_sys::Oid>,
    /// Has it dropped anything?
    dropped: bool,
}

thread_local! {
    /// The innermost last. No SQL sets it.
    static MOVING: RefCell<Vec<Moving>> = const { RefCell::new(Vec::new()) };
}

struct Moved;

impl Drop for Moved {
    fn drop(&mut self) {
        MOVING.with(|m| m.borrow_mut().pop());
    }
}

/// Runs DDL that takes the walls of these tables down or puts them up: the event triggers let it pass.
/// Nothing of a user's may run inside, since that would pass too.
pub fn moving<R>(tables: Vec<pg_sys::Oid>, work: impl FnOnce() -> R) -> R {
    MOVING.with(|m| m.borrow_mut().push(Moving { tables: tables.clone(), dropped: false }));
    let _moved = Moved;
    let result = work();
    if MOVING.with(|m| m.borrow().last().is_some_and(|moving| moving.dropped)) {
        let args = [tables.into()];
        role::as_extension_owner(|| Spi::run_with_args("SELECT crm_tree._others_stand($1)", &args))
            .unwrap_or_else(|e| error!("{e}"));
    }
    result
}

#[pg_extern(sql = false)]
fn _wall_is_moving(touched: Option<Vec<pg_sys::Oid>>) -> bool {
    MOVING.with(|m| {
        let moving = m.borrow();
        let Some(Moving { tables, .. }) = moving.last() else { return false };
        // Its DDL names tables by text, and their schemas' owners can rename those at any time.
        if touched.into_iter().flatten().any(|relation| !tables.contains(&relation)) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "another table took the place of the one whose wall was to be moved",
            )
            .hint("Somebody renamed it, or its schema. Try again.")
            .raise()
        }
        true
    })
}

#[pg_extern(sql = false)]
fn _drop_is_moving() -> bool {
    MOVING.with(|m| m.borrow_mut().last_mut().map(|moving| moving.dropped = true).is_some())
}

/// Event triggers read the registries and the catalogs as the transaction sees them. One that keeps its
/// snapshot may have taken it before a wall was put up, or before a table was made below one, and would let
/// pass what lowers that wall.
#[pg_extern(sql = false)]
fn _expect_current_walls(touched: Option<Vec<pg_sys::Oid>>) {
    touched.into_iter().flatten().for_each(expect_current);
}

/// Has the relation a wall now, or had it one when somebody looked last, and a command of this transaction has
/// just taken it out of its family?
fn is_walled(relation: pg_sys::Oid) -> bool {
    let mut stands = protected::org_column(relation).is_some();
    scan::by_relation(c"wall_standing", c"wall_standing_pkey", relation, |_| {
        stands = true;
        true
    });
    stands
}

/// Refuses to go by a snapshot that is kept where the table, or one that inheritance or partitioning joins
/// with it, has a wall: by the catalog, which shows what is so now.
pub fn expect_current(relation: pg_sys::Oid) {
    if xact::keeps_one_snapshot() {
        let kin = relation::kin(relation);
        if kin.iter().any(|of| is_walled(*of)) {
            expect_new(relation, kin)
        }
    }
}

/// The same where a wall is to be put up or taken down.
pub fn expect_no_snapshot(relation: pg_sys::Oid) {
    if xact::keeps_one_snapshot() {
        expect_new(relation, relation::kin(relation))
    }
}

fn expect_new(relation: pg_sys::Oid, kin: Vec<pg_sys::Oid>) {
    if !kin.into_iter().all(relation::is_new) {
        refuse_snapshot(relation)
    }
}

fn refuse_snapshot(relation: pg_sys::Oid) -> ! {
    // It may just have been dropped.
    let name = Table::find(relation).map_or_else(|| "it".to_owned(), |table| table.shown());
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_STATE,
        format!(
            "walls are moved, and protected tables altered, at READ COMMITTED: {name} is in a transaction that keeps its snapshot"
        ),
    )
    .detail("The snapshot may not show all that is joined with the table, nor how its wall stands now.")
    .hint("BEGIN ISOLATION LEVEL READ COMMITTED; or, for a command that takes no block, SET default_transaction_isolation = 'read committed';")
    .raise()
}

/// Closes tables for everybody, or opens them again, by a policy that asks nothing. Answers those that are still
/// there. For who has waited for them and may alter them.
#[pg_extern(sql = false)]
fn _wall_off(tables: Vec<pg_sys::Oid>, closed: bool) -> Vec<pg_sys::Oid> {
    let found: Vec<Table> = tables
        .into_iter()
        .filter_map(|table| {
            relation::lock(table);
            Table::find(table)
        })
        .collect();
    let oids: Vec<pg_sys::Oid> = found.iter().map(|table| table.oid).collect();
    moving(oids.clone(), || {
        for table in &found {
            let sql = &table.sql();
            // The prefix: protect() and unprotect() take it away. Another of that name is no policy of ours.
            if has_walled_off(table.oid) {
                ddl(&format!("DROP POLICY crm_tree_walled_off ON {sql}"));
            }
            if closed {
                ddl(&format!("CREATE POLICY crm_tree_walled_off ON {sql} AS RESTRICTIVE USING (false)"));
            }
        }
    });
    oids
}

fn has_walled_off(table: pg_sys::Oid) -> bool {
    let found = rows(
        "SELECT 1 FROM pg_catalog.pg_policy WHERE polrelid OPERATOR(pg_catalog.=) $1 AND polname OPERATOR(pg_catalog.=) 'crm_tree_walled_off'",
        &[table.into()],
        |_| (),
    );
    !found.is_empty()
}

/// Waits until nobody gives these tables a child or takes one away, and keeps it so to the end of the transaction.
#[pg_extern(sql = false)]
fn _lock_against_children(relations: Vec<pg_sys::Oid>) {
    relations.into_iter().for_each(relation::lock_against_children);
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
        moving(vec![table.oid], || wall::raise_wall(&table, &org_type.predicate(org_column)));
    });
}
