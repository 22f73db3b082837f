//! lucidrains' self-conditioning over a closed-form network: losses and a sampling run.

use std::cell::RefCell;
use std::ops::ControlFlow;

use anyhow::Context;
use burn::tensor::{DType, Tensor};
use ddpm_diffusion::{
    Condition, Hold, Meaning, NetworkError, Plan, Progress, Sampler, sample_from,
};
use ddpm_schedule::{GridConfig, GridRules, Level, Spacing};

use super::translate::lucidrains;
use super::{difference, numbers, values};
use crate::compare::larger;
use crate::keys::{Keys, needed};
use crate::source::Source;

/// out = x·t/(t+1) + 0.25·x_self_cond.
fn network(
    x: Tensor<4>,
    time: Tensor<1>,
    condition: &Condition,
) -> Result<Tensor<4>, NetworkError> {
    let [batch, ..] = x.dims();
    let ratio = time.clone() / (time + 1.0);
    let own = x * ratio.reshape([batch, 1, 1, 1]);
    Ok(match condition.x0.clone() {
        Some(x0) => own + x0 * 0.25,
        None => own,
    })
}

/// The loss of each image, told of the first estimate or not.
pub(super) fn trained(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let coin = case
        .peek("extra")
        .and_then(|extra| extra.get("coin")?.as_f64());
    let told = needed(Ok(coin), "extra.coin")? < 0.5;
    let asked = lucidrains(source, name, case)?;
    let objective = asked.objective.build(&asked.process)?;
    let [x0, eps] = ["x0", "eps"].map(|name| source.tensor(name)?.images(DType::F32));
    let (x0, eps) = (x0?, eps?);
    let levels: Vec<Level> = asked
        .times
        .iter()
        .map(|&t| asked.process.level(t))
        .collect();
    let x = objective.input(x0.clone(), eps.clone(), &levels)?;
    let times: Vec<f32> = asked.times.iter().map(|&t| t as f32).collect();
    let times = Tensor::<1>::from_floats(times.as_slice(), &x.device());
    let ask = |condition: &Condition| {
        network(x.clone(), times.clone(), condition).map_err(|error| anyhow::anyhow!(error))
    };
    let mut worst = 0.0;
    let condition = match told {
        false => Condition::default(),
        true => {
            // Each image at its own level, not clipped.
            let first = ask(&Condition::default())?;
            let [skip, out] = objective.x0_rows(&levels);
            let [batch, ..] = x.dims();
            let row = |row: Vec<f32>| {
                Tensor::<1>::from_floats(row.as_slice(), &x.device()).reshape([batch, 1, 1, 1])
            };
            let expected = x.clone() * row(skip) + first * row(out);
            let theirs = source.tensor(&format!("{name}_self_cond"))?;
            worst = difference(&values(&expected)?, &theirs.values);
            Condition {
                x0: Some(expected),
                ..Condition::default()
            }
        }
    };
    let target = objective.towards(&asked.process, x0, eps, &asked.times)?;
    let weights = numbers(target.weights.clone())?;
    let loss = objective.loss(ask(&condition)?, target)?;
    let theirs = |suffix| source.tensor(&format!("{name}_{suffix}"));
    worst = larger(
        worst,
        difference(&numbers(loss.per_image)?, &theirs("loss")?.values),
    );
    Ok(larger(
        worst,
        difference(&weights, &theirs("weight")?.values),
    ))
}

/// A run of DDIM whose network is told its last, clipped estimate.
pub(super) fn sampled(
    source: &Source,
    name: &str,
    text: &str,
    case: &mut Keys,
) -> anyhow::Result<f64> {
    anyhow::ensure!(
        text == "ddim_sample with self-conditioning, eta 0, 10 steps",
        "objective is \"{text}\"; expected self-conditioning by 10 steps of eta 0"
    );
    let times = match case.take("times") {
        Some(serde_json::Value::Array(times)) => times,
        other => anyhow::bail!("times is {other:?}; expected a list"),
    };
    let times: Vec<f64> = times
        .iter()
        .filter_map(serde_json::Value::as_f64)
        .filter(|&t| t >= 0.0)
        .collect();
    let asked = lucidrains(source, name, case)?;
    let objective = asked.objective.build(&asked.process)?;
    let grid = GridConfig {
        spacing: Spacing::Times { times },
        steps: 0,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(&asked.process)?;
    let meaning = Meaning {
        self_condition: true,
        ..objective.meaning()
    };
    let ddim = Sampler::all()
        .into_iter()
        .find(|sampler| sampler.name() == "ddim");
    let plan = Plan::new(
        asked.process.clone(),
        meaning,
        grid,
        ddim.context("no DDIM")?,
        Hold::Clip(1.0),
    )?;
    let theirs = source.tensor(name)?;
    let start = source.tensor("eps2")?;
    anyhow::ensure!(
        theirs.at(0)? == start.values,
        "the run does not begin with eps2"
    );
    let found = RefCell::new(0.0);
    let mut watch = |progress: Progress<'_>| {
        let compared =
            values(progress.xt).and_then(|ours| Ok(difference(&ours, theirs.at(progress.step)?)));
        let mut worst = found.borrow_mut();
        *worst = larger(*worst, compared.unwrap_or(f64::INFINITY));
        ControlFlow::Continue(())
    };
    let mut no_noise = |_| unreachable!("eta is 0");
    sample_from(
        &network,
        &plan,
        start.images(DType::F32)?,
        Condition::default(),
        Default::default(),
        &mut no_noise,
        &mut watch,
    )?;
    Ok(found.into_inner())
}
