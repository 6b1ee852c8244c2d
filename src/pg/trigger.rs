//! Trigger functions: the call's data behind a safe face, and the entry point that keeps the
//! constraint and table of a refusal, which pgrx's own error path drops.

use super::witness::{Thrown, witnessed};
use crate::error::Refusal;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;
use std::marker::PhantomData;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// When a trigger fires, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    BeforeStatement,
    BeforeRow,
    AfterRow,
    InsteadOfRow,
    AfterStatement,
}

/// One call of a trigger function.
pub struct Call<'a> {
    data: *mut pg_sys::TriggerData,
    life: PhantomData<&'a ()>,
}

/// A row of the trigger's table.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    relation: pg_sys::Relation,
    life: PhantomData<&'a ()>,
}

/// What a BEFORE ROW trigger wants done; others answer `Done`.
pub enum Outcome<'a> {
    Keep(Row<'a>),
    Done,
}

/// A value for a column; None is NULL.
pub enum Value<'a> {
    Text(Option<&'a str>),
    Int(Option<i32>),
}

impl<'a> Call<'a> {
    pub fn event(&self) -> Event {
        // SAFETY: `data` is valid for the call.
        match unsafe { (*self.data).tg_event } & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Event::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Event::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Event::Delete,
            _ => Event::Truncate,
        }
    }

    /// Refuses a trigger that was made for another moment than its function is written for: there
    /// would be no row, or no old one, to read.
    pub fn expect(&self, when: When, events: &[Event]) {
        if !self.is(when) || !events.contains(&self.event()) {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "this trigger function is not made for this kind of trigger",
            )
            .hint("Its triggers are made by crm_tree.attach_tree() and crm_tree.create_load_view() only.")
            .raise()
        }
    }

    /// Is this the moment the trigger fires at?
    pub fn is(&self, when: When) -> bool {
        // SAFETY: `data` is valid for the call.
        let fired = unsafe { (*self.data).tg_event };
        let of_row = fired & pg_sys::TRIGGER_EVENT_ROW != 0;
        match (fired & pg_sys::TRIGGER_EVENT_TIMINGMASK, of_row) {
            (pg_sys::TRIGGER_EVENT_BEFORE, false) => when == When::BeforeStatement,
            (pg_sys::TRIGGER_EVENT_BEFORE, true) => when == When::BeforeRow,
            (pg_sys::TRIGGER_EVENT_AFTER, false) => when == When::AfterStatement,
            (pg_sys::TRIGGER_EVENT_AFTER, true) => when == When::AfterRow,
            _ => when == When::InsteadOfRow,
        }
    }

    /// The table the trigger fired on: the partition, not its root.
    pub fn relation(&self) -> Oid {
        // SAFETY: as above.
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    /// Which of the table's triggers it is.
    pub fn trigger(&self) -> Oid {
        // SAFETY: as above.
        unsafe { (*(*self.data).tg_trigger).tgoid }
    }

    /// The trigger's arguments, or where it has none those of the one of its table that is called `bearer`:
    /// each statement copies those of all its table's triggers.
    pub fn args_or_of(&self, bearer: &CStr) -> Vec<String> {
        // SAFETY: PostgreSQL gives tgnargs C strings, and a list of the table's triggers.
        unsafe {
            let of = |trigger: &pg_sys::Trigger| -> Vec<String> {
                (0..trigger.tgnargs as usize)
                    .map(|i| CStr::from_ptr(*trigger.tgargs.add(i)).to_string_lossy().into_owned())
                    .collect()
            };
            let own = &*(*self.data).tg_trigger;
            let all = (*(*self.data).tg_relation).trigdesc;
            if own.tgnargs > 0 || all.is_null() {
                return of(own);
            }
            (0..(*all).numtriggers as usize)
                .map(|i| &*(*all).triggers.add(i))
                .find(|trigger| CStr::from_ptr(trigger.tgname) == bearer)
                .map(of)
                .unwrap_or_default()
        }
    }

    /// The row before the change: of UPDATE and DELETE.
    pub fn old(&self) -> Row<'a> {
        debug_assert!(matches!(self.event(), Event::Update | Event::Delete));
        // SAFETY: set for row triggers of these events.
        unsafe { self.row((*self.data).tg_trigtuple) }
    }

    /// The row after the change: of INSERT and UPDATE.
    pub fn new_row(&self) -> Row<'a> {
        // SAFETY: INSERT has its row in tg_trigtuple, UPDATE in tg_newtuple.
        unsafe {
            match self.event() {
                Event::Update => self.row((*self.data).tg_newtuple),
                _ => self.row((*self.data).tg_trigtuple),
            }
        }
    }

    unsafe fn row(&self, tuple: pg_sys::HeapTuple) -> Row<'a> {
        // SAFETY: the tuple belongs to the trigger's relation, which outlives the call.
        let relation = unsafe { (*self.data).tg_relation };
        Row { tuple, relation, life: PhantomData }
    }
}

