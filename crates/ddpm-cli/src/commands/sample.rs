//! `ddpm sample`.

pub(super) mod asked;
pub(super) mod classes;
pub(super) mod drawing;
pub(super) mod numbers;
pub(super) mod outputs;
pub(super) mod room;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use ddpm_model::OpenedModel;
use serde_json::json;

pub use self::asked::sampling;
use self::classes::{Classes, Known};
use self::drawing::{Drawing, frames};
use self::numbers::Numbers;
use self::outputs::Outputs;
use self::room::Need;
use super::{Report, shown};
use crate::args::{Common, SampleArgs};
use crate::exit::Exit;
use crate::size::parse_size;
use crate::{models, signals, words};

/// Images unless `--n` says otherwise.
const IMAGES: usize = 64;

/// Draws images.
///
/// # Errors   usage, format, device and memory errors with their exit codes
pub fn sample(args: &SampleArgs, common: Common) -> Result<Report> {
    asked::check_counts(args.n, args.batch)?;
    asked::check_first(args.first)?;
    let size = args.size.as_deref().map(parse_size).transpose()?;
    let path = models::named_or_latest(args.network.model.as_deref())?;
    let mut outputs = Outputs::plan(args, &name_of(&path))?;
    let picked = ddpm_device::resolve(args.network.device)?;
    args.network.precision.choose(&picked.device)?;
    let weights = args.network.weights.map(Into::into);
    let mut opened = OpenedModel::open(&path, weights, &picked.device)?;
    if let Some(warning) = &opened.warning {
        tracing::warn!("{warning}");
    }
    asked::check_no_picture(&opened)?;
    if outputs.npz.is_some() && opened.channels != 3 {
        tracing::warn!(
            "--npz: guided-diffusion's evaluator reads images of 3 channels, and these have {}",
            opened.channels
        );
    }
    let numbers = Numbers::asked(args.told.numbers.as_deref(), &opened, 0.0)?;
    let size = size.map(|size| [size.height, size.width]);
    let (size, figures) = asked::size("--size", size, &opened)?;
    let known = Known {
        conditioning: opened.model.conditioning(),
        names: opened.class_names.as_deref(),
    };
    let classes = Classes::asked(args.told.class.as_deref(), args.n, known)?;
    opened.prepare(args.sampling.sampler.as_deref(), args.sampling.steps)?;
    let process = opened.process()?;
    let config = asked::sampling(&args.sampling, args.told.guidance, &opened.sample)?;
    let guide = asked::guide(args.told.guide_by.as_deref(), weights, &opened, &config)?;
    let plan = config.plan(&process, opened.meaning)?;
    if let Some(warning) = asked::start_warning(&plan) {
        tracing::warn!("{warning}");
    }

    let image = [opened.channels, size[0], size[1]];
    let shots = frames(plan.steps());
    let (asked, usual) = match &classes {
        Some(classes) if args.told.class.is_some() => (Some(classes.total()), IMAGES),
        Some(classes) => (args.n, classes.total()),
        None => (args.n, IMAGES),
    };
    outputs.rows = classes.as_ref().and_then(Classes::rows);
    let n = outputs.fit(asked, usual, image, shots)?;
    let told = classes.as_ref().map(|classes| classes.told(n));
    let need = Need {
        figures: &figures,
        image,
        precision: args.network.precision,
        outputs: outputs.bytes(image, shots),
    };
    let batch = room::batch(&need, args.batch, n, &picked)?;
    outputs.check_sides(image, args.grid.is_some())?;
    let earlier = outputs.earlier(args.first)?;
    let stop = signals::listen()
        .context("signals cannot be handled")?
        .flag();

    let clock = Instant::now();
    let quiet = common.quiet > 0;
    let job = Drawing {
        opened: &opened,
        plan: &plan,
        size,
        told: &numbers.with(told.unwrap_or_default(), n),
        guide: guide.as_ref().map(|guide| &guide.model),
        seed: args.seed,
        first: args.first,
        n,
        batch,
        device: &picked.device,
        precision: args.network.precision,
        stop: &stop,
        quiet,
    };
    let done = job.run(&outputs, &earlier, !quiet && !common.json)?;
    let seconds = clock.elapsed().as_secs_f64();
    let removed = if done > 0 { earlier.ours.len() } else { 0 };
    let drawn = words::some(done as u64, "image");
    let place = format!("{} on {}", opened.path.display(), picked.name);
    let stopped = done < n;
    let mut text = match stopped {
        false => format!("drew {drawn} in {seconds:.1} s ({place})\n"),
        true => {
            let rest = classes.as_ref().map(|classes| classes.rest(done));
            stopped_after(done, n, args.first, rest, &outputs)
        }
    };
    let mut line = |what: &str, path: Option<&Path>| {
        if let Some(path) = path {
            text += &format!("  {what:<10}{}\n", path.display());
        }
    };
    let folder = outputs.folder.as_deref().filter(|_| done > 0);
    let grid = outputs
        .grid
        .as_ref()
        .filter(|_| !stopped)
        .map(|file| file.path.as_path());
    let animation = outputs
        .animation
        .as_ref()
        .filter(|_| !stopped)
        .map(|file| file.path.as_path());
    let npz = outputs.npz.as_deref().filter(|_| !stopped);
    line("images", folder);
    line("grid", grid);
    line("animation", animation);
    line("npz", npz);
    if removed > 0 {
        let removed = words::some(removed as u64, "image");
        text += &format!("{removed} of an earlier call had been there and made way\n");
    }
    let json = json!({
        "model": shown(&opened.path), "step": opened.step, "images": done, "first": args.first, "seconds": seconds,
        "device": picked.name, "seed": args.seed, "batch": batch, "sample": config, "stopped": stopped,
        "removed": removed, "out": folder.map(shown), "grid": grid.map(shown), "animation": animation.map(shown),
        "npz": npz.map(shown),
    });
    let exit = if stopped { Exit::Stopped } else { Exit::Done };
    Ok(Report { text, json, exit })
}

