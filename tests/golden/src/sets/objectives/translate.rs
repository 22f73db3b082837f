//! The options of training programs in our terms.

use anyhow::bail;
use ddpm_diffusion::{Bound, BoundRules, ObjectiveConfig, Variance};
use ddpm_schedule::{
    Edm, Flow, Prediction, Process, ScheduleConfig, ScheduleKind, TimeLaw, Weighting,
};
use serde_json::json;

use super::Asked;
use crate::keys::{Keys, needed, unsupported};
use crate::source::Source;

/// A case of a program that computes `kind`.
pub(super) fn read(
    source: &Source,
    name: &str,
    kind: &str,
    case: &mut Keys,
) -> anyhow::Result<Asked> {
    match kind {
        "training_losses" => openai(source, name, case),
        "p_losses" => lucidrains(source, name, case),
        "Denoiser.loss" => k_diffusion(source, name, case),
        "EDMLoss around EDMPrecond whose raw network gives out" | "EDM2Loss" => {
            edm(source, kind, case)
        }
        "rectified flow" => flow(source, case),
        other => Err(unsupported(
            "objective",
            &json!(other),
            "one that is known here",
        )),
    }
}

fn table(kind: ScheduleKind, steps: usize, scale_ends: bool) -> anyhow::Result<Process> {
    let config = ScheduleConfig {
        kind,
        steps,
        scale_ends,
        ..ScheduleConfig::default()
    };
    Ok(Process::Discrete(config.build()?))
}

fn asked(process: Process, objective: ObjectiveConfig, times: Vec<f64>) -> Asked {
    Asked {
        process,
        output: if objective.variance.is_learned() {
            "out6"
        } else {
            "out"
        },
        objective,
        times,
        offset: None,
        uncertainty: None,
    }
}

fn times(source: &Source, name: &str) -> anyhow::Result<Vec<f64>> {
    Ok(source.tensor(&format!("{name}_t"))?.values.clone())
}

