//! Binding a transaction or a session to one org.

use super::grants;
use super::org::OrgId;
use crate::error::Refusal;
use crate::pg::session::{self, Scope};
use crate::pg::{cursor, door, role, xact};
use crate::telemetry::{self, counts::Kind};
use pgrx::prelude::*;
use std::cell::RefCell;

thread_local! {
    /// The first (org, user) of the top-level transaction. Kept beside the settings because RESET ALL,
    /// ROLLBACK TO, an exception block and unbind() all take a setting's value back; this they do not.
    static FIRST: RefCell<Option<(String, Option<String>)>> = const { RefCell::new(None) };
}

/// Called once, when the library is loaded.
pub fn init() {
    session::init(remember_loss);
    xact::at_top_end(|| FIRST.with(|f| *f.borrow_mut() = None));
    cursor::init(refuse_held_cursor);
}

/// The org the transaction is bound to, or was.
fn first_pair() -> Option<(String, Option<String>)> {
    FIRST.with(|f| f.borrow().clone()).or_else(current_pair)
}

/// Is this transaction bound to an org, or was it?
pub fn was_bound() -> bool {
    first_pair().is_some()
}

/// A cursor WITH HOLD outlives the transaction, and shows the org's rows to whoever comes next.
fn refuse_held_cursor() {
    if door::is_open() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_CURSOR_DEFINITION,
            "a cursor WITH HOLD would outlive the service door",
        )
        .hint("Leave WITH HOLD out, and fetch before the transaction ends.")
        .raise()
    }
    let Some((org, _)) = first_pair() else { return };
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INVALID_CURSOR_DEFINITION,
        format!("a cursor WITH HOLD would outlive the binding to org {org:?}"),
    )
    .hint("Leave WITH HOLD out, and fetch before the transaction ends.")
    .raise()
}

/// A session binding that is reset in the middle of a transaction still decides what that
/// transaction may bind.
fn remember_loss(org: &str, user: Option<&str>) {
    FIRST.with(|first| {
        first.borrow_mut().get_or_insert_with(|| (org.to_owned(), user.map(str::to_owned)));
    });
}

fn current_pair() -> Option<(String, Option<String>)> {
    session::org().map(|org| (org, session::user()))
}

/// Longest user id taken, in bytes. It stands in error messages, and in what parallel workers receive.
const MAX_USER_BYTES: usize = 1000;

/// A name for a message: quoted, and cut where it would fill the log.
fn shown(name: &str) -> String {
    match name.char_indices().nth(64) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}…", &name[..end]),
    }
}

fn parse(org: &str) -> OrgId {
    OrgId::parse(org).unwrap_or_else(|why| {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{} cannot be bound as an org: {why}", shown(org)),
        )
        .hint("Pass the org's key, for example crm_tree.bind_org('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid).")
        .raise()
    })
}

/// Can this be bound as a user?
pub fn is_user_id(user: &str) -> bool {
    !user.is_empty() && user.len() <= MAX_USER_BYTES && !user.chars().any(char::is_control)
}

fn bind(org: &str, user: Option<&str>, scope: Scope) {
    let org = parse(org);
    if let Some(user) = user
        && !is_user_id(user)
    {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!(
                "user id {} is empty, is longer than {MAX_USER_BYTES} bytes or has a control character",
                shown(user)
            ),
        )
        .hint("Leave the user id null to bind the org alone.")
        .raise()
    }
    if scope == Scope::Transaction {
        expect_transaction("bind_org()", ", or bind the whole session with crm_tree.bind_session()")
    }
    let caller = role::current();
    if !role::is_superuser(caller) && !grants::may_bind(caller, org.as_str(), scope) {
        telemetry::count(Kind::BindDenied);
        let name = role::name(caller).unwrap_or_default();
        let for_session = if scope == Scope::Session { ", for_session => true" } else { "" };
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("role \"{name}\" may not bind {} to org {:?}", scope_word(scope), org.as_str()),
        )
        .hint(format!(
            "A superuser can allow it: SELECT crm_tree.grant_org('{name}', '{}'{for_session});",
            org.as_str()
        ))
        .raise()
    }
    write_once(&org, user, scope)
}

/// Binds the transaction to what a signed token says: the signature stands for the grant.
pub fn bind_proven(org: &OrgId, user: Option<&str>) {
    expect_transaction("bind_token()", "");
    write_once(org, user, Scope::Transaction)
}

