//! Rollups: the totals of every node of a tree, second parents included.
//!
//! What is read is the caller's business: he hands over queries, which run with his rights and
//! behind his wall.

mod generic;
mod graph;
mod order;

use crate::error::Refusal;
use crate::pg::rows::{Arg, Found, Image, Number, Reader, Store, Value, reading};
use crate::pg::settings;
use crate::tree::path;
use graph::{Amount, Figures, Link, Mode, Node};
use pgrx::datum::Date;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;

pub use generic::rollup;

/// What to add up, and where.
pub struct Request<'q> {
    /// A query of (id, parent, label, depth integer, share numeric, own numeric), which ends in a
    /// WHERE clause; `$3` is the day. A share is in percent.
    pub nodes: &'q str,
    /// A query of (parent, child, share numeric, parent's path text, child's path text).
    pub links: Option<&'q str>,
    /// How `nodes` names the path.
    pub path: &'q str,
    /// The node asked for, and its path; without one all of them.
    pub top: Option<&'q str>,
    pub top_path: Option<&'q str>,
    pub day: Option<Date>,
    pub mode: &'q str,
    /// Paths are known not to say what the links do.
    pub stale: bool,
    /// The node asked for alone, without a row for each below it.
    pub only_top: bool,
}

impl Amount for Number<'_> {
    fn plus(self, other: Self) -> Self {
        Number::plus(self, other)
    }
    fn part(self, share: Self) -> Self {
        self.times(share).trimmed()
    }
    fn pause() {
        pgrx::check_for_interrupts!();
    }
}

fn parse_mode(mode: &str) -> Mode {
    match mode {
        "distinct" => Mode::Distinct,
        "weighted" => Mode::Weighted,
        "primary" => Mode::Primary,
        _ => Refusal::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("unknown rollup mode: {mode:?}"),
        )
        .hint("Use 'distinct', 'weighted' or 'primary'.")
        .raise(),
    }
}

/// A node as it was read.
#[derive(Clone, Copy)]
struct Read<'a> {
    id: Value<'a>,
    parent: Option<Value<'a>>,
    label: Option<Value<'a>>,
    depth: Option<Value<'a>>,
    share: Option<Number<'a>>,
    own: Option<Number<'a>>,
}

impl<'a> Read<'a> {
    fn of([id, parent, label, depth, share, own]: [Option<Value<'a>>; 6]) -> Option<Read<'a>> {
        Some(Read { id: id?, parent, label, depth, share: share.map(Number::of), own: own.map(Number::of) })
    }
}

/// Nodes in path order, each with the position of its parent.
struct Forest<'a> {
    nodes: Vec<Read<'a>>,
    parents: Vec<Option<usize>>,
    id_type: Oid,
    /// Where the node asked for stands.
    top: usize,
    source: &'static str,
}

/// A row of the answer.
struct Row<'a> {
    id: Value<'a>,
    parent: Option<Value<'a>>,
    label: Option<Value<'a>>,
    depth: Option<Value<'a>>,
    own: Value<'a>,
    total: Value<'a>,
    nodes: i64,
    duplicates: i64,
    unallocated: Value<'a>,
    missing: i64,
}

type Links<'a> = Found<'a, 5>;

/// Reads and adds up, and hands each row of the answer to `emit`; first where the structure was read
/// from to `begin`.
fn roll<'a>(
    reader: &Reader<'a>,
    request: &Request<'_>,
    begin: impl FnOnce(&'static str),
    emit: impl Fn(Row<'a>),
) {
    let mode = parse_mode(request.mode);
    let links: Option<Links<'a>> = match request.links {
        Some(query) if mode != Mode::Primary => Some(reader.select(query, &[])),
        _ => None,
    };
    let by_path = if request.stale { None } else { read_by_path(reader, request, links.as_ref()) };
    let Some(forest) = by_path.or_else(|| read_by_links(reader, request)) else {
        return;
    };
    begin(forest.source);
    let zero = reader.number(0);
    let (nodes, links) = graph_of(reader, &forest, links.as_ref());
    let end = match request.top {
        None => nodes.len(),
        Some(_) if request.only_top => forest.top + 1,
        Some(_) => graph::ends(&nodes)[forest.top],
    };
    let wanted = forest.top..end;
    let figures = graph::roll_up(&nodes, &links, mode, wanted.clone()).unwrap_or_else(|_| refuse_circle());
    for (at, figures) in wanted.zip(figures) {
        let read = &forest.nodes[at];
        let Figures { total, nodes, duplicates, unallocated, missing } = figures;
        emit(Row {
            id: read.id,
            parent: read.parent,
            label: read.label,
            depth: read.depth,
            own: read.own.unwrap_or(zero).value(),
            total: total.unwrap_or(zero).value(),
            nodes: nodes as i64,
            duplicates: duplicates as i64,
            unallocated: unallocated.map_or(zero, Number::trimmed).value(),
            missing: missing as i64,
        });
    }
}

