//! Path arithmetic as SQL sees it.

use super::path;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn path_ids(path: &str) -> Vec<String> {
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
