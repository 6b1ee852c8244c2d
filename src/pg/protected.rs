//! What the registry and the catalog say of a relation's wall, remembered until either changes.

use super::{relation, role, scan, session};
use crate::tenant::org::OrgKind;
use pgrx::pg_sys;
use pgrx::pg_sys::Oid;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};

/// How a relation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not protected.
    Open,
    /// Protected, and the wall is as `protect` put it up.
    Walled,
    /// Protected, and row security is switched off.
    SwitchedOff,
    /// Protected, and the policy `crm_tree_wall` is gone or is another than `protect` made.
    Altered,
    /// A materialized view that holds rows of a protected table.
    Copied,
    /// The TOAST table of a protected one: it has no row security.
    Toast,
}

/// What is remembered of a relation.
#[derive(Clone, Copy)]
struct Known {
    standing: Standing,
    /// The org column's number; 0 where the relation is not protected.
    column: i16,
    /// What its wall compares.
    kind: OrgKind,
    /// A role that row security applies to there, the last one asked for.
    walled: Oid,
}

thread_local! {
    static KNOWN: RefCell<HashMap<Oid, Known>> = RefCell::new(HashMap::new());
    /// Another one with each invalidation: what was read meanwhile is not remembered.
    static VERSION: Cell<u64> = const { Cell::new(0) };
}

/// Called once, when the library is loaded.
pub fn init() {
    // SAFETY: the callbacks never unwind.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(forget), pg_sys::Datum::from(0));
        // A role's attributes and memberships decide who is walled; the owner of the database is a
        // member of pg_database_owner.
        for cache in [
            pg_sys::SysCacheIdentifier::AUTHOID,
            pg_sys::SysCacheIdentifier::AUTHMEMROLEMEM,
            pg_sys::SysCacheIdentifier::DATABASEOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget_roles), pg_sys::Datum::from(0));
        }
    }
}

unsafe extern "C-unwind" fn forget_roles(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    VERSION.set(VERSION.get() + 1);
    KNOWN.with(|known| known.borrow_mut().clear());
}

unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, relation: Oid) {
    VERSION.set(VERSION.get() + 1);
    KNOWN.with(|known| {
        if relation == Oid::INVALID {
            known.borrow_mut().clear();
        } else {
            known.borrow_mut().remove(&relation);
        }
    });
}

fn known(relation: Oid) -> Option<Known> {
    KNOWN.with(|known| known.borrow().get(&relation).copied())
}

/// Is it known already that a statement of this role may touch the relation: because it is open, or
/// because its wall stands before the role, and an org is bound? Cheap, and raises nothing: asked for each table of each
/// statement, outside of any guard.
pub fn is_known_to_pass(relation: Oid, role: Oid) -> bool {
    known(relation).is_some_and(|known| match known.standing {
        Standing::Open => true,
        Standing::Walled => {
            known.walled == role && session::is_bound_as(known.kind) && !role::is_past_forced_row_security()
        }
        Standing::SwitchedOff | Standing::Altered | Standing::Copied | Standing::Toast => false,
    })
}

/// Is it known already that the relation is not protected? As cheap, and as quiet.
pub fn is_known_to_be_open(relation: Oid) -> bool {
    relation.to_u32() < pg_sys::FirstNormalObjectId
        || known(relation).is_some_and(|known| known.standing == Standing::Open)
}

/// How the relation stands.
pub fn standing(relation: Oid) -> Standing {
    look_up(relation).standing
}

/// The number of the org column of a relation whose wall stands.
pub fn column_number(relation: Oid) -> i16 {
    look_up(relation).column
}

/// What the wall of the relation compares with the bound org.
pub fn org_kind(relation: Oid) -> OrgKind {
    look_up(relation).kind
}

fn look_up(relation: Oid) -> Known {
    if let Some(known) = known(relation) {
        return known;
    }
    let before = VERSION.get();
    let (standing, column) = read(relation);
    // SAFETY: a syscache lookup.
    let kind = match unsafe { pg_sys::get_atttype(relation, column) } {
        pg_sys::UUIDOID => OrgKind::Uuid,
        pg_sys::INT8OID | pg_sys::INT4OID | pg_sys::INT2OID => OrgKind::Bigint,
        _ => OrgKind::Text,
    };
    let now = Known { standing, column, kind, walled: Oid::INVALID };
    // A TOAST table is told nothing of what becomes of its table's wall, so it is looked at each time.
    if VERSION.get() == before && !is_toast(relation) {
        KNOWN.with(|known| known.borrow_mut().insert(relation, now));
    }
    now
}

