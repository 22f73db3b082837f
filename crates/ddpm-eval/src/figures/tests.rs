//! Each figure sees what it should see: on images whose faults are known.

use std::ops::ControlFlow;

use super::*;
use crate::extractor::Extractor;
use crate::images::Images;
use crate::reference::Reference;

/// Real digits, all of the built-in set.
fn digits() -> (Images, Vec<usize>) {
    let config = ddpm_data::DataConfig::default();
    let set = ddpm_data::Dataset::load(&config, 0, &mut |_, _| {}).unwrap();
    let mut pixels = Vec::new();
    for index in 0..set.len() {
        pixels.extend(set.get(index, false).unwrap().pixels);
    }
    let [channels, height, width] = set.shape();
    let images = Images::from_pixels(&pixels, [set.len(), channels, height, width]).unwrap();
    (images, set.labels().unwrap().to_vec())
}

fn features(images: &Images, labels: Option<Vec<usize>>) -> Features {
    Features {
        labels,
        ..Extractor::Pixels.extract(images).unwrap()
    }
}

fn judged(drawn: &Features, real: &Features, held_out: Option<&Features>) -> Figures {
    let reference = Reference::of(real, 10_000, true).unwrap();
    let judge = Judge {
        reference: &reference,
        held_out,
        settings: Settings::default(),
    };
    judge.figures(drawn, &|| ControlFlow::Continue(())).unwrap()
}

/// Every second image, and the others.
fn halves() -> [Features; 2] {
    let (images, labels) = digits();
    [0, 1].map(|first| {
        let half: Vec<usize> = (first..images.count()).step_by(2).collect();
        let labels = half.iter().map(|&i| labels[i]).collect();
        features(&images.select(&half), Some(labels))
    })
}

/// The images of a set with each byte changed.
fn changed(change: impl Fn(&Images, usize, usize) -> u8) -> Features {
    let (images, labels) = digits();
    let half: Vec<usize> = (0..images.count()).step_by(2).collect();
    let half_images = images.select(&half);
    let size = 64;
    let bytes = (0..half_images.count())
        .flat_map(|i| (0..size).map(move |at| (i, at)))
        .map(|(i, at)| change(&half_images, i, at))
        .collect();
    let labels = half.iter().map(|&i| labels[i]).collect();
    features(
        &Images::new(bytes, half_images.shape()).unwrap(),
        Some(labels),
    )
}

#[test]
fn two_halves_of_a_real_set_lie_no_distance_apart() {
    let [a, b] = halves();
    let found = judged(&a, &b, None);
    let kernel = found.kernel_distance.unwrap();
    assert!(kernel.low < 0.0 && kernel.high > 0.0, "{kernel:?}");
    let frechet = found.frechet_distance;
    // The distance of two samples is too large; its interval says where more of them would lead.
    assert!(frechet.value > 0.1 && frechet.low == 0.0, "{frechet:?}");
    let (precision, recall) = (found.precision.unwrap().value, found.recall.unwrap().value);
    assert!(precision > 0.8 && recall > 0.8, "{precision} {recall}");
    let copies = found.copies.unwrap();
    assert!(
        (copies.nearest_ratio.value - 1.0).abs() < 0.05,
        "{copies:?}"
    );
    assert!(copies.copied_share.value < 0.03, "{copies:?}");
}

#[test]
fn noise_and_blur_move_the_distances() {
    let [a, b] = halves();
    let clean = judged(&a, &b, None);
    let noise = |i: usize, at: usize| ((i * 7919 + at * 104_729) % 97) as u8;
    let noisy = changed(|images, i, at| images.image(i)[at].saturating_add(noise(i, at)));
    let blurred = changed(|images, i, at| {
        let (row, column) = (at / 8, at % 8);
        let around = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let sum: u32 = around
            .iter()
            .map(|(dy, dx)| {
                u32::from(images.image(i)[(row + dy).min(7) * 8 + (column + dx).min(7)])
            })
            .sum();
        (sum / 4) as u8
    });
    for (what, spoilt) in [("noise", noisy), ("blur", blurred)] {
        let found = judged(&spoilt, &b, None);
        let kernels = [
            clean.kernel_distance.unwrap(),
            found.kernel_distance.unwrap(),
        ];
        assert!(kernels[1].low > kernels[0].high, "{what}: {kernels:?}");
        let frechets = [clean.frechet_distance, found.frechet_distance];
        assert!(frechets[1].low > frechets[0].high, "{what}: {frechets:?}");
        let precision = [clean.precision.unwrap(), found.precision.unwrap()];
        assert!(
            precision[1].high < precision[0].low,
            "{what}: {precision:?}"
        );
    }
}

