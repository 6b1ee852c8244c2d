//! What a move would do, by the arithmetic of the triggers, changing nothing.

#![expect(clippy::type_complexity, reason = "pgrx reads the columns from the signatures")]

use super::attach::Tree;
use super::by_links::Placed;
use super::moves::{self, Trouble};
use super::read::{Place, places};
use super::{by_links, deferred, faults, judge, maintain, path};
use crate::catalog::{self, rows};
use crate::error::{Refusal, given};
use crate::pg::role;
use crate::pg::spi::{self as plans, Arg, Seen};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;
use std::collections::HashMap;

/// What becomes of a range of paths that go from one prefix to another.
pub struct Measured {
    pub rows: i64,
    pub deepest: Option<i32>,
    /// The first row, in path order, that would lie beyond the limits.
    pub beyond: Option<Refusal>,
}

/// Measures the subtree at `from`, were it at `to`. Of the whole org, whatever part of it the caller
/// may see: that is what moves. `with_top`: the node at `from` goes along.
pub fn measure(tree: &Tree, org: &str, from: &str, to: &str, with_top: bool) -> Measured {
    let s = &tree.sql;
    let sql = format!(
        "SELECT count(*)::text, (max(t.{depth}) + $4)::text,
                min(t.{path}) FILTER (WHERE t.{depth} + $4 > {max_depth} OR octet_length(t.{path}) + $5 > {max_bytes})
           FROM {table} t WHERE {in_org} AND t.{path} {from} $2 AND t.{path} < $3",
        depth = s.depth,
        path = s.path,
        table = s.table,
        in_org = s.in_org("t"),
        from = if with_top { ">=" } else { ">" },
        max_depth = s.max_depth,
        max_bytes = path::MAX_BYTES,
    );
    let gain = path::depth(to) - path::depth(from);
    let bytes = to.len() as i32 - from.len() as i32;
    let end = path::subtree_end(from).unwrap_or_default();
    let found = plans::read::<3>(
        &sql,
        vec![Arg::Text(org), Arg::Text(from), Arg::Text(&end), Arg::Int(gain), Arg::Int(bytes)],
    );
    let [count, deepest, beyond] = found.into_iter().next().unwrap_or_default();
    Measured {
        rows: count.and_then(|n| n.parse().ok()).unwrap_or(0),
        deepest: deepest.and_then(|n| n.parse().ok()),
        beyond: beyond.and_then(|at| refused(tree, &at, path::depth(&at) + gain, at.len() as i32 + bytes)),
    }
}

/// Why a node cannot be that deep, or its path that long.
fn refused(tree: &Tree, at: &str, depth: i32, bytes: i32) -> Option<Refusal> {
    let id = path::ids(at).next_back().unwrap_or_default();
    faults::beyond(id, depth, bytes as usize, tree.sql.max_depth)
}

/// Measures the node and all below it by the links, were the node at `to`. `rows` are those below it.
pub fn measure_by_links(tree: &Tree, org: &str, id: &str, to: &str) -> Measured {
    let nodes = by_links::downwards(&tree.sql, org, id, to, Seen::Now);
    let refused = |node: &Placed| refused(tree, &node.path, path::depth(&node.path), node.path.len() as i32);
    Measured {
        rows: nodes.len() as i64 - 1,
        deepest: nodes.iter().map(|node| path::depth(&node.path)).max(),
        beyond: nodes.iter().find_map(refused),
    }
}

/// Refuses who could not do it: the answer tells of nodes that he may not see.
pub fn expect_right(tree: &Tree, and_delete: bool) {
    let allowed = rows(
        "SELECT has_column_privilege($1, $2, 'UPDATE') AND (NOT $3 OR has_table_privilege($1, 'DELETE'))",
        &[tree.table.oid.into(), tree.columns.parent.as_str().into(), and_delete.into()],
        |row| row.get::<bool>(1).ok().flatten().unwrap_or(false),
    );
    if allowed != [true] {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for {}", tree.table.shown()),
        )
        .hint(format!(
            "It takes what the statement takes: GRANT UPDATE ({}){} ON {} TO …;",
            crate::catalog::ident(&tree.columns.parent),
            if and_delete { ", DELETE" } else { "" },
            tree.table.sql()
        ))
        .raise()
    }
}

struct Move {
    rows: i64,
    depth: Option<i32>,
    deepest: Option<i32>,
    cycles: bool,
    refusal: Option<String>,
}

impl Move {
    fn of_trouble(trouble: &Trouble) -> Move {
        Move {
            rows: 0,
            depth: None,
            deepest: None,
            cycles: matches!(trouble, Trouble::Cycle(_)),
            refusal: Some(faults::of_trouble(trouble).message),
        }
    }

