use super::*;
use crate::config::{DataKind, Size};
use crate::fixtures::{load, load_error};

#[test]
fn the_digits_are_all_there() {
    let set = load(&DataConfig::default()).unwrap();
    assert_eq!(set.len(), 1797);
    assert_eq!((set.channels(), set.height(), set.width()), (1, 8, 8));
    assert_eq!(set.num_classes(), Some(10));
    assert_eq!(set.class_names().unwrap()[3], "3");
    // the first line of the file: 0,0,5,13,9,1,0,0 and class 0; a value v is v/8 - 1, exactly
    let first = set.get(0, false).unwrap();
    assert_eq!(
        first.pixels[..8],
        [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0].map(|ink: f32| ink / 8.0 - 1.0)
    );
    assert_eq!(first.label, Some(0));
    let mut counts = [0; 10];
    for &label in set.labels().unwrap() {
        counts[label] += 1;
    }
    // scikit-learn's documentation: about 180 a class
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    for index in 0..set.len() {
        let item = set.get(index, false).unwrap();
        assert!(item.pixels.iter().all(|pixel| (-1.0..=1.0).contains(pixel)));
    }
    assert_eq!(
        set.describe(),
        "digits: 1797 images of 1×8×8, 10 classes, in memory (0.5 MB)"
    );
}

#[test]
fn digits_in_another_form() {
    let config = DataConfig {
        size: Some(Size {
            height: 16,
            width: 12,
        }),
        channels: Some(3),
        ..DataConfig::default()
    };
    let set = load(&config).unwrap();
    assert_eq!((set.channels(), set.height(), set.width()), (3, 16, 12));
    let item = set.get(5, false).unwrap();
    let (red, rest) = item.pixels.split_at(16 * 12);
    assert_eq!(red, &rest[..16 * 12]);
}

#[test]
fn synthetic_images_are_standard_normal_and_functions_of_the_seed() {
    let config = DataConfig {
        kind: DataKind::Synthetic,
        count: Some(20),
        ..DataConfig::default()
    };
    let set = load(&config).unwrap();
    assert_eq!(
        (set.len(), set.channels(), set.height(), set.width()),
        (20, 3, 64, 64)
    );
    assert_eq!(set.num_classes(), None);
    let pixels: Vec<f64> = (0..20)
        .flat_map(|index| set.get(index, false).unwrap().pixels)
        .map(f64::from)
        .collect();
    let n = pixels.len() as f64;
    let mean = pixels.iter().sum::<f64>() / n;
    let variance = pixels.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    assert!(mean.abs() < 0.01, "{mean}");
    assert!((variance - 1.0).abs() < 0.02, "{variance}");
    assert!(pixels.iter().any(|x| x.abs() > 3.0), "clamped");
    let again = Dataset::load(&config, 0, &mut |_, _| {}).unwrap();
    assert_eq!(set.get(7, false).unwrap(), again.get(7, false).unwrap());
    assert_ne!(set.get(7, false).unwrap(), set.get(8, false).unwrap());
    let other = Dataset::load(&config, 1, &mut |_, _| {}).unwrap();
    assert_ne!(set.get(7, false).unwrap(), other.get(7, false).unwrap());
    let default = DataConfig {
        kind: DataKind::Synthetic,
        ..DataConfig::default()
    };
    assert_eq!(load(&default).unwrap().len(), 1000);
}

#[test]
fn flipping_twice_is_nothing() {
    for kind in [DataKind::Digits, DataKind::Synthetic] {
        let set = load(&DataConfig {
            kind,
            ..DataConfig::default()
        })
        .unwrap();
        let mut flipped = set.get(3, true).unwrap().pixels;
        let plain = set.get(3, false).unwrap().pixels;
        assert_ne!(flipped, plain);
        mirror_rows(&mut flipped, set.width());
        assert_eq!(flipped, plain);
    }
}

#[test]
fn the_cache_changes_nothing_but_the_place() {
    let cached = load(&DataConfig::default()).unwrap();
    let on_demand = load(&DataConfig {
        cache_bytes: 0,
        ..DataConfig::default()
    })
    .unwrap();
    assert!(on_demand.describe().contains("decoded on demand"));
    for index in [0, 1, 900, 1796] {
        for flip in [false, true] {
            assert_eq!(
                cached.get(index, flip).unwrap(),
                on_demand.get(index, flip).unwrap()
            );
        }
    }
}

#[test]
fn an_index_beyond_the_end_is_an_error() {
    let set = load(&DataConfig::default()).unwrap();
    for index in [1797, usize::MAX] {
        assert!(matches!(
            set.get(index, false),
            Err(DataError::Index { len: 1797, .. })
        ));
    }
}

#[test]
fn progress_ends_at_the_total() {
    for cache_bytes in [1 << 30, 0] {
        let config = DataConfig {
            cache_bytes,
            ..DataConfig::default()
        };
        let mut told = Vec::new();
        Dataset::load(&config, 0, &mut |done, total| told.push((done, total))).unwrap();
        assert_eq!(told.last(), Some(&(1797, 1797)));
        assert!(told.is_sorted());
    }
}

#[test]
fn a_configuration_is_validated_first() {
    let config = DataConfig {
        channels: Some(9),
        ..DataConfig::default()
    };
    assert!(matches!(
        load_error(&config),
        DataError::Config {
            key: "channels",
            ..
        }
    ));
}
