//! Path order: each node directly behind its parent, or behind the last of an elder sibling's subtree.
//! Pure: knows nothing of PostgreSQL.

/// The nodes in path order, from each one's parent in any order; siblings keep the order they came
/// in. None where the links turn in a circle.
pub fn path_order(parents: &[Option<usize>]) -> Option<Vec<usize>> {
    // The children of a node as a list through `next`, the first of them in `first`.
    let mut first: Vec<Option<usize>> = vec![None; parents.len()];
    let mut next: Vec<Option<usize>> = vec![None; parents.len()];
    let mut root = None;
    for (node, parent) in parents.iter().enumerate().rev() {
        let head = parent.map_or(&mut root, |parent| &mut first[parent]);
        next[node] = head.replace(node);
    }
    let mut order = Vec::with_capacity(parents.len());
    let mut waiting: Vec<usize> = root.into_iter().collect();
    while let Some(node) = waiting.pop() {
        order.push(node);
        waiting.extend(next[node].into_iter().chain(first[node]));
    }
    (order.len() == parents.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn subtrees_stand_together(parents in prop::collection::vec(prop::option::of(0..12usize), 0..12)) {
            let parents: Vec<Option<usize>> =
                parents.iter().map(|p| p.filter(|p| *p < parents.len())).collect();
            let above = |node: usize| std::iter::successors(Some(node), |n| parents[*n]).take(parents.len() + 1);
            let turns = (0..parents.len()).any(|n| above(n).count() > parents.len());
            let Some(order) = path_order(&parents) else {
                prop_assert!(turns);
                return Ok(());
            };
            prop_assert!(!turns);
            for (at, top) in order.iter().enumerate() {
                let below = (0..parents.len()).filter(|n| above(*n).any(|a| a == *top)).count();
                prop_assert!(order[at..at + below].iter().all(|n| above(*n).any(|a| a == *top)));
            }
            for (a, b) in order.iter().zip(order.iter().skip(1)).filter(|(a, b)| parents[**a] == parents[**b]) {
                prop_assert!(a < b, "siblings keep their order");
            }
        }
    }
}
