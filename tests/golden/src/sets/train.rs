//! Twenty optimiser steps: losses, gradient norms, learning rates, and the weights at the end.

use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_diffusion::{Condition, ObjectiveConfig, Variance};
use ddpm_schedule::{Edm, Flow, Prediction, Process, ScheduleConfig, Weighting};
use ddpm_store::DiffusersModel;
use ddpm_train::{Decay, EmaConfig, MicroBatch, OptimConfig, OptimKind, StepConfig, TrainState};
use ddpm_unet::{Model, Precision, params};
use serde_json::{Value, json};

use super::{Kind, networks};
use crate::Case;
use crate::compare::relative;
use crate::keys::{Keys, needed, unsupported};
use crate::source::{Series, Source};

pub(super) const FIRST: Kind = Kind {
    name: "train/*",
    cases,
};

pub(super) const SECOND: Kind = Kind {
    name: "train2/*",
    cases,
};

/// Rounding alone moves figures of the last steps by up to some 10⁻⁴ of themselves (`float64` in the files); Adam turns
/// a gradient that is 0 in exact arithmetic into steps of random sign.
const LIMIT: f64 = 1e-3;

fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let curve = Source::open(&folder.join("curve"))?;
    let batches = Source::tensors(&folder.join("batches"))?;
    let run = Run::of(folder, &curve, &batches)?;
    let found = run.train()?;
    let theirs = |key: &str| -> anyhow::Result<Vec<f64>> {
        let list = curve.json.get(key).and_then(Value::as_array);
        let list = list.with_context(|| format!("`{key}` is missing"))?;
        Ok(list.iter().filter_map(Value::as_f64).collect())
    };
    let mut cases = Vec::new();
    for (key, ours) in [
        ("loss", &found.loss),
        ("grad_norm_before_clip", &found.norm),
        ("lr", &found.lr),
        ("ema_decay", &found.decay),
    ] {
        let compared = theirs(key).map(|theirs| relative(ours, &theirs));
        cases.push(Case::new(key, LIMIT, compared));
    }
    for (name, ours) in [("end", &found.model), ("end_ema", &found.ema)] {
        cases.push(Case::new(name, LIMIT, distance(ours, &folder.join(name))));
    }
    // It must be able to tell: the network has moved by far more than the limit.
    let moved = distance(&found.model, &folder.join("start"))?;
    let still = if moved > 10.0 * LIMIT {
        0.0
    } else {
        f64::INFINITY
    };
    cases.push(Case::new("moved", 0.0, Ok(still)));
    Ok(cases)
}

/// ‖ours - theirs‖/‖theirs‖ over all parameters together.
fn distance(ours: &[(String, TensorData)], folder: &Path) -> anyhow::Result<f64> {
    let theirs = DiffusersModel::read(folder)?.tensors.tensors;
    anyhow::ensure!(
        ours.len() == theirs.len(),
        "{} parameters, not {}",
        theirs.len(),
        ours.len()
    );
    let (mut difference, mut size) = (0.0, 0.0);
    for tensor in &theirs {
        let found = ours.iter().find(|(name, _)| *name == tensor.name);
        let (_, data) = found.with_context(|| format!("no parameter {}", tensor.name))?;
        let data: Vec<f32> = data.iter::<f32>().collect();
        anyhow::ensure!(
            data.len() == tensor.data.len(),
            "{} is of another size",
            tensor.name
        );
        for (a, b) in data.iter().zip(&tensor.data) {
            difference += f64::from(a - b).powi(2);
            size += f64::from(*b).powi(2);
        }
    }
    Ok((difference / size).sqrt())
}

struct Run<'a> {
    model: Model,
    config: StepConfig,
    x0: Images<'a>,
    eps: Images<'a>,
    times: &'a Series,
    labels: Option<Vec<i64>>,
    device: Device,
}

#[derive(Default)]
struct Found {
    loss: Vec<f64>,
    norm: Vec<f64>,
    lr: Vec<f64>,
    decay: Vec<f64>,
    model: Vec<(String, TensorData)>,
    ema: Vec<(String, TensorData)>,
}

/// `[steps, batch, …]` or `[steps, parts, batch, …]`.
struct Images<'a> {
    series: &'a Series,
    bytes: bool,
}

impl Images<'_> {
    fn parts(&self) -> usize {
        match self.series.shape.len() {
            6 => self.series.shape[1],
            _ => 1,
        }
    }

    fn at(&self, step: usize, part: usize, device: &Device) -> anyhow::Result<Tensor<4>> {
        let shape: [usize; 4] = self.series.shape[self.series.shape.len() - 4..].try_into()?;
        let size: usize = shape.iter().product();
        let values = self.series.at(step)?[part * size..(part + 1) * size].iter();
        let scaled = |&value: &f64| match self.bytes {
            true => (value / 127.5 - 1.0) as f32,
            false => value as f32,
        };
        let data = TensorData::new(values.map(scaled).collect::<Vec<f32>>(), shape);
        Ok(Tensor::from_data(data, device))
    }
}

