//! Roles: who is asking, what they may, and acting for another with the rights that need it.

use super::frames::{PutBack, Reach};
use super::{frames, settings};
use pgrx::pg_sys::Oid;
use pgrx::{IntoDatum, direct_function_call, pg_sys};
use std::cell::Cell;
use std::ffi::CStr;

/// Two functions that only read a static, without the guard that pgrx puts around each call: they are
/// asked for each table of each statement.
mod bare {
    use super::Oid;

    unsafe extern "C" {
        pub fn GetUserId() -> Oid;
        pub fn InNoForceRLSOperation() -> bool;
    }
}

pub fn current() -> Oid {
    // SAFETY: reads backend state.
    unsafe { bare::GetUserId() }
}

/// Are we in what runs past the row security that owners are forced under: the queries of foreign
/// keys, and our own maintenance?
pub fn is_past_forced_row_security() -> bool {
    // SAFETY: reads backend state.
    unsafe { bare::InNoForceRLSOperation() }
}

/// Sets or takes away that exemption, and leaves the user and the rest of the security context alone.
pub(super) fn set_past_forced_row_security(past: bool) {
    let (mut user, mut context) = (Oid::INVALID, 0);
    // SAFETY: reads two statics and sets them.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let bit = pg_sys::SECURITY_NOFORCE_RLS as i32;
        pg_sys::SetUserIdAndSecContext(user, if past { context | bit } else { context & !bit });
    }
}

pub fn is_superuser(role: Oid) -> bool {
    // SAFETY: a syscache lookup.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Does `member` have the privileges of `role` without SET ROLE? A superuser always does.
pub fn has_privileges_of(member: Oid, role: Oid) -> bool {
    // SAFETY: a cached catalog lookup.
    unsafe { pg_sys::has_privs_of_role(member, role) }
}

/// May the current user SELECT from the table?
pub fn may_read(relation: Oid) -> bool {
    // SAFETY: syscache lookups.
    let answer =
        unsafe { pg_sys::pg_class_aclcheck(relation, current(), pg_sys::ACL_SELECT as pg_sys::AclMode) };
    answer == pg_sys::AclResult::ACLCHECK_OK
}

/// May the role call the function: EXECUTE, and USAGE on the schema, which is what keeps others from the
/// functions in it where EXECUTE was left to PUBLIC?
pub fn may_execute(role: Oid, function: Oid) -> bool {
    let asked =
        |object: Oid, privilege: &str| [role.into_datum(), object.into_datum(), privilege.into_datum()];
    // SAFETY: both are strict functions of two oids and a text; null where the object is gone.
    let allowed = unsafe {
        let schema = pg_sys::get_func_namespace(function);
        [
            direct_function_call::<bool>(pg_sys::has_function_privilege_id_id, &asked(function, "EXECUTE")),
            direct_function_call::<bool>(pg_sys::has_schema_privilege_id_id, &asked(schema, "USAGE")),
        ]
    };
    allowed == [Some(true); 2]
}

/// The role of this name.
pub fn find(name: &str) -> Option<Oid> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a syscache lookup; invalid for a missing role.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (role != Oid::INVALID).then_some(role)
}

/// Does the role have BYPASSRLS, or is it a superuser?
pub fn bypasses_row_security(role: Oid) -> bool {
    // SAFETY: a syscache lookup.
    unsafe { pg_sys::has_bypassrls_privilege(role) }
}

/// The role's name, or None where the role is gone.
pub fn name(role: Oid) -> Option<String> {
    // SAFETY: returns a palloc'd C string, or null for a missing role.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// Puts the user id back when the work is done or unwinds. After an error PostgreSQL restores it
/// too, at the end of the (sub)transaction; this covers an error that Rust catches in between.
struct Restore {
    user: Oid,
    context: i32,
    exempted: bool,
    open: bool,
}

thread_local! {
    /// Work of ours under way that was given the exemption from forced row security.
    static EXEMPTED: Cell<u32> = const { Cell::new(0) };
    /// Of it, what is done for somebody whom no row security holds back.
    static OPEN: Cell<u32> = const { Cell::new(0) };
    /// Is a definition of ours under way, in an owner's name?
    static DEFINING: Cell<Option<()>> = const { Cell::new(None) };
}

/// Do we work for somebody whom no row security holds back?
pub(super) fn is_open_work() -> bool {
    OPEN.get() > 0
}

/// Is the current user, or whoever we work for, held back by no row security at all?
pub fn passes_row_security() -> bool {
    is_open_work() || bypasses_row_security(current())
}

/// Was the exemption from forced row security given by us, and not by a foreign key?
pub(super) fn is_own_exemption() -> bool {
    EXEMPTED.get() > 0
}

impl Drop for Restore {
    fn drop(&mut self) {
        if self.exempted {
            EXEMPTED.set(EXEMPTED.get() - 1);
        }
        if self.open {
            OPEN.set(OPEN.get() - 1);
        }
        // SAFETY: sets two statics to values read from them.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

fn act_as_owner<R>(owner: Oid, extra: u32, reach: Reach, work: impl FnOnce() -> R) -> R {
    let _put_back = frames::act_as_owner(Some((owner, reach)));
    act_as(owner, extra, work)
}

fn act_as<R>(role: Oid, extra: u32, work: impl FnOnce() -> R) -> R {
    let exempted = extra & pg_sys::SECURITY_NOFORCE_RLS != 0;
    let open = exempted && bypasses_row_security(current());
    EXEMPTED.set(EXEMPTED.get() + u32::from(exempted));
    OPEN.set(OPEN.get() + u32::from(open));
    let mut restore = Restore { user: Oid::INVALID, context: 0, exempted, open };
    // SAFETY: reads, then sets the two statics; `restore` undoes it.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut restore.user, &mut restore.context);
        pg_sys::SetUserIdAndSecContext(
            role,
            restore.context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | extra) as i32,
        );
    }
    let result = work();
    drop(restore);
    result
}

/// Works as the owner of a table, with his rights and behind his wall: what a trigger does beyond
/// the rows that a client wrote. `pg::spi` plans its statements past the row security that the
/// owner put on the table; triggers of the user's own that they fire stay behind it, unless the
/// writer was not behind it either.
pub fn as_table_owner<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    act_as_owner(owner, as_open_as_now(), Reach::Statement, work)
}

