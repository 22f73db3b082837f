//! A scheduler's case: our sampler over the same network, the same start and the same noise.

use anyhow::Context;
use burn::tensor::Tensor;
use ddpm_diffusion::sampler::pndm::Pndm;
use ddpm_diffusion::{
    Condition, Denoiser, DiffusionError, Estimate, Plan, Sampler, VarianceOutput,
};
use ddpm_schedule::{Leg, Level, Process, Stop};
use ddpm_store::diffusers::{Choice, NETWORK_STEPS};

use crate::models::{Pixel, at_each};
use crate::source::Series;
use crate::trace::{Noise, in_order, trace};

/// What a case has besides the scheduler.
pub(super) struct Inputs<'a> {
    /// `x_T`.
    pub(super) noise_at_start: Tensor<4>,
    /// `init_noise_sigma`, which it is multiplied by.
    pub(super) start_scale: f64,
    /// The first σ, where the scheduler has any.
    pub(super) first_sigma: Option<f64>,
    /// The k-th draw is the k-th of them.
    pub(super) noise: &'a Series,
    /// The network.
    pub(super) network: Pixel,
    /// The channels that follow where a variance is learned.
    pub(super) variance: Pixel,
    /// The sample after every call of `step`.
    pub(super) expected: &'a Series,
}

/// The largest difference of the samples after all steps.
///
/// # Errors   for a sampler that refuses the case, and another number of calls than ours are comparable with
pub(super) fn run(choice: &Choice, inputs: Inputs<'_>) -> anyhow::Result<f64> {
    let plan = choice.sample.plan(&choice.process, choice.meaning)?;
    let network = network(choice, inputs.network, inputs.variance);
    let legs = plan.legs();
    let first = legs[0].from.level;
    let start_scale = match (explodes(choice), inputs.first_sigma) {
        // Of our own σ: theirs is of float32, and the start must fit the level.
        (true, Some(sigma)) => inputs.start_scale / sigma * traced(first).noise,
        (true, None) => inputs.start_scale * traced(first).signal,
        (false, _) => inputs.start_scale,
    };
    let start = inputs.noise_at_start * start_scale;
    let noise = Noise {
        series: inputs.noise,
        index: &in_order,
    };
    let inner = plan.denoiser(&network, Default::default())?;
    let denoiser = told(&*inner, choice);
    let done = trace(&denoiser, &plan, start, Condition::default(), noise)?;
    let call = |leg| call(&plan, leg);
    done.difference(legs, inputs.expected, call, |leg| match explodes(choice) {
        true => leg.to.level.signal,
        false => 1.0,
    })
}

/// A network in closed form, as a case's scheduler hands things over.
pub(in super::super) fn network(
    choice: &Choice,
    output: Pixel,
    variance: Pixel,
) -> impl Fn(Tensor<4>, Tensor<1>, &Condition) -> anyhow::Result<Tensor<4>> + use<> {
    let sign = if choice.negated { -1.0 } else { 1.0 };
    let learned = choice.meaning.variance;
    move |x, time, _| {
        let time = time
            .into_data()
            .iter::<f64>()
            .next()
            .context("a batch without images")?;
        let output = at_each(&x, |x| sign * output(x, time))?;
        match learned {
            VarianceOutput::None => Ok(output),
            VarianceOutput::Range | VarianceOutput::Log => {
                let variance = at_each(&x, |x| variance(x, time))?;
                Ok(Tensor::cat(vec![output, variance], 1))
            }
        }
    }
}

/// The same denoiser whose network is told what theirs is.
pub(in super::super) fn told<'a>(
    inner: &'a dyn Denoiser,
    choice: &'a Choice,
) -> impl Denoiser + 'a {
    Told { inner, choice }
}

/// Whether their x is ours beside a signal of 1: that of the classes that come from k-diffusion.
pub(in super::super) fn explodes(choice: &Choice) -> bool {
    let sampler = matches!(
        choice.sample.sampler,
        Sampler::Euler(_)
            | Sampler::EulerAncestral(_)
            | Sampler::Heun(_)
            | Sampler::Lms(_)
            | Sampler::Dpm2(_)
            | Sampler::Dpm2Ancestral(_)
    );
    sampler && matches!(choice.process, Process::Discrete(_))
}

/// A level with a trace of signal, if there is none.
fn traced(level: Level) -> Level {
    match level.signal == 0.0 {
        true => level.with_signal(),
        false => level,
    }
}

/// A denoiser whose network is told what theirs is.
struct Told<'a> {
    inner: &'a dyn Denoiser,
    choice: &'a Choice,
}

impl Denoiser for Told<'_> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let Choice {
            process,
            flow_steps,
            told_whole,
            ..
        } = self.choice;
        let told = at.time * *flow_steps as f64;
        let time = match (process, told_whole) {
            (Process::Flow(_), true) => told.floor() / NETWORK_STEPS as f64,
            (Process::Flow(_), false) => told / NETWORK_STEPS as f64,
            _ => at.time,
        };
        self.inner.denoise(x, Stop { time, ..at }, condition)
    }
}

/// The call of `step` that ends a leg, from 0.
pub(in super::super) fn call(plan: &Plan, leg: usize) -> usize {
    match plan.sampler() {
        Sampler::Heun(_) | Sampler::Dpm2(_) | Sampler::Dpm2Ancestral(_) => {
            let legs = plan.legs();
            // One that leads to the image has no second call.
            let once = |leg: &&Leg| leg.to.level.is_clean();
            2 * leg + 1 - legs[..=leg].iter().filter(once).count()
        }
        Sampler::Pndm(Pndm {
            runge_kutta: true, ..
        }) => leg + 3 * (leg + 1).min(3),
        Sampler::Pndm(_) => leg + 1,
        _ => leg,
    }
}
