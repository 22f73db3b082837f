//! k-diffusion's samplers, its tables of σ, and its wrappers of networks.

mod adaptive;
mod samplers;
mod tables;

use std::path::Path;

use anyhow::{bail, ensure};
use burn::tensor::{DType, Tensor};
use ddpm_diffusion::{Condition, Hold, NoiseAt, Plan, Sampler};
use ddpm_schedule::{
    Edm, Grid, GridConfig, GridRules, Prediction, Process, ScheduleConfig, Spacing, Told,
};
use serde_json::{Value, json};

use super::Kind;
use crate::Case;
use crate::compare::{by_number, larger, relative};
use crate::keys::{Keys, needed, unsupported};
use crate::models::{OfSigma, at_each, denoiser, formula};
use crate::source::{Series, Source};
use crate::trace::{Noise, trace};

pub(super) const KIND: Kind = Kind {
    name: "samplers2/k_diffusion",
    cases,
};

/// The figures were made in float64, and so are ours here: where two orders of the adaptive solver differ by rounding
/// alone, that decides how long the next step is, and k-diffusion in float32 lies 7e-4 from itself.
const LIMIT: f64 = 1e-5;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["sigma_to_t", "schedule_tables", "adaptive", "cases"]);
    if let Some(Value::Object(times)) = source.json.get("sigma_to_t") {
        let mut times = Keys::new(times.clone());
        let found = tables::sigma_to_t(&mut times);
        let found = found.and_then(|found| times.finish().map(|()| found));
        cases.push(Case::new("sigma_to_t", LIMIT, found));
    }
    let limit = |_: &_| LIMIT;
    let table = |_: &str, case: &mut Keys| tables::table(case);
    cases.extend(source.cases("schedule_tables", &["kind", "n"], limit, table));
    let solved = |name: &str, case: &mut Keys| adaptive::adaptive(&source, name, case);
    cases.extend(source.cases("adaptive", &[], limit, solved));
    let sampled = |name: &str, case: &mut Keys| walked(&source, name, case);
    cases.extend(source.cases("cases", &[], limit, sampled));
    Ok(cases)
}

/// The table that the wrapped networks belong to.
fn wrapped_table() -> anyhow::Result<Process> {
    Ok(Process::Discrete(ScheduleConfig::default().build()?))
}

/// From σ to σ; the last one is where sampling ends.
fn through(process: &Process, sigmas: &[f64], told: Told) -> anyhow::Result<Grid> {
    let Some((&end, stops)) = sigmas.split_last() else {
        bail!("there are no sigmas");
    };
    let grid = GridConfig {
        spacing: Spacing::Sigmas {
            sigmas: if end == 0.0 { stops } else { sigmas }.to_vec(),
        },
        steps: 0,
        offset: 0,
        rules: GridRules {
            open_end: end != 0.0,
            told,
            ..GridRules::default()
        },
    };
    Ok(grid.build(process)?)
}

fn walked(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let sigmas = needed(case.numbers("sigmas"), "sigmas")?;
    let mut args = case.object("args")?.unwrap_or_default();
    let kind = needed(case.text("sampler"), "sampler")?;
    let sampler = samplers::sampler(&kind, &mut args)?;
    args.finish()?;
    let twice = matches!(sampler, Sampler::DpmppSde(_));
    let index = |_, NoiseAt { step, draw }| match twice {
        true => 2 * step + draw,
        false => step,
    };
    let noise = Noise {
        series: source.tensor("noise")?,
        index: &index,
    };
    let z = source.tensor("z")?.images(DType::F64)?;
    let expected = source.tensor(name)?;
    let (found, draws) = match case.text("wrapper")? {
        Some(wrapper) => wrapped(&wrapper, case, &sigmas, sampler, z, noise, expected)?,
        None => {
            let mut worst = 0.0;
            if let Some(mut schedule) = case.object("schedule")? {
                let kind = needed(schedule.text("kind"), "kind")?;
                let n = needed(schedule.count("n"), "n")?;
                worst = relative(&tables::sigmas(&kind, n, &mut schedule)?, &sigmas);
                schedule.finish()?;
            }
            let process = Process::Edm(Edm::default());
            let grid = through(&process, &sigmas, Told::Exact)?;
            let plan = Plan::new(process, Prediction::Edm.into(), grid, sampler, Hold::Free)?;
            let denoiser = OfSigma(denoiser(&needed(case.text("denoiser"), "denoiser")?)?);
            let done = trace(
                &denoiser,
                &plan,
                z * plan.start_scale(),
                Default::default(),
                noise,
            )?;
            let found = done.difference(plan.grid().legs(), expected, |leg| leg, |_| 1.0)?;
            (larger(worst, found), done.draws)
        }
    };
    // They draw some that they multiply by 0.
    let most = needed(case.count("noise_used"), "noise_used")?;
    ensure!(
        draws <= most,
        "drew {draws} tensors of noise, and k-diffusion {most}"
    );
    Ok(found)
}

/// A sampler over a network of a table, whose x is theirs times the signal.
fn wrapped(
    wrapper: &str,
    case: &mut Keys,
    sigmas: &[f64],
    sampler: Sampler,
    z: Tensor<4>,
    noise: Noise<'_>,
    expected: &Series,
) -> anyhow::Result<(f64, usize)> {
    let prediction = match wrapper {
        "DiscreteEpsDDPMDenoiser" => Prediction::Eps,
        "DiscreteVDDPMDenoiser" => Prediction::V,
        other => {
            let expected = "DiscreteEpsDDPMDenoiser or DiscreteVDDPMDenoiser";
            return Err(unsupported("wrapper", &json!(other), expected));
        }
    };
    let pixel = formula(&needed(case.text("inner_model"), "inner_model")?)?;
    let quantize = case.boolean("quantize")?.unwrap_or(false);
    // The number of σ.
    case.drop(&["n"]);
    let process = wrapped_table()?;
    let told = if quantize { Told::Nearest } else { Told::Exact };
    let grid = through(&process, sigmas, told)?;
    let times: Vec<f64> = grid.legs().iter().map(|leg| leg.from.time).collect();
    let worst = by_number(&times, &needed(case.numbers("t_of_sigma"), "t_of_sigma")?);
    let network = |x: Tensor<4>, time: Tensor<1>, _: &Condition| {
        let time = time.into_data().iter::<f64>().next().unwrap_or(f64::NAN);
        // Levels between those of the grid are rounded too.
        let time = if quantize {
            time.round_ties_even()
        } else {
            time
        };
        at_each(&x, |x| pixel(x, time))
    };
    let plan = Plan::new(process, prediction.into(), grid, sampler, Hold::Free)?;
    let legs = plan.grid().legs();
    let start = z * legs[0].from.level.noise;
    let done = trace(
        &*plan.denoiser(&network, Default::default())?,
        &plan,
        start,
        Condition::default(),
        noise,
    )?;
    let found = done.difference(legs, expected, |leg| leg, |leg| leg.to.level.signal)?;
    Ok((larger(worst, found), done.draws))
}
