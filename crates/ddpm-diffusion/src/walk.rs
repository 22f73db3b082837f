//! What a sampler sees of the world: the denoiser, noise, and where it stands.

use burn::tensor::Tensor;
use ddpm_schedule::{Leg, Level, Process, Stop};

use crate::denoiser::{Denoiser, Estimate};
use crate::finite::FiniteCheck;
use crate::rows::{check_like, combine};
use crate::{Condition, DiffusionError, Plan};

/// Which noise a step asks for; a pure function of it and of the image's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseAt {
    /// The step of the sampler, from 0.
    pub step: usize,
    /// How many the step has asked for before.
    pub draw: usize,
}

/// One batch on its way; a sampler's steps ask it as often as they like.
pub struct Walk<'a> {
    pub(crate) denoiser: &'a dyn Denoiser,
    pub(crate) process: &'a Process,
    pub(crate) condition: Condition,
    pub(crate) noise: &'a mut dyn FnMut(NoiseAt) -> Tensor<4>,
    pub(crate) at: NoiseAt,
    pub(crate) of: usize,
    pub(crate) finite: FiniteCheck,
    /// The x̂0 that was asked for last.
    pub(crate) x0: Option<Tensor<4>>,
    pub(crate) evaluations: usize,
}

impl<'a> Walk<'a> {
    /// Before the first step.
    pub(crate) fn new(
        denoiser: &'a dyn Denoiser,
        plan: &'a Plan,
        condition: Condition,
        noise: &'a mut dyn FnMut(NoiseAt) -> Tensor<4>,
    ) -> Self {
        Self {
            denoiser,
            process: plan.process(),
            condition,
            noise,
            at: NoiseAt { step: 0, draw: 0 },
            of: plan.grid().legs().len(),
            finite: FiniteCheck::default(),
            x0: None,
            evaluations: 0,
        }
    }

    /// Goes on to a step of the way, which begins at `from`.
    pub(crate) fn begin(&mut self, step: usize, from: Level) {
        self.draw_as(step);
        self.denoiser.begin_step(step, self.of, from);
    }

    /// The noise that is asked for from now on is that of this step.
    pub(crate) fn draw_as(&mut self, step: usize) {
        self.at = NoiseAt { step, draw: 0 };
    }

    /// Looks at what has not been looked at yet.
    ///
    /// # Errors   [`DiffusionError::NonFinite`]
    pub(crate) fn finish(&mut self) -> Result<(), DiffusionError> {
        self.finite.look(self.of)
    }
}

