//! Which role may bind which org.

use super::org::{ANY, OrgId};
use crate::error::Refusal;
use crate::pg::session::Scope;
use crate::pg::{role, scan};
use pgrx::prelude::*;
use pgrx::{datum::DatumWithOid, pg_sys};

/// Is there a grant for `org`, or for any org, to a role whose privileges `caller` has?
/// A grant counts only while its role still has the name it had when it was granted: an oid that was
/// handed to another role after a restore, or a name taken over by a new role, opens nothing.
pub fn may_bind(caller: pg_sys::Oid, org: &str, scope: Scope) -> bool {
    let holds = |found: &scan::Found<'_>| {
        let row = &found.row;
        let grantee = row.get_by_name::<pg_sys::Oid>("role").ok().flatten();
        let name = row.get_by_name::<String>("role_name").ok().flatten();
        let session = row.get_by_name::<bool>("for_session").ok().flatten().unwrap_or(false);
        let Some(grantee) = grantee else { return false };
        (scope == Scope::Transaction || session)
            && name.is_some()
            && role::name(grantee) == name
            && role::has_privileges_of(caller, grantee)
    };
    [org, ANY].into_iter().any(|key| scan::by_text_key(c"org_grant", c"org_grant_org", key, holds))
}

fn checked(org: &str) -> &str {
    if org != ANY
        && let Err(why) = OrgId::parse(org)
    {
        Refusal::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("{org:?} is not an org: {why}"))
            .hint("Pass the org's key, or '*' for every org.")
            .raise()
    }
    org
}

/// The role, or the refusal that names it.
pub fn role_oid(name: &str) -> pg_sys::Oid {
    let oid = Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT oid FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name",
        &[DatumWithOid::from(name)],
    );
    match oid {
        Ok(Some(oid)) => oid,
        _ => {
            Refusal::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
                .hint(format!("Create it first: CREATE ROLE \"{name}\" LOGIN;"))
                .raise()
        }
    }
}

fn grant(role_name: &str, org: &str, for_session: bool) {
    let oid = role_oid(role_name);
    let org = checked(org);
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "INSERT INTO crm_tree.org_grant AS g (org, role, role_name, for_session) VALUES ($1, $2::pg_catalog.regrole, $3, $4)
             ON CONFLICT (org, role) DO UPDATE SET role_name = excluded.role_name, for_session = excluded.for_session,
             granted_by = excluded.granted_by, granted_at = excluded.granted_at",
            &[org.into(), oid.into(), role_name.into(), for_session.into()],
        )
        .expect("the registry takes every valid grant")
    });
}

/// Answers whether there was a grant to take back.
fn revoke(role_name: &str, org: &str) -> bool {
    let oid = role_oid(role_name);
    role::as_extension_owner(|| {
        Spi::get_one_with_args::<i64>(
            "WITH gone AS (DELETE FROM crm_tree.org_grant WHERE org OPERATOR(pg_catalog.=) $1 AND role OPERATOR(pg_catalog.=) $2 RETURNING 1)
             SELECT pg_catalog.count(*) FROM gone",
            &[org.into(), oid.into()],
        )
    })
    .ok()
    .flatten()
        > Some(0)
}

#[pg_extern(sql = false)]
fn grant_org_uuid(role_name: &str, org: pgrx::Uuid, for_session: bool) {
    grant(role_name, &org.to_string(), for_session)
}

#[pg_extern(sql = false)]
fn grant_org_bigint(role_name: &str, org: i64, for_session: bool) {
    grant(role_name, &org.to_string(), for_session)
}

#[pg_extern(sql = false)]
fn grant_org_text(role_name: &str, org: &str, for_session: bool) {
    grant(role_name, org, for_session)
}

#[pg_extern(sql = false)]
fn revoke_org_uuid(role_name: &str, org: pgrx::Uuid) -> bool {
    revoke(role_name, &org.to_string())
}

#[pg_extern(sql = false)]
fn revoke_org_bigint(role_name: &str, org: i64) -> bool {
    revoke(role_name, &org.to_string())
}

#[pg_extern(sql = false)]
fn revoke_org_text(role_name: &str, org: &str) -> bool {
    revoke(role_name, org)
}
