//! Statements of users that come up inside a foreign key's query, or inside our own maintenance, are
//! analysed and planned without the exemption from row security that those have.
//!
//! Row security is written into a statement when that is rewritten, by what runs at that moment, and
//! stays in it: what somebody prepares in there would go past a wall whenever it is run later. The
//! functions through which users get there are called without the exemption (see `cascade`), but for
//! those that were looked up before, a cursor's or a cast's, and SQL functions.
//!
//! A foreign key sets the exemption anew for its next statement, and has its own rewritten when users'
//! code runs: so it is taken away for good. Ours, which is for more than one statement, is let alone.
//!
//! Some statements are rewritten and never analysed: the body of a BEGIN ATOMIC function, CREATE TABLE
//! AS, a rule's action that comes with the statement which sets it off. So each statement is also judged
//! by what it has become, before it is planned: a protected table in it that lacks the wall, although
//! the wall would stand before whoever reads it, is there by an exemption. Only foreign keys and our
//! own maintenance may have that, for the tables that they name themselves.
//!
//! What we run as the owner of a table names tables by text, and a schema's owner can put another in the
//! place of one at any time. To plan a statement is to run what stands in its tables' indexes and
//! constraints, so those of ours have to be that owner's, every one.

use super::guard::Cause;
use super::protected::{self, Standing};
use super::{door, enforced, frames, guard, relation, role};
use crate::error::Refusal;
use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys::{self, Node, Oid, Query, RangeTblEntry};
use pgrx::prelude::*;
use std::ffi::{c_char, c_int, c_void};

static mut NEXT_ANALYZE: pg_sys::post_parse_analyze_hook_type = None;
static mut NEXT_PLANNER: pg_sys::planner_hook_type = None;
/// How many statements are being planned under our eyes, one inside of the other.
static mut DEPTH: u32 = 0;

/// Not pgrx's guarded binding: it is called where no Rust value is alive, and left by longjmp.
pub(super) mod bare {
    use super::*;

    unsafe extern "C-unwind" {
        pub fn standard_planner(
            query: *mut Query,
            text: *const c_char,
            options: c_int,
            params: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;

        #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
        pub fn query_tree_walker(query: *mut Query, visit: Visit, context: *mut c_void, flags: c_int)
        -> bool;

        #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
        pub fn expression_tree_walker(node: *mut Node, visit: Visit, context: *mut c_void) -> bool;

        pub fn pg_re_throw() -> !;
    }
}

pub(super) type Visit = unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> bool;

/// Called once, when the library is loaded.
pub fn init() {
    // SAFETY: the hooks have the signatures PostgreSQL expects and hand on to whoever was there.
    unsafe {
        NEXT_ANALYZE = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(analyzed);
        NEXT_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
    }
    enforced::init();
}

/// Is the statement that is being planned one that we see to? One in whose planning a call has loaded the library is not.
pub(super) fn is_seen() -> bool {
    // SAFETY: a backend has one thread.
    unsafe { DEPTH > 0 }
}

/// Calls the planner. `DEPTH` is as it was when an error leaves it, too.
unsafe fn plan_seen(call: impl FnOnce() -> *mut pg_sys::PlannedStmt) -> *mut pg_sys::PlannedStmt {
    // SAFETY: a backend has one thread; nothing of Rust's is alive where an error jumps, which goes on at once.
    unsafe {
        let (handler, contexts, depth) = (pg_sys::PG_exception_stack, pg_sys::error_context_stack, DEPTH);
        let mut stmt = std::ptr::null_mut();
        let jumped = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = std::ptr::from_ref::<SigJmpBufFields>(buffer).cast_mut().cast();
            DEPTH = depth + 1;
            stmt = call();
            0
        });
        pg_sys::PG_exception_stack = handler;
        pg_sys::error_context_stack = contexts;
        DEPTH = depth;
        if jumped != 0 {
            bare::pg_re_throw();
        }
        stmt
    }
}

