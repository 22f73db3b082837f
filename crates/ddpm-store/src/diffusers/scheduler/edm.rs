//! The EDM schedulers: σ without a table.

use ddpm_diffusion::sampler::dpm_solver::{DpmSolver, Estimates};
use ddpm_diffusion::{Meaning, SampleConfig, Sampler};
use ddpm_schedule::{Edm, GridRules, Prediction, Process, Spacing};
use serde_json::json;

use super::{Asked, Choice, ends_above, flow, hold, samplers};
use crate::diffusers::keys::Keys;
use crate::error::Result;

pub(super) fn euler(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let sampler = Sampler::Euler(samplers::churn(call)?);
    of_sigma(keys, call, sampler)
}

pub(super) fn dpm_solver(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let (estimates, eta) = samplers::algorithm(keys)?;
    if estimates == Estimates::Eps {
        let expected = "dpmsolver++ or sde-dpmsolver++ of EDMDPMSolverMultistepScheduler";
        return Err(keys.refusal("algorithm_type", &json!("dpmsolver"), expected));
    }
    let sampler = Sampler::DpmSolver(DpmSolver {
        order: keys.count("solver_order")?.unwrap_or(2),
        estimates,
        solver: samplers::solver(keys)?,
        eta,
        lower_order_final: keys.boolean("lower_order_final")?.unwrap_or(true),
        euler_at_final: keys.boolean("euler_at_final")?.unwrap_or(false),
        ..DpmSolver::default()
    });
    of_sigma(keys, call, sampler)
}

fn of_sigma(keys: &mut Keys<'_>, call: &Asked<'_>, sampler: Sampler) -> Result<Choice> {
    // The length of a list that only `set_timesteps` replaces.
    keys.drop(&["num_train_timesteps"]);
    let default = Edm::default();
    let edm = Edm {
        sigma_min: keys.number("sigma_min")?.unwrap_or(default.sigma_min),
        sigma_max: keys.number("sigma_max")?.unwrap_or(default.sigma_max),
        sigma_data: keys.number("sigma_data")?.unwrap_or(default.sigma_data),
        ..default
    };
    let rho = keys.number("rho")?.unwrap_or(7.0);
    let spacing = match keys.text("sigma_schedule")?.as_deref() {
        None | Some("karras") => Spacing::Karras {
            rho,
            sigma_min: None,
            sigma_max: None,
        },
        Some("exponential") => Spacing::Exponential {
            sigma_min: None,
            sigma_max: None,
        },
        Some(other) => {
            return Err(keys.refusal("sigma_schedule", &json!(other), "karras or exponential"));
        }
    };
    let negated = match keys.text("prediction_type")?.as_deref() {
        None | Some("epsilon") => false,
        Some("v_prediction") => true,
        Some(other) => {
            let expected = "epsilon or v_prediction";
            return Err(keys.refusal("prediction_type", &json!(other), expected));
        }
    };
    let grid = GridRules {
        to_first: ends_above(keys)?,
        ..GridRules::default()
    };
    let mut sample = SampleConfig {
        sampler,
        steps: Some(call.steps),
        spacing: Some(spacing),
        grid,
        ..SampleConfig::default()
    };
    hold(keys, &mut sample, false)?;
    Ok(Choice {
        process: Process::Edm(edm),
        meaning: Meaning::from(Prediction::Edm),
        sample,
        negated,
        flow_steps: flow::NETWORK_STEPS,
        told_whole: false,
    })
}
