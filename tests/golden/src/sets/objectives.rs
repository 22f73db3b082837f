//! Losses of single outputs and their gradients.

mod importance;
mod self_condition;
mod translate;

use std::path::Path;

use anyhow::Context;
use burn::tensor::{DType, Device, Tensor};
use ddpm_diffusion::{Objective, ObjectiveConfig};
use ddpm_schedule::{Level, Process};

use super::Kind;
use crate::Case;
use crate::compare::{difference, larger};
use crate::keys::{Keys, needed};
use crate::source::{Series, Source, images, values};

pub(super) const KIND: Kind = Kind {
    name: "objectives",
    cases,
};

/// Theirs are float32 programs; the largest losses are sums of some 10⁵ roundings.
const LIMIT: f64 = 2e-5;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let check = |name: &str, case: &mut Keys| {
        case.drop(&["program", "note", "x_t", "output"]);
        match &*needed(case.text("objective"), "objective")? {
            "LossSecondMomentResampler" => importance::check(&source, name, case),
            text if text.starts_with("ddim_sample with self-conditioning") => {
                self_condition::sampled(&source, name, text, case)
            }
            "p_losses" if case.peek("model").is_some_and(|model| !model.is_null()) => {
                self_condition::trained(&source, name, case)
            }
            kind => compare(&source, name, &translate::read(&source, name, kind, case)?),
        }
    };
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}

/// A case in our terms.
pub(crate) struct Asked {
    /// The process.
    pub process: Process,
    /// The objective.
    pub objective: ObjectiveConfig,
    /// One time an image.
    pub times: Vec<f64>,
    /// What is added to ε, one number a channel.
    pub offset: Option<(f64, Vec<f64>)>,
    /// The logarithm of each image's uncertainty.
    pub uncertainty: Option<Vec<f64>>,
    /// What a difference of the loss is divided by beyond its own size: a loss that is a difference of larger ones.
    pub output: &'static str,
}

/// Values as a tensor that has gradients.
fn tracked(series: &Series) -> anyhow::Result<Tensor<4>> {
    let device = Device::flex().autodiff();
    let plain = series.images(DType::F32)?;
    let data = plain
        .try_into_data()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Tensor::<4>::from_data(data, &device))
}

fn compare(source: &Source, name: &str, asked: &Asked) -> anyhow::Result<f64> {
    let objective = asked.objective.build(&asked.process)?;
    let x0 = tracked(source.tensor("x0")?)?;
    let mut eps = tracked(source.tensor("eps")?)?;
    if let Some((scale, offset)) = &asked.offset {
        let [batch, channels, ..] = eps.dims();
        let shift = images(offset, [batch, channels, 1, 1], DType::F32) * *scale;
        let data = shift
            .try_into_data()
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        eps = eps + Tensor::<4>::from_data(data, &Device::flex().autodiff());
    }
    let output = tracked(source.tensor(asked.output)?)?.require_grad();
    let mut target = objective.towards(&asked.process, x0.clone(), eps.clone(), &asked.times)?;
    let value = target.value.clone();
    let weights = numbers(target.weights.clone())?;
    let uncertainty = asked.uncertainty.as_ref().map(|logs| {
        let logs: Vec<f32> = logs.iter().map(|&log| log as f32).collect();
        Tensor::<1>::from_floats(logs.as_slice(), &Device::flex().autodiff()).require_grad()
    });
    target.uncertainty = uncertainty.clone();
    let loss = objective.loss(output.clone(), target)?;
    let mut worst = difference(
        &numbers(loss.per_image)?,
        &source.tensor(&format!("{name}_loss"))?.values,
    );
    let gradients = loss.loss.backward();
    let gradient = output.grad(&gradients).context("no gradient")?;
    let theirs = source.tensor(&format!("{name}_grad"))?;
    worst = larger(worst, difference(&values(&gradient)?, &theirs.values));
    if let Some(uncertainty) = uncertainty {
        let gradient = uncertainty.grad(&gradients).context("no gradient")?;
        let theirs = source.tensor(&format!("{name}_logvar_grad"))?;
        worst = larger(worst, difference(&numbers(gradient)?, &theirs.values));
    }
    // Whatever else the case tells.
    let levels: Vec<Level> = asked
        .times
        .iter()
        .map(|&time| asked.process.level(time))
        .collect();
    let shown = |eps: Tensor<4>| objective.input(x0.clone(), eps, &levels);
    for (suffix, ours) in [
        ("target", values(&value)?),
        ("velocity", values(&value)?),
        ("weight", weights),
        ("sigma", levels.iter().map(|level| level.sigma()).collect()),
        ("c_noise", told(asked)),
        ("net_input", values(&shown(eps.clone())?)?),
        ("x_t", values(&shown(perturbed(source, asked, &eps)?)?)?),
        ("mse", errors(&objective, source, asked, &value)?),
    ] {
        if let Ok(theirs) = source.tensor(&format!("{name}_{suffix}")) {
            worst = larger(worst, difference(&ours, &theirs.values));
        }
    }
    Ok(worst)
}

/// What the network is told.
fn told(asked: &Asked) -> Vec<f64> {
    asked
        .times
        .iter()
        .map(|&time| asked.process.network_time(time))
        .collect()
}

/// ε with the noise that is shown alone.
fn perturbed(source: &Source, asked: &Asked, eps: &Tensor<4>) -> anyhow::Result<Tensor<4>> {
    match asked.objective.input_perturbation {
        0.0 => Ok(eps.clone()),
        scale => Ok(eps.clone() + tracked(source.tensor("eps2")?)? * scale),
    }
}

/// The mean squared error of each image, without a bound and with the weights of programs that count them in.
fn errors(
    objective: &Objective,
    source: &Source,
    asked: &Asked,
    target: &Tensor<4>,
) -> anyhow::Result<Vec<f64>> {
    let [batch, channels, height, width] = target.dims();
    let output = tracked(source.tensor(asked.output)?)?.narrow(1, 0, channels);
    let error = (output - target.clone()).square();
    let mean = error
        .reshape([batch, channels * height * width])
        .mean_dim(1);
    let weight = |&time: &f64| {
        let level = asked.process.level(time);
        let meaning = objective.meaning();
        asked
            .objective
            .weighting
            .weight(level, meaning.prediction, asked.process.sigma_data())
    };
    let means = numbers(mean.reshape([batch]))?;
    Ok(means
        .iter()
        .zip(&asked.times)
        .map(|(mean, time)| mean * weight(time))
        .collect())
}

fn numbers(x: Tensor<1>) -> anyhow::Result<Vec<f64>> {
    let data = x
        .try_into_data()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(data.iter::<f64>().collect())
}