    /// Refused by second parents, where nothing else refuses it.
    fn unless_foreseen(self, tree: &Tree, place: &Place, new_parent: Option<&str>) -> Move {
        let refusal = match (&self.refusal, new_parent) {
            // Where it hangs there already nothing is looked at.
            (None, Some(parent)) if self.rows > 0 => {
                judge::foreseen(tree.table.oid, &place.org, || vec![place.id.clone()], parent, false)
            }
            _ => None,
        };
        match refusal {
            Some(refusal) => Move {
                rows: 0,
                cycles: refusal.constraint == Some(faults::NO_CYCLE),
                refusal: Some(refusal.message),
                ..self
            },
            None => self,
        }
    }
}

/// None where the node has gone since it was looked up.
fn preview_one(tree: &Tree, place: &Place, new_parent: Option<&str>) -> Option<Move> {
    let from = place.path.clone();
    let moved = HashMap::from([(place.id.clone(), from.iter().cloned().collect())]);
    let ask = [Some(place.id.as_str()), new_parent].into_iter().flatten().map(str::to_owned).collect();
    let (mut touched, others) = maintain::load(&tree.sql, &place.org, ask, &moved);
    let node = touched.get_mut(&place.id)?;
    let stays = node.parent.as_deref() == new_parent && from.is_some();
    node.parent = new_parent.map(str::to_owned);
    let finals = match moves::final_paths(&touched, &others) {
        Ok(finals) => finals,
        Err(trouble) => return Some(Move::of_trouble(&trouble)),
    };
    let to = &finals[&place.id];
    let below = match &from {
        Some(from) => measure(tree, &place.org, from, to, true),
        None => Measured {
            rows: 0,
            deepest: Some(path::depth(to)),
            beyond: refused(tree, to, path::depth(to), to.len() as i32),
        },
    };
    let refusal = below.beyond.filter(|_| !stays).map(|refusal| refusal.message);
    let rows = below.rows + moves::own_rows(&touched, &finals).len() as i64;
    Some(Move {
        rows: if stays || refusal.is_some() { 0 } else { rows },
        depth: Some(path::depth(to)),
        deepest: below.deepest,
        cycles: false,
        refusal,
    })
}

/// The same where the move would leave the paths as they are: it writes one row.
fn preview_by_links(tree: &Tree, place: &Place, new_parent: Option<&str>) -> Option<Move> {
    let ids: Vec<String> = [Some(&*place.id), new_parent].into_iter().flatten().map(str::to_owned).collect();
    let mut links = by_links::upwards(&tree.sql, &place.org, &ids, Seen::Now);
    let node = links.get_mut(&place.id)?;
    let stays = node.parent.as_deref() == new_parent;
    node.parent = new_parent.map(str::to_owned);
    let to = match by_links::paths(&ids[..1], &links) {
        Ok(mut paths) => paths.remove(&place.id)?,
        Err(trouble) => return Some(Move::of_trouble(&trouble)),
    };
    let below = measure_by_links(tree, &place.org, &place.id, &to);
    let refusal = below.beyond.filter(|_| !stays).map(|refusal| refusal.message);
    Some(Move {
        rows: i64::from(!stays && refusal.is_none()),
        depth: Some(path::depth(&to)),
        deepest: below.deepest,
        cycles: false,
        refusal,
    })
}

#[pg_extern(sql = false)]
fn preview_move(
    table: Option<pg_sys::Oid>,
    id: Option<&str>,
    new_parent: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(rows_touched, i64),
        name!(new_depth, Option<i32>),
        name!(deepest, Option<i32>),
        name!(cycles, bool),
        name!(refusal, Option<String>),
    ),
> {
    let tree = Tree::get(given(table, "table"));
    expect_right(&tree, false);
    let new_parent = new_parent.map(|id| as_key(&tree, id));
    let found: Vec<_> = id
        .map_or(Vec::new(), |id| places(&tree, id))
        .iter()
        .filter_map(|place| {
            role::as_table_owner_confined(tree.table.owner, || {
                let preview = if deferred::would_defer(tree.table.oid, &place.org) {
                    preview_by_links
                } else {
                    preview_one
                };
                let found = preview(&tree, place, new_parent.as_deref())?;
                Some(found.unless_foreseen(&tree, place, new_parent.as_deref()))
            })
        })
        .map(|m| (m.rows, m.depth, m.deepest, m.cycles, m.refusal))
        .collect();
    TableIterator::new(found)
}

/// An id as the key's type writes it.
pub fn as_key(tree: &Tree, id: &str) -> String {
    rows(&format!("SELECT $1::{}::text", tree.sql.id_type), &[id.into()], |row| catalog::text(row, 1))
        .pop()
        .unwrap_or_default()
}
