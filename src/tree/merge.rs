//! Merging one node into another: its children go there, then it is deleted.
//!
//! Done as the caller, with his rights and behind his wall, as the two statements it stands for. What
//! he may not see must not be lost on the way: on_delete would give it to the grandparent, or delete it.

use super::attach::Tree;
use super::locks::{self, Work};
use super::preview::{self, Measured};
use super::read::places;
use super::{by_links, deferred, faults, judge, path};
use crate::catalog;
use crate::error::Refusal;
use crate::pg::spi::{self as plans, Arg, Seen};
use crate::pg::{caller, role, session};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

/// The one org that has both nodes, and their ids as the key's type writes them.
fn common_org(tree: &Tree, from: &str, into: &str) -> (String, String, String) {
    let found = |id: &str| {
        let found = places(tree, id);
        if found.is_empty() {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
                format!("there is no node {} in {}", faults::shown(id), tree.table.shown()),
            )
            .hint("It is in no org that is bound, or not yours to see.")
            .table(&tree.table.schema, &tree.table.name)
            .raise()
        }
        found
    };
    let (froms, intos) = (found(from), found(into));
    let mut common = froms.iter().filter_map(|f| Some((f, intos.iter().find(|i| i.org == f.org)?)));
    let first = common.next();
    match (first, common.next()) {
        (Some((from, into)), None) => (from.org.clone(), from.id.clone(), into.id.clone()),
        (first, _) => {
            let what = if first.is_none() { "are in different orgs" } else { "are in more than one org" };
            Refusal::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("nodes {} and {} {what}", faults::shown(from), faults::shown(into)),
            )
            .hint("Bind the org that is meant; nodes of two orgs cannot be merged.")
            .table(&tree.table.schema, &tree.table.name)
            .raise()
        }
    }
}

struct Merge {
    children: i64,
    rows: i64,
    deepest: Option<i32>,
}

/// What merging would do, or why it may not be.
fn plan(tree: &Tree, org: &str, from: &str, into: &str) -> Result<Merge, Box<Refusal>> {
    if from == into {
        return Err(Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("node {} cannot be merged into itself", faults::shown(from)),
        )
        .hint("Name the node that is to stay.")
        .into());
    }
    let by_links = deferred::would_defer(tree.table.oid, org);
    let nodes = if by_links {
        placed_by_links(tree, org, &[from.to_owned(), into.to_owned()])?
    } else {
        plans::read_as_caller::<3>(
            (tree.table.oid, tree.table.owner),
            &tree.sql.nodes(),
            vec![Arg::Text(org), Arg::Texts(vec![from.to_owned(), into.to_owned()])],
        )
    };
    let path_of = |id: &str| -> Result<String, Box<Refusal>> {
        let node = nodes.iter().find(|[found, ..]| found.as_deref() == Some(id));
        let Some([_, _, path]) = node else {
            return Err(Refusal::new(
                PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
                format!("there is no node {} in {}", faults::shown(id), tree.table.shown()),
            )
            .into());
        };
        path.clone().ok_or_else(|| {
            Refusal::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("node {} has no path", faults::shown(id)),
            )
            .hint(format!(
                "Repair the tree: SELECT * FROM crm_tree.repair_tree({});",
                catalog::literal(&tree.table.sql())
            ))
            .into()
        })
    };
    let (source, target) = (path_of(from)?, path_of(into)?);
    if path::is_within(&target, &source) {
        return Err(Refusal::new(
            PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
            format!(
                "node {} cannot be merged into {}, which is below it",
                faults::shown(from),
                faults::shown(into)
            ),
        )
        .hint("Merge the other way round, or move the lower one out first.")
        .constraint("crm_tree_no_cycle")
        .into());
    }
    let (children, below, foreseen) = role::as_table_owner_confined(tree.table.owner, || {
        let children = count_children(tree, org, from);
        let foreseen = judge::foreseen(tree.table.oid, org, || children_of(tree, org, from), into, true);
        let below = if by_links {
            // Each child is written, and nothing below it.
            let below = preview::measure_by_links(tree, org, from, &target);
            Measured { rows: children, deepest: below.deepest.filter(|_| below.rows > 0), ..below }
        } else {
            preview::measure(tree, org, &source, &target, false)
        };
        (children, below, foreseen)
    });
    let seen = count_children(tree, org, from);
    if seen < children {
        return Err(hidden_children(from, children - seen).into());
    }
    match below.beyond.or(foreseen) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(Merge { children, rows: below.rows, deepest: below.deepest }),
    }
}

