//! Reading many rows and answering many, without a copy for each value: what a query found is used
//! where it lies, and rows go straight into the store that PostgreSQL reads them from.

use crate::error::Refusal;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::ffi::CString;
use std::marker::PhantomData;

/// A value found by a `Reader`, or computed while it reads. It lives as long as the reader.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    datum: Datum,
    /// Its type, as the query that found it says: what reads the datum as one looks here first.
    kind: Oid,
    life: PhantomData<&'a ()>,
}

impl<'a> Value<'a> {
    fn made<T: IntoDatum>(value: T) -> Value<'a> {
        Value { kind: T::type_oid(), datum: value.into_datum().expect("not null"), life: PhantomData }
    }

    fn expect(self, kind: Oid) -> Value<'a> {
        if self.kind != kind {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!(
                    "a rollup's query has a value of type {} where {} is expected",
                    self.kind.to_u32(),
                    kind.to_u32()
                ),
            )
            .hint("The types are given by oid: SELECT 'oid'::regtype. Cast the column of the query.")
            .raise()
        }
        self
    }
}

/// The bytes of a value, to compare with others of the same type. Integers are in their order, uuids
/// and texts in that of their bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Image<'a> {
    Word(isize),
    Bytes(&'a [u8]),
}

/// An argument of a query.
pub enum Arg<'a> {
    Text(Option<&'a str>),
    Texts(&'a [&'a str]),
    Date(Option<pgrx::datum::Date>),
}

/// What a query found: rows of `N` columns and their types.
pub struct Found<'a, const N: usize> {
    pub rows: Vec<[Option<Value<'a>>; N]>,
    pub types: [Oid; N],
}

pub struct Reader<'a>(PhantomData<&'a ()>);

/// Reads as the current user, under the snapshot of the statement that called. All values go when
/// `work` ends.
pub fn reading<R>(work: impl for<'a> FnOnce(&Reader<'a>) -> R) -> R {
    // SAFETY: connect and finish are paired; on an error PostgreSQL ends the connection with the
    // (sub)transaction.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            error!("could not connect to SPI");
        }
        let result = work(&Reader(PhantomData));
        pg_sys::SPI_finish();
        result
    }
}

impl<'a> Reader<'a> {
    /// Runs a query, which may only read.
    pub fn select<const N: usize>(&self, sql: &str, args: &[Arg<'_>]) -> Found<'a, N> {
        let text = CString::new(sql).expect("no NUL in a statement");
        let mut types: Vec<Oid> = args
            .iter()
            .map(|a| match a {
                Arg::Text(_) => pg_sys::TEXTOID,
                Arg::Texts(_) => pg_sys::TEXTARRAYOID,
                Arg::Date(_) => pg_sys::DATEOID,
            })
            .collect();
        let given: Vec<Option<Datum>> = args
            .iter()
            .map(|a| match a {
                Arg::Text(v) => v.and_then(IntoDatum::into_datum),
                Arg::Texts(v) => v.to_vec().into_datum(),
                Arg::Date(v) => v.and_then(IntoDatum::into_datum),
            })
            .collect();
        let nulls: Vec<u8> = given.iter().map(|v| if v.is_none() { b'n' } else { b' ' }).collect();
        let nulls = CString::new(nulls).expect("letters and spaces");
        let mut values: Vec<Datum> = given.into_iter().map(|v| v.unwrap_or(Datum::from(0))).collect();
        // SAFETY: inside an SPI connection. The result stays where it is until SPI_finish, which
        // ends 'a; the arrays have room for every column.
        unsafe {
            let code = pg_sys::SPI_execute_with_args(
                text.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                true,
                0,
            );
            if code != pg_sys::SPI_OK_SELECT as i32 {
                error!("expected a query that reads, and SPI answered {code}");
            }
            let table = pg_sys::SPI_tuptable;
            let desc = (*table).tupdesc;
            if (*desc).natts as usize != N {
                error!("the query has {} columns where {N} are expected", (*desc).natts);
            }
            let mut datums = [Datum::from(0); N];
            let mut is_null = [false; N];
            let types: [Oid; N] = std::array::from_fn(|c| pg_sys::SPI_gettypeid(desc, c as i32 + 1));
            let rows = (0..(*table).numvals as usize)
                .map(|i| {
                    let tuple = *(*table).vals.add(i);
                    pg_sys::heap_deform_tuple(tuple, desc, datums.as_mut_ptr(), is_null.as_mut_ptr());
                    std::array::from_fn(|c| {
                        (!is_null[c]).then_some(Value { datum: datums[c], kind: types[c], life: PhantomData })
                    })
                })
                .collect();
            Found { rows, types }
        }
    }

    /// The bytes of a value, which must be of type `type_oid`.
    pub fn image(&self, value: Value<'a>, type_oid: Oid) -> Image<'a> {
        let value = value.expect(type_oid);
        // SAFETY: the value is of that type, and what it points to lives for 'a; so does a
        // decompressed copy, which is allocated in SPI's own context.
        unsafe {
            let (mut length, mut by_value) = (0i16, false);
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
            if by_value {
                return Image::Word(value.datum.value() as isize);
            }
            let bytes = if length == -1 {
                let whole = pg_sys::pg_detoast_datum_packed(value.datum.cast_mut_ptr());
                std::slice::from_raw_parts(
                    pgrx::varlena::vardata_any(whole).cast::<u8>(),
                    pgrx::varlena::varsize_any_exhdr(whole),
                )
            } else {
                std::slice::from_raw_parts(value.datum.cast_mut_ptr::<u8>(), length.max(0) as usize)
            };
            Image::Bytes(bytes)
        }
    }

    /// A text value.
    pub fn text(&self, value: Value<'a>) -> &'a str {
        match self.image(value, pg_sys::TEXTOID) {
            Image::Bytes(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Image::Word(_) => "",
        }
    }

    pub fn make_int(&self, value: i64) -> Value<'a> {
        Value::made(value)
    }

    pub fn make_short_int(&self, value: i32) -> Value<'a> {
        Value::made(value)
    }

    pub fn make_date(&self, value: pgrx::datum::Date) -> Value<'a> {
        Value::made(value)
    }

    pub fn make_text(&self, value: &str) -> Value<'a> {
        Value::made(value)
    }

    pub fn number(&self, value: i64) -> Number<'a> {
        let value = self.make_int(value);
        Number::computed(call(pg_sys::int8_numeric, value, value))
    }
}

