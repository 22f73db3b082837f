//! `ddpm edit outpaint`.

use anyhow::Result;
use burn::tensor::Tensor;
use ddpm_diffusion::editing::{Kept, Replace};
use ddpm_diffusion::walk;
use ddpm_schedule::noise::Stream;

use super::super::Report;
use super::job::{Job, repeated, steps_of};
use super::picture::Form;
use super::session::Session;
use super::tile::{canvases, tiling};
use crate::args::{Common, OutpaintArgs};
use crate::exit::UsageError;
use crate::size::parse_size;

/// Results unless `--n` says otherwise.
const RESULTS: usize = 1;
/// What stands for the unknown part in the picture of what was given.
const UNKNOWN: f64 = -1.0;

/// Goes on with an image beyond its edges: windows over a larger canvas, in which the image is known.
///
/// # Errors   as [`edit`](super::edit)
pub fn outpaint(args: &OutpaintArgs, common: Common) -> Result<Report> {
    let mut session = Session::open(
        "outpaint",
        std::slice::from_ref(&args.image),
        &args.options,
        common,
        |_| args.options.sampling.clone(),
    )?;
    let form = Form {
        size: None,
        ..session.form(Default::default())
    };
    let image = form.image(&args.image, session.device())?;
    let [_, channels, height, width] = image.dims();
    let (canvas, [top, left]) = place(args, [height, width])?;
    let tiling = tiling(&session, canvas, args.overlap)?;
    let (n, batch) = session.count(args.n, RESULTS, canvas, tiling.windows())?;
    let at_a_time = canvases(&session, batch, &tiling);

    let device = session.device();
    let (rows, columns) = (top..top + height, left..left + width);
    let mask = Tensor::zeros([1, 1, canvas[0], canvas[1]], device);
    let known = Tensor::ones([1, 1, height, width], device);
    let mask = mask.slice_assign([0..1, 0..1, rows.clone(), columns.clone()], known);
    let given = Tensor::full([1, channels, canvas[0], canvas[1]], UNKNOWN, device);
    let given = given.slice_assign([0..1, 0..channels, rows, columns], image);

    let plan = &session.plan;
    let networks = session.networks();
    let job = Job {
        canvas,
        shown: [vec![given.clone()], Vec::new()],
        n,
        batch: at_a_time,
        steps: steps_of(n, at_a_time, plan.steps()),
        columns: None,
    };
    session.draw(&job, &mut |numbers, observer| {
        let kept = Kept::new(repeated(&given, numbers.len()), mask.clone())?;
        let start =
            session.noise_once(Stream::SampleInit, numbers.clone(), canvas) * plan.start_scale();
        let condition = session.condition(numbers.clone());
        let replace = Replace {
            inner: networks.tiled(&numbers, &tiling, batch)?,
            kept: kept.clone(),
            z: session.noise_once(Stream::EditKept, numbers.clone(), canvas),
        };
        let mut noise = session.noise(Stream::SampleStep, numbers, canvas);
        let painted = walk(&replace, plan, start, condition, &mut noise, observer)?;
        Ok(kept.finish(&painted))
    })
}

/// The canvas, and where the image stands in it.
fn place(
    args: &OutpaintArgs,
    [height, width]: [usize; 2],
) -> Result<([usize; 2], [usize; 2]), UsageError> {
    let Some(text) = &args.size else {
        let side = |own: usize, before: usize, after: usize| {
            own.saturating_add(before).saturating_add(after)
        };
        let canvas = [
            side(height, args.top, args.bottom),
            side(width, args.left, args.right),
        ];
        return match canvas == [height, width] {
            true => Err(UsageError(
                "nothing is added to the image; raise --left, --right, --top or --bottom".into(),
            )),
            // The same limits as of --size.
            false => parse_size(&format!("{}x{}", canvas[0], canvas[1]))
                .map(|_| (canvas, [args.top, args.left])),
        };
    };
    let size = parse_size(text)?;
    if size.height < height || size.width < width {
        return Err(UsageError(format!(
            "--size {text}: {} is {height}x{width} pixels, which does not fit; take a larger --size, or a smaller image",
            args.image.display()
        )));
    }
    let canvas = [size.height, size.width];
    Ok((canvas, [(canvas[0] - height) / 2, (canvas[1] - width) / 2]))
}
