//! Whether a scheduler samples as a plan does.

use ddpm_diffusion::{Hold, Plan, Sampler};
use ddpm_schedule::{Leg, Level, Process, Stop, VarianceKind};

use super::classes::is_silent;
use crate::diffusers::scheduler::{NETWORK_STEPS, NetworkSettings, Scheduler};

/// The largest difference of two levels that are the same but for rounding.
const ROUNDING: f64 = 1e-9;

/// Whether a scheduler, read as any other is, visits the same levels with the same sampler.
pub(super) fn alike(scheduler: &Scheduler, plan: &Plan) -> bool {
    let Ok(choice) = scheduler.choice(None) else {
        return false;
    };
    let Ok(theirs) = choice.sample.plan(&choice.process, choice.meaning) else {
        return false;
    };
    let (legs, others) = (plan.grid().legs(), theirs.grid().legs());
    let told_alike = !choice.negated && choice.flow_steps == NETWORK_STEPS && !choice.told_whole;
    told_alike
        && !divides_by_zero(plan)
        && plan.meaning() == theirs.meaning()
        && held(plan) == held(&theirs)
        && plain(plan) == plain(&theirs)
        && same(plan.process(), theirs.process())
        && legs.len() == others.len()
        && legs.iter().zip(others).all(|(a, b)| near_legs(a, b))
}

/// diffusers' DPM-Solver divides by the length of a last step that leads nowhere, unless that is of order 1.
fn divides_by_zero(plan: &Plan) -> bool {
    let Sampler::DpmSolver(solver) = plan.sampler() else {
        return false;
    };
    let last = plan.grid().legs().last();
    let nowhere = last.is_some_and(|leg| leg.from.level == leg.to.level);
    let lowered = solver.euler_at_final || (solver.lower_order_final && plan.steps() < 15);
    nowhere && solver.order > 1 && !lowered
}

/// Whether two networks are of the same process and predict the same.
pub(super) fn same_process(a: &NetworkSettings, b: &NetworkSettings) -> bool {
    let build = |network: &NetworkSettings| network.process.build(&network.schedule).ok();
    let same = build(a).zip(build(b)).is_some_and(|(a, b)| same(&a, &b));
    same && a.meaning == b.meaning
}

/// Whether levels and what is told of them are the same, whichever of them are visited.
fn same(a: &Process, b: &Process) -> bool {
    match (a, b) {
        (Process::Discrete(a), Process::Discrete(b)) => {
            let mut pairs = a.betas().iter().zip(b.betas());
            a.len() == b.len() && pairs.all(|(a, b)| near(*a, *b))
        }
        (Process::Edm(a), Process::Edm(b)) => a.sigma_data == b.sigma_data,
        (Process::Flow(_), Process::Flow(_)) => true,
        _ => false,
    }
}

fn near_legs(a: &Leg, b: &Leg) -> bool {
    near_stops(a.from, b.from) && near_stops(a.to, b.to)
}

fn near_stops(a: Stop, b: Stop) -> bool {
    let level = |a: Level, b: Level| near(a.signal, b.signal) && near(a.noise, b.noise);
    // Of the image itself no network is asked.
    level(a.level, b.level) && (a.level.is_clean() || near(a.time, b.time))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1e-6)
}

/// What is done to x̂0: thresholds of which the largest is 1 clamp to ±1.
fn held(plan: &Plan) -> Hold {
    match plan.hold() {
        Hold::Threshold { most: 1.0, .. } => Hold::Clip(1.0),
        other => other,
    }
}

/// The sampler with parameters that change nothing here at their defaults.
fn plain(plan: &Plan) -> Sampler {
    let ends_clean = plan
        .grid()
        .legs()
        .last()
        .is_some_and(|leg| leg.to.level.is_clean());
    match plan.sampler().clone() {
        Sampler::Ddpm(mut ddpm) => {
            ddpm.variance = match ddpm.variance_used(plan.process(), plan.grid()) {
                None if is_silent(plan.meaning()) => Some(VarianceKind::Small),
                None => Some(VarianceKind::Learned),
                used => used,
            };
            ddpm.allow_large_respaced = true;
            Sampler::Ddpm(ddpm)
        }
        Sampler::Ddim(mut ddim) => {
            ddim.keep_eps |= plan.hold() == Hold::Free;
            Sampler::Ddim(ddim)
        }
        Sampler::Euler(euler) if euler.s_churn == 0.0 => {
            let (renoise, variable) = (euler.renoise, euler.variable);
            Sampler::Euler(ddpm_diffusion::sampler::euler::Euler {
                renoise,
                variable,
                ..Default::default()
            })
        }
        Sampler::DpmSolver(mut solver) => {
            solver.newton &= solver.order == 3;
            solver.lower_order_final |= plan.steps() >= 15;
            solver.euler_at_final &= !ends_clean;
            if solver.eta == 0.0 {
                solver.s_noise = 1.0;
            }
            Sampler::DpmSolver(solver)
        }
        other => other,
    }
}
