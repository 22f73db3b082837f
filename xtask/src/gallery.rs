//! The pages of docs/ whose pictures are drawn by one command.

mod editing;
mod guidance;
mod page;
mod samplers;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use image::{GenericImage, RgbImage};

use crate::programs::Ddpm;
use crate::step::say;

/// What is drawn.
#[derive(Debug, Args)]
#[command(
    after_help = "Trains the networks of a page below target/gallery, unless they are there from an earlier call, and
draws its pictures. The page of samplers takes about six minutes of training for each of four processes on two cores, that
of editing ten minutes for each of three networks, that of guidance one minute."
)]
pub struct Options {
    /// Only these pages
    pages: Vec<Page>,
    /// Steps of training, to see that it works; without it, as many as the recipe says
    #[arg(long)]
    steps: Option<u64>,
    /// Where the pages and their pictures go
    #[arg(long, value_name = "DIR", default_value = "docs")]
    out: PathBuf,
}

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Page {
    /// docs/samplers.md
    Samplers,
    /// docs/guidance.md
    Guidance,
    /// docs/editing.md
    Editing,
}

/// Pixels between two pictures.
const GAP: u32 = 8;

/// Trains, draws and writes the pages.
///
/// # Errors
/// If something does not build, train or draw.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let ddpm = Ddpm::build(root)?;
    let out = root.join(&options.out);
    let asked = |page| options.pages.is_empty() || options.pages.contains(&page);
    if asked(Page::Guidance) {
        guidance::run(&ddpm, &out, options)?;
    }
    if asked(Page::Editing) {
        editing::run(&ddpm, &out, options)?;
    }
    if asked(Page::Samplers) {
        samplers::run(&ddpm, &out, options)?;
    }
    say(&format!("{}", out.display()));
    Ok(())
}

/// The run of a recipe with some keys set, trained now or before.
fn trained(
    ddpm: &Ddpm,
    name: &str,
    recipe: &str,
    sets: &[&str],
    options: &Options,
) -> anyhow::Result<PathBuf> {
    let steps = options.steps.map(|steps| format!("train.steps={steps}"));
    let sets: Vec<&str> = sets.iter().copied().chain(steps.as_deref()).collect();
    let name = match options.steps {
        None => name.to_owned(),
        Some(steps) => format!("{name}-{steps}"),
    };
    let run = ddpm.target.join("gallery").join(name);
    ddpm.train(recipe, &sets, &run)?;
    Ok(run)
}

/// Pictures in one row.
pub(crate) fn beside(pictures: &[RgbImage]) -> anyhow::Result<RgbImage> {
    let width: u32 = pictures.iter().map(|picture| picture.width() + GAP).sum();
    let height = pictures.iter().map(RgbImage::height).max();
    let white = image::Rgb([255; 3]);
    let mut all = RgbImage::from_pixel(width - GAP, height.unwrap_or_default(), white);
    let mut x = 0;
    for picture in pictures {
        all.copy_from(picture, x, 0)?;
        x += picture.width() + GAP;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_side_by_side() {
        let picture = |value| RgbImage::from_pixel(3, 2, image::Rgb([value; 3]));
        let all = beside(&[picture(1), picture(2)]).unwrap();
        assert_eq!(all.dimensions(), (3 + GAP + 3, 2));
        let row: Vec<u8> = all
            .pixels()
            .take(6 + GAP as usize)
            .map(|p| p.0[0])
            .collect();
        assert_eq!((row[2], row[3], row[3 + GAP as usize]), (1, 255, 2));
    }
}
