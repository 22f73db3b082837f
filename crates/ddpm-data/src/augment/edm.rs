//! The augmentation that does not leak (Karras et al. 2022, appendix F.2): the network is told what was done.

use std::f64::consts::PI;

use ddpm_schedule::noise::Stream;

use super::Address;
use super::turn::mirror_columns;
use super::warp::{Affine, warp};
use crate::pixels::mirror_rows;

/// Numbers that the network is told of each image.
pub(super) const NUMBERS: usize = 9;

/// Standard deviations of the logarithms, to the base 2, of both scales.
const SCALE: f64 = 0.2;
/// Standard deviation of the shift, in sides of the image.
const TRANSLATE: f64 = 0.125;

/// What is done to one image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Drawn {
    /// Left to right and top to bottom: with probability one half, and with half of `augment.edm`.
    pub(super) mirrored: [bool; 2],
    /// The scale is 2 to the power of 0.2 of this, standard normal.
    pub(super) scale: f64,
    /// Radians, even from -π to π.
    pub(super) rotate: f64,
    /// One axis is 2 to the power of 0.2 of this longer and the other as much shorter, standard normal.
    pub(super) aniso: f64,
    /// The angle of that axis: 0, or with probability one half even from -π to π.
    pub(super) aniso_angle: f64,
    /// Eighths of the image's sides, standard normal.
    pub(super) translate: [f64; 2],
}

impl Drawn {
    /// Each of the transformations with probability `p`; that left to right always, as one image in two is its own.
    pub(super) fn draw(p: f64, at: Address) -> Self {
        let [
            x_coin,
            y_coin,
            y_gate,
            scale_gate,
            rotate,
            rotate_gate,
            aniso_angle,
            aniso_gate,
            aniso_turned,
            translate_gate,
        ] = at.uniforms(Stream::AugmentEdm);
        let [scale, aniso, tx, ty] = at.normals(Stream::AugmentEdmNormal);
        let gated = |gate: f64, value: f64| if gate < p { value } else { 0.0 };
        let turn = |u: f64| (2.0 * u - 1.0) * PI;
        Self {
            mirrored: [x_coin < 0.5, y_coin < 0.5 && y_gate < p],
            scale: gated(scale_gate, scale),
            rotate: gated(rotate_gate, turn(rotate)),
            aniso: gated(aniso_gate, aniso),
            aniso_angle: if aniso_turned < 0.5 {
                turn(aniso_angle)
            } else {
                0.0
            },
            translate: [tx, ty].map(|shift| gated(translate_gate, shift)),
        }
    }

    /// What the network is told, in the order of Karras et al.'s program: mirrored left to right, top to bottom; the
    /// scale; cos - 1 and sin of the rotation; the uneven scale along cos and sin of its axis; the shift.
    pub(super) fn numbers(&self) -> [f32; NUMBERS] {
        let [x_mirrored, y_mirrored] = self.mirrored.map(|is| f64::from(u8::from(is)));
        let (sin, cos) = libm::sincos(self.rotate);
        let (aniso_sin, aniso_cos) = libm::sincos(self.aniso_angle);
        let [tx, ty] = self.translate;
        [
            x_mirrored,
            y_mirrored,
            self.scale,
            cos - 1.0,
            sin,
            self.aniso * aniso_cos,
            self.aniso * aniso_sin,
            tx,
            ty,
        ]
        .map(|number| number as f32)
    }

    /// Where a place of the result is read; none where every pixel stays in its place.
    pub(super) fn inverse(&self, [height, width]: [usize; 2]) -> Option<Affine> {
        let still = [self.scale, self.rotate, self.aniso] == [0.0; 3] && self.translate == [0.0; 2];
        if still {
            return None;
        }
        let power = |w: f64| libm::exp2(SCALE * w);
        let (scale, aniso) = (1.0 / power(self.scale), power(self.aniso));
        let [tx, ty] = self.translate;
        let steps = [
            Affine::scale(scale, scale),
            Affine::rotate(self.rotate),
            Affine::rotate(-self.aniso_angle),
            Affine::scale(1.0 / aniso, aniso),
            Affine::rotate(self.aniso_angle),
            Affine::translate(
                -tx * width as f64 * TRANSLATE,
                -ty * height as f64 * TRANSLATE,
            ),
        ];
        let inverse = steps
            .iter()
            .fold(Affine::IDENTITY, |map, step| map.after(step));
        Some(inverse)
    }

