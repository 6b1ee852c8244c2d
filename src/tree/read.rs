//! Reading any attached tree: as the caller, behind his wall.

#![expect(clippy::type_complexity, reason = "pgrx reads the columns from the signatures")]

use super::attach::Tree;
use super::path;
use crate::catalog::{self, rows};
use crate::pg::session;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use std::collections::HashMap;

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

/// Where a node is. A node without a path (its tree awaits a repair) has links alone.
pub struct Place {
    pub org: String,
    /// As the key's type writes it; the caller may have written it in another way.
    pub id: String,
    pub parent: Option<String>,
    pub path: Option<String>,
}

/// The places of every visible node with this id: one in a bound session, one an org otherwise.
pub fn places(tree: &Tree, id: &str) -> Vec<Place> {
    let s = &tree.sql;
    let bound = session::org();
    let condition = if bound.is_some() { format!("AND {}", s.in_org("t")) } else { String::new() };
    // $1 is the org, as in `in_org`, and unused where none is bound.
    let sql = format!(
        "SELECT t.{}::text, t.{id}::text, t.{}::text, t.{}::text FROM {} t WHERE t.{id} = $2::{} {condition} ORDER BY t.{}",
        s.org,
        s.parent,
        s.path,
        s.table,
        s.id_type,
        s.org,
        id = s.id
    );
    rows(&sql, &[bound.into(), id.into()], |row| Place {
        org: catalog::text(row, 1),
        id: catalog::text(row, 2),
        parent: catalog::opt_text(row, 3),
        path: catalog::opt_text(row, 4),
    })
}

/// The paths among them, with their orgs.
fn paths(tree: &Tree, id: &str) -> impl Iterator<Item = (String, String)> {
    places(tree, id).into_iter().filter_map(|place| Some((place.org, place.path?)))
}

/// The rows of a subtree, whose bounds are `$2` and `$3`, as a range of the index on (org, path).
fn range(tree: &Tree) -> String {
    let s = &tree.sql;
    format!("{} AND t.{path} >= $2 AND t.{path} < $3", s.in_org("t"), path = s.path)
}

fn end_of(path: &str) -> String {
    path::subtree_end(path).unwrap_or_default()
}

/// In path order the row behind a node is its first child; it has none exactly where that row lies
/// outside. One pass over the range, where a look for children would be one an entry.
fn with_next(tree: &Tree) -> String {
    let s = &tree.sql;
    format!(
        "SELECT t.{} AS id, t.{} AS parent, t.{path} AS path, t.{} AS depth,
                NOT coalesce(starts_with(lead(t.{path}) OVER (ORDER BY t.{path}), t.{path}), false) AS is_leaf
           FROM {} t WHERE {}",
        s.id,
        s.parent,
        s.depth,
        s.table,
        range(tree),
        path = s.path
    )
}

/// The nodes of one org with one of these ids, shallowest first.
fn by_ids(tree: &Tree, org: &str, ids: Vec<String>) -> Vec<Node> {
    let s = &tree.sql;
    let sql = format!(
        "SELECT {} FROM {} t WHERE {} AND t.{} = ANY ($2::text[]::{}[]) ORDER BY t.{}",
        node_columns(tree),
        s.table,
        s.in_org("t"),
        s.id,
        s.id_type,
        s.depth
    );
    rows(&sql, &[org.into(), ids.into()], node)
}

/// The nodes below one parent (none: the roots), in the order of the id's own type.
fn below(tree: &Tree, org: &str, parent: Option<&str>) -> Vec<Node> {
    let s = &tree.sql;
    let condition = match parent {
        Some(_) => format!("t.{} = $2::{}", s.parent, s.id_type),
        None => format!("t.{} IS NULL AND $2::text IS NULL", s.parent),
    };
    let sql = format!(
        "SELECT {} FROM {} t WHERE {} AND {condition} ORDER BY t.{}",
        node_columns(tree),
        s.table,
        s.in_org("t"),
        s.id
    );
    rows(&sql, &[org.into(), parent.into()], node)
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
        "SELECT {} FROM {} t WHERE {} ORDER BY t.{}",
        node_columns(&tree),
        tree.sql.table,
        range(&tree),
        tree.sql.path
    );
    let found: Vec<Node> = paths(&tree, id)
        .flat_map(|(org, path)| {
            let end = end_of(&path);
            rows(&sql, &[org.into(), path.into(), end.into()], node)
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
    let found: Vec<Node> = paths(&tree, id)
        .flat_map(|(org, path)| {
            let mut above: Vec<String> = path::ids(&path).map(str::to_owned).collect();
            above.pop();
            by_ids(&tree, &org, above)
        })
        .collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn children(
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
    let found: Vec<Node> =
        places(&tree, id).iter().flat_map(|place| below(&tree, &place.org, Some(id))).collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn siblings(
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
    let found: Vec<Node> = places(&tree, id)
        .iter()
        .flat_map(|place| {
            let mut nodes = below(&tree, &place.org, place.parent.as_deref());
            nodes.retain(|(id, ..)| *id != place.id);
            nodes
        })
        .collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn leaves(
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
        "SELECT id::text, parent::text, path, depth::text FROM ({}) AS n WHERE is_leaf ORDER BY path",
        with_next(&tree)
    );
    let found: Vec<Node> = paths(&tree, id)
        .flat_map(|(org, path)| {
            let end = end_of(&path);
            rows(&sql, &[org.into(), path.into(), end.into()], node)
        })
        .collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn root_of(
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
    let found: Vec<Node> = paths(&tree, id)
        .flat_map(|(org, path)| {
            let root = path::root(&path).map(str::to_owned);
            by_ids(&tree, &org, root.into_iter().collect())
        })
        .collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn lowest_common_ancestor(
    table: pg_sys::Oid,
    a: &str,
    b: &str,
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
    let others: HashMap<String, String> = paths(&tree, b).collect();
    let found: Vec<Node> = paths(&tree, a)
        .flat_map(|(org, path)| {
            let shared = others.get(&org).and_then(|other| path::lca(&path, other));
            let id = shared.and_then(|shared| path::ids(shared).next_back()).map(str::to_owned);
            by_ids(&tree, &org, id.into_iter().collect())
        })
        .collect();
    TableIterator::new(found)
}

#[pg_extern(sql = false)]
fn node_counts(
    table: pg_sys::Oid,
    id: &str,
) -> TableIterator<
    'static,
    (name!(children, i64), name!(descendants, i64), name!(leaves, i64), name!(height, i32)),
> {
    let tree = Tree::get(table);
    let sql = format!(
        "SELECT (count(*) FILTER (WHERE n.parent = $4::{}))::text, (count(*) - 1)::text,
                (count(*) FILTER (WHERE is_leaf))::text, (max(depth) - min(depth))::text FROM ({}) AS n",
        tree.sql.id_type,
        with_next(&tree)
    );
    let number = |row: &spi::SpiHeapTupleData, n| catalog::text(row, n).parse().unwrap_or(0);
    let found: Vec<(i64, i64, i64, i32)> = paths(&tree, id)
        .flat_map(|(org, path)| {
            let end = end_of(&path);
            rows(&sql, &[org.into(), path.into(), end.into(), id.into()], |row| {
                (number(row, 1), number(row, 2), number(row, 3), number(row, 4) as i32)
            })
        })
        .collect();
    TableIterator::new(found)
}
