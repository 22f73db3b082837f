//! Samplers: each is a file with its parameters, its history and its step.
//!
//! To add one, write its file and its line in `samplers!`; nothing else knows how many there are.

mod exponential;
mod ode;

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Process, Spacing};
use serde::{Deserialize, Serialize};

use crate::{DiffusionError, Meaning, Walk};

/// What a sampler is, whatever its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct About {
    /// When to take it.
    pub good_for: &'static str,
    /// Its order of convergence; 0 for one whose steps are noisy whatever their number.
    pub order: usize,
    /// Network evaluations a step.
    pub evaluations: Evaluations,
    /// Steps unless told; 0 for all of a table.
    pub usual_steps: usize,
    /// Whether it adds noise, so that another seed of the noise gives another image.
    pub stochastic: bool,
    /// Whom to cite.
    pub source: &'static str,
}

/// How often a step asks the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluations {
    /// Once.
    One,
    /// Twice, but once where the step leads to the image itself.
    Two,
    /// Once, and some steps at the start more often: so many more in all.
    OneAndMoreAtFirst(usize),
    /// As often as its errors ask for.
    Adaptive,
}

impl Evaluations {
    /// Evaluations of all legs; none if only the images tell.
    #[must_use]
    pub fn of(self, legs: &[Leg]) -> Option<usize> {
        // Legs that lead nowhere are passed over.
        let real = legs.iter().filter(|leg| leg.from.level != leg.to.level);
        let (count, to_image) = real.fold((0, 0), |(count, to_image), leg| {
            (count + 1, to_image + usize::from(leg.to.level.is_clean()))
        });
        match self {
            Self::One => Some(count),
            Self::Two => Some(2 * count - to_image),
            Self::OneAndMoreAtFirst(more) => Some(count + more),
            Self::Adaptive => None,
        }
    }
}

/// A sampler's parameters.
pub trait Method {
    /// What it is.
    fn about(&self) -> About;

    /// Refuses parameters without meaning, and processes and grids that it does not serve.
    ///
    /// # Errors   [`DiffusionError::Config`] naming the key, [`DiffusionError::Sampler`] with the reason
    fn check(&self, process: &Process, grid: &Grid) -> Result<(), DiffusionError>;

    /// Refuses a network whose output does not say what it needs.
    ///
    /// # Errors   [`DiffusionError::Sampler`] with the reason
    fn check_meaning(&self, _: Meaning) -> Result<(), DiffusionError> {
        Ok(())
    }

    /// How it usually spreads its steps over a table.
    fn table_spacing(&self) -> Spacing {
        Spacing::Trailing {}
    }

    /// Whether it steps in σ or λ, which are infinite at pure noise, and so begins beside it.
    fn needs_signal(&self) -> bool {
        true
    }

    /// Whether its steps depend on all images of a batch, which are then sampled one by one.
    fn one_by_one(&self) -> bool {
        false
    }

    /// The legs that it makes of a grid.
    fn reshape(&self, grid: Grid) -> Grid {
        grid
    }

    /// A sampler before its first step.
    fn start(&self, process: &Process, grid: &Grid) -> Box<dyn Step>;
}

/// A sampler at work.
pub trait Step {
    /// Leads a batch along one leg.
    ///
    /// # Shapes   `x`: `[batch, channels, height, width]`; returns the same
    /// # Errors   those of [`Walk::denoise`] and [`Walk::noise`]
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError>;
}

