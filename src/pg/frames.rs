//! Whose statement is it: our own maintenance's, a foreign key's, or somebody's own?
//!
//! PostgreSQL keeps a stack of error contexts. Each statement run through SPI has a frame there, and so
//! has each function of a procedural language and each SQL function. A statement of ours stands
//! directly on the frame at which we began; one that it sets off (a trigger's, a function's) cannot
//! stand there, whatever its text, because its frame lies above ours. SQL cannot forge a position.
//!
//! A C function that runs statements without a frame of its own would blur this; reached by a foreign key,
//! it has lost the exemption before (see `cascade`).

use super::{role, xact};
use pgrx::pg_sys;
use pgrx::pg_sys::{ErrorContextCallback, Oid};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::thread::LocalKey;

/// How far above our own frame our statement may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The statement itself.
    Statement,
    /// Also the query that an ALTER TABLE of ours checks a foreign key with. For statements that fire
    /// no trigger.
    ForeignKeyCheck,
}

impl Reach {
    fn levels(self) -> u8 {
        match self {
            Reach::Statement => 1,
            Reach::ForeignKeyCheck => 2,
        }
    }
}

#[derive(Clone, Copy)]
struct Own {
    base: Place,
    levels: u8,
}

/// A statement that was let through where a later one has to be told from a foreign key's.
#[derive(Clone, Copy)]
struct Passed {
    frame: *mut ErrorContextCallback,
    callback: usize,
    arg: *mut c_void,
    depth: i32,
}

/// Work that is done as the owner of a table.
#[derive(Clone, Copy)]
pub struct Acting {
    base: Place,
    owner: Oid,
    levels: u8,
}

thread_local! {
    static OWN: Cell<Option<Own>> = const { Cell::new(None) };
    static ACTING: Cell<Option<Acting>> = const { Cell::new(None) };
    static NAMED: Cell<Option<(Place, Oid)>> = const { Cell::new(None) };
    static PASSED: RefCell<Vec<Passed>> = const { RefCell::new(Vec::new()) };
}

/// Called once, when the library is loaded.
pub fn init() {
    xact::at_top_end(|| PASSED.with(|p| p.borrow_mut().clear()));
}

/// A place on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Place(*mut ErrorContextCallback);

impl Place {
    pub fn here() -> Place {
        // SAFETY: reads backend state.
        Place(unsafe { pg_sys::error_context_stack })
    }

    /// Does the statement at work stand directly on this place?
    pub fn bears_statement(self) -> bool {
        self.bears_statement_within(1)
    }

    /// Does it stand on it, with nothing between but so many statements, itself among them?
    fn bears_statement_within(self, levels: u8) -> bool {
        // SAFETY: frames on the stack are alive.
        unsafe {
            let top = pg_sys::error_context_stack;
            let mut frame = top;
            for _ in 0..levels {
                if frame.is_null() || callback(frame) != callback(top) {
                    return false;
                }
                frame = (*frame).previous;
                if frame == self.0 {
                    return true;
                }
            }
            false
        }
    }
}

/// Puts back what stood in a place of ours before the work that is under way.
pub struct PutBack<T: Copy + 'static> {
    of: &'static LocalKey<Cell<Option<T>>>,
    before: Option<T>,
}

impl<T: Copy> PutBack<T> {
    pub(super) fn set(of: &'static LocalKey<Cell<Option<T>>>, now: Option<T>) -> PutBack<T> {
        PutBack { of, before: of.replace(now) }
    }
}

impl<T: Copy> Drop for PutBack<T> {
    fn drop(&mut self) {
        self.of.set(self.before);
    }
}

/// Does work whose statements are our own maintenance's.
pub fn own<R>(reach: Reach, work: impl FnOnce() -> R) -> R {
    let _put_back = PutBack::set(&OWN, Some(Own { base: Place::here(), levels: reach.levels() }));
    work()
}

/// Does work whose statements name this relation, by text: another in its place is none that was looked at.
pub fn naming<R>(relation: Oid, work: impl FnOnce() -> R) -> R {
    let _put_back = PutBack::set(&NAMED, Some((Place::here(), relation)));
    work()
}

