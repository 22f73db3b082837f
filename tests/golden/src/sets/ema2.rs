//! Averages of the weights: power functions and what is made of their snapshots, half-lives, other programs' decays.

use std::path::Path;

use anyhow::{Context, ensure};
use ddpm_train::posthoc::{Profile, solve};
use ddpm_train::power::{beta, gamma_of, half_life, sigma_rel_of};
use ddpm_train::{EmaConfig, Law};
use serde_json::Value;

use super::Kind;
use crate::Case;
use crate::compare::{difference, larger, relative};
use crate::keys::{Keys, needed};
use crate::source::{Series, Source};

pub(super) const KIND: Kind = Kind {
    name: "ema2",
    cases,
};

/// The figures were made in float64.
const LIMIT: f64 = 1e-9;

/// ema_pytorch counts in float32, which holds a number near 1 to 6·10⁻⁸; its decays are 1 less such a number.
const SINGLE: f64 = 2e-7;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let known = [
        "stds",
        "exponents",
        "batch",
        "steps",
        "traditional_args",
        "beta",
        "sigma_rel",
        "snapshots",
        "posthoc",
        "cases",
        "diffusers_decay",
        "ema_pytorch_decay",
        "karras_ema_beta",
    ];
    let mut cases = source.unknown(&known);
    for (name, check) in [
        ("exponents", exponents as fn(&Source) -> _),
        ("beta", betas),
        ("sigma_rel", sigma_rels),
        ("power", tracked),
        ("traditional", traditional),
    ] {
        cases.push(Case::new(name, LIMIT, check(&source)));
    }
    let of_step = ["nimg", "std"];
    cases.extend(source.cases(
        "snapshots",
        &of_step,
        |_| LIMIT,
        |_, case| snapshot(&source, case),
    ));
    let of_end = ["out_std", "out_nimg"];
    for list in ["posthoc", "cases"] {
        cases.extend(source.cases(list, &of_end, |_| LIMIT, |_, case| posthoc(&source, case)));
    }
    cases.extend(decays(&source, "diffusers_decay", LIMIT, diffusers));
    cases.extend(decays(&source, "ema_pytorch_decay", SINGLE, ema_pytorch));
    cases.extend(decays(&source, "karras_ema_beta", LIMIT, karras));
    Ok(cases)
}

/// The keys of the whole file.
fn keys(source: &Source) -> Keys {
    Keys::new(source.json.clone())
}

/// γ of each σ_rel that was tracked.
fn exponents(source: &Source) -> anyhow::Result<f64> {
    let mut all = keys(source);
    let ours: Vec<f64> = needed(all.numbers("stds"), "stds")?
        .into_iter()
        .map(gamma_of)
        .collect();
    Ok(relative(
        &ours,
        &needed(all.numbers("exponents"), "exponents")?,
    ))
}

/// β of some steps, of each σ_rel.
fn betas(source: &Source) -> anyhow::Result<f64> {
    let mut all = keys(source);
    let batch = needed(all.number("batch"), "batch")?;
    let stds = needed(all.numbers("stds"), "stds")?;
    let mut given = needed(all.object("beta"), "beta")?;
    let steps = needed(given.numbers("steps"), "steps")?;
    let rows = given.take("per_step").unwrap_or_default();
    let rows = rows.as_array().context("per_step is no list")?.clone();
    given.drop(&["formula"]);
    given.finish()?;
    ensure!(rows.len() == stds.len(), "there are {} rows", rows.len());
    let mut worst = 0.0;
    for (std, row) in stds.into_iter().zip(rows) {
        let ours: Vec<f64> = steps
            .iter()
            .map(|step| beta(gamma_of(std), batch, batch * step))
            .collect();
        worst = larger(worst, relative(&ours, &numbers(&row)?));
    }
    Ok(worst)
}

/// σ_rel to γ, and back.
fn sigma_rels(source: &Source) -> anyhow::Result<f64> {
    let mut all = keys(source);
    let mut given = needed(all.object("sigma_rel"), "sigma_rel")?;
    let mut worst = 0.0;
    for (from, to, ours) in [
        ("std", "gamma", gamma_of as fn(f64) -> f64),
        ("gamma_in", "std_out", sigma_rel_of),
    ] {
        let found: Vec<f64> = needed(given.numbers(from), from)?
            .into_iter()
            .map(ours)
            .collect();
        worst = larger(worst, relative(&found, &needed(given.numbers(to), to)?));
    }
    given.drop(&["definition"]);
    given.finish()?;
    Ok(worst)
}

