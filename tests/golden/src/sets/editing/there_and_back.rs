//! DDIM inversion, and sampling from what it finds.

use std::ops::ControlFlow;

use anyhow::ensure;
use burn::tensor::DType;
use ddpm_diffusion::editing::invert;
use ddpm_diffusion::{Condition, Progress};

use super::{choice, network};
use crate::compare::{by_number, difference, larger};
use crate::keys::{Keys, needed, unsupported};
use crate::source::{Source, values};
use crate::trace::{Noise, in_order, trace};

pub(super) fn inversion(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let program = needed(case.text("program"), "program")?;
    let known = "DDIMInverseScheduler, then DDIMScheduler eta 0";
    if program != known {
        return Err(unsupported("program", &program.into(), known));
    }
    let choice = choice("DDIMScheduler", case)?;
    let network = network(&choice, case)?;
    let plan = choice.sample.plan(&choice.process, choice.meaning)?;
    let denoiser = plan.denoiser(&network, Default::default())?;
    let x0 = source.tensor("x0")?.images(DType::F32)?;

    let theirs = source.tensor(&format!("{name}_there"))?;
    let (mut worst, mut times) = (0.0, Vec::new());
    let mut failed = None;
    let mut compare = |progress: Progress<'_>| {
        times.push(progress.t);
        match (values(progress.xt), theirs.at(progress.step - 1)) {
            (Ok(ours), Ok(theirs)) => worst = larger(worst, difference(&ours, theirs)),
            (Err(error), _) | (_, Err(error)) => failed = Some(error),
        }
        ControlFlow::Continue(())
    };
    let condition = Condition::default();
    let found = invert(&*denoiser, &plan, x0.clone(), condition, &mut compare)?;
    if let Some(error) = failed {
        return Err(error);
    }
    ensure!(
        times.len() == theirs.len(),
        "{} steps, and {} with them",
        times.len(),
        theirs.len()
    );
    worst = larger(
        worst,
        by_number(
            &times,
            &needed(case.numbers("timesteps_there"), "timesteps_there")?,
        ),
    );

    let noise = Noise {
        series: source.tensor("pool")?,
        index: &in_order,
    };
    let done = trace(&*denoiser, &plan, found, Condition::default(), noise)?;
    let theirs = source.tensor(&format!("{name}_back"))?;
    worst = larger(
        worst,
        done.difference(plan.legs(), theirs, |leg| leg, |_| 1.0)?,
    );
    let times: Vec<f64> = done.asked.iter().map(|stop| stop.time).collect();
    worst = larger(
        worst,
        by_number(
            &times,
            &needed(case.numbers("timesteps_back"), "timesteps_back")?,
        ),
    );
    let last = done.samples.last().map_or(&[][..], Vec::as_slice);
    let pairs = last.iter().zip(values(&x0)?);
    let error = pairs.map(|(ours, x0)| (ours - x0).abs()).fold(0.0, larger);
    let theirs = needed(
        case.number("reconstruction_error_max"),
        "reconstruction_error_max",
    )?;
    Ok(larger(worst, by_number(&[error], &[theirs])))
}
