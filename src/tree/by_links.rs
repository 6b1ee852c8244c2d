//! Where nodes stand by the parent links alone: for orgs whose stored paths are not kept up.
//!
//! As the table's owner, in one org. A walk upwards ends where it meets a node again, one downwards
//! behind the depth that the tree may have.

use super::moves::{self, Touched, Trouble};
use super::shape::Sql;
use super::{faults, path};
use crate::error::Refusal;
use crate::pg::settings;
use crate::pg::spi::{self, Arg, Seen};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

/// A probe of an index for each node: what is planned for a table without statistics would read the
/// whole org at each level.
const BY_INDEX: [(&CStr, &CStr); 4] = [
    (c"plan_cache_mode", c"force_generic_plan"),
    (c"enable_seqscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
];

/// Nodes judged at a time: their ancestors are in memory.
const BATCH: usize = 10_000;

/// Nodes with their parents, and all nodes above them.
pub type Links = HashMap<String, Touched>;

/// A node, and the path that the links give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub id: String,
    pub parent: Option<String>,
    pub path: String,
}

/// Those of the nodes that exist, and all nodes above them.
pub fn upwards(sql: &Sql, org: &str, ids: &[String], seen: Seen) -> Links {
    settings::with(&BY_INDEX, || {
        spi::look::<2>(seen, &sql.upwards(), vec![Arg::Text(org), Arg::Texts(ids.to_vec())])
    })
    .into_iter()
    .filter_map(|[id, parent]| Some((id?, Touched { parent, ..Touched::default() })))
    .collect()
}

/// The paths of those of the nodes that are among the links; of nodes above them too.
pub fn paths(ids: &[String], links: &Links) -> Result<HashMap<String, String>, Trouble> {
    let (nothing_stored, mut done) = (HashMap::new(), HashMap::new());
    for id in ids.iter().filter(|id| links.contains_key(*id)) {
        moves::place(id, links, &nothing_stored, &mut done)?;
    }
    Ok(done)
}

/// The path of one node; None where it is not there, or its links lead to no root.
pub fn path_of(sql: &Sql, org: &str, id: &str, seen: Seen) -> Option<String> {
    let ids = [id.to_owned()];
    paths(&ids, &upwards(sql, org, &ids, seen)).ok()?.remove(id)
}

/// The ids above a node, the highest first, without itself.
pub fn above(id: &str, links: &Links) -> Vec<String> {
    let mut way: Vec<String> = Vec::new();
    let mut met = HashSet::from([id]);
    let mut at = id;
    while let Some(parent) = links.get(at).and_then(|node| node.parent.as_deref())
        && met.insert(parent)
    {
        way.push(parent.to_owned());
        at = parent;
    }
    way.reverse();
    way
}

/// A node and all below it in path order, were the node at `path`. One level deeper than the tree may be.
pub fn downwards(sql: &Sql, org: &str, id: &str, path: &str, seen: Seen) -> Vec<Placed> {
    let args = vec![Arg::Text(org), Arg::Text(id), Arg::Text(path), Arg::Int(path::depth(path))];
    placed(settings::with(&BY_INDEX, || spi::look::<3>(seen, &sql.downwards(), args)))
}

/// Every node of the org in path order.
pub fn all(sql: &Sql, org: &str, seen: Seen) -> Vec<Placed> {
    placed(spi::look::<3>(seen, &sql.all_by_links(), vec![Arg::Text(org)]))
}

fn placed(rows: spi::Rows<3>) -> Vec<Placed> {
    let mut nodes: Vec<Placed> = rows
        .into_iter()
        .filter_map(|[id, parent, path]| Some(Placed { id: id?, parent, path: path? }))
        .collect();
    nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    nodes
}

