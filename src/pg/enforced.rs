//! Sees to it that each scan of a protected table asks the wall first.
//!
//! Row security puts its condition into the statement, and the planner takes care that what can tell of a row is
//! asked behind it. What it takes for silent is not: a function that is given no column counts as leak-proof to it,
//! whatever the function does, and `CASE WHEN secret = 'x' THEN f() END` with it. And it is free to put other
//! conditions in the wall's place: of `org = current_org()` and a user's `org = f()` it keeps the second and
//! compares `f()` with `current_org()` once, as if a function that says STABLE could not say one thing there and
//! another at the rows. So finished plans are gone through, and the wall is put in front, or put back.

use super::planned::bare;
use super::protected::{self, Standing};
use super::{distance, frames, relation, role, sought};
use pgrx::pg_sys::{self, List, Node, NodeTag, Oid, Plan, PlannedStmt, RangeTblEntry, Scan};
use pgrx::prelude::*;

/// Where the org column of a scanned table is found: as a column of the table, or of an index.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub varno: i32,
    pub number: i16,
}

/// Where a call of `current_org…()` stands that is asked of rows, in place of where it stands in a text. Of what is stored
/// in the catalog, as a policy is, that is not known.
const CONDITION: i32 = -2;

/// Is the call part of a condition that a finished plan asks of rows, and that nobody wrote into the statement?
pub(super) unsafe fn is_condition(call: *const Node) -> bool {
    // SAFETY: null, or the expression of the call.
    unsafe {
        !call.is_null()
            && (*call).type_ == NodeTag::T_FuncExpr
            && (*call.cast::<pg_sys::FuncExpr>()).location == CONDITION
    }
}

static mut NEXT_INFO: pg_sys::get_relation_info_hook_type = None;

/// Called once, when the library is loaded.
pub(super) fn init() {
    // SAFETY: the hook has the signature PostgreSQL expects and hands on to whoever was there.
    unsafe {
        NEXT_INFO = pg_sys::get_relation_info_hook;
        pg_sys::get_relation_info_hook = Some(informed);
    }
}

/// What the planner knows of a table, before it looks for ways to read it.
unsafe extern "C-unwind" fn informed(
    root: *mut pg_sys::PlannerInfo,
    table: Oid,
    is_parent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: PostgreSQL's own arguments are handed on.
    unsafe {
        if let Some(next) = NEXT_INFO {
            next(root, table, is_parent, info);
        }
        let is_partial =
            |index: *mut std::ffi::c_void| !(*index.cast::<pg_sys::IndexOptInfo>()).indpred.is_null();
        if relation::list((*info).indexlist).any(is_partial) && !protected::is_known_to_be_open(table) {
            keep_to_org(table, info);
        }
    }
}

/// A partial index that cannot tell the org is not read alone. It would be where its own condition takes the place of
/// the wall, and that one may call a function that said another org when the index was made.
#[pg_guard]
unsafe extern "C-unwind" fn keep_to_org(table: Oid, info: *mut pg_sys::RelOptInfo) {
    if protected::standing(table) != Standing::Walled {
        return;
    }
    let org = i32::from(protected::column_number(table));
    // SAFETY: the planner's own; the arrays have an element for each column.
    unsafe {
        for index in relation::list((*info).indexlist) {
            let index = &*index.cast::<pg_sys::IndexOptInfo>();
            if index.canreturn.is_null() {
                continue;
            }
            let columns = index.ncolumns as usize;
            let keys = std::slice::from_raw_parts(index.indexkeys, columns);
            let returned = std::slice::from_raw_parts_mut(index.canreturn, columns);
            if !keys.iter().zip(&*returned).any(|(key, returns)| *key == org && *returns) {
                returned.fill(false);
            }
        }
    }
}

/// Called from within PostgreSQL's walker, which no panic is to go through.
#[pg_guard]
unsafe extern "C-unwind" fn asks_for_org(function: Oid) -> bool {
    protected::is_current_org(function)
}

