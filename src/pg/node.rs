//! A node's parent, straight from the index of the tree's key: what each inserted row needs to know,
//! for a tenth of what a kept plan costs.

use super::trigger::Row;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

/// A unique index on nothing but a tree's org and id.
#[derive(Debug)]
pub struct KeyIndex {
    index: Oid,
    /// In the order of the index.
    columns: [Column; 2],
}

#[derive(Clone, Copy, Debug)]
struct Column {
    number: i16,
    collation: Oid,
    equal: u32,
}

/// Attribute numbers of a tree's columns in the relation that is looked into.
#[derive(Clone, Copy)]
pub struct Numbers {
    pub org: i16,
    pub parent: i16,
    pub path: i16,
    pub depth: i16,
}

/// Path and depth, as they are stored.
pub type Place = (Option<String>, Option<i32>);

/// The equality of the types that a key can have.
fn equality(type_oid: Oid) -> Option<u32> {
    match type_oid {
        pg_sys::UUIDOID => Some(pg_sys::F_UUID_EQ),
        pg_sys::INT8OID => Some(pg_sys::F_INT8EQ),
        pg_sys::INT4OID => Some(pg_sys::F_INT4EQ),
        pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(pg_sys::F_TEXTEQ),
        _ => None,
    }
}

impl KeyIndex {
    /// Of a table whose rows are all in it alone: partitions and children would have to be routed to.
    pub fn of(relation: Oid, org: i16, id: i16) -> Option<KeyIndex> {
        // SAFETY: relations are opened and closed in pairs, on an error by PostgreSQL; the list of
        // indexes is a copy.
        unsafe {
            let rel = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
            let class = &*(*rel).rd_rel;
            let alone = class.relkind as u8 == b'r'
                && !class.relispartition
                && !class.relhassubclass
                && class.relam == pg_sys::HEAP_TABLE_AM_OID;
            let mut found = None;
            if alone {
                let indexes = pg_sys::RelationGetIndexList(rel);
                let count = if indexes.is_null() { 0 } else { (*indexes).length as usize };
                let index = |i| (*(*indexes).elements.add(i)).oid_value;
                found = (0..count).find_map(|i| of_index(relation, index(i), org, id));
            }
            pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
            found
        }
    }

    /// Where the row's parent stands by what is committed now and what this transaction has done, this
    /// statement included. None where there is no such row.
    ///
    /// Called of a row of the index's own table, while a statement holds its lock on that, so that the index stays.
    pub fn parent_of(&self, row: &Row<'_>, numbers: Numbers) -> Option<Place> {
        let org = row.datum(numbers.org)?;
        let parent = row.datum(numbers.parent)?;
        let rel = row.relation();
        // SAFETY: scan and snapshot are opened and closed in pairs, on an error by PostgreSQL's resource
        // owner; the keys are of the columns' types, and what is read of the tuple is copied before the
        // scan ends. Under one guard for all that belongs together: nothing in there has a destructor.
        unsafe {
            let (scan, tuple, now) = pg_guard_ffi_boundary(|| {
                bare::CommandCounterIncrement();
                let mut keys = self.columns.map(|column| {
                    let value = if column.number == numbers.org { org } else { parent };
                    let mut key = pg_sys::ScanKeyData::default();
                    let equal = pg_sys::BTEqualStrategyNumber as u16;
                    bare::ScanKeyInit(&mut key, column.number, equal, column.equal.into(), value);
                    key.sk_collation = column.collation;
                    key
                });
                let now = bare::RegisterSnapshot(bare::GetLatestSnapshot());
                let scan = bare::systable_beginscan(rel, self.index, true, now, 2, keys.as_mut_ptr());
                (scan, bare::systable_getnext(scan), now)
            });
            let place = (!tuple.is_null()).then(|| {
                let value = |column: i16| {
                    let mut is_null = false;
                    let datum = pg_sys::heap_getattr(tuple, column.into(), (*rel).rd_att, &mut is_null);
                    (datum, is_null)
                };
                let ((path, no_path), (depth, no_depth)) = (value(numbers.path), value(numbers.depth));
                (String::from_datum(path, no_path), i32::from_datum(depth, no_depth))
            });
            pg_guard_ffi_boundary(|| {
                bare::systable_endscan(scan);
                bare::UnregisterSnapshot(now);
            });
            place
        }
    }
}