/// The average of `weights` after each step, by the decay of a step that `images` were seen with.
fn averaged(
    weights: &Series,
    batch: f64,
    decay: impl Fn(f64) -> f64,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut average = weights.at(0)?.to_vec();
    let mut found = Vec::new();
    for step in 1..weights.len() {
        let decay = decay(batch * step as f64);
        for (a, w) in average.iter_mut().zip(weights.at(step)?) {
            *a = *a * decay + w * (1.0 - decay);
        }
        found.push(average.clone());
    }
    Ok(found)
}

fn of_sigma_rel(source: &Source, batch: f64, sigma_rel: f64) -> anyhow::Result<Vec<Vec<f64>>> {
    let gamma = gamma_of(sigma_rel);
    averaged(source.tensor("weights")?, batch, |images| {
        beta(gamma, batch, images)
    })
}

/// The power-function averages after every step.
fn tracked(source: &Source) -> anyhow::Result<f64> {
    let mut all = keys(source);
    let batch = needed(all.number("batch"), "batch")?;
    let stds = needed(all.numbers("stds"), "stds")?;
    let theirs = source.tensor("power")?;
    let steps = needed(all.count("steps"), "steps")?;
    ensure!(theirs.len() == steps, "there are {} steps", theirs.len());
    let averages: Vec<_> = stds
        .iter()
        .map(|std| of_sigma_rel(source, batch, *std))
        .collect::<Result<_, _>>()?;
    let mut worst = 0.0;
    for step in 0..steps {
        let mut ours = Vec::new();
        for average in &averages {
            ours.extend(average.get(step).context("there are too few weights")?);
        }
        worst = larger(worst, difference(&ours, theirs.at(step)?));
    }
    Ok(worst)
}

/// The average with a half-life and a ramp, after every step.
fn traditional(source: &Source) -> anyhow::Result<f64> {
    let mut all = keys(source);
    let batch = needed(all.number("batch"), "batch")?;
    let mut args = needed(all.object("traditional_args"), "traditional_args")?;
    let halflife = 1e6 * needed(args.number("halflife_Mimg"), "halflife_Mimg")?;
    let ramp = args.number("rampup_ratio")?;
    args.finish()?;
    let decay = |images| half_life(batch, images, halflife, ramp);
    let ours = averaged(source.tensor("weights")?, batch, decay)?;
    Ok(difference(
        &ours.concat(),
        &source.tensor("traditional")?.values,
    ))
}

fn batch_of(source: &Source) -> anyhow::Result<f64> {
    needed(keys(source).number("batch"), "batch")
}

/// The average of a σ_rel when so many images were seen.
fn at(source: &Source, sigma_rel: f64, images: f64) -> anyhow::Result<Vec<f64>> {
    let batch = batch_of(source)?;
    let all = of_sigma_rel(source, batch, sigma_rel)?;
    let step = (images / batch) as usize;
    let found = step
        .checked_sub(1)
        .and_then(|step| all.into_iter().nth(step));
    found.with_context(|| format!("there is no step after {images} images"))
}

fn snapshot(source: &Source, case: &mut Keys) -> anyhow::Result<f64> {
    let images = needed(case.number("nimg"), "nimg")?;
    let sigma_rel = needed(case.number("std"), "std")?;
    let theirs = needed(case.numbers("weights"), "weights")?;
    Ok(difference(&at(source, sigma_rel, images)?, &theirs))
}

/// What is made of the snapshots: the coefficients and the average; and the same average, tracked.
///
/// Coefficients far below the largest have only its digits: they are compared in its units.
fn posthoc(source: &Source, case: &mut Keys) -> anyhow::Result<f64> {
    let sigma_rel = needed(case.number("out_std"), "out_std")?;
    let images = needed(case.number("out_nimg"), "out_nimg")?;
    let listed = source.json.get("snapshots").and_then(Value::as_array);
    let mut profiles = Vec::new();
    let mut weights = Vec::new();
    for snapshot in listed.context("there are no snapshots")? {
        let object = snapshot.as_object().context("a snapshot is no object")?;
        let mut keys = Keys::new(object.clone());
        let end = needed(keys.number("nimg"), "nimg")?;
        profiles.push(Profile::new(end, needed(keys.number("std"), "std")?));
        weights.push(needed(keys.numbers("weights"), "weights")?);
    }
    let made = solve(&profiles, Profile::new(images, sigma_rel));
    let made = made.context("no coefficients were found")?;
    let theirs = needed(case.numbers("coefficients"), "coefficients")?;
    let mut worst = difference(&made.coefficients, &theirs);

    let sum = needed(
        case.number("sum_before_normalising"),
        "sum_before_normalising",
    )?;
    worst = larger(worst, relative(&[made.sum], &[sum]));

    let theirs = needed(case.numbers("reconstructed"), "reconstructed")?;
    let mut ours = vec![0.0; theirs.len()];
    for (coefficient, weights) in made.coefficients.iter().zip(&weights) {
        for (sum, weight) in ours.iter_mut().zip(weights) {
            *sum += coefficient * weight;
        }
    }
    worst = larger(worst, difference(&ours, &theirs));

    if let Some(theirs) = case.numbers("tracked")? {
        worst = larger(worst, difference(&at(source, sigma_rel, images)?, &theirs));
    }
    Ok(worst)
}