/// Before the statement is rewritten.
unsafe extern "C-unwind" fn analyzed(
    state: *mut pg_sys::ParseState,
    query: *mut Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: PostgreSQL's own arguments are handed on.
    unsafe {
        if let Some(next) = NEXT_ANALYZE {
            next(state, query, jumble);
        }
    }
    if role::is_past_forced_row_security() {
        // SAFETY: guarded.
        unsafe { take_exemption() }
    }
}

/// What the planner puts in line is rewritten while it plans.
unsafe extern "C-unwind" fn plan(
    query: *mut Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    door::expect_read_only();
    // SAFETY: as PostgreSQL's own walkers call it; nothing of Rust's is alive.
    unsafe {
        if frames::owner_acted_as().is_some() {
            visit_as_owner(query.cast(), std::ptr::null_mut());
        }
        if frames::relation_named().is_some() {
            expect_named(query);
        }
        visit(query.cast(), std::ptr::null_mut());
    }
    if role::is_past_forced_row_security() {
        // SAFETY: guarded.
        unsafe { take_exemption() }
    }
    // SAFETY: PostgreSQL's own arguments are handed on.
    unsafe {
        let stmt = plan_seen(|| match NEXT_PLANNER {
            Some(next) => next(query, text, options, params),
            None => bare::standard_planner(query, text, options, params),
        });
        enforced::enforce(stmt);
        stmt
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn take_exemption() {
    if frames::is_foreign_keys() {
        // What is computed while it is planned runs inside of it.
        frames::remember();
    } else if !frames::is_own() && !role::is_own_exemption() {
        role::set_past_forced_row_security(false);
    }
}

/// Looks at the tables of a statement, and of every statement in it.
unsafe extern "C-unwind" fn visit(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: nodes are read as what their tags say; the walkers get what PostgreSQL's own would.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ != pg_sys::NodeTag::T_Query {
            return bare::expression_tree_walker(node, visit, context);
        }
        let query: *mut Query = node.cast();
        for (at, entry) in relation::list((*query).rtable).enumerate() {
            let entry: *mut RangeTblEntry = entry.cast();
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && let Some(as_user) = checked_as(query, entry)
                && !protected::is_known_to_be_open((*entry).relid)
            {
                judge(query, at as c_int + 1, entry, as_user);
            }
        }
        bare::query_tree_walker(query, visit, context, 0)
    }
}

/// Looks whose the tables are of a statement that we run as the owner of one.
unsafe extern "C-unwind" fn visit_as_owner(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: as in `visit`.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ != pg_sys::NodeTag::T_Query {
            return bare::expression_tree_walker(node, visit_as_owner, context);
        }
        let query: *mut Query = node.cast();
        for entry in relation::list((*query).rtable) {
            // A view leaves entries of its own, of either kind.
            let relation = (*entry.cast::<RangeTblEntry>()).relid;
            if relation.to_u32() >= pg_sys::FirstNormalObjectId {
                expect_owned(relation);
            }
        }
        bare::query_tree_walker(query, visit_as_owner, context, 0)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn expect_named(query: *const Query) {
    let Some(named) = frames::relation_named() else { return };
    // SAFETY: the caller's statement.
    let names_it = unsafe {
        relation::list((*query).rtable).any(|entry| {
            let entry = &*entry.cast::<RangeTblEntry>();
            entry.rtekind == pg_sys::RTEKind::RTE_RELATION && entry.relid == named
        })
    };
    if !names_it {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "another table took the place of the one that was named, while it was waited for",
        )
        .hint("Somebody renamed it, or its schema. Try again.")
        .raise()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn expect_owned(relation: Oid) {
    let Some(owner) = frames::owner_acted_as() else { return };
    for of in relation::with_descendants(relation) {
        // Our registries are read too; nobody can put anything else into their schema.
        if let Some((other, schema)) = relation::owner_and_schema(of)
            && other != owner
            && !relation::is_ours(schema)
        {
            refuse_other_owner(of, owner, other)
        }
    }
}

fn refuse_other_owner(relation: Oid, owner: Oid, other: Oid) -> ! {
    let facts = relation::facts(relation);
    let name = |role| role::name(role).unwrap_or_default();
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "{}.{} belongs to role \"{}\", and what it goes with to role \"{}\"",
            facts.schema,
            facts.name,
            name(other),
            name(owner)
        ),
    )
    .hint("A tree, its partitions, its history and its second parents have one owner: ALTER TABLE … OWNER TO …;")
    .table(&facts.schema, &facts.name)
    .raise()
}