/// An exact numeric.
#[derive(Clone, Copy)]
pub struct Number<'a>(Value<'a>);

/// Calls a function of numbers, guarded as pgrx's bindings are. One that takes a single argument
/// does not look at the second.
fn call(function: unsafe fn(pg_sys::FunctionCallInfo) -> Datum, a: Value<'_>, b: Value<'_>) -> Datum {
    // SAFETY: the call info is complete: two arguments that are not null, no collation, and no
    // context, none of which these functions look at.
    unsafe {
        let mut info = std::mem::zeroed::<Call>();
        info.head.nargs = 2;
        info.args[0].value = a.datum;
        info.args[1].value = b.datum;
        function((&raw mut info).cast())
    }
}

impl<'a> Number<'a> {
    /// Refuses what is not numeric.
    pub fn of(value: Value<'a>) -> Number<'a> {
        Number(value.expect(pg_sys::NUMERICOID))
    }

    fn computed(datum: Datum) -> Number<'a> {
        Number(Value { datum, kind: pg_sys::NUMERICOID, life: PhantomData })
    }

    pub fn value(self) -> Value<'a> {
        self.0
    }

    fn compute(
        self,
        function: unsafe fn(pg_sys::FunctionCallInfo) -> Datum,
        other: Number<'a>,
    ) -> Number<'a> {
        Number::computed(call(function, self.0, other.0))
    }

    pub fn plus(self, other: Number<'a>) -> Number<'a> {
        self.compute(pg_sys::numeric_add, other)
    }

    pub fn minus(self, other: Number<'a>) -> Number<'a> {
        self.compute(pg_sys::numeric_sub, other)
    }

    pub fn times(self, other: Number<'a>) -> Number<'a> {
        self.compute(pg_sys::numeric_mul, other)
    }

    pub fn divided_by(self, other: Number<'a>) -> Number<'a> {
        self.compute(pg_sys::numeric_div, other)
    }

    pub fn is_above(self, other: Number<'a>) -> bool {
        call(pg_sys::numeric_gt, self.0, other.0).value() != 0
    }

    /// The same without zeros at the end of its fraction.
    pub fn trimmed(self) -> Number<'a> {
        self.compute(pg_sys::numeric_trim_scale, self)
    }
}

/// A call info with room for two arguments, which lie where its flexible array begins.
#[repr(C)]
struct Call {
    head: pg_sys::FunctionCallInfoBaseData,
    args: [pg_sys::NullableDatum; 2],
}

/// Where a set-returning function puts its rows.
pub struct Store {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    types: Vec<Oid>,
}

impl Store {
    /// The store of a function called in FROM, and the types of the columns that are expected there.
    ///
    /// # Safety
    /// `fcinfo` is the call info of the function that is running.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Store {
        // SAFETY: checked to be a call that takes a materialized set; store and descriptor are made
        // in the context that outlives the call.
        unsafe {
            let info = (*fcinfo).resultinfo as *mut pg_sys::ReturnSetInfo;
            if info.is_null()
                || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
                || (*info).allowedModes as u32 & pg_sys::SetFunctionReturnMode::SFRM_Materialize == 0
                || (*info).expectedDesc.is_null()
            {
                error!("a function that returns rows was called where none can be taken: call it in FROM");
            }
            let before = pg_sys::MemoryContextSwitchTo((*(*info).econtext).ecxt_per_query_memory);
            let desc = pg_sys::CreateTupleDescCopy((*info).expectedDesc);
            let store = pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*info).setResult = store;
            (*info).setDesc = desc;
            let types = (1..=(*desc).natts).map(|n| pg_sys::SPI_gettypeid(desc, n)).collect();
            Store { store, desc, types }
        }
    }

    /// Adds a row, whose values must be of the types that the call asks for.
    pub fn put<const N: usize>(&self, row: [Option<Value<'_>>; N]) {
        let wrong = (0..N.max(self.types.len()))
            .find(|n| *n >= N || *n >= self.types.len() || row[*n].is_some_and(|v| v.kind != self.types[*n]));
        if let Some(n) = wrong {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column {} of the rows is not of the type that is asked for", n + 1),
            )
            .raise()
        }
        let mut datums: [Datum; N] = row.map(|v| v.map_or(Datum::from(0), |v| v.datum));
        let mut nulls: [bool; N] = row.map(|v| v.is_none());
        // SAFETY: one datum a column; the store copies what they point to.
        unsafe {
            pg_sys::tuplestore_putvalues(self.store, self.desc, datums.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
}
