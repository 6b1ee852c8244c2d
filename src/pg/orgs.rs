//! The orgs that a table's rows have, straight from its storage. A query would have the planner evaluate
//! predicates and expressions of the table's indexes, and what such code of the owner's has compiled in
//! a session outlives every confinement: whoever looks runs nothing of his.

use super::node;
use crate::error::Refusal;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

/// An index of all rows that begins with the org.
struct Leading {
    index: Oid,
    strategy: u16,
    /// Tells what comes behind an org in this index.
    behind: pg_sys::RegProcedure,
}

/// The org column of one relation.
struct Column {
    number: i16,
    collation: Oid,
    output: Oid,
    length: i16,
    by_value: bool,
}

/// The types that an org can have, domains left out: a domain's would be code of its owner's.
fn is_org_type(type_oid: Oid) -> bool {
    matches!(
        type_oid,
        pg_sys::UUIDOID
            | pg_sys::INT8OID
            | pg_sys::INT4OID
            | pg_sys::INT2OID
            | pg_sys::TEXTOID
            | pg_sys::VARCHAROID
    )
}

/// The orgs in a table itself, without its partitions and children, past row security: from one to the
/// next by an index that begins with the org, or from a look at each row where it has none. None in
/// what stores no rows here: a partitioned or a foreign table, another session's temporary one.
pub fn of(relation: Oid, column: &str) -> BTreeSet<String> {
    let mut orgs = BTreeSet::new();
    // SAFETY: relation and snapshot are opened and closed in pairs, on an error by PostgreSQL's resource
    // owner. The relation stays locked while its indexes are looked at and read.
    unsafe {
        let rel = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if rel.is_null() {
            return orgs;
        }
        let class = &*(*rel).rd_rel;
        let is_here = class.relpersistence as u8 != pg_sys::RELPERSISTENCE_TEMP || (*rel).rd_islocaltemp;
        if class.relkind as u8 == pg_sys::RELKIND_RELATION && is_here {
            let column = Column::of(rel, column);
            let now = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            match column.leading(rel) {
                Some(leading) => column.hop(rel, &leading, now, &mut orgs),
                None => column.look_at_each(rel, now, &mut orgs),
            }
            pg_sys::UnregisterSnapshot(now);
        }
        pg_sys::relation_close(rel, pg_sys::AccessShareLock as i32);
    }
    orgs
}

impl Column {
    unsafe fn of(rel: pg_sys::Relation, name: &str) -> Column {
        let (mut type_oid, mut modifier, mut collation) = (Oid::INVALID, 0, Oid::INVALID);
        let (mut output, mut is_varlena, mut length, mut by_value) = (Oid::INVALID, false, 0, false);
        let c_name = CString::new(name).unwrap_or_default();
        // SAFETY: syscache lookups that write to the variables; the caller holds the relation open.
        unsafe {
            let number = pg_sys::get_attnum((*rel).rd_id, c_name.as_ptr());
            if number > 0 {
                pg_sys::get_atttypetypmodcoll(
                    (*rel).rd_id,
                    number,
                    &mut type_oid,
                    &mut modifier,
                    &mut collation,
                );
            }
            if !is_org_type(type_oid) || (*(*rel).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
                let table = CStr::from_ptr((*(*rel).rd_rel).relname.data.as_ptr()).to_string_lossy();
                Refusal::new(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    format!("cannot read orgs from column \"{name}\" of table {table}"),
                )
                .hint("It has to be a table with the access method heap, and its column uuid, bigint, integer, smallint, text or varchar.")
                .raise()
            }
            pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
            Column { number, collation, output, length, by_value }
        }
    }

    unsafe fn leading(&self, rel: pg_sys::Relation) -> Option<Leading> {
        // SAFETY: the caller holds the relation open; the list of its indexes is a copy.
        unsafe {
            // A scan by index would then be one of the heap, in no order.
            if pg_sys::IgnoreSystemIndexes {
                return None;
            }
            let indexes = pg_sys::RelationGetIndexList(rel);
            let count = if indexes.is_null() { 0 } else { (*indexes).length as usize };
            (0..count).find_map(|i| self.leading_in((*(*indexes).elements.add(i)).oid_value))
        }
    }

