use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::config::{DataConfig, DataKind, Size};
use crate::fixtures::{config as config_of, load, png, write};

fn synthetic(count: usize) -> Arc<Dataset> {
    let config = DataConfig {
        kind: DataKind::Synthetic,
        count: Some(count),
        size: Some(Size {
            height: 2,
            width: 3,
        }),
        channels: Some(1),
        ..DataConfig::default()
    };
    Arc::new(load(&config).unwrap())
}

fn batches(set: &Arc<Dataset>, config: &LoaderConfig, count: usize) -> Vec<Batch> {
    let mut loader = Loader::new(set.clone(), config.clone()).unwrap();
    (0..count).map(|_| loader.next().unwrap()).collect()
}

#[test]
fn every_image_once_an_epoch_across_batch_borders() {
    for (n, batch) in [(10, 4), (7, 7), (5, 12), (1, 3), (97, 8)] {
        let set = synthetic(n);
        let config = LoaderConfig {
            batch,
            ..LoaderConfig::default()
        };
        let order: Vec<usize> = batches(&set, &config, (3 * n).div_ceil(batch))
            .into_iter()
            .flat_map(|batch| batch.indices)
            .collect();
        let epochs: Vec<&[usize]> = order.chunks_exact(n).take(3).collect();
        for epoch in &epochs {
            assert_eq!(
                epoch.iter().copied().collect::<BTreeSet<_>>(),
                (0..n).collect()
            );
        }
        if n > 20 {
            assert_ne!(epochs[0], epochs[1]);
            assert!(!epochs[0].is_sorted());
        }
    }
}

#[test]
fn batches_hold_what_they_say() {
    let set = Arc::new(load(&DataConfig::default()).unwrap());
    let config = LoaderConfig {
        batch: 5,
        seed: 3,
        ..LoaderConfig::default()
    };
    for (number, batch) in batches(&set, &config, 4).into_iter().enumerate() {
        assert_eq!(batch.shape, [5, 1, 8, 8]);
        assert_eq!(batch.items, 5 * number as u64..5 * number as u64 + 5);
        for (place, &index) in batch.indices.iter().enumerate() {
            let item = set.get(index, false).unwrap();
            assert_eq!(batch.pixels[place * 64..(place + 1) * 64], item.pixels);
            assert_eq!(Some(batch.labels.as_ref().unwrap()[place]), item.label);
        }
    }
}

#[test]
fn threads_and_prefetch_change_nothing() {
    let set = synthetic(23);
    let base = LoaderConfig {
        batch: 4,
        flip: true,
        threads: 0,
        ..LoaderConfig::default()
    };
    let want = batches(&set, &base, 20);
    for threads in [0, 1, 2, 3, 8] {
        for prefetch in [0, 1, 2, 5, 16] {
            let config = LoaderConfig {
                threads,
                prefetch,
                ..base.clone()
            };
            assert_eq!(batches(&set, &config, 20), want, "{threads} {prefetch}");
        }
    }
}

#[test]
fn a_loader_goes_on_where_another_stopped() {
    let set = synthetic(23);
    let config = LoaderConfig {
        batch: 4,
        flip: true,
        ..LoaderConfig::default()
    };
    let whole = batches(&set, &config, 15);
    let mut first = Loader::new(set.clone(), config.clone()).unwrap();
    for _ in 0..6 {
        first.next().unwrap();
    }
    assert_eq!((first.position(), first.epoch()), (24, 1));
    let rest = LoaderConfig {
        first_item: first.position(),
        ..config
    };
    assert_eq!(batches(&set, &rest, 9), whole[6..]);
}

#[test]
fn seeds_change_order_and_flips() {
    let set = synthetic(50);
    let of = |seed, flip| {
        let config = LoaderConfig {
            seed,
            flip,
            batch: 50,
            ..LoaderConfig::default()
        };
        batches(&set, &config, 1).remove(0)
    };
    assert_eq!(of(1, true), of(1, true));
    assert_ne!(of(1, false).indices, of(2, false).indices);
    assert_eq!(of(1, false).indices, of(1, true).indices);
}