/// OpenAI's improved-diffusion and the programs made from it.
fn openai(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<Asked> {
    let steps = needed(case.count("T"), "T")?;
    let process = match &*needed(case.text("schedule"), "schedule")? {
        "linear" => table(ScheduleKind::Linear, steps, true)?,
        "cosine" => table(ScheduleKind::Cosine, steps, false)?,
        other => return Err(unsupported("schedule", &json!(other), "linear or cosine")),
    };
    let prediction = match &*needed(case.text("mean"), "mean")? {
        "EPSILON" => Prediction::Eps,
        "START_X" => Prediction::X0,
        "VELOCITY" => Prediction::V,
        other => {
            return Err(unsupported(
                "mean",
                &json!(other),
                "EPSILON, START_X or VELOCITY",
            ));
        }
    };
    let variance = match &*needed(case.text("variance"), "variance")? {
        "FIXED_SMALL" => Variance::FixedSmall,
        "FIXED_LARGE" => Variance::FixedLarge,
        "LEARNED_RANGE" => Variance::LearnedRange,
        "LEARNED" => Variance::Learned,
        other => {
            return Err(unsupported(
                "variance",
                &json!(other),
                "a fixed or a learned one",
            ));
        }
    };
    let learned = variance.is_learned();
    let hybrid = |weight| Bound::Hybrid {
        weight: Some(weight),
        rules: BoundRules::Openai,
    };
    let bound = match &*needed(case.text("loss_type"), "loss_type")? {
        "MSE" if learned => Some(hybrid(1.0)),
        "RESCALED_MSE" if learned => Some(hybrid(steps as f64 / 1000.0)),
        "MSE" | "RESCALED_MSE" => None,
        "KL" => Some(Bound::Vlb { weight: 1.0 }),
        "RESCALED_KL" => Some(Bound::Vlb {
            weight: steps as f64,
        }),
        other => {
            return Err(unsupported(
                "loss_type",
                &json!(other),
                "MSE or KL, rescaled or not",
            ));
        }
    };
    let mut options = case.object("options")?.unwrap_or_default();
    let mut objective = ObjectiveConfig {
        prediction: Some(prediction),
        variance,
        bound,
        input_perturbation: options.number("input_pertub")?.unwrap_or(0.0),
        ..ObjectiveConfig::default()
    };
    let (k, gamma) = (options.number("p2_k")?, options.number("p2_gamma")?);
    if let Some(gamma) = gamma {
        let k = k.unwrap_or(1.0);
        objective.weighting = Weighting::P2 { k, gamma };
    }
    if let Some(weighting) = options.text("mse_loss_weight_type")? {
        objective.weighting = min_snr(&weighting, prediction)?;
    }
    options.finish()?;
    Ok(asked(process, objective, times(source, name)?))
}

/// The weights of Min-SNR's own program.
fn min_snr(name: &str, prediction: Prediction) -> anyhow::Result<Weighting> {
    let number = |text: &str| -> anyhow::Result<f64> { Ok(text.parse()?) };
    if let Some(gamma) = name.strip_prefix("vmin_snr_") {
        return match prediction {
            Prediction::V => Ok(Weighting::MinSnr {
                gamma: number(gamma)?,
                as_eps: false,
            }),
            _ => bail!("{name} is a weight of v alone"),
        };
    }
    if let Some(gamma) = name.strip_prefix("min_snr_") {
        return Ok(Weighting::MinSnr {
            gamma: number(gamma)?,
            // It divides by SNR whatever but x0 is predicted.
            as_eps: prediction == Prediction::V,
        });
    }
    match (name, prediction) {
        ("constant", _) => Ok(Weighting::Simple {}),
        ("snr", Prediction::X0) => Ok(Weighting::Snr {}),
        ("trunc_snr", Prediction::X0 | Prediction::Eps) => Ok(Weighting::TruncatedSnr {}),
        _ => Err(unsupported(
            "mse_loss_weight_type",
            &json!(name),
            "a weight that is known here",
        )),
    }
}

/// lucidrains' denoising-diffusion-pytorch.
pub(super) fn lucidrains(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<Asked> {
    let mut options = case.object("options")?.unwrap_or_default();
    let mut extra = case.object("extra")?.unwrap_or_default();
    let steps = options.count("timesteps")?.unwrap_or(1000);
    let process = match options.text("beta_schedule")?.as_deref() {
        Some("linear") => table(ScheduleKind::Linear, steps, true)?,
        Some("cosine") => table(ScheduleKind::Cosine, steps, false)?,
        None | Some("sigmoid") => table(ScheduleKind::SigmoidAlphaBar, steps, false)?,
        Some(other) => {
            return Err(unsupported(
                "beta_schedule",
                &json!(other),
                "linear, cosine or sigmoid",
            ));
        }
    };
    let prediction = match options.text("objective")?.as_deref() {
        Some("pred_noise") => Prediction::Eps,
        Some("pred_x0") => Prediction::X0,
        None | Some("pred_v") => Prediction::V,
        Some(other) => {
            return Err(unsupported(
                "objective",
                &json!(other),
                "pred_noise, pred_x0 or pred_v",
            ));
        }
    };
    let gamma = options.number("min_snr_gamma")?.unwrap_or(5.0);
    let weighting = match (options.boolean("min_snr_loss_weight")?, prediction) {
        (Some(true), _) => Weighting::MinSnr {
            gamma,
            as_eps: false,
        },
        // Without it x0 and v count as the same error of ε does.
        (_, Prediction::Eps) => Weighting::Simple {},
        _ => Weighting::Snr {},
    };
    let learned = extra.boolean("learned")?.unwrap_or_default();
    let bound = learned.then_some(Bound::Hybrid {
        weight: Some(extra.number("vb_loss_weight")?.unwrap_or(0.001)),
        rules: BoundRules::Lucidrains,
    });
    let offset = options.number("offset_noise_strength")?.unwrap_or(0.0);
    let self_condition = extra.boolean("self_condition")?.unwrap_or_default();
    extra.drop(&["coin"]);
    options.finish()?;
    extra.finish()?;
    case.drop(&["model"]);
    let objective = ObjectiveConfig {
        prediction: Some(prediction),
        weighting,
        variance: if learned {
            Variance::LearnedRange
        } else {
            Variance::FixedSmall
        },
        bound,
        offset_noise: offset,
        self_condition: if self_condition { 0.5 } else { 0.0 },
        ..ObjectiveConfig::default()
    };
    let times = match source.tensor(&format!("{name}_t")) {
        Ok(times) => times.values.clone(),
        // A sampling run has none.
        Err(_) => Vec::new(),
    };
    let offset = match offset > 0.0 {
        true => Some((offset, source.tensor("offset")?.values.clone())),
        false => None,
    };
    Ok(Asked {
        offset,
        ..asked(process, objective, times)
    })
}

/// k-diffusion's losses on its F.
fn k_diffusion(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<Asked> {
    let sigma_data = needed(case.number("sigma_data"), "sigma_data")?;
    let weighting = match &*needed(case.text("weighting"), "weighting")? {
        "karras" => Weighting::Edm {},
        "soft-min-snr" => Weighting::SoftMinSnr {
            gamma: sigma_data.powi(-2),
        },
        "snr" => Weighting::Snr {},
        other => {
            return Err(unsupported(
                "weighting",
                &json!(other),
                "karras, soft-min-snr or snr",
            ));
        }
    };
    let process = Process::Edm(Edm {
        sigma_data,
        ..Edm::default()
    });
    let objective = ObjectiveConfig {
        weighting,
        ..ObjectiveConfig::default()
    };
    let sigmas = source.tensor(&format!("{name}_sigma"))?.values.clone();
    Ok(asked(process, objective, sigmas))
}

/// NVIDIA's EDM and EDM2.
fn edm(source: &Source, kind: &str, case: &mut Keys) -> anyhow::Result<Asked> {
    let mut options = case.object("options")?.unwrap_or_default();
    let default = match kind {
        // EDM2's own defaults.
        "EDM2Loss" => Edm {
            p_mean: -0.4,
            p_std: 1.0,
            ..Edm::default()
        },
        _ => Edm::default(),
    };
    let edm = Edm {
        p_mean: options.number("P_mean")?.unwrap_or(default.p_mean),
        p_std: options.number("P_std")?.unwrap_or(default.p_std),
        sigma_data: options.number("sigma_data")?.unwrap_or(default.sigma_data),
        ..default
    };
    options.finish()?;
    let times = source
        .tensor("n4")?
        .values
        .iter()
        .map(|&z| edm.sigma(z))
        .collect();
    let uncertainty = match kind {
        "EDM2Loss" => Some(
            source
                .tensor("u4")?
                .values
                .iter()
                .map(|u| 0.5 * u - 0.2)
                .collect(),
        ),
        _ => None,
    };
    Ok(Asked {
        uncertainty,
        ..asked(Process::Edm(edm), ObjectiveConfig::default(), times)
    })
}

/// Rectified flow by several laws of t.
fn flow(source: &Source, case: &mut Keys) -> anyhow::Result<Asked> {
    let mut options = case.object("options")?.unwrap_or_default();
    let times = match &*needed(options.text("t"), "t")? {
        "uniform" => TimeLaw::Uniform {},
        "logit_normal" => TimeLaw::LogitNormal {
            mean: options.number("mean")?.unwrap_or(0.0),
            std: options.number("std")?.unwrap_or(1.0),
        },
        "mode" => TimeLaw::Mode {
            scale: needed(options.number("scale"), "scale")?,
        },
        other => {
            return Err(unsupported(
                "t",
                &json!(other),
                "uniform, logit_normal or mode",
            ));
        }
    };
    let flow = Flow {
        shift: options.number("shift")?.unwrap_or(1.0),
        times,
        ..Flow::default()
    };
    options.finish()?;
    let drawn = match times {
        TimeLaw::LogitNormal { .. } => source
            .tensor("n4")?
            .values
            .iter()
            .map(|&z| flow.of_normal(z))
            .collect(),
        _ => source
            .tensor("u4")?
            .values
            .iter()
            .map(|&u| flow.draw(u))
            .collect(),
    };
    Ok(asked(
        Process::Flow(flow),
        ObjectiveConfig::default(),
        drawn,
    ))
}
