//! Figures of quality of two sets of features, and of logits.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, bail};
use ddpm_eval::{Moments, Points, Rows, frechet_distance, inception_score, rbf_distance};
use serde_json::Value;

use super::Kind;
use super::features::{kernel, rows};
use crate::Case;
use crate::compare::{by_number, larger, relative};
use crate::keys::{Keys, needed, unsupported};
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "metrics/distances",
    cases,
};

/// torch-fidelity works in float32: its shares of images lie up to 6e-8 beside the fractions, its sums some times that.
const LIMIT: f64 = 1e-6;
/// Fewer images than dimensions: a matrix square root of a singular matrix, so a few digits alone, as the file says.
const SINGULAR: f64 = 1e-3;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    cases.extend(source.cases("cases", &[], |_| LIMIT, |_, case| check(&source, case)));
    Ok(cases)
}

fn check(source: &Source, case: &mut Keys) -> anyhow::Result<f64> {
    case.drop(&["note", "kernel", "program"]);
    let both = || -> anyhow::Result<[Rows; 2]> {
        Ok([rows(source.tensor("fake")?)?, rows(source.tensor("real")?)?])
    };
    if case.peek("prdc").is_some() {
        manifold(&both()?, case)
    } else if case.peek("subsets").is_some() {
        subsets(source, &both()?, case)
    } else if case.peek("figures").is_some() {
        scores(source, case)
    } else if case.peek("few_samples").is_some() {
        frechet(&both()?, case)
    } else if case.peek("value_float64").is_some() {
        rbf(&both()?, case)
    } else {
        bail!("no figure that is known");
    }
}

/// Precision, recall, density and coverage.
fn manifold([fake, real]: &[Rows; 2], case: &mut Keys) -> anyhow::Result<f64> {
    let k = needed(case.count("k"), "k")?;
    let tick = &|| ControlFlow::Continue(());
    let (fake, real) = (Points::new(fake), Points::new(real));
    let (own, of_real) = (fake.within(k, tick)?, real.within(k, tick)?);
    let between = fake.between(&real, [&own.radius, &of_real.radius], tick)?;
    let share =
        |holds: &[bool]| holds.iter().filter(|&&holds| holds).count() as f64 / holds.len() as f64;
    let (precision, recall) = (share(&between.first.inside), share(&between.second.inside));
    let balls = between.first.balls.iter().sum::<u32>();
    let density = f64::from(balls) / (k * fake.count()) as f64;
    let coverage = share(&between.second.covered);
    let mut worst = 0.0;
    for program in ["prdc", "torch_fidelity"] {
        let Some(mut theirs) = case.object(program)? else {
            continue;
        };
        let f_score = 2.0 * precision * recall / (precision + recall);
        for (key, ours) in [
            ("precision", precision),
            ("recall", recall),
            ("density", density),
            ("coverage", coverage),
            ("f_score", f_score),
        ] {
            if let Some(theirs) = theirs.number(key)? {
                worst = larger(worst, by_number(&[ours], &[theirs]));
            }
        }
        theirs.finish()?;
    }
    // Its distances are in float16, or in float32 in place of that: the file says that the third digit may differ.
    if let Some(mut theirs) = case.object("guided_diffusion_with_numpy_distances")? {
        let mut float32 = needed(theirs.object("float32"), "float32")?;
        for (key, ours) in [("precision", precision), ("recall", recall)] {
            let theirs = needed(float32.number(key), key)?;
            worst = larger(worst, by_number(&[ours], &[theirs]));
        }
        float32.finish()?;
        theirs.drop(&["float16"]);
        theirs.finish()?;
    }
    Ok(worst)
}

/// Kernel distances of given parts of both sets.
fn subsets(source: &Source, [fake, real]: &[Rows; 2], case: &mut Keys) -> anyhow::Result<f64> {
    let (count, size) = (
        needed(case.count("subsets"), "subsets")?,
        needed(case.count("subset_size"), "subset_size")?,
    );
    let part = |tensor: &str, rows: &Rows, at: usize| -> anyhow::Result<Rows> {
        let table = &source.tensor(tensor)?.values;
        let indices = table
            .get(at * size..(at + 1) * size)
            .context("too few indices")?;
        Ok(rows.select(&indices.iter().map(|&i| i as usize).collect::<Vec<_>>()))
    };
    let ours = (0..count).map(|at| {
        kernel(
            &part("kid_index_fake", fake, at)?,
            &part("kid_index_real", real, at)?,
        )
    });
    let ours = ours.collect::<anyhow::Result<Vec<f64>>>()?;
    let mean = ours.iter().sum::<f64>() / count as f64;
    let variance = ours.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count as f64;
    let each = needed(case.numbers("per_subset_numpy"), "per_subset_numpy")?;
    let mut worst = by_number(&ours, &each);
    if let Some(theirs) = case.number("clean_fid_same_subsets")? {
        worst = larger(worst, by_number(&[mean], &[theirs]));
    }
    if let Some(mut theirs) = case.object("torch_fidelity")? {
        for (key, ours) in [
            ("kernel_inception_distance_mean", mean),
            ("kernel_inception_distance_std", variance.sqrt()),
        ] {
            let theirs = needed(theirs.number(key), key)?;
            worst = larger(worst, by_number(&[ours], &[theirs]));
        }
        theirs.finish()?;
    }
    Ok(worst)
}

