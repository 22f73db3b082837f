//! How good the recipes' images are after the same time as a peer's, and what single choices bring.

mod row;
mod sets;
mod sheet;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::programs::Ddpm;
use crate::step::{print, say};

use self::row::Row;
use self::sets::{Change, SETS, Set};

/// What is trained and judged.
#[derive(Debug, Args)]
#[command(
    after_help = "Trains a recipe, with --peer also diffusers' network for as many seconds, with --ablation also the recipe with
one choice changed at a time, below target/quality; draws as many images from each; and judges all of them by the same
`ddpm eval`. Nothing else should run meanwhile. What an earlier call left is not trained again: after a change of a recipe or
of -n, remove target/quality first."
)]
pub struct Options {
    /// digits, fashion-mnist or sprites
    name: String,
    /// A Python with torch, diffusers, numpy and pillow, for the peer
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// Also the recipe with one choice changed at a time; --ablation=PART only those whose name contains PART
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    ablation: Option<String>,
    /// Seeds, from 0
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Images of each
    #[arg(long, short = 'n', default_value_t = 1000)]
    n: usize,
    /// Some images of the first seed, and the peer's beside them, in this file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Trains, draws, judges and prints.
///
/// # Errors
/// If something does not build, train, draw or judge.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let named = |set: &&Set| set.name == options.name;
    let set = SETS.iter().find(named).with_context(|| {
        let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        let names = names.join(", ");
        format!("{}: no such set; there are {names}", options.name)
    })?;
    ensure!(options.seeds > 0, "--seeds must be at least 1");
    let work = Work {
        ddpm: Ddpm::build(root)?,
        root,
        set,
        n: options.n,
    };
    print(&Row::header(set.name, work.n, options.seeds))?;
    let seeds = 0..options.seeds;
    let shown = format!("`{}`", set.recipe);
    let ours = work.row(&shown, "ours", Change::Keys(&[]), seeds.clone())?;
    print(&ours.line())?;
    let mut folders = Vec::from_iter(ours.images.first().cloned());
    if let Some(python) = &options.peer {
        let mut peer = Row::new("diffusers");
        for seed in seeds.clone() {
            work.peer(python, seed, ours.seconds[seed as usize], &mut peer)?;
        }
        print(&peer.line())?;
        folders.extend(peer.images.first().cloned());
    }
    if let Some(picture) = &options.picture {
        sheet::draw(&folders, &root.join(picture))?;
    }
    let Some(part) = &options.ablation else {
        return Ok(());
    };
    for &(name, change) in set.variants {
        if name.contains(part.as_str()) {
            print(&work.row(name, name, change, seeds.clone())?.line())?;
        }
    }
    Ok(())
}

/// What is done with a set.
struct Work<'a> {
    ddpm: Ddpm,
    root: &'a Path,
    set: &'a Set,
    n: usize,
}

impl Work<'_> {
    fn place(&self, name: &str, seed: u64) -> PathBuf {
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let folder = self.ddpm.target.join("quality");
        folder.join(format!("{}-{name}-{seed}", self.set.name))
    }

    /// The recipe with a change, by each seed.
    fn row(
        &self,
        shown: &str,
        name: &str,
        change: Change,
        seeds: std::ops::Range<u64>,
    ) -> anyhow::Result<Row> {
        let mut row = Row::new(shown);
        let none: &[&str] = &[];
        let (run, recipe, sets, drawn) = match change {
            Change::Keys(sets) => (name, self.set.recipe, sets, none),
            Change::Recipe(recipe, sets) => (name, recipe, sets, none),
            Change::Drawn(options) => ("ours", self.set.recipe, none, options),
        };
        for seed in seeds {
            let run = self.place(run, seed);
            let told = run.join("trained.json");
            if !told.is_file() {
                let seed = format!("seed={seed}");
                let sets: Vec<&str> = sets.iter().copied().chain([seed.as_str()]).collect();
                let clock = Instant::now();
                let mut said = self.ddpm.train(recipe, &sets, &run)?;
                said["seconds"] = clock.elapsed().as_secs_f64().into();
                std::fs::write(&told, said.to_string())?;
            }
            let told: Value = serde_json::from_slice(&std::fs::read(told)?)?;
            let judged = self.judge(&run, &self.judged(name, seed), drawn)?;
            let images = judged["images"].as_str();
            row.images
                .push(images.context("no images were drawn")?.into());
            row.push(&told["step"], &told["seconds"], &judged);
        }
        Ok(row)
    }

    /// The peer's images after as many seconds.
    fn peer(&self, python: &Path, seed: u64, seconds: f64, row: &mut Row) -> anyhow::Result<()> {
        let out = self.place("peer", seed);
        let told = out.join("trained.json");
        if !told.is_file() {
            let (seconds, n, seed) = (
                format!("{seconds:.1}"),
                self.n.to_string(),
                seed.to_string(),
            );
            let arguments = [
                "--data",
                self.set.name,
                "--seconds",
                &seconds,
                "--n",
                &n,
                "--seed",
                &seed,
                "--out",
            ];
            say(&format!("== train_peer.py {}", arguments.join(" ")));
            let ended = Command::new(python)
                .arg(self.root.join("xtask/peer/train_peer.py"))
                .args(arguments)
                .arg(&out)
                .output()
                .with_context(|| python.display().to_string())?;
            if !ended.status.success() {
                bail!("{}", String::from_utf8_lossy(&ended.stderr).trim_end());
            }
            std::fs::write(&told, ended.stdout)?;
        }
        let told: Value = serde_json::from_slice(&std::fs::read(told)?)?;
        let judged = self.judge(&out, &self.judged("peer", seed), self.set.reference)?;
        row.images.push(out);
        row.push(&told["steps"], &told["seconds"], &judged);
        Ok(())
    }

    /// Where an evaluation goes.
    fn judged(&self, name: &str, seed: u64) -> PathBuf {
        self.place(&format!("{name} eval"), seed)
    }

    /// What `ddpm eval` says of a run, or of a folder of images beside the set.
    fn judge(&self, images: &Path, out: &Path, more: &[&str]) -> anyhow::Result<Value> {
        let (images, out) = (images.display().to_string(), out.display().to_string());
        let n = self.n.to_string();
        let mut arguments = vec!["eval", &images, "-n", &n, "--device", "cpu", "--out", &out];
        arguments.extend(more);
        self.ddpm.run(&arguments)
    }
}
