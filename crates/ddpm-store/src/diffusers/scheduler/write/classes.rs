//! The class of each sampler, with its parameters.

use ddpm_diffusion::sampler::dpm_solver::{Estimates, Solver};
use ddpm_diffusion::sampler::unipc::Variant;
use ddpm_diffusion::sampler::{ddpm::Ddpm, dpm_solver::DpmSolver, euler::Euler};
use ddpm_diffusion::{Hold, Meaning, Plan, Sampler, VarianceOutput};
use ddpm_schedule::{Process, VarianceKind};
use serde_json::{Map, Value, json};

use super::Made;
use super::network::object;

/// The class that may sample as a plan does; none if diffusers has none.
pub(super) fn of(plan: &Plan) -> Option<Made> {
    let plain = |class, keys: Value| {
        Some(Made {
            class,
            keys: object(keys),
            step: Map::new(),
        })
    };
    let called = |class, step: Value| {
        Some(Made {
            class,
            keys: Map::new(),
            step: object(step),
        })
    };
    match (plan.process(), plan.sampler()) {
        (Process::Discrete(_), Sampler::Ddpm(ddpm)) => plain("DDPMScheduler", variance(ddpm, plan)),
        (Process::Discrete(_), Sampler::Ddim(ddim)) => {
            let mut step = json!({});
            if ddim.eta != 0.0 {
                step["eta"] = json!(ddim.eta);
            }
            if !ddim.keep_eps && plan.hold() != Hold::Free {
                step["use_clipped_model_output"] = json!(true);
            }
            called("DDIMScheduler", step)
        }
        (Process::Discrete(_), Sampler::Pndm(pndm)) => plain(
            "PNDMScheduler",
            json!({"skip_prk_steps": !pndm.runge_kutta}),
        ),
        (Process::Discrete(_), Sampler::Deis(deis)) => plain(
            "DEISMultistepScheduler",
            json!({"solver_order": deis.order, "lower_order_final": deis.lower_order_final}),
        ),
        (Process::Discrete(_), Sampler::DpmSolver(solver)) => {
            let mut keys = multistep(solver);
            if !is_silent(plan.meaning()) {
                keys["variance_type"] = json!("learned_range");
            }
            plain("DPMSolverMultistepScheduler", keys)
        }
        (Process::Edm(_), Sampler::DpmSolver(solver)) => {
            plain("EDMDPMSolverMultistepScheduler", multistep(solver))
        }
        (Process::Discrete(_), Sampler::DpmSinglestep(solver)) => {
            let mut keys = json!({
                "solver_order": solver.order,
                "algorithm_type": algorithm(solver.estimates, 0.0),
                "solver_type": solver_type(solver.solver),
                "lower_order_final": solver.lower_order_final,
            });
            if !is_silent(plan.meaning()) {
                keys["variance_type"] = json!("learned_range");
            }
            plain("DPMSolverSinglestepScheduler", keys)
        }
        (Process::Discrete(_), Sampler::Unipc(unipc)) => plain(
            "UniPCMultistepScheduler",
            json!({
                "solver_order": unipc.order,
                "solver_type": match unipc.variant {
                    Variant::Bh1 => "bh1",
                    Variant::Bh2 => "bh2",
                },
                "predict_x0": unipc.estimates == Estimates::X0,
                "lower_order_final": unipc.lower_order_final,
                "disable_corrector": unipc.disable_corrector,
            }),
        ),
        (Process::Discrete(_), Sampler::Euler(euler)) => {
            called("EulerDiscreteScheduler", churn(euler))
        }
        (Process::Edm(_), Sampler::Euler(euler)) => called("EDMEulerScheduler", churn(euler)),
        (Process::Flow(_), Sampler::Euler(euler)) => plain(
            "FlowMatchEulerDiscreteScheduler",
            json!({"stochastic_sampling": euler.renoise}),
        ),
        (Process::Flow(_), Sampler::Heun(_)) => plain("FlowMatchHeunDiscreteScheduler", json!({})),
        (Process::Discrete(_), Sampler::EulerAncestral(_)) => {
            plain("EulerAncestralDiscreteScheduler", json!({}))
        }
        (Process::Discrete(_), Sampler::Heun(_)) => plain("HeunDiscreteScheduler", json!({})),
        (Process::Discrete(_), Sampler::Lms(lms)) => {
            called("LMSDiscreteScheduler", json!({"order": lms.order}))
        }
        (Process::Discrete(_), Sampler::Dpm2(_)) => plain("KDPM2DiscreteScheduler", json!({})),
        (Process::Discrete(_), Sampler::Dpm2Ancestral(_)) => {
            plain("KDPM2AncestralDiscreteScheduler", json!({}))
        }
        _ => None,
    }
}

/// Whether a network says nothing of the variance.
pub(super) fn is_silent(meaning: Meaning) -> bool {
    meaning.variance == VarianceOutput::None
}

fn variance(ddpm: &Ddpm, plan: &Plan) -> Value {
    let used = ddpm.variance_used(plan.process(), plan.grid());
    let name = match (used, is_silent(plan.meaning())) {
        (Some(VarianceKind::Large), _) => "fixed_large",
        (None | Some(VarianceKind::Learned), false) => "learned_range",
        _ => "fixed_small",
    };
    json!({"variance_type": name})
}

fn multistep(solver: &DpmSolver) -> Value {
    json!({
        "solver_order": solver.order,
        "algorithm_type": algorithm(solver.estimates, solver.eta),
        "solver_type": solver_type(solver.solver),
        "lower_order_final": solver.lower_order_final,
        "euler_at_final": solver.euler_at_final,
    })
}

fn algorithm(estimates: Estimates, eta: f64) -> &'static str {
    match (estimates, eta > 0.0) {
        (Estimates::Eps, _) => "dpmsolver",
        (Estimates::X0, false) => "dpmsolver++",
        (Estimates::X0, true) => "sde-dpmsolver++",
    }
}

fn solver_type(solver: Solver) -> &'static str {
    match solver {
        Solver::Midpoint => "midpoint",
        Solver::Heun => "heun",
    }
}

/// The arguments of a step with churn.
fn churn(euler: &Euler) -> Value {
    match euler.s_churn > 0.0 {
        false => json!({}),
        true => json!({
            "s_churn": euler.s_churn, "s_tmin": euler.s_tmin, "s_tmax": euler.s_tmax, "s_noise": euler.s_noise,
        }),
    }
}
