//! Totals over a tree whose nodes may have second parents. Pure: knows nothing of PostgreSQL.
//!
//! The tree is given in path order, so that a subtree is an interval. What can be reached from a node
//! is then a set of intervals: its own, and for each link out of one of them the child's. Intervals
//! of a tree contain each other or are apart, so the largest of them count every node once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// What is added up: exact, and cheap to copy.
pub trait Amount: Copy {
    fn plus(self, other: Self) -> Self;
    /// The part of it that a share says.
    fn part(self, share: Self) -> Self;
    /// Called on the way, so that long work can be stopped.
    fn pause() {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each node that can be reached, once and in full.
    Distinct,
    /// Each node by the sum, over all ways to it, of the product of the shares.
    Weighted,
    /// Each node of the subtree; links are not looked at.
    Primary,
}

/// A second parent: positions in path order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<V> {
    pub parent: usize,
    pub child: usize,
    pub share: V,
}

/// A node's own part. None is nothing: no figure, or nothing without an owner.
#[derive(Clone, Copy, Debug)]
pub struct Node<V> {
    pub parent: Option<usize>,
    pub own: Option<V>,
    /// What its parent in the tree owns of it.
    pub share: V,
    /// What no parent owns of it, second parents included; None is nothing.
    pub free: Option<V>,
}

/// What a node adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures<V> {
    pub total: Option<V>,
    /// Nodes counted, itself included.
    pub nodes: usize,
    /// Edges to nodes that were counted already.
    pub duplicates: usize,
    pub unallocated: Option<V>,
    /// Nodes counted that have no figure.
    pub missing: usize,
}

fn sum<V: Amount>(a: Option<V>, b: Option<V>) -> Option<V> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.plus(b)),
        (a, b) => a.or(b),
    }
}

/// Nodes and links that are no graph without a circle.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle;

/// The figures of the nodes that are `wanted`. Nodes stand in path order; links by parent, no edge
/// twice.
pub fn roll_up<V: Amount>(
    nodes: &[Node<V>],
    links: &[Link<V>],
    mode: Mode,
    wanted: Range<usize>,
) -> Result<Vec<Figures<V>>, Circle> {
    let links = if mode == Mode::Primary { &[] } else { links };
    let ends = ends(nodes);
    let flow = match mode {
        Mode::Weighted => weighted(nodes, links)?,
        _ => nodes.iter().map(|n| n.own).collect(),
    };
    // By subtrees of the tree alone; `unallocated` with the node itself.
    let mut sums: Vec<Figures<V>> = nodes
        .iter()
        .zip(&flow)
        .map(|(node, flow)| Figures {
            total: *flow,
            nodes: 1,
            duplicates: 0,
            unallocated: node.free.and_then(|free| flow.map(|flow| flow.part(free))),
            missing: usize::from(node.own.is_none()),
        })
        .collect();
    for at in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[at].parent {
            let below = sums[at];
            let above = &mut sums[parent];
            if mode != Mode::Weighted {
                above.total = sum(above.total, below.total);
            }
            above.nodes += below.nodes;
            above.unallocated = sum(above.unallocated, below.unallocated);
            above.missing += below.missing;
        }
    }
    // A node's own free part is not lost to itself: begin with those of its children.
    let mut below: Vec<Option<V>> = vec![None; nodes.len()];
    for at in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[at].parent {
            below[parent] = sum(below[parent], sums[at].unallocated);
        }
    }
    wanted
        .map(|at| {
            let mut figures = Figures { unallocated: below[at], ..sums[at] };
            if links.is_empty() || outgoing(links, at, ends[at]).is_empty() {
                return Ok(figures);
            }
            let found = reach(
                at,
                |top| ends[*top],
                |from, end| {
                    V::pause();
                    outgoing(links, *from, *end).iter().map(|l| l.child).collect()
                },
            );
            if !found.contains_key(&at) {
                return Err(Circle); // The node lies below one that it reaches.
            }
            for top in found.keys().filter(|top| **top != at) {
                let other = sums[*top];
                if mode != Mode::Weighted {
                    figures.total = sum(figures.total, other.total);
                }
                figures.nodes += other.nodes;
                figures.unallocated = sum(figures.unallocated, other.unallocated);
                figures.missing += other.missing;
            }
            if mode == Mode::Distinct {
                let edges: usize = found.iter().map(|(from, end)| outgoing(links, *from, *end).len()).sum();
                figures.duplicates = edges + 1 - found.len();
            }
            Ok(figures)
        })
        .collect()
}

