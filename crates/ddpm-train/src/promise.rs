//! What a recipe promises of the images that it comes to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The `[promise]` section of a recipe: figures of `ddpm eval` with this `n` and `extractor` beside the set that was learned.
/// A run is never judged by it while it trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromiseConfig {
    /// Images that are judged.
    pub n: usize,
    /// What sees them.
    pub extractor: PathBuf,
    /// The Fréchet distance, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frechet_distance: Option<f64>,
    /// The kernel distance, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_distance: Option<f64>,
    /// Precision, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Recall, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// How near images lie to training images over how near others do, at least: below it are copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_ratio: Option<f64>,
}

impl Default for PromiseConfig {
    fn default() -> Self {
        Self {
            n: 1000,
            extractor: PathBuf::from("pixels"),
            frechet_distance: None,
            kernel_distance: None,
            precision: None,
            recall: None,
            nearest_ratio: None,
        }
    }
}

/// One bound of a promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The figure.
    pub name: &'static str,
    /// Where it is to stay.
    pub bound: f64,
    /// Whether the bound is the largest that is promised, or the smallest.
    pub is_most: bool,
}

impl PromiseConfig {
    /// Every bound that is given.
    #[must_use]
    pub fn bounds(&self) -> Vec<Bound> {
        let listed = [
            ("frechet_distance", self.frechet_distance, true),
            ("kernel_distance", self.kernel_distance, true),
            ("precision", self.precision, false),
            ("recall", self.recall, false),
            ("nearest_ratio", self.nearest_ratio, false),
        ];
        let bound = |(name, bound, is_most): (&'static str, Option<f64>, bool)| {
            Some(Bound {
                name,
                bound: bound?,
                is_most,
            })
        };
        listed.into_iter().filter_map(bound).collect()
    }
}

impl Bound {
    /// Whether a figure keeps it; NaN does not.
    #[must_use]
    pub fn is_kept(self, figure: f64) -> bool {
        match self.is_most {
            true => figure <= self.bound,
            false => figure >= self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept_from_their_own_side() {
        let promise = PromiseConfig {
            kernel_distance: Some(0.01),
            recall: Some(0.5),
            ..PromiseConfig::default()
        };
        let [kernel, recall] = promise.bounds()[..] else {
            panic!("{promise:?}")
        };
        assert!(kernel.is_kept(0.01) && !kernel.is_kept(0.011) && !kernel.is_kept(f64::NAN));
        assert!(recall.is_kept(0.5) && !recall.is_kept(0.49) && !recall.is_kept(f64::NAN));
    }
}
