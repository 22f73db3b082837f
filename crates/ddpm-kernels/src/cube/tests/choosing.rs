//! Which kernels are chosen.

use super::*;
use crate::Precision;
use crate::cube::algorithm::{
    Algorithm, FEW, Fit, PRODUCTS, Untold, Waited, Work, allow_tf32, choose, deferred, distance,
    does, export, select, tf32_is_allowed, updated,
};
use crate::cube::{of_dimensions, primitive};

/// On the GPU, `[values]`.
fn tensor(data: &[f32]) -> burn_cubecl::tensor::CubeTensor {
    let data = TensorData::new(data.to_vec(), [data.len()]);
    primitive(Tensor::<1>::from_data(data, &gpu()))
}

/// A kernel that comes to something else, or to nothing, is not chosen, however fast it is.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn only_a_right_kernel_is_chosen() {
    let right = random(5, 300);
    // Off by a roundings' worth, and by as much as it is large.
    let rounded: Vec<f32> = right.iter().map(|x| x * 1.004).collect();
    let wrong: Vec<f32> = right.iter().map(|x| -x).collect();
    let [cmma, mma] = [PRODUCTS[1], PRODUCTS[2]];
    let with = |first: Option<&[f32]>, second: Option<&[f32]>| {
        let work = Work {
            kind: "test".to_owned(),
            sizes: "300".to_owned(),
            candidates: PRODUCTS,
        };
        let right = tensor(&right);
        choose(&right, &work, &right, &|algorithm, _| {
            let data = match algorithm {
                algorithm if algorithm == cmma => first,
                algorithm if algorithm == mma => second,
                _ => None,
            };
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
#[ignore = "needs a GPU, or Vulkan in software"]
fn others_are_tried_only_if_ours_fail() {
    let right = tensor(&random(5, 300));
    let wrong = tensor(&random(6, 300));
    let (ours, other) = (FEW[1], FEW[2]);
    let work = Work {
        kind: "test".to_owned(),
        sizes: "300".to_owned(),
        candidates: FEW,
    };
    let first = choose(&right, &work, &right, &|algorithm, _| {
        assert_ne!(algorithm, other);
        (algorithm == ours).then(|| right.clone())
    });
    assert_eq!(first, Some(ours));
    for instead in [None, Some(&wrong)] {
        let second = choose(&right, &work, &right, &|algorithm, _| match algorithm {
            algorithm if algorithm == other => Some(right.clone()),
            algorithm if algorithm == ours => instead.cloned(),
            _ => None,
        });
        assert_eq!(second, Some(other));
    }
}

/// Another's kernel is compared at every size, ours has only to run.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_kernel_known_for_its_kind_is_looked_at_again() {
    let right = random(5, 300);
    let wrong: Vec<f32> = right.iter().map(|x| x * 1.01).collect();
    let (ours, other) = (FEW[1], FEW[2]);
    let fit = |algorithm, found: Option<&[f32]>, right: &[f32]| {
        does(algorithm, &|_, _| found.map(tensor), &|_| tensor(right))
    };
    assert_eq!(fit(other, Some(&right), &right), Fit::Right);
    assert_eq!(fit(other, Some(&wrong), &right), Fit::Wrong);
    assert_eq!(fit(other, None, &right), Fit::Wrong);
    let unknown = [(0.0, Untold::Zeros), (f32::INFINITY, Untold::NotFinite)];
    for (value, why) in unknown {
        assert_eq!(
            fit(other, Some(&[value; 5]), &[value; 5]),
            Fit::Unknown(why)
        );
    }
    assert_eq!(fit(ours, Some(&wrong), &right), Fit::Right);
    assert_eq!(fit(ours, Some(&[0.0; 5]), &[0.0; 5]), Fit::Right);
    assert_eq!(fit(ours, None, &right), Fit::Wrong);
}

/// In the first steps from zeros, gradients are zero, and a wrong kernel makes zeros of them too: nothing is chosen then,
/// the ordinary units do the work, and the wrong kernel is found out in the first step that tells.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn kernels_are_not_chosen_by_zeros() {
    // A planted kernel that comes to twice what is right.
    let [planted, sound] = [PRODUCTS[0], PRODUCTS[1]];
    let step = |right: &[f32], kind: &str| {
        let work = Work {
            kind: kind.to_owned(),
            sizes: right.len().to_string(),
            candidates: PRODUCTS,
        };
        let found = select(&tensor(right), &work, &|algorithm, _| {
            let factor = match algorithm {
                algorithm if algorithm == planted => 2.0,
                Algorithm::Units => 1.0,
                algorithm if algorithm == sound => 1.0,
                _ => return None,
            };
            let data: Vec<f32> = right.iter().map(|x| factor * x).collect();
            Some(tensor(&data))
        });
        assert_eq!(values(of_dimensions::<1>(found)), right);
    };
    let chosen = |kind: &str| -> Vec<Algorithm> {
        let all = export().into_iter();
        all.filter_map(|(key, algorithm)| key.contains(kind).then_some(algorithm))
            .collect()
    };
    let before = deferred();
    step(&[0.0; 300], "from zeros");
    assert!(deferred() > before);
    // However often a loss overflows, it is waited for.
    for _ in 0..20 {
        let before = deferred();
        step(&[f32::INFINITY; 300], "from zeros");
        assert!(deferred() > before);
    }
    assert!(chosen("from zeros").is_empty());
    step(&random(7, 300), "from zeros");
    assert_eq!(
        chosen("from zeros"),
        [sound; 2],
        "for the kind and for the size"
    );
    // Another size of the same kind, zeros again: the kernel is not taken for right there.
    step(&[0.0; 200], "from zeros");
    assert_eq!(chosen("from zeros").len(), 2);
    step(&random(8, 200), "from zeros");
    assert_eq!(chosen("from zeros"), [sound; 3]);
}

/// Work that stays zero is not looked at for ever: the ordinary units do it.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn work_that_stays_zero_is_left_to_the_ordinary_units() {
    let asked = std::cell::Cell::new(0);
    let zeros = tensor(&[0.0; 100]);
    let step = || {
        let work = Work {
            kind: "always zero".to_owned(),
            sizes: "100".to_owned(),
            candidates: PRODUCTS,
        };
        asked.set(0);
        updated();
        select(&zeros, &work, &|algorithm, _| {
            assert_eq!(algorithm, Algorithm::Units);
            asked.set(asked.get() + 1);
            Some(zeros.clone())
        });
        asked.get()
    };
    // Once to look at, once to use.
    let asks: Vec<usize> = (0..12).map(|_| step()).collect();
    assert_eq!(asks, [2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1]);
    assert!(!export().keys().any(|key| key.contains("always zero")));
}

