//! Runs on several devices against runs on one, by their checkpoints and logs.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_store::{RunDir, TensorFile};
use ddpm_train::{Config, Job, Start, Stop, TrainError, train};
use ddpm_unet::{ModelConfig, UnetSection};
use serde_json::Value;

/// One run, or a piece of one.
#[derive(Clone, Copy)]
struct Piece {
    devices: usize,
    accumulate: usize,
    until: u64,
}

fn config(piece: Piece) -> Config {
    let mut config = Config {
        model: ModelConfig::Unet(UnetSection {
            channels: 8,
            multipliers: vec![1, 2],
            blocks: 1,
            attention_at: Some(vec![]),
            groups: 4,
            dropout: 0.1,
            ..UnetSection::default()
        }),
        ..Config::default()
    };
    config.train.batch = 24;
    config.train.accumulate = piece.accumulate;
    config.train.steps = Some(piece.until);
    config.train.log_every = 1;
    config.train.sample_every = 0;
    config.train.checkpoint_every = 3;
    config.sample.count = 2;
    config.sample.steps = Some(2);
    config
}

/// Goes on with the run below `folder`, or begins it.
fn go(folder: &Path, piece: Piece) -> Result<PathBuf, TrainError> {
    let path = folder.to_owned();
    let validated = config(piece).validate().unwrap();
    let dataset = Dataset::load(&validated.config.data, 0, &mut |_, _| {}).unwrap();
    let (run, start) = match path.exists() {
        true => (RunDir::resume(&path).unwrap(), Start::Latest),
        false => (RunDir::create(&path).unwrap(), Start::Fresh),
    };
    // It is what makes a folder a run.
    run.write_config("").unwrap();
    let job = Job {
        validated,
        dataset: Arc::new(dataset),
        run,
        devices: vec![Device::flex(); piece.devices],
        stop: Stop::default(),
        start,
    };
    // In one of the kernels' threads, as the program does: from outside each kernel would have to wake one first.
    let outcome = rayon::scope(|_| train(job, &mut |_| {}));
    Ok(outcome?.checkpoint)
}

/// Names and numbers of tensors.
type Tensors = Vec<(String, Vec<f32>)>;

/// The last checkpoint of a run in pieces, each on its own number of devices, and the lines of its log.
fn run(pieces: &[Piece]) -> (Tensors, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut checkpoint = PathBuf::new();
    for &piece in pieces {
        checkpoint = go(&path, piece).unwrap();
    }
    let mut tensors = Vec::new();
    for file in [
        "unet/diffusion_pytorch_model.safetensors",
        "ema/diffusion_pytorch_model.safetensors",
        "optimiser.safetensors",
    ] {
        let found = TensorFile::read(&checkpoint.join(file)).unwrap().tensors;
        tensors.extend(
            found
                .into_iter()
                .map(|tensor| (format!("{file} {}", tensor.name), tensor.data)),
        );
    }
    let log = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let lines = log.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        // The one figure that is a clock's.
        line.as_object_mut().unwrap().remove("images_per_s");
        line
    });
    (tensors, lines.collect())
}

fn whole(devices: usize, accumulate: usize) -> [Piece; 1] {
    [Piece {
        devices,
        accumulate,
        until: 4,
    }]
}

/// ‖a - b‖ / ‖b‖ over all tensors whose name begins so.
fn distance(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)], kind: &str) -> f64 {
    let (mut apart, mut size) = (0.0, 0.0);
    assert_eq!(a.len(), b.len());
    for ((name, a), (other, b)) in a.iter().zip(b) {
        assert_eq!(name, other);
        if name.starts_with(kind) {
            for (a, b) in a.iter().zip(b) {
                apart += f64::from(a - b).powi(2);
                size += f64::from(*b).powi(2);
            }
        }
    }
    assert!(size > 0.0);
    (apart / size).sqrt()
}

#[test]
fn devices_are_parts_of_the_batch_bit_for_bit() {
    let one = run(&whole(1, 3));
    let many = run(&whole(3, 1));
    assert_eq!(one.1, many.1);
    assert!(one.0 == many.0);
}

/// The sums of a step are over the same numbers in another order, so what is summed, gradients and losses, agrees to
/// some roundings of 6e-8 each, and moments with them; weights have moved by little more than the learning rate, and
/// differ by less. Measured: 1.2e-7 for moments, 8e-9 for weights; the bounds leave room for other processors.
#[test]
fn devices_are_one_device_but_for_rounding() {
    let (one, log) = run(&whole(1, 1));
    for (devices, accumulate) in [(2, 1), (3, 2), (4, 1)] {
        let (many, many_log) = run(&whole(devices, accumulate));
        for (kind, bound) in [("unet", 1e-7), ("ema", 1e-7), ("optimiser", 2e-6)] {
            let distance = distance(&many, &one, kind);
            assert!(
                distance < bound,
                "{devices} x {accumulate} {kind}: {distance:e}"
            );
        }
        for (line, expected) in many_log.iter().zip(&log) {
            for key in ["loss", "grad_norm"] {
                let [found, expected] = [line, expected].map(|line| line[key].as_f64().unwrap());
                let error = (found / expected - 1.0).abs();
                assert!(error < 1e-5, "{devices} x {accumulate} {key}: {error:e}");
            }
            for key in ["step", "images_seen", "lr", "ema_decay", "skipped"] {
                assert_eq!(line[key], expected[key], "{key}");
            }
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_devices() {
    let pieces = |counts: [usize; 3], parts: [usize; 3]| {
        [0, 1, 2].map(|i| Piece {
            devices: counts[i],
            accumulate: parts[i],
            until: 2 * (i as u64 + 1),
        })
    };
    let one = run(&pieces([1, 1, 1], [2, 4, 1]));
    let many = run(&pieces([2, 4, 1], [1, 1, 1]));
    assert_eq!(one.1, many.1);
    assert!(one.0 == many.0);
}

#[test]
fn a_batch_that_cannot_be_dealt_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let piece = Piece {
        devices: 5,
        accumulate: 1,
        until: 1,
    };
    let error = go(&folder.path().join("run"), piece).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`train.batch` = 24: --devices names 5 devices, so it must be a multiple of 5"
    );
}
