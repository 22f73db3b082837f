//! Random changes of training images.
//!
//! Each is one file: what is drawn for an image, and what that does to its pixels. All random numbers are functions of
//! (seed, epoch, image), so that batches, threads and ranks change nothing.

mod config;
mod crop;
mod edm;
mod jitter;
mod turn;
mod warp;

use ddpm_schedule::noise::{Stream, bits, normal_fill, uniform_fill};

pub use config::{AugmentConfig, JitterConfig};

use crop::{Window, crop};
use edm::Drawn;
use jitter::jitter;
use turn::{mirror_columns, turn};

/// Where an image's random numbers are found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
    /// Its number in the set.
    pub(crate) image: u64,
}

impl Address {
    fn coins(self, stream: Stream) -> u32 {
        bits(self.seed, stream, self.epoch, self.image)[0]
    }

    fn uniforms<const N: usize>(self, stream: Stream) -> [f64; N] {
        let mut out = [0.0; N];
        uniform_fill(self.seed, stream, self.epoch, self.image, &mut out);
        out
    }

    fn normals<const N: usize>(self, stream: Stream) -> [f64; N] {
        let mut out = [0.0; N];
        normal_fill(self.seed, stream, self.epoch, self.image, &mut out);
        out.map(f64::from)
    }
}

/// Whether `data.flip` mirrors an image in an epoch. The coin belongs to the image and not to its place, so it survives a
/// change of batch size.
pub(crate) fn is_mirrored(seed: u64, epoch: u64, image: u64) -> bool {
    bits(seed, Stream::Flip, epoch, image)[0] & 1 == 1
}

impl AugmentConfig {
    /// Changes an image in place, in the order of the keys of the table, and appends what the network is told of it, as
    /// many numbers as [`AugmentConfig::numbers`].
    ///
    /// # Shapes   `pixels`: `shape`, `[channels, height, width]`, which [`AugmentConfig::check_shape`] allows
    pub(crate) fn apply(
        &self,
        pixels: &mut [f32],
        shape: [usize; 3],
        at: Address,
        told: &mut Vec<f32>,
    ) {
        let [_, height, width] = shape;
        if self.vertical_flip && at.coins(Stream::AugmentFlip) & 1 == 1 {
            mirror_columns(pixels, height, width);
        }
        if self.rotate90 {
            turn(pixels, height, at.coins(Stream::AugmentTurn) & 3);
        }
        if let Some(least) = self.crop {
            crop(pixels, shape, Window::draw(least, [height, width], at));
        }
        if let Some(config) = &self.jitter {
            jitter(pixels, shape, &config.draw(at));
        }
        if let Some(p) = self.edm {
            let drawn = Drawn::draw(p, at);
            drawn.apply(pixels, shape);
            told.extend(drawn.numbers());
        }
    }
}

#[cfg(test)]
mod tests;
