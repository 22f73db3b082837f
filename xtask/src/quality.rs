//! How good the recipes' images are after the same time as a peer's, and what single choices bring.

mod sets;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::programs::Ddpm;
use crate::step::{print, say};

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
}

/// The figures of a table, by their names in eval.json.
const FIGURES: [(&str, &str); 6] = [
    ("Fréchet", "frechet_distance"),
    ("kernel", "kernel_distance"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("nearest", "nearest_ratio"),
    ("copies", "copied_share"),
];

/// A row of the table: figures by seed.
struct Row {
    name: String,
    seconds: Vec<f64>,
    figures: Vec<Value>,
}

/// Trains, draws, judges and prints.
///
/// # Errors
/// If something does not build, train, draw or judge.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let set = SETS
        .iter()
        .find(|set| set.name == options.name)
        .with_context(|| {
            let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
            format!(
                "{}: no such set; there are {}",
                options.name,
                names.join(", ")
            )
        })?;
    ensure!(options.seeds > 0, "--seeds must be at least 1");
    let work = Work {
        ddpm: Ddpm::build(root)?,
        root,
        set,
        n: options.n.unwrap_or(set.n),
    };
    print(&format!(
        "{}: {} images by pixels, {} seeds\n",
        set.name, work.n, options.seeds
    ))?;
    let seeds = 0..options.seeds;
    let ours = work.row("ours", &[], seeds.clone())?;
    ours.print()?;
    if let Some(python) = &options.peer {
        let mut peer = Row::new("peer");
        for seed in seeds.clone() {
            work.peer(python, seed, ours.seconds[seed as usize], &mut peer)?;
        }
        peer.print()?;
    }
    if let Some(part) = &options.ablation {
        for (name, sets) in set.variants {
            if name.contains(part.as_str()) {
                work.row(name, sets, seeds.clone())?.print()?;
            }
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
        let name = name.replace([' ', '/', ','], "-");
        self.ddpm
            .target
            .join("quality")
            .join(format!("{}-{name}-{seed}", self.set.name))
    }

    /// The recipe with some keys set, by each seed.
    fn row(&self, name: &str, sets: &[&str], seeds: std::ops::Range<u64>) -> anyhow::Result<Row> {
        let mut row = Row::new(name);
        for seed in seeds {
            let run = self.place(name, seed);
            let told = run.join("seconds.txt");
            if !told.is_file() {
                let mut sets: Vec<&str> = sets.to_vec();
                let seed = format!("seed={seed}");
                sets.push(&seed);
                let clock = Instant::now();
                self.ddpm.train(self.set.recipe, &sets, &run)?;
                std::fs::write(&told, clock.elapsed().as_secs_f64().to_string())?;
            }
            row.seconds
                .push(std::fs::read_to_string(&told)?.trim().parse()?);
            row.figures.push(self.judge(&run, &[])?);
        }
        Ok(row)
    }

    /// The peer's images after as many seconds.
    fn peer(&self, python: &Path, seed: u64, seconds: f64, row: &mut Row) -> anyhow::Result<()> {
        let out = self.place("peer", seed);
        if !out.join("peer.json").is_file() {
            let script = self.root.join("xtask/peer/train_peer.py");
            let (seconds, n, seed) = (
                format!("{seconds:.1}"),
                self.n.to_string(),
                seed.to_string(),
            );
            say(&format!(
                "== train_peer.py --data {} --seconds {seconds} --seed {seed}",
                self.set.name
            ));
            let ended = Command::new(python)
                .arg(script)
                .args([
                    "--data",
                    self.set.name,
                    "--seconds",
                    &seconds,
                    "--n",
                    &n,
                    "--seed",
                    &seed,
                    "--out",
                ])
                .arg(&out)
                .output()
                .with_context(|| python.display().to_string())?;
            if !ended.status.success() {
                bail!("{}", String::from_utf8_lossy(&ended.stderr).trim_end());
            }
            std::fs::write(out.join("peer.json"), ended.stdout)?;
        }
        let told: Value = serde_json::from_slice(&std::fs::read(out.join("peer.json"))?)?;
        row.seconds
            .push(told["seconds"].as_f64().unwrap_or(f64::NAN));
        row.figures.push(self.judge(&out, self.set.reference)?);
        Ok(())
    }

    /// The figures of a run, or of a folder of images beside the set.
    fn judge(&self, images: &Path, reference: &[&str]) -> anyhow::Result<Value> {
        let (images, n) = (images.display().to_string(), self.n.to_string());
        let out = format!("{images}-eval");
        let mut arguments = vec!["eval", &images, "-n", &n, "--device", "cpu", "--out", &out];
        arguments.extend(reference);
        let told = self.ddpm.run(&arguments)?;
        let mut figures = told["evaluation"]["figures"].clone();
        let copies = figures["copies"].clone();
        for key in ["nearest_ratio", "copied_share"] {
            figures[key] = copies[key].clone();
        }
        Ok(figures)
    }
}

impl Row {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            seconds: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Means over seeds; with several, how far they lie apart; with one, the interval of its images.
    fn print(&self) -> anyhow::Result<()> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let mut line = format!("{:<28} {:>6.0} s", self.name, mean(&self.seconds));
        for (shown, key) in FIGURES {
            let of = |part: &str| -> Vec<f64> {
                let of_seed = |figures: &Value| figures[key][part].as_f64().unwrap_or(f64::NAN);
                self.figures.iter().map(of_seed).collect()
            };
            let values = of("value");
            let (low, high) = match values.len() {
                1 => (of("low")[0], of("high")[0]),
                _ => (
                    values.iter().copied().fold(f64::INFINITY, f64::min),
                    values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                ),
            };
            line += &format!("  {shown} {:.4} ({low:.4} to {high:.4})", mean(&values));
        }
        line.push('\n');
        print(&line)
    }
}