/// Is this the condition of the relation's wall, as it stands in a statement?
pub fn is_wall_of(relation: Oid, condition: *const pg_sys::Node) -> bool {
    // SAFETY: a node of the statement that is being looked at.
    unsafe { is_wall(condition, look_up(relation).column) }
}

/// Would the wall stand before the role, were there no exemption now?
pub fn is_ordinarily_before(relation: Oid, role: Oid) -> bool {
    if !role::is_past_forced_row_security() {
        return known(relation).is_some_and(|known| known.walled == role) || is_before(relation, role);
    }
    role::set_past_forced_row_security(false);
    let walled = role::is_walled(role, relation);
    role::set_past_forced_row_security(true);
    walled
}

/// Does the wall, which stands, stand before this role too?
pub fn is_before(relation: Oid, role: Oid) -> bool {
    let before = VERSION.get();
    let walled = role::is_walled(role, relation);
    // What holds inside of a foreign key's query holds nowhere else, so it is not remembered.
    if walled && !role::is_past_forced_row_security() && VERSION.get() == before {
        KNOWN.with(|known| {
            if let Some(known) = known.borrow_mut().get_mut(&relation) {
                known.walled = role;
            }
        });
    }
    walled
}

fn is_toast(relation: Oid) -> bool {
    // SAFETY: a syscache lookup.
    unsafe { pg_sys::get_rel_relkind(relation) as u8 == b't' }
}

/// How the relation stands, and the number of its org column.
fn read(relation: Oid) -> (Standing, i16) {
    const OPEN: (Standing, i16) = (Standing::Open, 0);
    // SAFETY: catalog lookups; the relation is closed again, also by PostgreSQL after an error.
    unsafe {
        if pg_sys::get_extension_oid(c"crm_tree".as_ptr(), true) == Oid::INVALID {
            return OPEN;
        }
        let rel = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if rel.is_null() {
            return OPEN;
        }
        let kind = (*(*rel).rd_rel).relkind as u8;
        let standing = match kind {
            b'r' | b'p' => table(rel),
            b'm' if shows_protected(relation) => (Standing::Copied, 0),
            b't' if relation::owners_of_toast(relation)
                .into_iter()
                .any(|of| read(of).0 != Standing::Open) =>
            {
                (Standing::Toast, 0)
            }
            _ => OPEN,
        };
        pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
        standing
    }
}

unsafe fn table(rel: pg_sys::Relation) -> (Standing, i16) {
    // SAFETY: the caller holds the relation open.
    unsafe {
        let relation = (*rel).rd_id;
        let Some(column) = org_column(relation) else { return (Standing::Open, 0) };
        if !(*(*rel).rd_rel).relrowsecurity {
            return (Standing::SwitchedOff, 0);
        }
        let number = pg_sys::get_attnum(relation, column.as_ptr());
        let policies = (*rel).rd_rsdesc;
        let stands = !policies.is_null()
            && relation::list((*policies).policies).any(|policy| is_wall_policy(policy.cast(), number))
            && !relation::list((*policies).policies).any(|policy| is_before_wall(policy.cast()));
        if stands { (Standing::Walled, number) } else { (Standing::Altered, 0) }
    }
}

/// The org column by which the relation, or a table that it is a partition or child of, is protected.
pub fn org_column(relation: Oid) -> Option<CString> {
    let mut lineage = vec![relation];
    let mut at = 0;
    while at < lineage.len() {
        let mut column = None;
        scan::by_relation(c"wall", c"wall_pkey", lineage[at], |wall| {
            column = wall.shown(c"org_column");
            true
        });
        if let Some(column) = column {
            return CString::new(column).ok();
        }
        for parent in relation::parents(lineage[at]) {
            if !lineage.contains(&parent) {
                lineage.push(parent);
            }
        }
        at += 1;
    }
    None
}

/// Is it asked before the wall? PostgreSQL has restrictive policies in the order of their names' bytes.
unsafe fn is_before_wall(policy: *const pg_sys::RowSecurityPolicy) -> bool {
    // SAFETY: the relation cache's own policy.
    unsafe { !(*policy).permissive && CStr::from_ptr((*policy).policy_name) < c"crm_tree_wall" }
}

/// Is this the policy that `protect` made: restrictive, for every command and role, the org column
/// equal to the bound org, for reading and for writing?
unsafe fn is_wall_policy(policy: *const pg_sys::RowSecurityPolicy, column: i16) -> bool {
    // SAFETY: the relation cache's own policy; `roles` is an array of oids with one dimension.
    unsafe {
        let policy = &*policy;
        let roles = policy.roles;
        let offset = match (*roles).dataoffset {
            0 => (size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>()).next_multiple_of(8),
            set => set as usize,
        };
        let first = *roles.cast::<u8>().add(offset).cast::<Oid>();
        CStr::from_ptr(policy.policy_name) == c"crm_tree_wall"
            && !policy.permissive
            && policy.polcmd as u8 == b'*'
            && first == Oid::INVALID
            && is_wall(policy.qual.cast(), column)
            && is_wall(policy.with_check_qual.cast(), column)
    }
}

