//! Images as they lie in files.

use ddpm_store::images::to_u8;

use crate::error::EvalError;

/// Images of one shape as bytes, so that what is drawn now and what was written to a folder earlier have the same figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// `[n, channels, height, width]`, row-major
    bytes: Vec<u8>,
    shape: [usize; 4],
}

impl Images {
    /// # Shapes   `bytes`: `[n, channels, height, width]`
    ///
    /// # Errors   [`EvalError::Shape`] if there are not as many bytes as the shape says
    pub fn new(bytes: Vec<u8>, shape: [usize; 4]) -> Result<Self, EvalError> {
        let expected = shape.iter().product::<usize>();
        match bytes.len() == expected {
            true => Ok(Self { bytes, shape }),
            false => Err(EvalError::Shape {
                what: "images",
                expected: format!("{expected} bytes"),
                got: format!("{}", bytes.len()),
            }),
        }
    }

    /// # Shapes   `pixels`: `[n, channels, height, width]`
    ///
    /// # Units    pixels in [-1, 1], rounded as they are when a file is written
    ///
    /// # Errors   as [`Images::new`]
    pub fn from_pixels(pixels: &[f32], shape: [usize; 4]) -> Result<Self, EvalError> {
        Self::new(pixels.iter().map(|&x| to_u8(x)).collect(), shape)
    }

    /// `[n, channels, height, width]`
    #[must_use]
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape[0]
    }

    /// `[n, channels, height, width]`, row-major.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of one image, `[channels, height, width]`.
    ///
    /// # Panics   if there is no image of that number
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        let size: usize = self.shape[1..].iter().product();
        &self.bytes[index * size..(index + 1) * size]
    }

    /// Some of them, in the order given.
    ///
    /// # Panics   if there is no image of one of these numbers
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let [_, channels, height, width] = self.shape;
        Self {
            bytes: indices
                .iter()
                .flat_map(|&i| self.image(i))
                .copied()
                .collect(),
            shape: [indices.len(), channels, height, width],
        }
    }
}
