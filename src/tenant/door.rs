//! The service door: the one way to read across orgs, for roles that were granted it, with a reason
//! and a trace, until the transaction ends.

use super::binding;
use super::grants::role_oid;
use crate::error::Refusal;
use crate::pg::{cursor, door, role, scan, xact};
use crate::telemetry::{self, counts::Kind};
use pgrx::prelude::*;

/// The role that the door works as: NOLOGIN, BYPASSRLS, and nobody is a member.
const SERVICE: &str = "crm_tree_service";

/// Is this the service role, behind an open door? Whatever else works as it (a function that it owns) has
/// no business to. A parallel worker knows the role and not the door; its leader was asked.
pub fn is_service(user: pg_sys::Oid) -> bool {
    role::find(SERVICE) == Some(user) && (door::is_open() || xact::is_parallel_worker())
}

/// Is there a grant to a role whose privileges `caller` has? It counts while the role has its name.
fn may_open(caller: pg_sys::Oid) -> bool {
    role::is_superuser(caller)
        || scan::all(c"door_grant", |found| {
            let grantee = found.row.get_by_name::<pg_sys::Oid>("role").ok().flatten();
            let name = found.row.get_by_name::<String>("role_name").ok().flatten();
            grantee.is_some_and(|grantee| {
                name.is_some() && role::name(grantee) == name && role::has_privileges_of(caller, grantee)
            })
        })
}

#[pg_extern(sql = false)]
fn open_service_door(reason: &str) {
    let caller = role::current();
    let name = role::name(caller).unwrap_or_default();
    let Some(service) = role::find(SERVICE) else {
        Refusal::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("role \"{SERVICE}\" does not exist"))
            .hint(format!("CREATE ROLE {SERVICE} NOLOGIN BYPASSRLS;"))
            .raise()
    };
    if caller == service {
        refuse_state("the service door is open already", "It stays open until the transaction ends.")
    }
    if !may_open(caller) {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("role \"{name}\" may not open the service door"),
        )
        .hint(format!("A superuser can allow it: SELECT crm_tree.grant_service_door('{name}');"))
        .raise()
    }
    let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if reason.trim().is_empty() || reason.len() > MAX_REASON_BYTES {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("the reason is empty or longer than {MAX_REASON_BYTES} bytes"),
        )
        .hint("Say what is read and for whom: SELECT crm_tree.open_service_door('billing run of May, ticket 4711');")
        .raise()
    }
    if !xact::outlives_statement() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_NO_ACTIVE_SQL_TRANSACTION,
            "open_service_door() opens it for the transaction, and this statement is a transaction of its own",
        )
        .hint("Start one with BEGIN.")
        .raise()
    }
    if binding::was_bound() {
        refuse_state(
            "this transaction is bound to an org, and the service door reads across orgs",
            "Open the door in a transaction that binds none.",
        )
    }
    // Leaving the savepoint would make the transaction writable again, past row security.
    if xact::is_nested() {
        refuse_state(
            "the service door cannot be opened below a savepoint or in an exception block",
            "Open it first, then set savepoints.",
        )
    }
    if xact::is_read_only() && !xact::on_standby() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            "the service door cannot be opened in a read-only transaction: it is recorded first",
        )
        .hint("Start with BEGIN READ WRITE; opening the door makes the transaction read-only.")
        .raise()
    }
    // What was written before could fire deferred triggers as the service role.
    if xact::has_written() || cursor::may_be_held() {
        refuse_state(
            "the service door cannot be opened in a transaction that has written or declared a cursor WITH HOLD",
            "Open it in a transaction of its own.",
        )
    }
    telemetry::count(Kind::DoorOpened);
    // Said first: it stays said, whatever becomes of the transaction.
    log!("crm_tree: role \"{name}\" opens the service door: {reason}");
    // A standby has no table to write to.
    if !xact::on_standby() {
        super::event::record("service_door", None, &format!("role \"{name}\": {reason}"));
    }
    door::open(service);
}

const MAX_REASON_BYTES: usize = 1000;

fn refuse_state(message: &str, hint: &str) -> ! {
    Refusal::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message).hint(hint).raise()
}

#[pg_extern(sql = false)]
fn grant_service_door(role_name: &str) {
    let oid = role_oid(role_name);
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO crm_tree.door_grant AS g (role, role_name) VALUES ($1::pg_catalog.regrole, $2)
             ON CONFLICT (role) DO UPDATE SET role_name = excluded.role_name,
             granted_by = excluded.granted_by, granted_at = excluded.granted_at",
            &[oid.into(), role_name.into()],
        )
        .expect("the registry takes every role")
    });
}

/// Answers whether there was a grant to take back.
#[pg_extern(sql = false)]
fn revoke_service_door(role_name: &str) -> bool {
    let oid = role_oid(role_name);
    let gone = role::as_extension_owner(|| {
        Spi::get_one_with_args::<i64>(
            "WITH gone AS (DELETE FROM crm_tree.door_grant WHERE role OPERATOR(pg_catalog.=) $1 RETURNING 1)
             SELECT pg_catalog.count(*) FROM gone",
            &[oid.into()],
        )
    });
    gone.ok().flatten() > Some(0)
}
