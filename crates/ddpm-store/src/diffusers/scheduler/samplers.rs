//! The classes that sample from tables of β.

use ddpm_diffusion::sampler::{
    ddim::Ddim, ddpm::Ddpm, deis::Deis, dpm_singlestep::DpmSinglestep, dpm_solver,
    dpm_solver::DpmSolver, dpm2::Dpm2, dpm2_ancestral::Dpm2Ancestral, euler::Euler,
    euler_ancestral::EulerAncestral, heun::Heun, lms::Lms, pndm, pndm::Pndm, unipc, unipc::Unipc,
};
use ddpm_diffusion::{Meaning, SampleConfig, Sampler, VarianceOutput};
use ddpm_schedule::{
    Edm, GridRules, Prediction, Process, ProcessConfig, Spacing, Told, VarianceKind,
};
use serde_json::json;

use super::spread::{self, Rounding};
use super::table;
use super::{Asked, Choice, NetworkSettings, flow, hold};
use crate::diffusers::keys::Keys;
use crate::error::Result;

fn choice(process: Process, meaning: Meaning, sample: SampleConfig) -> Choice {
    Choice {
        process,
        meaning,
        sample,
        negated: false,
        flow_steps: flow::NETWORK_STEPS,
        told_whole: false,
    }
}

pub(super) fn ddpm(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let process = table::process(keys)?;
    let mut meaning = table::meaning(keys, false)?;
    let mut sample = spread::plain(keys, call, GridRules::default())?;
    hold(keys, &mut sample, true)?;
    let variance = match keys.text("variance_type")?.as_deref() {
        None | Some("fixed_small" | "fixed_small_log") => VarianceKind::Small,
        Some("fixed_large") => VarianceKind::Large,
        Some("learned_range") => VarianceKind::Learned,
        // Of the logarithm of β diffusers takes the root, which is NaN.
        Some(other) => {
            let expected = "fixed_small, fixed_small_log, fixed_large or learned_range";
            return Err(keys.refusal("variance_type", &json!(other), expected));
        }
    };
    if variance == VarianceKind::Learned {
        meaning.variance = VarianceOutput::Range;
    }
    sample.sampler = Sampler::Ddpm(Ddpm {
        variance: Some(variance),
        allow_large_respaced: true,
    });
    // What makes no plan is said where one is asked for.
    let plan = sample.plan(&process, meaning).ok();
    let last = plan.and_then(|plan| Some(plan.grid().legs().last()?.from.time));
    if variance != VarianceKind::Small && last.is_some_and(|last| last > 0.0) {
        // It leaves the last step without noise only if that is step 0; ours never adds any to the image itself.
        let expected =
            "fixed_small where the last step is not step 0, after which diffusers adds noise";
        return Err(keys.refusal("variance_type", &json!(variance), expected));
    }
    Ok(choice(process, meaning, sample))
}

pub(super) fn ddim(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let process = table::process(keys)?;
    let meaning = table::meaning(keys, false)?;
    let rules = GridRules {
        fixed_stride: true,
        to_first: !keys.boolean("set_alpha_to_one")?.unwrap_or(true),
        ..GridRules::default()
    };
    let mut sample = spread::plain(keys, call, rules)?;
    hold(keys, &mut sample, true)?;
    sample.sampler = Sampler::Ddim(Ddim {
        eta: call.step.number("eta")?.unwrap_or(0.0),
        keep_eps: !call
            .step
            .boolean("use_clipped_model_output")?
            .unwrap_or(false),
    });
    Ok(choice(process, meaning, sample))
}

pub(super) fn pndm(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let process = table::process(keys)?;
    let meaning = table::meaning(keys, false)?;
    let average = match meaning.prediction {
        Prediction::Eps => pndm::Averaged::Eps,
        Prediction::V => pndm::Averaged::V,
        other => {
            let expected = "epsilon or v_prediction";
            return Err(keys.refusal("prediction_type", &json!(other), expected));
        }
    };
    let rules = GridRules {
        fixed_stride: true,
        to_first: !keys.boolean("set_alpha_to_one")?.unwrap_or(false),
        ..GridRules::default()
    };
    let mut sample = spread::plain(keys, call, rules)?;
    sample.clip = false;
    sample.sampler = Sampler::Pndm(Pndm {
        runge_kutta: !keys.boolean("skip_prk_steps")?.unwrap_or(false),
        average,
    });
    Ok(choice(process, meaning, sample))
}

