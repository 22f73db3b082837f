//! `ddpm eval RUN|DIR|FOLDER|NPZ`: every figure of generated images.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use ddpm_data::{DataConfig, Dataset, read_picture};
use ddpm_device::Picked;
use ddpm_eval::{
    Drawn, EvalError, Evaluation, Extractor, Features, Judge, Reference, Sampling, Settings,
};
use ddpm_model::OpenedModel;
use ddpm_store::atomic::write_file;
use ddpm_store::images::{check_writable, numbered_name};
use serde_json::json;

use super::super::sample::{asked, name_of};
use super::super::{Report, shown};
use super::drawn::Painter;
use super::extractors;
use super::folder_of;
use super::named::Named;
use super::nearest;
use super::promise;
use super::real::{Reading, Real, statistics, test_split};
use super::stream::{CHUNK, Stream, Watch, fingerprint, images};
use super::table;
use crate::args::{Common, JudgeArgs};
use crate::exit::{Exit, UsageError};
use crate::machine::{self, NoRoom};
use crate::{models, signals, words};

/// The file of an evaluation.
pub const FILE: &str = "eval.json";
/// Images that are drawn unless `-n` says otherwise, at most.
const MOST: usize = 10_000;

/// Whether a signal came.
type Asked<'a> = &'a (dyn Fn() -> bool + Sync);

/// What is judged.
enum Subject {
    /// A network that draws.
    Model(Box<OpenedModel>),
    /// Images that are there.
    Images(Box<Dataset>),
}

/// Images that went through the extractor.
struct Seen {
    features: Features,
    images: Drawn,
    sampling: Option<Sampling>,
    class_names: Option<Vec<String>>,
    /// The folder of those that were drawn here.
    folder: Option<PathBuf>,
    /// Those that were there.
    given: Option<Dataset>,
    /// How many of them an earlier call had drawn.
    before: usize,
}

/// Draws what is missing, and judges it.
///
/// # Errors   usage, format, data, device and memory errors with their exit codes
pub fn judge(args: &JudgeArgs, common: Common) -> Result<Report> {
    asked::check_counts(args.n, args.batch)?;
    let path = models::named_or_latest(args.subject.as_deref())?;
    let picked = ddpm_device::resolve(args.device)?;
    args.precision.choose(&picked.device)?;
    let stop = signals::listen()
        .context("signals cannot be handled")?
        .flag();
    let stop = || stop.load(Ordering::Relaxed);
    let clock = Instant::now();
    let found = judged(args, &path, &picked, &stop, common);
    let (evaluation, seen, out) = match found {
        Err(error) if matches!(error.downcast_ref(), Some(EvalError::Stopped)) => {
            return Ok(Report {
                text: "stopped; what is drawn stays, and the same command goes on\n".into(),
                json: json!({ "stopped": true }),
                exit: Exit::Stopped,
            });
        }
        found => found?,
    };
    let seconds = clock.elapsed().as_secs_f64();
    let file = out.folder.join(FILE);
    write_file(&file, &serde_json::to_vec_pretty(&evaluation)?)?;
    for warning in &evaluation.figures.warnings {
        tracing::warn!("{warning}");
    }
    let mut text = format!(
        "{}: {} by {}, beside {}, in {seconds:.1} s on {}\n\n{}\n  figures   {}\n",
        evaluation.subject,
        words::some(evaluation.images.n as u64, "image"),
        evaluation.extractor.name,
        evaluation.reference.name,
        picked.name,
        table::one(&evaluation),
        file.display()
    );
    for (what, path) in [
        ("images", &seen.folder),
        ("nearest", &out.nearest),
        ("statistics", &args.stats),
    ] {
        if let Some(path) = path {
            text += &format!("  {what:<10}{}\n", path.display());
        }
    }
    let held = promise::held(args, &path, &evaluation)?;
    text += &promise::text(&held);
    let json = json!({
        "evaluation": evaluation, "promise": promise::json(&held), "file": shown(&file), "images": seen.folder.as_deref().map(shown),
        "drawn_before": seen.before, "nearest": out.nearest.as_deref().map(shown), "seconds": seconds,
        "device": picked.name,
    });
    Ok(Report::done(text, json))
}

/// Where results are.
struct Out {
    folder: PathBuf,
    nearest: Option<PathBuf>,
}

impl Seen {
    /// One of the images, `[channels, height, width]`.
    fn pixels(&self, index: usize) -> Result<Vec<f32>> {
        match (&self.folder, &self.given) {
            (Some(folder), _) => {
                let reading = DataConfig {
                    channels: Some(self.images.shape[0]),
                    ..DataConfig::default()
                };
                let file = folder.join(numbered_name(index as u64));
                Ok(read_picture(&file, &reading)?.pixels)
            }
            (None, Some(given)) => Ok(given.get(index, false)?.pixels),
            (None, None) => Ok(Vec::new()),
        }
    }
}

