//! The figures of the plain U-Net; read it beside [`crate::PlainUNet`].

use super::layer::{LayerCost, Plane, Stride, conv, product};
use super::{Cost, LevelCost, live};

/// `channels` and `features` have been checked.
pub(super) fn figures(channels: usize, features: &[usize], [height, width]: [usize; 2]) -> Cost {
    let mut total = LayerCost::default();
    let mut plane = Plane { height, width };
    let mut levels = Vec::new();
    let mut entering = channels + 1;
    for &output in features {
        // The pooling keeps where each maximum came from: a number for each of its results.
        let places = product(&[output as u128, plane.halved().area()]);
        total = total
            .and(double_conv(entering, output, plane))
            .keeping(places);
        levels.push((plane, output));
        plane = plane.halved();
        entering = output;
    }
    let last = entering;
    total = total.and(double_conv(last, 2 * last, plane));
    let bottleneck = level(plane, 2 * last);
    let below_all = (plane, 2 * last);
    entering = 2 * last;
    let mut below = plane;
    for &(plane, output) in levels.iter().rev() {
        total = total
            .and(doubling(entering, output, below))
            .and(double_conv(2 * output, output, plane));
        entering = output;
        below = plane;
    }
    let whole = Plane { height, width };
    total = total.and(conv(entering, channels, 1, Stride::One, whole));
    let all: Vec<_> = levels.iter().copied().chain([below_all]).collect();
    Cost {
        parameters: total.parameters,
        multiplications: total.multiplications,
        kept: total.kept,
        recomputed: total.kept,
        widest: total.widest,
        live: live::of_plain(channels, &all),
        packed: total.packed,
        levels: levels
            .into_iter()
            .map(|(plane, channels)| level(plane, channels))
            .chain([bottleneck])
            .collect(),
    }
}

fn level(plane: Plane, channels: usize) -> LevelCost {
    LevelCost {
        height: plane.height,
        width: plane.width,
        channels,
        attention: None,
    }
}

/// Two convolutions with ReLU: the input and both results of ReLU are kept.
fn double_conv(input: usize, output: usize, plane: Plane) -> LayerCost {
    let numbers = |channels: usize| product(&[channels as u128, plane.area()]);
    conv(input, output, 3, Stride::One, plane)
        .and(conv(output, output, 3, Stride::One, plane))
        .keeping(numbers(input))
        .keeping(numbers(output))
        .keeping(numbers(output))
}

/// The 2×2 transposed convolution of a map of `plane`.
fn doubling(input: usize, output: usize, plane: Plane) -> LayerCost {
    let weight = product(&[4, input as u128, output as u128]);
    LayerCost {
        parameters: weight.saturating_add(output as u128),
        multiplications: product(&[weight, plane.area()]),
        kept: 0,
        widest: product(&[output as u128, plane.doubled().area()]),
        packed: weight,
    }
}
