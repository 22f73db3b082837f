//! EDM's sampler, and the one of its ablations.

use std::f64::consts::SQRT_2;
use std::path::Path;

use anyhow::ensure;
use burn::tensor::DType;
use ddpm_diffusion::sampler::{euler::Euler, heun::Heun, heun::Variable};
use ddpm_diffusion::{Hold, NoiseAt, Plan, Sampler};
use ddpm_schedule::{Edm, GridConfig, GridRules, Prediction, Process, Spacing, Vp};
use serde_json::json;

use super::Kind;
use crate::Case;
use crate::compare::{larger, relative};
use crate::keys::{Keys, needed, unsupported};
use crate::models::{OfSigma, denoiser};
use crate::source::Source;
use crate::trace::{Noise, trace};

pub(super) const KIND: Kind = Kind {
    name: "samplers2/edm",
    cases,
};

/// The figures were made in float64, and so are ours here: in float32 a single step down from σ = 80 is off by as much.
const LIMIT: f64 = 1e-5;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let check = |name: &str, case: &mut Keys| walked(&source, name, case);
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}

/// What a function of theirs is in our terms.
struct Choice {
    process: Process,
    spacing: Spacing,
    steps: usize,
    sampler: Sampler,
}

fn walked(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let mut args = case.object("args")?.unwrap_or_default();
    let calls = needed(case.numbers("network_calls_sigma"), "network_calls_sigma")?;
    let function = needed(case.text("function"), "function")?;
    let Choice {
        process,
        spacing,
        steps,
        sampler,
    } = match function.as_str() {
        "edm_sampler" => edm(&mut args),
        "ablation_sampler" => ablation(&mut args, &calls),
        other => Err(unsupported(
            "function",
            &json!(other),
            "edm_sampler or ablation_sampler",
        )),
    }?;
    args.finish()?;
    let grid = GridConfig {
        spacing,
        steps,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(&process)?;
    let plan = Plan::new(process, Prediction::Edm.into(), grid, sampler, Hold::Free)?;
    let denoiser = OfSigma(denoiser(&needed(case.text("denoiser"), "denoiser")?)?);
    let noise = Noise {
        series: source.tensor("noise")?,
        index: &|_, NoiseAt { step, .. }| step,
    };
    let legs = plan.grid().legs();
    let start = source.tensor("z")?.images(DType::F64)? * legs[0].from.level.noise;
    let done = trace(&denoiser, &plan, start, Default::default(), noise)?;
    // They draw at every step, and multiply by 0.
    let most = needed(case.count("noise_used"), "noise_used")?;
    ensure!(
        done.draws <= most,
        "drew {} tensors of noise, and EDM {most}",
        done.draws
    );
    let found = done.difference(legs, source.tensor(name)?, |leg| leg, |_| 1.0)?;
    Ok(larger(relative(&done.sigmas(), &calls), found))
}

/// `num_steps`, and what both functions take of churn.
fn common(args: &mut Keys) -> anyhow::Result<(usize, Heun)> {
    let churn = Heun {
        s_churn: args.number("S_churn")?.unwrap_or(0.0),
        s_tmin: args.number("S_min")?.unwrap_or(0.0),
        s_tmax: args.number("S_max")?.unwrap_or(f64::INFINITY),
        s_noise: args.number("S_noise")?.unwrap_or(1.0),
        ..Heun::default()
    };
    Ok((args.count("num_steps")?.unwrap_or(18), churn))
}

fn karras(args: &mut Keys) -> anyhow::Result<Spacing> {
    Ok(Spacing::Karras {
        rho: args.number("rho")?.unwrap_or(7.0),
        sigma_min: None,
        sigma_max: None,
    })
}

fn edm(args: &mut Keys) -> anyhow::Result<Choice> {
    let (steps, heun) = common(args)?;
    Ok(Choice {
        process: Process::Edm(Edm {
            sigma_min: args.number("sigma_min")?.unwrap_or(0.002),
            sigma_max: args.number("sigma_max")?.unwrap_or(80.0),
            ..Edm::default()
        }),
        spacing: karras(args)?,
        steps,
        sampler: Sampler::Heun(heun),
    })
}

fn ablation(args: &mut Keys, calls: &[f64]) -> anyhow::Result<Choice> {
    let (steps, mut heun) = common(args)?;
    heun.alpha = args.number("alpha")?.unwrap_or(1.0);
    let mut word = |key: &str, default: &str| {
        anyhow::Ok(args.text(key)?.unwrap_or_else(|| default.to_owned()))
    };
    let discretization = word("discretization", "edm")?;
    let solver = word("solver", "heun")?;
    let schedule = word("schedule", "linear")?;
    let scaling = word("scaling", "none")?;
    let t_min = args.number("epsilon_s")?.unwrap_or(1e-3);
    let usual = Vp {
        t_min,
        ..Vp::default()
    };
    let of_vp = |t: f64| Process::Vp(usual).level(t).sigma();
    let [low, high] = match discretization.as_str() {
        "vp" => [of_vp(t_min), of_vp(1.0)],
        "ve" => [0.02, 100.0],
        "iddpm" => [0.002, 81.0],
        "edm" => [0.002, 80.0],
        other => {
            let expected = "vp, ve, iddpm or edm";
            return Err(unsupported("discretization", &json!(other), expected));
        }
    };
    let sigma_min = args.number("sigma_min")?.unwrap_or(low);
    let sigma_max = args.number("sigma_max")?.unwrap_or(high);
    // The β of a variance-preserving process between these two.
    let [integral_min, integral_max] = [sigma_min, sigma_max].map(|sigma| (sigma * sigma).ln_1p());
    let beta_d = 2.0 * (integral_min / t_min - integral_max) / (t_min - 1.0);
    let beta_min = integral_max - 0.5 * beta_d;
    let vp = Process::Vp(Vp {
        beta_min,
        beta_max: beta_min + beta_d,
        t_min,
    });
    let edm = Process::Edm(Edm {
        sigma_min,
        sigma_max,
        ..Edm::default()
    });
    let (process, variable) = match (schedule.as_str(), scaling.as_str()) {
        ("linear", "none") => (edm, Variable::Axis),
        ("ve", "none") => (edm, Variable::Variance),
        ("vp", "vp") => (vp.clone(), Variable::Time),
        (schedule, scaling) => {
            let expected = "linear and none, ve and none, or vp and vp";
            return Err(unsupported(
                "schedule, scaling",
                &json!([schedule, scaling]),
                expected,
            ));
        }
    };
    let spacing = match discretization.as_str() {
        "vp" => Spacing::Sigmas {
            sigmas: linspace(&vp, steps)?,
        },
        "ve" => Spacing::Exponential {
            sigma_min: Some(sigma_min),
            sigma_max: Some(sigma_max),
        },
        "iddpm" => Spacing::Sigmas {
            sigmas: begun(calls, steps, solver == "heun", &heun),
        },
        _ => Spacing::Karras {
            rho: args.number("rho")?.unwrap_or(7.0),
            sigma_min: Some(sigma_min),
            sigma_max: Some(sigma_max),
        },
    };
    // Arguments of the other discretizations.
    args.drop(&["rho", "C_1", "C_2", "M"]);
    let sampler = match solver.as_str() {
        "heun" => Sampler::Heun(Heun { variable, ..heun }),
        "euler" => Sampler::Euler(Euler {
            s_churn: heun.s_churn,
            s_tmin: heun.s_tmin,
            s_tmax: heun.s_tmax,
            s_noise: heun.s_noise,
            variable,
            ..Euler::default()
        }),
        other => return Err(unsupported("solver", &json!(other), "heun or euler")),
    };
    Ok(Choice {
        process,
        spacing,
        steps,
        sampler,
    })
}

/// The σ of a spacing of time over a process that may be another than the one of the sampler.
fn linspace(process: &Process, steps: usize) -> anyhow::Result<Vec<f64>> {
    let grid = GridConfig {
        spacing: Spacing::Linspace {},
        steps,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(process)?;
    Ok(grid
        .legs()
        .iter()
        .map(|leg| leg.from.level.sigma())
        .collect())
}

/// The σ that steps began at, of those that the network was asked at: each step's first, with its churn taken off.
///
/// The cosine's table is no spacing of ours, and theirs has the rounding of float32 in it, multiplied up.
fn begun(calls: &[f64], steps: usize, twice: bool, churn: &Heun) -> Vec<f64> {
    let gamma = (churn.s_churn / steps as f64).min(SQRT_2 - 1.0);
    let inside = churn.s_tmin..=churn.s_tmax;
    let first = calls.iter().step_by(if twice { 2 } else { 1 });
    let before = first.map(|hat| match inside.contains(&(hat / (1.0 + gamma))) {
        true => hat / (1.0 + gamma),
        false => *hat,
    });
    before.collect()
}
