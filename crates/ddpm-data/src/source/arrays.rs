use std::path::PathBuf;

use crate::blob::Blob;
use crate::config::DataConfig;
use crate::error::{DataError, Fault};
use crate::raster::{Raster, Samples};

/// How far, as a part of the range, a float may lie outside it: rounding in whatever wrote the file.
const RANGE_TOLERANCE: f32 = 1e-3;

/// Images of one shape at fixed distances in one or more files: IDX, CIFAR and NumPy.
#[derive(Debug)]
pub(crate) struct Arrays {
    pub(super) parts: Vec<Part>,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) layout: Layout,
    pub(super) encoding: Encoding,
}

/// The images of one file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) blob: Blob,
    /// Where the first image's samples begin.
    pub(super) start: u64,
    /// From one image to the next, in bytes.
    pub(super) stride: u64,
    pub(super) count: usize,
}

/// The order of an image's samples in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[height, width, channels]`
    ChannelsLast,
    /// `[channels, height, width]`
    ChannelsFirst,
}

/// What an image's samples are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    Bytes,
    Floats { float: Float, low: f32, high: f32 },
}

/// A floating-point type in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F32Little,
    F32Big,
    F64Little,
    F64Big,
}

impl Float {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32Little | Self::F32Big => 4,
            Self::F64Little | Self::F64Big => 8,
        }
    }

    /// The numbers of a piece of a file whose length is a multiple of [`Float::bytes`].
    pub(super) fn read(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            let (numbers, _) = bytes.as_chunks::<N>();
            numbers.iter().map(|&number| convert(number)).collect()
        }
        match self {
            Self::F32Little => each(bytes, f32::from_le_bytes),
            Self::F32Big => each(bytes, f32::from_be_bytes),
            Self::F64Little => each(bytes, |number| f64::from_le_bytes(number) as f32),
            Self::F64Big => each(bytes, |number| f64::from_be_bytes(number) as f32),
        }
    }
}

impl Encoding {
    fn sample_bytes(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::Floats { float, .. } => float.bytes(),
        }
    }
}

/// Refuses an image size before anything is computed from it.
pub(super) fn check_pixels(
    path: &std::path::Path,
    height: u64,
    width: u64,
    config: &DataConfig,
) -> Result<(), DataError> {
    let pixels = height.saturating_mul(width);
    if pixels == 0 {
        return Err(DataError::format(
            path,
            "images of at least one pixel",
            format!("{height}×{width}"),
        ));
    }
    if pixels > config.max_image_pixels {
        return Err(DataError::Limit {
            path: path.to_path_buf(),
            what: "number of pixels of an image",
            got: pixels,
            limit: config.max_image_pixels,
            key: "max_image_pixels",
        });
    }
    Ok(())
}

impl Arrays {
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.count).sum()
    }

    fn find(&self, index: usize) -> Option<(&Part, usize)> {
        let mut rest = index;
        for part in &self.parts {
            if rest < part.count {
                return Some((part, rest));
            }
            rest -= part.count;
        }
        None
    }

    pub(super) fn path_of(&self, index: usize) -> PathBuf {
        let Some((part, within)) = self.find(index) else {
            return PathBuf::new();
        };
        let mut path = part.blob.path().as_os_str().to_owned();
        path.push(format!("[{within}]"));
        PathBuf::from(path)
    }

    /// The bytes of image `index`.
    fn read(&self, index: usize) -> Result<Vec<u8>, Fault> {
        let (part, within) = self
            .find(index)
            .ok_or_else(|| Fault::Bad("is beyond the end".into()))?;
        let samples = self.height * self.width * self.channels;
        let mut bytes = vec![0; samples * self.encoding.sample_bytes()];
        part.blob
            .read(part.start + part.stride * within as u64, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn decode(&self, index: usize) -> Result<Raster, Fault> {
        let bytes = self.read(index)?;
        let samples = match self.encoding {
            Encoding::Bytes => Samples::U8(self.channels_last(bytes)),
            Encoding::Floats { float, low, high } => {
                let units = to_units(float.read(&bytes), low, high)?;
                Samples::Unit(self.channels_last(units))
            }
        };
        Ok(Raster::new(self.width, self.height, self.channels, samples))
    }

    fn channels_last<S: Copy>(&self, samples: Vec<S>) -> Vec<S> {
        if self.layout == Layout::ChannelsLast || self.channels == 1 {
            return samples;
        }
        let plane = self.height * self.width;
        (0..plane)
            .flat_map(|pixel| (0..self.channels).map(move |channel| (channel, pixel)))
            .map(|(channel, pixel)| samples[channel * plane + pixel])
            .collect()
    }

    /// The smallest and largest finite float of all images; `None` if there is none.
    pub(super) fn float_extent(&self) -> Result<Option<(f32, f32)>, DataError> {
        let Encoding::Floats { float, .. } = self.encoding else {
            return Ok(None);
        };
        let mut extent: Option<(f32, f32)> = None;
        for index in 0..self.len() {
            let bytes = self
                .read(index)
                .map_err(|fault| fault.at(self.path_of(index)))?;
            for value in float.read(&bytes).into_iter().filter(|v| v.is_finite()) {
                extent = Some(match extent {
                    None => (value, value),
                    Some((low, high)) => (low.min(value), high.max(value)),
                });
            }
        }
        Ok(extent)
    }
}

/// Floats in [low, high] to [0, 1].
fn to_units(mut values: Vec<f32>, low: f32, high: f32) -> Result<Vec<f32>, Fault> {
    for value in &mut values {
        let unit = (*value - low) / (high - low);
        // not finite fails too
        if !(-RANGE_TOLERANCE..=1.0 + RANGE_TOLERANCE).contains(&unit) {
            return Err(Fault::Bad(format!(
                "holds the value {value}, outside {low}..{high} (data.range)"
            )));
        }
        *value = unit.clamp(0.0, 1.0);
    }
    Ok(values)
}

/// Whether all of `extent` lies within [low, high].
pub(super) fn spans(extent: (f32, f32), low: f32, high: f32) -> bool {
    let slack = (high - low) * RANGE_TOLERANCE;
    extent.0 >= low - slack && extent.1 <= high + slack
}
