//! What makes links no tree, or a tree too deep: the refusals, wherever they are found.

use super::moves::Trouble;
use super::path;
use crate::error::Refusal;
use crate::telemetry::{self, counts::Kind};
use pgrx::prelude::*;

pub const NO_CYCLE: &str = "crm_tree_no_cycle";

/// Refuses what was done to this table; a cycle is counted.
pub fn raise(refusal: Refusal, schema: &str, table: &str) -> ! {
    if refusal.constraint == Some(NO_CYCLE) {
        telemetry::count(Kind::Cycle);
    }
    refusal.table(schema, table).raise()
}

/// An id for a message: quoted, and cut where it would fill the screen.
pub fn shown(id: &str) -> String {
    if id.chars().count() <= 64 {
        format!("{id:?}")
    } else {
        format!("{:?}…", id.chars().take(64).collect::<String>())
    }
}

pub fn bad_id(id: &str) -> Refusal {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("{} cannot be the id of a node: it is empty or contains \"/\"", shown(id)),
    )
    .hint("Paths separate ids with \"/\"; use another character in the key, for example \"-\".")
    .constraint("crm_tree_valid_id")
}

pub fn too_deep(id: &str, depth: i32, max_depth: i32) -> Refusal {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
        format!("node {} would be at depth {depth}, and this tree goes down to {max_depth}", shown(id)),
    )
    .hint("Place it higher, or attach the tree again with a larger max_depth.")
    .constraint("crm_tree_max_depth")
}

pub fn too_long(id: &str, bytes: usize) -> Refusal {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
        format!(
            "the path of node {} would take {bytes} bytes, and {} can be indexed",
            shown(id),
            path::MAX_BYTES
        ),
    )
    .hint("Place it higher, or use shorter ids.")
    .constraint("crm_tree_max_depth")
}

/// What is beyond the limits about the first of `walked`, ids each the child of the next, where the
/// last hangs below the path `above` (`"/"`: is a root). None: nothing.
pub fn beyond_limits(walked: &[String], above: &str, max_depth: i32) -> Option<Refusal> {
    let depth = path::depth(above) + walked.len() as i32;
    let bytes = above.len() + walked.iter().map(|id| id.len() + 1).sum::<usize>();
    beyond(walked.first()?, depth, bytes, max_depth)
}

/// Why a node cannot be that deep, or its path that long. None: it can.
pub fn beyond(id: &str, depth: i32, bytes: usize, max_depth: i32) -> Option<Refusal> {
    if depth > max_depth {
        Some(too_deep(id, depth, max_depth))
    } else {
        (bytes > path::MAX_BYTES).then(|| too_long(id, bytes))
    }
}

/// `ids`: those on the cycle, each the child of the next.
pub fn cycle(ids: &[String]) -> Refusal {
    let first = ids.first().map_or("", String::as_str);
    let chain: Vec<&str> = ids.iter().take(20).map(String::as_str).chain([first]).collect();
    Refusal::new(
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
        format!("node {} would become its own ancestor", shown(first)),
    )
    .detail(format!("The links would run in a circle, child to parent: {}.", chain.join(" → ")))
    .hint("Choose a parent outside the node's own subtree, or move that parent out of it first.")
    .constraint(NO_CYCLE)
}

pub fn no_parent(id: &str, parent: &str) -> Refusal {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION,
        format!("node {} names the parent {}, which is not in its org", shown(id), shown(parent)),
    )
    .hint("Insert the parent first or in the same statement; an edge cannot cross from one org to another.")
    .constraint("crm_tree_parent_in_org")
}

pub fn of_trouble(trouble: &Trouble) -> Refusal {
    match trouble {
        Trouble::Cycle(ids) => cycle(ids),
        Trouble::NoParent { parent, .. } if !path::is_id(parent) => bad_id(parent),
        Trouble::NoParent { id, parent } => no_parent(id, parent),
        Trouble::BadId(id) => bad_id(id),
    }
}
