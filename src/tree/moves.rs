//! What one statement does to the paths of an org, judged on the state at its end. Pure: no server
//! needed.
//!
//! A touched node is one whose link changed, or whose path is not known yet. The path of any other
//! node was right before the statement, so its place now is given by its nearest touched ancestor on
//! that path, and the ids that follow.

use super::path;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A node as the statement left it, and the prefixes its descendants may still carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub parent: Option<String>,
    /// The path in its row now.
    pub stored: Option<String>,
    /// Its path before the statement, and those it was given while the statement ran.
    pub carried: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The ids on the cycle, each the child of the next.
    Cycle(Vec<String>),
    NoParent {
        id: String,
        parent: String,
    },
    /// Of a row from a time without triggers: no path can hold it.
    BadId(String),
}

/// The final path of every touched node. `others` holds the stored path of each parent that is not
/// touched; a parent found in neither does not exist.
pub fn final_paths(
    touched: &HashMap<String, Touched>,
    others: &HashMap<String, String>,
) -> Result<HashMap<String, String>, Trouble> {
    let mut done = HashMap::with_capacity(touched.len());
    // In order, so that of two faults the same one is reported each time.
    for id in touched.keys().collect::<BTreeSet<_>>() {
        place(id, touched, others, &mut done)?;
    }
    Ok(done)
}

/// Finds the path of the touched node `start`, and of the touched nodes above it, into `done`.
pub fn place(
    start: &str,
    touched: &HashMap<String, Touched>,
    others: &HashMap<String, String>,
    done: &mut HashMap<String, String>,
) -> Result<(), Trouble> {
    // Nodes waiting for the path of the one pushed after them, with the ids between the two.
    let mut waiting: Vec<(&str, &str)> = Vec::new();
    let mut on_way: HashSet<&str> = HashSet::new();
    let mut at = start;
    let mut base = loop {
        if let Some(path) = done.get(at) {
            break path.clone();
        }
        if !on_way.insert(at) {
            let from = waiting.iter().position(|(id, _)| *id == at).unwrap_or(0);
            return Err(Trouble::Cycle(
                waiting[from..]
                    .iter()
                    .flat_map(|(id, between)| std::iter::once(*id).chain(path::ids(between).rev()))
                    .map(str::to_owned)
                    .collect(),
            ));
        }
        let node = &touched[at];
        let Some(parent) = node.parent.as_deref() else {
            waiting.push((at, ""));
            break "/".to_owned();
        };
        if let Some((key, _)) = touched.get_key_value(parent) {
            waiting.push((at, ""));
            at = key;
            continue;
        }
        let Some(stored) = others.get(parent) else {
            return Err(Trouble::NoParent { id: at.to_owned(), parent: parent.to_owned() });
        };
        match nearest_touched(stored, touched) {
            Some((anchor, rest)) => {
                waiting.push((at, rest));
                at = anchor;
            }
            None => {
                waiting.push((at, ""));
                break stored.clone();
            }
        }
    };
    while let Some((id, between)) = waiting.pop() {
        if !path::is_id(id) {
            return Err(Trouble::BadId(id.to_owned()));
        }
        base.push_str(between);
        base = path::child(&base, id);
        done.insert(id.to_owned(), base.clone());
    }
    Ok(())
}

/// The deepest touched id on a path, and what follows it there.
fn nearest_touched<'a>(stored: &'a str, touched: &'a HashMap<String, Touched>) -> Option<(&'a str, &'a str)> {
    let mut end = stored.len();
    for id in path::ids(stored).rev() {
        if let Some((key, _)) = touched.get_key_value(id) {
            return Some((key, &stored[end..]));
        }
        end -= id.len() + 1;
    }
    None
}

/// Every row whose path begins with `from` gets `to` in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub from: String,
    pub to: String,
}

/// The rewrites of a statement, in batches to be run one after the other, each in order.
///
/// Longest prefix first: an inner subtree has left before the outer one moves. Prefixes of one length
/// cannot contain each other, so they share a batch. A rewritten path can lie in the range of a later
/// rewrite only if that one's node kept its path, and then there is none for it.
pub fn rewrites(touched: &HashMap<String, Touched>, finals: &HashMap<String, String>) -> Vec<Vec<Rewrite>> {
    let mut by_length: BTreeMap<usize, Vec<Rewrite>> = BTreeMap::new();
    for (id, node) in touched {
        let to = &finals[id];
        let mut seen = HashSet::new();
        let carried = node.carried.iter().filter(|from| path::is_valid(from));
        for from in carried.filter(|from| *from != to && seen.insert(*from)) {
            by_length.entry(from.len()).or_default().push(Rewrite { from: from.clone(), to: to.clone() });
        }
    }
    let in_order = |mut batch: Vec<Rewrite>| {
        batch.sort_unstable_by(|a, b| a.from.cmp(&b.from));
        batch
    };
    by_length.into_values().rev().map(in_order).collect()
}

