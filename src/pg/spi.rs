//! Kept plans, run the way foreign keys run theirs: reads and writes see what is committed now, and
//! a write to a row that the transaction's own snapshot cannot see is a serialization failure.

use super::frames::{self, Reach};
use super::witness::{unguarded, whole};
use super::{role, settings, xact};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};

/// An argument of a plan. Every plan takes text, text arrays or integer arrays and casts them, so
/// that one plan text serves every key type.
pub enum Arg<'a> {
    Text(&'a str),
    Int(i32),
    Texts(Vec<String>),
    Ints(Vec<i32>),
}

impl Arg<'_> {
    fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Arg::Text(_) => pg_sys::TEXTOID,
            Arg::Int(_) => pg_sys::INT4OID,
            Arg::Texts(_) => pg_sys::TEXTARRAYOID,
            Arg::Ints(_) => pg_sys::INT4ARRAYOID,
        }
    }

    fn into_datum(self) -> pg_sys::Datum {
        match self {
            Arg::Text(v) => v.into_datum(),
            Arg::Int(v) => v.into_datum(),
            Arg::Texts(v) => v.into_datum(),
            Arg::Ints(v) => v.into_datum(),
        }
        .expect("no argument is null")
    }
}

/// Rows of text columns.
pub type Rows<const N: usize> = Vec<[Option<String>; N]>;

thread_local! {
    /// Plans by who runs them, whether past row security, and their SQL. PostgreSQL replans them itself
    /// when what they name changes, and does not know of the exemption.
    static PLANS: RefCell<HashMap<Key, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
    /// Plans at work: statements of ours that triggers of other ones run.
    static AT_WORK: Cell<u32> = const { Cell::new(0) };
}

type Key = (pg_sys::Oid, bool, String);

/// Plans kept at most. Those of tables that are no more are among them: some 70 kB each.
const MAX_PLANS: usize = 256;

struct AtWork;

impl AtWork {
    fn begin() -> AtWork {
        AT_WORK.set(AT_WORK.get() + 1);
        AtWork
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(AT_WORK.get() - 1);
    }
}

/// Which state of the tables a plan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What is committed now, and all of the transaction's own. The only one to write on.
    Now,
    /// What the calling statement sees: for functions that answer a query.
    ByStatement,
    /// What is committed now, but nothing that the statement has done which fired the trigger.
    BeforeStatement,
}

/// Runs a statement that only reads as the current user, past the row security of his own tables, and
/// returns its rows; every column must be text. Who that is need not be who chose the search_path: it
/// finds the server's own names alone.
///
/// Row security enters a statement when it is rewritten, so only planning goes past it. What runs
/// while the statement does, a trigger of the user's own above all, is behind the wall as always;
/// the plans made in there would otherwise stay in the session and show every org.
pub fn read<const N: usize>(sql: &str, args: Vec<Arg<'_>>) -> Rows<N> {
    look(Seen::Now, sql, args)
}

/// The same for a state of the tables that is chosen.
pub fn look<const N: usize>(seen: Seen, sql: &str, args: Vec<Arg<'_>>) -> Rows<N> {
    settings::on_safe_path(|| settings::in_whole_fractions(|| run(seen, sql, args, true)))
}

/// The same for a statement that writes. The triggers that it fires look up their names on the path as
/// it is, so it must qualify all of its own.
pub fn write<const N: usize>(sql: &str, args: Vec<Arg<'_>>) -> Rows<N> {
    run(Seen::Now, sql, args, true)
}

/// Reads a table of `owner`, named in the statement, as the current user: past its row security only where
/// he may do what the owner may. Its policies name what he is to be held to, and may call functions of his
/// that look for what is on the path.
pub fn read_as_caller<const N: usize>(
    (table, owner): (pg_sys::Oid, pg_sys::Oid),
    sql: &str,
    args: Vec<Arg<'_>>,
) -> Rows<N> {
    frames::naming(table, || {
        if role::has_privileges_of(role::current(), owner) {
            read(sql, args)
        } else {
            run(Seen::Now, sql, args, false)
        }
    })
}

fn run<const N: usize>(seen: Seen, sql: &str, args: Vec<Arg<'_>>, past: bool) -> Rows<N> {
    frames::own(Reach::Statement, || settings::without_jit(|| run_plan(seen, sql, args, past)))
}

