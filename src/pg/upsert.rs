//! Statements that insert, and may update or delete besides: INSERT … ON CONFLICT DO UPDATE, MERGE, those
//! with a WITH that writes.
//!
//! PostgreSQL fires the BEFORE STATEMENT triggers of INSERT first. A lock taken for an insert alone would
//! have to be raised by those of UPDATE, while others who share it wait to raise theirs.

use super::xact;
use pgrx::pg_sys::{self, Oid};
use std::cell::RefCell;

/// A table that such a statement of this transaction writes.
struct Written {
    relation: Oid,
    deletes: bool,
    /// Attribute numbers of what it updates.
    updates: Vec<i16>,
}

thread_local! {
    static WRITTEN: RefCell<Vec<Written>> = const { RefCell::new(Vec::new()) };
}

/// Called once, when the library is loaded.
pub(super) fn init() {
    xact::at_top_end(|| WRITTEN.with(|w| w.borrow_mut().clear()));
}

/// What a statement does with a relation: the rights it requires, and the columns it updates.
pub(super) type Touched = (Oid, pg_sys::AclMode, *const pg_sys::Bitmapset);

/// Told of the relations that a statement touches, before its triggers fire. A WITH may have it touch one
/// twice.
///
/// # Safety
/// The sets of columns are the statement's, or null.
#[inline]
pub(super) unsafe fn note(touched: impl Iterator<Item = Touched> + Clone) {
    if !touched.clone().any(|(_, required, _)| has(required, pg_sys::ACL_INSERT)) {
        return;
    }
    for one in touched {
        if has(one.1, pg_sys::ACL_UPDATE | pg_sys::ACL_DELETE) {
            // SAFETY: as the caller says.
            unsafe { remember(one) }
        }
    }
}

fn has(required: pg_sys::AclMode, right: u32) -> bool {
    required & right as pg_sys::AclMode != 0
}

unsafe fn remember((relation, required, updated): Touched) {
    WRITTEN.with(|w| {
        let mut all = w.borrow_mut();
        let known = all.iter().position(|written| written.relation == relation).unwrap_or_else(|| {
            all.push(Written { relation, deletes: false, updates: Vec::new() });
            all.len() - 1
        });
        let written = &mut all[known];
        written.deletes |= has(required, pg_sys::ACL_DELETE);
        let mut member = -1;
        loop {
            // SAFETY: as the caller says; raises nothing.
            member = unsafe { pg_sys::bms_next_member(updated, member) };
            if member < 0 {
                break;
            }
            // Counted from the first system column.
            let column = (member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16;
            if !written.updates.contains(&column) {
                written.updates.push(column);
            }
        }
    });
}

/// May a statement of this transaction that inserts into the table delete from it too, or update such a column?
pub fn may_change(relation: Oid, such: impl Fn(i16) -> bool) -> bool {
    WRITTEN.with(|w| {
        let all = w.borrow();
        let mut of_it = all.iter().filter(|written| written.relation == relation);
        of_it.any(|written| written.deletes || written.updates.iter().any(|column| such(*column)))
    })
}
