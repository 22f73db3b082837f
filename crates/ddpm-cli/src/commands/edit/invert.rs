//! `ddpm edit invert`.

use anyhow::Result;
use burn::tensor::Tensor;
use ddpm_diffusion::{DiffusionError, NoiseAt, editing, walk};
use serde_json::json;

use super::super::Report;
use super::interpolate::only_ddim;
use super::job::Job;
use super::session::{Session, by};

use crate::args::{Common, InvertArgs};
use crate::exit::Exit;

/// Steps of a byte in a pixel of [-1, 1].
const BYTE: f64 = 127.5;

/// Finds the noise of an image, and draws the image from it again.
///
/// # Errors   as [`edit`](super::edit)
pub fn invert(args: &InvertArgs, common: Common) -> Result<Report> {
    let mut session = Session::open(
        "invert",
        std::slice::from_ref(&args.image),
        &args.options,
        common,
        |own| {
            let serves = |own: &ddpm_diffusion::SampleConfig| only_ddim(&own.sampler).is_ok();
            by(&args.options.sampling, own, serves, 0.0)
        },
    )?;
    only_ddim(session.plan.sampler())?;
    let size = session.size;
    // The noise, and what is drawn from it.
    let (n, _) = session.count(Some(2), 2, size, 1)?;
    let image = session
        .form(args.fit)
        .image(&args.image, session.device())?;
    let plan = &session.plan;
    let networks = session.networks();
    let job = Job {
        canvas: size,
        shown: [vec![image.clone()], Vec::new()],
        n,
        batch: n,
        steps: 2 * plan.steps(),
        columns: None,
    };
    let mut errors = None;
    let mut report = session.draw(&job, &mut |_, observer| {
        let denoiser = networks.denoiser(plan, &(0..1))?;
        let found = editing::invert(
            &*denoiser,
            plan,
            image.clone(),
            session.condition(0..1),
            observer,
        )?;
        let none = found.zeros_like();
        let mut noise = |_: NoiseAt| none.clone();
        let back = walk(
            &*denoiser,
            plan,
            found.clone(),
            session.condition(0..1),
            &mut noise,
            observer,
        )?;
        errors = Some(differences(&back, &image)?);
        // Noise of whatever size is shown in the range of pixels.
        let level = plan.legs()[0].from.level;
        Ok(Tensor::cat(
            vec![found * (1.0 / level.signal.hypot(level.noise)), back],
            0,
        ))
    })?;
    if let (Some([mean, most]), Exit::Done) = (errors, report.exit) {
        report.text += &format!(
            "  the image drawn again lies {mean:.2} of 255 from the original at a pixel, {most:.0} at most\n"
        );
        report.json["error_mean"] = json!(mean / BYTE);
        report.json["error_max"] = json!(most / BYTE);
    }
    Ok(report)
}

/// The mean and the largest difference of pixels, in steps of a byte.
fn differences(a: &Tensor<4>, b: &Tensor<4>) -> Result<[f64; 2], DiffusionError> {
    let data = (a.clone() - b.clone()).abs().try_into_data();
    let data = data.map_err(|error| DiffusionError::Network {
        t: 0.0,
        source: error.to_string().into(),
    })?;
    let values: Vec<f64> = data.iter::<f64>().map(|value| value * BYTE).collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    Ok([mean, values.into_iter().fold(0.0, f64::max)])
}