/// What is wrong about nodes that a statement has inserted or moved, where it leaves the paths alone.
pub fn judge(sql: &Sql, org: &str, inserted: &[String], moved: &[String]) -> Result<(), Box<Refusal>> {
    let taken_along: HashSet<&str> = moved.iter().map(String::as_str).collect();
    // In order, so that of two faults the same one is reported each time.
    let mut all: Vec<String> = inserted.iter().chain(moved).cloned().collect();
    all.sort_unstable();
    all.dedup();
    for ids in all.chunks(BATCH) {
        let links = upwards(sql, org, ids, Seen::Now);
        let paths = paths(ids, &links).map_err(|trouble| faults::of_trouble(&trouble))?;
        let (mut tops, mut depths, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids {
            let Some(path) = paths.get(id) else { continue };
            let depth = path::depth(path);
            if let Some(refusal) = faults::beyond(id, depth, path.len(), sql.max_depth) {
                return Err(refusal.into());
            }
            // What hangs below a moved node below another is met on the way down from that one.
            let is_top = path::ids(path).rev().skip(1).all(|above| !taken_along.contains(above));
            if is_top && taken_along.contains(id.as_str()) {
                tops.push(id.clone());
                depths.push(depth);
                bytes.push(path.len() as i32);
            }
        }
        if tops.is_empty() {
            continue;
        }
        let args = vec![Arg::Text(org), Arg::Texts(tops), Arg::Ints(depths), Arg::Ints(bytes)];
        let beyond = settings::with(&BY_INDEX, || spi::read::<3>(&sql.beyond_limits(), args));
        if let Some([Some(id), Some(depth), Some(bytes)]) = beyond.into_iter().next()
            && let (Ok(depth), Ok(bytes)) = (depth.parse(), bytes.parse())
            && let Some(refusal) = faults::beyond(&id, depth, bytes, sql.max_depth)
        {
            return Err(refusal.into());
        }
    }
    Ok(())
}

impl Sql {
    /// `$2` ids → id, parent of those that exist and of all above them.
    fn upwards(&self) -> String {
        format!(
            "WITH RECURSIVE up(id, parent) AS (
                 SELECT t.{id}, t.{parent} FROM {table} t
                  WHERE {in_org} AND t.{id} OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.text[]::{id_type}[])
                 UNION
                 SELECT t.{id}, t.{parent} FROM up JOIN {table} t ON {in_org} AND t.{id} OPERATOR(pg_catalog.=) up.parent)
             SELECT up.id::pg_catalog.text, up.parent::pg_catalog.text FROM up",
            id = self.id,
            parent = self.parent,
            table = self.table,
            id_type = self.id_type,
            in_org = self.in_org("t"),
        )
    }

    /// → id, parent, path of the nodes `t` that `start` says, and of all below them: a walk down, whose last
    /// level lies too deep. `path` and `depth` are those of `t`.
    fn walk_down(&self, path: &str, depth: &str, start: &str) -> String {
        format!(
            "WITH RECURSIVE down(id, parent, path, depth) AS (
                 SELECT t.{id}, t.{parent}, ({path}) COLLATE pg_catalog.\"C\", {depth} FROM {table} t WHERE {in_org_t} AND {start}
                 UNION ALL
                 SELECT c.{id}, c.{parent},
                        (down.path OPERATOR(pg_catalog.||) c.{id}::pg_catalog.text OPERATOR(pg_catalog.||) '/') COLLATE pg_catalog.\"C\",
                        down.depth OPERATOR(pg_catalog.+) 1
                   FROM down JOIN {table} c ON {in_org_c} AND c.{parent} OPERATOR(pg_catalog.=) down.id
                  WHERE down.depth OPERATOR(pg_catalog.<=) {max})
             SELECT down.id::pg_catalog.text, down.parent::pg_catalog.text, down.path FROM down",
            id = self.id,
            parent = self.parent,
            table = self.table,
            in_org_t = self.in_org("t"),
            in_org_c = self.in_org("c"),
            max = self.max_depth,
        )
    }

    /// `$2` an id, `$3` its path, `$4` its depth.
    fn downwards(&self) -> String {
        self.walk_down("$3", "$4", &format!("t.{} OPERATOR(pg_catalog.=) $2::{}", self.id, self.id_type))
    }

    /// From every root.
    fn all_by_links(&self) -> String {
        let path =
            format!("'/' OPERATOR(pg_catalog.||) t.{}::pg_catalog.text OPERATOR(pg_catalog.||) '/'", self.id);
        self.walk_down(&path, "0", &format!("t.{} IS NULL", self.parent))
    }

    /// `$2` ids, `$3` their depths, `$4` the bytes of their paths → id, depth, bytes of one below them that is
    /// beyond the limits.
    fn beyond_limits(&self) -> String {
        format!(
            "WITH RECURSIVE down(id, depth, bytes) AS (
                 SELECT t.{id}, m.depth, m.bytes
                   FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS m(id, depth, bytes)
                   JOIN {table} t ON {in_org_t} AND t.{id} OPERATOR(pg_catalog.=) m.id::{id_type}
                 UNION ALL
                 SELECT c.{id}, down.depth OPERATOR(pg_catalog.+) 1,
                        down.bytes OPERATOR(pg_catalog.+) pg_catalog.octet_length(c.{id}::pg_catalog.text) OPERATOR(pg_catalog.+) 1
                   FROM down JOIN {table} c ON {in_org_c} AND c.{parent} OPERATOR(pg_catalog.=) down.id
                  WHERE down.depth OPERATOR(pg_catalog.<=) {max} AND down.bytes OPERATOR(pg_catalog.<=) {max_bytes})
             SELECT down.id::pg_catalog.text, down.depth::pg_catalog.text, down.bytes::pg_catalog.text FROM down
              WHERE down.depth OPERATOR(pg_catalog.>) {max} OR down.bytes OPERATOR(pg_catalog.>) {max_bytes} LIMIT 1",
            id = self.id,
            parent = self.parent,
            table = self.table,
            id_type = self.id_type,
            in_org_t = self.in_org("t"),
            in_org_c = self.in_org("c"),
            max = self.max_depth,
            max_bytes = path::MAX_BYTES,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(edges: &[(&str, Option<&str>)]) -> Links {
        edges
            .iter()
            .map(|(id, parent)| {
                ((*id).to_owned(), Touched { parent: parent.map(str::to_owned), ..Touched::default() })
            })
            .collect()
    }

    #[test]
    fn the_way_up_is_the_path() {
        let links = links(&[("a", None), ("b", Some("a")), ("c", Some("b"))]);
        let found = paths(&["c".to_owned(), "gone".to_owned()], &links).unwrap();
        assert_eq!(found["c"], "/a/b/c/");
        assert_eq!(above("c", &links), ["a", "b"]);
        assert_eq!(above("a", &links), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_to_no_root_are_told_apart() {
        let turning = links(&[("a", Some("c")), ("b", Some("a")), ("c", Some("b")), ("x", Some("a"))]);
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert!(matches!(paths(&ids(&["x"]), &turning), Err(Trouble::Cycle(way)) if way.len() == 3));
        assert_eq!(above("x", &turning), ["b", "c", "a"]);
        let hanging = links(&[("a", Some("gone")), ("b", Some("a"))]);
        assert_eq!(
            paths(&ids(&["b"]), &hanging),
            Err(Trouble::NoParent { id: "a".into(), parent: "gone".into() })
        );
        assert_eq!(above("b", &hanging), ["gone", "a"]);
    }
}