fn expect_transaction(function: &str, or_else: &str) {
    if !xact::outlives_statement() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_NO_ACTIVE_SQL_TRANSACTION,
            format!("{function} binds the transaction, and this statement is a transaction of its own"),
        )
        .hint(format!("Start one with BEGIN{or_else}."))
        .raise()
    }
}

fn write_once(org: &OrgId, user: Option<&str>, scope: Scope) {
    let pair = (org.as_str().to_owned(), user.map(str::to_owned));
    let first = first_pair();
    // One that was declared before the binding is filled after it.
    if first.is_none() && cursor::may_be_held() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "this transaction declared a cursor WITH HOLD, which would outlive the binding",
        )
        .hint("Bind in a transaction of its own, after the one that declares the cursor.")
        .raise()
    }
    if let Some(first) = first
        && first != pair
    {
        refuse_rebind(&first, &pair)
    }
    session::assign(Some(org), user, scope);
    FIRST.with(|f| *f.borrow_mut() = Some(pair));
}

fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Transaction => "a transaction",
        Scope::Session => "a session",
    }
}

fn refuse_rebind(first: &(String, Option<String>), wanted: &(String, Option<String>)) -> ! {
    telemetry::count(Kind::BindDenied);
    let show = |pair: &(String, Option<String>)| match &pair.1 {
        Some(user) => format!("org {:?} as user {user:?}", pair.0),
        None => format!("org {:?}", pair.0),
    };
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("this transaction is bound to {} and cannot be bound to {}", show(first), show(wanted)),
    )
    .detail("A binding is written once in a transaction; rolling back to a savepoint does not free it.")
    .hint("Finish this transaction and bind the next one; a session binding is lifted by crm_tree.unbind() in a transaction of its own.")
    .raise()
}

/// Raised where the bound org is asked for as `kind`, and there is none, or none of that kind.
pub fn refuse_unbound(kind: &str) -> ! {
    if let Some(org) = session::org() {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("the bound org {org:?} is not a {kind}, and the table's org column is"),
        )
        .hint(format!("Bind it as the type the table has, for example crm_tree.bind_org(…::{kind})."))
        .raise()
    }
    telemetry::count(Kind::Unbound);
    Refusal::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, "no org is bound")
        .hint("Bind one first: BEGIN; SELECT crm_tree.bind_org('<org>'); … COMMIT;")
        .raise()
}

/// Of a statement that was on its way to be planned when the library was loaded.
pub fn refuse_unseen(kind: &str) -> ! {
    if session::org().is_none() {
        refuse_unbound(kind)
    }
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "crm_tree was loaded in the middle of the planning of this statement",
    )
    .hint("Run it again; in postgresql.conf, shared_preload_libraries = 'crm_tree' spares that.")
    .raise()
}

/// The org, where one was passed: a null is a lookup that found nothing, and must not pass for done.
fn present<T>(org: Option<T>) -> T {
    org.unwrap_or_else(|| {
        Refusal::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "the org to bind is null")
            .hint("Pass the org's key; crm_tree.unbind() lifts a binding.")
            .raise()
    })
}

#[pg_extern(sql = false)]
fn bind_org_uuid(org: Option<pgrx::Uuid>, user_id: Option<&str>) {
    bind(&present(org).to_string(), user_id, Scope::Transaction)
}

#[pg_extern(sql = false)]
fn bind_org_bigint(org: Option<i64>, user_id: Option<&str>) {
    bind(&present(org).to_string(), user_id, Scope::Transaction)
}

#[pg_extern(sql = false)]
fn bind_org_text(org: Option<&str>, user_id: Option<&str>) {
    bind(present(org), user_id, Scope::Transaction)
}

#[pg_extern(sql = false)]
fn bind_session_uuid(org: Option<pgrx::Uuid>, user_id: Option<&str>) {
    bind(&present(org).to_string(), user_id, Scope::Session)
}

#[pg_extern(sql = false)]
fn bind_session_bigint(org: Option<i64>, user_id: Option<&str>) {
    bind(&present(org).to_string(), user_id, Scope::Session)
}

#[pg_extern(sql = false)]
fn bind_session_text(org: Option<&str>, user_id: Option<&str>) {
    bind(present(org), user_id, Scope::Session)
}

/// Lifts the binding. What the transaction was bound to first still holds for the rest of it.
#[pg_extern(sql = false)]
fn unbind() {
    if session::org().is_some() {
        session::assign(None, None, Scope::Session);
    }
}

#[pg_extern(sql = false)]
fn is_bound() -> bool {
    session::org().is_some()
}

#[pg_extern(sql = false)]
fn current_user_id() -> Option<String> {
    session::user()
}
