//! What the network is told of the images of a step: classes and numbers, some of them dropped, pictures, and
//! augmentations.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use ddpm_diffusion::{Condition, ConditionConfig};
use ddpm_schedule::noise::{Stream, normal_fill, uniform_fill};
use ddpm_unet::Conditioning;

/// What is known of the images of one micro-batch.
pub(crate) struct Known<'a> {
    /// How the network takes classes.
    pub(crate) conditioning: Conditioning,
    pub(crate) config: &'a ConditionConfig,
    /// The class of each.
    pub(crate) labels: Option<&'a [usize]>,
    /// The numbers of each, as they are told; empty if there are none.
    pub(crate) numbers: &'a [Vec<f32>],
    /// What is told of the augmentation of each, one after the other; never dropped.
    pub(crate) augmented: Option<&'a [f32]>,
    /// `[batch, channels, height, width]`
    pub(crate) x0: &'a Tensor<4>,
    pub(crate) seed: u64,
    /// From 0.
    pub(crate) step: u64,
    /// Which rows of the step's whole batch these are.
    pub(crate) rows: Range<u64>,
}

/// What the network is told; a function of (seed, step, row) whichever rank asks.
pub(crate) fn condition(known: &Known<'_>) -> Condition {
    let device = known.x0.device();
    let dropped: Vec<bool> = known
        .rows
        .clone()
        .map(|row| is_dropped(known, row))
        .collect();
    let labels = match (known.conditioning, known.labels) {
        (Conditioning::Classes { null, .. }, Some(labels)) => {
            let told = labels.iter().zip(&dropped);
            let told = told.map(|(&label, &dropped)| match (null, dropped) {
                (Some(null), true) => null as i64,
                _ => label as i64,
            });
            let told: Vec<i64> = told.collect();
            Some(Tensor::<1, Int>::from_data(told.as_slice(), &device))
        }
        _ => None,
    };
    let (picture, noises) = picture(known);
    let augmented = known.augmented.unwrap_or_default();
    let of_augmentation = augmented.len() / dropped.len().max(1);
    let told = known.config.numbers() + of_augmentation;
    let vector = (told > 0).then(|| {
        let mut augmented = augmented.chunks(of_augmentation.max(1));
        let mut vector = Vec::new();
        for (i, &dropped) in dropped.iter().enumerate() {
            let numbers = known.numbers.get(i).filter(|_| !dropped);
            let noise = noises.get(i).copied().unwrap_or_default();
            vector.extend(known.config.vector(numbers.map(Vec::as_slice), noise));
            vector.extend(augmented.next().unwrap_or_default());
        }
        Tensor::from_data(TensorData::new(vector, [dropped.len(), told]), &device)
    });
    Condition {
        labels,
        vector,
        picture,
        x0: None,
    }
}

fn is_dropped(known: &Known<'_>, row: u64) -> bool {
    let mut u = [0.0];
    uniform_fill(
        known.seed,
        Stream::ConditionDropout,
        known.step,
        row,
        &mut u,
    );
    u[0] < known.config.dropout
}

