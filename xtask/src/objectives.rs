//! Which objective draws the best digits after the same time of training.

use std::path::Path;

use clap::Args;

use crate::pixels;
use crate::programs::Ddpm;
use crate::step::{print, say};

/// What is compared.
#[derive(Debug, Args)]
#[command(
    after_help = "Trains the digits by each objective in turn for the same time, draws images from each, and
compares them with the real ones, pixel by pixel. Nothing else should run meanwhile."
)]
pub struct Options {
    /// Only objectives whose name contains this
    filter: Option<String>,
    /// Minutes of training
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    minutes: f64,
    /// Images of each
    #[arg(long, short = 'n', default_value_t = 500)]
    images: usize,
    /// Seeds, from 0; each trains a network
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Keep each network's grid of images here
    #[arg(long, value_name = "DIR")]
    grids: Option<std::path::PathBuf>,
}

/// The recipe of the digits over another table, by another sampler.
const LINEAR: &[&str] = &[
    "schedule.kind=linear",
    "sample.sampler=ddim",
    "sample.steps=50",
];

const DIGITS: &str = "configs/digits.toml";
const EDM: &str = "configs/digits-edm.toml";
const FLOW: &str = "configs/digits-flow.toml";

/// What they are called, their recipe, and what is set besides.
const OBJECTIVES: [(&str, &str, &[&str], &[&str]); 15] = [
    ("eps, cosine, ancestral", DIGITS, &[], &[]),
    (
        "v, cosine, ancestral",
        DIGITS,
        &[],
        &["objective.prediction=v"],
    ),
    (
        "eps, linear, ancestral",
        DIGITS,
        &["schedule.kind=linear"],
        &[],
    ),
    (
        "eps, linear, ancestral, learned range",
        DIGITS,
        &["schedule.kind=linear", "sample.steps=100"],
        &["objective.variance=learned_range"],
    ),
    ("eps", DIGITS, LINEAR, &[]),
    (
        "eps, min-SNR",
        DIGITS,
        LINEAR,
        &["objective.weighting=min_snr"],
    ),
    (
        "eps, importance",
        DIGITS,
        LINEAR,
        &[
            "schedule.steps=100",
            "schedule.scale_ends=true",
            "objective.importance.history=5",
        ],
    ),
    ("x0", DIGITS, LINEAR, &["objective.prediction=x0"]),
    ("v", DIGITS, LINEAR, &["objective.prediction=v"]),
    (
        "v, min-SNR",
        DIGITS,
        LINEAR,
        &["objective.prediction=v", "objective.weighting=min_snr"],
    ),
    (
        "v, self-conditioning",
        DIGITS,
        LINEAR,
        &["objective.prediction=v", "objective.self_condition=0.5"],
    ),
    ("EDM", EDM, &[], &[]),
    (
        "EDM, uncertainty",
        EDM,
        &[],
        &["objective.uncertainty.channels=128"],
    ),
    ("flow", FLOW, &[], &[]),
    ("flow, uniform t", FLOW, &[], &["process.times=uniform"]),
];

/// Trains, draws and prints the table.
///
/// # Errors
/// If something does not build, train or draw.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let ddpm = Ddpm::build(root)?;
    let (real, _) = pixels::digits(root)?;
    let scratch = tempfile::tempdir()?;
    let (even, odd) = real.halves();
    let mut rows = vec![(
        "real digits, one half beside the other".to_owned(),
        vec![even.beside(&odd)],
        0,
    )];
    for (name, recipe, drawn, sets) in OBJECTIVES {
        if options
            .filter
            .as_ref()
            .is_some_and(|filter| !name.contains(filter.as_str()))
        {
            continue;
        }
        let (mut found, mut steps) = (Vec::new(), 0);
        for seed in 0..options.seeds {
            let run = scratch.path().join(format!("{}-{seed}", rows.len()));
            let (run_, out) = (
                run.display().to_string(),
                run.join("out").display().to_string(),
            );
            let (minutes, seed, n) = (
                options.minutes.to_string(),
                format!("seed={seed}"),
                options.images.to_string(),
            );
            let mut arguments = vec!["train", recipe, "--run", &run_, "--minutes", &minutes];
            arguments.extend([
                "--set",
                &seed,
                "--set",
                "train.sample_every=0",
                "--device",
                "cpu",
            ]);
            arguments.extend(drawn.iter().chain(sets).flat_map(|set| ["--set", set]));
            say(&format!("== ddpm {}", arguments.join(" ")));
            let trained = ddpm.run(&arguments)?;
            steps += trained["step"].as_u64().unwrap_or_default();
            let arguments = [
                "sample", "--model", &run_, "-n", &n, "--out", &out, "--device", "cpu",
            ];
            ddpm.run(&arguments)?;
            if let Some(folder) = &options.grids {
                std::fs::create_dir_all(folder)?;
                let grid = folder.join(format!("{}-{seed}.png", name.replace([' ', ','], "-")));
                let grid = grid.display().to_string();
                ddpm.run(&[
                    "sample", "--model", &run_, "-n", "64", "--grid", &grid, "--device", "cpu",
                ])?;
            }
            found.push(pixels::folder(Path::new(&out))?.beside(&real));
        }
        rows.push((name.to_owned(), found, steps / options.seeds.max(1)));
    }
    print(&table(&rows))
}

fn table(rows: &[(String, Vec<pixels::Cost>, u64)]) -> String {
    let mut text = "| objective | steps | kernel distance | distance to the nearest real one |\n|---|---|---|---|\n".to_owned();
    for (name, found, steps) in rows {
        let mean =
            |of: fn(&pixels::Cost) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
        text += &format!(
            "| {name} | {steps} | {:.5} | {:.4} |\n",
            mean(|figures| figures.kernel),
            mean(|figures| figures.nearest)
        );
    }
    text
}