fn refuse_circle() -> ! {
    Refusal::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the links of the tree turn in a circle: there are no totals",
    )
    .hint("See where with SELECT * FROM crm_tree.check_tree('<table>').")
    .raise()
}

fn expect_types<const N: usize>(types: [Oid; N], expected: [Option<Oid>; N]) {
    for (n, (is, wanted)) in types.into_iter().zip(expected).enumerate() {
        if wanted.is_some_and(|wanted| wanted != is) {
            error!("column {} of a rollup's query is of the wrong type", n + 1)
        }
    }
}

/// None where the paths turn out not to say what the links do.
fn read_by_path<'a>(
    reader: &Reader<'a>,
    request: &Request<'_>,
    links: Option<&Links<'a>>,
) -> Option<Forest<'a>> {
    let ranges: BTreeMap<String, String> = match (request.top, request.top_path) {
        (None, _) => BTreeMap::from([("/".to_owned(), "0".to_owned())]),
        (Some(_), None) => return None,
        (Some(_), Some(top_path)) => {
            let mut edges: Vec<(&str, &str)> = Vec::new();
            for [_, _, _, parent_path, child_path] in links.map_or(&[][..], |l| &l.rows) {
                edges.push((reader.text((*parent_path)?), reader.text((*child_path)?)));
            }
            edges.sort_unstable();
            graph::reach(
                top_path.to_owned(),
                |from| path::subtree_end(from).unwrap_or_default(),
                |from, end| {
                    pgrx::check_for_interrupts!();
                    let first = edges.partition_point(|e| e.0 < from.as_str());
                    let last = edges.partition_point(|e| e.0 < end.as_str());
                    edges[first..last.max(first)].iter().map(|e| e.1.to_owned()).collect()
                },
            )
        }
    };
    let (lows, ends): (Vec<&str>, Vec<&str>) = ranges.iter().map(|(from, end)| (&**from, &**end)).unzip();
    let found = match (&lows[..], &ends[..]) {
        ([from], [end]) => {
            let inside = format!(
                "{nodes} AND {path} OPERATOR(pg_catalog.>=) $1 AND {path} OPERATOR(pg_catalog.<) $2",
                nodes = request.nodes,
                path = request.path
            );
            select_nodes(reader, request, &inside, [Arg::Text(Some(from)), Arg::Text(Some(end))])
        }
        _ => {
            // Ranges do not overlap, so no node comes twice. The bounds are columns as they are, and so
            // both of them conditions of the index.
            let inside = format!(
                "SELECT n.* FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS r(lo, hi) CROSS JOIN LATERAL (
                     {nodes} AND {path} OPERATOR(pg_catalog.>=) r.lo AND {path} OPERATOR(pg_catalog.<) r.hi) n",
                nodes = request.nodes,
                path = request.path
            );
            select_nodes(reader, request, &inside, [Arg::Texts(&lows), Arg::Texts(&ends)])
        }
    };
    let id_type = found.types[0];
    let (read, top) = nodes_of(reader, &found);
    let (nodes, parents) = in_path_order(reader, read, id_type);
    let hanging = || nodes.iter().zip(&parents).filter(|(_, parent)| parent.is_none());
    let stale = match request.top {
        // Only a root has no parent among the nodes.
        None => hanging().any(|(node, _)| node.parent.is_some()),
        // The top of each range has none.
        Some(_) => top.is_none() || hanging().count() != ranges.len(),
    };
    if stale {
        return None;
    }
    let top = place_of(reader, &nodes, id_type, top);
    Some(Forest { nodes, parents, id_type, top, source: "path" })
}

