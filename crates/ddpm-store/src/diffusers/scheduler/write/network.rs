//! What a network is, and what is done to x̂0, in diffusers' words.

use std::path::Path;

use ddpm_diffusion::{Hold, VarianceOutput};
use ddpm_schedule::{Prediction, ProcessConfig, ScheduleConfig, ScheduleError, ScheduleKind};
use serde_json::{Map, Value, json};

use crate::diffusers::keys::unsupported;
use crate::diffusers::scheduler::NetworkSettings;
use crate::error::Result;

/// Refuses networks that no scheduler of diffusers can drive.
///
/// # Errors   [`StoreError::Unsupported`](crate::StoreError) naming the key of the configuration
pub(super) fn check(path: &Path, network: &NetworkSettings) -> Result<()> {
    let meaning = network.meaning;
    let refuse = |key, value: Value, supported| Err(unsupported(path, key, &value, supported));
    if meaning.self_condition {
        let supported = "0: no scheduler of diffusers tells a network what it expected last";
        return refuse("objective.self_condition", json!(true), supported);
    }
    if meaning.variance == VarianceOutput::Log {
        let supported = "a range between two variances: diffusers has no other learned one";
        return refuse("objective.variance", json!("log"), supported);
    }
    if let Some(told) = network.schedule.network_steps {
        let supported = "unset: diffusers tells a network of the steps themselves";
        return refuse("schedule.network_steps", json!(told), supported);
    }
    let (known, supported): (&[Prediction], _) = match network.process {
        ProcessConfig::Discrete {} => (
            &[Prediction::Eps, Prediction::X0, Prediction::V],
            "eps, x0 or v: diffusers' tables have no other",
        ),
        ProcessConfig::Edm(_) => (
            &[Prediction::Edm],
            "edm: diffusers' EDM schedulers have no other",
        ),
        ProcessConfig::Flow(_) => (
            &[Prediction::Velocity],
            "velocity: diffusers' flow matching has no other",
        ),
        ProcessConfig::Vp(_) => {
            let supported = "discrete, edm or flow: diffusers has no scheduler that is told real-valued times of this process";
            return refuse("process.kind", json!("vp"), supported);
        }
    };
    match known.contains(&meaning.prediction) {
        true => Ok(()),
        false => refuse("objective.prediction", json!(meaning.prediction), supported),
    }
}

/// The keys of process and prediction, for a class that has the keys `known`.
///
/// # Errors   if the table is not valid
pub(super) fn keys(
    known: &Map<String, Value>,
    network: &NetworkSettings,
) -> Result<Map<String, Value>, ScheduleError> {
    let keys = match network.process {
        ProcessConfig::Discrete {} => {
            let mut keys = table(known, &network.schedule)?;
            let prediction = match network.meaning.prediction {
                Prediction::X0 => "sample",
                Prediction::V => "v_prediction",
                _ => "epsilon",
            };
            keys.insert("prediction_type".to_owned(), json!(prediction));
            return Ok(keys);
        }
        ProcessConfig::Edm(edm) => {
            json!({"sigma_min": edm.sigma_min, "sigma_max": edm.sigma_max, "sigma_data": edm.sigma_data})
        }
        ProcessConfig::Flow(flow) => json!({"shift": flow.shift}),
        ProcessConfig::Vp(_) => json!({}),
    };
    Ok(object(keys))
}

/// A table of β; what the class has no word for is listed.
fn table(
    known: &Map<String, Value>,
    config: &ScheduleConfig,
) -> Result<Map<String, Value>, ScheduleError> {
    let name = match config.kind {
        ScheduleKind::Linear => Some("linear"),
        ScheduleKind::ScaledLinear => Some("scaled_linear"),
        ScheduleKind::Cosine => Some("squaredcos_cap_v2"),
        // Only the scheduler of the paper that has it knows it.
        ScheduleKind::SigmoidBeta
            if known.contains_key("variance_type") && known.contains_key("clip_sample") =>
        {
            Some("sigmoid")
        }
        ScheduleKind::SigmoidBeta | ScheduleKind::SigmoidAlphaBar | ScheduleKind::Custom => None,
    };
    // diffusers rescales listed β too, so they are listed as they were before.
    let before_rescaling = ScheduleConfig {
        zero_terminal_snr: false,
        ..config.clone()
    };
    let listed = match name {
        None => Some(before_rescaling.build()?.betas().to_vec()),
        Some(_) => None,
    };
    let scale = match config.scale_ends {
        true => 1000.0 / config.steps as f64,
        false => 1.0,
    };
    Ok(object(json!({
        "num_train_timesteps": config.steps,
        "beta_start": config.beta_start * scale,
        "beta_end": config.beta_end * scale,
        "beta_schedule": name.unwrap_or("linear"),
        "trained_betas": listed,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
    })))
}

/// What is done to x̂0, for a class that has the keys `known`.
pub(super) fn hold(known: &Map<String, Value>, hold: Hold) -> Map<String, Value> {
    let clips = known.contains_key("clip_sample");
    object(match hold {
        Hold::Free => json!({"clip_sample": false}),
        Hold::Clip(range) if clips => json!({"clip_sample": true, "clip_sample_range": range}),
        // Thresholds of which the largest is 1 clamp to ±1.
        Hold::Clip(_) => json!({"thresholding": true, "sample_max_value": 1.0}),
        Hold::Threshold { ratio, most } => {
            json!({"thresholding": true, "dynamic_thresholding_ratio": ratio, "sample_max_value": most})
        }
    })
}

/// The keys of an object.
pub(super) fn object(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}