/// Not pgrx's guarded bindings: each of those sets a jump of its own.
mod bare {
    use pgrx::pg_sys::{
        AttrNumber, Datum, HeapTuple, Oid, RegProcedure, Relation, ScanKey, Snapshot, StrategyNumber,
        SysScanDesc,
    };

    unsafe extern "C-unwind" {
        pub fn CommandCounterIncrement();
        pub fn GetLatestSnapshot() -> Snapshot;
        pub fn RegisterSnapshot(snapshot: Snapshot) -> Snapshot;
        pub fn UnregisterSnapshot(snapshot: Snapshot);
        pub fn ScanKeyInit(
            entry: ScanKey,
            attribute: AttrNumber,
            strategy: StrategyNumber,
            procedure: RegProcedure,
            argument: Datum,
        );
        pub fn systable_beginscan(
            heap: Relation,
            index: Oid,
            use_index: bool,
            snapshot: Snapshot,
            count: i32,
            keys: ScanKey,
        ) -> SysScanDesc;
        pub fn systable_getnext(scan: SysScanDesc) -> HeapTuple;
        pub fn systable_endscan(scan: SysScanDesc);
    }
}

unsafe fn of_index(relation: Oid, index: Oid, org: i16, id: i16) -> Option<KeyIndex> {
    // SAFETY: as in `of`; an index has as many collations and families as key columns.
    unsafe {
        let rel = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
        let facts = &*(*rel).rd_index;
        // One that is checked late can have a key twice, and one that waits for old snapshots to go
        // cannot show them everything.
        let plain = (*(*rel).rd_rel).relam == pg_sys::BTREE_AM_OID
            && facts.indisunique
            && facts.indimmediate
            && facts.indisvalid
            && !facts.indcheckxmin
            && facts.indnkeyatts == 2
            && !has_in_index(rel, pg_sys::Anum_pg_index_indpred);
        let columns: Option<Vec<Column>> = (0..if plain { 2 } else { 0 })
            .map(|i| {
                let number = *facts.indkey.values.as_ptr().add(i);
                let family = *(*rel).rd_opfamily.add(i);
                let equal = equality(*(*rel).rd_opcintype.add(i))?;
                let collation = *(*rel).rd_indcollation.add(i);
                // Equal by the index has to be equal by the column.
                let ours = (number == org || number == id)
                    && family.to_u32() < pg_sys::FirstNormalObjectId
                    && collation == collation_of(relation, number);
                ours.then_some(Column { number, collation, equal })
            })
            .collect();
        pg_sys::index_close(rel, pg_sys::AccessShareLock as i32);
        match columns?[..] {
            [a, b] if a.number != b.number => Some(KeyIndex { index, columns: [a, b] }),
            _ => None,
        }
    }
}

/// Has an index this (a predicate, expressions)? Asked of its catalog row: to fetch them evaluates what is
/// constant in them, which is code of the table's owner.
pub(super) unsafe fn has_in_index(index: pg_sys::Relation, attribute: u32) -> bool {
    // SAFETY: the caller holds the index open; the tuple is its row of pg_index.
    unsafe { !pg_sys::heap_attisnull((*index).rd_indextuple, attribute as i32, std::ptr::null_mut()) }
}

fn collation_of(relation: Oid, column: i16) -> Oid {
    let (mut type_oid, mut modifier, mut collation) = (Oid::INVALID, 0, Oid::INVALID);
    // SAFETY: a syscache lookup of a column that is there; writes the three.
    unsafe {
        pg_sys::get_atttypetypmodcoll(relation, column, &mut type_oid, &mut modifier, &mut collation);
    }
    collation
}