    unsafe fn leading_in(&self, index: Oid) -> Option<Leading> {
        // SAFETY: opened and closed in pairs; every index has a first key column.
        unsafe {
            let rel = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
            let facts = &*(*rel).rd_index;
            let (family, input) = (*(*rel).rd_opfamily, *(*rel).rd_opcintype);
            // In the type's own order and collation: by another, two orgs could be equal.
            let leads = (*(*rel).rd_rel).relam == pg_sys::BTREE_AM_OID
                && facts.indisvalid
                && !facts.indcheckxmin
                && *facts.indkey.values.as_ptr() == self.number
                && family.to_u32() < pg_sys::FirstNormalObjectId
                && is_org_type(input)
                && *(*rel).rd_indcollation == self.collation
                && !node::has_in_index(rel, pg_sys::Anum_pg_index_indpred)
                && !node::has_in_index(rel, pg_sys::Anum_pg_index_indexprs);
            let leading = leads.then(|| {
                let is_descending = *(*rel).rd_indoption as u32 & pg_sys::INDOPTION_DESC != 0;
                let strategy = if is_descending {
                    pg_sys::BTLessStrategyNumber
                } else {
                    pg_sys::BTGreaterStrategyNumber
                };
                let operator = pg_sys::get_opfamily_member(family, input, input, strategy as i16);
                Leading { index, strategy: strategy as u16, behind: pg_sys::get_opcode(operator) }
            });
            pg_sys::index_close(rel, pg_sys::AccessShareLock as i32);
            leading
        }
    }

    unsafe fn hop(
        &self,
        rel: pg_sys::Relation,
        leading: &Leading,
        now: pg_sys::Snapshot,
        orgs: &mut BTreeSet<String>,
    ) {
        // SAFETY: each scan is opened and closed in pairs; the key's value is a copy of the org's.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            let not_null = (pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNOTNULL) as i32;
            let none = Oid::INVALID;
            pg_sys::ScanKeyEntryInitialize(&mut key, not_null, self.number, 0, none, none, none, 0.into());
            loop {
                pgrx::check_for_interrupts!();
                let scan = pg_sys::systable_beginscan(rel, leading.index, true, now, 1, &mut key);
                let org = self.value(pg_sys::systable_getnext(scan), rel).map(|org| self.copy(org));
                pg_sys::systable_endscan(scan);
                let Some(org) = org else { break };
                orgs.insert(self.text(org));
                pg_sys::ScanKeyInit(&mut key, self.number, leading.strategy, leading.behind, org);
                key.sk_collation = self.collation;
            }
        }
    }

    unsafe fn look_at_each(&self, rel: pg_sys::Relation, now: pg_sys::Snapshot, orgs: &mut BTreeSet<String>) {
        // SAFETY: the scan is opened and closed in pairs; a row is read before the next is fetched.
        unsafe {
            let scan = pg_sys::systable_beginscan(rel, Oid::INVALID, false, now, 0, std::ptr::null_mut());
            loop {
                pgrx::check_for_interrupts!();
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                orgs.extend(self.value(tuple, rel).map(|org| self.text(org)));
            }
            pg_sys::systable_endscan(scan);
        }
    }

    /// The org of a row that is there and has one.
    unsafe fn value(&self, tuple: pg_sys::HeapTuple, rel: pg_sys::Relation) -> Option<pg_sys::Datum> {
        if tuple.is_null() {
            return None;
        }
        let mut is_null = false;
        // SAFETY: a row of this relation, which has the column.
        let org = unsafe { pg_sys::heap_getattr(tuple, self.number.into(), (*rel).rd_att, &mut is_null) };
        (!is_null).then_some(org)
    }

    unsafe fn copy(&self, org: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: a value of the column's type, as its length says: a varlena, or so many bytes.
        unsafe {
            match self.length {
                _ if self.by_value => org,
                -1 => pg_sys::pg_detoast_datum_copy(org.cast_mut_ptr()).into(),
                length => {
                    let copy = pg_sys::palloc(length as usize).cast::<u8>();
                    copy.copy_from_nonoverlapping(org.cast_mut_ptr(), length as usize);
                    copy.into()
                }
            }
        }
    }

    unsafe fn text(&self, org: pg_sys::Datum) -> String {
        // SAFETY: the output function of the column's type; it answers a palloc'd C string.
        unsafe {
            let shown = pg_sys::OidOutputFunctionCall(self.output, org);
            let text = CStr::from_ptr(shown).to_string_lossy().into_owned();
            pg_sys::pfree(shown.cast());
            text
        }
    }
}
