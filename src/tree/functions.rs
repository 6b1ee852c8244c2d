//! Path arithmetic as SQL sees it.

use super::path;
use crate::error::Refusal;
use pgrx::prelude::*;

/// Longer than any path that is kept, by far. Memory for the ids of much more would not be there, and a
/// server whose library asks in vain stops.
const MAX_BYTES: usize = 1 << 20;

#[pg_extern(sql = false)]
fn path_ids(path: &str) -> Vec<String> {
    if path.len() > MAX_BYTES {
        Refusal::new(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("a path of {} bytes is longer than the {MAX_BYTES} that are looked at", path.len()),
        )
        .hint(format!("Paths of trees have at most {} bytes.", path::MAX_BYTES))
        .raise()
    }
    path::ids(path).map(str::to_owned).collect()
}

#[pg_extern(sql = false)]
fn path_depth(path: &str) -> Option<i32> {
    path::is_valid(path).then(|| path::depth(path))
}

#[pg_extern(sql = false)]
fn path_parent(path: &str) -> Option<String> {
    if path::is_valid(path) { path::parent(path).map(str::to_owned) } else { None }
}

#[pg_extern(sql = false)]
fn path_root(path: &str) -> Option<String> {
    if path::is_valid(path) { path::root(path).map(str::to_owned) } else { None }
}

#[pg_extern(sql = false)]
fn path_is_within(path: &str, ancestor: &str) -> bool {
    path::is_within(path, ancestor)
}

#[pg_extern(sql = false)]
fn path_lca(a: &str, b: &str) -> Option<String> {
    path::lca(a, b).map(str::to_owned)
}

#[pg_extern(sql = false)]
fn subtree_end(path: &str) -> Option<String> {
    path::subtree_end(path)
}