/// The same for a function that reads or defines on its caller's demand, as maintenance of the
/// server's own does it: nothing of the owner's (an index expression, a trigger) may leave work
/// or settings behind for what is later done as the caller. Nor does it see what the caller does: it is
/// behind the wall also where he is not.
pub fn as_table_owner_confined<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    act_as_owner(owner, confined(owner), Reach::Statement, || settings::taking_back(work))
}

/// The same for what writes rows and so fires the owner's triggers, as any write of the caller's would.
pub fn writing_as_table_owner_confined<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    act_as_owner(owner, as_open_as_now() | confined(owner), Reach::Statement, || settings::taking_back(work))
}

/// The same, past the row security that the owner put on his table, as foreign keys do: his rights
/// alone are not enough under FORCE ROW LEVEL SECURITY. For statements that fire no trigger, since
/// that would go past it too.
pub fn past_row_security_of<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    act_as_owner(owner, confined(owner), Reach::ForeignKeyCheck, || {
        planning_past_row_security(|| settings::taking_back(|| frames::own(Reach::ForeignKeyCheck, work)))
    })
}

/// Defines as the owner of a table what he could define himself, behind his wall; what his table refers to
/// may be others'. Foreign keys are checked row by row, for every org: in the place of the query that
/// PostgreSQL checks one with, a builtin called in a CHECK may run one.
pub fn defining_as_owner<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    let _put_back = PutBack::set(&DEFINING, Some(()));
    act_as(owner, confined(owner), || settings::taking_back(work))
}

/// Are keys to be checked row by row?
pub(super) fn is_defining() -> bool {
    DEFINING.get().is_some()
}

/// Works as the caller again, inside of work done as the table's owner: for what needs rights on the
/// schema (keys, indexes, tables beside it) and runs nothing of the owner's. PostgreSQL builds indexes
/// with the rights of the table's owner, whoever makes them.
pub fn as_caller<R>(caller: Oid, work: impl FnOnce() -> R) -> R {
    let _put_back = frames::act_as_owner(None);
    act_as(caller, 0, work)
}

fn confined(owner: Oid) -> u32 {
    if owner == current() { 0 } else { pg_sys::SECURITY_RESTRICTED_OPERATION }
}

fn as_open_as_now() -> u32 {
    if bypasses_row_security(current()) { pg_sys::SECURITY_NOFORCE_RLS } else { 0 }
}

/// Plans statements as the current user past the row security he put on his own tables.
pub(super) fn planning_past_row_security<R>(work: impl FnOnce() -> R) -> R {
    act_as(current(), pg_sys::SECURITY_NOFORCE_RLS, work)
}

/// Does row security apply to what the current user does with this table?
pub fn is_behind_row_security(relation: Oid) -> bool {
    is_walled(Oid::INVALID, relation)
}

/// The same for what is done as `role`.
pub fn is_walled(role: Oid, relation: Oid) -> bool {
    // SAFETY: a syscache lookup; without an error where `row_security` is off.
    unsafe {
        pg_sys::check_enable_rls(relation, role, true) == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}

/// Works as the extension's owner, for the one write to a registry that its caller may not do
/// himself. Statements run inside must name only catalog and `crm_tree` objects, qualified; no name
/// in them is looked up on the path of whoever calls.
pub fn as_extension_owner<R>(work: impl FnOnce() -> R) -> R {
    let _put_back = frames::act_as_owner(None);
    act_as(extension_owner(), 0, || settings::on_safe_path(work))
}

fn extension_owner() -> Oid {
    pgrx::Spi::get_one::<Oid>(
        "SELECT extowner FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'crm_tree'",
    )
    .ok()
    .flatten()
    .unwrap_or(pg_sys::BOOTSTRAP_SUPERUSERID.into())
}
