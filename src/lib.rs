//! crm_tree: a multi-tenant CRM's data model, enforced and computed inside PostgreSQL.
//!
//! The map. Data flows one way: bind → wall → tree → rollup, with pipeline and sharing beside the
//! rollup; jobs run what those modules offer. Each module has one folder here, one file in
//! `sql/engine/` (and one in `sql/crm/` where the template has a part of it), one page in `docs/`.
//!
//! SQL is written by hand in `sql/engine/`, so that volatility, rights and comments stand beside
//! each function; the Rust functions it names are `#[pg_extern(sql = false)]`.

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

mod catalog;
mod crm;
mod error;
mod jobs;
#[allow(unsafe_code)]
mod pg;
mod rollup;
mod telemetry;
mod tenant;
mod tree;

extension_sql_file!("../sql/engine/tenant.sql", name = "tenant", bootstrap);
extension_sql_file!("../sql/engine/token.sql", name = "token", requires = ["tenant"]);
extension_sql_file!("../sql/engine/load.sql", name = "load", requires = ["tenant"]);
extension_sql_file!("../sql/engine/search.sql", name = "search", requires = ["tenant"]);
extension_sql_file!("../sql/engine/telemetry.sql", name = "telemetry", requires = ["tenant"]);
extension_sql_file!("../sql/engine/tree.sql", name = "tree", requires = ["tenant"]);
extension_sql_file!("../sql/engine/links.sql", name = "links", requires = ["tree"]);
extension_sql_file!("../sql/engine/rollup.sql", name = "rollup", requires = ["links"]);
extension_sql_file!("../sql/engine/deferred.sql", name = "deferred", requires = ["rollup"]);
extension_sql_file!("../sql/engine/crm.sql", name = "crm", requires = ["deferred"]);
extension_sql_file!("../sql/engine/jobs.sql", name = "jobs", requires = ["crm"]);
extension_sql_file!("../sql/engine/watch.sql", name = "watch", requires = ["jobs"]);
extension_sql_file!("../sql/engine/audit.sql", name = "audit", requires = ["watch"]);

/// Runs when the library is loaded: at server start where preloaded, else at the first call.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::xact::init();
    pg::relation::init();
    telemetry::init();
    tenant::binding::init();
    tenant::signing_keys::init();
    pg::load::init();
    tenant::guard::init();
    pg::door::init();
    tree::init();
    jobs::init();
    pg::session::reserve_prefix();
}

/// What pgrx asks for to run `#[pg_test]` functions, which are in `pg::tests`.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_: Vec<&str>) {}

    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
