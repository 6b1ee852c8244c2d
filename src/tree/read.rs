//! Reading any attached tree: as the caller, behind his wall.

#![expect(clippy::type_complexity, reason = "pgrx reads the columns from the signatures")]

use super::attach::Tree;
use super::path;
use crate::catalog::{self, rows};
use crate::pg::session;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

type Node = (String, Option<String>, Option<String>, Option<i32>);

fn node(row: &spi::SpiHeapTupleData) -> Node {
    let depth = catalog::opt_text(row, 4).and_then(|d| d.parse().ok());
    (catalog::text(row, 1), catalog::opt_text(row, 2), catalog::opt_text(row, 3), depth)
}

/// The columns of a node row of alias `t`.
fn node_columns(tree: &Tree) -> String {
    let s = &tree.sql;
    format!("t.{}::text, t.{}::text, t.{}, t.{}::text", s.id, s.parent, s.path, s.depth)
}

/// The (org, path) of every visible node with this id: one in a bound session, one an org otherwise.
fn places(tree: &Tree, id: &str) -> Vec<(String, String)> {
    let s = &tree.sql;
    let bound = session::org();
    let condition =
        if bound.is_some() { format!("AND t.{} = $2::{}", s.org, s.org_type) } else { String::new() };
    let sql = format!(
        "SELECT t.{}::text, t.{}::text FROM {} t WHERE t.{} = $1::{} AND t.{} IS NOT NULL {condition}",
        s.org, s.path, s.table, s.id, s.id_type, s.path
    );
    let read = |row: &spi::SpiHeapTupleData| (catalog::text(row, 1), catalog::text(row, 2));
    match bound {
        Some(org) => rows(&sql, &[id.into(), org.into()], read),
        None => rows(&sql, &[id.into()], read),
    }
}

#[pg_extern(sql = false)]
fn subtree(
    table: pg_sys::Oid,
    id: &str,
) -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(parent, Option<String>),
        name!(path, Option<String>),
        name!(depth, Option<i32>),
    ),
> {
    let tree = Tree::get(table);
    let sql = format!(
        "SELECT {} FROM {} t WHERE {} AND t.{path} >= $2 AND t.{path} < $3 ORDER BY t.{path}",
        node_columns(&tree),
        tree.sql.table,
        tree.sql.in_org("t"),
        path = tree.sql.path
    );
    let found: Vec<Node> = places(&tree, id)
        .into_iter()
        .flat_map(|(org, from)| {
            let end = path::subtree_end(&from).unwrap_or_default();
            rows(&sql, &[org.into(), from.into(), end.into()], node)
        })
        .collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn ancestors(
    table: pg_sys::Oid,
    id: &str,
) -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(parent, Option<String>),
        name!(path, Option<String>),
        name!(depth, Option<i32>),
    ),
> {
    let tree = Tree::get(table);
    let sql = format!(
        "SELECT {} FROM {} t WHERE {} AND t.{} = ANY ($2::text[]::{}[]) ORDER BY t.{}",
        node_columns(&tree),
        tree.sql.table,
        tree.sql.in_org("t"),
        tree.sql.id,
        tree.sql.id_type,
        tree.sql.depth
    );
    let found: Vec<Node> = places(&tree, id)
        .into_iter()
        .flat_map(|(org, place)| {
            let mut above: Vec<String> = path::ids(&place).map(str::to_owned).collect();
            above.pop();
            rows(&sql, &[org.into(), above.into()], node)
        })
        .collect();
    TableIterator::new(found)
}
