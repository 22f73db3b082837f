//! `ddpm edit vary`.

use anyhow::Result;
use ddpm_diffusion::{editing::noised, walk};
use ddpm_schedule::noise::Stream;

use super::super::Report;
use super::job::{Job, repeated, steps_of};
use super::session::Session;

use crate::args::{Common, VaryArgs};

/// Results unless `--n` says otherwise.
const RESULTS: usize = 4;

/// Draws images like a given one (SDEdit).
///
/// # Errors   as [`edit`](super::edit)
pub fn vary(args: &VaryArgs, common: Common) -> Result<Report> {
    let mut session = Session::open(
        "vary",
        std::slice::from_ref(&args.image),
        &args.options,
        common,
        |_| args.options.sampling.clone(),
    )?;
    let plan = session.plan.from_strength(args.strength)?;
    let size = session.size;
    let (n, batch) = session.count(args.n, RESULTS, size, 1)?;
    let image = session
        .form(args.fit)
        .image(&args.image, session.device())?;
    let steps = plan.as_ref().map_or(0, |plan| plan.steps());
    if plan.is_none() {
        tracing::warn!(
            "--strength {} of {} steps leaves none, so that the results are the image; raise --strength or --steps",
            args.strength,
            session.plan.levels()
        );
    }
    let networks = session.networks();
    let job = Job {
        canvas: size,
        shown: [vec![image.clone()], Vec::new()],
        n,
        batch,
        steps: steps_of(n, batch, steps),
        columns: None,
    };
    session.draw(&job, &mut |numbers, observer| {
        let x0 = repeated(&image, numbers.len());
        let Some(plan) = &plan else {
            return Ok(x0);
        };
        let z = session.noise_once(Stream::EditStart, numbers.clone(), size);
        let start = noised(plan, &x0, &z)?;
        let condition = session.condition(numbers.clone());
        let denoiser = networks.denoiser(plan, &numbers)?;
        let mut noise = session.noise(Stream::SampleStep, numbers, size);
        walk(&*denoiser, plan, start, condition, &mut noise, observer)
    })
}