unsafe extern "C-unwind" fn mark(node: *mut Node, context: *mut std::ffi::c_void) -> bool {
    // SAFETY: nodes of the plan, which are its own, are read as what their tags say.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == NodeTag::T_FuncExpr {
            let call = &mut *node.cast::<pg_sys::FuncExpr>();
            if call.location == -1 && call.args.is_null() && asks_for_org(call.funcid) {
                call.location = CONDITION;
            }
        }
        bare::expression_tree_walker(node, mark, context)
    }
}

unsafe fn mark_all(conditions: *mut List) {
    // SAFETY: a list of the plan's, or none.
    unsafe { mark(conditions.cast(), std::ptr::null_mut()) };
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn enforce(stmt: *mut PlannedStmt) {
    // SAFETY: the planner's finished plan, which nobody else has seen.
    unsafe {
        for plan in
            std::iter::once((*stmt).planTree).chain(relation::list((*stmt).subplans).map(|plan| plan.cast()))
        {
            visit(stmt, plan);
        }
    }
}

unsafe fn visit(stmt: *const PlannedStmt, plan: *mut Plan) {
    // SAFETY: nodes are read as what their tags say.
    unsafe {
        if plan.is_null() {
            return;
        }
        let mut below: *mut List = std::ptr::null_mut();
        match (*plan).type_ {
            NodeTag::T_SeqScan | NodeTag::T_SampleScan | NodeTag::T_TidScan | NodeTag::T_TidRangeScan => {
                look_at_scan(stmt, plan, &Found::nowhere());
            }
            NodeTag::T_IndexScan => {
                let scan = &mut *plan.cast::<pg_sys::IndexScan>();
                mark_all(scan.indexqual);
                mark_all(scan.indexqualorig);
                let mut found = Found::nowhere();
                (found.index, found.sought) = (scan.indexid, scan.indexqual);
                (found.by, found.distances) = (scan.indexqualorig, scan.indexorderbyorig);
                // A B-tree is sure of what it finds.
                if access_method(scan.indexid) != pg_sys::BTREE_AM_OID {
                    found.asked_again = &raw mut scan.indexqualorig;
                }
                look_at_scan(stmt, plan, &found);
            }
            NodeTag::T_IndexOnlyScan => {
                let scan = &mut *plan.cast::<pg_sys::IndexOnlyScan>();
                mark_all(scan.indexqual);
                mark_all(scan.recheckqual);
                let mut found = Found::nowhere();
                (found.index, found.sought, found.by) = (scan.indexid, scan.indexqual, scan.indexqual);
                found.asked_again = &raw mut scan.recheckqual;
                look_at_scan(stmt, plan, &found);
            }
            NodeTag::T_BitmapIndexScan => mark_all((*plan.cast::<pg_sys::BitmapIndexScan>()).indexqual),
            NodeTag::T_BitmapHeapScan => {
                let scan = &mut *plan.cast::<pg_sys::BitmapHeapScan>();
                mark_all(scan.bitmapqualorig);
                let mut found = Found::nowhere();
                (found.bitmap, found.by) = ((*plan).lefttree, scan.bitmapqualorig);
                found.asked_again = &raw mut scan.bitmapqualorig;
                look_at_scan(stmt, plan, &found);
            }
            NodeTag::T_CustomScan => {
                let scan = &*plan.cast::<pg_sys::CustomScan>();
                if scan.custom_scan_tlist.is_null() {
                    look_at_scan(stmt, plan, &Found::nowhere());
                }
                below = scan.custom_plans;
            }
            NodeTag::T_SubqueryScan => visit(stmt, (*plan.cast::<pg_sys::SubqueryScan>()).subplan),
            NodeTag::T_Append => below = (*plan.cast::<pg_sys::Append>()).appendplans,
            NodeTag::T_MergeAppend => below = (*plan.cast::<pg_sys::MergeAppend>()).mergeplans,
            NodeTag::T_BitmapAnd => below = (*plan.cast::<pg_sys::BitmapAnd>()).bitmapplans,
            NodeTag::T_BitmapOr => below = (*plan.cast::<pg_sys::BitmapOr>()).bitmapplans,
            _ => {}
        }
        for child in relation::list(below) {
            visit(stmt, child.cast());
        }
        mark_all((*plan).qual);
        visit(stmt, (*plan).lefttree);
        visit(stmt, (*plan).righttree);
    }
}

/// How an index comes in: which, and what it is sought by, or the bitmap that several make; what that means of rows; where
/// the executor asks it again of each row, before any other condition; and what the rows are ordered by.
struct Found {
    index: Oid,
    sought: *mut List,
    bitmap: *mut Plan,
    by: *mut List,
    asked_again: *mut *mut List,
    distances: *mut List,
}

impl Found {
    fn nowhere() -> Self {
        Found {
            index: Oid::INVALID,
            sought: std::ptr::null_mut(),
            bitmap: std::ptr::null_mut(),
            by: std::ptr::null_mut(),
            asked_again: std::ptr::null_mut(),
            distances: std::ptr::null_mut(),
        }
    }
}

unsafe fn look_at_scan(stmt: *const PlannedStmt, plan: *mut Plan, found: &Found) {
    // SAFETY: a scan of the plan; its entry is in the plan's list, which counts from one.
    unsafe {
        let at = (*plan.cast::<Scan>()).scanrelid;
        let Some(entry) = entry(stmt, at) else { return };
        let table = (*entry).relid;
        if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION
            || protected::is_known_to_be_open(table)
            || !stands_before(table, checked_as(stmt, at))
        {
            return;
        }
        let column = protected::column_number(table);
        let org = place_of_org(plan, at, column);
        let sought = sought::Org { table, scan: at as i32, column };
        let displaced = if found.index != Oid::INVALID {
            let by_table = if found.by == found.sought { std::ptr::null_mut() } else { found.by };
            sought::seek_org(found.index, &sought, found.sought, by_table)
        } else if !found.bitmap.is_null() && sought::seek_org_in_bitmap(found.bitmap, &sought) {
            pg_sys::copyObjectImpl(found.by.cast()).cast()
        } else {
            std::ptr::null_mut()
        };
        (*plan).qual = pg_sys::list_concat((*plan).qual, displaced);
        let is_found_by_org =
            relation::list(found.by).any(|qual| protected::is_wall(qual.cast(), org.number));
        if !found.asked_again.is_null() && !(*found.asked_again).is_null() {
            put_first(found.asked_again, table, org);
        }
        if is_found_by_org {
            return;
        }
        distance::expect_one_value(table, found.distances);
        put_first(&raw mut (*plan).qual, table, org);
    }
}

/// In place of one that the user wrote himself, which would raise.
unsafe fn put_first(conditions: *mut *mut List, table: Oid, org: Place) {
    // SAFETY: conditions of the plan's.
    unsafe {
        if let Some(same) =
            relation::list(*conditions).find(|qual| protected::is_wall(qual.cast(), org.number))
        {
            *conditions = pg_sys::list_delete_ptr(*conditions, same);
        }
        *conditions = pg_sys::lcons(wall_of(table, org).cast(), *conditions);
    }
}

unsafe fn access_method(index: Oid) -> Oid {
    // SAFETY: the planner has the index locked, and so open.
    unsafe {
        let rel = pg_sys::relation_open(index, pg_sys::NoLock as i32);
        let method = (*(*rel).rd_rel).relam;
        pg_sys::relation_close(rel, pg_sys::NoLock as i32);
        method
    }
}

unsafe fn place_of_org(plan: *const Plan, at: u32, column: i16) -> Place {
    // SAFETY: the node is read as what its tag says.
    unsafe {
        if (*plan).type_ != NodeTag::T_IndexOnlyScan {
            return Place { varno: at as i32, number: column };
        }
        let entry = relation::list((*plan.cast::<pg_sys::IndexOnlyScan>()).indextlist)
            .map(|entry| entry.cast::<pg_sys::TargetEntry>())
            .find(|entry| !(**entry).resjunk && is_column((**entry).expr.cast(), column))
            .expect("only an index that has the org is read alone");
        Place { varno: pg_sys::INDEX_VAR, number: (*entry).resno }
    }
}

unsafe fn is_column(node: *const Node, column: i16) -> bool {
    // SAFETY: the node is read as what its tag says.
    unsafe { (*node).type_ == NodeTag::T_Var && (*node.cast::<pg_sys::Var>()).varattno == column }
}

unsafe fn entry(stmt: *const PlannedStmt, at: u32) -> Option<*const RangeTblEntry> {
    // SAFETY: the plan's list.
    unsafe {
        relation::list((*stmt).rtable)
            .nth((at as usize).checked_sub(1)?)
            .map(|entry| entry.cast_const().cast())
    }
}

/// As whom the statement reads the table: what it says of the partitioned table, or of the parent, it means of those
/// below.
unsafe fn checked_as(stmt: *const PlannedStmt, mut at: u32) -> Oid {
    // SAFETY: the plan's lists.
    unsafe {
        loop {
            let parent = relation::list((*stmt).appendRelations)
                .map(|info| info.cast::<pg_sys::AppendRelInfo>())
                .find(|info| (**info).child_relid == at)
                .map(|info| (*info).parent_relid);
            match parent.and_then(|parent| Some((parent, entry(stmt, parent)?))) {
                Some((parent, entry)) if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION => at = parent,
                _ => break entry(stmt, at).map_or(Oid::INVALID, |entry| checked_by(stmt, entry)),
            }
        }
    }
}

#[cfg(feature = "pg15")]
unsafe fn checked_by(_stmt: *const PlannedStmt, entry: *const RangeTblEntry) -> Oid {
    // SAFETY: an entry of the plan.
    unsafe { (*entry).checkAsUser }
}

#[cfg(not(feature = "pg15"))]
unsafe fn checked_by(stmt: *const PlannedStmt, entry: *const RangeTblEntry) -> Oid {
    // SAFETY: an entry of the plan, which counts from one in the plan's list.
    unsafe {
        let info = ((*entry).perminfoindex as usize).checked_sub(1);
        info.and_then(|info| relation::list((*stmt).permInfos).nth(info))
            .map_or(Oid::INVALID, |info| (*info.cast::<pg_sys::RTEPermissionInfo>()).checkAsUser)
    }
}

/// Has the statement the wall's condition on this table? That it has where it should was seen before it was planned.
fn stands_before(table: Oid, as_user: Oid) -> bool {
    let user = if as_user == Oid::INVALID { role::current() } else { as_user };
    let is_exempt =
        || as_user == Oid::INVALID && (role::is_open_work() || frames::is_own() || frames::is_foreign_keys());
    // An owner's ALTER TABLE can run his functions while it is at work, which find the wall not forced on him.
    let is_before = || {
        protected::is_ordinarily_before(table, user)
            || !role::is_superuser(user) && !role::bypasses_row_security(user)
    };
    protected::standing(table) == Standing::Walled && is_before() && !is_exempt()
}

/// The wall's condition, on the org column where it is found.
pub(super) unsafe fn wall_of(table: Oid, org: Place) -> *mut Node {
    // SAFETY: the plan has the table locked; the policy's condition, a comparison of a column, is copied.
    unsafe {
        let rel = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let wall = protected::condition_of(rel);
        pg_sys::relation_close(rel, pg_sys::NoLock as i32);
        let mut column: *mut Node =
            relation::list((*wall.cast::<pg_sys::OpExpr>()).args).next().expect("it compares").cast();
        if (*column).type_ == NodeTag::T_RelabelType {
            column = (*column.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        let column = &mut *column.cast::<pg_sys::Var>();
        (column.varno, column.varattno) = (org.varno, org.number);
        mark(wall, std::ptr::null_mut());
        wall
    }
}
