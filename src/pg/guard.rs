//! The hooks that see which tables a statement touches, and whether their wall stands before it.
//!
//! The executor's permission hook is asked for each statement, for COPY, for EXPLAIN, and for the query
//! that validates a foreign key. Row security entered the statement when it was rewritten; what is
//! asked here is whether it had to.

use super::{cascade, cursor, door, frames, planned, protected, role, session, upsert, xact};
use crate::tenant::org::OrgKind;
use pgrx::pg_sys;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use protected::Standing;
use std::ffi::{c_int, c_void};

/// Why row security would not be applied to a protected table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Row security is off, or the wall's policy is not what it was.
    SwitchedOff,
    Altered,
    /// The rows stand in a materialized view.
    Copied,
    /// It is where a protected table keeps its long values.
    Toast,
    /// Whoever the statement works as.
    Superuser(Oid),
    BypassesRls(Oid),
    UnforcedOwner(Oid),
    /// The statement was rewritten inside a foreign key's cascade or path maintenance. Never let pass.
    InCascade,
    /// A MERGE that reads no column of its target: PostgreSQL 15 matches it with every org's rows, and their
    /// number tells. Never let pass either.
    UnreadMerge,
    Truncate,
}

/// A statement that touches a protected table past its wall.
#[derive(Clone, Copy, Debug)]
pub struct Breach {
    pub relation: Oid,
    pub cause: Cause,
}

/// What is decided elsewhere.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Is the guard at work? Asked for each statement.
    pub is_on: fn() -> bool,
    /// Is this the role that the service door works as?
    pub is_service: fn(Oid) -> bool,
    /// Told of a breach; raises to refuse it.
    pub breach: fn(Breach),
    /// Told of a statement behind a wall that has no org of this kind to compare with; raises.
    pub unbound: fn(OrgKind),
}

static mut RULES: Option<Rules> = None;
static mut NEXT_PERMS: pg_sys::ExecutorCheckPerms_hook_type = None;
static mut NEXT_ACCESS: pg_sys::object_access_hook_type = None;

/// Puts the hooks in their places. Called once, when the library is loaded.
pub fn init(rules: Rules) {
    protected::init();
    frames::init();
    cascade::init();
    planned::init();
    upsert::init();
    // SAFETY: the hooks have the signatures PostgreSQL expects and hand on to whoever was there.
    unsafe {
        RULES = Some(rules);
        NEXT_PERMS = pg_sys::ExecutorCheckPerms_hook;
        pg_sys::ExecutorCheckPerms_hook = Some(perms);
        NEXT_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(access);
    }
}

/// Was the library loaded before the session's first statement? In a parallel worker: is it not for
/// this process to say.
pub fn is_preloaded() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress || pg_sys::debug_query_string.is_null() }
}

/// Turns a setting's default, in this session and the parallel workers it starts, into another.
/// What was configured stays.
pub fn set_default(name: &std::ffi::CStr, value: &std::ffi::CStr) {
    // SAFETY: both strings are 'static here. A parallel operation, in which nothing can be set, has
    // loaded the library before it began.
    unsafe {
        if !pg_sys::IsInParallelMode() {
            let dynamic = pg_sys::GucSource::PGC_S_DYNAMIC_DEFAULT;
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), pg_sys::GucContext::PGC_INTERNAL, dynamic);
        }
    }
}

fn rules() -> Option<Rules> {
    // SAFETY: written once, when the library was loaded.
    unsafe { RULES }
}

/// Holds no Rust value when it calls on: errors of other hooks leave it by longjmp.
#[cfg(feature = "pg15")]
unsafe extern "C-unwind" fn perms(tables: *mut pg_sys::List, loud: bool) -> bool {
    // SAFETY: PostgreSQL's own arguments; entries are read by their kind.
    unsafe {
        if let Some(next) = NEXT_PERMS
            && !next(tables, loud)
        {
            return false;
        }
        if !loud && role::is_defining() {
            return false;
        }
        door::expect_read_only();
        cursor::note_start();
        upsert::note(super::relation::list(tables).map(|entry| {
            let entry = &*entry.cast::<pg_sys::RangeTblEntry>();
            (entry.relid, entry.requiredPerms, entry.updatedCols.cast_const())
        }));
        if !is_leaders() {
            let guarded = is_on();
            for entry in super::relation::list(tables) {
                let entry = &*entry.cast::<pg_sys::RangeTblEntry>();
                // Without permissions to check: a partition that the planner added, a rule's OLD and NEW.
                if entry.rtekind == pg_sys::RTEKind::RTE_RELATION
                    && entry.requiredPerms != 0
                    && !passes(entry.relid, entry.checkAsUser, loud, guarded)
                {
                    return false;
                }
            }
        }
        frames::remember();
        true
    }
}