#[test]
fn missing_classes_move_recall_coverage_and_their_own_lines() {
    let [a, b] = halves();
    let labels = a.labels.clone().unwrap();
    let some: Vec<usize> = (0..a.count()).filter(|&i| labels[i] < 5).collect();
    let (all, half) = (judged(&a, &b, None), judged(&a.select(&some), &b, None));
    let fell = |of: fn(&Figures) -> Option<Figure>| of(&half).unwrap().high < of(&all).unwrap().low;
    assert!(fell(|figures| figures.recall) && fell(|figures| figures.coverage));
    assert!(half.precision.unwrap().value > 0.8);
    assert_eq!(half.classes.len(), 10);
    for class in &half.classes {
        assert_eq!(class.generated == 0.0, class.class >= 5, "{class:?}");
        assert_eq!(
            class.kernel_distance.is_none(),
            class.class >= 5,
            "{class:?}"
        );
        assert!(class.real > 0.05, "{class:?}");
    }
}

#[test]
fn copies_are_seen_and_held_out_images_are_not_copies() {
    let [a, b] = halves();
    let copied = judged(&b, &b, Some(&a)).copies.unwrap();
    assert!(copied.held_out);
    assert!(
        copied.nearest_ratio.value < 1e-6 && copied.copied_share.value > 0.99,
        "{copied:?}"
    );
    assert_eq!(copied.nearest[0].distance, 0.0);
    let honest = judged(&a, &b, Some(&a)).copies.unwrap();
    assert!(
        (honest.nearest_ratio.value - 1.0).abs() < 1e-9,
        "{honest:?}"
    );
}

#[test]
fn kernel_distance_does_not_depend_on_the_number_of_images() {
    let [a, b] = halves();
    // Blurred by half a shade, so that there is a distance.
    let a = features(
        &Images::from_pixels(
            &a.pooled
                .values()
                .iter()
                .map(|x| x * 0.9)
                .collect::<Vec<_>>(),
            [a.count(), 1, 8, 8],
        )
        .unwrap(),
        None,
    );
    let figures = [100, 200, 400, 899].map(|n| {
        judged(
            &a.select(&(0..n.min(a.count())).collect::<Vec<_>>()),
            &b,
            None,
        )
        .kernel_distance
        .unwrap()
    });
    let last = figures[3];
    assert!(last.low > 0.0, "{last:?}");
    for one in figures {
        let error = one.standard_error.hypot(last.standard_error);
        assert!((one.value - last.value).abs() < 3.0 * error, "{figures:?}");
    }
    assert!(figures[0].standard_error > 2.0 * last.standard_error);
}

#[test]
fn figures_are_the_same_on_one_thread_and_on_two() {
    let [a, b] = halves();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| judged(&a, &b, None))
    };
    assert_eq!(on(1), on(2));
}

#[test]
fn statistics_come_back_and_alone_give_the_frechet_distance() {
    let [a, b] = halves();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("b.npz");
    let reference = Reference::of(&b, 10_000, false).unwrap();
    reference.save(&path).unwrap();
    assert!(Reference::is_one(&path));
    assert_eq!(Reference::load(&path).unwrap(), reference);
    let alone = Reference {
        features: None,
        ..reference.clone()
    };
    let judge = |reference| Judge {
        reference,
        held_out: None,
        settings: Settings::default(),
    };
    let tick = &|| ControlFlow::Continue(());
    let (whole, alone) = (
        judge(&reference).figures(&a, tick).unwrap(),
        judge(&alone).figures(&a, tick).unwrap(),
    );
    assert_eq!(whole.frechet_distance.value, alone.frechet_distance.value);
    assert!(alone.precision.is_none() && alone.kernel_distance.is_none());
}

#[test]
fn too_few_images_are_refused_and_few_are_warned_of() {
    let [a, b] = halves();
    let found = judged(&a.select(&(0..40).collect::<Vec<_>>()), &b, None);
    assert!(
        found.warnings[0].contains("40 generated images are no more than the 64 features"),
        "{:?}",
        found.warnings
    );
    let reference = Reference::of(&b, 10_000, true).unwrap();
    let judge = Judge {
        reference: &reference,
        held_out: None,
        settings: Settings::default(),
    };
    let refused = judge
        .figures(&a.select(&[0, 1, 2]), &|| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(
        refused.to_string().contains("needs at least 4 images"),
        "{refused}"
    );
    let stopped = judge.figures(&a, &|| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, EvalError::Stopped));
}
