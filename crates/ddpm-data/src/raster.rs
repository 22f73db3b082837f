/// The samples of an image, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Samples {
    U8(Vec<u8>),
    /// In [0, 1]: what the resizing library expects of floats.
    Unit(Vec<f32>),
}

/// A decoded image: 1 channel is grey, 2 grey and alpha, 3 RGB, 4 RGBA; alpha is straight, not premultiplied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raster {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) channels: usize,
    pub(crate) samples: Samples,
}

impl Raster {
    pub(crate) fn new(width: usize, height: usize, channels: usize, samples: Samples) -> Self {
        let raster = Self {
            width,
            height,
            channels,
            samples,
        };
        debug_assert_eq!(raster.samples.len(), width * height * channels);
        raster
    }

    /// `[channels, height, width]`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    pub(crate) fn has_alpha(&self) -> bool {
        has_alpha(self.channels)
    }
}

/// Whether the last of so many channels is alpha.
pub(crate) fn has_alpha(channels: usize) -> bool {
    channels.is_multiple_of(2)
}

impl Samples {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(bytes) => bytes.len(),
            Self::Unit(units) => units.len(),
        }
    }
}

/// A sample type that transforms can compute with.
pub(crate) trait Sample: Copy + Default {
    fn to_unit(self) -> f32;
    fn from_unit(unit: f32) -> Self;
}

impl Sample for u8 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 255.0
    }

    fn from_unit(unit: f32) -> Self {
        // `as` saturates, so values a rounding error outside [0, 1] are safe
        (unit * 255.0).round() as u8
    }
}

impl Sample for f32 {
    fn to_unit(self) -> f32 {
        self
    }

    fn from_unit(unit: f32) -> Self {
        unit
    }
}