/// Holds no Rust value when it calls on: errors of other hooks leave it by longjmp.
#[cfg(not(feature = "pg15"))]
unsafe extern "C-unwind" fn perms(tables: *mut pg_sys::List, infos: *mut pg_sys::List, loud: bool) -> bool {
    // SAFETY: PostgreSQL's own arguments.
    unsafe {
        if let Some(next) = NEXT_PERMS
            && !next(tables, infos, loud)
        {
            return false;
        }
        if !loud && role::is_defining() {
            return false;
        }
        door::expect_read_only();
        cursor::note_start();
        upsert::note(super::relation::list(infos).map(|info| {
            let info = &*info.cast::<pg_sys::RTEPermissionInfo>();
            (info.relid, info.requiredPerms, info.updatedCols.cast_const())
        }));
        if !is_leaders() {
            let guarded = is_on();
            for info in super::relation::list(infos) {
                let info = &*info.cast::<pg_sys::RTEPermissionInfo>();
                if !passes(info.relid, info.checkAsUser, loud, guarded) {
                    return false;
                }
            }
        }
        frames::remember();
        true
    }
}

/// The part of a plan that a parallel worker runs was judged by its leader, who knows what set it off; what functions
/// do inside it was not.
fn is_leaders() -> bool {
    // SAFETY: reads backend state.
    xact::is_parallel_worker() && unsafe { pg_sys::error_context_stack.is_null() }
}

fn is_on() -> bool {
    rules().is_some_and(|rules| (rules.is_on)())
}

/// May the statement touch this relation? Catalogs and what is known to pass are the fast path. Without the guard it
/// is only asked whether an org is bound.
#[inline]
fn passes(relation: Oid, as_user: Oid, loud: bool, guarded: bool) -> bool {
    if relation.to_u32() < pg_sys::FirstNormalObjectId || !loud && !guarded {
        return true;
    }
    let user = if as_user == Oid::INVALID { role::current() } else { as_user };
    // What a foreign key's query names it names itself; a rule's action in it names a user.
    let foreign_keys = || as_user == Oid::INVALID && frames::is_foreign_keys();
    if loud && (protected::is_known_to_pass(relation, user) || foreign_keys()) {
        return true;
    }
    // SAFETY: guarded; what it raises is an ordinary PostgreSQL error here.
    unsafe { judge(relation, user, loud, guarded) }
}

#[pg_guard]
unsafe extern "C-unwind" fn judge(relation: Oid, user: Oid, loud: bool, guarded: bool) -> bool {
    let standing = protected::standing(relation);
    if standing == Standing::Open {
        return true;
    }
    if !loud {
        // The check of a new foreign key asks whether it may read both tables. It would see the
        // bound org's rows and take the key to be good; told no, it checks row by row and sees all.
        return frames::is_own();
    }
    let Some(rules) = rules() else { return true };
    if standing == Standing::Walled && protected::is_before(relation, user) {
        // Now: asked of each row, it would tell which rows were looked at.
        let kind = protected::org_kind(relation);
        if !session::is_bound_as(kind) && !frames::is_own() {
            (rules.unbound)(kind);
        }
        return true;
    }
    if !guarded || frames::is_own() || (rules.is_service)(user) {
        return true;
    }
    let cause = match standing {
        Standing::SwitchedOff => Cause::SwitchedOff,
        Standing::Altered => Cause::Altered,
        Standing::Copied => Cause::Copied,
        Standing::Toast => Cause::Toast,
        Standing::Walled | Standing::Open => role_cause(user),
    };
    (rules.breach)(Breach { relation, cause });
    true
}

fn role_cause(user: Oid) -> Cause {
    if role::is_superuser(user) {
        Cause::Superuser(user)
    } else if role::bypasses_row_security(user) {
        Cause::BypassesRls(user)
    } else if role::is_past_forced_row_security() {
        Cause::InCascade
    } else {
        Cause::UnforcedOwner(user)
    }
}

/// A statement that was rewritten past a wall that would stand before it. Whatever the guard is set to.
pub(super) fn refuse_rewritten(relation: Oid, cause: Cause) {
    if let Some(rules) = rules() {
        (rules.breach)(Breach { relation, cause });
    }
}

/// TRUNCATE asks nobody for its rows; a trigger of ours refuses it, while the trigger is there.
unsafe extern "C-unwind" fn access(
    event: pg_sys::ObjectAccessType::Type,
    class: Oid,
    object: Oid,
    part: c_int,
    arg: *mut c_void,
) {
    // SAFETY: PostgreSQL's own arguments are handed on.
    unsafe {
        if let Some(next) = NEXT_ACCESS {
            next(event, class, object, part, arg);
        }
        if event == pg_sys::ObjectAccessType::OAT_TRUNCATE && !is_leaders() && is_on() {
            judge_truncate(object);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn judge_truncate(relation: Oid) {
    if !matches!(protected::standing(relation), Standing::Open | Standing::Copied | Standing::Toast)
        && let Some(rules) = rules()
    {
        (rules.breach)(Breach { relation, cause: Cause::Truncate });
    }
}
