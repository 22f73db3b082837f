//! Kernel distances: the squared maximum mean discrepancy (Gretton et al. 2012).

use crate::bootstrap::Figure;
use crate::pairs::{Between, Within};

/// KID (Bińkowski et al. 2018): the unbiased estimate with the kernel (x·y/d + 1)³. It does not depend on the number of
/// images but for its error. The standard error is the jackknife's over both sets.
#[must_use]
pub fn kernel_distance(a: &Within, b: &Within, between: &Between, seed: u64) -> Figure {
    let first = Halves::new(&a.cubic, &between.first.cubic, b.cubic.len());
    let second = Halves::new(&b.cubic, &between.second.cubic, a.cubic.len());
    let cross = first.cross;
    let value = first.own + second.own - 2.0 * cross;
    let left_out = [first.left_out(), second.left_out()];
    // Each image's pseudo-value, less the figure: how far the image pulls it.
    let pulls = left_out.map(|values| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        values
            .iter()
            .map(|value| (n - 1.0) * (mean - value))
            .collect::<Vec<_>>()
    });
    Figure::of_means(&[&pulls[0], &pulls[1]], seed, |means| {
        value + means[0] + means[1]
    })
}

/// A set's own part of the estimate and the part across.
struct Halves<'a> {
    own_sums: &'a [f64],
    cross_sums: &'a [f64],
    /// Images of the other set.
    others: f64,
    own: f64,
    cross: f64,
}

impl<'a> Halves<'a> {
    fn new(own_sums: &'a [f64], cross_sums: &'a [f64], others: usize) -> Self {
        let n = own_sums.len() as f64;
        Self {
            own: own_sums.iter().sum::<f64>() / (n * (n - 1.0)),
            cross: cross_sums.iter().sum::<f64>() / (n * others as f64),
            own_sums,
            cross_sums,
            others: others as f64,
        }
    }

    /// The estimate, but for the other set's own part, without each image in turn.
    fn left_out(&self) -> Vec<f64> {
        let n = self.own_sums.len() as f64;
        let all: f64 = self.own_sums.iter().sum();
        let across: f64 = self.cross_sums.iter().sum();
        let without = |(own, cross): (&f64, &f64)| {
            // An image is in the sum twice: with the others, and the others with it.
            let own = (all - 2.0 * own) / ((n - 1.0) * (n - 2.0)).max(1.0);
            own - 2.0 * (across - cross) / ((n - 1.0) * self.others)
        };
        self.own_sums
            .iter()
            .zip(self.cross_sums)
            .map(without)
            .collect()
    }
}

/// CMMD's distance (Jayasumana et al. 2024): 1000 times the biased estimate with an RBF kernel of bandwidth 10 on features
/// of length 1. It is CMMD itself on CLIP's features alone.
#[must_use]
pub fn rbf_distance(a: &Within, b: &Within, between: &Between, seed: u64) -> Figure {
    const SCALE: f64 = 1000.0;
    let groups = [&a.rbf[..], &b.rbf, &between.first.rbf, &between.second.rbf];
    let [own_a, own_b, cross, _] = groups.map(crate::bootstrap::mean);
    let value = own_a + own_b - 2.0 * cross;
    // To first order an image pulls the figure by twice the difference of its means.
    let pulls = |own: &[f64], own_mean: f64, across: &[f64]| -> Vec<f64> {
        let of_image = |(own, across): (&f64, &f64)| 2.0 * ((own - own_mean) - (across - cross));
        own.iter().zip(across).map(of_image).collect()
    };
    let first = pulls(&a.rbf, own_a, &between.first.rbf);
    let second = pulls(&b.rbf, own_b, &between.second.rbf);
    Figure::of_means(&[&first, &second], seed, |means| {
        SCALE * (value + means[0] + means[1])
    })
}
