//! Whether a network's outputs are numbers.

use burn::tensor::Tensor;

use crate::DiffusionError;

/// Outputs that the host looks at together: it would have to wait for the device at each of them otherwise.
const TOGETHER: usize = 32;

/// Sums of outputs, each of which is finite if the whole output is.
#[derive(Debug, Default)]
pub(crate) struct FiniteCheck {
    /// Those that nobody has looked at yet, with their steps and times.
    waiting: Vec<(usize, f64, Tensor<1>)>,
}

impl FiniteCheck {
    /// Takes an output at a time, asked for in step `step` (from 0) of `of`.
    ///
    /// # Errors   [`DiffusionError::NonFinite`] if one of the last outputs was not finite, [`DiffusionError::Network`]
    /// if the device fails
    pub(crate) fn see(
        &mut self,
        output: &Tensor<4>,
        step: usize,
        t: f64,
        of: usize,
    ) -> Result<(), DiffusionError> {
        self.waiting.push((step, t, output.clone().sum()));
        match self.waiting.len() < TOGETHER {
            true => Ok(()),
            false => self.look(of),
        }
    }

    /// Looks at what is left.
    ///
    /// # Errors   as [`FiniteCheck::see`]
    pub(crate) fn look(&mut self, of: usize) -> Result<(), DiffusionError> {
        let mut places = Vec::new();
        let mut sums = Vec::new();
        for (step, t, sum) in self.waiting.drain(..) {
            places.push((step, t));
            sums.push(sum);
        }
        let Some(&(_, t)) = places.last() else {
            return Ok(());
        };
        let sums = Tensor::cat(sums, 0).try_into_data();
        let sums = sums.map_err(|error| DiffusionError::Network {
            t,
            source: error.to_string().into(),
        })?;
        for ((step, t), sum) in places.into_iter().zip(sums.iter::<f32>()) {
            if !sum.is_finite() {
                let step = step + 1;
                return Err(DiffusionError::NonFinite { step, of, t });
            }
        }
        Ok(())
    }
}
