//! Batch by batch: images go to disk as they are made, into folder and archive, and grid and animation keep small
//! copies.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use burn::tensor::Device;
use ddpm_diffusion::{Plan, Progress as State};
use ddpm_model::{OpenedModel, Told, image_batch};
use ddpm_store::images::{Animation, Grid, GridBuilder, Numbered, save_animation};
use ddpm_store::npz::ImageNpz;
use ddpm_store::{GridOptions, ImageBatch};
use ddpm_unet::{Model, Precision};

use super::outputs::{FRAMES, Outputs};
use crate::terminal::{self, Progress, Update};

/// Images of the picture in the terminal.
const IN_TERMINAL: usize = 64;

/// What is drawn, and with what.
#[derive(Debug)]
pub struct Drawing<'a> {
    pub opened: &'a OpenedModel,
    pub plan: &'a Plan,
    pub size: [usize; 2],
    pub told: &'a Told,
    /// A worse network that guidance leads away from.
    pub guide: Option<&'a Model>,
    pub seed: u64,
    /// The number of the first image in the seed's set.
    pub first: u64,
    pub n: usize,
    pub batch: usize,
    pub device: &'a Device,
    pub precision: Precision,
    /// Raised by a signal.
    pub stop: &'a AtomicBool,
    pub quiet: bool,
}

/// The copies that are looked at.
struct Copies {
    grid: Option<GridBuilder>,
    frames: Vec<GridBuilder>,
    terminal: Option<GridBuilder>,
}

impl Drawing<'_> {
    /// Draws and writes everything; returns how many images are finished, fewer than asked for if a signal came.
    ///
    /// `earlier` are removed before the first image is written.
    ///
    /// # Errors   those of the network, and of writing
    pub fn run(&self, outputs: &Outputs, earlier: &Numbered, show: bool) -> Result<usize> {
        let steps = self.plan.steps();
        let copies = self.copies(outputs, steps, show)?;
        let mut npz = self.archive(outputs)?;
        let total = (self.n.div_ceil(self.batch) * steps) as u64;
        let mut progress: Option<Progress> = None;
        let mut failed = None;
        let drawing = ddpm_model::Drawing {
            model: &self.opened.model,
            plan: self.plan,
            image: [self.opened.channels, self.size[0], self.size[1]],
            told: self.told,
            guide: self.guide,
            seed: self.seed,
            first: self.first,
            n: self.n,
            batch: self.batch,
            device: self.device,
            precision: self.precision,
        };
        let seen = RefCell::new(copies);
        let finished = drawing.run::<anyhow::Error>(
            &mut |from, state| {
                let step = (from / self.batch * state.of + state.step) as u64;
                progress
                    .get_or_insert_with(|| Progress::start(0, total, self.quiet))
                    .update(Update {
                        step,
                        ..Update::default()
                    });
                failed = seen.borrow_mut().see(from, &state).err();
                match failed.is_some() || self.stop.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
            &mut |from, images| {
                if let Some(folder) = &outputs.folder {
                    if from == 0 {
                        earlier.remove_ours()?;
                    }
                    images.save_separate(folder, self.first as usize + from)?;
                }
                if let Some(npz) = &mut npz {
                    npz.push(&images)?;
                }
                seen.borrow_mut().paste(from, &images);
                Ok(())
            },
        )?;
        if let Some(error) = failed {
            return Err(error);
        }
        if finished < self.n {
            return Ok(finished);
        }
        let copies = seen.into_inner();
        drop(progress);
        if let Some(npz) = npz {
            let classes = &self.told.classes;
            npz.finish((!classes.is_empty()).then_some(classes.as_slice()))?;
        }
        copies.finish(outputs)?;
        Ok(self.n)
    }

    /// Without a name until it is whole: an archive says how many images it holds before the first of them.
    fn archive(&self, outputs: &Outputs) -> Result<Option<ImageNpz>> {
        let [height, width] = self.size;
        let shape = [self.n, height, width, self.opened.channels];
        let npz = outputs
            .npz
            .as_deref()
            .map(|path| ImageNpz::create(path, shape));
        Ok(npz.transpose()?)
    }

    fn copies(&self, outputs: &Outputs, steps: usize, show: bool) -> Result<Copies> {
        let [height, width] = self.size;
        let builder = |count: usize, options| {
            GridBuilder::new([count, self.opened.channels, height, width], options)
        };
        let frames = match &outputs.animation {
            Some(file) => vec![builder(file.shown, outputs.options())?; frames(steps)],
            None => Vec::new(),
        };
        Ok(Copies {
            grid: match &outputs.grid {
                Some(file) => Some(builder(file.shown, outputs.options())?),
                None => None,
            },
            frames,
            // A picture too large to show is no reason to fail: the files are what counts.
            terminal: match show && terminal::colours().is_some() {
                true => builder(self.n.min(IN_TERMINAL), SMALL).ok(),
                false => None,
            },
        })
    }
}