/// Id, parent and path by the links of those of the nodes that exist.
fn placed_by_links(tree: &Tree, org: &str, ids: &[String]) -> Result<plans::Rows<3>, Box<Refusal>> {
    role::as_table_owner_confined(tree.table.owner, || {
        let mut links = by_links::upwards(&tree.sql, org, ids, Seen::Now);
        let mut paths = by_links::paths(ids, &links).map_err(|trouble| faults::of_trouble(&trouble))?;
        Ok(ids
            .iter()
            .filter_map(|id| Some([Some(id.clone()), links.remove(id)?.parent, paths.remove(id)]))
            .collect())
    })
}

fn hidden_children(from: &str, count: i64) -> Refusal {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("node {} has {count} children that you may not see or move", faults::shown(from)),
    )
    .hint("Whoever merges takes all children along; leave it to somebody who may see them.")
}

/// Those that would go along.
fn children_of(tree: &Tree, org: &str, parent: &str) -> Vec<String> {
    let sql = tree.sql.of_children(&format!("t.{}", tree.sql.id));
    plans::read::<1>(&sql, vec![Arg::Text(org), Arg::Text(parent)])
        .into_iter()
        .filter_map(|[id]| id)
        .collect()
}

/// As the current user: past row security where he owns the table.
fn count_children(tree: &Tree, org: &str, parent: &str) -> i64 {
    let sql = tree.sql.of_children("pg_catalog.count(*)");
    let found = plans::read_as_caller::<1>(
        (tree.table.oid, tree.table.owner),
        &sql,
        vec![Arg::Text(org), Arg::Text(parent)],
    );
    found.into_iter().next().and_then(|[n]| n?.parse().ok()).unwrap_or(0)
}

pub fn merge_nodes(table: pg_sys::Oid, from: &str, into: &str) -> i64 {
    let tree = Tree::get(table);
    preview::expect_right(&tree, true);
    let (org, from, into) = common_org(&tree, from, into);
    // What the two statements take, at once: whoever has the org's lock alone must not wait for the tree's.
    let bound = session::org().filter(|bound| *bound == org);
    locks::take(tree.table.oid, bound.as_deref(), Work::Move);
    if let Err(refusal) = plan(&tree, &org, &from, &into) {
        refusal.table(&tree.table.schema, &tree.table.name).raise()
    }
    let s = &tree.sql;
    let key = |column: &str, n: u32| format!("t.{column} OPERATOR(pg_catalog.=) ${n}::{}", s.id_type);
    let moved = caller::write(
        tree.table.oid,
        &format!(
            "UPDATE {} AS t SET {} = $3::{} WHERE {} AND {}",
            s.table,
            s.parent,
            s.id_type,
            s.in_org("t"),
            key(&s.parent, 2)
        ),
        &[&org, &from, &into],
    );
    let left = role::as_table_owner_confined(tree.table.owner, || count_children(&tree, &org, &from));
    if left > 0 {
        hidden_children(&from, left).table(&tree.table.schema, &tree.table.name).raise()
    }
    let deleted = caller::write(
        tree.table.oid,
        &format!("DELETE FROM {} AS t WHERE {} AND {}", s.table, s.in_org("t"), key(&s.id, 2)),
        &[&org, &from],
    );
    if deleted != 1 {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!(
                "node {} was not deleted: a policy or trigger of the table kept it",
                faults::shown(&from)
            ),
        )
        .hint("Whoever merges must be able to delete the node.")
        .table(&tree.table.schema, &tree.table.name)
        .raise()
    }
    moved as i64
}

#[pg_extern(sql = false)]
fn preview_merge(
    table: pg_sys::Oid,
    from: &str,
    into: &str,
) -> TableIterator<
    'static,
    (
        name!(children, i64),
        name!(rows_touched, i64),
        name!(deepest, Option<i32>),
        name!(refusal, Option<String>),
    ),
> {
    let tree = Tree::get(table);
    preview::expect_right(&tree, true);
    if places(&tree, from).is_empty() || places(&tree, into).is_empty() {
        return TableIterator::new(Vec::new());
    }
    let (org, from, into) = common_org(&tree, from, into);
    TableIterator::once(match plan(&tree, &org, &from, &into) {
        Ok(merge) => (merge.children, merge.rows, merge.deepest, None),
        Err(refusal) => (0, 0, None, Some(refusal.message)),
    })
}