/// Adds to what nodes carry where it was put by rewrites that others ran too, one after the other: rows may
/// stand at any of these now. Too much is no harm: a row that begins with a path to a node is below it, or
/// below one that has moved away, which is further down and looked at before.
pub fn follow<'r>(moved: &mut HashMap<String, Vec<String>>, batches: impl Iterator<Item = &'r [Rewrite]>) {
    let by_start: Vec<HashMap<&str, &str>> =
        batches.map(|batch| batch.iter().map(|r| (r.from.as_str(), r.to.as_str())).collect()).collect();
    for carried in moved.values_mut() {
        let mut known: HashSet<String> = carried.iter().cloned().collect();
        for batch in &by_start {
            for at in 0..carried.len() {
                let path = &carried[at];
                let starts = path.match_indices('/').skip(1).map(|(end, _)| path.split_at(end + 1));
                let put = starts
                    .filter_map(|(start, rest)| Some(format!("{}{rest}", batch.get(start)?)))
                    .filter(|put| known.insert(put.clone()))
                    .collect::<Vec<_>>();
                carried.extend(put);
            }
        }
    }
}

/// Touched nodes whose own row no rewrite reaches: (id, final path).
pub fn own_rows(
    touched: &HashMap<String, Touched>,
    finals: &HashMap<String, String>,
) -> Vec<(String, String)> {
    finals
        .iter()
        .filter(|(id, path)| match &touched[*id].stored {
            None => true,
            Some(stored) => stored != *path && !touched[*id].carried.contains(stored),
        })
        .map(|(id, path)| (id.clone(), path.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A statement as the triggers see it: row after row, each given a path by what its parent's row
    /// says at that moment.
    #[derive(Clone, Debug)]
    enum Row {
        Insert { id: usize, parent: Option<usize> },
        Move { id: usize, parent: Option<usize> },
    }

    const NODES: usize = 12;

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let parent = || prop::option::weighted(0.85, 0..NODES);
        prop::collection::vec(
            prop_oneof![
                (0..NODES, parent()).prop_map(|(id, parent)| Row::Insert { id, parent }),
                (0..NODES, parent()).prop_map(|(id, parent)| Row::Move { id, parent }),
            ],
            1..10,
        )
    }

    type Parents = BTreeMap<String, Option<String>>;

    fn name(n: usize) -> String {
        // Names that are prefixes of each other: n1 and n11.
        format!("n{n}")
    }

    /// Every path by walking the links; None where the links are broken or turn in a circle.
    fn naive(parents: &Parents) -> Option<BTreeMap<String, String>> {
        parents
            .keys()
            .map(|id| {
                let mut chain = vec![id.clone()];
                while let Some(parent) = &parents[chain.last().unwrap()] {
                    if chain.contains(parent) || !parents.contains_key(parent) {
                        return None;
                    }
                    chain.push(parent.clone());
                }
                Some((id.clone(), chain.iter().rev().fold("/".to_owned(), |p, id| path::child(&p, id))))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn any_statement_ends_with_the_paths_of_its_links(
            start in prop::collection::vec(prop::option::weighted(0.8, 0..NODES), NODES / 2),
            statement in rows(),
        ) {
            // A forest to begin with: each node below an earlier one.
            let mut parents: Parents = start.iter().enumerate()
                .map(|(i, p)| (name(i), p.filter(|p| *p < i).map(name))).collect();
            let mut stored: BTreeMap<String, Option<String>> =
                naive(&parents).unwrap().into_iter().map(|(k, v)| (k, Some(v))).collect();

            let mut touched: HashMap<String, Touched> = HashMap::new();
            for row in statement {
                let (id, parent, insert) = match row {
                    Row::Insert { id, parent } => (name(id), parent.map(name), true),
                    Row::Move { id, parent } => (name(id), parent.map(name), false),
                };
                if parents.contains_key(&id) == insert {
                    continue;
                }
                let given = match &parent {
                    None => Some(path::of_root(&id)),
                    Some(p) => stored.get(p).cloned().flatten().map(|p| path::child(&p, &id)),
                };
                // An inserted row that was given a path is not remembered; every other one is.
                if !insert || given.is_none() {
                    let entry = touched.entry(id.clone()).or_default();
                    if !insert {
                        entry.carried.extend(stored[&id].clone());
                        entry.carried.extend(given.clone());
                    }
                }
                parents.insert(id.clone(), parent);
                stored.insert(id, given);
            }
            for (id, node) in &mut touched {
                node.parent = parents[id].clone();
                node.stored = stored[id].clone();
            }
            let others: HashMap<String, String> = stored.iter()
                .filter(|(id, _)| !touched.contains_key(*id))
                .map(|(id, p)| (id.clone(), p.clone().unwrap())).collect();

            match (final_paths(&touched, &others), naive(&parents)) {
                (Ok(finals), Some(expected)) => {
                    for batch in rewrites(&touched, &finals) {
                        let before = stored.clone();
                        for (id, old) in before {
                            let Some(old) = old else { continue };
                            let hits: Vec<_> = batch.iter().filter(|r| old.starts_with(&r.from)).collect();
                            prop_assert!(hits.len() <= 1, "a batch rewrites a row once");
                            if let Some(r) = hits.first() {
                                stored.insert(id, Some(format!("{}{}", r.to, &old[r.from.len()..])));
                            }
                        }
                    }
                    for (id, p) in own_rows(&touched, &finals) {
                        stored.insert(id, Some(p));
                    }
                    let result: BTreeMap<_, _> = stored.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect();
                    prop_assert_eq!(result, expected);
                }
                (Err(_), None) => {}
                (got, expected) => prop_assert!(false, "{got:?} where the links say {expected:?}"),
            }
        }
    }
}