/// The nodes of a query, and in a seventh column whether each is the one asked for.
fn select_nodes<'a>(
    reader: &Reader<'a>,
    request: &Request<'_>,
    nodes: &str,
    [first, second]: [Arg<'_>; 2],
) -> Found<'a, 7> {
    let is_top = if request.top.is_some() {
        "n.id::pg_catalog.text OPERATOR(pg_catalog.=) $4"
    } else {
        "NULL::pg_catalog.bool"
    };
    let sql = format!("SELECT n.*, {is_top} FROM (\n{nodes}\n) n(id, parent, label, depth, share, own)");
    let found: Found<'a, 7> =
        reader.select(&sql, &[first, second, Arg::Date(request.day), Arg::Text(request.top)]);
    let id = found.types[0];
    let number = Some(pg_sys::NUMERICOID);
    expect_types(found.types, [None, Some(id), None, Some(pg_sys::INT4OID), number, number, None]);
    found
}

/// The nodes found, and the id of the one asked for.
fn nodes_of<'a>(reader: &Reader<'a>, found: &Found<'a, 7>) -> (Vec<Read<'a>>, Option<Image<'a>>) {
    let mut read = Vec::with_capacity(found.rows.len());
    let mut top = None;
    for [id, parent, label, depth, share, own, is_top] in found.rows.iter().copied() {
        if is_top.is_some_and(|v| reader.image(v, pg_sys::BOOLOID) == Image::Word(1)) {
            top = id.map(|id| reader.image(id, found.types[0]));
        }
        read.extend(Read::of([id, parent, label, depth, share, own]));
    }
    (read, top)
}

fn place_of<'a>(reader: &Reader<'a>, nodes: &[Read<'a>], id_type: Oid, id: Option<Image<'a>>) -> usize {
    id.and_then(|id| nodes.iter().position(|n| reader.image(n.id, id_type) == id)).unwrap_or(0)
}

/// Puts nodes in path order by their links, siblings by their ids: that sorts short ids, where the
/// server would sort long paths. Answers the position of each one's parent too.
fn in_path_order<'a>(
    reader: &Reader<'a>,
    read: Vec<Read<'a>>,
    id_type: Oid,
) -> (Vec<Read<'a>>, Vec<Option<usize>>) {
    let mut read: Vec<(Image<'a>, Read<'a>)> =
        read.into_iter().map(|n| (reader.image(n.id, id_type), n)).collect();
    read.sort_unstable_by_key(|(image, _)| *image);
    let places: HashMap<Image<'a>, usize> =
        read.iter().enumerate().map(|(at, (image, _))| (*image, at)).collect();
    let parents: Vec<Option<usize>> = read
        .iter()
        .map(|(_, n)| n.parent.and_then(|p| places.get(&reader.image(p, id_type)).copied()))
        .collect();
    let order = order::path_order(&parents).unwrap_or_else(|| refuse_circle());
    let mut place = vec![0; order.len()];
    for (at, node) in order.iter().enumerate() {
        place[*node] = at;
    }
    (
        order.iter().map(|n| read[*n].1).collect(),
        order.iter().map(|n| parents[*n].map(|p| place[p])).collect(),
    )
}

/// All nodes, by their links. None where the node asked for is not there.
fn read_by_links<'a>(reader: &Reader<'a>, request: &Request<'_>) -> Option<Forest<'a>> {
    let found = select_nodes(reader, request, request.nodes, [Arg::Text(None), Arg::Text(None)]);
    let id_type = found.types[0];
    let (read, top) = nodes_of(reader, &found);
    if request.top.is_some() && top.is_none() {
        return None;
    }
    let (mut nodes, parents) = in_path_order(reader, read, id_type);
    let mut depths: Vec<i32> = Vec::with_capacity(nodes.len());
    for (at, node) in nodes.iter_mut().enumerate() {
        depths.push(parents[at].map_or(0, |p| depths[p] + 1));
        node.depth = Some(reader.make_short_int(depths[at]));
    }
    let top = place_of(reader, &nodes, id_type, top);
    Some(Forest { nodes, parents, id_type, top, source: "links" })
}

