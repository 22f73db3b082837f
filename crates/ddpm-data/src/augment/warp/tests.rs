use serde::Deserialize;

use super::super::edm::Drawn;
use super::*;

/// Made by tests/python/edm_warp.py, which agreed with the program of Karras et al. 2022 (for a batch of one image) within
/// 3·10⁻⁶.
const CASES: &str = include_str!("../../../tests/fixtures/edm_warp.json");

#[derive(Deserialize)]
struct Case {
    shape: [usize; 3],
    drawn: Map,
    image: Vec<f32>,
    warped: Vec<f32>,
}

#[derive(Debug, Deserialize)]
struct Map {
    scale: f64,
    rotate: f64,
    aniso: f64,
    aniso_angle: f64,
    translate: [f64; 2],
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn images_are_warped_as_edm_does() {
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let [_, height, width] = case.shape;
        let Map {
            scale,
            rotate,
            aniso,
            aniso_angle,
            translate,
        } = case.drawn;
        let drawn = Drawn {
            scale,
            rotate,
            aniso,
            aniso_angle,
            translate,
            ..Drawn::default()
        };
        let mut pixels = case.image.clone();
        let inverse = drawn.inverse([height, width]).unwrap_or(Affine::IDENTITY);
        warp(&mut pixels, case.shape, &inverse);
        let difference = largest_difference(&pixels, &case.warped);
        assert!(difference < 3e-5, "{:?}: {difference}", case.drawn);
    }
}

#[test]
fn the_filter_alone_keeps_every_image() {
    for shape in [[2, 7, 7], [1, 16, 16], [3, 9, 12]] {
        let count = shape.iter().product::<usize>();
        let image: Vec<f32> = (0..count)
            .map(|place| (place * 37 % 41) as f32 / 20.0 - 1.0)
            .collect();
        let mut pixels = image.clone();
        warp(&mut pixels, shape, &Affine::IDENTITY);
        let difference = largest_difference(&pixels, &image);
        assert!(difference < 1e-5, "{shape:?}: {difference}");
    }
}

#[test]
fn half_a_turn_is_two_mirrors() {
    let image: Vec<f32> = (0..42).map(|place| (place * 5 % 17) as f32 / 9.0).collect();
    let mut pixels = image.clone();
    warp(
        &mut pixels,
        [1, 6, 7],
        &Affine::rotate(std::f64::consts::PI),
    );
    let turned: Vec<f32> = image.into_iter().rev().collect();
    // The filter is not quite symmetric.
    let difference = largest_difference(&pixels, &turned);
    assert!(difference < 0.2, "{difference}");
}

#[test]
fn maps_are_composed_from_the_right() {
    let map = Affine::translate(1.0, 2.0).after(&Affine::scale(3.0, 5.0));
    assert_eq!(map.at([1.0, 1.0]), [4.0, 7.0]);
    let map = Affine::rotate(std::f64::consts::FRAC_PI_2);
    let [x, y] = map.at([1.0, 0.0]);
    assert!(x.abs() < 1e-15 && (y - 1.0).abs() < 1e-15);
}
