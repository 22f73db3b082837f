//! Recipes that promise something: they are trained, and what they draw is held to it.

use std::path::Path;

use anyhow::ensure;
use clap::Args;

use crate::pixels;
use crate::programs::Ddpm;
use crate::step::{print, say};

/// What is trained.
#[derive(Debug, Args)]
#[command(
    after_help = "Trains below target/recipes, or goes on with what an earlier call left there, draws, and prints a line
for each figure that the recipe promises. It fails if one is not kept."
)]
pub struct Options {
    /// Only recipes whose name contains this
    name: Option<String>,
}

/// Images that are drawn of each class.
const EACH: usize = 100;
/// What they are drawn with.
const GUIDANCE: &str = "2";
/// The share of drawn digits that the nearest real digit must agree with.
const AGREES: f64 = 0.95;

/// Trains, draws and compares.
///
/// # Errors
/// If something does not build, train or draw, or a promise is not kept.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let wanted = |name: &str| {
        let part = options.name.as_deref().unwrap_or_default();
        name.contains(part)
    };
    ensure!(
        wanted("digits-classes"),
        "no recipe of this name; there is digits-classes"
    );
    let ddpm = Ddpm::build(root)?;
    digits_classes(root, &ddpm)
}

/// Digits of the class that was asked for: the nearest real digit, pixel by pixel, says which each is.
fn digits_classes(root: &Path, ddpm: &Ddpm) -> anyhow::Result<()> {
    let run = ddpm.target.join("recipes/digits-classes");
    ddpm.train("configs/digits-classes.toml", &[], &run)?;
    let (run, out) = (
        run.display().to_string(),
        run.join("drawn").display().to_string(),
    );
    let n = (10 * EACH).to_string();
    let arguments = [
        "sample",
        "--model",
        &run,
        "--class",
        "all",
        "-n",
        &n,
        "--guidance",
        GUIDANCE,
        "--out",
        &out,
        "--device",
        "cpu",
    ];
    say(&format!("== ddpm {}", arguments.join(" ")));
    ddpm.run(&arguments)?;
    let (real, classes) = pixels::digits(root)?;
    let drawn = pixels::folder(Path::new(&out))?;
    ensure!(drawn.len() == 10 * EACH, "{} images in {out}", drawn.len());
    let nearest = drawn.nearest(&real);
    let agreeing = nearest
        .iter()
        .enumerate()
        .filter(|(i, real)| classes[**real] == i / EACH);
    let share = agreeing.count() as f64 / nearest.len() as f64;
    print(&format!(
        "digits-classes: the nearest real digit is of the class asked for in {:.1}% of {} drawn at guidance {GUIDANCE} (promised: {:.0}%)\n",
        100.0 * share,
        nearest.len(),
        100.0 * AGREES
    ))?;
    ensure!(share >= AGREES, "digits-classes does not keep its promise");
    Ok(())
}
