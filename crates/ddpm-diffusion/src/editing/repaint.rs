//! RePaint: painting in by going there and back (Lugmayr et al. 2022).

use burn::tensor::Tensor;
use ddpm_schedule::{Leg, Process, VarianceKind, solver::ddim_step};

use super::Kept;
use crate::denoiser::Denoiser;
use crate::rows::combine;
use crate::sample::Observer;
use crate::{Condition, DiffusionError, NoiseAt, Plan, Progress, Sampler, Walk};

/// How often the way is gone back, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jumps {
    /// Steps of a way back.
    pub length: usize,
    /// How often each part of the way is gone, the first time included; 1 goes back nowhere.
    pub samples: usize,
}

impl Default for Jumps {
    /// The paper's.
    fn default() -> Self {
        Self {
            length: 10,
            samples: 10,
        }
    }
}

/// One thing that RePaint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Goes down a leg of the plan, counted from 0 at the noisiest level.
    Step(usize),
    /// Adds the noise that this leg took away.
    Undo(usize),
}

/// Ways of a part, at most: more would only be a mistake.
const MOST_SAMPLES: usize = 1000;

/// Painting over the levels of a plan.
///
/// The kept part is right at every level but knows nothing of the painted one; noised again, both are denoised as one.
#[derive(Debug, Clone)]
pub struct RePaint<'a> {
    plan: &'a Plan,
    eta: f64,
    keep_eps: bool,
    operations: Vec<Operation>,
}

impl<'a> RePaint<'a> {
    /// A step is DDIM's with the plan's η; ancestral sampling with the small variance counts as η = 1.
    ///
    /// # Errors   [`DiffusionError::Sampler`] for a plan of another sampler, [`DiffusionError::Editing`] for jumps that
    /// are none, or too many
    pub fn new(plan: &'a Plan, jumps: Jumps) -> Result<Self, DiffusionError> {
        let (eta, keep_eps) = parameters(plan.sampler())?;
        for (what, got, most, expected) in [
            ("jump_length", jumps.length, usize::MAX, "at least 1"),
            (
                "jump_n_sample",
                jumps.samples,
                MOST_SAMPLES,
                "from 1 (no jump) to 1000",
            ),
        ] {
            if !(1..=most).contains(&got) {
                return Err(DiffusionError::Editing {
                    what,
                    got: got.to_string(),
                    expected,
                });
            }
        }
        Ok(Self {
            plan,
            eta,
            keep_eps,
            operations: operations(plan.steps(), jumps),
        })
    }

    /// All that is done, in its order.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Paints the unknown part from a start at the plan's first level.
    ///
    /// The noise of a step is that of the kept part too, one draw. A way back goes by single β of the table, from the
    /// step that was left on, one draw each; of a process without a table, and between its steps, it is one draw.
    ///
    /// # Shapes   `start`, all noise and the result: `[batch, channels, height, width]`
    /// # Errors   as [`walk`](crate::walk)
    pub fn run(
        &self,
        denoiser: &dyn Denoiser,
        kept: &Kept,
        start: Tensor<4>,
        condition: Condition,
        noise: &mut dyn FnMut(NoiseAt) -> Tensor<4>,
        observer: Observer<'_>,
    ) -> Result<Tensor<4>, DiffusionError> {
        condition.check(start.dims()[0])?;
        let legs = self.plan.legs();
        let of = self.operations.len();
        let mut walk = Walk::new(denoiser, self.plan, condition, noise);
        let mut x = start;
        for (number, &operation) in self.operations.iter().enumerate() {
            // Every operation has noise of its own, and every leg its place on the way.
            let (Operation::Step(leg) | Operation::Undo(leg)) = operation;
            walk.begin(self.plan.skipped() + leg, legs[leg].from.level);
            walk.draw_as(number);
            let (t, level) = match operation {
                Operation::Undo(leg) => {
                    x = undo(&mut walk, x, &legs[..=leg])?;
                    (legs[leg].to.time, legs[leg].from.level)
                }
                Operation::Step(leg) => {
                    x = self.step(&mut walk, &x, legs[leg], kept)?;
                    (legs[leg].from.time, legs[leg].to.level)
                }
            };
            let step = number + 1;
            if step == of {
                walk.finish()?;
                x = kept.finish(&x);
            }
            let progress = Progress {
                step,
                of,
                t,
                level,
                xt: &x,
                x0: walk.x0.as_ref().unwrap_or(&x),
            };
            if observer(progress).is_break() {
                return Err(DiffusionError::Stopped { step, of });
            }
        }
        Ok(x)
    }

