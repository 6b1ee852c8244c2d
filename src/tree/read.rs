//! Reading any attached tree: as the caller, behind his wall, and by the snapshot of the statement that
//! asks, so that what the flag of an org says holds for the rows that are read.

#![expect(clippy::type_complexity, reason = "pgrx reads the columns from the signatures")]

use super::attach::Tree;
use super::{deferred, path, read_links};
use crate::catalog;
use crate::pg::rows::{Arg, reading};
use crate::pg::session;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use std::collections::HashMap;

pub type Node = (String, Option<String>, Option<String>, Option<i32>);

/// A query of text columns, run as the caller.
fn ask<const N: usize>(sql: &str, args: &[Arg<'_>]) -> Vec<[Option<String>; N]> {
    reading(|reader| {
        let found = reader.select::<N>(sql, args);
        found.rows.iter().map(|row| row.map(|value| Some(reader.text(value?).to_owned()))).collect()
    })
}

fn nodes(sql: &str, args: &[Arg<'_>]) -> Vec<Node> {
    ask::<4>(sql, args)
        .into_iter()
        .map(|[id, parent, path, depth]| {
            (id.unwrap_or_default(), parent, path, depth.and_then(|d| d.parse().ok()))
        })
        .collect()
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

/// `$1` is the bound org, as in `in_org`, and unused where none is bound; `$2` an id.
fn places_sql(tree: &Tree, is_bound: bool) -> String {
    let s = &tree.sql;
    let condition = if is_bound { format!("AND {}", s.in_org("t")) } else { String::new() };
    format!(
        "SELECT t.{org}::text, t.{id}::text, t.{}::text, t.{}::text FROM {} t WHERE t.{id} = $2::{} {condition} ORDER BY t.{org}",
        s.parent,
        s.path,
        s.table,
        s.id_type,
        org = s.org,
        id = s.id
    )
}

/// The places of every visible node with this id: one in a bound session, one an org otherwise. For
/// whoever changes things: as they are now.
pub fn places(tree: &Tree, id: &str) -> Vec<Place> {
    let bound = session::org();
    let sql = places_sql(tree, bound.is_some());
    catalog::rows(&sql, &[bound.into(), id.into()], |row| Place {
        org: catalog::text(row, 1),
        id: catalog::text(row, 2),
        parent: catalog::opt_text(row, 3),
        path: catalog::opt_text(row, 4),
    })
}

/// A node as a reader finds it. Its path is the one that its org goes by.
struct Found {
    place: Place,
    by_links: bool,
}

fn find(tree: &Tree, id: &str) -> impl Iterator<Item = Found> {
    let bound = session::org();
    let sql = places_sql(tree, bound.is_some());
    ask::<4>(&sql, &[Arg::Text(bound.as_deref()), Arg::Text(Some(id))]).into_iter().map(
        move |[org, id, parent, path]| {
            let (org, id) = (org.unwrap_or_default(), id.unwrap_or_default());
            let by_links = deferred::reads_links(tree.table.oid, &org);
            let path = if by_links { read_links::path_of(tree, &org, &id) } else { path };
            Found { place: Place { org, id, parent, path }, by_links }
        },
    )
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
pub fn by_ids(tree: &Tree, org: &str, ids: Vec<String>) -> Vec<Node> {
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
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    nodes(&sql, &[Arg::Text(Some(org)), Arg::Texts(&ids)])
}

/// Those of the ids on a node's path that are visible, the highest first.
fn on_way(tree: &Tree, found: &Found, path: &str, ids: Vec<String>) -> Vec<Node> {
    let nodes = by_ids(tree, &found.place.org, ids);
    if found.by_links { read_links::on_way(nodes, path) } else { nodes }
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
    nodes(&sql, &[Arg::Text(Some(org)), Arg::Text(parent)])
}

/// Nodes by a query over the range of a subtree.
fn in_range(sql: &str, org: &str, path: &str) -> Vec<Node> {
    let end = end_of(path);
    nodes(sql, &[org, path, &*end].map(|arg| Arg::Text(Some(arg))))
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
    let found: Vec<Node> = find(&tree, id)
        .flat_map(|found| match &found.place.path {
            None => Vec::new(),
            Some(path) if found.by_links => read_links::subtree(&tree, &found.place, path),
            Some(path) => in_range(&sql, &found.place.org, path),
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
    let found: Vec<Node> = find(&tree, id)
        .flat_map(|found| {
            let path = found.place.path.clone().unwrap_or_default();
            let mut above: Vec<String> = path::ids(&path).map(str::to_owned).collect();
            above.pop();
            on_way(&tree, &found, &path, above)
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
    let found: Vec<Node> = find(&tree, id)
        .flat_map(|found| {
            let nodes = below(&tree, &found.place.org, Some(id));
            if found.by_links { read_links::below(nodes, found.place.path.as_deref()) } else { nodes }
        })
        .collect();
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
    let found: Vec<Node> = find(&tree, id)
        .flat_map(|Found { place, by_links }| {
            let mut nodes = below(&tree, &place.org, place.parent.as_deref());
            nodes.retain(|(id, ..)| *id != place.id);
            if by_links {
                let path = place.path.as_deref();
                read_links::below(nodes, path.map(|path| path::parent(path).unwrap_or("/")))
            } else {
                nodes
            }
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
    let found: Vec<Node> = find(&tree, id)
        .flat_map(|found| match &found.place.path {
            None => Vec::new(),
            Some(path) if found.by_links => {
                read_links::leaves(read_links::subtree(&tree, &found.place, path))
            }
            Some(path) => in_range(&sql, &found.place.org, path),
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
    let found: Vec<Node> = find(&tree, id)
        .flat_map(|found| {
            let path = found.place.path.clone().unwrap_or_default();
            let root = path::root(&path).map(str::to_owned);
            on_way(&tree, &found, &path, root.into_iter().collect())
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
    let others: HashMap<String, String> =
        find(&tree, b).filter_map(|found| Some((found.place.org, found.place.path?))).collect();
    let found: Vec<Node> = find(&tree, a)
        .flat_map(|found| {
            let path = found.place.path.clone().unwrap_or_default();
            let shared = others.get(&found.place.org).and_then(|other| path::lca(&path, other));
            let id = shared.and_then(|shared| path::ids(shared).next_back()).map(str::to_owned);
            on_way(&tree, &found, &path, id.into_iter().collect())
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
    let number = |text: &Option<String>| text.as_ref().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    let found: Vec<(i64, i64, i64, i32)> = find(&tree, id)
        .filter_map(|found| {
            let Found { place, by_links } = found;
            let path = place.path.as_deref()?;
            if !by_links {
                let end = end_of(path);
                let args = [&*place.org, path, &*end, id].map(|arg| Arg::Text(Some(arg)));
                let counts = ask::<4>(&sql, &args).pop()?;
                return Some((
                    number(&counts[0]),
                    number(&counts[1]),
                    number(&counts[2]),
                    number(&counts[3]) as i32,
                ));
            }
            let nodes = read_links::subtree(&tree, &place, path);
            let children = nodes.iter().filter(|node| node.1.as_ref() == Some(&place.id)).count();
            let deepest = nodes.iter().filter_map(|node| node.3).max().unwrap_or(0);
            let below = nodes.len() as i64 - 1;
            let leaves = read_links::leaves(nodes).len();
            Some((children as i64, below, leaves as i64, deepest - path::depth(path)))
        })
        .collect();
    TableIterator::new(found)
}