impl<'a> Run<'a> {
    fn of(folder: &Path, curve: &Source, batches: &'a Source) -> anyhow::Result<Self> {
        let device = Device::flex().autodiff();
        let mut keys = Keys::new(curve.json.clone());
        let (process, objective) = objective(&mut keys)?;
        let optim = optim(&mut keys)?;
        let x0 = batches.tensor("x0")?;
        let config = StepConfig {
            seed: 0,
            objective: objective.build(&process)?,
            process,
            optim,
            ema: ema(&mut keys)?,
            total_steps: x0.len() as u64,
            precision: Precision::F32,
            recompute: false,
            capture: true,
        };
        let null = keys
            .object("objective")?
            .map(|mut objective| objective.count("classes"))
            .transpose()?
            .flatten();
        Ok(Self {
            model: networks::open(&folder.join("start"), &device)?,
            config,
            x0: Images {
                series: x0,
                bytes: x0.is_bytes,
            },
            eps: Images {
                series: batches.tensor("eps")?,
                bytes: false,
            },
            times: batches.tensor("t")?,
            labels: match batches.tensor("labels") {
                Err(_) => None,
                Ok(labels) => {
                    let drop = batches.tensor("drop")?;
                    let null = null.context("`objective.classes` is missing")? as f64;
                    let pairs = labels.values.iter().zip(&drop.values);
                    let told = pairs.map(|(&label, &drop)| if drop == 0.0 { label } else { null });
                    Some(told.map(|label| label as i64).collect())
                }
            },
            device,
        })
    }

    fn train(self) -> anyhow::Result<Found> {
        let mut state = TrainState::new(self.model);
        let mut found = Found::default();
        let parts = self.x0.parts();
        for step in 0..self.x0.series.len() {
            let mut all = Vec::new();
            for part in 0..parts {
                let x0 = self.x0.at(step, part, &self.device)?;
                let [batch, ..] = x0.dims();
                let of_step = self.times.at(step)?;
                let rows = part * batch..(part + 1) * batch;
                let labels = self.labels.as_ref().map(|labels| {
                    let first = (step * parts + part) * batch;
                    let labels = &labels[first..first + batch];
                    Tensor::from_data(labels, &self.device)
                });
                all.push(MicroBatch {
                    x0,
                    noise: self.eps.at(step, part, &self.device)?,
                    input_noise: None,
                    counts: None,
                    uncertainty: None,
                    times: of_step[rows].to_vec(),
                    condition: Condition::of_labels(labels),
                    first_row: (part * batch) as u64,
                });
            }
            let (next, report) = state.step(all, &self.config)?;
            state = next;
            found.loss.push(report.loss);
            found.norm.push(report.grad_norm);
            found.lr.push(report.lr);
            found.decay.push(report.ema_decay);
        }
        found.model = params::export(&state.model);
        found.ema = params::export(&state.ema_model());
        Ok(found)
    }
}

/// Table and objective, as a curve tells them.
fn objective(keys: &mut Keys) -> anyhow::Result<(Process, ObjectiveConfig)> {
    let table = |steps: usize| -> anyhow::Result<Process> {
        let config = ScheduleConfig {
            steps,
            ..ScheduleConfig::default()
        };
        Ok(Process::Discrete(config.build()?))
    };
    let config = ObjectiveConfig::default();
    let Some(kind) = keys.text("kind")? else {
        // The first series: a prediction and a weighting of the usual table.
        let prediction = prediction(keys.text("prediction")?)?;
        let weighting = match keys.number("min_snr_gamma")? {
            None => Weighting::Simple {},
            Some(gamma) => Weighting::MinSnr {
                gamma,
                as_eps: false,
            },
        };
        let objective = ObjectiveConfig {
            prediction: Some(prediction),
            weighting,
            ..config
        };
        return Ok((table(1000)?, objective));
    };
    let says = keys.peek("objective").and_then(Value::as_object).cloned();
    let mut says = Keys::new(says.context("`objective` is missing")?);
    says.drop(&["loss", "program", "time_to_network", "classes", "drop"]);
    let steps = says.count("T")?.unwrap_or(1000);
    match says.text("schedule")?.as_deref() {
        None | Some("linear") => {}
        Some(other) => return Err(unsupported("objective.schedule", &json!(other), "linear")),
    }
    let found = match &*kind {
        "class" => {
            let prediction = prediction(says.text("prediction")?)?;
            let objective = ObjectiveConfig {
                prediction: Some(prediction),
                ..config
            };
            (table(steps)?, objective)
        }
        "learned_range" => {
            let mean = says.text("mean")?;
            let rescale = says.boolean("rescale")?;
            anyhow::ensure!(
                mean.as_deref() == Some("EPSILON") && rescale != Some(true),
                "only EPSILON with times that are not rescaled has a meaning here"
            );
            let objective = ObjectiveConfig {
                variance: Variance::LearnedRange,
                ..config
            };
            (table(steps)?, objective)
        }
        "flow" => {
            // The times are given, already drawn and shifted.
            says.drop(&["t", "mean", "std", "scale", "shift"]);
            (Process::Flow(Flow::default()), config)
        }
        "edm" => {
            says.drop(&["P_mean", "P_std"]);
            let edm = Edm {
                sigma_data: needed(says.number("sigma_data"), "sigma_data")?,
                ..Edm::default()
            };
            (Process::Edm(edm), config)
        }
        other => {
            return Err(unsupported(
                "kind",
                &json!(other),
                "class, learned_range, flow or edm",
            ));
        }
    };
    says.finish()?;
    Ok(found)
}

