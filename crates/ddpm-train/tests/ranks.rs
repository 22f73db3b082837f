//! Runs of several ranks against runs of one, by their checkpoints and logs.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_store::{RunDir, TensorFile};
use ddpm_train::{Config, Job, Start, Stop, TrainError, Workers, train};
use ddpm_unet::{ModelConfig, UnetSection};
use serde_json::Value;

/// One run, or a piece of one.
#[derive(Clone, Copy)]
struct Piece {
    ranks: usize,
    accumulate: Option<usize>,
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
        run: Some(run),
        workers: Workers::Devices(vec![Device::flex(); piece.ranks]),
        stop: Stop::default(),
        start,
        evaluator: None,
    };
    // In one of the kernels' threads, as the program does: from outside each kernel would have to wake one first.
    let outcome = rayon::scope(|_| train(job, &mut |_| {}));
    Ok(outcome?.checkpoint.unwrap())
}

/// Names and numbers of tensors.
type Tensors = Vec<(String, Vec<f32>)>;

/// The last checkpoint of a run in pieces, each on its own number of ranks, and the lines of its log.
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

fn whole(ranks: usize, accumulate: usize) -> [Piece; 1] {
    [Piece {
        ranks,
        accumulate: Some(accumulate),
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
fn any_number_of_ranks_gives_byte_equal_checkpoints() {
    let one = run(&whole(1, 6));
    for ranks in [2, 3, 4, 6] {
        let many = run(&whole(ranks, 6));
        assert_eq!(one.1, many.1, "{ranks} ranks");
        assert!(one.0 == many.0, "{ranks} ranks");
    }
    let unsaid = Piece {
        accumulate: None,
        ..whole(6, 1)[0]
    };
    assert!(
        run(&[unsaid]).0 == one.0,
        "without it, a micro-batch a rank"
    );
}

/// The sums of a step are over the same numbers in another order, so what is summed, gradients and losses, agrees to
/// some roundings of 6e-8 each, and moments with them; weights have moved by little more than the learning rate, and
/// differ by less. Measured: 1.2e-7 for moments, 8e-9 for weights; the bounds leave room for other CPUs.
#[test]
fn micro_batches_are_the_whole_batch_but_for_rounding() {
    let (one, log) = run(&whole(1, 1));
    for (ranks, accumulate) in [(2, 2), (3, 6), (4, 4)] {
        let (many, many_log) = run(&whole(ranks, accumulate));
        for (kind, bound) in [("unet", 1e-7), ("ema", 1e-7), ("optimiser", 2e-6)] {
            let distance = distance(&many, &one, kind);
            assert!(
                distance < bound,
                "{ranks} x {accumulate} {kind}: {distance:e}"
            );
        }
        for (line, expected) in many_log.iter().zip(&log) {
            for key in ["loss", "grad_norm"] {
                let [found, expected] = [line, expected].map(|line| line[key].as_f64().unwrap());
                let error = (found / expected - 1.0).abs();
                assert!(error < 1e-5, "{ranks} x {accumulate} {key}: {error:e}");
            }
            for key in ["step", "images_seen", "lr", "ema_decay", "skipped"] {
                assert_eq!(line[key], expected[key], "{key}");
            }
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks_to_the_same_bytes() {
    let pieces = |ranks: [usize; 3]| {
        [0, 1, 2].map(|i| Piece {
            ranks: ranks[i],
            accumulate: Some(4),
            until: 2 * (i as u64 + 1),
        })
    };
    let one = run(&pieces([1, 1, 1]));
    let many = run(&pieces([2, 4, 3]));
    assert_eq!(one.1, many.1);
    assert!(one.0 == many.0);
}

#[test]
fn a_batch_that_cannot_be_shared_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |ranks, accumulate| {
        let piece = Piece {
            ranks,
            accumulate,
            until: 1,
        };
        go(&folder.path().join("run"), piece)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(5, None),
        "`train.batch` = 24: the 5 ranks of --devices or mpirun share it, so it must be a multiple of 5"
    );
    assert_eq!(
        refused(4, Some(2)),
        "`train.accumulate` = 2: the 4 ranks of --devices or mpirun share a batch by its micro-batches, so it must be at \
         least 4; add --set train.accumulate=4"
    );
}