/// Where the subtree of each node ends.
pub fn ends<V>(nodes: &[Node<V>]) -> Vec<usize> {
    let mut ends: Vec<usize> = (1..=nodes.len()).collect();
    for at in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[at].parent {
            ends[parent] = ends[parent].max(ends[at]);
        }
    }
    ends
}

/// The links out of an interval.
fn outgoing<V>(links: &[Link<V>], from: usize, end: usize) -> &[Link<V>] {
    let first = links.partition_point(|l| l.parent < from);
    let last = links.partition_point(|l| l.parent < end);
    &links[first..last.max(first)]
}

/// The largest intervals that can be reached from the one that begins at `start`, by where each
/// begins and ends. `outgoing` answers where the links out of an interval lead.
pub fn reach<K: Ord + Clone>(
    start: K,
    end: impl Fn(&K) -> K,
    outgoing: impl Fn(&K, &K) -> Vec<K>,
) -> BTreeMap<K, K> {
    let mut found: BTreeMap<K, K> = BTreeMap::new();
    let mut waiting = vec![start];
    while let Some(top) = waiting.pop() {
        if found.range(..=&top).next_back().is_some_and(|(_, end)| top < *end) {
            continue;
        }
        let end = end(&top);
        let inside: Vec<K> = found.range(&top..&end).map(|(start, _)| start.clone()).collect();
        for start in inside {
            found.remove(&start);
        }
        waiting.extend(outgoing(&top, &end));
        found.insert(top, end);
    }
    found
}