pub(super) fn deis(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let sampler = Sampler::Deis(Deis {
        order: keys.count("solver_order")?.unwrap_or(2),
        lower_order_final: keys.boolean("lower_order_final")?.unwrap_or(true),
    });
    // It knows one of each, and takes it for the others' too.
    one_of(
        keys,
        "algorithm_type",
        &["deis", "dpmsolver", "dpmsolver++"],
        "deis",
    )?;
    one_of(
        keys,
        "solver_type",
        &["logrho", "midpoint", "heun", "bh1", "bh2"],
        "logrho",
    )?;
    let rounding = Rounding {
        karras: Told::Nearest,
        clips: false,
    };
    let mut made = exponential(keys, call, &rounding, sampler)?;
    // Always: at the image itself it has no slope.
    made.sample.grid.to_first = true;
    Ok(made)
}

pub(super) fn dpm_solver(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let (estimates, eta) = algorithm(keys)?;
    let order = keys.count("solver_order")?.unwrap_or(2);
    if eta > 0.0 && order > 2 {
        // Its third term has -1/2 where that of its own ODE, k-diffusion's and ours have +1/2.
        let expected =
            "1 or 2 of sde-dpmsolver++, whose third order has a sign that only diffusers has";
        return Err(keys.refusal("solver_order", &json!(order), expected));
    }
    let sampler = Sampler::DpmSolver(DpmSolver {
        order,
        estimates,
        solver: solver(keys)?,
        eta,
        lower_order_final: keys.boolean("lower_order_final")?.unwrap_or(true),
        euler_at_final: keys.boolean("euler_at_final")?.unwrap_or(false),
        ..DpmSolver::default()
    });
    // The cosine's steps are not rounded, and lose their fraction later.
    let karras = match is_cosine(keys) {
        true => Told::Below,
        false => Told::Nearest,
    };
    exponential(
        keys,
        call,
        &Rounding {
            karras,
            clips: true,
        },
        sampler,
    )
}

pub(super) fn dpm_singlestep(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let (estimates, eta) = algorithm(keys)?;
    if eta > 0.0 {
        let expected = "dpmsolver or dpmsolver++ of DPMSolverSinglestepScheduler";
        return Err(keys.refusal("algorithm_type", &json!("sde-dpmsolver++"), expected));
    }
    let order = keys.count("solver_order")?.unwrap_or(2);
    let lower = keys.boolean("lower_order_final")?.unwrap_or(false);
    let solver = solver(keys)?;
    let rounding = Rounding {
        karras: Told::Nearest,
        clips: true,
    };
    let mut made = exponential(keys, call, &rounding, Sampler::default())?;
    // diffusers sets it where there is no other way.
    let whole = order > 0 && call.steps.is_multiple_of(order) && made.sample.grid.to_first;
    made.sample.sampler = Sampler::DpmSinglestep(DpmSinglestep {
        order,
        estimates,
        solver,
        lower_order_final: lower || !whole,
    });
    Ok(made)
}

pub(super) fn unipc(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let variant = match keys.text("solver_type")?.as_deref() {
        Some("bh1") => unipc::Variant::Bh1,
        None | Some("bh2" | "midpoint" | "heun" | "logrho") => unipc::Variant::Bh2,
        Some(other) => return Err(keys.refusal("solver_type", &json!(other), "bh1 or bh2")),
    };
    if variant == unipc::Variant::Bh1 && keys.keys.get("final_sigmas_type") == Some(&json!("zero"))
    {
        let expected = "sigma_min beside the solver_type bh1, whose step to the image itself is NaN in diffusers";
        return Err(keys.refusal("final_sigmas_type", &json!("zero"), expected));
    }
    let on_x0 = keys.boolean("predict_x0")?.unwrap_or(true);
    let sampler = Sampler::Unipc(Unipc {
        order: keys.count("solver_order")?.unwrap_or(2),
        variant,
        estimates: match on_x0 {
            true => dpm_solver::Estimates::X0,
            false => dpm_solver::Estimates::Eps,
        },
        lower_order_final: keys.boolean("lower_order_final")?.unwrap_or(true),
        disable_corrector: keys.counts("disable_corrector")?.unwrap_or_default(),
    });
    if let Some(other) = keys.take("solver_p") {
        return Err(keys.refusal("solver_p", &other, "null"));
    }
    let rounding = Rounding {
        karras: Told::Nearest,
        clips: false,
    };
    let mut made = exponential(keys, call, &rounding, sampler)?;
    if made.sample.grid.to_first && matches!(made.process, Process::Discrete(_)) {
        nowhere(keys, &mut made)?;
    }
    if !on_x0 {
        // It has no x̂0 to hold then.
        made.sample.threshold = None;
    }
    Ok(made)
}

