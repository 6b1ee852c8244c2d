//! One-pass totals over a forest given in path order (each node directly behind its parent or behind
//! the last of an elder sibling's subtree). Pure: knows nothing of PostgreSQL.

/// The position of the first node that does not stand where path order puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced(pub usize);

/// What a node adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total<V> {
    /// The node's own value and those of all its descendants.
    pub total: V,
    /// How many nodes are below it, itself not counted.
    pub descendants: usize,
}

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

/// The totals of a forest, from each node's parent position (smaller than its own) and own value.
pub fn totals<V: Clone>(parents: &[Option<usize>], own: Vec<V>, add: impl Fn(&mut V, &V)) -> Vec<Total<V>> {
    let mut sums: Vec<Total<V>> = own.into_iter().map(|total| Total { total, descendants: 0 }).collect();
    // From the back every node is complete before it is added to its parent.
    for at in (0..sums.len()).rev() {
        if let Some(parent) = parents[at] {
            let (before, from) = sums.split_at_mut(at);
            let sum = &mut before[parent];
            add(&mut sum.total, &from[0].total);
            sum.descendants += from[0].descendants + 1;
        }
    }
    sums
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

    fn naive(forest: &[(Option<usize>, i64, u16)], top: usize) -> Total<i64> {
        let inside: Vec<usize> = (0..forest.len()).filter(|n| is_within(forest, *n, top)).collect();
        Total { total: inside.iter().map(|n| forest[*n].1).sum(), descendants: inside.len() - 1 }
    }

    fn in_path_order(forest: &[(Option<usize>, i64, u16)]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..forest.len()).collect();
        order.sort_by_key(|n| path(forest, *n).into_bytes());
        order
    }

    fn one_pass(forest: &[(Option<usize>, i64, u16)], order: &[usize]) -> Result<Vec<Total<i64>>, Misplaced> {
        let parents = parents_in_path_order(order.iter().map(|n| (*n, forest[*n].0)))?;
        let own = order.iter().map(|n| forest[*n].1).collect();
        Ok(totals(&parents, own, |sum, below| *sum += below))
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_model(forest in forest()) {
            let order = in_path_order(&forest);
            let sums = one_pass(&forest, &order).expect("path order");
            for (at, node) in order.iter().enumerate() {
                prop_assert_eq!(&sums[at], &naive(&forest, *node));
            }
        }

        #[test]
        fn agrees_on_a_subtree_too(forest in forest(), top in any::<prop::sample::Index>()) {
            prop_assume!(!forest.is_empty());
            let top = top.index(forest.len());
            let order: Vec<usize> = in_path_order(&forest)
                .into_iter()
                .filter(|n| is_within(&forest, *n, top))
                .collect();
            let sums = one_pass(&forest, &order).expect("path order");
            for (at, node) in order.iter().enumerate() {
                prop_assert_eq!(&sums[at], &naive(&forest, *node));
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
            if let Ok(sums) = one_pass(&forest, &order) {
                for (at, node) in order.iter().enumerate() {
                    prop_assert_eq!(&sums[at], &naive(&forest, *node));
                }
            }
        }
    }

    #[test]
    fn a_node_behind_its_parents_subtree_is_misplaced() {
        let edges = [(1, None), (2, Some(1)), (3, None), (4, Some(2))];
        assert_eq!(parents_in_path_order(edges.into_iter()), Err(Misplaced(3)));
    }

    #[test]
    fn nothing_adds_up_to_nothing() {
        assert_eq!(totals(&[], Vec::<i64>::new(), |a, b| *a += b), []);
    }
}
