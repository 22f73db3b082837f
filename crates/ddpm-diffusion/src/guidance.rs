//! Guidance: away from what a network says when it is told less, or from what a worse network says.

mod combine;
mod config;

use std::cell::Cell;

use burn::tensor::Tensor;
use ddpm_schedule::{Level, Stop};

use crate::denoiser::{Denoiser, Estimate, Output};
use crate::network::Network;
use crate::rows::check_like;
use crate::{Condition, DiffusionError};

pub use config::{GuidanceConfig, Interval};

/// What guidance leads away from.
#[derive(Clone, Default)]
pub struct Guide<'a> {
    /// What the network is told where nothing is to be told (Ho & Salimans 2022): one entry an image.
    pub null: Option<Condition>,
    /// A worse network, told the same (Karras et al. 2024, "autoguidance"), instead.
    pub network: Option<&'a dyn Network>,
}

impl std::fmt::Debug for Guide<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let network = self.network.map(|_| "a network");
        out.debug_struct("Guide")
            .field("null", &self.null)
            .field("network", &network)
            .finish()
    }
}

impl Guide<'_> {
    /// The entries of some images of the batch.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        Self {
            null: self.null.as_ref().map(|null| null.rows(rows)),
            network: self.network,
        }
    }
}

/// out = weak + s·(strong - weak), of what a network outputs (Ho & Salimans 2022, eq. 6, with s = 1 + w).
///
/// At s = 1, and outside the interval, the network alone is asked; at s = 0 its guide alone.
pub struct Guided<D> {
    /// What is told the condition.
    pub strong: D,
    /// What it is led away from; unset: `strong`, told `null`, in the same batch.
    pub weak: Option<D>,
    /// What is told instead of the condition; unset: the condition.
    pub null: Option<Condition>,
    /// How far.
    pub config: GuidanceConfig,
    /// Whether the interval holds the step under way; unset before the first.
    within: Cell<Option<bool>>,
}

impl<D> Guided<D> {
    /// Before the first step.
    pub fn new(
        strong: D,
        weak: Option<D>,
        null: Option<Condition>,
        config: GuidanceConfig,
    ) -> Self {
        Self {
            strong,
            weak,
            null,
            config,
            within: Cell::new(None),
        }
    }
}

impl<D: Denoiser> Guided<D> {
    /// The guide's estimate and the network's, of one doubled batch where they are of one network.
    fn both(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<(Estimate, Estimate), DiffusionError> {
        let null = self.told_less(condition);
        if let Some(weak) = &self.weak {
            let weak = weak.denoise(x, at, &null)?;
            return Ok((weak, self.strong.denoise(x, at, condition)?));
        }
        let batch = x.dims()[0];
        // [batch, …] twice -> [2·batch, …]
        let twice = Tensor::cat(vec![x.clone(), x.clone()], 0);
        let both = self.strong.denoise(&twice, at, &null.then(condition))?;
        Ok((both.rows(0..batch), both.rows(batch..2 * batch)))
    }

    /// The condition, with what is told instead of its classes and numbers. Pictures and the network's own
    /// expectation stay: they are not what guidance strengthens.
    fn told_less(&self, condition: &Condition) -> Condition {
        match &self.null {
            None => condition.clone(),
            Some(null) => Condition {
                labels: null.labels.clone(),
                vector: null.vector.clone(),
                ..condition.clone()
            },
        }
    }

    fn weak_alone(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let weak = self.weak.as_ref().unwrap_or(&self.strong);
        weak.denoise(x, at, &self.told_less(condition))
    }
}

impl<D: Denoiser> Denoiser for Guided<D> {
    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.within
            .set(Some(self.config.interval.holds(step, of, from)));
    }

    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let GuidanceConfig {
            scale,
            rescale,
            orthogonal,
            interval,
        } = self.config;
        let within = self.within.get();
        let within = within.unwrap_or_else(|| interval.holds(0, 1, at.level));
        if !within || scale == 1.0 {
            return self.strong.denoise(x, at, condition);
        }
        if scale == 0.0 && rescale == 0.0 && !orthogonal {
            return self.weak_alone(x, at, condition);
        }
        let (weak, strong) = self.both(x, at, condition)?;
        let combined = |weak: &Tensor<4>, strong: &Tensor<4>| {
            check_like("the guide's estimate", weak, strong.dims())?;
            let out = match orthogonal {
                false => combine::along(weak, strong, scale),
                true => combine::orthogonal(weak, strong, scale),
            };
            Ok::<_, DiffusionError>(match rescale == 0.0 {
                true => out,
                false => combine::rescaled(out, strong, rescale),
            })
        };
        // What a network outputs is what is combined; only where it means something else is x̂0.
        match (&weak.output, &strong.output) {
            (Some(of_weak), Some(of_strong)) if of_weak.means_as(of_strong) => {
                let output = Output {
                    value: combined(&of_weak.value, &of_strong.value)?,
                    ..of_strong.clone()
                };
                Ok(Estimate {
                    x0: output.x0(x, at.level),
                    variance: strong.variance,
                    output: Some(output),
                })
            }
            _ => Ok(Estimate {
                x0: combined(&weak.x0, &strong.x0)?,
                variance: strong.variance,
                output: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