/// Is the statement about to be planned one of ours that names a relation? Then: which.
pub fn relation_named() -> Option<Oid> {
    let (base, relation) = NAMED.get()?;
    base.bears_statement().then_some(relation)
}

/// While the answer lives, we work as the owner of a table, or as nobody's.
pub fn act_as_owner(owner: Option<(Oid, Reach)>) -> PutBack<Acting> {
    let acting = owner.map(|(owner, reach)| Acting { base: Place::here(), owner, levels: reach.levels() });
    PutBack::set(&ACTING, acting)
}

/// Is the statement about to be planned one that we run as the owner of a table? Then: as whom.
pub fn owner_acted_as() -> Option<Oid> {
    let acting = ACTING.get()?;
    acting.base.bears_statement_within(acting.levels).then_some(acting.owner)
}

unsafe fn callback(frame: *mut ErrorContextCallback) -> usize {
    // SAFETY: the caller's frame is on the stack.
    unsafe { (*frame).callback }.map_or(0, |function| function as usize)
}

/// Is the statement about to run one of ours?
pub fn is_own() -> bool {
    OWN.get().is_some_and(|own| own.base.bears_statement_within(own.levels))
}

/// Is the frame on the stack, below `from`?
unsafe fn is_below(from: *mut ErrorContextCallback, passed: &Passed) -> bool {
    // SAFETY: as above; a remembered frame is only compared until it is found on the stack.
    unsafe {
        let mut frame = from;
        while !frame.is_null() {
            if frame == passed.frame {
                return callback(frame) == passed.callback && (*frame).arg == passed.arg;
            }
            frame = (*frame).previous;
        }
        false
    }
}

fn trigger_depth() -> i32 {
    // SAFETY: reads a static, and nothing of its call info.
    unsafe { pg_sys::pg_trigger_depth(std::ptr::null_mut()).value() as i32 }
}

/// Is the statement about to run one by which a foreign key checks or cascades?
///
/// Those run as the table's owner past row security; nothing else in PostgreSQL does. So does, alas,
/// what they reach by a function that is built in, or was looked up before (see `cascade`). The first
/// such statement, in a place that was behind row security, is the foreign key's. Inside, one is a
/// foreign key's if it stands directly on a statement that was let through, one trigger deeper: what a
/// function runs has a frame between the two or the depth of its statement, a foreign key's has neither.
pub fn is_foreign_keys() -> bool {
    // SAFETY: reads backend state and frames on the stack.
    unsafe {
        let top = pg_sys::error_context_stack;
        // Foreign keys' queries are not parallel, and what a worker runs lacks what is remembered here.
        if top.is_null() || !role::is_past_forced_row_security() || xact::is_parallel_worker() {
            return false;
        }
        let below = (*top).previous;
        PASSED.with(|passed| {
            let passed = passed.borrow();
            let inside = OWN.get().is_some() || passed.iter().any(|p| is_below(below, p));
            !inside || {
                let depth = trigger_depth();
                passed.iter().any(|p| p.frame == below && p.depth + 1 == depth && is_below(below, p))
            }
        })
    }
}

/// Remembers the statement that was let through, where that will matter: in our own work, in a foreign
/// key's, and in what a trigger does inside either, which may have foreign keys of its own.
pub fn remember() {
    // SAFETY: as above.
    unsafe {
        let top = pg_sys::error_context_stack;
        let inside = || {
            OWN.get().is_some()
                || role::is_past_forced_row_security()
                || PASSED.with(|passed| passed.borrow().iter().any(|p| is_below(top, p)))
        };
        if top.is_null() || !inside() {
            return;
        }
        let this = Passed { frame: top, callback: callback(top), arg: (*top).arg, depth: trigger_depth() };
        PASSED.with(|passed| {
            let mut passed = passed.borrow_mut();
            passed.retain(|p| is_below((*top).previous, p));
            passed.push(this);
        });
    }
}
