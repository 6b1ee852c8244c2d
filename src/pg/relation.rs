//! Relations as the trees and walls see them.

use super::settings;
use super::xact::INVALID_SUBTRANSACTION;
use pgrx::pg_sys::Oid;
use pgrx::{IntoDatum, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::thread::LocalKey;

/// The topmost partitioned table above `relation`, or the relation itself.
pub fn partition_root(relation: Oid) -> Oid {
    // SAFETY: a catalog lookup; the function takes one oid and answers null or an oid.
    unsafe {
        if !pg_sys::get_rel_relispartition(relation) {
            return relation;
        }
        pgrx::direct_function_call::<Oid>(pg_sys::pg_partition_root, &[relation.into_datum()])
            .unwrap_or(relation)
    }
}

thread_local! {
    static CHANGED: Cell<bool> = const { Cell::new(true) };
    static VERSION: Cell<u64> = const { Cell::new(0) };
}

/// Starts watching for relation changes. Called once, when the library is loaded.
pub fn init() {
    let schemas = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
    // SAFETY: the callbacks set a flag and never unwind.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_change), pg_sys::Datum::from(0));
        // Facts and statements name the schema, and renaming one says nothing of the relations in it.
        pg_sys::CacheRegisterSyscacheCallback(schemas, Some(on_schema), pg_sys::Datum::from(0));
    }
}

unsafe extern "C-unwind" fn on_schema(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    note_change();
}

unsafe extern "C-unwind" fn on_change(_arg: pg_sys::Datum, _relation: Oid) {
    note_change();
}

fn note_change() {
    CHANGED.with(|c| c.set(true));
    VERSION.with(|v| v.set(v.get() + 1));
}

/// Has any relation's definition, or a schema's, changed since the last call? Caches of relation facts are then void.
pub fn changed() -> bool {
    CHANGED.with(|c| c.replace(false))
}

/// Has every session, this one included, forget what it remembers of relations.
pub fn invalidate_all() {
    // SAFETY: queues a message, sent when the transaction commits.
    unsafe { pg_sys::CacheInvalidateRelcacheAll() }
}

/// Has every session hear, by the commit of this transaction, that this relation has changed: before its locks
/// are given back.
pub fn invalidate(relation: Oid) {
    // SAFETY: queues a message.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) }
}

/// Hears of what others have changed until now. PostgreSQL does so itself where it locks a relation.
pub fn hear_of_changes() {
    // SAFETY: runs the callbacks that are registered.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// Another one after each change of any relation's definition, or of a schema's.
pub fn version() -> u64 {
    VERSION.with(Cell::get)
}

/// What is remembered of relations until any definition changes.
pub struct Remembered<T> {
    version: u64,
    of: HashMap<Oid, T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Remembered { version: 0, of: HashMap::new() }
    }
}

impl<T: Clone> Remembered<T> {
    /// From memory, or as `read` says.
    pub fn get(memory: &'static LocalKey<RefCell<Self>>, relation: Oid, read: impl FnOnce() -> T) -> T {
        let known = memory.with_borrow_mut(|memory| {
            if memory.version != version() {
                *memory = Remembered { version: version(), of: HashMap::new() };
            }
            memory.of.get(&relation).cloned()
        });
        known.unwrap_or_else(|| {
            let found = read();
            memory.with_borrow_mut(|memory| memory.of.insert(relation, found.clone()));
            found
        })
    }
}

/// A table's catalog facts.
pub struct Facts {
    pub schema: String,
    pub name: String,
    pub owner: Oid,
}

pub fn facts(relation: Oid) -> Facts {
    // SAFETY: the relation is open in the caller's query or found in the catalog; closed again here.
    unsafe {
        let rel = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let class = (*rel).rd_rel;
        let namespace = pg_sys::get_namespace_name((*class).relnamespace);
        let facts = Facts {
            schema: CStr::from_ptr(namespace).to_string_lossy().into_owned(),
            name: CStr::from_ptr((*class).relname.data.as_ptr()).to_string_lossy().into_owned(),
            owner: (*class).relowner,
        };
        pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
        facts
    }
}

/// Who owns a relation, and the schema that it is in; None where it is gone.
pub(super) fn owner_and_schema(relation: Oid) -> Option<(Oid, Oid)> {
    // SAFETY: a syscache lookup; the tuple is released when it has been read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, relation.into());
        if tuple.is_null() {
            return None;
        }
        let class = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let found = (class.relowner, class.relnamespace);
        pg_sys::ReleaseSysCache(tuple);
        Some(found)
    }
}

/// Is the schema the extension's own?
pub(super) fn is_ours(schema: Oid) -> bool {
    // SAFETY: a syscache lookup.
    unsafe { schema == pg_sys::get_namespace_oid(c"crm_tree".as_ptr(), true) }
}

/// The relation, and its partitions and inheritance children at every level.
pub fn with_descendants(relation: Oid) -> Vec<Oid> {
    reached(relation, children)
}

/// The relation, and all that partitioning or inheritance joins with it, upwards and downwards.
pub fn kin(relation: Oid) -> Vec<Oid> {
    reached(relation, |at| [children(at), parents(at)].concat())
}

