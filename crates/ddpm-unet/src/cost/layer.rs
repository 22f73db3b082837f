//! The cost of single layers, and their sum.

use crate::error::UnetError;
use crate::layers::check_groups;

/// Outputs in an image from which on kept weights are those of F(4×4, 3×3); as `ddpm-kernels` chooses.
const ENOUGH_FOR_TRANSFORM: u128 = 64;

/// What some layers cost, for one image where images matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LayerCost {
    pub(super) parameters: u128,
    pub(super) multiplications: u128,
    pub(super) kept: u128,
    pub(super) widest: u128,
    pub(super) packed: u128,
}

impl LayerCost {
    /// The cost of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            parameters: self.parameters.saturating_add(other.parameters),
            multiplications: self.multiplications.saturating_add(other.multiplications),
            kept: self.kept.saturating_add(other.kept),
            widest: self.widest.max(other.widest),
            packed: self.packed.saturating_add(other.packed),
        }
    }

    /// The cost of `count` such layers, none of them for 0.
    pub(super) fn times(self, count: u128) -> Self {
        Self {
            parameters: self.parameters.saturating_mul(count),
            multiplications: self.multiplications.saturating_mul(count),
            kept: self.kept.saturating_mul(count),
            widest: if count == 0 { 0 } else { self.widest },
            packed: self.packed.saturating_mul(count),
        }
    }

    /// `self`, keeping `numbers` more for the backward pass.
    pub(super) fn keeping(self, numbers: u128) -> Self {
        Self {
            kept: self.kept.saturating_add(numbers),
            ..self
        }
    }
}

/// a · b · c …, at most `u128::MAX`.
pub(super) fn product(factors: &[u128]) -> u128 {
    // A factor of 0 must win over a product that was cut off before it.
    if factors.contains(&0) {
        return 0;
    }
    factors
        .iter()
        .fold(1, |product: u128, factor| product.saturating_mul(*factor))
}

/// Height and width of feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Plane {
    /// Pixels.
    pub(super) fn area(self) -> u128 {
        product(&[self.height as u128, self.width as u128])
    }

    /// Half as high and wide.
    pub(super) fn halved(self) -> Self {
        Self {
            height: self.height / 2,
            width: self.width / 2,
        }
    }

    /// Twice as high and wide.
    pub(super) fn doubled(self) -> Self {
        Self {
            height: self.height.saturating_mul(2),
            width: self.width.saturating_mul(2),
        }
    }
}

/// How a convolution is computed where weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stride {
    /// 1: transformed for 3×3 kernels.
    One,
    /// 2: never transformed.
    Two,
}

/// A convolution with bias whose result has `plane`; its input is not counted as kept.
pub(super) fn conv(
    input: usize,
    output: usize,
    kernel: usize,
    stride: Stride,
    plane: Plane,
) -> LayerCost {
    let (input, output, kernel) = (input as u128, output as u128, kernel as u128);
    let weight = product(&[kernel, kernel, input, output]);
    let transformed = kernel == 3 && stride == Stride::One && plane.area() >= ENOUGH_FOR_TRANSFORM;
    LayerCost {
        parameters: weight.saturating_add(output),
        multiplications: product(&[weight, plane.area()]),
        kept: 0,
        widest: product(&[output, plane.area()]),
        packed: match transformed {
            true => product(&[36, input, output]),
            false => weight,
        },
    }
}

/// A linear layer over one vector an image.
pub(super) fn linear(input: usize, output: usize) -> LayerCost {
    let weight = product(&[input as u128, output as u128]);
    LayerCost {
        parameters: weight.saturating_add(output as u128),
        multiplications: weight,
        packed: weight,
        ..LayerCost::default()
    }
}

/// A table of parameters.
pub(super) fn table(rows: usize, columns: usize) -> LayerCost {
    LayerCost {
        parameters: product(&[rows as u128, columns as u128]),
        ..LayerCost::default()
    }
}

/// Scale and shift of a group normalisation.
///
/// # Errors   [`UnetError::Config`] if `groups` does not divide `channels`
pub(super) fn norm(groups: usize, channels: usize) -> Result<LayerCost, UnetError> {
    check_groups(groups, channels)?;
    Ok(table(2, channels))
}