    /// Does it to an image in place: mirrors are exact, the rest is one map ([`warp`]).
    pub(super) fn apply(&self, pixels: &mut [f32], shape: [usize; 3]) {
        let [_, height, width] = shape;
        if self.mirrored[0] {
            mirror_rows(pixels, width);
        }
        if self.mirrored[1] {
            mirror_columns(pixels, height, width);
        }
        if let Some(inverse) = self.inverse([height, width]) {
            warp(pixels, shape, &inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(p: f64, count: u64) -> Vec<Drawn> {
        let at = |image| Address {
            seed: 11,
            epoch: 2,
            image,
        };
        (0..count).map(|image| Drawn::draw(p, at(image))).collect()
    }

    #[test]
    fn each_transformation_comes_as_often_as_asked() {
        let all = draws(0.12, 20_000);
        let share = |is: fn(&Drawn) -> bool| {
            all.iter().filter(|drawn| is(drawn)).count() as f64 / all.len() as f64
        };
        for (found, expected) in [
            (share(|drawn| drawn.mirrored[0]), 0.5),
            (share(|drawn| drawn.mirrored[1]), 0.06),
            (share(|drawn| drawn.scale != 0.0), 0.12),
            (share(|drawn| drawn.rotate != 0.0), 0.12),
            (share(|drawn| drawn.aniso != 0.0), 0.12),
            (share(|drawn| drawn.aniso_angle != 0.0), 0.5),
            (share(|drawn| drawn.translate != [0.0, 0.0]), 0.12),
            // Drawn each by itself: 0.12².
            (
                share(|drawn| drawn.scale != 0.0 && drawn.rotate != 0.0),
                0.0144,
            ),
            (
                share(|drawn| drawn.inverse([8, 8]).is_none()),
                0.88f64.powi(4),
            ),
        ] {
            assert!((found - expected).abs() < 0.012, "{found} {expected}");
        }
        let mirrored = draws(1e-6, 1000);
        let mirrored = mirrored.iter().filter(|drawn| drawn.mirrored[0]).count();
        assert!((430..570).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn sizes_are_normal_and_angles_even() {
        let all = draws(1.0, 20_000);
        let moments = |of: fn(&Drawn) -> f64| {
            let n = all.len() as f64;
            let mean = all.iter().map(of).sum::<f64>() / n;
            let square = all.iter().map(|drawn| of(drawn).powi(2)).sum::<f64>() / n;
            (mean, square.sqrt())
        };
        for (which, (mean, deviation)) in [
            moments(|drawn| drawn.scale),
            moments(|drawn| drawn.aniso),
            moments(|drawn| drawn.translate[0]),
            moments(|drawn| drawn.translate[1]),
        ]
        .into_iter()
        .enumerate()
        {
            let normal = mean.abs() < 0.03 && (deviation - 1.0).abs() < 0.03;
            assert!(normal, "{which}: {mean} {deviation}");
        }
        let (mean, deviation) = moments(|drawn| drawn.rotate);
        assert!(mean.abs() < 0.05 && (deviation - PI / 3.0f64.sqrt()).abs() < 0.03);
        assert!(all.iter().all(|drawn| drawn.rotate.abs() <= PI));
    }

    #[test]
    fn the_network_is_told_nine_numbers_of_it() {
        let drawn = Drawn {
            mirrored: [true, false],
            scale: 1.5,
            rotate: PI / 2.0,
            aniso: 2.0,
            aniso_angle: PI / 6.0,
            translate: [-0.5, 0.25],
        };
        let expected = [1.0, 0.0, 1.5, -1.0, 1.0, 3.0f32.sqrt(), 1.0, -0.5, 0.25];
        for (got, expected) in drawn.numbers().into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{:?}", drawn.numbers());
        }
        assert_eq!(Drawn::default().numbers(), [0.0; NUMBERS]);
    }

    #[test]
    fn mirrors_are_exact_and_nothing_is_nothing() {
        let image = [1.5, -0.25, 0.1, 0.7, -3.0, 0.3];
        let of = |mirrored| {
            let mut pixels = image;
            let drawn = Drawn {
                mirrored,
                // An angle of what is not stretched is told to nobody.
                aniso_angle: 0.7,
                ..Drawn::default()
            };
            drawn.apply(&mut pixels, [1, 2, 3]);
            pixels
        };
        assert_eq!(of([false, false]), image);
        assert_eq!(of([true, false]), [0.1, -0.25, 1.5, 0.3, -3.0, 0.7]);
        assert_eq!(of([false, true]), [0.7, -3.0, 0.3, 1.5, -0.25, 0.1]);
    }
}