/// What each node is worth with its shares of everything below: children before parents.
fn weighted<V: Amount>(nodes: &[Node<V>], links: &[Link<V>]) -> Result<Vec<Option<V>>, Circle> {
    let mut into: HashMap<usize, Vec<(usize, V)>> = HashMap::new();
    let mut open: Vec<usize> = vec![0; nodes.len()];
    for node in nodes {
        if let Some(parent) = node.parent {
            open[parent] += 1;
        }
    }
    for link in links {
        into.entry(link.child).or_default().push((link.parent, link.share));
        open[link.parent] += 1;
    }
    let mut worth: Vec<Option<V>> = nodes.iter().map(|n| n.own).collect();
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|n| open[*n] == 0).collect();
    let mut done = 0;
    while let Some(at) = ready.pop() {
        done += 1;
        let of_tree = nodes[at].parent.map(|parent| (parent, nodes[at].share));
        for (parent, share) in of_tree.into_iter().chain(into.remove(&at).unwrap_or_default()) {
            worth[parent] = sum(worth[parent], worth[at].map(|w| w.part(share)));
            open[parent] -= 1;
            if open[parent] == 0 {
                ready.push(parent);
            }
        }
    }
    if done == nodes.len() { Ok(worth) } else { Err(Circle) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::order::path_order;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Money in units of 4^-14, so that fourteen levels of quarters stay whole.
    const UNIT: i128 = 1 << 28;
    const MOST: usize = 14;

    impl Amount for i128 {
        fn plus(self, other: i128) -> i128 {
            self + other
        }
        fn part(self, share: i128) -> i128 {
            assert_eq!(self * share % 100, 0, "the test's figures stay whole");
            self * share / 100
        }
    }

    #[derive(Clone, Debug)]
    struct Dag {
        nodes: Vec<Node<i128>>,
        links: Vec<Link<i128>>,
    }

    /// A forest in path order with links from the elder to the younger in the order of creation,
    /// shares in quarters. `whole`: each child's shares make 100.
    fn dag(whole: bool) -> impl Strategy<Value = Dag> {
        let node =
            (any::<prop::sample::Index>(), 0..4u8, prop::option::weighted(0.8, 0..1000i128), 0..=4i128);
        let link = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..=4i128);
        (prop::collection::vec(node, 1..MOST), prop::collection::vec(link, 0..16)).prop_map(
            move |(nodes, links)| {
                let parents: Vec<Option<usize>> = nodes
                    .iter()
                    .enumerate()
                    .map(|(i, (parent, root, ..))| (i > 0 && *root > 0).then(|| parent.index(i)))
                    .collect();
                let mut owned: Vec<i128> = parents
                    .iter()
                    .zip(&nodes)
                    .map(|(parent, (.., quarters))| if parent.is_some() { quarters * 25 } else { 0 })
                    .collect();
                let mut seen = HashSet::new();
                let mut edges: Vec<Link<i128>> = Vec::new();
                for (a, b, quarters) in links {
                    let child = b.index(nodes.len());
                    if child == 0 {
                        continue;
                    }
                    let parent = a.index(child);
                    let share = (quarters * 25).min(100 - owned[child]);
                    if seen.insert((parent, child)) {
                        owned[child] += share;
                        edges.push(Link { parent, child, share });
                    }
                }
                let mut shares: Vec<i128> = nodes.iter().map(|n| n.3 * 25).collect();
                if whole {
                    for child in 0..nodes.len() {
                        let rest = 100 - owned[child];
                        if parents[child].is_some() {
                            shares[child] += rest;
                        } else if let Some(link) = edges.iter_mut().find(|l| l.child == child) {
                            link.share += rest;
                        } else {
                            continue;
                        }
                        owned[child] = 100;
                    }
                }
                let order = path_order(&parents).expect("a forest");
                let mut place = vec![0; order.len()];
                for (at, node) in order.iter().enumerate() {
                    place[*node] = at;
                }
                let has_parent = |n: usize| parents[n].is_some() || edges.iter().any(|l| l.child == n);
                let mut links: Vec<Link<i128>> = edges
                    .iter()
                    .map(|l| Link { parent: place[l.parent], child: place[l.child], share: l.share })
                    .collect();
                links.sort_by_key(|l| l.parent);
                Dag {
                    nodes: order
                        .iter()
                        .map(|n| Node {
                            parent: parents[*n].map(|p| place[p]),
                            own: nodes[*n].2.map(|own| own * UNIT),
                            share: shares[*n],
                            free: (has_parent(*n) && owned[*n] < 100).then(|| 100 - owned[*n]),
                        })
                        .collect(),
                    links,
                }
            },
        )
    }

    impl Dag {
        fn edges(&self) -> Vec<(usize, usize, i128)> {
            let of_tree =
                self.nodes.iter().enumerate().filter_map(|(n, node)| Some((node.parent?, n, node.share)));
            of_tree.chain(self.links.iter().map(|l| (l.parent, l.child, l.share))).collect()
        }

        fn set(&self, top: usize) -> HashSet<usize> {
            let mut set = HashSet::from([top]);
            loop {
                let more: Vec<usize> = self
                    .edges()
                    .iter()
                    .filter(|(p, c, _)| set.contains(p) && !set.contains(c))
                    .map(|(_, c, _)| *c)
                    .collect();
                if more.is_empty() {
                    return set;
                }
                set.extend(more);
            }
        }

        /// Over every way down, one at a time.
        fn by_ways(&self, top: usize) -> i128 {
            let below = self.edges().into_iter().filter(|(p, ..)| *p == top);
            self.nodes[top].own.unwrap_or(0) + below.map(|(_, c, s)| self.by_ways(c).part(s)).sum::<i128>()
        }

        fn ultimate(&self) -> Vec<usize> {
            let children: HashSet<usize> = self.edges().iter().map(|(_, c, _)| *c).collect();
            (0..self.nodes.len()).filter(|n| !children.contains(n)).collect()
        }

        fn figures(&self, mode: Mode) -> Vec<Figures<i128>> {
            roll_up(&self.nodes, &self.links, mode, 0..self.nodes.len()).expect("no circle")
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn distinct_is_the_set(dag in dag(false)) {
            let edges = dag.edges();
            for (at, f) in dag.figures(Mode::Distinct).iter().enumerate() {
                let set = dag.set(at);
                prop_assert_eq!(f.total.unwrap_or(0), set.iter().filter_map(|n| dag.nodes[*n].own).sum::<i128>());
                prop_assert_eq!(f.nodes, set.len());
                prop_assert_eq!(f.missing, set.iter().filter(|n| dag.nodes[**n].own.is_none()).count());
                let inside = edges.iter().filter(|(p, ..)| set.contains(p)).count();
                prop_assert_eq!(f.duplicates, inside + 1 - set.len());
                let free: i128 = set.iter().filter(|n| **n != at)
                    .map(|n| dag.nodes[*n].own.unwrap_or(0).part(dag.nodes[*n].free.unwrap_or(0))).sum();
                prop_assert_eq!(f.unallocated.unwrap_or(0), free);
            }
        }

        #[test]
        fn weighted_is_the_sum_over_ways_and_at_most_distinct(dag in dag(false)) {
            let distinct = dag.figures(Mode::Distinct);
            for (at, f) in dag.figures(Mode::Weighted).iter().enumerate() {
                prop_assert_eq!(f.total.unwrap_or(0), dag.by_ways(at));
                prop_assert!(f.total <= distinct[at].total);
                prop_assert_eq!((f.nodes, f.missing), (distinct[at].nodes, distinct[at].missing));
            }
        }

        #[test]
        fn owned_in_full_the_ultimate_parents_make_the_whole(dag in dag(true)) {
            let weighted = dag.figures(Mode::Weighted);
            let all: i128 = dag.nodes.iter().filter_map(|n| n.own).sum();
            prop_assert_eq!(dag.ultimate().into_iter().map(|n| weighted[n].total.unwrap_or(0)).sum::<i128>(), all);
        }

        #[test]
        fn what_the_ultimate_parents_lack_is_unallocated(dag in dag(false)) {
            let weighted = dag.figures(Mode::Weighted);
            let lost: i128 = (0..dag.nodes.len())
                .map(|n| weighted[n].total.unwrap_or(0).part(dag.nodes[n].free.unwrap_or(0))).sum();
            let all: i128 = dag.nodes.iter().filter_map(|n| n.own).sum();
            let top: i128 = dag.ultimate().into_iter().map(|n| weighted[n].total.unwrap_or(0)).sum();
            prop_assert_eq!(top + lost, all);
            if dag.links.is_empty() {
                for (w, d) in weighted.iter().zip(dag.figures(Mode::Distinct)) {
                    prop_assert_eq!(w.total.unwrap_or(0) + w.unallocated.unwrap_or(0), d.total.unwrap_or(0));
                }
            }
        }

        #[test]
        fn primary_knows_no_links(dag in dag(false)) {
            let tree = Dag { links: Vec::new(), ..dag.clone() };
            prop_assert_eq!(dag.figures(Mode::Primary), tree.figures(Mode::Distinct));
        }
    }

    #[test]
    fn a_circle_is_noticed_where_it_matters() {
        let node = |parent| Node { parent, own: Some(100), share: 100, free: None };
        let nodes = [node(None), node(Some(0))];
        let round = [Link { parent: 1, child: 0, share: 50 }];
        assert_eq!(roll_up(&nodes, &round, Mode::Weighted, 0..2), Err(Circle));
        assert_eq!(roll_up(&nodes, &round, Mode::Distinct, 1..2), Err(Circle));
        assert_eq!(roll_up(&nodes, &round, Mode::Distinct, 0..1).unwrap()[0].nodes, 2);
        assert_eq!(roll_up(&nodes, &round, Mode::Primary, 1..2).unwrap()[0].nodes, 1);
    }
}