impl Walk<'_> {
    /// The image behind `x`; every call is a network evaluation.
    ///
    /// # Errors   [`DiffusionError::Network`], [`DiffusionError::Shape`], [`DiffusionError::NonFinite`]
    pub fn denoise(&mut self, x: &Tensor<4>, at: Stop) -> Result<Estimate, DiffusionError> {
        let estimate = self.denoiser.denoise(x, at, &self.condition)?;
        self.evaluations += 1;
        // Before it is clipped: a clamp may turn NaN into black.
        let seen = match &estimate.output {
            Some(output) => &output.value,
            None => &estimate.x0,
        };
        self.finite.see(seen, self.at.step, at.time, self.of)?;
        self.x0 = Some(estimate.x0.clone());
        Ok(estimate)
    }

    /// Unit normal noise of the shape of `x`: another at each call, the same for an image in any batch.
    ///
    /// # Errors   [`DiffusionError::Shape`] if whoever makes it does not keep to the shape
    pub fn noise(&mut self, x: &Tensor<4>) -> Result<Tensor<4>, DiffusionError> {
        let z = (self.noise)(self.at);
        self.at.draw += 1;
        check_like("the noise of a sampling step", &z, x.dims())?;
        Ok(z)
    }

    /// The step that is being made, from 0.
    #[must_use]
    pub fn step(&self) -> usize {
        self.at.step
    }

    /// How many steps there are.
    #[must_use]
    pub fn of(&self) -> usize {
        self.of
    }

    /// The place of a level between those of the grid.
    #[must_use]
    pub fn stop(&self, level: Level) -> Stop {
        Stop::of(self.process, level)
    }

    /// The process, for levels of a given σ.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process
    }

    /// dy/du of the probability flow along the process's axis: (y - x̂0)/u with y = x/scale.
    #[must_use]
    pub fn slope(&self, x: &Tensor<4>, x0: &Tensor<4>, level: Level) -> Tensor<4> {
        let axis = self.process.axis();
        let u = axis.at(level);
        combine(1.0 / (axis.scale(level) * u), x, -1.0 / u, x0)
    }

    /// x moved in a straight line along the process's axis: y' = y + (u' - u)·slope.
    #[must_use]
    pub fn along(&self, x: &Tensor<4>, slope: &Tensor<4>, from: Level, to: Level) -> Tensor<4> {
        let axis = self.process.axis();
        let scale = axis.scale(to);
        let du = axis.at(to) - axis.at(from);
        combine(scale / axis.scale(from), x, scale * du, slope)
    }

    /// Euler's step of the probability flow: signal'·x̂0 + noise'·ε̂, the same along any axis.
    #[must_use]
    pub fn euler(&self, x: &Tensor<4>, x0: &Tensor<4>, from: Level, to: Level) -> Tensor<4> {
        let rest = to.noise / from.noise;
        combine(rest, x, to.signal - rest * from.signal, x0)
    }

    /// x with noise added until it is at a noisier level of the same process.
    ///
    /// # Errors   as [`Walk::noise`]
    pub fn renoise(
        &mut self,
        x: Tensor<4>,
        from: Level,
        to: Level,
        s_noise: f64,
    ) -> Result<Tensor<4>, DiffusionError> {
        let ratio = to.signal / from.signal;
        let added = (to.noise * to.noise - (ratio * from.noise).powi(2)).max(0.0);
        let z = self.noise(&x)?;
        Ok(combine(ratio, &x, s_noise * added.sqrt(), &z))
    }
}

/// The levels of a leg in σ, and the σ of fresh noise that an ancestral step adds (k-diffusion's get_ancestral_step).
#[derive(Debug, Clone, Copy)]
pub struct Ancestral {
    /// Where the deterministic part leads.
    pub down: Level,
    /// The scale of fresh noise in the units of x at the end of the leg.
    pub up: f64,
}

impl Ancestral {
    /// σ_up = min(σ', η·√(σ'²·(σ² - σ'²)/σ²)), σ_down = √(σ'² - σ_up²).
    #[must_use]
    pub fn new(process: &Process, leg: Leg, eta: f64) -> Self {
        let [from, to] = [leg.from, leg.to].map(|stop| stop.level.sigma());
        // Pure noise is the limit of σ without end.
        let share = 1.0 - (to / from).powi(2);
        let up = (eta * to * share.max(0.0).sqrt()).min(to);
        let down = (to * to - up * up).max(0.0).sqrt();
        Self {
            down: match down == to {
                true => leg.to.level,
                false => process.at_sigma(down),
            },
            up: leg.to.level.signal * up,
        }
    }

    /// x at the lower level, brought to the leg's end with fresh noise.
    ///
    /// # Errors   as [`Walk::noise`]
    pub fn draw(
        self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        to: Level,
        s_noise: f64,
    ) -> Result<Tensor<4>, DiffusionError> {
        let z = match self.up == 0.0 {
            true => None,
            false => Some(walk.noise(&x)?),
        };
        Ok(self.finish(x, to, z.as_ref(), s_noise))
    }

    /// The same with given noise, or without any.
    #[must_use]
    pub fn finish(self, x: Tensor<4>, to: Level, z: Option<&Tensor<4>>, s_noise: f64) -> Tensor<4> {
        let ratio = to.signal / self.down.signal;
        match z {
            Some(z) => combine(ratio, &x, s_noise * self.up, z),
            None if ratio == 1.0 => x,
            None => x * ratio,
        }
    }
}
