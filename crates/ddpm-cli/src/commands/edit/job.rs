//! The loop over batches: results go to disk and into the picture as they are made.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Tensor;
use ddpm_diffusion::{DiffusionError, Observer};
use ddpm_model::image_batch;
use ddpm_store::GridOptions;
use ddpm_store::images::GridBuilder;
use serde_json::json;

use super::super::sample::drawing::{SMALL, show};
use super::super::{Report, shown};
use super::session::Session;
use crate::exit::Exit;
use crate::terminal::{self, Progress, Update};
use crate::words;

/// Images a row of a picture that has few.
const COLUMNS: usize = 10;
/// Results of a picture, where no file says how many it shows.
const IN_PICTURE: usize = 64;

/// What is drawn.
pub struct Job {
    /// `[height, width]` of the results.
    pub canvas: [usize; 2],
    /// Shown before the results and after them, each `[1, channels, height, width]`.
    pub shown: [Vec<Tensor<4>>; 2],
    /// How many results.
    pub n: usize,
    /// Results at a time.
    pub batch: usize,
    /// Steps of all batches.
    pub steps: usize,
    /// Images a row, where it matters.
    pub columns: Option<usize>,
}

/// Makes the results of some numbers: `[numbers, channels, height, width]`.
pub type Work<'a> =
    &'a mut dyn FnMut(Range<usize>, Observer<'_>) -> Result<Tensor<4>, DiffusionError>;

impl Session<'_> {
    /// Draws all, batch by batch, and writes what is finished.
    ///
    /// # Errors   those of the network, and of writing
    pub fn draw(&self, job: &Job, work: Work<'_>) -> Result<Report> {
        let Self {
            outputs, common, ..
        } = self;
        let earlier = outputs.earlier(0)?;
        let quiet = common.quiet > 0;
        let clock = Instant::now();
        let mut pictures = self.pictures(job, !quiet && !common.json)?;
        let [before, after] = &job.shown;
        for (place, image) in before.iter().enumerate() {
            paste(&mut pictures, place, image)?;
        }
        let seen = self.seen(job.n);
        for (place, image) in after.iter().enumerate() {
            paste(&mut pictures, before.len() + seen + place, image)?;
        }
        let mut progress = Progress::start(0, job.steps as u64, quiet);
        let mut steps = 0;
        let mut done = 0;
        while done < job.n {
            let numbers = done..job.n.min(done + job.batch.max(1));
            let drawn = work(numbers.clone(), &mut |_| {
                steps += 1;
                progress.update(Update {
                    step: steps,
                    ..Update::default()
                });
                match self.stop.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            let drawn = match drawn {
                Ok(drawn) => drawn,
                Err(DiffusionError::Stopped { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            if let Some(rows) = seen.checked_sub(done).filter(|rows| *rows > 0) {
                let rows = rows.min(numbers.len());
                paste(
                    &mut pictures,
                    before.len() + done,
                    &drawn.clone().narrow(0, 0, rows),
                )?;
            }
            if let Some(folder) = &outputs.folder {
                if done == 0 {
                    earlier.remove_ours()?;
                }
                image_batch(drawn)?.save_separate(folder, done)?;
            }
            done = numbers.end;
        }
        drop(progress);
        let stopped = done < job.n;
        let mut pictures = pictures.into_iter().map(GridBuilder::finish);
        if let Some((grid, file)) = pictures
            .next()
            .zip(outputs.grid.as_ref().filter(|_| !stopped))
        {
            grid.save(&file.path, file.format)?;
            pictures.for_each(|grid| show(&grid));
        }
        Ok(self.report(done, job.n, clock.elapsed().as_secs_f64()))
    }

    /// How many of the results a picture shows.
    fn seen(&self, n: usize) -> usize {
        let limit = self
            .outputs
            .grid
            .as_ref()
            .map_or(IN_PICTURE, |file| file.shown);
        n.min(limit)
    }

    /// The picture that is written, and one for the terminal.
    fn pictures(&self, job: &Job, in_terminal: bool) -> Result<Vec<GridBuilder>> {
        let count = job.shown.iter().map(Vec::len).sum::<usize>() + self.seen(job.n);
        let shape = [count, self.channels(), job.canvas[0], job.canvas[1]];
        // A few in one row or two, as they are read; many in a square.
        let few = (count <= 2 * COLUMNS).then(|| count.min(COLUMNS));
        let columns = job.columns.or(few);
        let with = |options| GridOptions { columns, ..options };
        let mut pictures = vec![GridBuilder::new(shape, with(GridOptions::default()))?];
        // A picture too large to show is no reason to fail: the files are what counts.
        if in_terminal && terminal::colours().is_some() {
            pictures.extend(GridBuilder::new(shape, with(SMALL)).ok());
        }
        Ok(pictures)
    }

    pub fn report(&self, done: usize, n: usize, seconds: f64) -> Report {
        let Self {
            outputs, opened, ..
        } = self;
        let stopped = done < n;
        let (all, drawn) = (
            words::some(n as u64, "image"),
            words::some(done as u64, "image"),
        );
        let mut text = match (stopped, &outputs.folder) {
            (false, _) => format!(
                "{}: drew {drawn} in {seconds:.1} s ({} on {})\n",
                self.edit,
                opened.path.display(),
                self.picked.name
            ),
            (true, Some(_)) if done > 0 => {
                format!(
                    "stopped after {} of {all}, which stay\n",
                    words::count(done as u64)
                )
            }
            (true, _) => format!("stopped; of {all} none is written\n"),
        };
        let folder = outputs.folder.as_deref().filter(|_| done > 0);
        let grid = outputs.grid.as_ref().filter(|_| !stopped);
        let grid = grid.map(|file| file.path.as_path());
        for (what, path) in [("images", folder), ("picture", grid)] {
            if let Some(path) = path {
                text += &format!("  {what:<10}{}\n", path.display());
            }
        }
        let json = json!({
            "edit": self.edit, "model": shown(&opened.path), "step": opened.step, "images": done, "seconds": seconds,
            "device": self.picked.name, "seed": self.options.seed, "sample": self.config, "stopped": stopped,
            "out": folder.map(shown), "grid": grid.map(shown),
        });
        let exit = if stopped { Exit::Stopped } else { Exit::Done };
        Report { text, json, exit }
    }
}

/// Puts images into their places in all pictures.
fn paste(pictures: &mut [GridBuilder], first: usize, images: &Tensor<4>) -> Result<()> {
    let images = image_batch(images.clone())?;
    pictures
        .iter_mut()
        .for_each(|picture| picture.paste(first, &images));
    Ok(())
}

/// One image for each of so many results: `[count, channels, height, width]`.
pub fn repeated(image: &Tensor<4>, count: usize) -> Tensor<4> {
    image.clone().repeat_dim(0, count)
}

/// What the observer counts of so many results, `each` batch in so many steps.
pub fn steps_of(n: usize, batch: usize, each: usize) -> usize {
    n.div_ceil(batch.max(1)) * each
}