/// A case for each of an object's `cases`, about all of its `steps`.
fn decays(
    source: &Source,
    list: &str,
    limit: f64,
    check: fn(&[f64], &mut Keys) -> anyhow::Result<f64>,
) -> Vec<Case> {
    let mut all = keys(source);
    let read = |all: &mut Keys| {
        let mut given = needed(all.object(list), list)?;
        let steps = needed(given.numbers("steps"), "steps")?;
        let cases = given.take("cases").unwrap_or_default();
        given.drop(&["note"]);
        given.finish()?;
        let cases = cases.as_array().context("`cases` is no list")?.clone();
        anyhow::Ok((steps, cases))
    };
    let (steps, listed) = match read(&mut all) {
        Ok(found) => found,
        Err(error) => return vec![Case::new(list, limit, Err(error))],
    };
    let compared = |case: &Value| {
        let object = case.as_object().context("a case is no object")?;
        let mut keys = Keys::new(object.clone());
        let found = check(&steps, &mut keys)?;
        keys.finish()?;
        Ok(found)
    };
    listed
        .iter()
        .map(|case| {
            let about = case.get("args").or_else(|| case.get("gamma"));
            let name = format!("{list}: {}", about.unwrap_or(&Value::Null));
            Case::new(name, limit, compared(case))
        })
        .collect()
}

/// Ours after updates counted from 1.
fn ours(ema: &EmaConfig, steps: &[f64]) -> Vec<f64> {
    let updates = steps.iter().map(|step| *step as u64);
    updates
        .map(|update| ema.decay_at(update.saturating_sub(1)))
        .collect()
}

/// `EMAModel.get_decay`
fn diffusers(steps: &[f64], case: &mut Keys) -> anyhow::Result<f64> {
    let mut args = needed(case.object("args"), "args")?;
    let law = match args.boolean("use_ema_warmup")? {
        Some(true) => Law::Warmup {},
        _ => Law::Ramp {},
    };
    let ema = EmaConfig {
        law,
        decay: args.number("decay")?.unwrap_or(0.9999),
        min_decay: args.number("min_decay")?.unwrap_or(0.0),
        inv_gamma: args.number("inv_gamma")?.unwrap_or(1.0),
        power: args.number("power")?.unwrap_or(2.0 / 3.0),
        update_after_step: args.count("update_after_step")?.unwrap_or(0) as u64,
        ..EmaConfig::default()
    };
    args.finish()?;
    Ok(relative(
        &ours(&ema, steps),
        &needed(case.numbers("decay"), "decay")?,
    ))
}

/// `EMA.get_current_decay`
fn ema_pytorch(steps: &[f64], case: &mut Keys) -> anyhow::Result<f64> {
    let mut args = needed(case.object("args"), "args")?;
    let ema = EmaConfig {
        decay: args.number("beta")?.unwrap_or(0.9999),
        min_decay: args.number("min_value")?.unwrap_or(0.0),
        inv_gamma: args.number("inv_gamma")?.unwrap_or(1.0),
        power: args.number("power")?.unwrap_or(2.0 / 3.0),
        update_after_step: args.count("update_after_step")?.unwrap_or(100) as u64,
        ..EmaConfig::default()
    };
    args.finish()?;
    Ok(difference(
        &ours(&ema, steps),
        &needed(case.numbers("decay"), "decay")?,
    ))
}

/// ema_pytorch's `KarrasEMA` counts its updates from 0: they are one batch further than EDM2's.
fn karras(steps: &[f64], case: &mut Keys) -> anyhow::Result<f64> {
    let gamma = needed(case.number("gamma"), "gamma")?;
    let ours: Vec<f64> = steps
        .iter()
        .map(|step| beta(gamma, 1.0, step + 1.0))
        .collect();
    Ok(relative(&ours, &needed(case.numbers("beta"), "beta")?))
}

fn numbers(list: &Value) -> anyhow::Result<Vec<f64>> {
    let list = list.as_array().context("is no list of numbers")?;
    let number = |value: &Value| value.as_f64().context("is not a number");
    list.iter().map(number).collect()
}
