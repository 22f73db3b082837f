//! The picture of `docs/guidance.md`: ten digits by class at several scales of guidance.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Options, beside, trained};
use crate::programs::Ddpm;

/// From left to right.
const SCALES: [&str; 4] = ["0", "1", "2", "4"];
/// Images of each class.
const EACH: usize = 5;

pub(super) fn run(ddpm: &Ddpm, out: &Path, options: &Options) -> anyhow::Result<()> {
    let run = trained(
        ddpm,
        "digits-classes",
        "configs/digits-classes.toml",
        &[],
        options,
    )?;
    let pictures = out.join("guidance");
    fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
    let scratch = tempfile::tempdir()?;
    let (model, n) = (run.display().to_string(), (10 * EACH).to_string());
    let mut drawn = Vec::new();
    for scale in SCALES {
        let file = scratch.path().join(format!("{scale}.png"));
        let grid = file.display().to_string();
        let arguments = [
            "sample",
            "--model",
            &model,
            "--class",
            "all",
            "-n",
            &n,
            "--guidance",
            scale,
            "--grid",
            &grid,
            "--device",
            "cpu",
        ];
        ddpm.run(&arguments)?;
        drawn.push(image::open(&file)?.into_rgb8());
    }
    beside(&drawn)?.save(pictures.join("scales.png"))?;
    Ok(())
}
