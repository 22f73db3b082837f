//! `ddpm edit interpolate`.

use anyhow::Result;
use burn::tensor::Tensor;
use ddpm_diffusion::editing::{invert, slerp};
use ddpm_diffusion::{DiffusionError, NoiseAt, SampleConfig, Sampler, randn_images, walk};
use ddpm_schedule::noise::Stream;

use super::super::Report;
use super::job::{Job, steps_of};
use super::session::{Session, by};

use crate::args::{Common, InterpolateArgs};
use crate::exit::UsageError;

/// Results unless `--n` says otherwise.
const RESULTS: usize = 8;

/// Draws what lies between two noises.
///
/// # Errors   as [`edit`](super::edit)
pub fn interpolate(args: &InterpolateArgs, common: Common) -> Result<Report> {
    if args.n.is_some_and(|n| n < 2) {
        return Err(UsageError("--n: must be at least 2, both ends among them".into()).into());
    }
    let of_images = args.seeds.is_none();
    let serves = |own: &SampleConfig| match of_images {
        true => is_ddim(&own.sampler),
        false => !own.sampler.about().stochastic,
    };
    let mut session = Session::open("interpolate", &args.images, &args.options, common, |own| {
        by(&args.options.sampling, own, serves, 0.0)
    })?;
    match of_images {
        true => only_ddim(session.plan.sampler())?,
        false => only_deterministic(session.plan.sampler())?,
    }
    let size = session.size;
    let (n, batch) = session.count(args.n, RESULTS, size, 1)?;
    let form = session.form(args.fit);
    let device = session.device();
    let images = args.images.iter().map(|path| form.image(path, device));
    let images = images.collect::<Result<Vec<Tensor<4>>>>()?;
    let plan = &session.plan;
    let networks = session.networks();
    let there = if of_images { 2 * plan.steps() } else { 0 };
    let (before, after) = images.split_at(images.len() / 2);
    let job = Job {
        canvas: size,
        shown: [before.to_vec(), after.to_vec()],
        n,
        batch,
        steps: there + steps_of(n, batch, plan.steps()),
        columns: None,
    };
    // Both noises, found with the first batch.
    let mut ends: Option<[Tensor<4>; 2]> = None;
    session.draw(&job, &mut |numbers, observer| {
        let [a, b] = match ends.take() {
            Some(ends) => ends,
            None => match args.seeds {
                Some(seeds) => seeds.0.map(|seed| {
                    let image = [session.channels(), size[0], size[1]];
                    let z = randn_images(seed, Stream::SampleInit, 0, [0], image, session.device());
                    z * plan.start_scale()
                }),
                None => {
                    let mut found = |image: &Tensor<4>, number: usize| {
                        let own = number..number + 1;
                        let denoiser = networks.denoiser(plan, &own)?;
                        let told = session.condition(own);
                        invert(&*denoiser, plan, image.clone(), told, observer)
                    };
                    // Each as the result that it leads to.
                    [found(&images[0], 0)?, found(&images[1], n - 1)?]
                }
            },
        };
        let condition = session.condition(numbers.clone());
        let denoiser = networks.denoiser(plan, &numbers)?;
        let between = numbers.map(|number| slerp(&a, &b, number as f64 / (n - 1) as f64));
        let start = Tensor::cat(between.collect::<Result<Vec<_>, DiffusionError>>()?, 0);
        ends = Some([a, b]);
        let none = start.zeros_like();
        let mut noise = |_: NoiseAt| none.clone();
        walk(&*denoiser, plan, start, condition, &mut noise, observer)
    })
}

fn is_ddim(sampler: &Sampler) -> bool {
    matches!(sampler, Sampler::Ddim(ddim) if ddim.eta == 0.0)
}

/// # Errors   [`UsageError`] for any sampler but deterministic DDIM
pub fn only_ddim(sampler: &Sampler) -> Result<(), UsageError> {
    match is_ddim(sampler) {
        true => Ok(()),
        false => Err(UsageError(format!(
            "--sampler {}: inversion is of ddim without fresh noise; take --sampler ddim with --eta 0",
            sampler.name()
        ))),
    }
}

/// # Errors   [`UsageError`] for a sampler that draws noise, whose images have nothing between them
fn only_deterministic(sampler: &Sampler) -> Result<(), UsageError> {
    match sampler.about().stochastic {
        false => Ok(()),
        true => Err(UsageError(format!(
            "--sampler {}: draws fresh noise at every step, so that images are no function of where they begin; take \
             --sampler ddim, or --eta 0 where it has an eta",
            sampler.name()
        ))),
    }
}
