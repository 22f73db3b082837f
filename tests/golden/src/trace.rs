//! A sampler at work, written down.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use anyhow::{Context, bail};
use burn::tensor::Tensor;
use ddpm_diffusion::{
    Condition, Denoiser, DiffusionError, Estimate, NoiseAt, Plan, Progress, walk,
};
use ddpm_schedule::{Leg, Level, Stop};

use crate::compare::{difference, larger};
use crate::source::{Series, images, values};

/// What a sampler did.
pub struct Trace {
    /// The sample after every leg.
    pub samples: Vec<Vec<f64>>,
    /// Where the denoiser was asked, in that order.
    pub asked: Vec<Stop>,
    /// How many tensors of noise were drawn.
    pub draws: usize,
}

/// The tensors that noise is taken from.
pub struct Noise<'a> {
    /// All of them.
    pub series: &'a Series,
    /// Which of them a draw is; the first number counts draws from 0.
    pub index: &'a dyn Fn(usize, NoiseAt) -> usize,
}

/// Draws in their order, whichever step asks.
pub fn in_order(draws: usize, _: NoiseAt) -> usize {
    draws
}

/// Walks the legs of a plan from a given start.
///
/// # Errors   those of the sampler, noise that there is not, and a count of evaluations that is not the announced one
pub fn trace(
    denoiser: &dyn Denoiser,
    plan: &Plan,
    start: Tensor<4>,
    condition: Condition,
    noise: Noise<'_>,
) -> anyhow::Result<Trace> {
    let watched = Watched {
        inner: denoiser,
        asked: RefCell::default(),
    };
    let mut samples = Vec::new();
    let mut failed = None;
    let draws = Cell::new(0);
    let (shape, dtype) = (start.dims(), start.dtype());
    let pixels: usize = shape.iter().product();
    let mut missing = None;
    let mut draw = |at: NoiseAt| {
        let index = (noise.index)(draws.get(), at);
        draws.set(draws.get() + 1);
        let found = noise
            .series
            .at(index)
            .and_then(|values| match values.len() == pixels {
                true => Ok(images(values, shape, dtype)),
                false => bail!("is of another shape than the samples"),
            });
        found.unwrap_or_else(|error| {
            missing = Some(error);
            images(&vec![0.0; pixels], shape, dtype)
        })
    };
    let mut observe = |progress: Progress<'_>| match values(progress.xt) {
        Ok(sample) => {
            samples.push(sample);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    };
    let walked = walk(&watched, plan, start, condition, &mut draw, &mut observe);
    if let Some(error) = failed {
        return Err(error);
    }
    walked?;
    if let Some(error) = missing {
        return Err(error.context("the noise"));
    }
    let asked = watched.asked.into_inner();
    match plan.evaluations() {
        Some(announced) if announced != asked.len() => {
            bail!(
                "{announced} evaluations were announced, and {} made",
                asked.len()
            )
        }
        _ => Ok(Trace {
            samples,
            asked,
            draws: draws.get(),
        }),
    }
}

impl Trace {
    /// The largest difference of the samples from `theirs`: leg i from number `call(i)`, in units of `scale` of the leg.
    ///
    /// # Errors   unless the last number that is compared is the last there is
    pub fn difference(
        &self,
        legs: &[Leg],
        theirs: &Series,
        call: impl Fn(usize) -> usize,
        scale: impl Fn(Leg) -> f64,
    ) -> anyhow::Result<f64> {
        let last = self
            .samples
            .len()
            .checked_sub(1)
            .context("there are no samples")?;
        let calls = call(last) + 1;
        if calls != theirs.len() {
            bail!("{} tensors were given for {calls} calls", theirs.len());
        }
        let mut worst = 0.0;
        for (index, (sample, &leg)) in self.samples.iter().zip(legs).enumerate() {
            let scale = scale(leg);
            let sample: Vec<f64> = sample.iter().map(|value| value / scale).collect();
            worst = larger(worst, difference(&sample, theirs.at(call(index))?));
        }
        Ok(worst)
    }

    /// The σ at which the denoiser was asked, in that order.
    #[must_use]
    pub fn sigmas(&self) -> Vec<f64> {
        self.asked.iter().map(|stop| stop.level.sigma()).collect()
    }
}

/// A denoiser that remembers where it was asked.
struct Watched<'a> {
    inner: &'a dyn Denoiser,
    asked: RefCell<Vec<Stop>>,
}

impl Denoiser for Watched<'_> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        self.asked.borrow_mut().push(at);
        self.inner.denoise(x, at, condition)
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}
