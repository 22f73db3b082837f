//! Images as bytes, one batch after the other.

use std::path::Path;

use super::{NpzData, NpzWriter, elements};
use crate::error::{Result, StoreError};
use crate::images::ImageBatch;

/// The images' name in the archive, which is NumPy's for what has none.
const IMAGES: &str = "arr_0";
const CLASSES: &str = "arr_1";

/// Images as guided-diffusion keeps its samples and its evaluator reads them, written as they come: `arr_0`, and the
/// classes, where there are any, as `arr_1`.
///
/// The file gets its name when it is finished; dropped before that, it leaves nothing behind.
///
/// # Shapes   `arr_0`: `uint8` of `[n, height, width, channels]`; `arr_1`: `int64` of `[n]`
#[derive(Debug)]
pub struct ImageNpz {
    writer: NpzWriter,
    /// `[n, height, width, channels]`
    shape: [usize; 4],
    written: usize,
}

impl ImageNpz {
    /// Makes the file under a temporary name, and the directories above it.
    ///
    /// # Shapes   `shape`: `[n, height, width, channels]`
    /// # Errors   [`StoreError::Tensor`] for more pixels than can be counted; [`StoreError::Io`]
    pub fn create(path: &Path, shape: [usize; 4]) -> Result<Self> {
        let bytes = elements(&shape).ok_or_else(|| {
            let problem = format!("shape {shape:?} has more pixels than can be counted");
            StoreError::tensor(path, IMAGES, problem)
        })?;
        let mut writer = NpzWriter::create(path)?;
        let (descr, _) = NpzData::U8(&[]).kind();
        writer.begin(IMAGES, descr, &shape, bytes as u64)?;
        Ok(Self {
            writer,
            shape,
            written: 0,
        })
    }

    /// Writes the next images.
    ///
    /// # Units    pixels in [-1, 1], rounded as [`to_u8`](crate::images::to_u8) does
    /// # Errors   [`StoreError::Tensor`] for images of another shape, and for more than there were to be;
    /// [`StoreError::Io`]
    pub fn push(&mut self, images: &ImageBatch) -> Result<()> {
        let [n, height, width, channels] = self.shape;
        let [count, c, h, w] = images.shape();
        if [h, w, c] != [height, width, channels] {
            return Err(self.refuse(format!(
                "images of {h}x{w} pixels and {c} channels where {height}x{width} and {channels} belong"
            )));
        }
        if count > n - self.written {
            return Err(self.refuse(format!(
                "{} images where {n} belong",
                self.written.saturating_add(count)
            )));
        }
        for index in 0..count {
            self.writer.write(&images.interleaved(index))?;
        }
        self.written += count;
        Ok(())
    }

    /// Adds the class of each image, where they have classes, ends the archive and gives the file its name.
    ///
    /// # Errors   [`StoreError::Tensor`] for fewer images than there were to be, or not as many classes;
    /// [`StoreError::Io`]. What had the name before is then untouched
    pub fn finish(mut self, labels: Option<&[i64]>) -> Result<()> {
        let [n, ..] = self.shape;
        if self.written != n {
            return Err(self.refuse(format!("{} images where {n} belong", self.written)));
        }
        if let Some(labels) = labels {
            self.writer.array(CLASSES, &[n], NpzData::I64(labels))?;
        }
        self.writer.finish()
    }

    fn refuse(&self, problem: String) -> StoreError {
        StoreError::tensor(self.writer.path(), IMAGES, problem)
    }
}
