//! The solver that chooses its steps itself.

use anyhow::ensure;
use burn::tensor::DType;
use ddpm_diffusion::sampler::dpm_adaptive::DpmAdaptive;
use ddpm_diffusion::{Hold, Plan, Sampler};
use ddpm_schedule::{Edm, Grid, Level, Prediction, Process, Stop};

use crate::compare::difference;
use crate::keys::{Keys, needed};
use crate::models::{OfSigma, denoiser};
use crate::source::Source;
use crate::trace::{Noise, in_order, trace};

/// The final sample, and how many steps and evaluations led to it.
pub(super) fn adaptive(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let default = DpmAdaptive::default();
    let adaptive = DpmAdaptive {
        order: case.count("order")?.unwrap_or(default.order),
        // k-diffusion's own default.
        rtol: case.number("rtol")?.unwrap_or(0.05),
        atol: case.number("atol")?.unwrap_or(default.atol),
        h_init: case.number("h_init")?.unwrap_or(default.h_init),
        pcoeff: case.number("pcoeff")?.unwrap_or(default.pcoeff),
        icoeff: case.number("icoeff")?.unwrap_or(default.icoeff),
        dcoeff: case.number("dcoeff")?.unwrap_or(default.dcoeff),
        accept_safety: case
            .number("accept_safety")?
            .unwrap_or(default.accept_safety),
        eta: case.number("eta")?.unwrap_or(default.eta),
        s_noise: case.number("s_noise")?.unwrap_or(default.s_noise),
    };
    let ends = [
        needed(case.number("sigma_max"), "sigma_max")?,
        needed(case.number("sigma_min"), "sigma_min")?,
    ];
    let process = Process::Edm(Edm::default());
    let [first, last] = ends.map(|sigma| Stop::of(&process, Level::variance_exploding(sigma)));
    let grid = Grid::through(&[first], last)?;
    let sampler = Sampler::DpmAdaptive(adaptive);
    let plan = Plan::new(process, Prediction::Edm.into(), grid, sampler, Hold::Free)?;
    let denoiser = OfSigma(denoiser(&needed(case.text("denoiser"), "denoiser")?)?);
    let noise = Noise {
        series: source.tensor("noise")?,
        index: &in_order,
    };
    let start = source.tensor("z")?.images(DType::F64)? * plan.start_scale();
    let done = trace(&denoiser, &plan, start, Default::default(), noise)?;
    // Every step asks as often as its order says; one that is made again begins where the last one did.
    let begun: Vec<f64> = done.sigmas().into_iter().step_by(adaptive.order).collect();
    let again = begun.windows(2).filter(|pair| pair[0] == pair[1]).count();
    for (key, ours) in [
        ("steps", begun.len()),
        ("nfe", done.asked.len()),
        ("n_accept", begun.len() - again),
        ("n_reject", again),
    ] {
        if let Some(theirs) = case.count(key)? {
            ensure!(ours == theirs, "{key} is {ours} here, and {theirs} there");
        }
    }
    let ours = done.samples.last().map(Vec::as_slice).unwrap_or_default();
    Ok(difference(ours, &source.tensor(name)?.values))
}
