//! `ddpm edit tile`.

use anyhow::Result;
use ddpm_diffusion::editing::Tiling;
use ddpm_diffusion::walk;
use ddpm_schedule::noise::Stream;

use super::super::Report;
use super::job::{Job, steps_of};
use super::session::Session;

use crate::args::{Common, TileArgs};
use crate::size::parse_size;

/// Images unless `--n` says otherwise.
const IMAGES: usize = 1;

/// Draws images larger than the network's own (MultiDiffusion).
///
/// # Errors   as [`edit`](super::edit)
pub fn tile(args: &TileArgs, common: Common) -> Result<Report> {
    let size = parse_size(&args.size)?;
    let canvas = [size.height, size.width];
    let mut session = Session::open("tile", &[], &args.options, common, |_| {
        args.options.sampling.clone()
    })?;
    let tiling = tiling(&session, canvas, args.overlap)?;
    let (n, batch) = session.count(args.n, IMAGES, canvas, tiling.windows())?;
    let at_a_time = canvases(&session, batch, &tiling);
    let plan = &session.plan;
    let networks = session.networks();
    let job = Job {
        canvas,
        shown: [Vec::new(), Vec::new()],
        n,
        batch: at_a_time,
        steps: steps_of(n, at_a_time, plan.steps()),
        columns: None,
    };
    session.draw(&job, &mut |numbers, observer| {
        let start =
            session.noise_once(Stream::SampleInit, numbers.clone(), canvas) * plan.start_scale();
        let condition = session.condition(numbers.clone());
        let denoiser = networks.tiled(&numbers, &tiling, batch)?;
        let mut noise = session.noise(Stream::SampleStep, numbers, canvas);
        walk(&*denoiser, plan, start, condition, &mut noise, observer)
    })
}

/// The windows over a canvas.
///
/// # Errors   [`DiffusionError::Editing`](ddpm_diffusion::DiffusionError) for a canvas or an overlap that cannot be
pub fn tiling(session: &Session<'_>, canvas: [usize; 2], overlap: Option<usize>) -> Result<Tiling> {
    let window = session.size;
    let overlap = overlap.unwrap_or(window[0].min(window[1]) / 2);
    Ok(Tiling::new(canvas, window, overlap)?)
}

/// Canvases at a time, of which all windows are looked at `batch` together.
pub fn canvases(session: &Session<'_>, batch: usize, tiling: &Tiling) -> usize {
    match session.plan.sampler().method().one_by_one() {
        true => 1,
        false => (batch / tiling.windows()).max(1),
    }
}
