//! A checkpoint of the `Trainer` of denoising-diffusion-pytorch 2 (lucidrains): network, EMA and the tables of the
//! diffusion, of which schedule and prediction are recovered.

use ddpm_diffusion::sampler::ddpm::Ddpm;
use ddpm_diffusion::{Bound, BoundRules, ObjectiveConfig, SampleConfig, Sampler, Variance};
use ddpm_schedule::{
    Prediction, ProcessConfig, Schedule, ScheduleConfig, ScheduleError, ScheduleKind,
};
use ddpm_store::NamedTensor;
use ddpm_store::torch::{TorchFile, Value};
use ddpm_unet::foreign::lucidrains;
use ddpm_unet::{LucidrainsConfig, UnetError};
use serde_json::json;

use super::{ImportOptions, Imported, Network, Origin, Setting, sections, size, word};
use crate::error::ModelError;

const PROGRAM: &str = "denoising-diffusion-pytorch";
/// Of β against the table of a known kind: its sigmoid is computed with ends in f32, which the last steps tell.
const OF_BETA: f64 = 2e-3;
/// Of the weights of the loss against those of a prediction.
const OF_WEIGHT: f64 = 0.05;
/// What its training shows the network of its own estimate, and how much its variational bound counts.
const SELF_CONDITION: f64 = 0.5;
const BOUND: f64 = 0.001;

pub(super) fn read(
    file: &TorchFile,
    model: Value<'_>,
    options: &ImportOptions,
) -> Result<Imported, ModelError> {
    options.only_size(PROGRAM)?;
    let refuse = |problem: String| ModelError::Format {
        path: file.path().to_owned(),
        problem,
    };
    let root = file.root();
    let version = root.get("version").and_then(Value::text);
    if let Some(version) = version.filter(|version| !version.starts_with("2.")) {
        let shown: String = version.chars().take(20).collect();
        return Err(refuse(format!(
            "version {shown:?} of {PROGRAM} wrote it; networks of its version 2 are read"
        )));
    }
    let network = |tensors: Vec<NamedTensor>| {
        let tensors = tensors.into_iter();
        let tensors = tensors.map(|tensor| (tensor.name, tensor.shape, tensor.data));
        let found = lucidrains::network(tensors);
        let (config, weights) = found.map_err(|error: UnetError| refuse(error.to_string()))?;
        let weights = weights.into_iter();
        let weights = weights.map(|(name, shape, data)| NamedTensor { name, shape, data });
        Ok::<_, ModelError>((config, weights.collect::<Vec<_>>()))
    };
    let (config, weights) = network(below(file, model, "model.")?)?;
    let averaged = match root.get("ema") {
        Some(ema) => below(file, ema, "ema_model.model.")?,
        None => Vec::new(),
    };
    let ema = match averaged.is_empty() {
        true => Vec::new(),
        false => {
            let (of_ema, ema) = network(averaged)?;
            if of_ema != config {
                let problem =
                    "its EMA is of another network than its `model`; the file was altered";
                return Err(refuse(problem.into()));
            }
            ema
        }
    };
    let (channels, self_condition, learned) = meaning(&config).map_err(refuse)?;
    let buffer = |name: &str| -> Result<Vec<f64>, ModelError> {
        let found = below(file, model, name)?;
        let found = found.into_iter().find(|tensor| tensor.name.is_empty());
        let found = found.ok_or_else(|| {
            refuse(format!(
                "its `model` has no `{name}`, which {PROGRAM} keeps with a network that it trains by `GaussianDiffusion`"
            ))
        })?;
        Ok(found.data.into_iter().map(f64::from).collect())
    };
    let schedule = schedule(buffer("betas")?);
    let table = schedule.build().map_err(|source: ScheduleError| {
        refuse(format!("its `betas` are no noise schedule: {source}"))
    })?;
    let prediction = prediction(&table, &buffer("loss_weight")?).ok_or_else(|| {
        refuse(
            "its `loss_weight` is not that of one objective of that program (pred_noise, pred_x0, pred_v)"
                .into(),
        )
    })?;
    let (size, size_origin) = size(file.path(), options.size, None)?;

    let with_variance = ObjectiveConfig {
        variance: Variance::LearnedRange,
        bound: Some(Bound::Hybrid {
            weight: Some(BOUND),
            rules: BoundRules::Lucidrains,
        }),
        ..ObjectiveConfig::default()
    };
    let objective = ObjectiveConfig {
        prediction: Some(prediction),
        self_condition: if self_condition { SELF_CONDITION } else { 0.0 },
        ..match learned {
            true => with_variance,
            false => ObjectiveConfig::default(),
        }
    };
    let sample = SampleConfig {
        sampler: Sampler::Ddpm(Ddpm::default()),
        steps: Some(schedule.steps),
        ..SampleConfig::default()
    };
    let settings = vec![
        Setting::new("version", version.unwrap_or("2, by its form"), Origin::Read),
        Setting::new(
            "image size",
            format!("{}x{}", size[0], size[1]),
            size_origin,
        ),
        Setting::new(
            "variance",
            if learned { "learned" } else { "fixed, small" },
            if learned { Origin::Read } else { Origin::Taken },
        ),
        Setting::new("self-condition", self_condition, Origin::Read),
        Setting::new("diffusion steps", schedule.steps, Origin::Read),
        Setting::new("schedule", word(schedule.kind), Origin::Read),
        Setting::new("prediction", word(prediction), Origin::Read),
        Setting::new(
            "weights",
            if ema.is_empty() {
                "model"
            } else {
                "model and ema"
            },
            Origin::Read,
        ),
        Setting::new(
            "sampler",
            format!("ddpm, {} steps", schedule.steps),
            Origin::Taken,
        ),
    ];
    let mut json = config.to_json();
    json.insert("_class_name".into(), json!("LucidrainsUNet"));
    let step = root.get("step").and_then(Value::int);
    Ok(Imported {
        source: file.path().to_owned(),
        program: PROGRAM,
        settings,
        network: Network {
            channels,
            config: json,
            weights,
            ema,
            step: step.and_then(|step| u64::try_from(step).ok()),
        },
        sections: sections(ProcessConfig::Discrete {}, schedule, objective, sample),
        size,
    })
}

