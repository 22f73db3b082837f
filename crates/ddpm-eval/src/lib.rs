//! How good generated images are.
//!
//! An [`Extractor`] turns images into [`Features`]; a [`Reference`] keeps those of real images; a [`Judge`] says every figure
//! of generated ones over one pass: [`Figures`]. An [`Evaluation`] is what of it is written down, with everything that a
//! comparison depends on: [`Evaluation::compare`] refuses what is not comparable.
//!
//! One figure, one file: `frechet.rs` (FID), `kernel.rs` (KID, CMMD's distance), `pairs.rs` (precision, recall, density,
//! coverage), `inception_score.rs`, `figures/copies.rs`, `figures/classes.rs`. Everything is computed in f64 and is the same on
//! any number of threads.

mod bootstrap;
mod error;
mod evaluation;
mod extractor;
mod features;
mod figures;
mod frechet;
mod images;
mod inception_score;
mod kernel;
mod moments;
mod pairs;
mod principal;
mod reference;
mod rows;

pub use bootstrap::Figure;
pub use error::EvalError;
pub use evaluation::{Crossing, Drawn, Evaluation, ReferenceRecord, Sampling};
pub use extractor::inception::{Inception, InceptionOutput};
pub use extractor::lenet::{About, Lenet, Training, train, training_steps};
pub use extractor::{Extractor, ExtractorRecord, Resize};
pub use features::Features;
pub use figures::{ClassFigures, Copies, Figures, Judge, Pair, Settings};
pub use frechet::{FrechetReference, frechet_distance};
pub use images::Images;
pub use inception_score::{Score, inception_score, whole_score};
pub use kernel::{kernel_distance, rbf_distance};
pub use moments::Moments;
pub use pairs::{Between, Points, Side, Tick, Within, rbf};
pub use principal::Principal;
pub use reference::{COMPONENTS, Reference};
pub use rows::{Rows, spread};
