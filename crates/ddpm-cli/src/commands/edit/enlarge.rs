//! `ddpm edit enlarge`, and cascades of two networks.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use ddpm_diffusion::PictureKind;
use ddpm_diffusion::editing::resize_bilinear;
use ddpm_model::{Drawing, ModelError, OpenedModel, Told};

use super::super::Report;
use super::super::sample::asked;
use super::from_pictures::{check_kind, draw, read};
use super::picture::Form;
use super::session::Session;
use crate::args::{Common, EnlargeArgs};
use crate::exit::UsageError;
use crate::terminal::{Progress, Update};

/// Images of a cascade unless `--n` says otherwise.
const RESULTS: usize = 8;
/// Small images at a time.
const BATCH: usize = 64;

/// Enlarges pictures by a network that learned it (SR3, Saharia et al. 2021), those of files or those that another
/// network draws (cascades, Ho et al. 2021).
///
/// # Errors   as [`edit`](super::edit)
pub fn enlarge(args: &EnlargeArgs, common: Common) -> Result<Report> {
    let sampling = args.options.sampling.clone();
    let mut session = Session::open("enlarge", &args.images, &args.options, common, |_| sampling)?;
    check_kind(&session, PictureKind::LowResolution)?;
    let noise = noise(args.noise, &session)?;
    let factor = session.opened.condition.factor.unwrap_or(1);
    let small = session.size.map(|side| side.div_ceil(factor));
    let pictures = match &args.from {
        Some(from) => match drawn(from, args, small, &session)? {
            Some(pictures) => pictures,
            None => return Ok(session.report(0, args.n.unwrap_or(RESULTS), 0.0)),
        },
        None => {
            let form = Form {
                size: Some(small),
                ..session.form(args.fit)
            };
            read(&args.images, form, session.device())?
        }
    };
    let pictures = resize_bilinear(&pictures, session.size);
    let each = args.n.filter(|_| args.from.is_none());
    draw(&mut session, &pictures, each, noise)
}

/// How much noise the pictures get.
///
/// # Errors   [`UsageError`] for more than the network has learned
fn noise(asked: Option<f64>, session: &Session<'_>) -> Result<f64, UsageError> {
    let learned = session.opened.condition.noise;
    match asked {
        None => Ok(0.0),
        Some(noise) if (0.0..=learned).contains(&noise) => Ok(noise),
        Some(noise) if learned == 0.0 => Err(UsageError(format!(
            "--noise {noise}: this network has learned pictures without noise alone; train it with --set \
             condition.noise=0.5, or leave --noise out"
        ))),
        Some(noise) => Err(UsageError(format!(
            "--noise {noise}: this network has learned pictures with a noise from 0 to {learned}"
        ))),
    }
}

/// Small images that another network draws, by its own sampler; none if a signal came. They are those of `ddpm sample`
/// with the same seed.
///
/// # Shapes   returns `[n, channels, height, width]`
/// # Errors   those of opening and sampling, [`UsageError`] for images of another shape
fn drawn(
    from: &Path,
    args: &EnlargeArgs,
    small: [usize; 2],
    session: &Session<'_>,
) -> Result<Option<Tensor<4>>> {
    let options = &args.options;
    let weights = options.network.weights.map(Into::into);
    let mut opened = OpenedModel::open(from, weights, session.device())?;
    asked::check_no_picture(&opened)?;
    opened.prepare(None, None)?;
    if opened.channels != session.channels() || opened.size.is_some_and(|size| size != small) {
        let [height, width] = opened.size.unwrap_or(small);
        return Err(UsageError(format!(
            "--from {}: draws images of {}×{height}×{width}, and the network that enlarges takes {}×{}×{}",
            from.display(),
            opened.channels,
            session.channels(),
            small[0],
            small[1]
        ))
        .into());
    }
    let n = args.n.unwrap_or(RESULTS);
    let told = match options.told.class.is_some() {
        true => session.told_of_class(n, &opened)?,
        false => Told::of_classes(opened.model.conditioning(), n),
    };
    let plan = opened.sample.plan(&opened.process()?, opened.meaning)?;
    let drawing = Drawing {
        model: &opened.model,
        plan: &plan,
        image: [opened.channels, small[0], small[1]],
        told: &told,
        guide: None,
        seed: options.seed,
        first: 0,
        n,
        batch: BATCH,
        device: session.device(),
        precision: options.network.precision,
    };
    let total = (n.div_ceil(BATCH) * plan.steps()) as u64;
    let mut progress = Progress::start(0, total, session.common.quiet > 0);
    let mut pixels = Vec::new();
    let done = drawing.run::<ModelError>(
        &mut |from, state| {
            progress.update(Update {
                step: (from / BATCH * state.of + state.step) as u64,
                ..Update::default()
            });
            match session.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        },
        &mut |_, images| {
            pixels.extend(images.into_parts().0);
            Ok(())
        },
    )?;
    if done < n {
        return Ok(None);
    }
    let shape = [n, opened.channels, small[0], small[1]];
    let data = TensorData::new(pixels, shape);
    Ok(Some(Tensor::from_data(data, session.device())))
}