/// The tensors of a state dict whose names begin with `prefix`, without it.
fn below(file: &TorchFile, dict: Value<'_>, prefix: &str) -> Result<Vec<NamedTensor>, ModelError> {
    let mut found = Vec::new();
    for tensor in dict.tensors()? {
        if let Some(name) = tensor.name.strip_prefix(prefix) {
            let name = name.to_owned();
            let read = file.read(&tensor)?;
            found.push(NamedTensor { name, ..read });
        }
    }
    Ok(found)
}

/// Channels of an image, whether the input has as many for a self-condition, and the output as many for the variance.
/// The program has no network with both.
fn meaning(config: &LucidrainsConfig) -> Result<(usize, bool, bool), String> {
    let (taken, given) = (config.in_channels, config.out_channels);
    if taken == given {
        return Ok((taken, false, false));
    }
    if taken == 2 * given {
        return Ok((given, true, false));
    }
    if given == 2 * taken {
        return Ok((taken, false, true));
    }
    Err(format!(
        "the network takes {taken} channels and gives {given}; as many should come out of it, twice as many with a \
         learned variance, or half as many with a self-condition"
    ))
}

/// The kind of schedule that makes these β, or a list of them.
fn schedule(betas: Vec<f64>) -> ScheduleConfig {
    let steps = betas.len();
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= OF_BETA * b + 1e-7;
    let known = [
        ScheduleKind::Linear,
        ScheduleKind::Cosine,
        ScheduleKind::SigmoidAlphaBar,
    ];
    let known = known.into_iter().map(|kind| ScheduleConfig {
        kind,
        steps,
        // 1e-4 and 0.02 are those of 1000 steps.
        scale_ends: kind == ScheduleKind::Linear && steps != 1000,
        ..ScheduleConfig::default()
    });
    let mut fitting = known.filter(|schedule| {
        let table = schedule.build();
        table.is_ok_and(|table| betas.iter().zip(table.betas()).all(near))
    });
    fitting.next().unwrap_or_else(|| ScheduleConfig {
        kind: ScheduleKind::Custom,
        steps,
        betas: Some(betas),
        ..ScheduleConfig::default()
    })
}