/// The relation, and all that these steps lead to from it, nearest first.
fn reached(relation: Oid, next: impl Fn(Oid) -> Vec<Oid>) -> Vec<Oid> {
    let mut all = vec![relation];
    let mut at = 0;
    while at < all.len() {
        for found in next(all[at]) {
            if !all.contains(&found) {
                all.push(found);
            }
        }
        at += 1;
    }
    all
}

/// Did this transaction make the relation? Nobody else can know of it then, nor join anything with it.
pub fn is_new(relation: Oid) -> bool {
    // SAFETY: the relation is closed again, also by PostgreSQL after an error.
    unsafe {
        let rel = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if rel.is_null() {
            return false;
        }
        let is_new = (*rel).rd_createSubid != INVALID_SUBTRANSACTION;
        pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
        is_new
    }
}

/// Waits until nobody else is at the relation or at anything below it, and keeps it so to the end of the
/// transaction.
pub fn lock_with_descendants(relation: Oid) {
    let mut locked: Vec<Oid> = Vec::new();
    // What was attached while we waited is below it too.
    while let Some(next) = with_descendants(relation).into_iter().find(|r| !locked.contains(r)) {
        lock(next);
        locked.push(next);
    }
}

/// The same of the relation alone. It may be gone by then.
pub fn lock(relation: Oid) {
    // SAFETY: takes a lock; an error (deadlock, cancel) unwinds through the guarded binding.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessExclusiveLock as i32) };
}

/// Waits until nobody gives the relation a child or takes one away, and keeps it so. It may be gone by then.
pub fn lock_against_children(relation: Oid) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::ShareUpdateExclusiveLock as i32) };
}

/// The type of a column as SQL writes it, qualified where it must be, and quoted only there.
pub fn column_type(relation: Oid, column: i16) -> String {
    settings::quoting_what_must_be(|| {
        // SAFETY: catalog lookups; the name is a palloc'd C string.
        unsafe {
            let type_oid = pg_sys::get_atttype(relation, column);
            CStr::from_ptr(pg_sys::format_type_be_qualified(type_oid)).to_string_lossy().into_owned()
        }
    })
}

/// The elements of a list of pointers.
pub(super) unsafe fn list(list: *mut pg_sys::List) -> impl Iterator<Item = *mut std::ffi::c_void> + Clone {
    // SAFETY: the caller's list is null or holds pointers, and stays as it is meanwhile.
    let count = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: as above.
    (0..count).map(move |i| unsafe { (*(*list).elements.add(i)).ptr_value })
}

/// The tables that this one is a partition or inheritance child of, one level up.
pub fn parents(relation: Oid) -> Vec<Oid> {
    // pg_inherits by (inhrelid, inhseqno); column 2 is inhparent.
    linked(2611, 2680, &[(1, relation)], &[], 2)
}

/// The partitions and inheritance children of this one, one level down, by oid.
fn children(relation: Oid) -> Vec<Oid> {
    // pg_inherits by inhparent, column 2; column 1 is inhrelid.
    let mut children = linked(2611, 2187, &[(2, relation)], &[], 1);
    children.sort_by_key(|child| child.to_u32());
    children
}

/// The table, one at most, that a TOAST table belongs to.
pub(super) fn owners_of_toast(toast: Oid) -> Vec<Oid> {
    let relations = pg_sys::RelationRelationId;
    linked(2608, 2673, &[(1, relations), (2, toast)], &[(4, relations)], 5)
}

/// The relations that a rewrite rule reads.
pub(super) fn read_by_rule(rule: Oid) -> Vec<Oid> {
    let rules = Oid::from(2618);
    // pg_depend by (classid, objid, objsubid); columns 4 and 5 are refclassid and refobjid.
    linked(2608, 2673, &[(1, rules), (2, rule)], &[(4, pg_sys::RelationRelationId)], 5)
}

/// Column `wanted` of the rows of a catalog that an index finds by `keys` and that have the values
/// `also`; all are oids that are never null. The catalogs' own oids are the same in every version.
fn linked(catalog: u32, index: u32, keys: &[(i16, Oid)], also: &[(i16, Oid)], wanted: i16) -> Vec<Oid> {
    let mut found = Vec::new();
    // SAFETY: relation and scan are opened and closed in pairs; on an error PostgreSQL closes them.
    unsafe {
        let rel = pg_sys::table_open(catalog.into(), pg_sys::AccessShareLock as i32);
        let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys
            .iter()
            .map(|(column, value)| {
                let mut key = pg_sys::ScanKeyData::default();
                let strategy = pg_sys::BTEqualStrategyNumber as u16;
                let value = pg_sys::Datum::from(*value);
                pg_sys::ScanKeyInit(&mut key, *column, strategy, pg_sys::F_OIDEQ.into(), value);
                key
            })
            .collect();
        let count = scan_keys.len() as i32;
        let now = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(rel, index.into(), true, now, count, scan_keys.as_mut_ptr());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let value = |column: i16| {
                let mut is_null = false;
                let datum = pg_sys::heap_getattr(tuple, column.into(), (*rel).rd_att, &mut is_null);
                Oid::from(datum.value() as u32)
            };
            if also.iter().all(|(column, is)| value(*column) == *is) {
                found.push(value(wanted));
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as i32);
    }
    found
}
