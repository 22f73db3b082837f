//! The generated images that lie nearest to training images, each beside its own: copies are seen at once.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_data::Dataset;
use ddpm_eval::{Pair, spread};
use ddpm_store::{GridOptions, ImageBatch};

/// Writes `nearest.png`: generated images above, training images below. `generated` reads one of `n` images by its number,
/// `pairs` is how many of each set were compared.
///
/// # Errors   those of reading and writing
pub fn save(
    out: &Path,
    pairs: usize,
    nearest: &[Pair],
    n: usize,
    generated: &dyn Fn(usize) -> Result<Vec<f32>>,
    training: &Dataset,
) -> Result<PathBuf> {
    let (drawn, real) = (spread(n, pairs), spread(training.len(), pairs));
    let mut pixels = Vec::new();
    for pair in nearest {
        pixels.extend(generated(drawn[pair.generated])?);
    }
    for pair in nearest {
        pixels.extend(training.get(real[pair.training], false)?.pixels);
    }
    let [channels, height, width] = training.shape();
    let batch = ImageBatch::new(pixels, [2 * nearest.len(), channels, height, width])?;
    let grid = batch.grid(GridOptions {
        columns: Some(nearest.len()),
        ..GridOptions::default()
    })?;
    let path = out.join("nearest.png");
    grid.save_png(&path)?;
    Ok(path)
}