/// A step has many layers of one shape, all of which come to zeros at first: that counts once.
#[test]
fn patience_counts_steps_and_not_layers() {
    let mut waited = Waited::default();
    for update in 0..7 {
        (0..30).for_each(|_| waited.once_more(update));
        assert!(!waited.is_hopeless(), "after {update} updates");
    }
    waited.once_more(7);
    assert!(waited.is_hopeless());
    // A network that is not trained.
    let mut waited = Waited::default();
    (0..4095).for_each(|_| waited.once_more(3));
    assert!(!waited.is_hopeless());
    waited.once_more(3);
    assert!(waited.is_hopeless());
}

/// Work that was given up gets one of our kernels as soon as work of its kind has told that it is right.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn hopeless_work_gets_its_kernel_when_its_kind_is_known() {
    let ours = FEW[0];
    let use_of = |data: &[f32]| {
        let work = Work {
            kind: "late layers".to_owned(),
            sizes: data.len().to_string(),
            candidates: FEW,
        };
        select(&tensor(data), &work, &|algorithm, _| {
            (algorithm == ours || algorithm == Algorithm::Units).then(|| tensor(data))
        });
    };
    let chosen = || {
        let all = export().into_iter();
        all.filter(|(key, _)| key.contains("late layers")).count()
    };
    for _ in 0..9 {
        updated();
        use_of(&[0.0; 100]);
    }
    use_of(&random(9, 200));
    assert_eq!(chosen(), 2, "the kind and the size that told");
    use_of(&[0.0; 100]);
    assert_eq!(chosen(), 3);
}

/// What the CPU computes in does not decide for the GPUs.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn the_cpu_does_not_forbid_tf32() {
    allow_tf32(true);
    Precision::F32.choose(&Device::flex()).unwrap();
    assert!(tf32_is_allowed());
    Precision::F32.choose(&gpu()).unwrap();
    assert!(!tf32_is_allowed());
}

/// The measure that kernels are chosen by.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
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