/// The forest as numbers: what is owned of each node, by how much, and what is not.
fn graph_of<'a>(
    reader: &Reader<'a>,
    forest: &Forest<'a>,
    links: Option<&Links<'a>>,
) -> (Vec<Node<Number<'a>>>, Vec<Link<Number<'a>>>) {
    let (zero, hundred) = (reader.number(0), reader.number(100));
    let hundredth = reader.number(1).divided_by(hundred).trimmed();
    let fraction = |percent: Number<'a>| percent.times(hundredth).trimmed();
    let id_type = forest.id_type;
    let mut edges: Vec<Link<Number<'a>>> = Vec::new();
    // By the child's position: what its second parents own, wherever they stand.
    let mut by_links: HashMap<usize, Number<'a>> = HashMap::new();
    if let Some(links) = links.filter(|l| !l.rows.is_empty()) {
        expect_types(
            links.types,
            [
                Some(id_type),
                Some(id_type),
                Some(pg_sys::NUMERICOID),
                Some(pg_sys::TEXTOID),
                Some(pg_sys::TEXTOID),
            ],
        );
        let places: HashMap<Image<'a>, usize> =
            forest.nodes.iter().enumerate().map(|(at, n)| (reader.image(n.id, id_type), at)).collect();
        let place = |value: Option<Value<'a>>| places.get(&reader.image(value?, id_type)).copied();
        for [parent, child, share, ..] in &links.rows {
            let Some(child) = place(*child) else { continue };
            let share = share.map_or(zero, Number::of);
            by_links.entry(child).and_modify(|sum| *sum = Number::plus(*sum, share)).or_insert(share);
            if let Some(parent) = place(*parent) {
                edges.push(Link { parent, child, share: fraction(share) });
            }
        }
        edges.sort_by_key(|l| l.parent);
    }
    let one = fraction(hundred);
    let nodes = forest
        .nodes
        .iter()
        .enumerate()
        .map(|(at, read)| {
            let share = read.share.unwrap_or(zero);
            let of_tree = read.parent.map(|_| share);
            let owned = match (of_tree, by_links.get(&at)) {
                (Some(a), Some(b)) => Some(Number::plus(a, *b)),
                (a, b) => a.or(b.copied()),
            };
            let free = owned.filter(|owned| hundred.is_above(*owned));
            Node {
                parent: forest.parents[at],
                own: read.own,
                share: if free.is_none() && !by_links.contains_key(&at) { one } else { fraction(share) },
                free: free.map(|owned| fraction(hundred.minus(owned))),
            }
        })
        .collect();
    (nodes, edges)
}

/// Answers `_node_totals`. Of a whole org by sets: the planner takes a range of an org's paths for a
/// small part of the org, and would look the figure of each node up.
pub fn node_totals(store: &Store, request: &Request<'_>) {
    let planning: &[(&CStr, &CStr)] =
        if request.top.is_none() { &[(c"enable_nestloop", c"off")] } else { &[] };
    settings::with(planning, || put_totals(store, request));
}

fn put_totals(store: &Store, request: &Request<'_>) {
    reading(|reader| {
        let source = std::cell::Cell::new(None);
        let day = request.day.map(|day| reader.make_date(day));
        roll(
            reader,
            request,
            |from| {
                source.set(Some(reader.make_text(from)));
            },
            |row| {
                store.put([
                    Some(row.id),
                    row.parent,
                    row.label,
                    row.depth,
                    Some(row.own),
                    Some(row.total),
                    Some(reader.make_int(row.nodes)),
                    Some(reader.make_int(row.duplicates)),
                    Some(row.unallocated),
                    Some(reader.make_int(row.missing)),
                    day,
                    source.get(),
                ]);
            },
        );
    });
}
