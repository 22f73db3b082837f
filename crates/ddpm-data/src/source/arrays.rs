pub(super) mod number;
pub(super) mod range;

use std::path::PathBuf;

use crate::blob::Blob;
use crate::config::DataConfig;
use crate::error::{DataError, Fault};
use crate::raster::{Raster, Samples};

use number::Number;
use range::Range;

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
    /// One byte each: 0 is black, all else white.
    Bools,
    Numbers(Number, Range),
}

impl Encoding {
    fn sample_bytes(self) -> usize {
        match self {
            Self::Bytes | Self::Bools => 1,
            Self::Numbers(number, _) => number.bytes(),
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
            Encoding::Bools => {
                let white = |byte| if byte == 0 { 0 } else { u8::MAX };
                Samples::U8(self.channels_last(bytes.into_iter().map(white).collect()))
            }
            Encoding::Numbers(number, range) => {
                let values = number.read(&bytes).into_iter();
                let units: Result<_, Fault> = values.map(|value| range.to_unit(value)).collect();
                Samples::Unit(self.channels_last(units?))
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

    /// The numbers of image `index` as they are stored; none if they are bytes.
    pub(super) fn numbers(&self, index: usize) -> Result<Vec<f32>, Fault> {
        match self.encoding {
            Encoding::Numbers(number, _) => Ok(number.read(&self.read(index)?)),
            Encoding::Bytes | Encoding::Bools => Ok(Vec::new()),
        }
    }
}
