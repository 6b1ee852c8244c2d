//! Rows on their way through a load view: put aside while the statement runs, inserted by one
//! statement at its end.

use super::trigger::Row;
use super::witness::{unguarded, whole};
use super::{subxact, xact};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::CString;

/// What the insert reads the rows from.
pub const ROWS: &str = "crm_tree_rows";

struct Batch {
    view: Oid,
    /// How deep in savepoints it was begun: what rolls back to before takes it along.
    level: i32,
    store: *mut pg_sys::Tuplestorestate,
}

impl Batch {
    /// Was it begun by the statement into this view that is running?
    fn is_of(&self, view: Oid) -> bool {
        self.view == view && self.level == subxact::level()
    }
}

thread_local! {
    /// One a running statement, the innermost last.
    static OPEN: RefCell<Vec<Batch>> = const { RefCell::new(Vec::new()) };
}

/// Called once, when the library is loaded. The rows themselves go with the memory of the transaction.
pub fn init() {
    xact::at_top_end(|| OPEN.with(|open| open.borrow_mut().clear()));
    // A savepoint that is released takes the files along too. A statement begun in it has ended by then.
    xact::at_sub_end(|_, level| {
        OPEN.with(|open| open.borrow_mut().retain(|batch| batch.level < level));
    });
}

/// A statement begins to insert into the view.
pub fn begin(view: Oid) {
    // SAFETY: as the server keeps its own transition tables: memory and files live until the
    // (sub)transaction ends, or `insert` is done with them. The owner is put back; begin_heap allocates
    // a block or two and raises only where memory is out, which ends the transaction.
    let (level, store) = unsafe {
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
        let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
        pg_sys::CurrentResourceOwner = owner;
        pg_sys::MemoryContextSwitchTo(context);
        (subxact::level(), store)
    };
    OPEN.with(|open| open.borrow_mut().push(Batch { view, level, store }));
}

/// Puts a row aside. False where no statement into the view was begun.
pub fn put(view: Oid, row: Row<'_>) -> bool {
    let store = OPEN.with(|open| open.borrow().last().filter(|b| b.is_of(view)).map(|b| b.store));
    let Some(store) = store else { return false };
    // SAFETY: the store is open, and copies the tuple.
    unsafe { pg_sys::tuplestore_puttuple(store, row.tuple()) };
    true
}

/// Runs `sql`, which reads the rows from `ROWS`, as the current user. False as with `put`.
pub fn insert(view: Oid, sql: &str) -> bool {
    let batch = OPEN.with(|open| open.borrow_mut().pop_if(|b| b.is_of(view)));
    let Some(batch) = batch else { return false };
    let text = CString::new(sql).expect("no NUL in a statement");
    let name = CString::new(ROWS).expect("no NUL in a name");
    // SAFETY: connect and finish are paired; on an error PostgreSQL ends the connection, and the memory of
    // the store, with the (sub)transaction. Rows have the view's columns: they came through it.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            error!("could not connect to SPI");
        }
        let relation = pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>())
            as pg_sys::EphemeralNamedRelation;
        (*relation).md.name = name.as_ptr().cast_mut();
        (*relation).md.reliddesc = view;
        (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
        (*relation).md.enrtuples = pg_sys::tuplestore_tuple_count(batch.store) as f64;
        (*relation).reldata = batch.store.cast();
        let registered = pg_sys::SPI_register_relation(relation);
        if registered != pg_sys::SPI_OK_REL_REGISTER as i32 {
            error!("SPI_register_relation answered {registered}");
        }
        let code = whole(sql, || unguarded::SPI_execute(text.as_ptr(), false, 0));
        if code < 0 {
            error!("SPI_execute answered {code}");
        }
        pg_sys::SPI_finish();
        pg_sys::tuplestore_end(batch.store);
    }
    true
}
