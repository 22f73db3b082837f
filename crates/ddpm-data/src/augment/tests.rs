use std::sync::Arc;

use super::*;
use crate::config::{DataConfig, DataKind, Size};
use crate::fixtures::load;
use crate::{Batch, Dataset, Loader, LoaderConfig};

fn digits() -> Arc<Dataset> {
    Arc::new(load(&DataConfig::default()).unwrap())
}

fn everything() -> AugmentConfig {
    AugmentConfig {
        vertical_flip: true,
        rotate90: true,
        crop: Some(0.5),
        jitter: Some(JitterConfig {
            brightness: 0.1,
            contrast: 0.2,
            ..JitterConfig::default()
        }),
        edm: Some(0.3),
    }
}

fn batches(set: &Arc<Dataset>, config: &LoaderConfig, count: usize) -> Vec<Batch> {
    let mut loader = Loader::new(set.clone(), config.clone()).unwrap();
    (0..count).map(|_| loader.next().unwrap()).collect()
}

/// Every image of the first 48 items, with what is told of it.
fn items(set: &Arc<Dataset>, config: &LoaderConfig) -> Vec<(usize, Vec<f32>, Vec<f32>)> {
    let made = batches(set, config, 48 / config.batch);
    let images = made.iter().flat_map(|batch| {
        let told = batch.augmented.as_ref().unwrap().chunks_exact(9);
        let pixels = batch.pixels.chunks_exact(set.pixels_per_image());
        let images = batch.indices.iter().zip(pixels.zip(told));
        images.map(|(&index, (pixels, told))| (index, pixels.to_vec(), told.to_vec()))
    });
    images.collect()
}

#[test]
fn augmented_images_do_not_depend_on_batches_and_threads() {
    let set = digits();
    let base = LoaderConfig {
        seed: 3,
        batch: 16,
        threads: 0,
        flip: true,
        augment: everything(),
        ..LoaderConfig::default()
    };
    let want = items(&set, &base);
    for (batch, threads) in [(16, 3), (4, 0), (24, 1), (48, 2)] {
        let config = LoaderConfig {
            batch,
            threads,
            prefetch: threads,
            ..base.clone()
        };
        assert_eq!(items(&set, &config), want, "{batch} {threads}");
    }
    // The same by the way that shows single images.
    for (index, pixels, _) in &want[..8] {
        let shown = set.get_augmented(*index, true, &everything(), (3, 0));
        assert_eq!(&shown.unwrap().pixels, pixels);
    }
}

#[test]
fn augmented_rows_are_those_of_the_whole_batch() {
    let set = digits();
    let base = LoaderConfig {
        batch: 12,
        augment: everything(),
        ..LoaderConfig::default()
    };
    let whole = batches(&set, &base, 2);
    for rows in [0..3, 3..12] {
        let part = LoaderConfig {
            rows: Some(rows.clone()),
            ..base.clone()
        };
        for (part, whole) in batches(&set, &part, 2).iter().zip(&whole) {
            assert_eq!(part.pixels, whole.pixels[64 * rows.start..64 * rows.end]);
            let told = &whole.augmented.as_ref().unwrap()[9 * rows.start..9 * rows.end];
            assert_eq!(part.augmented.as_deref(), Some(told));
        }
    }
}

#[test]
fn an_augmentation_of_nothing_changes_no_bit() {
    let set = digits();
    let plain = LoaderConfig {
        flip: true,
        ..LoaderConfig::default()
    };
    let want = batches(&set, &plain, 3);
    let nothing = AugmentConfig {
        crop: Some(1.0),
        jitter: Some(JitterConfig::default()),
        ..AugmentConfig::default()
    };
    for augment in [AugmentConfig::default(), nothing] {
        let config = LoaderConfig {
            augment,
            ..plain.clone()
        };
        let made = batches(&set, &config, 3);
        assert_eq!(made, want);
        assert!(made.iter().all(|batch| batch.augmented.is_none()));
    }
}

#[test]
fn augmented_images_differ_by_epoch_and_seed() {
    let set = digits();
    let of = |at| {
        set.get_augmented(5, true, &everything(), at)
            .unwrap()
            .pixels
    };
    assert_eq!(of((1, 0)), of((1, 0)));
    assert_ne!(of((1, 0)), of((1, 1)));
    assert_ne!(of((1, 0)), of((2, 0)));
}

/// Of an image all of whose pixels differ, by which place its first pixel comes from.
fn corners(augment: AugmentConfig) -> [usize; 4] {
    let mut counts = [0; 4];
    for image in 0..4000 {
        let mut pixels = [0.0, 1.0, 2.0, 3.0];
        let at = Address {
            seed: 7,
            epoch: 1,
            image,
        };
        augment.apply(&mut pixels, [1, 2, 2], at, &mut Vec::new());
        counts[pixels[0] as usize] += 1;
    }
    counts
}

#[test]
fn augment_flips_and_turns_are_fair() {
    let [stays, right, below, across] = corners(AugmentConfig {
        vertical_flip: true,
        ..AugmentConfig::default()
    });
    assert!(right == 0 && across == 0 && (1880..2120).contains(&stays));
    assert_eq!(stays + below, 4000);
    let turned = corners(AugmentConfig {
        rotate90: true,
        ..AugmentConfig::default()
    });
    let even = turned.iter().all(|count| (900..1100).contains(count));
    assert!(even, "{turned:?}");
}

#[test]
fn augment_keys_that_the_images_refuse_stop_the_loader() {
    let config = DataConfig {
        kind: DataKind::Synthetic,
        size: Some(Size {
            height: 4,
            width: 6,
        }),
        ..DataConfig::default()
    };
    let set = Arc::new(load(&config).unwrap());
    let refused = |augment| {
        let config = LoaderConfig {
            augment,
            ..LoaderConfig::default()
        };
        Loader::new(set.clone(), config).unwrap_err().to_string()
    };
    let message = refused(everything());
    assert!(message.starts_with("augment.rotate90: "), "{message}");
    let message = refused(AugmentConfig {
        edm: Some(f64::NAN),
        ..AugmentConfig::default()
    });
    assert!(message.starts_with("augment.edm: is NaN"), "{message}");
}
