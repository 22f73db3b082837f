//! Whether a network's outputs are numbers.

use burn::tensor::Tensor;

use crate::DiffusionError;

/// Outputs that the host looks at together: it would have to wait for the device at each of them otherwise.
const TOGETHER: usize = 32;

/// Sums of outputs, each of which is finite if the whole output is.
#[derive(Debug, Default)]
pub(super) struct FiniteCheck {
    /// Those that nobody has looked at yet, with their time steps.
    waiting: Vec<(usize, Tensor<1>)>,
    looked_at: usize,
}

impl FiniteCheck {
    /// Takes the output at time step `t` of a sampling run of `of` steps.
    ///
    /// # Errors   [`DiffusionError::NonFinite`] if one of the last outputs was not finite, [`DiffusionError::Denoiser`]
    /// if the device fails
    pub(super) fn see(
        &mut self,
        output: &Tensor<4>,
        t: usize,
        of: usize,
    ) -> Result<(), DiffusionError> {
        self.waiting.push((t, output.clone().sum()));
        let seen = self.looked_at + self.waiting.len();
        if self.waiting.len() < TOGETHER && seen < of {
            return Ok(());
        }
        let (times, sums): (Vec<_>, Vec<_>) = self.waiting.drain(..).unzip();
        let sums =
            Tensor::cat(sums, 0)
                .try_into_data()
                .map_err(|error| DiffusionError::Denoiser {
                    t,
                    source: error.to_string().into(),
                })?;
        for (t, sum) in times.into_iter().zip(sums.iter::<f32>()) {
            self.looked_at += 1;
            if !sum.is_finite() {
                let step = self.looked_at;
                return Err(DiffusionError::NonFinite { step, of, t });
            }
        }
        Ok(())
    }
}