/// The share of its last σ that UniPC is led to instead of to the same one. That step leads nowhere, but it corrects the
/// one before; a step between equal levels would be passed over.
pub(super) const NOWHERE: f64 = 1.0 - 1e-9;

fn nowhere(keys: &Keys<'_>, made: &mut Choice) -> Result<()> {
    let sample = &mut made.sample;
    if !matches!(
        sample.spacing,
        Some(Spacing::Karras { .. } | Spacing::Exponential { .. } | Spacing::Sigmas { .. })
    ) {
        return Ok(());
    }
    let plan = keys.made(sample.plan(&made.process, made.meaning))?;
    let legs = plan.grid().legs().iter();
    let mut sigmas: Vec<f64> = legs.map(|leg| leg.from.level.sigma()).collect();
    sigmas.extend(sigmas.last().map(|last| last * NOWHERE));
    sample.spacing = Some(Spacing::Sigmas { sigmas });
    sample.grid = GridRules {
        open_end: true,
        told: sample.grid.told,
        ..GridRules::default()
    };
    Ok(())
}

/// What the exponential integrators have in common.
fn exponential(
    keys: &mut Keys<'_>,
    call: &mut Asked<'_>,
    rounding: &Rounding,
    sampler: Sampler,
) -> Result<Choice> {
    let shifted = flow::of_table(keys, call)?;
    let process = table::process(keys)?;
    let mut meaning = table::meaning(keys, shifted.is_some())?;
    match keys.text("variance_type")?.as_deref() {
        None => {}
        Some("learned" | "learned_range") => meaning.variance = VarianceOutput::Range,
        Some(other) => {
            return Err(keys.refusal("variance_type", &json!(other), "learned or learned_range"));
        }
    }
    let mut sample = spread::whole(keys, call, &process, rounding)?;
    hold(keys, &mut sample, false)?;
    sample.sampler = sampler;
    let made = choice(process, meaning, sample);
    match shifted {
        None => Ok(made),
        Some(shifted) => shifted.over(keys, made, call.steps),
    }
}

/// `algorithm_type`: of x̂0 or ε̂, and η.
pub(super) fn algorithm(keys: &mut Keys<'_>) -> Result<(dpm_solver::Estimates, f64)> {
    match keys.text("algorithm_type")?.as_deref() {
        None | Some("dpmsolver++" | "deis") => Ok((dpm_solver::Estimates::X0, 0.0)),
        Some("dpmsolver") => {
            if keys.keys.get("final_sigmas_type") == Some(&json!("zero")) {
                // At the image itself ε has no meaning.
                let expected =
                    "sigma_min beside the algorithm_type dpmsolver, as diffusers demands";
                return Err(keys.refusal("final_sigmas_type", &json!("zero"), expected));
            }
            Ok((dpm_solver::Estimates::Eps, 0.0))
        }
        Some("sde-dpmsolver++") => Ok((dpm_solver::Estimates::X0, 1.0)),
        Some(other) => {
            let expected = "dpmsolver, dpmsolver++ or sde-dpmsolver++";
            Err(keys.refusal("algorithm_type", &json!(other), expected))
        }
    }
}

/// `solver_type` of DPM-Solver.
pub(super) fn solver(keys: &mut Keys<'_>) -> Result<dpm_solver::Solver> {
    match keys.text("solver_type")?.as_deref() {
        None | Some("midpoint" | "logrho" | "bh1" | "bh2") => Ok(dpm_solver::Solver::Midpoint),
        Some("heun") => Ok(dpm_solver::Solver::Heun),
        Some(other) => Err(keys.refusal("solver_type", &json!(other), "midpoint or heun")),
    }
}

pub(super) fn euler(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let continuous = match keys.text("timestep_type")?.as_deref() {
        None | Some("discrete") => false,
        Some("continuous") => true,
        Some(other) => {
            return Err(keys.refusal("timestep_type", &json!(other), "discrete or continuous"));
        }
    };
    let process = table::process(keys)?;
    let meaning = table::meaning(keys, false)?;
    let mut sample = spread::fractional(keys, call, &process, Told::Exact)?;
    let mut sampler = churn(call)?;
    if sample.grid.open_end && matches!(sample.spacing, Some(Spacing::Exponential { .. })) {
        // diffusers counts the σ, of which there is one more than steps.
        sampler.s_churn *= call.steps as f64 / (call.steps + 1) as f64;
    }
    sample.sampler = Sampler::Euler(sampler);
    match continuous && meaning.prediction == Prediction::V {
        false => Ok(choice(process, meaning, sample)),
        true => of_sigma(keys, &process, meaning, sample),
    }
}

