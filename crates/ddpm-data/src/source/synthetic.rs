use ddpm_schedule::noise::{Stream, normal_fill};

use crate::config::{
    DEFAULT_SYNTHETIC_CHANNELS, DEFAULT_SYNTHETIC_COUNT, DEFAULT_SYNTHETIC_SIZE, DataConfig, Size,
};

/// Images of standard normal pixels, made when they are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Synthetic {
    seed: u64,
    count: usize,
    shape: [usize; 3],
}

impl Synthetic {
    pub(super) fn new(config: &DataConfig, seed: u64) -> Self {
        let size = config.size.unwrap_or(Size::square(DEFAULT_SYNTHETIC_SIZE));
        let channels = config.channels.unwrap_or(DEFAULT_SYNTHETIC_CHANNELS);
        Self {
            seed,
            count: config.count.unwrap_or(DEFAULT_SYNTHETIC_COUNT),
            shape: [channels, size.height, size.width],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// `[channels, height, width]`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Fills `out` with image `index`, `[channels, height, width]`.
    pub(crate) fn write(&self, index: usize, out: &mut [f32]) {
        normal_fill(self.seed, Stream::Synthetic, 0, index as u64, out);
    }
}
