//! Whether a network has learned to draw, or learned its images by heart.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Figure, mean};
use crate::error::EvalError;
use crate::pairs::{Between, Points, Within};
use crate::rows::Rows;

/// Pairs that are listed.
const LISTED: usize = 8;
/// The share of real images that count as copies by definition.
const SHARE: f64 = 0.01;

/// Distances to the nearest training image, beside those of other real images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Copies {
    /// The mean distance of a generated image to its nearest training image over that of real ones: 1 is as it should be, 0
    /// are copies.
    pub nearest_ratio: Figure,
    /// The share of generated images that lie nearer to a training image than 99% of real ones do: 0.01 is as it should be.
    pub copied_share: Figure,
    /// Whether the real ones were held out of training; else each training image is compared with the others.
    pub held_out: bool,
    /// The generated images that lie nearest to a training image.
    pub nearest: Vec<Pair>,
}

/// A generated image and the training image that is nearest to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The number of the generated image among those compared.
    pub generated: usize,
    /// The number of the training image among those compared.
    pub training: usize,
    /// How far they are apart in features.
    pub distance: f64,
}

pub(super) fn copies(
    between: &Between,
    of_real: &Within,
    held_out: Option<(&Rows, &Points)>,
    seed: u64,
) -> Result<Copies, EvalError> {
    let real = match held_out {
        None => of_real.nearest.clone(),
        Some((rows, training)) => {
            let points = Points::new(rows);
            let none = [vec![0.0; points.count()], vec![0.0; training.count()]];
            let tick = &|| ControlFlow::Continue(());
            points
                .between(training, [&none[0], &none[1]], tick)?
                .first
                .nearest
        }
    };
    let roots = |squares: &[f64]| {
        squares
            .iter()
            .map(|square| square.sqrt())
            .collect::<Vec<f64>>()
    };
    let (drawn, real) = (roots(&between.first.nearest), roots(&real));
    let mut sorted = real.clone();
    sorted.sort_by(f64::total_cmp);
    let bound = sorted[(SHARE * sorted.len() as f64) as usize];
    let nearer: Vec<f64> = drawn
        .iter()
        .map(|&distance| f64::from(u8::from(distance < bound)))
        .collect();
    let mut order: Vec<usize> = (0..drawn.len()).collect();
    order.sort_by(|&a, &b| drawn[a].total_cmp(&drawn[b]).then(a.cmp(&b)));
    // Real images without any distance between them are all copies of each other.
    let typical = mean(&real).max(f64::MIN_POSITIVE);
    Ok(Copies {
        nearest_ratio: Figure::of_means(&[&drawn, &real], seed, |means| {
            means[0] / means[1].max(f64::MIN_POSITIVE.max(1e-12 * typical))
        }),
        copied_share: Figure::of_means(&[&nearer], seed, |means| means[0]),
        held_out: held_out.is_some(),
        nearest: order
            .into_iter()
            .take(LISTED)
            .map(|generated| Pair {
                generated,
                training: between.first.nearest_index[generated],
                distance: drawn[generated],
            })
            .collect(),
    })
}
