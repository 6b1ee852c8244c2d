//! The guard: behind the policies, where the library is preloaded. It refuses a statement that touches
//! a protected table while row security would not be applied as the registry says.

use super::{binding, door};
use crate::error::Refusal;
use crate::pg::guard::{self, Breach, Cause, Rules};
use crate::pg::{relation, role};
use crate::telemetry::{self, counts::Kind};
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
enum Mode {
    #[name = c"off"]
    Off,
    #[name = c"log"]
    Log,
    #[name = c"enforce"]
    Enforce,
}

/// Enforced unless a superuser says otherwise: with session_preload_libraries, a value that an
/// ordinary user gives in PGOPTIONS takes the place of the configured one and is thrown away when the
/// library is loaded, and what then counts is this.
static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::Enforce);

const NAME: &std::ffi::CStr = c"crm_tree.guard";

/// Called once, when the library is loaded.
pub fn init() {
    GucRegistry::define_enum_guc(
        NAME,
        c"What becomes of a statement that touches a protected table past row security.",
        c"off lets it pass, log lets it pass and logs it, enforce refuses it. Off by default where the library is not preloaded.",
        &MODE,
        GucContext::Suset,
        GucFlags::default(),
    );
    // Loaded by a call in the middle of a session, it would change what the session may do from there
    // on. A parallel worker gets its leader's value.
    if !guard::is_preloaded() {
        guard::set_default(NAME, c"off");
    }
    guard::init(Rules {
        is_on: || MODE.get() != Mode::Off,
        is_service: door::is_service,
        breach,
        unbound: |kind| binding::refuse_unbound(kind.name()),
    });
}

fn breach(breach: Breach) {
    let table = relation::facts(breach.relation);
    let named = |user| role::name(user).unwrap_or_else(|| "?".to_owned());
    let (why, hint) = match breach.cause {
        Cause::SwitchedOff => (
            "row security is switched off on it".to_owned(),
            format!("Put the wall up again: SELECT crm_tree.protect('{}.{}');", table.schema, table.name),
        ),
        Cause::Altered => (
            "its policy crm_tree_wall is missing or altered".to_owned(),
            format!("Put the wall up again: SELECT crm_tree.protect('{}.{}');", table.schema, table.name),
        ),
        Cause::Copied => (
            "it is a materialized view of a protected table, and holds what its owner saw".to_owned(),
            "Read the tables, through a view WITH (security_invoker = true).".to_owned(),
        ),
        Cause::Toast => (
            "it keeps the long values of a protected table, and has no row security".to_owned(),
            "Read the table that it belongs to.".to_owned(),
        ),
        Cause::Superuser(user) => (format!("role \"{}\" is a superuser", named(user)), PAST.to_owned()),
        Cause::BypassesRls(user) => (format!("role \"{}\" has BYPASSRLS", named(user)), PAST.to_owned()),
        Cause::UnforcedOwner(user) => (
            format!("it is not forced on role \"{}\", which owns it", named(user)),
            format!("Put the wall up again: SELECT crm_tree.protect('{}.{}');", table.schema, table.name),
        ),
        Cause::InCascade => (
            "the statement comes from inside a foreign key's cascade or path maintenance, past row security"
                .to_owned(),
            "Let a trigger written in PL/pgSQL do what the rule or function does, on the rows it is given."
                .to_owned(),
        ),
        Cause::UnreadMerge => (
            "MERGE matches every org's rows with a source where it reads no column of its target".to_owned(),
            "Name a column of it in ON.".to_owned(),
        ),
        Cause::Truncate => {
            ("TRUNCATE empties every org".to_owned(), "DELETE the bound org's rows instead.".to_owned())
        }
    };
    let message =
        format!("the wall of {}.{} would not stand before this statement", table.schema, table.name);
    if MODE.get() == Mode::Log && !matches!(breach.cause, Cause::InCascade | Cause::UnreadMerge) {
        telemetry::count(Kind::GuardLogged);
        log!("{message}: {why}");
        return;
    }
    telemetry::count(Kind::GuardRefused);
    Refusal::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
        .detail(format!("Row security would not be applied: {why}."))
        .hint(hint)
        .table(&table.schema, &table.name)
        .raise()
}

const PAST: &str = "Work as an ordinary role that binds an org; read across orgs by crm_tree.open_service_door(). For dumps, restores and repairs, a superuser may SET crm_tree.guard = off.";
