//! `ddpm edit inpaint`.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Tensor;
use ddpm_diffusion::editing::{Jumps, Kept, RePaint, Replace};
use ddpm_diffusion::{Sampler, walk};
use ddpm_schedule::noise::Stream;

use super::super::Report;
use super::job::{Job, repeated, steps_of};
use super::picture::{kept_around, shown};
use super::session::{Session, by};

use crate::args::{Common, InpaintArgs, Method};
use crate::exit::UsageError;

/// Results unless `--n` says otherwise.
const RESULTS: usize = 4;

/// Paints part of an image anew.
///
/// # Errors   as [`edit`](super::edit)
pub fn inpaint(args: &InpaintArgs, common: Common) -> Result<Report> {
    let jumps = jumps(args)?;
    let given: Vec<PathBuf> = [Some(&args.image), args.mask.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let mut session = Session::open("inpaint", &given, &args.options, common, |own| {
        let serves = |sampler: &Sampler| matches!(sampler, Sampler::Ddim(_) | Sampler::Ddpm(_));
        by(
            &args.options.sampling,
            own,
            |own| jumps.is_none() || serves(&own.sampler),
            1.0,
        )
    })?;
    let size = session.size;
    let (n, batch) = session.count(args.n, RESULTS, size, 1)?;
    let (form, device) = (session.form(args.fit), session.device());
    let image = form.image(&args.image, device)?;
    let mask = match (&args.mask, args.place) {
        (Some(mask), _) => form.kept(mask, &args.image, device)?,
        (None, Some(place)) => kept_around(place, size, device)?,
        (None, None) => {
            return Err(UsageError("say what to paint with --mask or --box".into()).into());
        }
    };
    let plan = &session.plan;
    let repaint = jumps.map(|jumps| RePaint::new(plan, jumps)).transpose()?;
    let steps = repaint
        .as_ref()
        .map_or(plan.steps(), |repaint| repaint.operations().len());
    let networks = session.networks();
    let job = Job {
        canvas: size,
        shown: [
            vec![image.clone(), shown(&mask, session.channels())],
            Vec::new(),
        ],
        n,
        batch,
        steps: steps_of(n, batch, steps),
        columns: None,
    };
    session.draw(&job, &mut |numbers, observer| {
        let count = numbers.len();
        let kept = Kept::new(repeated(&image, count), mask.clone())?;
        let start =
            session.noise_once(Stream::SampleInit, numbers.clone(), size) * plan.start_scale();
        let condition = session.condition(numbers.clone());
        let inner = networks.denoiser(plan, &numbers)?;
        let painted: Tensor<4> = match &repaint {
            Some(repaint) => {
                let mut noise = session.noise(Stream::Repaint, numbers, size);
                repaint.run(&*inner, &kept, start, condition, &mut noise, observer)?
            }
            None => {
                let z = session.noise_once(Stream::EditKept, numbers.clone(), size);
                let mut noise = session.noise(Stream::SampleStep, numbers, size);
                let kept = kept.clone();
                walk(
                    &Replace { inner, kept, z },
                    plan,
                    start,
                    condition,
                    &mut noise,
                    observer,
                )?
            }
        };
        Ok(kept.finish(&painted))
    })
}

/// RePaint's ways back; none for the other method.
fn jumps(args: &InpaintArgs) -> Result<Option<Jumps>, UsageError> {
    let usual = Jumps::default();
    match args.method {
        Method::Repaint => Ok(Some(Jumps {
            length: args.jump_length.unwrap_or(usual.length),
            samples: args.jump_n_sample.unwrap_or(usual.samples),
        })),
        Method::Replace if args.jump_length.is_some() || args.jump_n_sample.is_some() => Err(UsageError(
            "--jump-length and --jump-n-sample are RePaint's; leave them out, or take --method repaint".into(),
        )),
        Method::Replace => Ok(None),
    }
}