/// Euler's step with what `step` is told of churn.
pub(super) fn churn(call: &mut Asked<'_>) -> Result<Euler> {
    let step = &mut call.step;
    Ok(Euler {
        s_churn: step.number("s_churn")?.unwrap_or(0.0),
        s_tmin: step.number("s_tmin")?.unwrap_or(0.0),
        s_tmax: step
            .number("s_tmax")?
            .map_or(f64::MAX, |most| most.min(f64::MAX)),
        s_noise: step.number("s_noise")?.unwrap_or(1.0),
        churn_late: true,
        ..Euler::default()
    })
}

/// The same levels for a network that is told ln(σ)/4 instead of a step.
fn of_sigma(
    keys: &Keys<'_>,
    table: &Process,
    meaning: Meaning,
    sample: SampleConfig,
) -> Result<Choice> {
    let grid = keys.made(sample.plan(table, meaning))?.grid().clone();
    let mut sigmas: Vec<f64> = grid
        .legs()
        .iter()
        .map(|leg| leg.from.level.sigma())
        .collect();
    let end = grid.legs()[sigmas.len() - 1].to.level;
    if !end.is_clean() {
        sigmas.push(end.sigma());
    }
    let rules = GridRules {
        open_end: !end.is_clean(),
        ..GridRules::default()
    };
    let sample = SampleConfig {
        spacing: Some(Spacing::Sigmas { sigmas }),
        grid: rules,
        ..sample
    };
    Ok(choice(Process::Edm(Edm::default()), meaning, sample))
}

pub(super) fn euler_ancestral(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    with_sigmas(
        keys,
        call,
        Told::Exact,
        Sampler::EulerAncestral(EulerAncestral::default()),
    )
}

pub(super) fn heun(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let mut made = with_sigmas(keys, call, Told::Exact, Sampler::Heun(Heun::default()))?;
    hold(keys, &mut made.sample, false)?;
    Ok(made)
}

pub(super) fn lms(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let order = call.step.count("order")?.unwrap_or(4);
    with_sigmas(keys, call, Told::Exact, Sampler::Lms(Lms { order }))
}

pub(super) fn kdpm2(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    with_sigmas(keys, call, Told::Nearest, Sampler::Dpm2(Dpm2::default()))
}

pub(super) fn kdpm2_ancestral(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    let sampler = Sampler::Dpm2Ancestral(Dpm2Ancestral::default());
    with_sigmas(keys, call, Told::Nearest, sampler)
}

/// What the classes that come from k-diffusion have in common.
fn with_sigmas(
    keys: &mut Keys<'_>,
    call: &mut Asked<'_>,
    karras: Told,
    sampler: Sampler,
) -> Result<Choice> {
    let process = table::process(keys)?;
    let meaning = table::meaning(keys, false)?;
    let knows_x0 = matches!(sampler, Sampler::Heun(_) | Sampler::Lms(_));
    if meaning.prediction == Prediction::X0 && !knows_x0 {
        let expected = "epsilon or v_prediction";
        return Err(keys.refusal("prediction_type", &json!("sample"), expected));
    }
    let mut sample = spread::fractional(keys, call, &process, karras)?;
    sample.sampler = sampler;
    Ok(choice(process, meaning, sample))
}

fn is_cosine(keys: &Keys<'_>) -> bool {
    let name = keys.keys.get("beta_schedule");
    name.is_some_and(|name| *name == json!("squaredcos_cap_v2"))
}

fn one_of(
    keys: &mut Keys<'_>,
    key: &'static str,
    known: &[&str],
    expected: &'static str,
) -> Result<()> {
    match keys.text(key)? {
        Some(other) if !known.contains(&other.as_str()) => {
            Err(keys.refusal(key, &json!(other), expected))
        }
        _ => Ok(()),
    }
}

/// The network of a table that no sampler here is told of.
///
/// # Errors   naming the key of one that is not of the table
pub(super) fn network(keys: &mut Keys<'_>) -> Result<NetworkSettings> {
    for (key, usual) in [
        ("use_flow_sigmas", json!(false)),
        ("timestep_type", json!("discrete")),
    ] {
        if let Some(other) = keys.take(key).filter(|value| *value != usual) {
            return Err(keys.refusal(key, &other, "the default for this scheduler"));
        }
    }
    let mut meaning = table::meaning(keys, false)?;
    if keys
        .text("variance_type")?
        .is_some_and(|kind| kind.starts_with("learned"))
    {
        meaning.variance = VarianceOutput::Range;
    }
    Ok(NetworkSettings {
        process: ProcessConfig::Discrete {},
        schedule: table::schedule(keys)?,
        meaning,
    })
}