/// Inception Scores in parts: their number, or how many images each has.
fn scores(source: &Source, case: &mut Keys) -> anyhow::Result<f64> {
    let logits = rows(source.tensor("logits")?)?;
    let in_order: Vec<usize> = (0..logits.count()).collect();
    let figures = needed(case.object("figures"), "figures")?.into_map();
    let mut worst = 0.0;
    for (name, value) in figures {
        let unknown = || {
            unsupported(
                "figures",
                &Value::from(name.clone()),
                "a kind of parts that is known",
            )
        };
        if let Some(size) = name.strip_prefix("guided_diffusion_split_size") {
            let size: usize = size.parse().ok().with_context(unknown)?;
            let parts = in_order
                .chunks(size)
                .map(|part| inception_score(&logits, part, 1).mean);
            let parts: Vec<f64> = parts.collect();
            let theirs = value.as_f64().with_context(unknown)?;
            let ours = parts.iter().sum::<f64>() / parts.len() as f64;
            worst = larger(worst, by_number(&[ours], &[theirs]));
            continue;
        }
        let parts = name
            .strip_prefix("torch_fidelity_splits")
            .with_context(unknown)?;
        let (parts, order) = parts.split_once('_').with_context(unknown)?;
        let parts: usize = parts.parse().ok().with_context(unknown)?;
        let order = match order {
            "in_order" => in_order.clone(),
            "shuffled" => source
                .tensor("shuffle_2020")?
                .values
                .iter()
                .map(|&i| i as usize)
                .collect(),
            _ => return Err(unknown()),
        };
        let ours = inception_score(&logits, &order, parts);
        let Value::Object(value) = value else {
            return Err(unknown());
        };
        let mut theirs = Keys::new(value);
        for (key, ours) in [
            ("inception_score_mean", ours.mean),
            ("inception_score_std", ours.deviation),
        ] {
            let theirs = needed(theirs.number(key), key)?;
            worst = larger(worst, by_number(&[ours], &[theirs]));
        }
        theirs.finish()?;
    }
    Ok(worst)
}

/// The Fréchet distance of all features, and of fewer than there are dimensions.
fn frechet([fake, real]: &[Rows; 2], case: &mut Keys) -> anyhow::Result<f64> {
    /// Rows of each set in the small comparison, as the file's note says.
    const FEW: usize = 8;
    let mut worst = 0.0;
    for (key, few) in [("all", false), ("few_samples", true)] {
        let part = |rows: &Rows| match few {
            true => rows.select(&(0..FEW).collect::<Vec<_>>()),
            false => rows.clone(),
        };
        let ours = frechet_distance(
            &Moments::of(&part(real), "real")?,
            &Moments::of(&part(fake), "fake")?,
        )?;
        let mut theirs = needed(case.object(key), key)?;
        for program in [
            "pytorch_fid",
            "clean_fid",
            "torch_fidelity",
            "guided_diffusion",
            "symmetric_form",
        ] {
            if let Some(theirs) = theirs.number(program)? {
                let limit = if few && program != "symmetric_form" {
                    SINGULAR
                } else {
                    LIMIT
                };
                worst = larger(worst, relative(&[ours], &[theirs]) * LIMIT / limit);
            }
        }
        theirs.finish()?;
    }
    Ok(worst)
}

/// CMMD's distance.
fn rbf([fake, real]: &[Rows; 2], case: &mut Keys) -> anyhow::Result<f64> {
    let tick = &|| ControlFlow::Continue(());
    let (fake, real) = (Points::new(fake), Points::new(real));
    let (own, of_real) = (fake.within(1, tick)?, real.within(1, tick)?);
    let between = fake.between(&real, [&own.radius, &of_real.radius], tick)?;
    let ours = rbf_distance(&own, &of_real, &between, 0).value;
    let theirs = needed(case.number("value_float64"), "value_float64")?;
    // In float32, where a mean of kernels near 1 loses four digits.
    case.drop(&["value"]);
    Ok(relative(&[ours], &[theirs]))
}