fn prediction(name: Option<String>) -> anyhow::Result<Prediction> {
    match name.as_deref() {
        None | Some("epsilon") => Ok(Prediction::Eps),
        Some("sample") => Ok(Prediction::X0),
        Some("v_prediction") => Ok(Prediction::V),
        Some(other) => Err(unsupported(
            "prediction",
            &json!(other),
            "epsilon, sample or v_prediction",
        )),
    }
}

/// Numbers of a text, `lr 1e-3 betas .95 .999`, by the word before them.
fn after(text: &str, word: &str, count: usize) -> anyhow::Result<Vec<f64>> {
    let words = text.split([' ', ',', ';']).filter(|word| !word.is_empty());
    let numbers = words.skip_while(|found| *found != word).skip(1).take(count);
    let numbers: Vec<f64> = numbers.map(str::parse).collect::<Result<_, _>>()?;
    anyhow::ensure!(numbers.len() == count, "\"{text}\" says no {word}");
    Ok(numbers)
}

fn optim(keys: &mut Keys) -> anyhow::Result<OptimConfig> {
    let adamw = |lr, betas, eps, weight_decay| OptimConfig {
        kind: OptimKind::Adamw,
        lr,
        betas,
        eps,
        weight_decay,
        ..OptimConfig::default()
    };
    let said = match keys.take("optimizer") {
        Some(Value::String(text)) if text.starts_with("AdamW ") => {
            let one = |word| Ok::<_, anyhow::Error>(after(&text, word, 1)?[0]);
            let betas = after(&text, "betas", 2)?;
            adamw(
                one("lr")?,
                [betas[0], betas[1]],
                one("eps")?,
                one("weight_decay")?,
            )
        }
        Some(Value::Object(said)) => {
            let mut said = Keys::new(said);
            anyhow::ensure!(
                said.text("name")?.as_deref() == Some("AdamW"),
                "only AdamW is known here"
            );
            let betas = needed(said.numbers("betas"), "betas")?;
            let betas: [f64; 2] = betas.as_slice().try_into().context("two betas")?;
            let made = adamw(
                needed(said.number("lr"), "lr")?,
                betas,
                needed(said.number("eps"), "eps")?,
                needed(said.number("weight_decay"), "weight_decay")?,
            );
            said.finish()?;
            made
        }
        other => {
            return Err(unsupported(
                "optimizer",
                &other.into(),
                "AdamW and its numbers",
            ));
        }
    };
    // "cosine, 5 warm-up, 20 total"
    let schedule = needed(keys.text("lr_schedule"), "lr_schedule")?;
    let words: Vec<&str> = schedule.split(", ").collect();
    let warmup = words
        .iter()
        .find_map(|word| word.strip_suffix(" warm-up")?.parse().ok());
    let decay = match words.first() {
        Some(&"cosine") => Decay::Cosine,
        Some(&"linear") => Decay::Linear,
        Some(&"constant") => Decay::Constant,
        _ => {
            return Err(unsupported(
                "lr_schedule",
                &json!(schedule),
                "cosine, linear or constant",
            ));
        }
    };
    Ok(OptimConfig {
        warmup_steps: warmup.context("`lr_schedule` says no warm-up")?,
        decay,
        clip_norm: needed(keys.number("clip_global_norm"), "clip_global_norm")?,
        ..said
    })
}

fn ema(keys: &mut Keys) -> anyhow::Result<EmaConfig> {
    let law = |decay, inv_gamma, power| EmaConfig {
        decay,
        inv_gamma,
        power,
        min_decay: 0.0,
        ..EmaConfig::default()
    };
    match keys.take("ema") {
        Some(Value::String(text)) => {
            let one = |word| Ok::<_, anyhow::Error>(after(&text, word, 1)?[0]);
            Ok(law(one("decay")?, one("inv_gamma")?, one("power")?))
        }
        Some(Value::Object(said)) => {
            let mut said = Keys::new(said);
            said.drop(&["note"]);
            anyhow::ensure!(
                said.boolean("use_ema_warmup")? == Some(true),
                "only a decay with warm-up is known here"
            );
            let made = law(
                needed(said.number("decay"), "decay")?,
                needed(said.number("inv_gamma"), "inv_gamma")?,
                needed(said.number("power"), "power")?,
            );
            said.finish()?;
            Ok(made)
        }
        other => Err(unsupported("ema", &other.into(), "a decay with warm-up")),
    }
}