/// What is left after a signal.
fn stopped_after(
    done: usize,
    n: usize,
    first: u64,
    classes: Option<String>,
    outputs: &Outputs,
) -> String {
    let all = words::some(n as u64, "image");
    if done == 0 || outputs.folder.is_none() {
        return format!("stopped; of {all} none is written\n");
    }
    let rest = format!(
        "stopped after {} of {all}, which stay; draw the rest by the same command with --first {} --n {}{}\n",
        words::count(done as u64),
        first + done as u64,
        n - done,
        classes.map_or_else(String::new, |rest| format!(" --class {rest}")),
    );
    match &outputs.npz {
        Some(path) => format!(
            "{rest}{} is not written: it holds the images of one call, so draw all again for it\n",
            path.display()
        ),
        None => rest,
    }
}

/// What outputs are called that nobody has named: as the run's or the model's folder.
pub(super) fn name_of(path: &Path) -> String {
    path.canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "model".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_says_how_to_go_on() {
        let outputs = |folder: Option<&str>, npz: Option<&str>| Outputs {
            folder: folder.map(Into::into),
            grid: None,
            animation: None,
            npz: npz.map(Into::into),
            rows: None,
        };
        let folder = outputs(Some("set"), None);
        assert_eq!(
            stopped_after(128, 10_000, 64, None, &folder),
            "stopped after 128 of 10,000 images, which stay; draw the rest by the same command with --first 192 \
             --n 9872\n"
        );
        let both = outputs(Some("set"), Some("a.npz"));
        assert_eq!(
            stopped_after(5, 9, 0, Some("1:4".into()), &both),
            "stopped after 5 of 9 images, which stay; draw the rest by the same command with --first 5 --n 4 --class \
             1:4\na.npz is not written: it holds the images of one call, so draw all again for it\n"
        );
        let npz = outputs(None, Some("a.npz"));
        for (done, outputs) in [(0, &folder), (0, &both), (5, &npz)] {
            assert_eq!(
                stopped_after(done, 9, 0, None, outputs),
                "stopped; of 9 images none is written\n"
            );
        }
        assert_eq!(
            stopped_after(0, 1, 0, None, &folder),
            "stopped; of 1 image none is written\n"
        );
    }
}
