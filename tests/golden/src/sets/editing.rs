//! Editing: inversion, image to image, RePaint, interpolation and the input of super-resolution.

mod repaint;
mod there_and_back;

use std::path::Path;

use anyhow::{Context, bail, ensure};
use burn::tensor::{DType, Tensor};
use ddpm_diffusion::editing::{angles, noised, resize_bilinear, slerp, steps_left};
use ddpm_diffusion::{Condition, Network, Plan};
use ddpm_store::diffusers::{Choice, Scheduler};
use serde_json::{Value, json};

use super::Kind;
use super::diffusers::run;
use crate::Case;
use crate::compare::{by_number, difference, larger};
use crate::keys::{Keys, needed, unsupported};
use crate::models;
use crate::source::{Source, images, values};
use crate::trace::{Noise, in_order, trace};

pub(super) const KIND: Kind = Kind {
    name: "editing",
    cases,
};

/// diffusers computes its tables in float32.
const LIMIT: f64 = 1e-4;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["strength_table", "cases"]);
    let named_by = ["scheduler", "steps", "strength"];
    let table = |_: &str, case: &mut Keys| strength(case);
    cases.extend(source.cases("strength_table", &named_by, |_| LIMIT, table));
    let check = |name: &str, case: &mut Keys| {
        case.drop(&["note", "tensor", "noise_used"]);
        let kind = needed(case.text("kind"), "kind")?;
        match kind.as_str() {
            "ddim_inversion" => there_and_back::inversion(&source, name, case),
            "sdedit" => sdedit(&source, name, case),
            "repaint" => repaint::repaint(&source, name, case),
            "slerp" => between(&source, name, case),
            "super-resolution input" => low_res(&source, name, case),
            _ => Err(unsupported(
                "kind",
                &json!(kind),
                "a kind of edit that is known here",
            )),
        }
    };
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}

/// A class of scheduler, the keys of its configuration and a number of steps.
fn choice(class: &str, case: &mut Keys) -> anyhow::Result<Choice> {
    let mut config = needed(case.object("config"), "config")?.into_map();
    let steps = needed(case.count("steps"), "steps")?;
    config.insert("_class_name".to_owned(), json!(class));
    config.insert("_call".to_owned(), json!({"steps": steps}));
    let scheduler = Scheduler::from_json(Path::new("config"), config)?;
    let unknown = scheduler.unknown();
    ensure!(
        unknown.is_empty(),
        "{class} has keys without a meaning here: {unknown:?}"
    );
    Ok(scheduler.choice(None)?)
}

/// The closed form of a case, as its scheduler hands things over.
fn network(choice: &Choice, case: &mut Keys) -> anyhow::Result<impl Network + use<>> {
    let model = needed(case.text("model"), "model")?;
    Ok(run::network(choice, models::network(&model)?, |_, _| 0.0))
}

/// Which steps a strength leaves.
fn strength(case: &mut Keys) -> anyhow::Result<f64> {
    let class = needed(case.text("scheduler"), "scheduler")?;
    let left = needed(case.count("denoising_steps"), "denoising_steps")?;
    let strength = needed(case.number("strength"), "strength")?;
    let times = needed(case.numbers("timesteps_left"), "timesteps_left")?;
    let steps = case
        .peek("steps")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let choice = choice(&class, case)?;
    let ours = steps_left(steps as usize, strength);
    ensure!(ours == left, "{ours} steps are left, and {left} with them");
    let plan = choice.sample.plan(&choice.process, choice.meaning)?;
    let Some(plan) = plan.from_strength(strength)? else {
        ensure!(times.is_empty(), "no step is left");
        return Ok(0.0);
    };
    let zero = |x: &Tensor<4>, _: ddpm_schedule::Stop| x.zeros_like();
    let start = images(&[0.0], [1, 1, 1, 1], DType::F32);
    let none = images_of_none();
    let noise = Noise {
        series: &none,
        index: &in_order,
    };
    let asked = trace(&zero, &plan, start, Condition::default(), noise)?.asked;
    let asked: Vec<f64> = asked.iter().map(|stop| stop.time).collect();
    Ok(by_number(&asked, &times))
}

/// No noise: none of these samplers draws any.
fn images_of_none() -> crate::source::Series {
    crate::source::Series {
        shape: vec![0, 1, 1, 1, 1],
        values: Vec::new(),
        is_bytes: false,
    }
}

/// An image noised, and sampled from there.
fn sdedit(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let class = needed(case.text("program"), "program")?;
    let strength = needed(case.number("strength"), "strength")?;
    let times = needed(case.numbers("timesteps"), "timesteps")?;
    let choice = choice(&class, case)?;
    let network = network(&choice, case)?;
    let whole = choice.sample.plan(&choice.process, choice.meaning)?;
    let plan = whole.from_strength(strength)?.context("no step is left")?;
    let theirs = source.tensor(name)?;
    let scale = |signal: f64| if run::explodes(&choice) { signal } else { 1.0 };
    let start = noised(
        &plan,
        &source.tensor("x0")?.images(DType::F32)?,
        &source.tensor("noise")?.images(DType::F32)?,
    )?;
    let first = scale(plan.legs()[0].from.level.signal);
    let first: Vec<f64> = values(&start)?.iter().map(|value| value / first).collect();
    let worst = difference(&first, theirs.at(0)?);
    let noise = Noise {
        series: source.tensor("pool")?,
        index: &in_order,
    };
    let inner = plan.denoiser(&network, Default::default())?;
    let done = trace(
        &run::told(&*inner, &choice),
        &plan,
        start,
        Condition::default(),
        noise,
    )?;
    let asked: Vec<f64> = done.asked.iter().map(|stop| stop.time).collect();
    let call = |leg| call(&plan, leg);
    let of = |leg: ddpm_schedule::Leg| scale(leg.to.level.signal);
    let sampled = done.difference(plan.legs(), theirs, call, of)?;
    Ok(larger(worst, larger(sampled, by_number(&asked, &times))))
}

/// The first tensor is that of the start.
fn call(plan: &Plan, leg: usize) -> usize {
    run::call(plan, leg) + 1
}

fn between(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    case.drop(&["program"]);
    let a = source.tensor("noise")?.images(DType::F32)?;
    let [batch, channels, height, width] = a.dims();
    let pool = source.tensor("pool")?;
    let mut ends = Vec::new();
    for image in 0..batch {
        ends.extend_from_slice(pool.at(image)?);
    }
    let b = images(&ends, [batch, channels, height, width], DType::F32);
    let mut worst = by_number(&angles(&a, &b)?, &needed(case.numbers("angles"), "angles")?);
    for alpha in needed(case.numbers("alphas"), "alphas")? {
        let theirs = source.tensor(&format!("{name}_{alpha:?}"))?;
        worst = larger(
            worst,
            difference(&values(&slerp(&a, &b, alpha)?)?, &theirs.values),
        );
    }
    Ok(worst)
}

fn low_res(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    case.drop(&["program"]);
    let x = source.tensor("x0")?.images(DType::F32)?;
    let found = source.names(&format!("{name}_"));
    if found.is_empty() {
        bail!("there is no tensor {name}_HEIGHTxWIDTH");
    }
    let mut worst = 0.0;
    for tensor in found {
        let theirs = source.tensor(tensor)?;
        let [_, _, height, width] = theirs.images(DType::F32)?.dims();
        let ours = values(&resize_bilinear(&x, [height, width]))?;
        worst = larger(worst, difference(&ours, &theirs.values));
    }
    Ok(worst)
}