fn judged(
    args: &JudgeArgs,
    path: &Path,
    picked: &Picked,
    stop: Asked<'_>,
    common: Common,
) -> Result<(Evaluation, Seen, Out)> {
    let quiet = common.quiet > 0;
    let subject = match is_model(path) {
        true => {
            let opened = OpenedModel::open(path, args.weights.map(Into::into), &picked.device)?;
            Subject::Model(Box::new(opened))
        }
        false => Subject::Images(Box::new(given(args, path)?)),
    };
    let folder = match &args.out {
        Some(out) => out.clone(),
        None if path.join("config.toml").is_file() => path.join("eval"),
        None => Path::new("eval").join(name_of(path)),
    };
    check_writable(&folder)?;
    if let Some(file) = &args.stats {
        check_writable(folder_of(file))?;
    }
    let settings = Settings::default();
    let (extractor, real) = reference(args, path, &subject, picked, settings, (stop, quiet))?;
    if let Some(file) = &args.stats {
        real.reference.save(file)?;
    }
    let usual = real.record.n.unwrap_or(MOST).min(MOST);
    let seen = match subject {
        Subject::Images(dataset) => seen_of(args, *dataset, (&extractor, &real), stop, quiet)?,
        Subject::Model(opened) => {
            let n = args.n.unwrap_or(usual);
            let painter = Painter::new(args, *opened, picked.clone(), n)?;
            let images = painter.folder(&folder);
            let stream = Stream::new(&extractor, Watch::new(stop, n, quiet));
            let (before, stream) = painter.run(&images, args.seed, stop, stream)?;
            let (mut features, blake3) = stream.finish();
            features.labels = painter
                .labels()
                .filter(|_| real.names_agree(painter.class_names().as_deref()));
            Seen {
                features,
                images: Drawn {
                    n,
                    shape: painter.image(),
                    blake3,
                },
                sampling: Some(painter.sampling(args)),
                class_names: painter.class_names(),
                folder: Some(images),
                given: None,
                before,
            }
        }
    };
    let judge = Judge {
        reference: &real.reference,
        held_out: real.held_out.as_ref(),
        settings,
    };
    let watch = Mutex::new(Watch::new(stop, judge.ticks(seen.features.count()), quiet));
    let figures = judge.figures(&seen.features, &|| {
        let mut watch = watch
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match watch.advance(1) {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(_) => std::ops::ControlFlow::Break(()),
        }
    })?;
    drop(watch);
    let pictures = match (&figures.copies, &real.dataset) {
        (Some(copies), Some(training)) if training.shape() == seen.images.shape => {
            let saved = nearest::save(
                &folder,
                settings.pairs,
                &copies.nearest,
                seen.images.n,
                &|index| seen.pixels(index),
                training,
            );
            Some(saved?)
        }
        _ => None,
    };
    let own_names = real
        .dataset
        .as_ref()
        .and_then(|dataset| dataset.class_names().map(<[String]>::to_vec));
    let evaluation = Evaluation {
        version: Evaluation::VERSION,
        subject: shown(path),
        images: seen.images.clone(),
        sampling: seen.sampling.clone(),
        extractor: extractor.record(),
        reference: real.record,
        settings,
        figures,
        class_names: seen.class_names.clone().or(own_names),
    };
    let out = Out {
        folder,
        nearest: pictures,
    };
    Ok((evaluation, seen, out))
}

/// A path that holds a network, not images.
fn is_model(path: &Path) -> bool {
    const FILES: [&str; 6] = [
        "config.toml",
        "manifest.json",
        "state.json",
        "model_index.json",
        "config.json",
        "snapshots",
    ];
    FILES.iter().any(|name| path.join(name).exists())
}

/// Images that are there already, as they are.
fn given(args: &JudgeArgs, path: &Path) -> Result<Dataset> {
    let drawing = [
        ("--weights", args.weights.is_some()),
        ("--sampler", args.sampling.sampler.is_some()),
        ("--steps", args.sampling.steps.is_some()),
        ("--spacing", args.sampling.spacing.is_some()),
        ("--eta", args.sampling.eta.is_some()),
        ("--set", !args.sampling.set.is_empty()),
        ("--class", args.told.class.is_some()),
        ("--numbers", args.told.numbers.is_some()),
        ("--guidance", args.told.guidance.is_some()),
        ("--guide-by", args.told.guide_by.is_some()),
        ("--batch", args.batch.is_some()),
        ("--size", args.size.is_some()),
    ];
    if let Some((option, _)) = drawing.iter().find(|(_, given)| *given) {
        return Err(UsageError(format!(
            "{option}: {} holds images, which are drawn already; leave it out",
            path.display()
        ))
        .into());
    }
    let named = Named {
        option: "RUN|DIR|FOLDER|NPZ",
        path: Some(path),
        size: None,
        set: &[],
    };
    Ok(Dataset::load(&named.data(path, None)?, 0, &mut |_, _| {})?)
}

