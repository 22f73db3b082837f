//! A sampler with every choice made.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Prediction, Process, Stop};

use crate::clip::clip;
use crate::denoiser::{Denoiser, Estimate};
use crate::guidance::{GuidanceConfig, Guide, Guided};
use crate::network::{Network, NetworkDenoiser};
use crate::self_condition::SelfConditioned;
use crate::threshold::threshold;
use crate::{Condition, DiffusionError, Evaluations, Sampler};

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
    /// As it was given, with a trace of signal where the sampler must have some.
    given: Grid,
    /// The legs that the sampler makes of it.
    grid: Grid,
    /// How many of them are left out at the beginning.
    skipped: usize,
    sampler: Sampler,
    hold: Hold,
    guidance: Option<GuidanceConfig>,
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
        let given = match sampler.needs_signal() {
            true => grid.with_signal(),
            false => grid,
        };
        let grid = sampler.reshape(given.clone());
        sampler.check(&process, &grid)?;
        sampler.check_meaning(meaning)?;
        Ok(Self {
            process,
            meaning,
            given,
            grid,
            skipped: 0,
            sampler,
            hold,
            guidance: None,
        })
    }

    /// The end of the way: what is left without its first `count` levels, `None` if that is nothing.
    ///
    /// A sampler goes it as if it had come the whole way, but that it remembers no earlier step.
    #[must_use]
    pub fn skip(&self, count: usize) -> Option<Self> {
        let rest = self.given.skip(count)?;
        let mut plan = self.clone();
        match self.grid == self.given {
            true => plan.skipped = count,
            // A sampler with legs of its own makes them of what is left.
            false => (plan.grid, plan.given) = (self.sampler.reshape(rest.clone()), rest),
        }
        Some(plan)
    }

    /// The same with guidance.
    ///
    /// # Errors   [`DiffusionError::Config`] naming the key
    pub fn guided(self, guidance: Option<GuidanceConfig>) -> Result<Self, DiffusionError> {
        if let Some(guidance) = &guidance {
            guidance.check()?;
        }
        Ok(Self { guidance, ..self })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The levels of the whole way.
    #[must_use]
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// How many legs of the way are left out at the beginning, as [`Plan::skip`] does.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The legs that are gone; at least one.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.grid.legs()[self.skipped..]
    }

    /// The number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.legs().len()
    }

    /// How many levels there are to choose from before a sampler makes legs of its own of them.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.given.legs().len() - self.skipped
    }

    /// Network evaluations an image, if they are known before.
    #[must_use]
    pub fn evaluations(&self) -> Option<usize> {
        match self.sampler.about().evaluations {
            // Those at first may be among the legs that are left out.
            Evaluations::OneAndMoreAtFirst(_) if self.skipped > 0 => None,
            evaluations => evaluations.of(self.legs()),
        }
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
        let first = self.legs()[0].from.level;
        match self.process {
            // A trace of signal is left there, which the noise stands for.
            Process::Discrete(_) | Process::Vp(_) => 1.0,
            Process::Edm(_) | Process::Flow(_) => first.noise,
        }
    }

    /// Guidance, if any is asked for.
    #[must_use]
    pub fn guidance(&self) -> Option<GuidanceConfig> {
        self.guidance
    }

    /// The denoiser that a network makes under this plan, for one batch: guided, then held to the range of pixels.
    ///
    /// # Errors   [`DiffusionError::Config`] if guidance is asked for and there is nothing to lead away from
    pub fn denoiser<'a>(
        &'a self,
        network: &'a dyn Network,
        guide: Guide<'a>,
    ) -> Result<Box<dyn Denoiser + 'a>, DiffusionError> {
        self.denoiser_by(network, guide, &|of_network| of_network)
    }

    /// The same with another denoiser around each network's own: what that shows the network is its own business, and
    /// all else, guidance and what a network expected last, is of what it makes of it.
    ///
    /// # Errors   as [`Plan::denoiser`]
    pub fn denoiser_by<'a>(
        &'a self,
        network: &'a dyn Network,
        guide: Guide<'a>,
        around: &dyn Fn(Box<dyn Denoiser + 'a>) -> Box<dyn Denoiser + 'a>,
    ) -> Result<Box<dyn Denoiser + 'a>, DiffusionError> {
        let of = |network| {
            let own = NetworkDenoiser::new(&self.process, self.meaning, network);
            around(Box::new(own))
        };
        let strong = of(network);
        let Some(config) = self.guidance.filter(GuidanceConfig::is_on) else {
            return Ok(self.around(strong));
        };
        if guide.network.is_none() && guide.null.is_none() {
            return Err(DiffusionError::Config {
                key: "guidance.scale",
                got: config.scale.to_string(),
                expected: "1, or a network with a null class or a second network, which guidance leads away from",
            });
        }
        let weak = guide.network.map(of);
        Ok(self.around(Guided::new(strong, weak, guide.null, config)))
    }

    /// What is done to every estimate of `inner`.
    fn around<'a>(&self, inner: impl Denoiser + 'a) -> Box<dyn Denoiser + 'a> {
        let held = Held {
            hold: self.hold,
            inner,
        };
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
    Held {
        hold,
        inner: NetworkDenoiser::new(process, meaning, network),
    }
}

/// A denoiser whose x̂0 is held.
struct Held<D> {
    hold: Hold,
    inner: D,
}

impl<D: Denoiser> Denoiser for Held<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let estimate = self.inner.denoise(x, at, condition)?;
        match self.hold {
            Hold::Free => Ok(estimate),
            Hold::Clip(range) => Ok(clip(estimate, range)),
            Hold::Threshold { ratio, most } => threshold(estimate, at, ratio, most),
        }
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}
