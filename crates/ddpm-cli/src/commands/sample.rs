//! `ddpm sample`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor};
use ddpm_diffusion::{ImageBatch as Drawn, Plan, SamplerKind, sample as draw};
use ddpm_store::images::{Animation, AnimationFormat, save_animation};
use ddpm_store::{Grid, GridOptions, ImageBatch, RunDir};
use ddpm_train::{ModelDenoiser, OpenedModel, image_batch};
use ddpm_unet::{Conditioning, Precision};
use serde_json::json;

use super::train::show;
use super::{RUNS, Report, shown};
use crate::args::{Common, SampleArgs, SamplerName};
use crate::exit::UsageError;
use crate::models;
use crate::terminal::{Progress, Update};

/// Frames of an animation, at most; more would only make the file large.
const FRAMES: usize = 60;
const MAX_IMAGES: usize = 1_000_000;
/// Numbers that all images together may have: 16 GiB of f32.
const MAX_NUMBERS: u64 = 1 << 32;

/// Draws images.
///
/// # Errors   usage, format and device errors with their exit codes
pub fn sample(args: &SampleArgs, common: Common) -> Result<Report> {
    check(args)?;
    let path = match &args.model {
        Some(path) => models::find(path)?,
        None => latest_run()?,
    };
    let picked = ddpm_device::resolve(args.device)?;
    args.precision.choose(&picked.device)?;
    let weights = args.weights.map(Into::into);
    let mut opened = OpenedModel::open_usual(&path, weights, &picked.device)?;
    if let Some(warning) = &opened.warning {
        tracing::warn!("{warning}");
    }
    let size = size(args, &opened)?;
    check_memory(args.n, opened.channels, size)?;
    let schedule = opened.tables()?;
    let class = class(args, &opened)?;
    opened.check_sampling(args.sampler.is_some())?;
    let mut config = opened.sample.clone();
    if let Some(name) = args.sampler {
        config.sampler = match name {
            SamplerName::Ddpm => SamplerKind::Ddpm,
            SamplerName::Ddim => SamplerKind::Ddim,
        };
    }
    config.steps = args.steps.or(config.steps);
    config.spacing = args.spacing.map(Into::into).or(config.spacing);
    config.eta = args.eta.unwrap_or(config.eta);
    let plan = config.plan(&schedule, opened.prediction)?;

    let clock = Instant::now();
    let job = Drawing {
        opened: &opened,
        plan: &plan,
        size,
        class,
        seed: args.seed,
        device: &picked.device,
        frames: args.animate.is_some(),
        precision: args.precision,
    };
    let quiet = common.quiet > 0;
    let (images, frames) = job.all(args.n, args.batch, quiet)?;
    let seconds = clock.elapsed().as_secs_f64();

    let name = name_of(&path);
    let separate = match (&args.out, &args.grid, &args.animate) {
        (Some(out), _, _) => Some(out.clone()),
        (None, None, None) => Some(Path::new("samples").join(name)),
        (None, _, _) => None,
    };
    let grid = images.grid(GridOptions::default())?;
    let grid_path = args
        .grid
        .clone()
        .or_else(|| separate.as_ref().map(|out| out.join("grid.png")));
    if let Some(out) = &separate {
        images.save_separate(out, 0)?;
    }
    if let Some(path) = &grid_path {
        grid.save_png(path)?;
    }
    if let Some(path) = &args.animate {
        save_animation(path, &frames, Animation::default(), AnimationFormat::Gif)?;
    }
    if !quiet && !common.json {
        show(&images);
    }

    let mut text = format!(
        "drew {} images in {seconds:.1} s ({} on {})\n",
        args.n,
        opened.path.display(),
        picked.name
    );
    let mut line = |what: &str, path: Option<&PathBuf>| {
        if let Some(path) = path {
            text += &format!("  {what:<10}{}\n", path.display());
        }
    };
    line("images", separate.as_ref());
    line("grid", grid_path.as_ref());
    line("animation", args.animate.as_ref());
    let json = json!({
        "model": shown(&opened.path), "step": opened.step, "images": args.n, "seconds": seconds,
        "device": picked.name, "seed": args.seed, "sample": config,
        "out": separate.as_deref().map(shown), "grid": grid_path.as_deref().map(shown),
        "animation": args.animate.as_deref().map(shown),
    });
    Ok(Report::done(text, json))
}

fn check(args: &SampleArgs) -> Result<(), UsageError> {
    let refuse = |text: String| Err(UsageError(text));
    if args.n == 0 || args.n > MAX_IMAGES {
        return refuse(format!(
            "--n {}: must be between 1 and {MAX_IMAGES}",
            args.n
        ));
    }
    if args.batch == 0 {
        return refuse("--batch 0: must be at least 1".into());
    }
    Ok(())
}

/// The latest run below `runs/`.
///
/// # Errors   [`UsageError`] if there is none
fn latest_run() -> Result<PathBuf> {
    let latest = if Path::new(RUNS).is_dir() {
        RunDir::latest(RUNS)?
    } else {
        None
    };
    match latest {
        Some(run) => Ok(run.path().to_owned()),
        None => Err(UsageError(format!(
            "there is no run below {RUNS}/; train one with `ddpm train`, or name a model with --model"
        ))
        .into()),
    }
}

fn name_of(path: &Path) -> String {
    path.canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "model".to_owned())
}

