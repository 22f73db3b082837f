//! Image sizes that the levels do not divide.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

use crate::error::UnetError;

/// Rows and columns that are added around an image before a network and cut off after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Padding {
    size: [usize; 2],
    /// (before, after) of rows, then of columns.
    margins: [(usize, usize); 2],
}

/// # Errors   [`UnetError::Size`] if a side is not a multiple of 2^(levels-1) and `pad` is off
pub(crate) fn fit(
    height: usize,
    width: usize,
    levels: usize,
    pad: bool,
) -> Result<Padding, UnetError> {
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
    Ok(Padding {
        size: [height, width],
        margins: missing.map(|missing| (missing / 2, missing - missing / 2)),
    })
}

impl Padding {
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{normal_tensor, values};

    #[test]
    fn pads_on_all_sides_and_crops_back() {
        let device = Device::flex();
        for (size, padded, corner) in [
            ([28, 28], [32, 32], [2, 2]),
            ([27, 32], [32, 32], [2, 0]),
            ([8, 1], [8, 8], [0, 3]),
            ([16, 24], [16, 24], [0, 0]),
        ] {
            let fit = fit(size[0], size[1], 4, true).unwrap();
            let x = normal_tensor(0, [2, 3, size[0], size[1]], &device);
            let larger = fit.pad(x.clone());
            assert_eq!(larger.dims(), [2, 3, padded[0], padded[1]]);
            let inner = larger
                .clone()
                .narrow(2, corner[0], size[0])
                .narrow(3, corner[1], size[1]);
            assert_eq!(values(inner), values(x.clone()));
            // All else is zero.
            let total = |x: Tensor<4>| values(x.abs()).into_iter().map(f64::from).sum::<f64>();
            assert!((total(larger.clone()) - total(x.clone())).abs() < 1e-9);
            assert_eq!(values(fit.crop(larger)), values(x));
        }
    }

    #[test]
    fn gradient_flows_through() {
        let device = Device::flex().autodiff();
        let fit = fit(5, 7, 3, true).unwrap();
        let x = normal_tensor(0, [2, 1, 5, 7], &device).require_grad();
        let w = normal_tensor(1, [2, 1, 5, 7], &device);
        let grads = (fit.crop(fit.pad(x.clone())) * w.clone()).sum().backward();
        assert_eq!(values(x.grad(&grads).unwrap()), values(w));
    }

    #[test]
    fn sizes_that_do_not_divide_are_named_with_their_neighbours() {
        for ([height, width], smaller, larger) in [
            ([28, 28], "24x24", "32x32"),
            ([32, 30], "32x24", "32x32"),
            ([3, 17], "8x16", "8x24"),
            ([0, 8], "8x8", "8x8"),
        ] {
            let error = fit(height, width, 4, false).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{height}x{width} images do not fit 4 levels: height and width must be multiples of 8; \
                     the nearest sizes that fit are {smaller} and {larger}, or set `pad = true`"
                )
            );
        }
        assert!(fit(0, 8, 4, true).is_err());
        assert!(fit(32, 8, 4, false).is_ok());
        assert!(fit(5, 7, 1, false).is_ok());
    }
}
