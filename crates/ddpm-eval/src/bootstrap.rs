//! Intervals by drawing images again (Efron 1979).

use ddpm_schedule::noise::{Stream, below};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A figure and where it would lie for other images of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The figure of these images.
    pub value: f64,
    /// Ends of its 95% interval.
    pub low: f64,
    /// As `low`.
    pub high: f64,
    /// The deviation over other images.
    pub standard_error: f64,
}

/// Resamplings of figures that are made of one number an image.
const RESAMPLINGS: usize = 1000;

impl Figure {
    /// A figure that follows from the means of numbers of images, one group a set: each group is drawn again, with
    /// replacement. The interval has the middle 95% of what comes out.
    #[must_use]
    pub fn of_means(
        groups: &[&[f64]],
        seed: u64,
        statistic: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Self {
        let means: Vec<f64> = groups.iter().map(|group| mean(group)).collect();
        let drawn = (0..RESAMPLINGS).into_par_iter().map(|resampling| {
            let resampled = groups.iter().enumerate().map(|(of, group)| {
                let n = group.len() as u64;
                let index = |i: u64| {
                    below(
                        seed,
                        Stream::Bootstrap,
                        (resampling * groups.len() + of) as u64,
                        i,
                        n,
                    )
                };
                (0..n).map(|i| group[index(i) as usize]).sum::<f64>() / n as f64
            });
            statistic(&resampled.collect::<Vec<_>>())
        });
        let mut drawn: Vec<f64> = drawn.collect();
        drawn.sort_by(f64::total_cmp);
        Self {
            value: statistic(&means),
            low: drawn[RESAMPLINGS / 40],
            high: drawn[RESAMPLINGS - 1 - RESAMPLINGS / 40],
            standard_error: deviation(&drawn),
        }
    }

    /// A figure that is too large for few images by about as much as its resamplings are larger than it: the interval says
    /// where more images would lead, and may lie wholly below the figure itself.
    pub(crate) fn biased(value: f64, resampled: &[f64]) -> Self {
        let standard_error = deviation(resampled);
        let centre = 2.0 * value - mean(resampled);
        Self {
            value,
            low: (centre - 1.96 * standard_error).max(0.0),
            high: (centre + 1.96 * standard_error).max(0.0),
            standard_error,
        }
    }
}

/// How often each of n images is drawn in one resampling.
pub(crate) fn times(n: usize, seed: u64, resampling: u64) -> Vec<u32> {
    let mut times = vec![0; n];
    for i in 0..n as u64 {
        times[below(seed, Stream::Bootstrap, resampling, i, n as u64) as usize] += 1;
    }
    times
}

/// Their mean.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Their standard deviation, with n - 1; 0 of a single one.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_a_mean_is_that_of_the_normal_distribution() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let found = Figure::of_means(&[&values], 3, |means| means[0]);
        // The standard error of 400 halves is 0.025; a thousand resamplings know it to some per cent.
        assert_eq!(found.value, 0.5);
        assert!((found.standard_error - 0.025).abs() < 0.0025, "{found:?}");
        assert!(
            (found.low - 0.451).abs() < 0.008 && (found.high - 0.549).abs() < 0.008,
            "{found:?}"
        );
        assert_eq!(found, Figure::of_means(&[&values], 3, |means| means[0]));
        assert_ne!(found, Figure::of_means(&[&values], 4, |means| means[0]));
    }

    #[test]
    fn every_resampling_has_as_many_images() {
        let drawn = times(100, 0, 7);
        assert_eq!(drawn.iter().sum::<u32>(), 100);
        assert_ne!(drawn, times(100, 0, 8));
    }
}
