//! A set of images of one shape; `load` fills it.

mod decode_all;
mod fingerprint;
mod load;
mod transposed;

use std::path::PathBuf;

use crate::augment::{Address, AugmentConfig, is_mirrored};
use crate::columns::{Column, Columns};
use crate::config::DataConfig;
use crate::error::{DataError, Fault, Skipped};
use crate::kinds::PassedOver;
use crate::pixels::{mirror_rows, write_bytes, write_chw, write_units};
use crate::raster::Raster;
use crate::source::{Source, Synthetic};
use crate::transform::Fitting;
use crate::words::some;

use transposed::transposed;

/// A set of images of one shape, each found by its number.
///
/// The order is that of the source: sorted paths, or the order within an array file. It does not depend on the
/// file system or on threads, and leaving bad images out does not change the order of the others.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    store: Store,
    len: usize,
    /// `[channels, height, width]`
    shape: [usize; 3],
    labels: Option<Vec<usize>>,
    num_classes: Option<usize>,
    class_names: Option<Vec<String>>,
    columns: Columns,
    skipped: Vec<Skipped>,
    passed_over: PassedOver,
}

/// Where the pixels are.
#[derive(Debug)]
enum Store {
    /// `[len, height, width, channels]`
    Bytes(Vec<u8>),
    /// `[len, height, width, channels]`, in [0, 1]
    Units(Vec<f32>),
    /// Decoded anew each time: the set is larger than `cache_bytes`.
    OnDemand {
        decoder: Box<Decoder>,
        /// The numbers in the source of the images that are not skipped.
        kept: Vec<usize>,
    },
    Synthetic(Synthetic),
}

/// A source and what is done to each of its images.
#[derive(Debug)]
struct Decoder {
    source: Source,
    /// Exchanges rows and columns of what the source has.
    transpose: bool,
    fitting: Fitting,
}

impl Decoder {
    fn decode(&self, index: usize) -> Result<Raster, Fault> {
        let raster = self.source.decode(index)?;
        self.fitting.apply(match self.transpose {
            true => transposed(raster),
            false => raster,
        })
    }

    fn path_of(&self, index: usize) -> PathBuf {
        self.source.path_of(index)
    }

    /// Refuses an image of another shape, `[channels, height, width]`, than the set's.
    fn check_shape(
        &self,
        index: usize,
        raster: &Raster,
        expected: [usize; 3],
    ) -> Result<(), DataError> {
        let got = raster.shape();
        if got == expected {
            return Ok(());
        }
        Err(DataError::Shape {
            path: self.path_of(index),
            expected,
            got,
            key: if got[1..] == expected[1..] {
                "channels"
            } else {
                "size"
            },
        })
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// `[channels, height, width]`, in [-1, 1] (`synthetic`: standard normal).
    pub pixels: Vec<f32>,
    /// Its class, if the set has classes.
    pub label: Option<usize>,
}

impl Dataset {
    /// Opens, lists, checks and decodes a set.
    ///
    /// If the decoded set fits into `cache_bytes`, all images are decoded now, on as many threads as the machine
    /// has, and kept as the fitting leaves them: bytes, or floats for `digits` and floating-point arrays.
    /// Otherwise they are decoded each time they are asked for; with `on_bad = "skip"` they are still all decoded
    /// once now, to find the bad ones. `seed` makes the synthetic images and means nothing to other kinds.
    /// `progress(done, total)` is called from this thread, at the end with `done = total`.
    ///
    /// # Errors   every variant of [`DataError`] but `Index` and `Stopped`
    pub fn load(
        config: &DataConfig,
        seed: u64,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, DataError> {
        load::load(config, seed, progress)
    }

    /// How many images there are, without those skipped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true of a loaded set: an empty one is an error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.shape[0]
    }

    /// Rows of every image.
    #[must_use]
    pub fn height(&self) -> usize {
        self.shape[1]
    }

    /// Columns of every image.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// How many classes there are, also those that no image has; `None` for a set without classes.
    #[must_use]
    pub fn num_classes(&self) -> Option<usize> {
        self.num_classes
    }

    /// The names of the classes in the order of their numbers, where the source has names.
    #[must_use]
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The class of every image, if the set has classes.
    #[must_use]
    pub fn labels(&self) -> Option<&[usize]> {
        self.labels.as_deref()
    }

