//! Image sizes that the levels do not divide.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

use crate::error::UnetError;

/// Rows and columns that are added around an image before a network and cut off after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    size: [usize; 2],
    /// (before, after) of rows, then of columns.
    margins: [(usize, usize); 2],
}

/// # Errors   [`UnetError::Size`] if a side is not a multiple of 2^(levels-1) and `pad` is off
pub(crate) fn fit(height: usize, width: usize, levels: usize, pad: bool) -> Result<Fit, UnetError> {
    let multiple = 1usize << (levels - 1);
    let missing = [height, width].map(|side| side.next_multiple_of(multiple) - side);
    if height == 0 || width == 0 || (missing != [0, 0] && !pad) {
        let near = |side: usize, up: bool| {
            let smaller = (side / multiple).max(1) * multiple;
            if up {
                side.next_multiple_of(multiple).max(multiple)
            } else {
                smaller
            }
        };
        let named = |up: bool| format!("{}x{}", near(height, up), near(width, up));
        return Err(UnetError::Size {
            height,
            width,
            levels,
            multiple,
            smaller: named(false),
            larger: named(true),
        });
    }
    Ok(Fit {
        size: [height, width],
        margins: missing.map(|missing| (missing / 2, missing - missing / 2)),
    })
}

impl Fit {
    /// Adds the margins as zeros, the middle of the pixel range.
    ///
    /// # Shapes   `[batch, channels, height, width]` -> `[batch, channels, height', width']`
    pub(crate) fn pad(&self, x: Tensor<4>) -> Tensor<4> {
        if self.margins == [(0, 0); 2] {
            return x;
        }
        x.pad(self.margins, PadMode::Constant(0.0))
    }

    /// Cuts the margins off.
    ///
    /// # Shapes   `[batch, channels, height', width']` -> `[batch, channels, height, width]`
    pub(crate) fn crop(&self, x: Tensor<4>) -> Tensor<4> {
        if self.margins == [(0, 0); 2] {
            return x;
        }
        let [(top, _), (left, _)] = self.margins;
        x.narrow(2, top, self.size[0]).narrow(3, left, self.size[1])
    }
}
