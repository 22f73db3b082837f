//! A stateless shuffle: where item `index` of an epoch comes from, without storing a list.

use super::{Stream, key, philox::philox4x32_10, split};

/// Even on the smallest domain, where a round sees one bit, this many rounds leave no visible order.
const ROUNDS: u32 = 10;

/// The element at place `index` of a pseudo-random permutation of `0..n` that (seed, epoch) names.
///
/// A Feistel network with Philox as its round function (Luby & Rackoff 1988) permutes the
/// smallest 4^k ≥ n numbers; walking along its cycle until the number is below `n`
/// restricts it to `0..n` (Black & Rogaway 2002). Takes at most some 4 walks on average.
///
/// An `index` beyond `n` is taken modulo `n`; returns 0 for `n <= 1`.
#[must_use]
pub fn permute(seed: u64, epoch: u64, n: u64, index: u64) -> u64 {
    if n <= 1 {
        return 0;
    }
    let half_bits = (u64::BITS - (n - 1).leading_zeros()).div_ceil(2);
    let key = key(seed, Stream::Order, epoch);
    // A cycle that starts below n comes back below n, so the walk ends.
    let mut x = index % n;
    loop {
        x = feistel(key, half_bits, x);
        if x < n {
            return x;
        }
    }
}

fn feistel(key: [u32; 2], half_bits: u32, x: u64) -> u64 {
    let mask = (1u64 << half_bits) - 1;
    let (mut left, mut right) = (x >> half_bits, x & mask);
    for round in 0..ROUNDS {
        let [r0, r1] = split(right);
        // The last word sets these counters apart from those of `block`'s small indices.
        let [a, b, _, _] = philox4x32_10([r0, r1, round, u32::MAX], key);
        let hash = u64::from(a) | (u64::from(b) << 32);
        (left, right) = (right, left ^ (hash & mask));
    }
    (left << half_bits) | right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_bijection_for_every_small_n() {
        for n in (1..70).chain([255, 256, 257, 1000, 4097]) {
            for (seed, epoch) in [(0, 0), (7, 1), (u64::MAX, 9)] {
                let mut seen = vec![false; n as usize];
                for index in 0..n {
                    let to = permute(seed, epoch, n, index) as usize;
                    assert!(!seen[to], "n {n}: {to} twice");
                    seen[to] = true;
                }
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order =
            |seed, epoch| -> Vec<u64> { (0..100).map(|i| permute(seed, epoch, 100, i)).collect() };
        assert_eq!(order(3, 4), order(3, 4));
        assert_ne!(order(3, 4), order(3, 5));
        assert_ne!(order(3, 4), order(4, 4));
        assert_ne!(order(3, 4), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn every_place_gets_every_element_alike_often() {
        // χ² with 36 - 1 degrees of freedom, per n over all places: 99.99% lies below about 80.
        for n in [2u64, 3, 6] {
            let trials = 6000;
            let mut counts = vec![0f64; (n * n) as usize];
            for epoch in 0..trials {
                for index in 0..n {
                    counts[(index * n + permute(11, epoch, n, index)) as usize] += 1.0;
                }
            }
            let expected = trials as f64 / n as f64;
            let chi2: f64 = counts
                .iter()
                .map(|c| (c - expected).powi(2) / expected)
                .sum();
            assert!(chi2 < 80.0, "n {n}: χ² = {chi2}");
        }
    }

    #[test]
    fn huge_and_degenerate_sizes() {
        assert_eq!(permute(1, 2, 0, 5), 0);
        assert_eq!(permute(1, 2, 1, 0), 0);
        let a = permute(1, 2, u64::MAX, 0);
        let b = permute(1, 2, u64::MAX, 1);
        assert_ne!(a, b);
        assert!(permute(1, 2, 10, 25) < 10);
    }
}