impl<'a> Row<'a> {
    pub(super) fn tuple(&self) -> pg_sys::HeapTuple {
        self.tuple
    }

    /// The table, which the statement holds open.
    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    fn desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation outlives the row.
        unsafe { (*self.relation).rd_att }
    }

    fn type_of(&self, column: i16) -> Oid {
        // SAFETY: `column` is one of the row's attributes.
        unsafe {
            #[cfg(feature = "pg18")]
            return pg_sys::SPI_gettypeid(self.desc(), column.into());
            #[cfg(not(feature = "pg18"))]
            return (*(*self.desc()).attrs.as_ptr().add(column as usize - 1)).atttypid;
        }
    }

    pub fn is_null(&self, column: i16) -> bool {
        self.datum(column).is_none()
    }

    pub(super) fn datum(&self, column: i16) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: the tuple matches its descriptor, `column` is one of its attributes.
        let datum = unsafe { pg_sys::heap_getattr(self.tuple, column.into(), self.desc(), &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The column's value in its text form.
    pub fn text(&self, column: i16) -> Option<String> {
        let datum = self.datum(column)?;
        // SAFETY: the output function of the column's own type is called on a value of that type.
        unsafe {
            let type_oid = self.type_of(column);
            // The types of keys, without a look at the catalog.
            match type_oid {
                pg_sys::TEXTOID | pg_sys::VARCHAROID => return String::from_datum(datum, false),
                pg_sys::UUIDOID => {
                    let bytes = *pgrx::Uuid::from_datum(datum, false)?.as_bytes();
                    let mut text = uuid::Uuid::encode_buffer();
                    return Some(
                        uuid::Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut text).to_owned(),
                    );
                }
                pg_sys::INT8OID => return Some(i64::from_datum(datum, false)?.to_string()),
                pg_sys::INT4OID => return Some(i32::from_datum(datum, false)?.to_string()),
                // And of shares: a setting of the session's says how much the server's own text tells.
                pg_sys::FLOAT8OID => return Some(f64::from_datum(datum, false)?.to_string()),
                pg_sys::FLOAT4OID => return Some(f32::from_datum(datum, false)?.to_string()),
                _ => {}
            }
            let mut output = Oid::INVALID;
            let mut is_varlena = false;
            pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
            let value = pg_sys::OidOutputFunctionCall(output, datum);
            Some(CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }

    /// Have both rows of the table the same value there, or none?
    pub fn agrees(&self, other: &Row<'_>, column: i16) -> bool {
        match (self.datum(column), other.datum(column)) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                // SAFETY: both are values of the column's type.
                unsafe {
                    match self.type_of(column) {
                        pg_sys::INT8OID | pg_sys::INT4OID | pg_sys::INT2OID => a.value() == b.value(),
                        pg_sys::UUIDOID => {
                            pgrx::Uuid::from_datum(a, false) == pgrx::Uuid::from_datum(b, false)
                        }
                        _ => self.text(column) == other.text(column),
                    }
                }
            }
            _ => false,
        }
    }

    pub fn int(&self, column: i16) -> Option<i32> {
        self.datum(column).map(|d| d.value() as i32)
    }

    /// The same row with other values in the given columns.
    pub fn with<const N: usize>(&self, values: [(i16, Value<'_>); N]) -> Row<'a> {
        let mut columns = values.each_ref().map(|(column, _)| i32::from(*column));
        let given = values.map(|(_, value)| match value {
            Value::Text(text) => text.and_then(IntoDatum::into_datum),
            Value::Int(number) => number.and_then(IntoDatum::into_datum),
        });
        let mut nulls = given.map(|datum| datum.is_none());
        let mut datums = given.map(|datum| datum.unwrap_or(Datum::from(0)));
        // SAFETY: the three arrays have one entry a column; the copy lives in the current context,
        // which for a trigger is reset after the row.
        let tuple = unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.tuple,
                self.desc(),
                N as i32,
                columns.as_mut_ptr(),
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            )
        };
        Row { tuple, ..*self }
    }
}

/// The attribute number of a column by name; None where it is missing.
pub fn column_number(relation: Oid, name: &str) -> Option<i16> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a syscache lookup.
    let number = unsafe { pg_sys::get_attnum(relation, name.as_ptr()) };
    (number > 0).then_some(number)
}