/// The extractor and the reference: the one may be found by the other's digest.
fn reference(
    args: &JudgeArgs,
    path: &Path,
    subject: &Subject,
    picked: &Picked,
    settings: Settings,
    (stop, quiet): (Asked<'_>, bool),
) -> Result<(Extractor, Real)> {
    let open = |fingerprint: Option<&str>| {
        extractors::open(&args.extractor, args.resize, fingerprint, &picked.device)
    };
    if let Some(file) = args
        .reference
        .as_ref()
        .filter(|file| Reference::is_one(file))
    {
        return Ok((open(None)?, statistics(file)?));
    }
    let opened = match subject {
        Subject::Model(opened) => Some(&**opened),
        Subject::Images(_) => None,
    };
    let named = Named {
        option: "--reference",
        path: args.reference.as_deref(),
        size: None,
        set: &args.reference_set,
    };
    let mut data = named.data(path, opened)?;
    let shape = match subject {
        Subject::Model(opened) => opened
            .size
            .map(|[height, width]| [opened.channels, height, width]),
        Subject::Images(dataset) => Some(dataset.shape()),
    };
    if args.reference.is_some()
        && data.channels.is_none()
        && data.kind != ddpm_data::DataKind::Digits
    {
        data.channels = shape.map(|[channels, ..]| channels);
    }
    let held_out = match &args.held_out {
        Some(others) => {
            let named = Named {
                option: "--held-out",
                path: Some(others),
                size: data.size,
                set: &[],
            };
            let mut others = named.data(path, opened)?;
            others.channels = data.channels;
            Some(Dataset::load(&others, 0, &mut |_, _| {})?)
        }
        None => test_split(&data),
    };
    let dataset = Dataset::load(&data, 0, &mut |_, _| {})?;
    if let (Some(shape), "pixels") = (shape, args.extractor.to_str().unwrap_or_default())
        && dataset.shape() != shape
    {
        return Err(UsageError(format!(
            "the generated images are {shape:?} and the reference's {:?} (channels, height, width), and pixels compare only \
             with pixels; set --reference-set size=[{}, {}], or take --extractor inception",
            dataset.shape(),
            shape[1],
            shape[2]
        ))
        .into());
    }
    let digest = fingerprint(&dataset)?;
    let extractor = open(Some(&digest))?;
    let n = args.n.unwrap_or(match subject {
        Subject::Model(_) => dataset.len().min(MOST),
        Subject::Images(given) => given.len(),
    });
    let counts = [n, dataset.len(), held_out.as_ref().map_or(0, Dataset::len)];
    check_room(&extractor, counts, dataset.shape(), settings)?;
    let reading = Reading {
        extractor: &extractor,
        settings,
        stop,
        quiet,
    };
    let real = reading.set((dataset, digest), held_out)?;
    Ok((extractor, real))
}

/// Refuses features that the machine's memory has no room for.
fn check_room(
    extractor: &Extractor,
    counts: [usize; 3],
    image: [usize; 3],
    settings: Settings,
) -> Result<(), NoRoom> {
    let numbers = extractor.numbers(image) as u128;
    // All features in f32, and those that are compared pair by pair in f64 besides.
    let needed = counts
        .iter()
        .map(|&n| numbers * (4 * n + 8 * n.min(settings.pairs)) as u128)
        .sum::<u128>();
    match machine::memory() {
        Some(memory) if needed > u128::from(memory.available) => Err(NoRoom(format!(
            "features of {} and {} by {} take about {}, and this machine has {} free; lower -n, or take another extractor",
            words::some(counts[0] as u64, "image"),
            words::some((counts[1] + counts[2]) as u64, "real one"),
            extractor.record().name,
            words::bytes(needed),
            words::bytes(memory.available.into()),
        ))),
        _ => Ok(()),
    }
}

/// Features of images that are there.
fn seen_of(
    args: &JudgeArgs,
    dataset: Dataset,
    (extractor, real): (&Extractor, &Real),
    stop: Asked<'_>,
    quiet: bool,
) -> Result<Seen> {
    let n = args.n.unwrap_or(dataset.len());
    if n > dataset.len() {
        return Err(UsageError(format!("-n {n}: {} has not as many", dataset.describe())).into());
    }
    let mut stream = Stream::new(extractor, Watch::new(stop, n, quiet));
    for from in (0..n).step_by(CHUNK) {
        stream.take(&images(&dataset, from..n.min(from + CHUNK))?)?;
    }
    let (mut features, blake3) = stream.finish();
    let labels = dataset
        .labels()
        .filter(|_| real.names_agree(dataset.class_names()));
    features.labels = labels.map(|labels| labels[..n].to_vec());
    Ok(Seen {
        features,
        images: Drawn {
            n,
            shape: dataset.shape(),
            blake3,
        },
        sampling: None,
        class_names: None,
        folder: None,
        given: Some(dataset),
        before: 0,
    })
}
