//! The fixed binary tree along which the gradients of a step's micro-batches are added.
//!
//! A node is a range of micro-batches, whose sum is that of its first half plus that of its second. Addition of floats is
//! not associative, so the tree decides the bits of a sum; since it depends on the number of micro-batches alone, any
//! number of ranks, of which each adds up the subtrees that are its own, comes to the same bits.

use std::convert::Infallible;
use std::ops::Range;

/// The two halves of a node of at least two micro-batches.
fn halves(node: &Range<usize>) -> [Range<usize>; 2] {
    let middle = node.start + node.len().div_ceil(2);
    [node.start..middle, middle..node.end]
}

/// The micro-batches of a rank: all `micro_batches` in order, as evenly as they come.
pub(crate) fn share(rank: usize, size: usize, micro_batches: usize) -> Range<usize> {
    rank * micro_batches / size..(rank + 1) * micro_batches / size
}

/// The largest subtrees that lie within `own`, in order.
pub(crate) fn subtrees(own: &Range<usize>, micro_batches: usize) -> Vec<Range<usize>> {
    fn collect(node: Range<usize>, own: &Range<usize>, found: &mut Vec<Range<usize>>) {
        if own.start <= node.start && node.end <= own.end {
            found.push(node);
        } else if node.start < own.end && own.start < node.end {
            for half in halves(&node) {
                collect(half, own, found);
            }
        }
    }
    let mut found = Vec::new();
    if !own.is_empty() {
        collect(0..micro_batches, own, &mut found);
    }
    found
}

/// The sum over `node`: `leaf` gives that of a range which needs no further halving, `add` that of two.
///
/// # Errors   the first of `leaf`
pub(crate) fn fold<T, E>(
    node: Range<usize>,
    leaf: &mut impl FnMut(&Range<usize>) -> Result<Option<T>, E>,
    add: &mut impl FnMut(T, T) -> T,
) -> Result<T, E> {
    if let Some(found) = leaf(&node)? {
        return Ok(found);
    }
    let [first, second] = halves(&node);
    let first = fold(first, leaf, add)?;
    let second = fold(second, leaf, add)?;
    Ok(add(first, second))
}

/// The subtrees of every rank.
pub(crate) fn of_ranks(size: usize, micro_batches: usize) -> Vec<Vec<Range<usize>>> {
    let subtrees_of = |rank| subtrees(&share(rank, size, micro_batches), micro_batches);
    (0..size).map(subtrees_of).collect()
}

/// The sum of all ranks' subtrees, given in their order.
pub(crate) fn sum<T>(
    micro_batches: usize,
    leaves: Vec<(&Range<usize>, T)>,
    add: &mut impl FnMut(T, T) -> T,
) -> T {
    let mut leaves = leaves.into_iter().peekable();
    let mut leaf = |node: &Range<usize>| {
        let next = leaves.next_if(|(known, _)| *known == node);
        Ok::<_, Infallible>(next.map(|(_, sum)| sum))
    };
    match fold(0..micro_batches, &mut leaf, add) {
        Ok(sum) => sum,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of additions as text.
    fn shape(micro_batches: usize) -> String {
        let mut leaf = |node: &Range<usize>| {
            let single = (node.len() == 1).then(|| node.start.to_string());
            Ok::<_, Infallible>(single)
        };
        let mut add = |a, b| format!("({a}+{b})");
        match fold(0..micro_batches, &mut leaf, &mut add) {
            Ok(found) => found,
            Err(never) => match never {},
        }
    }

    #[test]
    fn the_tree_halves_and_the_first_half_is_the_larger() {
        assert_eq!(shape(1), "0");
        assert_eq!(shape(3), "((0+1)+2)");
        assert_eq!(shape(4), "((0+1)+(2+3))");
        assert_eq!(shape(6), "(((0+1)+2)+((3+4)+5))");
    }

    #[test]
    fn the_subtrees_of_all_ranks_are_the_whole_tree() {
        for micro_batches in 1..20 {
            for size in 1..=micro_batches {
                let mut all = Vec::new();
                for rank in 0..size {
                    let own = share(rank, size, micro_batches);
                    assert!(!own.is_empty());
                    all.extend(subtrees(&own, micro_batches));
                }
                let mut next = 0;
                for node in &all {
                    assert_eq!(node.start, next);
                    next = node.end;
                }
                assert_eq!(next, micro_batches);
                // Folding from the subtrees visits them once each, in order, and never goes below one.
                let mut visited = Vec::new();
                let mut leaf = |node: &Range<usize>| {
                    let known = all.contains(node);
                    assert!(
                        known || node.len() > 1,
                        "{size} of {micro_batches}: {node:?}"
                    );
                    visited.extend(known.then(|| node.clone()));
                    Ok::<_, Infallible>(known.then_some(()))
                };
                let Ok(()) = fold(0..micro_batches, &mut leaf, &mut |(), ()| ());
                assert_eq!(visited, all);
            }
        }
    }

    #[test]
    fn a_power_of_two_of_ranks_has_one_subtree_each() {
        for (size, micro_batches) in [(1, 7), (2, 6), (4, 8), (8, 8), (4, 12), (8, 24)] {
            for rank in 0..size {
                let own = share(rank, size, micro_batches);
                assert_eq!(subtrees(&own, micro_batches), [own]);
            }
        }
    }
}