/// Whether it is the columns of these names, in this order, that stand after `UPDATE OF` in a relation's trigger;
/// None where it has no such trigger.
pub fn is_update_of(relation: Oid, name: &CStr, columns: &[&String]) -> Option<bool> {
    let numbers = columns.iter().filter_map(|column| column_number(relation, column));
    Some(update_columns(relation, name)? == numbers.collect::<Vec<_>>())
}

fn update_columns(relation: Oid, name: &CStr) -> Option<Vec<i16>> {
    // SAFETY: the relation is closed again; its list of triggers is read before.
    unsafe {
        let rel = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let all = (*rel).trigdesc;
        let count = if all.is_null() { 0 } else { (*all).numtriggers as usize };
        let found = (0..count)
            .map(|i| &*(*all).triggers.add(i))
            .find(|trigger| CStr::from_ptr(trigger.tgname) == name)
            .map(|trigger| (0..trigger.tgnattr as usize).map(|i| *trigger.tgattr.add(i)).collect());
        pg_sys::relation_close(rel, pg_sys::NoLock as i32);
        found
    }
}

/// Runs a trigger body. Ok is the answer to PostgreSQL, Err an error ready to be thrown by the
/// caller once every Rust frame is gone.
///
/// # Safety
/// `fcinfo` is the call info of a trigger call.
#[allow(improper_ctypes_definitions)] // Called from Rust only; the ABI is for `pg_guard`.
#[pg_guard]
pub unsafe extern "C-unwind" fn guarded(
    fcinfo: pg_sys::FunctionCallInfo,
    body: for<'a> fn(&Call<'a>) -> Outcome<'a>,
) -> Answer {
    // SAFETY: checked to be a trigger call before its context is read.
    let data = unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "this function can only be called by a trigger",
            )
            .raise()
        }
        context as *mut pg_sys::TriggerData
    };
    let call = Call { data, life: PhantomData };
    // SAFETY: PostgreSQL calls a trigger, in a transaction.
    match unsafe { witnessed(|| body(&call)) } {
        Ok(Outcome::Keep(row)) => Answer::Return(Datum::from(row.tuple)),
        Ok(Outcome::Done) => Answer::Return(Datum::from(0)),
        Err(error) => Answer::Throw(error),
    }
}

/// See `guarded`.
pub enum Answer {
    Return(Datum),
    Throw(Thrown),
}

/// Throws or returns what `guarded` answered.
///
/// # Safety
/// No Rust value with a destructor may be alive in the calling frames.
pub unsafe fn finish(answer: Answer) -> Datum {
    match answer {
        Answer::Return(datum) => datum,
        Answer::Throw(error) => {
            // SAFETY: as the caller says.
            unsafe { error.throw() };
            Datum::from(0)
        }
    }
}

/// Makes `$body`, run by `$guarded`, the version-1 function `$symbol`.
macro_rules! version_1 {
    ($symbol:ident, $info:ident, $guarded:path, $body:path) => {
        /// # Safety
        /// Called by PostgreSQL, as a trigger or with the arguments that the body reads.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
            // SAFETY: PostgreSQL's call info is handed on; nothing of Rust's is alive here.
            unsafe { finish($guarded(fcinfo, $body)) }
        }

        finfo!($info);
    };
}
pub(super) use version_1;

macro_rules! trigger_function {
    ($symbol:ident, $info:ident, $body:path) => {
        version_1!($symbol, $info, guarded, $body);
    };
}

trigger_function!(crm_tree_lock, pg_finfo_crm_tree_lock, crate::tree::maintain::lock);
trigger_function!(crm_tree_place, pg_finfo_crm_tree_place, crate::tree::maintain::place);
trigger_function!(crm_tree_settle, pg_finfo_crm_tree_settle, crate::tree::maintain::settle);
trigger_function!(crm_tree_adopt, pg_finfo_crm_tree_adopt, crate::tree::maintain::adopt);
trigger_function!(crm_tree_note, pg_finfo_crm_tree_note, crate::tree::history::note_delete);
trigger_function!(crm_tree_record, pg_finfo_crm_tree_record, crate::tree::history::record);
trigger_function!(crm_tree_history_guard, pg_finfo_crm_tree_history_guard, crate::tree::history::guard);
trigger_function!(crm_tree_load, pg_finfo_crm_tree_load, crate::tenant::load_view::load);
trigger_function!(crm_tree_flags_changed, pg_finfo_crm_tree_flags_changed, crate::tree::deferred::changed);
trigger_function!(crm_tree_wall_changed, pg_finfo_crm_tree_wall_changed, crate::tenant::wall::changed);
trigger_function!(crm_tree_links_lock, pg_finfo_crm_tree_links_lock, crate::tree::judge::lock);
trigger_function!(crm_tree_links_settle, pg_finfo_crm_tree_links_settle, crate::tree::judge::settle);