#[test]
fn flips_are_fair_and_belong_to_the_image() {
    let set = synthetic(400);
    // which images of the first two epochs are mirrored, by epoch and image
    let mirrored = |batch: usize| -> BTreeSet<(u64, usize)> {
        let config = LoaderConfig {
            batch,
            flip: true,
            seed: 5,
            ..LoaderConfig::default()
        };
        batches(&set, &config, 800 / batch)
            .iter()
            .flat_map(|made| {
                let images = made.pixels.chunks_exact(6).zip(&made.indices);
                made.items
                    .clone()
                    .zip(images)
                    .filter_map(|(item, (pixels, &index))| {
                        let plain = set.get(index, false).unwrap().pixels;
                        (pixels != plain).then_some((item / 400, index))
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let coins = mirrored(100);
    assert!((330..470).contains(&coins.len()), "{}", coins.len());
    assert_eq!(coins, mirrored(16));
    let of_epoch = |epoch| -> BTreeSet<usize> {
        coins
            .iter()
            .filter(|coin| coin.0 == epoch)
            .map(|coin| coin.1)
            .collect()
    };
    assert_ne!(of_epoch(0), of_epoch(1));
}

/// A set read on demand in which one image is bad.
fn with_a_bad_one(good: usize) -> (tempfile::TempDir, Arc<Dataset>) {
    let dir = tempfile::tempdir().unwrap();
    for step in 0..good {
        write(
            dir.path(),
            &format!("{step:03}.png"),
            &png(2, 2, [step as u8, 0, 0]),
        );
    }
    write(dir.path(), "bad.png", b"nothing");
    let mut config = config_of(DataKind::Folder, dir.path());
    config.cache_bytes = 0;
    let set = Arc::new(load(&config).unwrap());
    (dir, set)
}

#[test]
fn an_error_comes_in_its_place_and_then_it_is_over() {
    let (_dir, set) = with_a_bad_one(40);
    let place = (0..41)
        .find(|&place| permute(9, 0, 41, place) == 40)
        .unwrap();
    for threads in [0, 1, 2, 4] {
        let config = LoaderConfig {
            seed: 9,
            batch: 2,
            threads,
            prefetch: 2 * threads,
            ..LoaderConfig::default()
        };
        let mut loader = Loader::new(set.clone(), config).unwrap();
        for _ in 0..place / 2 {
            loader.next().unwrap();
        }
        let error = loader.next().unwrap_err();
        assert!(error.to_string().contains("bad.png"), "{error}");
        for _ in 0..3 {
            let error = loader.next().unwrap_err();
            assert!(matches!(&error, DataError::Stopped { reason } if reason.contains("bad.png")));
        }
        assert_eq!(loader.position(), place / 2 * 2);
    }
}

#[test]
fn dropping_ends_the_threads() {
    let set = synthetic(100);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn({
        let set = set.clone();
        move || {
            for taken in 0..5 {
                let config = LoaderConfig {
                    threads: 4,
                    prefetch: 8,
                    batch: 3,
                    ..LoaderConfig::default()
                };
                let mut loader = Loader::new(set.clone(), config).unwrap();
                for _ in 0..taken {
                    loader.next().unwrap();
                }
            }
            drop(set);
            sender.send(()).unwrap();
        }
    });
    receiver
        .recv_timeout(Duration::from_secs(20))
        .expect("a loader hangs on drop");
    // no thread holds the set any more
    assert_eq!(Arc::strong_count(&set), 1);
}

#[test]
fn impossible_loaders_are_refused() {
    let set = synthetic(3);
    let refused = |batch, first_item| {
        let config = LoaderConfig {
            batch,
            first_item,
            ..LoaderConfig::default()
        };
        Loader::new(set.clone(), config).unwrap_err().to_string()
    };
    for batch in [0, 1 << 40, usize::MAX] {
        let message = refused(batch, 0);
        assert!(
            message.starts_with(&format!("train.batch: is {batch}")),
            "{message}"
        );
    }
    assert!(refused(1, u64::MAX).contains("no run reaches item"));
}
