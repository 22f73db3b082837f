//! Fréchet and kernel distance of two sets of features.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{bail, ensure};
use ddpm_eval::{Moments, Points, Rows, frechet_distance, kernel_distance};

use super::Kind;
use crate::Case;
use crate::compare::relative;
use crate::source::{Series, Source};

pub(super) const KIND: Kind = Kind {
    name: "features",
    cases,
};

/// Features are kept in f32, which moves each by 6e-8 of itself; a distance adds up some of that.
const LIMIT: f64 = 1e-6;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["frechet_distance", "kid_unbiased_full_set", "kernel"]);
    let (a, b) = (rows(source.tensor("a")?)?, rows(source.tensor("b")?)?);
    for (key, value) in &source.json {
        let ours = match key.as_str() {
            "frechet_distance" => frechet_distance(&Moments::of(&a, "a")?, &Moments::of(&b, "b")?)?,
            "kid_unbiased_full_set" => kernel(&a, &b)?,
            _ => continue,
        };
        let difference = match value.as_f64() {
            Some(theirs) => Ok(relative(&[ours], &[theirs])),
            None => Err(anyhow::anyhow!("{value} is not a number")),
        };
        cases.push(Case::new(key, LIMIT, difference));
    }
    Ok(cases)
}

/// `[n, dim]` of a file as features.
pub(super) fn rows(series: &Series) -> anyhow::Result<Rows> {
    let [_, dim] = series.shape[..] else {
        bail!("features have the shape {:?}", series.shape);
    };
    let values = series.values.iter().map(|&x| x as f32);
    Ok(Rows::new(values.collect(), dim)?)
}

/// The unbiased kernel distance of two sets.
pub(super) fn kernel(a: &Rows, b: &Rows) -> anyhow::Result<f64> {
    let tick = &|| ControlFlow::Continue(());
    let (a, b) = (Points::new(a), Points::new(b));
    ensure!(a.count() > 1 && b.count() > 1, "too few features");
    let (own, other) = (a.within(1, tick)?, b.within(1, tick)?);
    let between = a.between(&b, [&own.radius, &other.radius], tick)?;
    Ok(kernel_distance(&own, &other, &between, 0).value)
}
