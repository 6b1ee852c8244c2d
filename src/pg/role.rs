//! Roles: who is asking, what they may, and acting for another with the rights that need it.

use pgrx::pg_sys;
use pgrx::pg_sys::Oid;
use std::ffi::CStr;

pub fn current() -> Oid {
    // SAFETY: reads backend state.
    unsafe { pg_sys::GetUserId() }
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
}

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: sets two statics to values read from them.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

fn act_as<R>(role: Oid, extra: u32, work: impl FnOnce() -> R) -> R {
    let mut restore = Restore { user: Oid::INVALID, context: 0 };
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

/// Works as the owner of a table, past the row security he put on it, as foreign keys do: the
/// owner's rights alone are not enough under FORCE ROW LEVEL SECURITY.
/// Every statement run inside must name its org.
pub fn as_table_owner<R>(owner: Oid, work: impl FnOnce() -> R) -> R {
    act_as(owner, pg_sys::SECURITY_NOFORCE_RLS, work)
}

/// Works as the extension's owner, for the one write to a registry that its caller may not do
/// himself. Statements run inside must name only catalog and `crm_tree` objects, qualified.
pub fn as_extension_owner<R>(work: impl FnOnce() -> R) -> R {
    act_as(extension_owner(), 0, work)
}

fn extension_owner() -> Oid {
    pgrx::Spi::get_one::<Oid>(
        "SELECT extowner FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'crm_tree'",
    )
    .ok()
    .flatten()
    .unwrap_or(pg_sys::BOOTSTRAP_SUPERUSERID.into())
}