    /// The headings of the columns of numbers that a table beside the images has, in its order.
    #[must_use]
    pub fn column_names(&self) -> &[String] {
        &self.columns.names
    }

    /// A column of numbers by its heading.
    ///
    /// # Errors   [`DataError::Column`] if there is none, a number is missing, or all are the same
    pub fn column(&self, name: &str) -> Result<Column, DataError> {
        self.columns.column(name)
    }

    /// The images that `on_bad = "skip"` skipped, in the order of the source.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Files that lie beside the images and are not read, by kind, and what was skipped with them.
    #[must_use]
    pub fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    /// Bytes of decoded images that are kept in memory; 0 for a set that is decoded or made on demand.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.store {
            Store::Bytes(bytes) => bytes.len(),
            Store::Units(units) => size_of_val(units.as_slice()),
            Store::OnDemand { .. } | Store::Synthetic(_) => 0,
        }
    }

    /// The set in one line: `digits: 1797 images of 1×8×8, 10 classes, in memory (0.5 MB)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let [channels, height, width] = self.shape;
        let classes = match self.num_classes {
            Some(1) => ", 1 class".to_owned(),
            Some(count) => format!(", {count} classes"),
            None => String::new(),
        };
        let place = match &self.store {
            Store::Bytes(_) | Store::Units(_) => {
                format!("in memory ({:.1} MB)", self.memory_bytes() as f64 / 1e6)
            }
            Store::OnDemand { .. } => "decoded on demand".to_owned(),
            Store::Synthetic(_) => "made on demand".to_owned(),
        };
        let skipped = match self.skipped.len() {
            0 => String::new(),
            1 => ", 1 bad one skipped".to_owned(),
            count => format!(", {count} bad ones skipped"),
        };
        format!(
            "{}: {} of {channels}×{height}×{width}{classes}, {place}{skipped}",
            self.name,
            some(self.len, "image")
        )
    }

    /// Image `index`, mirrored left to right if `flip`.
    ///
    /// # Errors   [`DataError::Index`]; those of decoding, for a set that is decoded on demand
    pub fn get(&self, index: usize, flip: bool) -> Result<Item, DataError> {
        let mut pixels = vec![0.0; self.pixels_per_image()];
        self.write(index, flip, &mut pixels)?;
        Ok(Item {
            pixels,
            label: self.labels.as_ref().map(|labels| labels[index]),
        })
    }

    /// `[channels, height, width]` of every image.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Image `index` as it may come in training, in an epoch of a run of this seed: mirrored if `flip`, then changed by
    /// `augment`.
    ///
    /// # Errors   those of [`Dataset::get`]; [`DataError::Config`] for changes that these images cannot have
    pub fn get_augmented(
        &self,
        index: usize,
        flip: bool,
        augment: &AugmentConfig,
        (seed, epoch): (u64, u64),
    ) -> Result<Item, DataError> {
        augment.validate()?;
        augment.check_shape(self.shape)?;
        let image = index as u64;
        let mut item = self.get(index, flip && is_mirrored(seed, epoch, image))?;
        let at = Address { seed, epoch, image };
        augment.apply(&mut item.pixels, self.shape, at, &mut Vec::new());
        Ok(item)
    }

    /// channels × height × width.
    pub(crate) fn pixels_per_image(&self) -> usize {
        self.shape.iter().product()
    }

    /// Fills `out`, `[channels, height, width]`, with image `index`.
    pub(crate) fn write(&self, index: usize, flip: bool, out: &mut [f32]) -> Result<(), DataError> {
        if index >= self.len {
            return Err(DataError::Index {
                index,
                len: self.len,
            });
        }
        let size = out.len();
        let slot = index * size..(index + 1) * size;
        match &self.store {
            Store::Bytes(bytes) => write_bytes(&bytes[slot], self.shape, flip, out),
            Store::Units(units) => write_units(&units[slot], self.shape, flip, out),
            Store::OnDemand { decoder, kept } => {
                let number = kept[index];
                let raster = decoder
                    .decode(number)
                    .map_err(|fault| fault.at(decoder.path_of(number)))?;
                decoder.check_shape(number, &raster, self.shape)?;
                write_chw(&raster, flip, out);
            }
            Store::Synthetic(synthetic) => {
                synthetic.write(index, out);
                if flip {
                    mirror_rows(out, self.width());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
