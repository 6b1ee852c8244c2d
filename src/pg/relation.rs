//! Relations as the trees and walls see them.

use pgrx::pg_sys::Oid;
use pgrx::{IntoDatum, pg_sys};
use std::cell::Cell;
use std::ffi::CStr;

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
}

/// Starts watching for relation changes. Called once, when the library is loaded.
pub fn init() {
    // SAFETY: the callback sets a flag and never unwinds.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_change), pg_sys::Datum::from(0)) }
}

unsafe extern "C-unwind" fn on_change(_arg: pg_sys::Datum, _relation: Oid) {
    CHANGED.with(|c| c.set(true));
}

/// Has any relation's definition changed since the last call? Caches of relation facts are then void.
pub fn changed() -> bool {
    CHANGED.with(|c| c.replace(false))
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

/// The type of a column as SQL writes it, qualified where it must be.
pub fn column_type(relation: Oid, column: i16) -> String {
    // SAFETY: catalog lookups; the name is a palloc'd C string.
    unsafe {
        let type_oid = pg_sys::get_atttype(relation, column);
        CStr::from_ptr(pg_sys::format_type_be_qualified(type_oid)).to_string_lossy().into_owned()
    }
}
