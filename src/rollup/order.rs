//! Path order: each node directly behind its parent, or behind the last of an elder sibling's subtree.
//! Pure: knows nothing of PostgreSQL.

/// The position of the first node that does not stand where path order puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced(pub usize);

/// For each node of `edges` = (id, parent id), the position of its parent. The first node may have a
/// parent outside (it is the top of the subtree asked for); any other without its parent among the
/// open ancestors is misplaced.
pub fn parents_in_path_order<K: PartialEq>(
    edges: impl Iterator<Item = (K, Option<K>)>,
) -> Result<Vec<Option<usize>>, Misplaced> {
    let mut parents = Vec::with_capacity(edges.size_hint().0);
    let mut open: Vec<(K, usize)> = Vec::new();
    for (at, (id, parent)) in edges.enumerate() {
        let above = match parent {
            None => {
                open.clear();
                None
            }
            Some(parent) => {
                while open.last().is_some_and(|(id, _)| *id != parent) {
                    open.pop();
                }
                match open.last() {
                    Some((_, position)) => Some(*position),
                    None if at == 0 => None,
                    None => return Err(Misplaced(at)),
                }
            }
        };
        parents.push(above);
        open.push((id, at));
    }
    Ok(parents)
}

/// The nodes in path order, from each one's parent in any order; siblings keep the order they came
/// in. None where the links turn in a circle.
pub fn path_order(parents: &[Option<usize>]) -> Option<Vec<usize>> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut waiting: Vec<usize> = Vec::new();
    for (node, parent) in parents.iter().enumerate().rev() {
        match parent {
            Some(parent) => children[*parent].push(node),
            None => waiting.push(node),
        }
    }
    let mut order = Vec::with_capacity(parents.len());
    while let Some(node) = waiting.pop() {
        order.push(node);
        waiting.append(&mut children[node]);
    }
    (order.len() == parents.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A forest as parent positions in creation order, the value of each node, and a seed that
    /// decides how siblings are named.
    fn forest() -> impl Strategy<Value = Vec<(Option<usize>, i64, u16)>> {
        prop::collection::vec((any::<prop::sample::Index>(), 0..8u8, -1000..1000i64, any::<u16>()), 0..80)
            .prop_map(|nodes| {
                nodes
                    .iter()
                    .enumerate()
                    .map(|(i, (parent, root, value, label))| {
                        let parent = (i > 0 && *root > 0).then(|| parent.index(i));
                        (parent, *value, *label)
                    })
                    .collect()
            })
    }

    fn path(forest: &[(Option<usize>, i64, u16)], node: usize) -> String {
        let above = forest[node].0.map_or("/".to_owned(), |p| path(forest, p));
        format!("{above}{:x}-{node}/", forest[node].2)
    }

    fn is_within(forest: &[(Option<usize>, i64, u16)], mut node: usize, top: usize) -> bool {
        loop {
            if node == top {
                return true;
            }
            match forest[node].0 {
                Some(parent) => node = parent,
                None => return false,
            }
        }
    }

    fn in_path_order(forest: &[(Option<usize>, i64, u16)]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..forest.len()).collect();
        order.sort_by_key(|n| path(forest, *n).into_bytes());
        order
    }

    fn parents(
        forest: &[(Option<usize>, i64, u16)],
        order: &[usize],
    ) -> Result<Vec<Option<usize>>, Misplaced> {
        parents_in_path_order(order.iter().map(|n| (*n, forest[*n].0)))
    }

    proptest! {
        #[test]
        fn every_parent_is_found(forest in forest()) {
            let order = in_path_order(&forest);
            let found = parents(&forest, &order).expect("path order");
            for (at, node) in order.iter().enumerate() {
                prop_assert_eq!(found[at].map(|p| order[p]), forest[*node].0);
            }
        }

        #[test]
        fn of_a_subtree_too(forest in forest(), top in any::<prop::sample::Index>()) {
            prop_assume!(!forest.is_empty());
            let top = top.index(forest.len());
            let order: Vec<usize> =
                in_path_order(&forest).into_iter().filter(|n| is_within(&forest, *n, top)).collect();
            let found = parents(&forest, &order).expect("path order");
            for (at, node) in order.iter().enumerate().skip(1) {
                prop_assert_eq!(found[at].map(|p| order[p]), forest[*node].0);
            }
        }

        #[test]
        fn any_other_order_is_right_or_refused(forest in forest(), order_seed in any::<u64>()) {
            let mut order: Vec<usize> = (0..forest.len()).collect();
            order.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(order_seed | 1).rotate_left(17));
            // The first node may have its parent outside, which is another question: begin with a root.
            if let Some(root) = order.iter().position(|n| forest[*n].0.is_none()) {
                order.swap(0, root);
            }
            if let Ok(found) = parents(&forest, &order) {
                for (at, node) in order.iter().enumerate() {
                    prop_assert_eq!(found[at].map(|p| order[p]), forest[*node].0);
                }
            }
        }

        #[test]
        fn path_order_puts_subtrees_together(parents in prop::collection::vec(prop::option::of(0..12usize), 1..12)) {
            let parents: Vec<Option<usize>> = parents.iter().map(|p| p.filter(|p| *p < parents.len())).collect();
            let turns = (0..parents.len()).any(|n| {
                let mut at = n;
                (0..=parents.len()).all(|_| parents[at].is_some_and(|p| { at = p; true }))
            });
            match path_order(&parents) {
                None => prop_assert!(turns),
                Some(order) => {
                    prop_assert!(!turns);
                    let edges = order.iter().map(|n| (*n, parents[*n]));
                    prop_assert!(parents_in_path_order(edges).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_node_behind_its_parents_subtree_is_misplaced() {
        let edges = [(1, None), (2, Some(1)), (3, None), (4, Some(2))];
        assert_eq!(parents_in_path_order(edges.into_iter()), Err(Misplaced(3)));
    }
}
