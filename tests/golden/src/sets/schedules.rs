//! Tables of β and ᾱ, and the steps that spacings choose of them.

use std::path::Path;

use anyhow::Context;
use ddpm_schedule::{GridConfig, GridRules, Process, ScheduleConfig, named};
use ddpm_store::diffusers::beta_schedule;

use super::Kind;
use crate::Case;
use crate::compare::larger;
use crate::keys::{Keys, needed};
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "schedules",
    cases,
};

/// diffusers computes in float32, which holds a number near 1 to ε = 2⁻²⁴ ≈ 6·10⁻⁸.
///
/// ᾱ is a running product: its relative error grows like √T·ε, some 10⁻⁵ at T = 10,000, so 10⁻⁴ relative holds for all of
/// it, down to 10⁻²². So it does for a β that was given.
const LIMIT: f64 = 1e-4;

/// Rescaling makes β anew as 1 - ᾱ/ᾱ_prev, the difference of numbers near 1: a β of 10⁻⁴ carries a few ε of absolute
/// error, which is 10⁻³ of itself.
const RESCALED: f64 = 5e-7;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["schedules", "spacing"]);
    let tables = ["kind", "T", "zero_terminal_snr"];
    cases.extend(source.cases("schedules", &tables, |_| LIMIT, |_, case| table(case)));
    let spacings = ["spacing", "T", "steps"];
    cases.extend(source.cases("spacing", &spacings, |_| 0.0, |_, case| spacing(case)));
    Ok(cases)
}

fn table(case: &mut Keys) -> anyhow::Result<f64> {
    let kind = needed(case.text("kind"), "kind")?;
    let zero_terminal_snr = case.boolean("zero_terminal_snr")?.unwrap_or_default();
    let default = ScheduleConfig::default();
    let steps = needed(case.count("T"), "T")?;
    let (kind, betas) =
        beta_schedule(&kind, steps).with_context(|| format!("no kind of table: {kind}"))?;
    let schedule = ScheduleConfig {
        kind,
        steps,
        betas,
        beta_start: case.number("beta_start")?.unwrap_or(default.beta_start),
        beta_end: case.number("beta_end")?.unwrap_or(default.beta_end),
        zero_terminal_snr,
        ..default
    };
    let schedule = schedule.build()?;
    let index = needed(case.counts("index"), "index")?;
    let beta_floor = if zero_terminal_snr { RESCALED } else { 0.0 };
    let mut worst = 0.0;
    for (key, ours, floor) in [
        ("beta", schedule.betas(), beta_floor),
        ("alpha_bar", schedule.alpha_bars(), 0.0),
    ] {
        let theirs = needed(case.numbers(key), key)?;
        anyhow::ensure!(
            theirs.len() == index.len(),
            "{key} and index are not of one length"
        );
        for (&t, theirs) in index.iter().zip(theirs) {
            let Some(ours) = ours.get(t) else {
                anyhow::bail!("index {t} of {} steps", schedule.len());
            };
            let apart = (ours - theirs).abs() - floor;
            worst = larger(
                worst,
                if apart <= 0.0 {
                    0.0
                } else {
                    apart / theirs.abs()
                },
            );
        }
    }
    Ok(worst)
}

/// The largest difference between two steps: they are whole numbers, so it is 0 or they are others.
fn spacing(case: &mut Keys) -> anyhow::Result<f64> {
    let spacing = case.take("spacing").unwrap_or_default();
    let steps = needed(case.count("T"), "T")?;
    let process = Process::Discrete(
        ScheduleConfig {
            steps,
            ..Default::default()
        }
        .build()?,
    );
    let grid = GridConfig {
        spacing: named::deserialize(spacing)?,
        steps: needed(case.count("steps"), "steps")?,
        offset: case.count("steps_offset")?.unwrap_or_default(),
        rules: GridRules::default(),
    };
    let grid = grid.build(&process)?;
    let theirs = needed(case.numbers("timesteps"), "timesteps")?;
    anyhow::ensure!(
        theirs.len() == grid.legs().len(),
        "there are {} timesteps",
        theirs.len()
    );
    let apart = grid
        .legs()
        .iter()
        .zip(theirs)
        .map(|(leg, t)| (leg.from.time - t).abs());
    Ok(apart.fold(0.0, larger))
}
