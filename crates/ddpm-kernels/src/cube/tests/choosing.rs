//! Which kernels are chosen.

use super::*;
use crate::Precision;
use crate::cube::algorithm::{
    FEW, PRODUCTS, Work, allow_tf32, choose, distance, does, tf32_is_allowed,
};
use crate::cube::primitive;

/// On the card, `[values]`.
fn tensor(data: &[f32]) -> burn_cubecl::tensor::CubeTensor {
    let data = TensorData::new(data.to_vec(), [data.len()]);
    primitive(Tensor::<1>::from_data(data, &card()))
}

/// A kernel that comes to something else, or to nothing, is not chosen, however fast it is.
#[test]
fn only_a_right_kernel_is_chosen() {
    let right = random(5, 300);
    // Off by a roundings' worth, and by as much as it is large.
    let rounded: Vec<f32> = right.iter().map(|x| x * 1.004).collect();
    let wrong: Vec<f32> = right.iter().map(|x| -x).collect();
    let [cmma, mma] = [PRODUCTS[0], PRODUCTS[1]];
    let with = |first: Option<&[f32]>, second: Option<&[f32]>| {
        let work = Work {
            kind: "test".to_owned(),
            sizes: "300".to_owned(),
            candidates: PRODUCTS,
        };
        let right = tensor(&right);
        choose(&right, &work, &right, &|algorithm, _| {
            let data = if algorithm == cmma { first } else { second };
            data.map(tensor)
        })
    };
    assert_eq!(with(Some(&wrong), Some(&rounded)), Some(mma));
    assert_eq!(with(Some(&rounded), None), Some(cmma));
    assert_eq!(with(None, Some(&wrong)), None);
    assert!(with(Some(&right), Some(&rounded)).is_some());
}

/// Ours come first, and end the search when one is right.
#[test]
fn others_are_tried_only_if_ours_fail() {
    let right = tensor(&random(5, 300));
    let wrong = tensor(&random(6, 300));
    let (ours, other) = (FEW[0], FEW[1]);
    let work = Work {
        kind: "test".to_owned(),
        sizes: "300".to_owned(),
        candidates: FEW,
    };
    let first = choose(&right, &work, &right, &|algorithm, _| {
        assert_eq!(algorithm, ours);
        Some(right.clone())
    });
    assert_eq!(first, Some(ours));
    for instead in [None, Some(&wrong)] {
        let second = choose(&right, &work, &right, &|algorithm, _| match algorithm {
            algorithm if algorithm == ours => instead.cloned(),
            _ => Some(right.clone()),
        });
        assert_eq!(second, Some(other));
    }
}

/// Another's kernel is compared at every size, ours has only to run.
#[test]
fn a_kernel_known_for_its_kind_is_looked_at_again() {
    let right = random(5, 300);
    let wrong: Vec<f32> = right.iter().map(|x| x * 1.01).collect();
    let (ours, other) = (FEW[0], FEW[1]);
    let by_units = |_| tensor(&right);
    assert!(does(other, &|_, _| Some(tensor(&right)), &by_units));
    assert!(!does(other, &|_, _| Some(tensor(&wrong)), &by_units));
    assert!(!does(other, &|_, _| None, &by_units));
    assert!(does(ours, &|_, _| Some(tensor(&wrong)), &by_units));
    assert!(!does(ours, &|_, _| None, &by_units));
}

/// What the processor computes in does not decide for the cards.
#[test]
fn the_processor_does_not_forbid_tf32() {
    allow_tf32(true);
    Precision::F32.choose(&Device::flex()).unwrap();
    assert!(tf32_is_allowed());
    Precision::F32.choose(&card()).unwrap();
    assert!(!tf32_is_allowed());
}

/// The measure that kernels are chosen by.
#[test]
fn the_distance_of_two_tensors() {
    let right = random(3, 9001);
    let mut wrong = right.clone();
    wrong[4096] += 2.0;
    let distance = |a: &[f32], b: &[f32]| distance(&tensor(a), &tensor(b)).unwrap();
    assert_eq!(distance(&right, &right), 0.0);
    let expected = relative(&wrong, &right);
    assert!((distance(&wrong, &right) / expected - 1.0).abs() < 1e-5);
    assert_eq!(distance(&[0.0; 5], &[0.0; 5]), 0.0);
    wrong[8000] = f32::NAN;
    assert!(distance(&wrong, &right).is_nan());
    assert!(distance(&wrong, &wrong).is_nan());
}