fn run_plan<const N: usize>(seen: Seen, sql: &str, args: Vec<Arg<'_>>, past: bool) -> Rows<N> {
    let types: Vec<pg_sys::Oid> = args.iter().map(Arg::type_oid).collect();
    let mut values: Vec<pg_sys::Datum> = args.into_iter().map(Arg::into_datum).collect();
    let nulls = CString::new(vec![b' '; values.len()]).expect("spaces");
    // SAFETY: connect and finish are paired; on an error PostgreSQL ends the connection with the
    // (sub)transaction. Results are copied before SPI_finish frees them.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            error!("could not connect to SPI");
        }
        let _at_work = AtWork::begin();
        let prepare = || {
            let plan = plan((role::current(), past, sql.to_owned()), &types);
            // Brings the kept plan up to date, and takes the locks: nothing that changed the tables
            // is left to be noticed when it runs.
            let current = whole(sql, || unguarded::SPI_plan_get_cached_plan(plan));
            if !current.is_null() {
                pg_sys::ReleaseCachedPlan(current, pg_sys::CurrentResourceOwner);
            }
            plan
        };
        let plan = if past { role::planning_past_row_security(prepare) } else { prepare() };
        match seen {
            Seen::Now => execute(sql, plan, &mut values, &nulls),
            Seen::ByStatement => read_by(sql, plan, &mut values, &nulls, std::ptr::null_mut()),
            Seen::BeforeStatement => {
                let before = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
                // What the statement did carries its command's number, and what its triggers did a
                // higher one; the active snapshot is the statement's own.
                if pg_sys::ActiveSnapshotSet() {
                    (*before).curcid = (*pg_sys::GetActiveSnapshot()).curcid;
                }
                read_by(sql, plan, &mut values, &nulls, before);
                pg_sys::UnregisterSnapshot(before);
            }
        }
        let rows = copy_rows();
        pg_sys::SPI_finish();
        rows
    }
}

/// Runs a plan that only reads, by a snapshot, or by the active one where that is null.
///
/// # Safety
/// As `execute`; the snapshot is registered.
unsafe fn read_by(
    sql: &str,
    plan: pg_sys::SPIPlanPtr,
    values: &mut [pg_sys::Datum],
    nulls: &CStr,
    snapshot: pg_sys::Snapshot,
) {
    // SAFETY: as above.
    let code = unsafe {
        let (values, nulls, none) = (values.as_mut_ptr(), nulls.as_ptr(), std::ptr::null_mut());
        whole(sql, || unguarded::SPI_execute_snapshot(plan, values, nulls, snapshot, none, true, false, 0))
    };
    if code < 0 {
        error!("SPI_execute_snapshot answered {code}");
    }
}

/// Runs a writing plan on what is committed now. Where the transaction keeps one snapshot, a row to
/// be written that this one does not show is a serialization failure.
///
/// # Safety
/// Inside an SPI connection; `values` and `nulls` (one character each) are what the plan of `sql` takes.
pub(super) unsafe fn execute(
    sql: &str,
    plan: pg_sys::SPIPlanPtr,
    values: &mut [pg_sys::Datum],
    nulls: &CStr,
) {
    // SAFETY: as above.
    unsafe {
        let (test, crosscheck) = if xact::keeps_one_snapshot() {
            pg_sys::CommandCounterIncrement();
            (pg_sys::GetLatestSnapshot(), pg_sys::GetTransactionSnapshot())
        } else {
            (std::ptr::null_mut(), std::ptr::null_mut())
        };
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
        let code = whole(sql, || {
            unguarded::SPI_execute_snapshot(plan, values, nulls, test, crosscheck, false, true, 0)
        });
        if code < 0 {
            error!("SPI_execute_snapshot answered {code}");
        }
    }
}

unsafe fn plan(key: Key, types: &[pg_sys::Oid]) -> pg_sys::SPIPlanPtr {
    if let Some(plan) = PLANS.with(|p| p.borrow().get(&key).copied()) {
        return plan;
    }
    let text = CString::new(key.2.as_str()).expect("no NUL in a statement");
    let mut types = types.to_vec();
    // SAFETY: inside an SPI connection; keepplan moves the plan out of it. None of those that are freed
    // is at work: this one, not among them yet, is the only one.
    unsafe {
        if AT_WORK.get() == 1 && PLANS.with(|p| p.borrow().len()) >= MAX_PLANS {
            let plans = PLANS.take();
            for plan in plans.into_values() {
                pg_sys::SPI_freeplan(plan);
            }
        }
        let (source, count, types) = (text.as_ptr(), types.len() as i32, types.as_mut_ptr());
        let plan = whole(&key.2, || unguarded::SPI_prepare(source, count, types));
        if plan.is_null() {
            error!("could not prepare: {}", key.2);
        }
        pg_sys::SPI_keepplan(plan);
        PLANS.with(|p| p.borrow_mut().insert(key, plan));
        plan
    }
}

/// The rows that the statement just run has left, which are text.
///
/// # Safety
/// Inside the SPI connection that ran it.
pub(super) unsafe fn copy_rows<const N: usize>() -> Rows<N> {
    // SAFETY: SPI_tuptable is null or belongs to the statement just run.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let count = (*table).numvals as usize;
        (0..count)
            .map(|i| {
                let tuple = *(*table).vals.add(i);
                std::array::from_fn(|column| {
                    let value: *mut c_char = pg_sys::SPI_getvalue(tuple, (*table).tupdesc, column as i32 + 1);
                    (!value.is_null()).then(|| std::ffi::CStr::from_ptr(value).to_string_lossy().into_owned())
                })
            })
            .collect()
    }
}
