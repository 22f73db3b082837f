//! A sampler with every choice made.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Prediction, Process, Stop};

use crate::clip::Clip;
use crate::denoiser::{Denoiser, Estimate};
use crate::network::{Network, NetworkDenoiser};
use crate::self_condition::SelfConditioned;
use crate::threshold::Threshold;
use crate::{Condition, DiffusionError, Sampler};

/// What is done to every x̂0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hold {
    /// Nothing.
    Free,
    /// Clamped to ± this, in pixels of [-1, 1].
    Clip(f64),
    /// Dynamic thresholding: the quantile, and the largest scale.
    Threshold {
        /// The quantile of |x̂0|, from 0 to 1.
        ratio: f64,
        /// The largest scale.
        most: f64,
    },
}

/// What a network's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What is predicted.
    pub prediction: Prediction,
    /// Whether as many channels follow, of which the variance is made.
    pub variance: VarianceOutput,
    /// Whether it is told what it expected last.
    pub self_condition: bool,
}

/// What a network says of the variance of the reverse step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VarianceOutput {
    /// Nothing.
    #[default]
    None,
    /// From -1 to 1, where between ln β̃ and ln β its logarithm lies (Nichol & Dhariwal 2021, eq. 15).
    Range,
    /// Its logarithm.
    Log,
}

impl From<Prediction> for Meaning {
    fn from(prediction: Prediction) -> Self {
        Self {
            prediction,
            variance: VarianceOutput::None,
            self_condition: false,
        }
    }
}

/// Which levels to visit and how to take them; one plan serves any number of batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    process: Process,
    meaning: Meaning,
    grid: Grid,
    sampler: Sampler,
    hold: Hold,
}

impl Plan {
    /// A plan over any grid; [`SampleConfig::plan`](crate::SampleConfig::plan) makes the usual ones.
    ///
    /// # Errors   [`DiffusionError::Config`] and [`DiffusionError::Sampler`] for parameters and grids that the sampler
    /// cannot use, [`DiffusionError::Schedule`] for ε prediction from a level without signal
    pub fn new(
        process: Process,
        meaning: Meaning,
        grid: Grid,
        sampler: Sampler,
        hold: Hold,
    ) -> Result<Self, DiffusionError> {
        let refuse = |key, got: f64, expected| {
            Err(DiffusionError::Config {
                key,
                got: got.to_string(),
                expected,
            })
        };
        match hold {
            Hold::Clip(range) if !(range.is_finite() && range > 0.0) => {
                let expected = "a number above 0 (clip = false turns clipping off)";
                return refuse("clip_range", range, expected);
            }
            Hold::Threshold { ratio, .. } if !(0.0..=1.0).contains(&ratio) => {
                return refuse("threshold.ratio", ratio, "from 0 to 1");
            }
            Hold::Threshold { most, .. } if !(most.is_finite() && most >= 1.0) => {
                return refuse("threshold.most", most, "at least 1");
            }
            _ => {}
        }
        for leg in grid.legs() {
            meaning.prediction.check(leg.from.level)?;
        }
        let grid = match sampler.needs_signal() {
            true => grid.with_signal(),
            false => grid,
        };
        let grid = sampler.reshape(grid);
        sampler.check(&process, &grid)?;
        sampler.check_meaning(meaning)?;
        Ok(Self {
            process,
            meaning,
            grid,
            sampler,
            hold,
        })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The visited levels.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.grid.legs().len()
    }

    /// Network evaluations an image, if they are known before.
    #[must_use]
    pub fn evaluations(&self) -> Option<usize> {
        self.sampler.about().evaluations.of(&self.grid)
    }

    /// What the network's output means.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// The sampler.
    #[must_use]
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// What is done to x̂0.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// What unit normal noise is multiplied by at the start: what pure noise is at the first level.
    #[must_use]
    pub fn start_scale(&self) -> f64 {
        let first = self.grid.legs()[0].from.level;
        match self.process {
            // A trace of signal is left there, which the noise stands for.
            Process::Discrete(_) | Process::Vp(_) => 1.0,
            Process::Edm(_) | Process::Flow(_) => first.noise,
        }
    }

    /// The denoiser that a network makes under this plan, for one batch.
    #[must_use]
    pub fn denoiser<'a>(&'a self, network: &'a dyn Network) -> Box<dyn Denoiser + 'a> {
        let held = held(&self.process, self.meaning, self.hold, network);
        match self.meaning.self_condition {
            true => Box::new(SelfConditioned::new(held)),
            false => Box::new(held),
        }
    }
}

/// A network's denoiser whose x̂0 is held.
pub(crate) fn held<'a>(
    process: &'a Process,
    meaning: Meaning,
    hold: Hold,
    network: &'a dyn Network,
) -> impl Denoiser + 'a {
    let Meaning {
        prediction,
        variance,
        ..
    } = meaning;
    let inner = NetworkDenoiser {
        network,
        process,
        prediction,
        variance,
    };
    Held { hold, inner }
}

/// A denoiser whose x̂0 is held.
#[derive(Clone, Copy)]
struct Held<D> {
    hold: Hold,
    inner: D,
}

impl<D: Denoiser + Copy> Denoiser for Held<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let inner = self.inner;
        match self.hold {
            Hold::Free => inner.denoise(x, at, condition),
            Hold::Clip(range) => Clip { inner, range }.denoise(x, at, condition),
            Hold::Threshold { ratio, most } => {
                Threshold { inner, ratio, most }.denoise(x, at, condition)
            }
        }
    }
}
