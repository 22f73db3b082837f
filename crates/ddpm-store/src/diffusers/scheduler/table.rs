//! Tables of β, and what their networks predict.

use ddpm_diffusion::Meaning;
use ddpm_schedule::{Prediction, Process, ProcessConfig, ScheduleConfig, ScheduleKind};
use serde_json::json;

use crate::diffusers::keys::Keys;
use crate::error::Result;

/// A `beta_schedule` of so many steps: its kind, and its β where we have no kind for it; none for a name that diffusers
/// does not have.
#[must_use]
pub fn beta_schedule(name: &str, steps: usize) -> Option<(ScheduleKind, Option<Vec<f64>>)> {
    let ours = |kind| Some((kind, None));
    let listed = |alpha_bar: &dyn Fn(f64) -> f64| {
        Some((ScheduleKind::Custom, Some(of_signal(steps, alpha_bar))))
    };
    match name {
        "linear" => ours(ScheduleKind::Linear),
        "scaled_linear" => ours(ScheduleKind::ScaledLinear),
        "squaredcos_cap_v2" => ours(ScheduleKind::Cosine),
        "sigmoid" => ours(ScheduleKind::SigmoidBeta),
        "exp" => listed(&|t| (-12.0 * t).exp()),
        "laplace" => listed(&|t| {
            let middle = 0.5 - t;
            let lambda = -0.5 * 1.0f64.copysign(middle) * (1.0 - 2.0 * middle.abs() + 1e-6).ln();
            let snr = lambda.exp();
            (snr / (1.0 + snr)).sqrt()
        }),
        _ => None,
    }
}

/// β of an ᾱ(t), at most 0.999.
fn of_signal(steps: usize, alpha_bar: &dyn Fn(f64) -> f64) -> Vec<f64> {
    let at = |t: usize| alpha_bar(t as f64 / steps as f64);
    (0..steps)
        .map(|t| (1.0 - at(t + 1) / at(t)).min(0.999))
        .collect()
}

/// `num_train_timesteps`, `beta_*`, `trained_betas` and `rescale_betas_zero_snr`.
pub(super) fn schedule(keys: &mut Keys<'_>) -> Result<ScheduleConfig> {
    let default = ScheduleConfig::default();
    let steps = keys.count("num_train_timesteps")?.unwrap_or(default.steps);
    let name = keys.text("beta_schedule")?;
    let name = name.as_deref().unwrap_or("linear");
    let (kind, betas) = match keys.numbers("trained_betas")? {
        // diffusers does not look at the name where β are listed.
        Some(betas) => (ScheduleKind::Custom, Some(betas)),
        None => beta_schedule(name, steps.min(MOST_STEPS)).ok_or_else(|| {
            let expected = "linear, scaled_linear, squaredcos_cap_v2, sigmoid, exp, laplace or a list of trained_betas";
            keys.refusal("beta_schedule", &json!(name), expected)
        })?,
    };
    let listed = betas.as_ref().map_or(steps, Vec::len);
    if listed != steps && steps <= MOST_STEPS {
        let expected = "the number of trained_betas";
        return Err(keys.refusal("num_train_timesteps", &json!(steps), expected));
    }
    Ok(ScheduleConfig {
        kind,
        steps,
        beta_start: keys.number("beta_start")?.unwrap_or(default.beta_start),
        beta_end: keys.number("beta_end")?.unwrap_or(default.beta_end),
        betas,
        zero_terminal_snr: keys.boolean("rescale_betas_zero_snr")?.unwrap_or(false),
        ..default
    })
}

/// More than any table has: what a file may ask for before it is refused.
pub(super) const MOST_STEPS: usize = 10_000;

/// The table of a scheduler.
pub(super) fn process(keys: &mut Keys<'_>) -> Result<Process> {
    let config = schedule(keys)?;
    keys.made(ProcessConfig::Discrete {}.build(&config))
}

/// `prediction_type`; `flows` is whether one of rectified flow has a meaning.
pub(super) fn meaning(keys: &mut Keys<'_>, flows: bool) -> Result<Meaning> {
    let prediction = match keys.text("prediction_type")?.as_deref() {
        None | Some("epsilon") => Prediction::Eps,
        Some("sample" | "original_sample") => Prediction::X0,
        Some("v_prediction") => Prediction::V,
        Some("flow_prediction") if flows => Prediction::Velocity,
        Some(other) => {
            let expected = match flows {
                true => "epsilon, sample, v_prediction or flow_prediction",
                false => "epsilon, sample or v_prediction",
            };
            return Err(keys.refusal("prediction_type", &json!(other), expected));
        }
    };
    Ok(Meaning::from(prediction))
}
