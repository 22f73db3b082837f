//! The picture that an image is made from: a smaller one, or a grey one.

use burn::tensor::{Device, Tensor, TensorData};

use super::config::{ConditionConfig, PictureKind};
use crate::editing::resize_bilinear;

impl ConditionConfig {
    /// The picture of an image that is known, as training has it; none if images are not made from pictures.
    ///
    /// # Shapes   `x0`: `[batch, channels, height, width]`; returns `[batch, channels of the picture, height, width]`
    #[must_use]
    pub fn picture(&self, x0: &Tensor<4>) -> Option<Tensor<4>> {
        let [_, _, height, width] = x0.dims();
        Some(match self.kind? {
            PictureKind::LowResolution => {
                let small = shrink(x0, self.factor.unwrap_or(1));
                resize_bilinear(&small, [height, width])
            }
            PictureKind::Gray => gray(x0),
        })
    }
}

/// Each pixel the mean of a square of `factor` by `factor`; what is left over at the right and below makes smaller ones.
///
/// # Shapes   `[batch, channels, height, width]` -> `[batch, channels, ⌈height/factor⌉, ⌈width/factor⌉]`
#[must_use]
pub fn shrink(x: &Tensor<4>, factor: usize) -> Tensor<4> {
    let means = |side: usize| {
        Weights::of(side.div_ceil(factor), side, |small| {
            let pixels = small * factor..((small + 1) * factor).min(side);
            let share = 1.0 / pixels.len() as f64;
            pixels.map(|pixel| (pixel, share)).collect()
        })
    };
    resample(x, means)
}

/// Brightness (ITU-R BT.601), and alpha as it is.
///
/// # Shapes   `[batch, 3 or 4, height, width]` -> `[batch, 1 or 2, height, width]`
#[must_use]
pub fn gray(x: &Tensor<4>) -> Tensor<4> {
    let channel = |i: usize| x.clone().narrow(1, i, 1);
    let brightness = channel(0) * 0.299 + channel(1) * 0.587 + channel(2) * 0.114;
    match x.dims()[1] {
        4 => Tensor::cat(vec![brightness, channel(3)], 1),
        _ => brightness,
    }
}

/// A picture as an image of so many channels: grey as colours, and without alpha all opaque.
///
/// # Shapes   `[batch, channels of the picture, height, width]` -> `[batch, channels, height, width]`
#[must_use]
pub fn as_image(picture: Tensor<4>, channels: usize) -> Tensor<4> {
    let [batch, own, height, width] = picture.dims();
    if own == channels {
        return picture;
    }
    let colours = |x: Tensor<4>, count: usize| x.expand([batch, count, height, width]);
    let gray = picture.clone().narrow(1, 0, 1);
    match channels {
        2 | 4 => {
            let alpha = match own {
                2 => picture.narrow(1, 1, 1),
                _ => gray.ones_like(),
            };
            Tensor::cat(vec![colours(gray, channels - 1), alpha], 1)
        }
        _ => colours(gray, channels),
    }
}

/// How the pixels of a side are made of those of another: `[to, from]`.
struct Weights {
    values: Vec<f32>,
    to: usize,
    from: usize,
}

impl Weights {
    /// `terms` says which pixels a new one is made of, and how much of each.
    fn of(to: usize, from: usize, terms: impl Fn(usize) -> Vec<(usize, f64)>) -> Self {
        let mut values = vec![0.0; to * from];
        for at in 0..to {
            for (pixel, share) in terms(at) {
                values[at * from + pixel] += share as f32;
            }
        }
        Self { values, to, from }
    }

    /// `[from, to]`, to be multiplied with from the left.
    fn tensor(self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.values, [self.to, self.from]);
        Tensor::<2>::from_data(data, device).transpose()
    }
}

/// Rows, then columns, as products with the weights that `weights` makes for each side.
fn resample(x: &Tensor<4>, weights: impl Fn(usize) -> Weights) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let device = x.device();
    let (rows, columns) = (weights(height), weights(width));
    let (new_height, new_width) = (rows.to, columns.to);
    // [batch, channels, height, width] · [width, width'] -> [batch, channels, height, width']
    let wide = x
        .clone()
        .reshape([batch * channels * height, width])
        .matmul(columns.tensor(&device))
        .reshape([batch, channels, height, new_width]);
    // The same of the rows: [batch, channels, width', height] · [height, height']
    let tall = wide
        .swap_dims(2, 3)
        .reshape([batch * channels * new_width, height])
        .matmul(rows.tensor(&device))
        .reshape([batch, channels, new_width, new_height]);
    tall.swap_dims(2, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::values;

    fn images(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        let data = TensorData::new(values.to_vec(), shape);
        Tensor::from_data(data, &Device::flex())
    }

    #[test]
    fn means_of_squares_and_what_lies_between_them() {
        let x = images(&[0.0, 2.0, 4.0, 2.0, 4.0, 6.0], [1, 1, 2, 3]);
        assert_eq!(values(shrink(&x, 2)), [2.0, 5.0]);
        let wide = resize_bilinear(&images(&[0.0, 4.0], [1, 1, 1, 2]), [1, 4]);
        assert_eq!(values(wide), [0.0, 1.0, 3.0, 4.0]);
        let tall = resize_bilinear(&images(&[0.0, 4.0], [1, 1, 2, 1]), [4, 1]);
        assert_eq!(values(tall), [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn a_picture_of_constant_images_is_that_constant() {
        let x = images(&[0.25; 3 * 48], [1, 3, 6, 8]);
        for (config, channels) in [
            (
                serde_json::json!({"kind": "low_resolution", "factor": 4}),
                3,
            ),
            (serde_json::json!({"kind": "gray"}), 1),
        ] {
            let config: ConditionConfig = serde_json::from_value(config).unwrap();
            let picture = config.picture(&x).unwrap();
            assert_eq!(picture.dims(), [1, channels, 6, 8]);
            let worst = values(picture)
                .into_iter()
                .map(|x| (x - 0.25).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-6, "{worst}");
        }
        assert!(ConditionConfig::default().picture(&x).is_none());
    }

    #[test]
    fn alpha_stays_beside_brightness() {
        let x = images(&[1.0, 0.0, -1.0, 0.5], [1, 4, 1, 1]);
        let found = values(gray(&x));
        assert!(
            (found[0] - (0.299 - 0.114)).abs() < 1e-6 && found[1] == 0.5,
            "{found:?}"
        );
        let shown = |channels| values(as_image(gray(&x), channels));
        assert_eq!(shown(4), [found[0], found[0], found[0], 0.5]);
        assert_eq!(shown(3), [found[0]; 3]);
        assert_eq!(
            values(as_image(gray(&x).narrow(1, 0, 1), 2)),
            [found[0], 1.0]
        );
    }
}
