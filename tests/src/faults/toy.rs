//! The toy run that faults are tried on: a few thousand parameters, 8×8 images, 60 steps, a checkpoint every 10.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Form;
use crate::{Ended, Sandbox};

/// Steps of the run.
pub const STEPS: u64 = 60;
/// From one checkpoint to the next.
pub const EVERY: u64 = 10;

/// Windows of the metric log end at other steps than checkpoints, so that a checkpoint in the middle of one counts.
const SETTINGS: &[&str] = &[
    "model.channels=8",
    "model.multipliers=[1,2]",
    "model.blocks=1",
    "model.groups=4",
    "train.batch=4",
    "train.steps=60",
    "train.log_every=4",
    "train.checkpoint_every=10",
    "train.sample_every=0",
    "train.keep=1",
    "sample.steps=2",
    "sample.count=1",
    "optim.warmup_steps=2",
];

/// What is trained instead of ε over a table.
static OBJECTIVE: Mutex<&[&str]> = Mutex::new(&[]);

/// From now on every run is of this objective.
pub fn choose(objective: &'static [&'static str]) {
    *OBJECTIVE.lock().unwrap_or_else(PoisonError::into_inner) = objective;
}

/// Arguments that begin the run, with more settings.
pub fn begin(run: &str, more: &[&str]) -> Vec<String> {
    let mut args = words(&["train", "--json", "--device", "cpu", "--run", run]);
    let objective = *OBJECTIVE.lock().unwrap_or_else(PoisonError::into_inner);
    for set in SETTINGS.iter().chain(objective).chain(more) {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    args
}

/// Arguments that go on with the run.
pub fn go_on(run: &str) -> Vec<String> {
    words(&[
        "train", "--json", "--device", "cpu", "--resume", "--run", run,
    ])
}

/// Arguments that begin the run or go on with it, as a person would who finds what a crash left.
pub fn begin_or_go_on(place: &Sandbox, run: &str, more: &[&str]) -> Vec<String> {
    if place.path(run).join("config.toml").is_file() {
        go_on(run)
    } else {
        begin(run, more)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Runs a prepared command to its end. One thread is enough for a toy and leaves the others for other cases; the
/// bits are the same.
pub fn end(command: &mut Command) -> Result<Ended> {
    command.env("RAYON_NUM_THREADS", "1");
    Ok(Ended::from(
        command.output().context("ddpm does not start")?,
    ))
}

/// An error unless it ended with this code and one sentence with these words (none for 0 and 75).
pub fn expect(ended: &Ended, code: i32, sentence: &[&str]) -> Result<()> {
    let Ended { stdout, stderr, .. } = ended;
    ensure!(
        ended.code == Some(code),
        "exit {:?} instead of {code}\n{stdout}\n{stderr}",
        ended.code
    );
    let bug = ["panicked", "ddpm has a bug"]
        .iter()
        .any(|word| stderr.contains(word));
    ensure!(!bug, "a panic\n{stderr}");
    if !sentence.is_empty() {
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        ensure!(errors.len() == 1, "{} sentences\n{stderr}", errors.len());
        for word in sentence {
            ensure!(errors[0].contains(word), "no `{word}` in: {}", errors[0]);
        }
    }
    Ok(())
}

/// What a finished run leaves, without what is a clock's.
#[derive(Clone, PartialEq, Eq)]
pub struct Result60 {
    /// Bytes of weights, EMA and moments at the last step.
    tensors: BTreeMap<&'static str, Vec<u8>>,
    /// Bytes of the picture that is drawn after the last step.
    picture: Vec<u8>,
    metrics: Vec<Value>,
}

/// The files of a checkpoint that hold its tensors.
pub const TENSORS: [&str; 3] = [
    "unet/diffusion_pytorch_model.safetensors",
    "ema/diffusion_pytorch_model.safetensors",
    "optimiser.safetensors",
];

impl Result60 {
    /// That of a run that has done all its steps.
    pub fn of(run: &Path) -> Result<Self> {
        let checkpoint = run.join(format!("checkpoints/step-{STEPS}"));
        ddpm_store::checkpoint::verify(&checkpoint)?;
        let mut tensors = BTreeMap::new();
        for name in TENSORS {
            let path = checkpoint.join(name);
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            tensors.insert(name, bytes);
        }
        let picture = run.join(format!("samples/step-{STEPS:08}.png"));
        Ok(Self {
            tensors,
            picture: fs::read(&picture).with_context(|| picture.display().to_string())?,
            metrics: metrics(run)?,
        })
    }

    /// An error that says which part is another one.
    pub fn must_equal(&self, reference: &Self) -> Result<()> {
        for (name, bytes) in &self.tensors {
            ensure!(
                reference.tensors.get(name) == Some(bytes),
                "{name} differs from the uninterrupted run's"
            );
        }
        ensure!(
            self.picture == reference.picture,
            "the last picture differs from the uninterrupted run's"
        );
        ensure!(
            self.metrics == reference.metrics,
            "the metric log differs from the uninterrupted run's: {:?} instead of {:?}",
            self.metrics,
            reference.metrics
        );
        Ok(())
    }
}

/// The metric log without the figures that are a clock's.
pub fn metrics(run: &Path) -> Result<Vec<Value>> {
    let mut lines = ddpm_store::read_metrics(&run.join("metrics.jsonl"))?;
    for line in &mut lines {
        if let Some(line) = line.as_object_mut() {
            line.remove("images_per_s");
        }
    }
    Ok(lines)
}

/// Runs the toy without faults, in `reference` below `place`.
pub fn reference(place: &Sandbox, more: &[&str]) -> Result<Result60> {
    expect(&end(&mut place.command(begin("reference", more)))?, 0, &[])?;
    Result60::of(&place.path("reference"))
}

/// Starts or goes on without faults, and compares what comes out.
pub fn finish(place: &Sandbox, run: &str, more: &[&str], reference: &Result60) -> Result<Ended> {
    let ended = end(&mut place.command(begin_or_go_on(place, run, more)))?;
    expect(&ended, 0, &[])?;
    let path = place.path(run);
    let left = temporaries(&path)?;
    ensure!(left.is_empty(), "temporaries are left: {left:?}");
    Result60::of(&path)?.must_equal(reference)?;
    Ok(ended)
}

/// Everything below a folder that has a name as unfinished things have.
pub fn temporaries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".tmp-") || name.starts_with(".replaced-") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(temporaries(&path)?);
        }
    }
    Ok(found)
}

/// Copies a run.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Every file below a folder, sorted.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Tries every case, in the full form on all cores, and stops at the first that fails. Returns how many there were.
pub fn each<C: Sync>(
    form: Form,
    cases: &[C],
    name: impl Fn(&C) -> String + Sync,
    try_one: impl Fn(usize, &C) -> Result<()> + Sync,
) -> Result<u64> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..form.pick(1, cores) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else {
                        return;
                    };
                    if let Err(error) = try_one(number, case) {
                        let error = error.context(name(case));
                        failed
                            .lock()
                            .unwrap_or_else(|held| held.into_inner())
                            .get_or_insert(error);
                        next.store(cases.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(Some(error)) => Err(error),
        Ok(None) => Ok(cases.len() as u64),
        Err(_) => bail!("a case panicked"),
    }
}

/// A number that is a function of a seed and a case (splitmix64).
pub fn random(seed: u64, case: u64) -> u64 {
    let mut z = seed ^ case.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
