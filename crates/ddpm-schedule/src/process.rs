//! Diffusion processes: which noise levels there are, how training draws them, what the network is told of them.
//!
//! A time is a number of the process's own kind: a real-valued step of a table, t of the continuous
//! variance-preserving SDE, σ of EDM, t of rectified flow.

mod config;
mod discrete;
mod edm;
mod flow;
mod normal;
mod vp;

use crate::{Level, Prediction, Schedule};

pub use config::ProcessConfig;
pub use edm::Edm;
pub use flow::{Flow, TimeLaw};
pub use vp::Vp;

/// A validated process.
#[derive(Debug, Clone, PartialEq)]
pub enum Process {
    /// A table of β (Ho et al. 2020); between its steps, ln σ is interpolated.
    Discrete(Schedule),
    /// The continuous variance-preserving SDE (Song et al. 2021).
    Vp(Vp),
    /// Noise beside a signal of 1 (Karras et al. 2022).
    Edm(Edm),
    /// A straight line from image to noise (Liu et al. 2022).
    Flow(Flow),
}

/// What x of the probability flow is a smooth function of: y(u) = x/scale with dy/du = (y - x̂0)/u.
///
/// Euler's step is the same along either; methods of a higher order are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// u = σ, scale = signal.
    Sigma,
    /// u = noise/(signal + noise), which is t of rectified flow, scale = signal + noise.
    Flow,
}

impl Axis {
    /// What x is divided by.
    #[must_use]
    pub fn scale(self, level: Level) -> f64 {
        match self {
            Self::Sigma => level.signal,
            Self::Flow => level.signal + level.noise,
        }
    }

    /// u.
    #[must_use]
    pub fn at(self, level: Level) -> f64 {
        level.noise / self.scale(level)
    }
}

impl Process {
    /// A time for a training example, from 64 random bits: uniform over the steps of a table, else by the process's law.
    #[must_use]
    pub fn draw(&self, bits: u64) -> f64 {
        match self {
            Self::Discrete(schedule) => discrete::draw(schedule, bits),
            Self::Vp(vp) => vp.draw(unit(bits)),
            Self::Edm(edm) => edm.draw(unit(bits)),
            Self::Flow(flow) => flow.draw(unit(bits)),
        }
    }

    /// The noise level of a time.
    #[must_use]
    pub fn level(&self, time: f64) -> Level {
        match self {
            Self::Discrete(schedule) => discrete::level(schedule, time),
            Self::Vp(vp) => vp.level(time),
            Self::Edm(_) => Level::variance_exploding(time),
            Self::Flow(_) => Flow::level(time),
        }
    }

    /// The time of a noise level: the inverse of [`Process::level`]. A table's ends stand for what is beyond them.
    #[must_use]
    pub fn time(&self, level: Level) -> f64 {
        match self {
            Self::Discrete(schedule) => discrete::time(schedule, level.sigma()),
            Self::Vp(vp) => vp.time(level.sigma()),
            Self::Edm(_) => level.sigma(),
            Self::Flow(_) => Axis::Flow.at(level),
        }
    }

    /// What the network is told: the step of a table (or its share of `schedule.network_steps`), 999·t of the SDE, ln(σ)/4, or 1000·t of rectified flow.
    #[must_use]
    pub fn network_time(&self, time: f64) -> f64 {
        match self {
            Self::Discrete(schedule) => schedule.network_time(time),
            Self::Vp(_) => vp::NETWORK_STEPS * time,
            Self::Edm(_) => time.ln() / 4.0,
            Self::Flow(_) => flow::NETWORK_STEPS * time,
        }
    }

    /// The level of this process with a given noise-to-signal ratio.
    #[must_use]
    pub fn at_sigma(&self, sigma: f64) -> Level {
        match self {
            Self::Discrete(_) | Self::Vp(_) => Level::variance_preserving(sigma),
            Self::Edm(_) => Level::variance_exploding(sigma),
            Self::Flow(_) => Flow::level(match sigma.is_infinite() {
                true => 1.0,
                false => sigma / (1.0 + sigma),
            }),
        }
    }

    /// What samplers of the probability flow step along.
    #[must_use]
    pub fn axis(&self) -> Axis {
        match self {
            Self::Flow(_) => Axis::Flow,
            _ => Axis::Sigma,
        }
    }

    /// The level with a given [`Axis::at`].
    #[must_use]
    pub fn on_axis(&self, u: f64) -> Level {
        match self.axis() {
            Axis::Flow => Flow::level(u),
            Axis::Sigma => self.at_sigma(u),
        }
    }

    /// The level that sampling starts from unless told otherwise.
    #[must_use]
    pub fn noisiest(&self) -> Level {
        match self {
            Self::Discrete(schedule) => schedule.level(schedule.len() - 1),
            Self::Vp(vp) => vp.level(1.0),
            Self::Edm(edm) => Level::variance_exploding(edm.sigma_max),
            Self::Flow(_) => Flow::level(1.0),
        }
    }

    /// The last level above the image itself that sampling visits unless told otherwise.
    #[must_use]
    pub fn least_noisy(&self) -> Level {
        match self {
            Self::Discrete(schedule) => schedule.level(0),
            Self::Vp(vp) => vp.level(vp.t_min),
            Self::Edm(edm) => Level::variance_exploding(edm.sigma_min),
            Self::Flow(flow) => Flow::level(flow.t_min),
        }
    }

    /// Which quarter of the process's own time a time lies in, from 0: of the steps, of t, or of EDM's training law.
    #[must_use]
    pub fn quarter(&self, time: f64) -> usize {
        let quarters = match self {
            Self::Discrete(schedule) => 4.0 * time / schedule.len() as f64,
            Self::Vp(_) | Self::Flow(_) => 4.0 * time,
            Self::Edm(edm) => 4.0 * edm.share_below(time),
        };
        (quarters.max(0.0) as usize).min(3)
    }

    /// What networks of this process usually predict.
    #[must_use]
    pub fn usual_prediction(&self) -> Prediction {
        match self {
            Self::Discrete(_) | Self::Vp(_) => Prediction::Eps,
            Self::Edm(_) => Prediction::Edm,
            Self::Flow(_) => Prediction::Velocity,
        }
    }

    /// The deviation of pixels that EDM's scalings assume.
    #[must_use]
    pub fn sigma_data(&self) -> f64 {
        match self {
            Self::Edm(edm) => edm.sigma_data,
            _ => edm::SIGMA_DATA,
        }
    }

    /// The table of β, of a discrete process.
    #[must_use]
    pub fn schedule(&self) -> Option<&Schedule> {
        match self {
            Self::Discrete(schedule) => Some(schedule),
            _ => None,
        }
    }

    /// The word for it in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Discrete(_) => "discrete",
            Self::Vp(_) => "vp",
            Self::Edm(_) => "edm",
            Self::Flow(_) => "flow",
        }
    }
}

/// A number of (0, 1), an odd multiple of 2⁻⁵³.
pub(crate) fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests;