/// A copy of the condition of the wall that stands on the relation.
///
/// # Safety
/// The caller holds the relation, which is `Standing::Walled`, open.
pub unsafe fn condition_of(rel: pg_sys::Relation) -> *mut pg_sys::Node {
    // SAFETY: the relation cache's own policies.
    unsafe {
        let column = look_up((*rel).rd_id).column;
        let policies = (*rel).rd_rsdesc;
        let wall = (!policies.is_null())
            .then(|| {
                relation::list((*policies).policies)
                    .map(|policy| policy.cast::<pg_sys::RowSecurityPolicy>())
                    .find(|policy| is_wall_policy(*policy, column))
            })
            .flatten()
            .expect("the wall stands");
        pg_sys::copyObjectImpl((*wall).qual.cast()).cast()
    }
}

/// Is this the condition of a wall whose org column has that number?
///
/// # Safety
/// A node of a statement or a plan.
pub unsafe fn is_wall(node: *const pg_sys::Node, column: i16) -> bool {
    // SAFETY: each node is read as what its tag says.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_OpExpr {
            return false;
        }
        let operation = &*node.cast::<pg_sys::OpExpr>();
        let args: Vec<*mut pg_sys::Node> = relation::list(operation.args).map(|arg| arg.cast()).collect();
        let [mut left, right] = args[..] else { return false };
        if (*left).type_ == pg_sys::NodeTag::T_RelabelType {
            left = (*left.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        if (*left).type_ != pg_sys::NodeTag::T_Var || (*right).type_ != pg_sys::NodeTag::T_FuncExpr {
            return false;
        }
        let equal =
            [pg_sys::F_UUID_EQ, pg_sys::F_INT8EQ, pg_sys::F_INT48EQ, pg_sys::F_INT28EQ, pg_sys::F_TEXTEQ];
        let org = &*left.cast::<pg_sys::Var>();
        org.varattno == column
            // By another collation more could be equal.
            && operation.inputcollid == org.varcollid
            && equal.contains(&pg_sys::get_opcode(operation.opno).to_u32())
            && is_current_org((*right.cast::<pg_sys::FuncExpr>()).funcid)
    }
}

/// Is this a call of one of the three functions that a wall asks?
///
/// # Safety
/// A node of a statement or a plan.
pub unsafe fn calls_current_org(node: *const pg_sys::Node) -> bool {
    // SAFETY: the node is read as what its tag says.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_FuncExpr
            && is_current_org((*node.cast::<pg_sys::FuncExpr>()).funcid)
    }
}

/// Is this one of the three functions that a wall asks for the bound org?
pub fn is_current_org(function: Oid) -> bool {
    // SAFETY: syscache lookups; the name is palloc'd or null.
    unsafe {
        let name = pg_sys::get_func_name(function);
        !name.is_null()
            && pg_sys::get_func_namespace(function) == pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), true)
            && [c"current_org", c"current_org_bigint", c"current_org_text"].contains(&CStr::from_ptr(name))
    }
}

/// The relations that the rules of a view or materialized view read.
unsafe fn rules_read(rel: pg_sys::Relation) -> Vec<Oid> {
    // SAFETY: the caller holds the relation open, which keeps its rules.
    unsafe {
        let rules = (*rel).rd_rules;
        if rules.is_null() {
            return Vec::new();
        }
        (0..(*rules).numLocks as usize)
            .flat_map(|i| relation::read_by_rule((**(*rules).rules.add(i)).ruleId))
            .filter(|read| *read != (*rel).rd_id)
            .collect()
    }
}

/// Does the view or materialized view show a protected table, by whatever views between?
fn shows_protected(view: Oid) -> bool {
    let mut seen = HashSet::from([view]);
    let mut next = vec![view];
    while let Some(relation) = next.pop() {
        pgrx::check_for_interrupts!();
        // SAFETY: as in `read`.
        unsafe {
            let rel = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
            if rel.is_null() {
                continue;
            }
            let shows = match (*(*rel).rd_rel).relkind as u8 {
                b'r' | b'p' => org_column(relation).is_some(),
                b'v' | b'm' => {
                    next.extend(rules_read(rel).into_iter().filter(|read| seen.insert(*read)));
                    false
                }
                _ => false,
            };
            pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
            if shows {
                return true;
            }
        }
    }
    false
}