/// What a network predicts whose losses were weighted so: with c = min(SNR, γ), by c/SNR where it predicts ε, c where x0,
/// and c/(SNR + 1) where v, γ of Min-SNR (Hang et al. 2023) or infinite.
fn prediction(table: &Schedule, weights: &[f64]) -> Option<Prediction> {
    type Factor = fn(f64) -> f64;
    if weights.len() != table.len() {
        return None;
    }
    let each = weights.iter().copied().enumerate();
    let each = each.map(|(t, weight)| (weight, table.snr(t)));
    // Where no signal is left all weights are alike.
    let each: Vec<(f64, f64)> = each.filter(|(_, snr)| *snr > 0.0).collect();
    let fits = |factor: Factor| {
        let clipped = |&(weight, snr): &(f64, f64)| weight * factor(snr);
        let gamma = each.iter().map(clipped).fold(0.0, f64::max);
        each.iter().all(|pair| {
            let (got, expected) = (clipped(pair), pair.1.min(gamma));
            (got - expected).abs() <= OF_WEIGHT * expected
        })
    };
    let candidates: [(Prediction, Factor); 3] = [
        (Prediction::Eps, |snr| snr),
        (Prediction::X0, |_| 1.0),
        (Prediction::V, |snr| snr + 1.0),
    ];
    let mut fitting = candidates.into_iter().filter(|(_, factor)| fits(*factor));
    // Of a few steps more than one may fit.
    match (fitting.next(), fitting.next()) {
        (Some((prediction, _)), None) => Some(prediction),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lucidrains_schedules_are_known_by_their_betas() {
        let f32s = |betas: &[f64]| {
            betas
                .iter()
                .map(|&b| f64::from(b as f32))
                .collect::<Vec<_>>()
        };
        for kind in [
            ScheduleKind::Linear,
            ScheduleKind::Cosine,
            ScheduleKind::SigmoidAlphaBar,
        ] {
            for steps in [1000, 300] {
                let config = ScheduleConfig {
                    kind,
                    steps,
                    scale_ends: kind == ScheduleKind::Linear && steps != 1000,
                    ..ScheduleConfig::default()
                };
                let found = schedule(f32s(config.build().unwrap().betas()));
                assert_eq!(found, config);
            }
        }
        let steep = ScheduleConfig {
            kind: ScheduleKind::SigmoidAlphaBar,
            sigmoid_tau: 0.5,
            ..ScheduleConfig::default()
        };
        let found = schedule(f32s(steep.build().unwrap().betas()));
        assert_eq!(found.kind, ScheduleKind::Custom);
        assert_eq!(found.build().unwrap().len(), 1000);
        assert!(schedule(Vec::new()).build().is_err());
        assert!(schedule(vec![0.1, f64::NAN]).build().is_err());
    }

    #[test]
    fn lucidrains_objectives_are_known_by_the_weights_of_their_loss() {
        type Weight = fn(f64, f64) -> f64;
        let weights: [(Prediction, Weight); 3] = [
            (Prediction::Eps, |snr, gamma| snr.min(gamma) / snr),
            (Prediction::X0, |snr, gamma| snr.min(gamma)),
            (Prediction::V, |snr, gamma| snr.min(gamma) / (snr + 1.0)),
        ];
        for kind in [
            ScheduleKind::Linear,
            ScheduleKind::Cosine,
            ScheduleKind::SigmoidAlphaBar,
        ] {
            let config = ScheduleConfig {
                kind,
                ..ScheduleConfig::default()
            };
            let table = config.build().unwrap();
            for (expected, weight) in weights {
                for gamma in [f64::INFINITY, 5.0] {
                    let weights = (0..1000).map(|t| weight(table.snr(t), gamma));
                    let mut weights: Vec<f64> = weights.map(|w| f64::from(w as f32)).collect();
                    assert_eq!(
                        prediction(&table, &weights),
                        Some(expected),
                        "{kind:?} {gamma}"
                    );
                    weights[500] *= 2.0;
                    assert_eq!(prediction(&table, &weights), None);
                    weights.pop();
                    assert_eq!(prediction(&table, &weights), None);
                }
            }
        }
    }

    #[test]
    fn lucidrains_channels_say_variance_and_self_condition() {
        let of = |in_channels, out_channels| {
            let config = LucidrainsConfig {
                in_channels,
                out_channels,
                ..LucidrainsConfig::default()
            };
            meaning(&config).ok()
        };
        assert_eq!(of(3, 3), Some((3, false, false)));
        assert_eq!(of(6, 3), Some((3, true, false)));
        assert_eq!(of(3, 6), Some((3, false, true)));
        assert_eq!(of(3, 4), None);
    }
}
