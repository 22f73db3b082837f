//! Batch by batch: images go to disk as they are made, and grid and animation keep small copies.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor};
use ddpm_diffusion::{
    DiffusionError, ImageBatch as Drawn, Plan, Progress as State, sample as draw,
};
use ddpm_store::images::{Animation, GridBuilder, Numbered, save_animation};
use ddpm_store::{GridOptions, ImageBatch};
use ddpm_train::{OpenedModel, SamplingNetwork, image_batch};
use ddpm_unet::Precision;

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
    pub class: Option<i64>,
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
        let mut copies = self.copies(outputs, steps, show)?;
        let total = (self.n.div_ceil(self.batch) * steps) as u64;
        let mut progress: Option<Progress> = None;
        for (i, from) in (0..self.n).step_by(self.batch).enumerate() {
            let count = self.batch.min(self.n - from);
            let mut failed = None;
            let drawn = self.batch_from(from, count, &mut |state| {
                let step = i as u64 * state.of as u64 + state.step as u64;
                progress
                    .get_or_insert_with(|| Progress::start(0, total, self.quiet))
                    .update(Update {
                        step,
                        ..Update::default()
                    });
                failed = copies.see(from, &state).err();
                match failed.is_some() || self.stop.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let images = match drawn {
                // The last step of all is not worth stopping at, and is what it takes to finish a batch.
                Err(DiffusionError::Stopped { .. }) => return Ok(from),
                drawn => image_batch(drawn?)?,
            };
            if let Some(folder) = &outputs.folder {
                if from == 0 {
                    earlier.remove_ours()?;
                }
                images.save_separate(folder, self.first as usize + from)?;
            }
            copies.paste(from, &images);
        }
        drop(progress);
        copies.finish(outputs)?;
        Ok(self.n)
    }

    fn batch_from(
        &self,
        from: usize,
        count: usize,
        observer: &mut dyn FnMut(State<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor<4>, DiffusionError> {
        let [height, width] = self.size;
        let labels = self
            .class
            .map(|class| Tensor::<1, Int>::full([count], class, self.device));
        let batch = Drawn {
            shape: [count, self.opened.channels, height, width],
            seed: self.seed,
            first_index: self.first + from as u64,
            labels,
            device: self.device.clone(),
        };
        let network = SamplingNetwork::new(&self.opened.model, self.precision);
        draw(&network, self.plan, batch, observer)
    }

    fn copies(&self, outputs: &Outputs, steps: usize, show: bool) -> Result<Copies> {
        let [height, width] = self.size;
        let builder = |count: usize, options| {
            GridBuilder::new([count, self.opened.channels, height, width], options)
        };
        let frames = match &outputs.animation {
            Some(file) => vec![builder(file.shown, GridOptions::default())?; frames(steps)],
            None => Vec::new(),
        };
        let small = GridOptions {
            min_tile: 1,
            padding: 1,
            ..GridOptions::default()
        };
        Ok(Copies {
            grid: match &outputs.grid {
                Some(file) => Some(builder(file.shown, GridOptions::default())?),
                None => None,
            },
            frames,
            // A picture too large to show is no reason to fail: the files are what counts.
            terminal: match show && terminal::colours().is_some() {
                true => builder(self.n.min(IN_TERMINAL), small).ok(),
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
            grid.finish().save(&file.path, file.format)?;
        }
        if let Some(file) = &outputs.animation {
            let frames: Vec<_> = self.frames.into_iter().map(GridBuilder::finish).collect();
            save_animation(&file.path, &frames, Animation::default(), file.format)?;
        }
        if let Some(grid) = self.terminal.map(GridBuilder::finish)
            && let Some(picture) =
                terminal::Picture::new(&grid.pixels, grid.width, grid.height, grid.channels)
        {
            terminal::show(&picture.draw(terminal::colours(), terminal::columns()));
        }
        Ok(())
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