/// Makes the enum of all samplers, tagged by `kind` in files.
macro_rules! samplers {
    ($($(#[$doc:meta])* $module:ident::$name:ident,)*) => {
        $(pub mod $module;)*

        /// Every sampler there is, with its parameters.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Sampler {
            $($(#[$doc])* $name($module::$name),)*
        }

        impl Sampler {
            /// Its parameters, as all samplers have them.
            #[must_use]
            pub fn method(&self) -> &dyn Method {
                match self {
                    $(Self::$name(method) => method,)*
                }
            }

            /// The word for it in files, its `kind`: the name of its file too.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($module),)*
                }
            }

            /// Every sampler with its default parameters.
            #[must_use]
            pub fn all() -> Vec<Self> {
                vec![$(Self::$name($module::$name::default()),)*]
            }
        }
    };
}

samplers! {
    /// Ancestral sampling (Ho et al. 2020, algorithm 2).
    ddpm::Ddpm,
    /// DDIM (Song et al. 2021).
    ddim::Ddim,
    /// Euler's method on the probability flow, with EDM's churn.
    euler::Euler,
    /// Euler's method with fresh noise at every step (k-diffusion).
    euler_ancestral::EulerAncestral,
    /// Heun's method with churn (Karras et al. 2022, algorithm 2).
    heun::Heun,
    /// The midpoint method in ln σ (Karras et al. 2022, as k-diffusion's DPM2).
    dpm2::Dpm2,
    /// The same with fresh noise at every step.
    dpm2_ancestral::Dpm2Ancestral,
    /// Linear multistep: Adams–Bashforth in σ (k-diffusion).
    lms::Lms,
    /// Pseudo linear multistep (Liu et al. 2022).
    pndm::Pndm,
    /// Diffusion exponential integrator, in ln ρ (Zhang & Chen 2023).
    deis::Deis,
    /// DPM-Solver and DPM-Solver++, multistep, also as an SDE (Lu et al. 2022).
    dpm_solver::DpmSolver,
    /// DPM-Solver and DPM-Solver++, single step (Lu et al. 2022).
    dpm_singlestep::DpmSinglestep,
    /// DPM-Solver++ of two evaluations a step, with fresh noise (k-diffusion).
    dpmpp2s_ancestral::Dpmpp2sAncestral,
    /// DPM-Solver++ as an SDE, of two evaluations a step (k-diffusion).
    dpmpp_sde::DpmppSde,
    /// UniPC (Zhao et al. 2023).
    unipc::Unipc,
    /// DPM-Solver with steps as long as the error allows (k-diffusion).
    dpm_adaptive::DpmAdaptive,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::Ddpm(ddpm::Ddpm::default())
    }
}

impl Sampler {
    /// What it is.
    #[must_use]
    pub fn about(&self) -> About {
        self.method().about()
    }

    /// # Errors   as [`Method::check`]
    pub(crate) fn check(&self, process: &Process, grid: &Grid) -> Result<(), DiffusionError> {
        self.method().check(process, grid)
    }

    /// # Errors   as [`Method::check_meaning`]
    pub(crate) fn check_meaning(&self, meaning: Meaning) -> Result<(), DiffusionError> {
        self.method().check_meaning(meaning)
    }

    pub(crate) fn table_spacing(&self) -> Spacing {
        self.method().table_spacing()
    }

    pub(crate) fn reshape(&self, grid: Grid) -> Grid {
        self.method().reshape(grid)
    }

    pub(crate) fn needs_signal(&self) -> bool {
        self.method().needs_signal()
    }

    pub(crate) fn start(&self, process: &Process, grid: &Grid) -> Box<dyn Step> {
        self.method().start(process, grid)
    }
}

/// # Errors   [`DiffusionError::Config`] naming `sample.sampler.KEY` unless it `holds`
fn check(
    key: &'static str,
    got: impl ToString,
    holds: bool,
    expected: &'static str,
) -> Result<(), DiffusionError> {
    match holds {
        true => Ok(()),
        false => Err(DiffusionError::Config {
            key,
            got: got.to_string(),
            expected,
        }),
    }
}

/// # Errors   [`DiffusionError::Config`] unless η and the scale of noise are what ancestral steps can do
fn check_noise(eta: f64, s_noise: f64) -> Result<(), DiffusionError> {
    let fine = eta >= 0.0 && eta.is_finite();
    check("sampler.eta", eta, fine, "at least 0 (0 is deterministic)")?;
    let fine = s_noise >= 0.0 && s_noise.is_finite();
    check(
        "sampler.s_noise",
        s_noise,
        fine,
        "at least 0 (1 is the noise of the theory)",
    )
}
