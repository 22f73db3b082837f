//! What a run tells whoever watches it.

use std::collections::BTreeMap;
use std::path::Path;

use ddpm_store::ImageBatch;

use crate::guard::Cause;
use crate::step::StepReport;

/// Something that happened in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything is ready; the first step comes next.
    Started {
        /// The data set in one line.
        data: &'a str,
        /// The network in one line.
        model: &'a str,
        /// The run directory, if anything is written.
        run: Option<&'a Path>,
        /// Steps already done, when a run is resumed.
        done: u64,
        /// Steps of the whole run.
        total: u64,
    },
    /// An optimiser step was done.
    Step {
        /// Its figures.
        report: &'a StepReport,
        /// Images trained on per second, lately.
        images_per_s: f64,
        /// Steps of the whole run.
        total: u64,
    },
    /// A step's update was skipped.
    Skipped {
        /// The step, counted from 1.
        step: u64,
        /// Why.
        cause: Cause,
        /// The loss or the norm of the gradient.
        value: f64,
        /// Updates skipped in a row, this one included.
        consecutive: u64,
    },
    /// Too many updates were skipped in a row, and the run rolled back to a checkpoint.
    RolledBack {
        /// The step that it went back from.
        from: u64,
        /// The step that it is at now.
        to: u64,
    },
    /// A sampler step was done.
    Sampling {
        /// Sampler steps done.
        done: usize,
        /// Sampler steps in all.
        total: usize,
    },
    /// A sample grid was written.
    Sampled {
        /// The images in it.
        images: &'a ImageBatch,
        /// Its file.
        path: &'a Path,
    },
    /// Samples were judged.
    Evaluated {
        /// The step.
        step: u64,
        /// The figures by their names.
        figures: &'a BTreeMap<&'static str, f64>,
        /// Whether no step before was as good.
        is_best: bool,
    },
    /// A checkpoint was committed.
    Saved {
        /// Its directory.
        path: &'a Path,
    },
}
