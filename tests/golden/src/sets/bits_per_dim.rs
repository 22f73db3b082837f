//! Variational bounds term by term: of a closed-form network, and of trained ones.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::{DType, Device, Tensor};
use ddpm_diffusion::{
    BitsPerDim, Condition, Hold, Likelihood, Meaning, Network, NetworkError, VarianceOutput,
};
use ddpm_schedule::{
    GridConfig, GridRules, Prediction, Process, ScheduleConfig, ScheduleKind, Spacing, VarianceKind,
};
use ddpm_unet::{Model, NetworkCondition};
use serde_json::{Value, json};

use super::{Kind, networks};
use crate::Case;
use crate::compare::{difference, larger};
use crate::keys::{Keys, needed, unsupported};
use crate::source::{Series, Source, images};

pub(super) const KIND: Kind = Kind {
    name: "bits_per_dim",
    cases: closed,
};

pub(super) const OF_NETWORKS: Kind = Kind {
    name: "bits_per_dim2",
    cases: trained,
};

/// Theirs are float32 programs.
const LIMIT: f64 = 1e-4;

fn process(kind: &str, steps: usize) -> anyhow::Result<Process> {
    let kind = match kind {
        "linear" => ScheduleKind::Linear,
        "cosine" => ScheduleKind::Cosine,
        other => return Err(unsupported("schedule", &json!(other), "linear or cosine")),
    };
    let config = ScheduleConfig {
        kind,
        steps,
        scale_ends: kind == ScheduleKind::Linear,
        ..ScheduleConfig::default()
    };
    Ok(Process::Discrete(config.build()?))
}

/// What OpenAI's program calls a model's variance.
fn variance(name: &str) -> anyhow::Result<(VarianceKind, VarianceOutput)> {
    match &*name.to_uppercase() {
        "FIXED_SMALL" => Ok((VarianceKind::Small, VarianceOutput::None)),
        "FIXED_LARGE" => Ok((VarianceKind::Large, VarianceOutput::None)),
        "LEARNED_RANGE" => Ok((VarianceKind::Learned, VarianceOutput::Range)),
        "LEARNED" => Ok((VarianceKind::Learned, VarianceOutput::Log)),
        other => Err(unsupported(
            "variance",
            &json!(other),
            "a fixed or a learned one",
        )),
    }
}

/// eps = x·t/(t+1), and sin(3x) for the variance where it is learned.
fn closed(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases", "T", "respacing"]);
    let steps = source
        .json
        .get("T")
        .and_then(Value::as_u64)
        .context("`T` is missing")? as usize;
    let check = |name: &str, case: &mut Keys| {
        // The name says all: linear_fixed_small.
        let (schedule, kind) = name.split_once('_').context("its name says no schedule")?;
        let (variance, output) = variance(kind)?;
        let network = move |x: Tensor<4>, time: Tensor<1>, _: &Condition| {
            let [batch, ..] = x.dims();
            let ratio = time.clone() / (time + 1.0);
            let eps = x.clone() * ratio.reshape([batch, 1, 1, 1]);
            Ok::<_, NetworkError>(match output {
                VarianceOutput::None => eps,
                _ => Tensor::cat(vec![eps, (x * 3.0).sin()], 1),
            })
        };
        compare(
            &source,
            name,
            case,
            &process(schedule, steps)?,
            (variance, output),
            Prediction::Eps,
            &network,
        )
    };
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    cases.extend(source.cases(
        "respacing",
        &["T", "spec"],
        |_| 0.0,
        |_, case| respaced(case),
    ));
    Ok(cases)
}

