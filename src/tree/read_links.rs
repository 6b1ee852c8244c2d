//! The reading functions in an org whose paths are not kept up.
//!
//! Where nodes stand is found as the table's owner, since the way to a node that the caller sees may lead
//! over nodes that he does not; stored paths name those too. The rows themselves are read as the caller.

use super::attach::Tree;
use super::by_links::{self, Placed};
use super::deferred;
use super::path;
use super::read::{Node, Place, by_ids};
use crate::pg::relation::Remembered;
use crate::pg::spi::Seen;
use crate::pg::{role, session};
use crate::tenant::wall;
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

fn as_owner<R>(tree: &Tree, work: impl FnOnce() -> R) -> R {
    role::as_table_owner_confined(tree.table.owner, work)
}

/// The path that the links give a node; None where they lead to no root.
pub fn path_of(tree: &Tree, org: &str, id: &str) -> Option<String> {
    as_owner(tree, || by_links::path_of(&tree.sql, org, id, Seen::ByStatement))
}

/// The node at `path` and all below it that the caller sees, in path order.
pub fn subtree(tree: &Tree, place: &Place, path: &str) -> Vec<Node> {
    let nodes =
        as_owner(tree, || by_links::downwards(&tree.sql, &place.org, &place.id, path, Seen::ByStatement));
    seen(tree, &place.org, nodes)
}

fn seen(tree: &Tree, org: &str, nodes: Vec<Placed>) -> Vec<Node> {
    let ids = nodes.iter().map(|node| node.id.clone()).collect();
    let visible: HashSet<String> = by_ids(tree, org, ids).into_iter().map(|(id, ..)| id).collect();
    nodes
        .into_iter()
        .filter(|node| visible.contains(&node.id))
        .map(|node| {
            let depth = path::depth(&node.path);
            (node.id, node.parent, Some(node.path), Some(depth))
        })
        .collect()
}

/// Of nodes in path order those that have none of the others below them.
pub fn leaves(nodes: Vec<Node>) -> Vec<Node> {
    let is_leaf: Vec<bool> = (0..nodes.len())
        .map(|at| {
            let below = nodes.get(at + 1).and_then(|next| next.2.as_deref());
            !below.is_some_and(|next| nodes[at].2.as_deref().is_some_and(|own| next.starts_with(own)))
        })
        .collect();
    nodes.into_iter().zip(is_leaf).filter_map(|(node, leaf)| leaf.then_some(node)).collect()
}

/// The nodes, with the places that they have on the way `path`, the highest first.
pub fn on_way(nodes: Vec<Node>, path: &str) -> Vec<Node> {
    let mut places = HashMap::new();
    let mut at = "/".to_owned();
    for (depth, id) in path::ids(path).enumerate() {
        at = path::child(&at, id);
        places.insert(id, (at.clone(), depth as i32));
    }
    let mut nodes: Vec<Node> = nodes
        .into_iter()
        .filter_map(|(id, parent, ..)| {
            let (path, depth) = places.get(id.as_str())?.clone();
            Some((id, parent, Some(path), Some(depth)))
        })
        .collect();
    nodes.sort_by_key(|node| node.3);
    nodes
}

/// The nodes, each directly below `parent` (`"/"`: roots; None: of which no path is known).
pub fn below(nodes: Vec<Node>, parent: Option<&str>) -> Vec<Node> {
    nodes
        .into_iter()
        .map(|(id, above, ..)| {
            let path = parent.map(|parent| path::child(parent, &id));
            let depth = path.as_deref().map(path::depth);
            (id, above, path, depth)
        })
        .collect()
}

thread_local! {
    static TREES: RefCell<Remembered<Rc<Tree>>> = RefCell::default();
}

/// The tree, from memory: for what is asked row by row.
fn kept(table: pg_sys::Oid) -> Rc<Tree> {
    Remembered::get(&TREES, table, || Rc::new(Tree::get(table)))
}

/// Where a node stands by what its org goes by: `path`, or the links.
#[pg_extern(sql = false)]
fn path_now(table: pg_sys::Oid, org: Option<&str>, id: Option<&str>, path: Option<&str>) -> Option<String> {
    let (org, id) = (org?, id?);
    if !deferred::reads_links_of_named(table, org) {
        return path.map(str::to_owned);
    }
    let tree = kept(table);
    let visible = by_ids(&tree, org, vec![id.to_owned()]);
    visible.first().and_then(|(id, ..)| path_of(&tree, org, id))
}

/// The nodes that the caller sees of orgs whose readers go by links, of the bound one where one is bound.
#[pg_extern(sql = false)]
fn deferred_paths(
    table: pg_sys::Oid,
) -> TableIterator<'static, (name!(org, String), name!(id, String), name!(path, Option<String>))> {
    let mut orgs = deferred::orgs_read_by_links(table);
    if let Some(bound) = session::org() {
        orgs.retain(|org| *org == bound);
    }
    // Whether there are any is nothing for who is bound to none.
    orgs.retain(|org| wall::may_be_told(role::current(), table, org));
    let mut found = Vec::new();
    for org in orgs {
        let tree = kept(table);
        let nodes = as_owner(&tree, || by_links::all(&tree.sql, &org, Seen::ByStatement));
        let seen = seen(&tree, &org, nodes);
        found.extend(seen.into_iter().map(|(id, _, path, _)| (org.clone(), id, path)));
    }
    TableIterator::new(found)
}
