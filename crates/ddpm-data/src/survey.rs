//! What the images of a source are, before any is decoded.

mod header;

use std::panic::resume_unwind;
use std::thread;

use crate::config::{DataConfig, Size};
use crate::error::{DataError, Fault, Skipped};
use crate::kinds::PassedOver;
use crate::raster::{Raster, Samples, has_alpha};
use crate::source::{self, Listing, Source};
use crate::words::some;

use header::{Header, header};

/// Images whose headers are read, at most; of a larger set, so many spread evenly over it.
const MAX_EXAMINED: usize = 1 << 16;
/// Images that are decoded, at most, to see whether their alpha is more than opaque throughout.
const MAX_DECODED: usize = 128;

/// What the images of a source are, by their headers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Survey {
    /// How many images the source has.
    pub images: usize,
    /// How many of them were looked at: all, or of a set of more than 65536 so many, spread evenly over it.
    pub examined: usize,
    /// The size of the images that were looked at, upright, if it is the same for all.
    pub size: Option<Size>,
    /// The smallest, the median and the largest short side.
    pub short_sides: [usize; 3],
    /// The channels that lose nothing of any image: 1 if all are grey, 3 if one has colours; 2 and 4 if one, of the
    /// up to 128 with alpha that were decoded for it, is not opaque throughout.
    pub channels: usize,
    /// Whether all have those channels, so that `data.channels` need not be set.
    pub same_channels: bool,
    /// The number of classes, if the source has classes.
    pub num_classes: Option<usize>,
    /// The images whose headers cannot be read.
    pub bad: Vec<Skipped>,
    /// What lies beside the images.
    pub passed_over: PassedOver,
}

impl Survey {
    /// The survey in one line: `12 images of 3 channels, 32×32`, or their short sides if they differ in size.
    #[must_use]
    pub fn describe(&self) -> String {
        let [smallest, median, largest] = self.short_sides;
        let sizes = match self.size {
            Some(Size { height, width }) => format!("all of {height}×{width} pixels"),
            None => format!(
                "of different sizes, the short side from {smallest} to {largest} pixels (median {median})"
            ),
        };
        format!(
            "{}, {sizes}, {}",
            some(self.images, "image"),
            some(self.channels, "channel")
        )
    }
}

/// Lists a source and reads the headers of its images, on as many threads as the machine has.
///
/// Keys that say how images are made alike (`size`, `channels`, `fit`) do not matter; `transpose` does.
///
/// # Errors   those of opening the source; [`DataError::AllBad`] if no header can be read
pub fn survey(config: &DataConfig) -> Result<Survey, DataError> {
    config.validate()?;
    let Listing {
        source, classes, ..
    } = source::open(config, 0)?;
    let images = source.len();
    let passed_over = source.beside().passed_over;
    if let Some([channels, height, width]) = source.shape() {
        let (height, width) = match config.transpose {
            true => (width, height),
            false => (height, width),
        };
        return Ok(Survey {
            images,
            examined: images,
            size: Some(Size { height, width }),
            short_sides: [height.min(width); 3],
            channels,
            same_channels: true,
            num_classes: classes.count,
            bad: Vec::new(),
            passed_over,
        });
    }
    let indices = spread(images, MAX_EXAMINED);
    let mut bad = Vec::new();
    let mut headers = Vec::new();
    for (&index, outcome) in indices.iter().zip(in_parallel(&indices, |index| {
        header(&source, index, config.max_image_pixels)
    })) {
        match outcome {
            Ok(header) => headers.push((index, header)),
            Err(fault) => bad.push(Skipped {
                path: source.path_of(index),
                reason: fault.to_string(),
            }),
        }
    }
    let Some(&(_, first)) = headers.first() else {
        let first = bad.into_iter().next();
        let (first, reason) = first.map_or_else(Default::default, |bad| (bad.path, bad.reason));
        return Err(DataError::AllBad {
            path: config.path.clone().unwrap_or_default(),
            count: images,
            first,
            reason,
        });
    };
    let mut sides: Vec<usize> = headers
        .iter()
        .map(|(_, header)| header.size.height.min(header.size.width))
        .collect();
    sides.sort_unstable();
    let alike = headers.iter().all(|(_, header)| header.size == first.size);
    let coloured = headers.iter().any(|(_, header)| header.channels > 2);
    let channels = match (coloured, is_transparent(&source, &headers)) {
        (false, false) => 1,
        (false, true) => 2,
        (true, false) => 3,
        (true, true) => 4,
    };
    Ok(Survey {
        images,
        examined: indices.len(),
        size: alike.then_some(first.size),
        short_sides: [
            first_or(&sides, 0),
            first_or(&sides, (sides.len() - 1) / 2),
            first_or(&sides, sides.len() - 1),
        ],
        channels,
        same_channels: headers
            .iter()
            .all(|(_, header)| header.channels == channels),
        num_classes: classes.count,
        bad,
        passed_over,
    })
}

fn first_or(sides: &[usize], at: usize) -> usize {
    sides.get(at).copied().unwrap_or_default()
}

/// Up to `most` of the numbers below `total`, evenly spread, the first and the last among them.
fn spread(total: usize, most: usize) -> Vec<usize> {
    if total <= most {
        return (0..total).collect();
    }
    let last = (total - 1) as u128;
    (0..most as u128)
        .map(|i| (i * last / (most as u128 - 1)) as usize)
        .collect()
}

/// Whether an image that claims alpha, of a few that are decoded, has a pixel that is not opaque.
fn is_transparent(source: &Source, headers: &[(usize, Header)]) -> bool {
    let claimed: Vec<usize> = headers
        .iter()
        .filter(|(_, header)| has_alpha(header.channels))
        .map(|(index, _)| *index)
        .collect();
    let some: Vec<usize> = spread(claimed.len(), MAX_DECODED)
        .into_iter()
        .filter_map(|i| claimed.get(i).copied())
        .collect();
    let looks = in_parallel(&some, |index| {
        source.decode(index).map(|r| shows_through(&r))
    });
    // one that cannot be decoded says nothing, and is told when it is to be trained on
    looks.into_iter().any(|look| look.unwrap_or(false))
}

fn shows_through(raster: &Raster) -> bool {
    let alphas = raster.channels - 1;
    raster.has_alpha()
        && match &raster.samples {
            Samples::U8(bytes) => {
                let mut alphas = bytes.iter().skip(alphas).step_by(raster.channels);
                alphas.any(|&alpha| alpha < u8::MAX)
            }
            Samples::Unit(units) => {
                let mut alphas = units.iter().skip(alphas).step_by(raster.channels);
                alphas.any(|&alpha| alpha < 1.0)
            }
        }
}

/// `work` of all indices, in their order.
fn in_parallel<T: Send>(
    indices: &[usize],
    work: impl Fn(usize) -> Result<T, Fault> + Sync,
) -> Vec<Result<T, Fault>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = indices.len().div_ceil(threads).max(1);
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> = indices
            .chunks(share)
            .map(|share| {
                scope.spawn(move || share.iter().map(|&index| work(index)).collect::<Vec<_>>())
            })
            .collect();
        let mut all = Vec::with_capacity(indices.len());
        for worker in workers {
            match worker.join() {
                Ok(outcomes) => all.extend(outcomes),
                Err(panic) => resume_unwind(panic),
            }
        }
        all
    })
}

#[cfg(test)]
mod tests;