impl Copies {
    /// Keeps a frame of the animation, where this step is one.
    fn see(&mut self, from: usize, state: &State<'_>) -> Result<()> {
        let Some(at) = frame_at(state.step, state.of) else {
            return Ok(());
        };
        if let Some(frame) = self
            .frames
            .get_mut(at)
            .filter(|frame| from < frame.places())
        {
            let [rows, ..] = state.xt.dims();
            let shown = rows.min(frame.places() - from);
            // Noise of whatever size is shown in the range of pixels: on a variance-preserving process this is x.
            let size = state.level.signal.hypot(state.level.noise);
            let x = state.xt.clone().narrow(0, 0, shown) * (1.0 / size);
            frame.paste(from, &image_batch(x)?);
        }
        Ok(())
    }

    fn paste(&mut self, from: usize, images: &ImageBatch) {
        for grid in self.grid.iter_mut().chain(&mut self.terminal) {
            grid.paste(from, images);
        }
    }

    fn finish(self, outputs: &Outputs) -> Result<()> {
        if let Some((grid, file)) = self.grid.zip(outputs.grid.as_ref()) {
            let grid = grid
                .finish()
                .with_row_labels(outputs.row_labels(file.shown))?;
            grid.save(&file.path, file.format)?;
        }
        if let Some(file) = &outputs.animation {
            let frames: Vec<_> = self.frames.into_iter().map(GridBuilder::finish).collect();
            save_animation(&file.path, &frames, Animation::default(), file.format)?;
        }
        if let Some(grid) = self.terminal {
            show(&grid.finish());
        }
        Ok(())
    }
}

/// Images of the picture in the terminal, without enlarging.
pub const SMALL: GridOptions = GridOptions {
    columns: None,
    min_tile: 1,
    padding: 1,
};

/// Shows a picture in the terminal.
pub fn show(grid: &Grid) {
    let picture = terminal::Picture::new(&grid.pixels, grid.width, grid.height, grid.channels);
    if let Some(picture) = picture {
        terminal::show(&picture.draw(terminal::colours(), terminal::columns()));
    }
}

/// Sampler steps from one frame to the next, evenly spread and with the last step.
fn every(steps: usize) -> usize {
    steps.div_ceil(FRAMES).max(1)
}

/// Frames of an animation of so many sampler steps.
pub fn frames(steps: usize) -> usize {
    steps.div_ceil(every(steps))
}

/// Which frame sampler step `step` (from 1) of `steps` is, if it is one.
fn frame_at(step: usize, steps: usize) -> Option<usize> {
    let left = steps.checked_sub(step)?;
    let shown = left.is_multiple_of(every(steps));
    shown.then(|| frames(steps) - 1 - left / every(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_few_and_end_with_the_result() {
        for steps in [1, 2, 59, 60, 61, 250, 1000] {
            let found: Vec<usize> = (1..=steps)
                .filter_map(|step| frame_at(step, steps))
                .collect();
            let expected: Vec<usize> = (0..frames(steps)).collect();
            assert_eq!(found, expected, "{steps}");
            assert!(
                found.len() <= FRAMES && found.len() >= steps.min(30),
                "{steps}"
            );
            assert_eq!(frame_at(steps, steps), expected.last().copied());
        }
    }
}
