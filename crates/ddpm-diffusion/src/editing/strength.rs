//! Image to image: an image drowns in noise as far as some level, and sampling goes on from there (SDEdit, Meng et al.
//! 2022, section 3.2).

use burn::tensor::Tensor;

use crate::rows::{check_like, combine};
use crate::{DiffusionError, Plan};

/// How many of so many steps are left at a strength, min(⌊steps·strength⌋, steps).
///
/// # Units   `strength`: the share of the way that is sampled anew, from 0 (nothing changes) to 1 (all of it)
#[must_use]
pub fn steps_left(steps: usize, strength: f64) -> usize {
    // The product as it is in f64: 0.58·50 gives 28. A cast truncates.
    ((steps as f64 * strength) as usize).min(steps)
}

impl Plan {
    /// The end of the way that a strength leaves, `None` if no step is left.
    ///
    /// # Errors   [`DiffusionError::Editing`] unless the strength is from 0 to 1
    pub fn from_strength(&self, strength: f64) -> Result<Option<Self>, DiffusionError> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(DiffusionError::Editing {
                what: "strength",
                got: strength.to_string(),
                expected: "from 0 (nothing changes) to 1 (all is sampled anew)",
            });
        }
        let levels = self.levels();
        Ok(self.skip(levels - steps_left(levels, strength)))
    }
}

/// Images at the first level of a plan: signal·x0 + noise·z, where its way begins.
///
/// # Shapes   `x0`, `z`: `[batch, channels, height, width]`; returns the same
/// # Errors   [`DiffusionError::Shape`] if they differ
pub fn noised(plan: &Plan, x0: &Tensor<4>, z: &Tensor<4>) -> Result<Tensor<4>, DiffusionError> {
    check_like("the noise of the images", z, x0.dims())?;
    let first = plan.legs()[0].from.level;
    Ok(combine(first.signal, x0, first.noise, z))
}
