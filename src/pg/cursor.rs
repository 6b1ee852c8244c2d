//! Cursors WITH HOLD are filled when their transaction ends and stay: with a binding's rows, in a
//! session that is bound to another org by then, or to none.

use super::spi;
use super::xact::INVALID_SUBTRANSACTION;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_char;

type Hook = pg_sys::ProcessUtility_hook_type;

/// Asked before a cursor WITH HOLD is declared; raises where it may not be.
pub type Gate = fn();

static mut GATE: Option<Gate> = None;
static mut PREVIOUS: Hook = None;

thread_local! {
    /// Was one declared in this transaction?
    static DECLARED: Cell<bool> = const { Cell::new(false) };
    /// Has this transaction a part that ran before the hook stood, and that nobody has looked at?
    static UNSEEN: Cell<bool> = const { Cell::new(false) };
    /// Was the hook put up in this transaction? The statement at work may be a DECLARE that it has not seen.
    static YOUNG: Cell<bool> = const { Cell::new(false) };
}

/// Puts the hook in its place. Called once, when the library is loaded.
pub fn init(gate: Gate) {
    // SAFETY: the hook has the signature PostgreSQL expects and hands every statement on.
    unsafe {
        GATE = Some(gate);
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(hook);
        UNSEEN.set(pg_sys::IsTransactionState());
        YOUNG.set(UNSEEN.get());
    }
    super::xact::at_top_end(|| {
        DECLARED.set(false);
        UNSEEN.set(false);
        YOUNG.set(false);
    });
}

/// May a cursor WITH HOLD be open that this transaction declared?
pub fn may_be_held() -> bool {
    if UNSEEN.get() {
        let held = spi::read::<1>("SELECT c.name FROM pg_catalog.pg_cursors c WHERE c.is_holdable", vec![]);
        // Behind the query, which may fail, and the bind be tried again.
        UNSEEN.set(false);
        if held.into_iter().flatten().flatten().any(|name| is_of_this_transaction(&name)) {
            DECLARED.set(true);
        }
    }
    DECLARED.get()
}

/// One that was kept from an earlier transaction belongs to no subtransaction any more.
fn is_of_this_transaction(name: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(name) else { return true };
    // SAFETY: looks the name up; a portal lives on while nobody closes it.
    unsafe {
        let portal = pg_sys::GetPortalByName(name.as_ptr());
        portal.is_null() || (*portal).createSubid != INVALID_SUBTRANSACTION
    }
}

/// Told when a statement begins to run. A DECLARE whose own planning has loaded the library, and may have
/// bound, is met here alone.
#[inline]
pub(super) fn note_start() {
    if YOUNG.get() {
        // SAFETY: the portal at work, or null; guarded.
        unsafe {
            let portal = pg_sys::ActivePortal;
            if !portal.is_null() && (*portal).cursorOptions & pg_sys::CURSOR_OPT_HOLD as i32 != 0 {
                declare_held();
            }
        }
    }
}

unsafe extern "C-unwind" {
    /// Not pgrx's guarded binding, which loses the constraint and table of an error that passes.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Holds no Rust value: errors leave it by longjmp.
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn hook(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL's own arguments are handed on; the node is read by its tag.
    unsafe {
        let node = (*statement).utilityStmt;
        if (*node).type_ == pg_sys::NodeTag::T_DeclareCursorStmt {
            let options = (*(node as *const pg_sys::DeclareCursorStmt)).options;
            if options & pg_sys::CURSOR_OPT_HOLD as i32 != 0 {
                declare_held();
            }
        }
        if (*node).type_ != pg_sys::NodeTag::T_TransactionStmt {
            super::door::expect_read_only();
        }
        // SET CONSTRAINTS in a trigger has foreign keys check right here.
        super::frames::remember();
        match PREVIOUS {
            Some(next) => {
                next(statement, query, read_only_tree, context, params, environment, dest, completion);
            }
            None => standard_ProcessUtility(
                statement,
                query,
                read_only_tree,
                context,
                params,
                environment,
                dest,
                completion,
            ),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn declare_held() {
    // SAFETY: written once, when the library was loaded.
    if let Some(gate) = unsafe { GATE } {
        gate();
    }
    DECLARED.set(true);
}