fn size(args: &SampleArgs, opened: &OpenedModel) -> Result<[usize; 2], UsageError> {
    let Some(text) = &args.size else {
        return opened.size.ok_or_else(|| {
            UsageError("this model does not say its image size; give it with --size 32".into())
        });
    };
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (height.parse(), width.parse()) {
        (Ok(height @ 1..=16384), Ok(width @ 1..=16384)) => Ok([height, width]),
        _ => Err(UsageError(format!(
            "--size {text}: write 32, or 24x32 (height x width)"
        ))),
    }
}

/// All images are held until they are written, and no allocation that fails can be answered.
fn check_memory(n: usize, channels: usize, [height, width]: [usize; 2]) -> Result<(), UsageError> {
    let numbers = [n, channels, height, width]
        .iter()
        .try_fold(1u64, |product, &extent| product.checked_mul(extent as u64));
    match numbers {
        Some(0..=MAX_NUMBERS) => Ok(()),
        _ => Err(UsageError(format!(
            "{n} images of {channels}x{height}x{width} are more than {MAX_NUMBERS} numbers; \
             draw fewer with --n, or smaller ones with --size"
        ))),
    }
}

fn class(args: &SampleArgs, opened: &OpenedModel) -> Result<Option<usize>, UsageError> {
    match (opened.model.conditioning(), args.class) {
        (Conditioning::None, None) => Ok(None),
        (Conditioning::None, Some(class)) => Err(UsageError(format!(
            "--class {class}: this network has no classes; leave --class out"
        ))),
        (Conditioning::Embedding, _) => Err(UsageError(
            "this network takes ready-made embeddings as classes, which `sample` has no option for"
                .into(),
        )),
        (Conditioning::Classes(count), None) => Err(UsageError(format!(
            "this network is class-conditional; choose with --class 0 to {}",
            count - 1
        ))),
        (Conditioning::Classes(count), Some(class)) if class >= count => Err(UsageError(format!(
            "--class {class}: this network has the classes 0 to {}",
            count - 1
        ))),
        (Conditioning::Number, None) => Err(UsageError(
            "this network is class-conditional; choose with --class".into(),
        )),
        (_, class) => Ok(class),
    }
}

struct Drawing<'a> {
    opened: &'a OpenedModel,
    plan: &'a Plan,
    size: [usize; 2],
    class: Option<usize>,
    seed: u64,
    device: &'a Device,
    frames: bool,
    precision: Precision,
}

impl Drawing<'_> {
    /// All images, batch by batch, and the frames of their animation.
    fn all(&self, n: usize, batch: usize, quiet: bool) -> Result<(ImageBatch, Vec<Grid>)> {
        let [height, width] = self.size;
        let channels = self.opened.channels;
        let mut pixels = Vec::new();
        let mut frames: Vec<Vec<f32>> = Vec::new();
        let batches = n.div_ceil(batch) as u64;
        let mut progress: Option<Progress> = None;
        for (i, first) in (0..n).step_by(batch).enumerate() {
            let count = batch.min(n - first);
            let shape = [count, channels, height, width];
            let labels = self
                .class
                .map(|class| Tensor::<1, Int>::full([count], class as i64, self.device));
            let mut captured = Vec::new();
            let batch = Drawn {
                shape,
                seed: self.seed,
                first_index: first as u64,
                labels,
                device: self.device.clone(),
            };
            let network = ModelDenoiser::new(&self.opened.model, self.precision);
            let images = draw(&network, self.plan, batch, &mut |state| {
                let of = state.of as u64;
                progress
                    .get_or_insert_with(|| Progress::start(0, batches * of, quiet))
                    .update(Update {
                        step: i as u64 * of + state.step as u64,
                        ..Update::default()
                    });
                if self.frames && is_frame(state.step, state.of) {
                    captured.push(state.xt.clone());
                }
                ControlFlow::Continue(())
            })?;
            for (k, frame) in captured.into_iter().enumerate() {
                let (frame, _) = image_batch(frame)?.into_parts();
                match frames.get_mut(k) {
                    Some(all) => all.extend(frame),
                    None => frames.push(frame),
                }
            }
            pixels.extend(image_batch(images)?.into_parts().0);
        }
        let shape = [n, channels, height, width];
        let frames = frames
            .into_iter()
            .map(|pixels| ImageBatch::new(pixels, shape)?.grid(GridOptions::default()))
            .collect::<Result<_, _>>()?;
        Ok((ImageBatch::new(pixels, shape)?, frames))
    }
}

/// Whether sampler step `step` (from 1) of `steps` is shown: evenly spread, the last always.
fn is_frame(step: usize, steps: usize) -> bool {
    (steps - step).is_multiple_of(steps.div_ceil(FRAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_held_is_refused() {
        assert!(check_memory(64, 3, [256, 256]).is_ok());
        assert!(check_memory(1_000_000, 3, [32, 32]).is_ok());
        assert!(check_memory(16, 3, [16384, 16384]).is_err());
        assert!(check_memory(usize::MAX, usize::MAX, [2, 2]).is_err());
    }

    #[test]
    fn frames_are_few_and_end_with_the_result() {
        for steps in [1, 2, 59, 60, 61, 250, 1000] {
            let frames: Vec<usize> = (1..=steps).filter(|&step| is_frame(step, steps)).collect();
            assert!(
                frames.len() <= FRAMES && frames.len() >= steps.min(30),
                "{steps}"
            );
            assert_eq!(frames.last(), Some(&steps));
        }
    }
}