    /// Lugmayr et al. 2022, algorithm 1, lines 4 to 8, with DDIM's step in the place of DDPM's.
    fn step(
        &self,
        walk: &mut Walk<'_>,
        x: &Tensor<4>,
        Leg { from, to }: Leg,
        kept: &Kept,
    ) -> Result<Tensor<4>, DiffusionError> {
        let estimate = walk.denoise(x, from)?;
        let eps = match self.keep_eps {
            true => estimate.network_eps(x, from.level),
            false => estimate.eps(x, from.level),
        };
        let step = ddim_step(from.level, to.level, self.eta)?;
        let z = walk.noise(x)?;
        let mean = combine(step.x0, &estimate.x0, step.eps, &eps);
        let painted = combine(1.0, &mean, step.noise, &z);
        Ok(kept.join(&kept.at(to.level, &z), &painted))
    }
}

/// The authors' schedule, as diffusers has it.
fn operations(steps: usize, jumps: Jumps) -> Vec<Operation> {
    // Counted by the steps that are left: at which of them the way is gone back, and how often yet.
    let mut back = vec![0; steps];
    let places = (0..steps.saturating_sub(jumps.length)).step_by(jumps.length);
    places.for_each(|left| back[left] = jumps.samples - 1);
    let mut operations = Vec::new();
    let mut left = steps;
    while left > 0 {
        left -= 1;
        operations.push(Operation::Step(steps - 1 - left));
        if back[left] > 0 {
            back[left] -= 1;
            for _ in 0..jumps.length {
                operations.push(Operation::Undo(steps - 1 - left));
                left += 1;
            }
        }
    }
    operations
}

/// η, and whether ε̂ stays the network's where x̂0 is clipped.
fn parameters(sampler: &Sampler) -> Result<(f64, bool), DiffusionError> {
    match sampler {
        Sampler::Ddim(ddim) => Ok((ddim.eta, ddim.keep_eps)),
        Sampler::Ddpm(ddpm) if ddpm.variance.is_none_or(|kind| kind == VarianceKind::Small) => {
            Ok((1.0, false))
        }
        other => Err(DiffusionError::Sampler {
            sampler: other.name(),
            problem: "is none that RePaint steps by; take ddim (its eta is the noise of a step) or ddpm with its small \
                      variance, or paint by the method replace, which takes any sampler"
                .into(),
        }),
    }
}

/// x after the last of some legs, noised to where that leg began.
fn undo(walk: &mut Walk<'_>, mut x: Tensor<4>, legs: &[Leg]) -> Result<Tensor<4>, DiffusionError> {
    let [.., above, leg] = legs else {
        // A way back never leads above the first level.
        return Ok(x);
    };
    let (t, next) = (leg.from.time, above.from.time);
    let betas = match walk.process() {
        Process::Discrete(table) if t.fract() == 0.0 && next.fract() == 0.0 && next > t => {
            table.betas().get(t as usize..next as usize)
        }
        _ => None,
    };
    let Some(betas) = betas.map(<[f64]>::to_vec) else {
        return walk.renoise(x, leg.to.level, leg.from.level, 1.0);
    };
    for beta in betas {
        let z = walk.noise(&x)?;
        x = combine((1.0 - beta).sqrt(), &x, beta.sqrt(), &z);
    }
    Ok(x)
}
