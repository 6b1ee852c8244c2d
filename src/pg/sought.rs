//! What an index is sought by. Where the planner has put a function of the user's in the place of the bound org, the index
//! finds the rows of whichever org the function names then. The wall drops them, but not before they are counted, where
//! `EXPLAIN ANALYZE` shows it. So the index is sought by the bound org, and the function is asked of what it finds.

use super::enforced::{self, Place};
use super::{protected, relation};
use pgrx::pg_sys::{self, List, Node, NodeTag, Oid, Plan};

/// The org column of a table as conditions of a scan of it name it.
pub(super) struct Org {
    pub table: Oid,
    pub scan: i32,
    pub column: i16,
}

/// Puts the wall in the place of each such condition. `sought` names columns of the index, and `asked`, where the table is
/// read too, the same conditions in the same order by columns of the table. Returns the conditions that are to be asked
/// of what is found.
///
/// # Safety
/// The conditions of an index scan of the table, which the plan has locked.
pub(super) unsafe fn seek_org(index: Oid, org: &Org, sought: *mut List, asked: *mut List) -> *mut List {
    let mut displaced = std::ptr::null_mut();
    // SAFETY: by the caller; the lists have as many cells as they say.
    unsafe {
        let rel = pg_sys::relation_open(index, pg_sys::NoLock as i32);
        for at in 0..relation::list(sought).count() {
            let cell = (*sought).elements.add(at);
            let Some(key) = key_of((*cell).ptr_value.cast()) else { continue };
            let column = (*(*rel).rd_index).indkey.values.as_slice((*(*rel).rd_index).indnatts as usize)
                [key as usize - 1];
            if column != org.column {
                continue;
            }
            let by_index = enforced::wall_of(org.table, Place { varno: pg_sys::INDEX_VAR, number: key });
            let family = *(*rel).rd_opfamily.add(key as usize - 1);
            if !compares_alike((*cell).ptr_value.cast(), by_index, family) {
                continue;
            }
            let was = if asked.is_null() {
                std::mem::replace(&mut (*cell).ptr_value, by_index.cast())
            } else {
                (*cell).ptr_value = by_index.cast();
                let by_table = enforced::wall_of(org.table, Place { varno: org.scan, number: org.column });
                std::mem::replace(&mut (*(*asked).elements.add(at)).ptr_value, by_table.cast())
            };
            displaced = pg_sys::lappend(displaced, was);
        }
        pg_sys::relation_close(rel, pg_sys::NoLock as i32);
    }
    displaced
}

/// The same of what a bitmap is made from. Was there such a condition?
///
/// # Safety
/// What is below a bitmap scan of the table.
pub(super) unsafe fn seek_org_in_bitmap(plan: *mut Plan, org: &Org) -> bool {
    // SAFETY: nodes are read as what their tags say.
    unsafe {
        let below = match (*plan).type_ {
            NodeTag::T_BitmapIndexScan => {
                let scan = &*plan.cast::<pg_sys::BitmapIndexScan>();
                return !seek_org(scan.indexid, org, scan.indexqual, scan.indexqualorig).is_null();
            }
            NodeTag::T_BitmapAnd => (*plan.cast::<pg_sys::BitmapAnd>()).bitmapplans,
            NodeTag::T_BitmapOr => (*plan.cast::<pg_sys::BitmapOr>()).bitmapplans,
            _ => return false,
        };
        let mut was_there = false;
        for plan in relation::list(below) {
            was_there |= seek_org_in_bitmap(plan.cast(), org);
        }
        was_there
    }
}

/// The number of the index's column that a condition compares with what can change: a constant or a parameter is what it is.
unsafe fn key_of(condition: *const Node) -> Option<i16> {
    // SAFETY: nodes are read as what their tags say; an index condition has the column on the left.
    unsafe {
        if (*condition).type_ != NodeTag::T_OpExpr {
            return None;
        }
        let mut args = relation::list((*condition.cast::<pg_sys::OpExpr>()).args).map(|arg| bare(arg.cast()));
        let (left, right) = (args.next()?, args.next()?);
        ((*left).type_ == NodeTag::T_Var
            && !matches!((*right).type_, NodeTag::T_Const | NodeTag::T_Param)
            && !protected::calls_current_org(right))
        .then(|| (*left.cast::<pg_sys::Var>()).varattno)
    }
}

unsafe fn bare(node: *const Node) -> *const Node {
    // SAFETY: the node is read as what its tag says.
    unsafe {
        match (*node).type_ {
            NodeTag::T_RelabelType => (*node.cast::<pg_sys::RelabelType>()).arg.cast(),
            _ => node,
        }
    }
}

/// Is the wall to the index what the condition is: equality, and by the same collation?
unsafe fn compares_alike(condition: *const Node, wall: *const Node, family: Oid) -> bool {
    // SAFETY: both are comparisons; catalog lookups.
    unsafe {
        let (condition, wall) = (&*condition.cast::<pg_sys::OpExpr>(), &*wall.cast::<pg_sys::OpExpr>());
        let strategy = pg_sys::get_op_opfamily_strategy(wall.opno, family);
        strategy != 0
            && strategy == pg_sys::get_op_opfamily_strategy(condition.opno, family)
            && condition.inputcollid == wall.inputcollid
    }
}
