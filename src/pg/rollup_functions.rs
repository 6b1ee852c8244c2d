//! Entry points of the rollups, which put their rows into a store of their own.

use super::rows::Store;
use crate::error::given;
use crate::rollup::{self, Request};
use crate::tree::deferred;
use pgrx::datum::Date;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn node_totals(
    nodes: &str,
    links: Option<&str>,
    path: &str,
    top_path: Option<&str>,
    top: Option<&str>,
    day: Option<Date>,
    mode: Option<&str>,
    stale: bool,
    only_top: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    // SAFETY: PostgreSQL's own call info of this call.
    let store = unsafe { Store::of(fcinfo) };
    let mode = mode.unwrap_or("null");
    rollup::node_totals(&store, &Request { nodes, links, path, top, top_path, day, mode, stale, only_top });
}

#[pg_extern(sql = false)]
fn rollup_tree(
    tree: Option<Oid>,
    facts: Option<&str>,
    mode: Option<&str>,
    top: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    // SAFETY: PostgreSQL's own call info of this call.
    let store = unsafe { Store::of(fcinfo) };
    let (tree, facts) = (given(tree, "tree"), given(facts, "facts"));
    rollup::rollup(&store, tree, facts, mode.unwrap_or("null"), top);
}

#[pg_extern(sql = false)]
fn paths_are_fresh(table: Oid, org: &str) -> bool {
    !deferred::reads_links_of_named(table, org)
}