/// As whom the table is read or written, invalid for the current user; None where it is not: a rule's
/// OLD and NEW.
#[cfg(feature = "pg15")]
unsafe fn checked_as(_query: *const Query, entry: *const RangeTblEntry) -> Option<Oid> {
    // SAFETY: the caller's entry.
    unsafe { ((*entry).requiredPerms != 0).then(|| (*entry).checkAsUser) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn checked_as(query: *const Query, entry: *const RangeTblEntry) -> Option<Oid> {
    // SAFETY: the caller's entry, which counts from one in its statement's list.
    unsafe {
        let info = ((*entry).perminfoindex as usize).checked_sub(1)?;
        let info: *const pg_sys::RTEPermissionInfo = relation::list((*query).rteperminfos).nth(info)?.cast();
        Some((*info).checkAsUser)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn judge(query: *const Query, at: c_int, entry: *const RangeTblEntry, as_user: Oid) {
    // SAFETY: the caller's nodes.
    let (relation, lacks_wall) = unsafe {
        let relation = (*entry).relid;
        let user = if as_user == Oid::INVALID { role::current() } else { as_user };
        let walled = protected::standing(relation) == Standing::Walled
            && protected::is_ordinarily_before(relation, user);
        (relation, walled && !has_wall(query, at, entry))
    };
    let names_it_itself =
        || as_user == Oid::INVALID && (role::is_open_work() || frames::is_own() || frames::is_foreign_keys());
    if lacks_wall && !names_it_itself() {
        // SAFETY: the caller's statement.
        let merges =
            unsafe { (*query).commandType == pg_sys::CmdType::CMD_MERGE && (*query).resultRelation == at };
        let past = role::is_past_forced_row_security();
        let cause = if merges && !past { Cause::UnreadMerge } else { Cause::InCascade };
        guard::refuse_rewritten(relation, cause);
    }
}

/// Is the wall's condition in the statement: on the rows that are read, and on those that are written? Where
/// no policy lets the role do what it does, PostgreSQL puts in a constant that is false, and nothing else.
///
/// Anybody can put a condition on rows, by a view that is a security barrier; checks of row security's kind
/// come from policies alone.
unsafe fn has_wall(query: *const Query, at: c_int, entry: *const RangeTblEntry) -> bool {
    // SAFETY: the caller's nodes.
    unsafe {
        let conflict = (*query).onConflict;
        // The row of EXCLUDED is none of the table's.
        if !conflict.is_null() && (*conflict).exclRelIndex == at {
            return true;
        }
        let holds = |qual: *mut Node| is_false(qual) || protected::is_wall_of((*entry).relid, qual);
        let on_read = || relation::list((*entry).securityQuals).any(|qual| holds(qual.cast()));
        let on_written = || {
            relation::list((*query).withCheckOptions).any(|check| {
                let check: *const pg_sys::WithCheckOption = check.cast();
                (*check).kind != pg_sys::WCOKind::WCO_VIEW_CHECK && holds((*check).qual)
            })
        };
        match (*query).commandType {
            _ if (*query).resultRelation != at => on_read(),
            pg_sys::CmdType::CMD_INSERT => on_written(),
            pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_MERGE => on_read() && on_written(),
            _ => on_read(),
        }
    }
}

unsafe fn is_false(qual: *const Node) -> bool {
    // SAFETY: the node is read as what its tag says.
    unsafe {
        !qual.is_null() && (*qual).type_ == pg_sys::NodeTag::T_Const && {
            let constant = &*qual.cast::<pg_sys::Const>();
            constant.consttype == pg_sys::BOOLOID && !constant.constisnull && constant.constvalue.value() == 0
        }
    }
}
