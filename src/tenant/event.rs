//! The wall's own record: a row for each event, if its transaction commits.

use crate::pg::role;
use pgrx::prelude::*;

pub fn record(kind: &str, relation: Option<pg_sys::Oid>, detail: &str) {
    role::as_extension_owner(|| {
        Spi::run_with_args(
            "SELECT crm_tree._wall_event($1, $2::pg_catalog.regclass, $3)",
            &[kind.into(), relation.into(), detail.into()],
        )
        .expect("the record takes every event")
    });
}
