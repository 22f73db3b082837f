//! Images from pictures, by a network that learned to make them: what enlarging and colourising share.

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use ddpm_diffusion::condition::picture::as_image;
use ddpm_diffusion::{PictureKind, randn_images};
use ddpm_schedule::noise::{Stream, bits};

use super::super::Report;
use super::job::{Job, steps_of};
use super::session::Session;
use crate::exit::UsageError;

/// Pictures a row, with one row of results below them for each `--n`.
const ROW: usize = 16;

/// Refuses a network that makes images from other pictures, or from none.
///
/// # Errors   [`UsageError`]
pub fn check_kind(session: &Session<'_>, kind: PictureKind) -> Result<(), UsageError> {
    let name = |kind| match kind {
        PictureKind::LowResolution => "small",
        PictureKind::Gray => "grey",
    };
    let set = match kind {
        PictureKind::LowResolution => "condition.kind=low_resolution --set condition.factor=2",
        PictureKind::Gray => "condition.kind=gray",
    };
    let path = session.opened.path.display();
    match session.opened.condition.kind {
        Some(own) if own == kind => Ok(()),
        Some(own) => Err(UsageError(format!(
            "{path}: this network makes images from {} pictures, not from {} ones",
            name(own),
            name(kind)
        ))),
        None => Err(UsageError(format!(
            "{path}: this network makes images from nothing but noise; train one with --set {set}"
        ))),
    }
}

/// Draws `each` images from each picture, `noise` of which is noise; all images of a picture come before those of the
/// next.
///
/// # Shapes   `pictures`: `[count, channels of the picture, height, width]`, in the size of the network's images
/// # Errors   as [`edit`](super::edit)
pub fn draw(
    session: &mut Session<'_>,
    pictures: &Tensor<4>,
    each: Option<usize>,
    noise: f64,
) -> Result<Report> {
    let (size, channels) = (session.size, session.channels());
    let [count, picture_channels, ..] = pictures.dims();
    session.noise = noise as f32;
    let wanted = each.unwrap_or(1).saturating_mul(count);
    let (n, batch) = session.count(Some(wanted), wanted, size, 1)?;
    let repeated: Vec<Tensor<4>> = of_each(pictures)
        .map(|picture| picture.repeat_dim(0, each.unwrap_or(1)))
        .collect();
    let mut of_results = Tensor::cat(repeated, 0);
    if noise > 0.0 {
        let shape = [picture_channels, size[0], size[1]];
        let (seed, device) = (session.options.seed, session.device());
        let z = randn_images(seed, Stream::PictureNoise, 0, 0..n as u64, shape, device);
        of_results = of_results * (1.0 - noise * noise).sqrt() + z * noise;
    }
    session.told.picture = Some(of_results);
    let shown = of_each(pictures).map(|picture| as_image(picture, channels));
    let job = Job {
        canvas: size,
        shown: [shown.collect(), Vec::new()],
        n,
        batch,
        steps: steps_of(n, batch, session.plan.steps()),
        columns: (count <= ROW && each.unwrap_or(1) == 1).then_some(count),
    };
    let networks = session.networks();
    // Not the seed of the small pictures' own noise: networks in a row must not share it.
    let [low, high, ..] = bits(session.options.seed, Stream::EditStart, 0, 0);
    let seed = u64::from(low) | u64::from(high) << 32;
    session.draw(&job, &mut |numbers, observer| {
        networks.sample(seed, &numbers, observer)
    })
}

fn of_each(pictures: &Tensor<4>) -> impl Iterator<Item = Tensor<4>> {
    let count = pictures.dims()[0];
    (0..count).map(|i| pictures.clone().narrow(0, i, 1))
}

/// Pictures from files, as a batch.
///
/// # Errors   those of reading, naming the file
pub fn read(
    paths: &[std::path::PathBuf],
    form: super::picture::Form,
    device: &Device,
) -> Result<Tensor<4>> {
    let pictures = paths.iter().map(|path| form.image(path, device));
    Ok(Tensor::cat(pictures.collect::<Result<Vec<_>>>()?, 0))
}