/// The steps that OpenAI's program chooses: of each section, or DDIM's.
fn respaced(case: &mut Keys) -> anyhow::Result<f64> {
    let total = needed(case.count("T"), "T")?;
    let spec = needed(case.text("spec"), "spec")?;
    let theirs = needed(case.counts("steps"), "steps")?;
    let counts: Result<Vec<usize>, _> = spec
        .trim_start_matches("ddim")
        .split(',')
        .map(str::parse)
        .collect();
    let Ok(counts) = counts else {
        let expected = "numbers of steps, or ddim and a number";
        return Err(unsupported("spec", &json!(spec), expected));
    };
    let count = counts.iter().sum();
    let spacing = match spec.starts_with("ddim") {
        // Multiples of a stride from 0.
        true => Spacing::Leading {},
        false => Spacing::Sections { counts },
    };
    let grid = GridConfig {
        spacing,
        steps: count,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(&process("linear", total)?)?;
    let mut ours: Vec<f64> = grid.legs().iter().map(|leg| leg.from.time).collect();
    ours.reverse();
    let theirs: Vec<f64> = theirs.into_iter().map(|t| t as f64).collect();
    Ok(difference(&ours, &theirs))
}

/// A network with the times of its training program.
struct Timed {
    model: Model,
    scale: f64,
}

impl Network for Timed {
    fn forward(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        _: &Condition,
    ) -> Result<Tensor<4>, NetworkError> {
        Ok(self
            .model
            .forward(x, time * self.scale, NetworkCondition::default(), None)?)
    }
}

fn trained(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let root: PathBuf = path.parent().unwrap_or(path).to_owned();
    let check = |name: &str, case: &mut Keys| {
        let folder = root.join(needed(case.text("network"), "network")?);
        let steps = needed(case.count("T"), "T")?;
        let process = process(&needed(case.text("schedule"), "schedule")?, steps)?;
        let kind = variance(&needed(case.text("variance"), "variance")?)?;
        let prediction = match &*needed(case.text("mean"), "mean")? {
            "EPSILON" => Prediction::Eps,
            "START_X" => Prediction::X0,
            other => return Err(unsupported("mean", &json!(other), "EPSILON or START_X")),
        };
        let scale = match &*needed(case.text("time_to_network"), "time_to_network")? {
            "1000/T * t" => 1000.0 / steps as f64,
            "t = 0..T-1" => 1.0,
            other => {
                return Err(unsupported(
                    "time_to_network",
                    &json!(other),
                    "1000/T * t or t = 0..T-1",
                ));
            }
        };
        let model = networks::open(&folder, &Device::flex())?;
        compare(
            &source,
            name,
            case,
            &process,
            kind,
            prediction,
            &Timed { model, scale },
        )
    };
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}

fn compare(
    source: &Source,
    name: &str,
    case: &mut Keys,
    process: &Process,
    (variance, output): (VarianceKind, VarianceOutput),
    prediction: Prediction,
    network: &dyn Network,
) -> anyhow::Result<f64> {
    let likelihood = Likelihood {
        process,
        meaning: Meaning {
            prediction,
            variance: output,
            self_condition: false,
        },
        variance,
        hold: match case.boolean("clip_denoised")?.unwrap_or(true) {
            true => Hold::Clip(1.0),
            false => Hold::Free,
        },
    };
    let x0 = source.tensor("x0")?.images(DType::F32)?;
    let noise = source.tensor("noise")?;
    let missing = RefCell::new(None);
    let mut draw = |t: usize| match noise.at(t) {
        Ok(values) => images(values, x0.dims(), DType::F32),
        Err(error) => {
            *missing.borrow_mut() = Some(error);
            x0.zeros_like()
        }
    };
    let mut watch = |_, _| ControlFlow::Continue(());
    let found =
        likelihood.bits_per_dim(network, &x0, &Condition::default(), &mut draw, &mut watch)?;
    if let Some(error) = missing.into_inner() {
        return Err(error);
    }
    let total = needed(case.numbers("total_bpd"), "total_bpd")?;
    let prior = needed(case.numbers("prior_bpd"), "prior_bpd")?;
    let mut worst = larger(
        difference(&found.total(), &total),
        difference(&found.prior, &prior),
    );
    let BitsPerDim {
        terms,
        x0_error,
        eps_error,
        ..
    } = &found;
    for (suffix, ours) in [("vb", terms), ("xstart_mse", x0_error), ("mse", eps_error)] {
        let theirs = source.tensor(&format!("{name}_{suffix}"))?;
        worst = larger(worst, rows(ours, theirs)?);
    }
    Ok(worst)
}

/// Ours is by step, theirs by image.
fn rows(ours: &[Vec<f64>], theirs: &Series) -> anyhow::Result<f64> {
    let mut worst = 0.0;
    for image in 0..theirs.len() {
        let ours: Vec<f64> = ours
            .iter()
            .filter_map(|step| step.get(image).copied())
            .collect();
        worst = larger(worst, difference(&ours, theirs.at(image)?));
    }
    Ok(worst)
}