/// The pictures, and how much noise each got, where they get any: √(1-a²)·picture + a·ε, a even from 0 to
/// `condition.noise` (Ho et al. 2021, section 4.2).
fn picture(known: &Known<'_>) -> (Option<Tensor<4>>, Vec<f32>) {
    let Some(picture) = known.config.picture(known.x0) else {
        return (None, Vec::new());
    };
    if known.config.noise == 0.0 {
        return (Some(picture), Vec::new());
    }
    let [batch, channels, height, width] = picture.dims();
    let mut noises = Vec::new();
    let mut added = Vec::new();
    for row in known.rows.clone() {
        let mut u = [0.0];
        uniform_fill(known.seed, Stream::PictureLevel, known.step, row, &mut u);
        noises.push((u[0] * known.config.noise) as f32);
        let mut noise = vec![0.0; channels * height * width];
        normal_fill(
            known.seed,
            Stream::PictureNoise,
            known.step,
            row,
            &mut noise,
        );
        added.extend(noise);
    }
    let device = picture.device();
    let column = |values: Vec<f32>| {
        Tensor::<4>::from_data(TensorData::new(values, [batch, 1, 1, 1]), &device)
    };
    let kept = noises.iter().map(|a| (1.0 - a * a).sqrt()).collect();
    let added = TensorData::new(added, picture.dims());
    let added = Tensor::<4>::from_data(added, &device);
    let noised = picture * column(kept) + added * column(noises.clone());
    (Some(noised), noises)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn known<'a>(config: &'a ConditionConfig, x0: &'a Tensor<4>, labels: &'a [usize]) -> Known<'a> {
        Known {
            conditioning: Conditioning::Classes {
                count: 3,
                null: Some(3),
            },
            config,
            labels: Some(labels),
            numbers: &[],
            augmented: None,
            x0,
            seed: 4,
            step: 2,
            rows: 0..labels.len() as u64,
        }
    }

    fn ints(tensor: Tensor<1, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn classes_are_dropped_by_row_as_often_as_asked() {
        let labels: Vec<usize> = (0..1000).map(|i| i % 3).collect();
        let x0 = Tensor::zeros([1000, 1, 1, 1], &Device::flex());
        let config = ConditionConfig {
            dropout: 0.3,
            ..ConditionConfig::default()
        };
        let told = ints(condition(&known(&config, &x0, &labels)).labels.unwrap());
        let dropped = told.iter().filter(|&&label| label == 3).count();
        assert!((250..350).contains(&dropped), "{dropped}");
        let kept = told.iter().zip(&labels).filter(|(told, _)| **told != 3);
        assert!(kept.clone().count() > 600);
        assert!(kept.into_iter().all(|(&told, &label)| told == label as i64));
        // Another rank's rows say the same of the same images.
        let part = Known {
            rows: 500..1000,
            labels: Some(&labels[500..]),
            ..known(&config, &x0, &labels)
        };
        assert_eq!(ints(condition(&part).labels.unwrap()), told[500..]);
    }

    #[test]
    fn without_dropout_every_class_is_told() {
        let x0 = Tensor::zeros([3, 1, 1, 1], &Device::flex());
        let config = ConditionConfig {
            dropout: 0.0,
            ..ConditionConfig::default()
        };
        let told = condition(&known(&config, &x0, &[2, 0, 1]));
        assert_eq!(ints(told.labels.unwrap()), [2, 0, 1]);
        assert!(told.vector.is_none() && told.picture.is_none());
    }

    #[test]
    fn numbers_are_told_with_a_one_and_dropped_with_zeros() {
        let numbers: Vec<Vec<f32>> = (0..100)
            .map(|i| vec![2.0 * i as f32 + 1.0, 2.0 * i as f32 + 2.0])
            .collect();
        let x0 = Tensor::zeros([100, 1, 1, 1], &Device::flex());
        let config = ConditionConfig {
            dropout: 0.5,
            columns: vec!["a".to_owned(), "b".to_owned()],
            ..ConditionConfig::default()
        };
        let labels = vec![0; 100];
        let known = Known {
            conditioning: Conditioning::None,
            numbers: &numbers,
            ..known(&config, &x0, &labels)
        };
        let told = condition(&known);
        assert!(told.labels.is_none());
        let vector = told.vector.unwrap();
        assert_eq!(vector.dims(), [100, 3]);
        let vector: Vec<f32> = vector.into_data().try_to_vec().unwrap();
        let mut dropped = 0;
        for (i, row) in vector.chunks(3).enumerate() {
            let first = 2.0 * i as f32 + 1.0;
            match row {
                [0.0, 0.0, 0.0] => dropped += 1,
                _ => assert_eq!(row, [first, first + 1.0, 1.0]),
            }
        }
        assert!((30..70).contains(&dropped), "{dropped}");
    }

    #[test]
    fn augmentations_are_told_last_and_are_not_dropped() {
        let x0 = Tensor::zeros([50, 1, 1, 1], &Device::flex());
        let config = ConditionConfig {
            dropout: 0.5,
            columns: vec!["a".to_owned()],
            ..ConditionConfig::default()
        };
        let (labels, numbers) = (vec![0; 50], vec![vec![7.0]; 50]);
        let augmented: Vec<f32> = (0..450).map(|i| i as f32).collect();
        let known = Known {
            numbers: &numbers,
            augmented: Some(&augmented),
            ..known(&config, &x0, &labels)
        };
        let vector = condition(&known).vector.unwrap();
        assert_eq!(vector.dims(), [50, 11]);
        let vector: Vec<f32> = vector.into_data().try_to_vec().unwrap();
        for (row, augmented) in vector.chunks(11).zip(augmented.chunks(9)) {
            assert!(row[..2] == [0.0, 0.0] || row[..2] == [7.0, 1.0]);
            assert_eq!(row[2..], *augmented);
        }
        let alone = Known {
            config: &ConditionConfig::default(),
            numbers: &[],
            ..known
        };
        let vector = condition(&alone).vector.unwrap();
        let vector: Vec<f32> = vector.into_data().try_to_vec().unwrap();
        assert_eq!(vector, augmented);
    }

    #[test]
    fn a_noised_picture_keeps_its_variance_and_says_its_noise() {
        let device = Device::flex();
        let x0 = ddpm_diffusion::randn_images(1, Stream::TrainNoise, 0, 0..4, [3, 16, 16], &device);
        let config = ConditionConfig {
            kind: Some(ddpm_diffusion::PictureKind::Gray),
            noise: 0.8,
            ..ConditionConfig::default()
        };
        let known = Known {
            conditioning: Conditioning::None,
            ..known(&config, &x0, &[0, 0, 0, 0])
        };
        let told = condition(&known);
        let noises: Vec<f32> = told.vector.unwrap().into_data().try_to_vec().unwrap();
        assert!(noises.iter().all(|a| (0.0..0.8).contains(a)) && noises[0] != noises[1]);
        let plain = config.picture(&x0).unwrap();
        let difference = told.picture.unwrap() - plain;
        assert_eq!(difference.dims(), [4, 1, 16, 16]);
        let difference: Vec<f32> = difference.into_data().try_to_vec().unwrap();
        for (image, a) in difference.chunks(256).zip(noises) {
            let found = image.iter().map(|x| x * x).sum::<f32>() / 256.0;
            // (√(1-a²) - 1)²·var + a², with a grey image's variance of 0.299² + 0.587² + 0.114².
            let expected = ((1.0 - a * a).sqrt() - 1.0).powi(2) * 0.447 + a * a;
            assert!(
                (found - expected).abs() < 0.35 * expected + 1e-4,
                "{found} {expected}"
            );
        }
    }
}
