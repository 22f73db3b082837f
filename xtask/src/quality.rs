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
use self::sets::{SETS, Set};

/// What is trained and judged.
#[derive(Debug, Args)]
#[command(
    after_help = "Trains a recipe, with --peer also diffusers' network for as many seconds, with --ablation also the recipe with
one choice changed at a time, below target/quality; draws as many images from each; and judges all of them by the same
`ddpm eval`. Nothing else should run meanwhile. What an earlier call left is not trained again."
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
    /// Images of each; without it, as many as the recipe promises
    #[arg(long, short = 'n')]
    n: Option<usize>,
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
        n: options.n.unwrap_or(set.n),
    };
    print(&Row::header(set.name, work.n, options.seeds))?;
    let seeds = 0..options.seeds;
    let ours = work.row(&format!("`{}`", set.recipe), "ours", &[], seeds.clone())?;
    print(&ours.line())?;
    if let Some(python) = &options.peer {
        let mut peer = Row::new("diffusers");
        for seed in seeds.clone() {
            work.peer(python, seed, ours.seconds[seed as usize], &mut peer)?;
        }
        print(&peer.line())?;
    }
    if let Some(picture) = &options.picture {
        let mut folders = vec![work.images()?];
        if options.peer.is_some() {
            folders.push(work.place("peer", 0));
        }
        sheet::draw(&folders, &root.join(picture))?;
    }
    let Some(part) = &options.ablation else {
        return Ok(());
    };
    for (name, sets) in set.variants {
        if name.contains(part.as_str()) {
            print(&work.row(name, name, sets, seeds.clone())?.line())?;
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

    /// The recipe with some keys set, by each seed. A first set that is a recipe stands for that one; options of
    /// `ddpm eval` stand for another way to draw from the recipe's own run.
    fn row(
        &self,
        shown: &str,
        name: &str,
        sets: &[&str],
        seeds: std::ops::Range<u64>,
    ) -> anyhow::Result<Row> {
        let mut row = Row::new(shown);
        let drawn = match sets.first() {
            Some(first) if first.starts_with("--") => sets,
            _ => &[],
        };
        for seed in seeds {
            let run = match drawn {
                [] => self.place(name, seed),
                _ => self.place("ours", seed),
            };
            let told = run.join("trained.json");
            if !told.is_file() {
                let (recipe, sets) = match sets.split_first() {
                    Some((recipe, sets)) if recipe.ends_with(".toml") => (*recipe, sets),
                    _ => (self.set.recipe, sets),
                };
                let seed = format!("seed={seed}");
                let sets: Vec<&str> = sets.iter().copied().chain([seed.as_str()]).collect();
                let clock = Instant::now();
                let mut said = self.ddpm.train(recipe, &sets, &run)?;
                said["seconds"] = clock.elapsed().as_secs_f64().into();
                std::fs::write(&told, said.to_string())?;
            }
            let told: Value = serde_json::from_slice(&std::fs::read(told)?)?;
            let figures = self.judge(&run, &self.judged(name, seed), drawn)?;
            row.push(&told["step"], &told["seconds"], figures);
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
        let figures = self.judge(&out, &self.judged("peer", seed), self.set.reference)?;
        row.push(&told["steps"], &told["seconds"], figures);
        Ok(())
    }

    /// Where an evaluation goes.
    fn judged(&self, name: &str, seed: u64) -> PathBuf {
        self.place(&format!("{name} eval"), seed)
    }

    /// The images of the recipe that were judged.
    fn images(&self) -> anyhow::Result<PathBuf> {
        let judged = self.judged("ours", 0);
        for entry in std::fs::read_dir(&judged)? {
            let path = entry?.path();
            if path.is_dir() {
                return Ok(path);
            }
        }
        bail!("{} has no images", judged.display())
    }

    /// The figures of a run, or of a folder of images beside the set.
    fn judge(&self, images: &Path, out: &Path, more: &[&str]) -> anyhow::Result<Value> {
        let (images, out) = (images.display().to_string(), out.display().to_string());
        let n = self.n.to_string();
        let mut arguments = vec!["eval", &images, "-n", &n, "--device", "cpu", "--out", &out];
        arguments.extend(more);
        let mut told = self.ddpm.run(&arguments)?;
        let mut figures = told["evaluation"]["figures"].take();
        for key in ["nearest_ratio", "copied_share"] {
            figures[key] = figures["copies"][key].take();
        }
        Ok(figures)
    }
}
