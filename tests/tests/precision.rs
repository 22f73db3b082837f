//! Training and sampling in bf16 on the CPU.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use ddpm_tests::{Ended, Sandbox, tiny};
use serde_json::Value;

const BF16: [&str; 2] = ["--set", "train.precision=bf16"];

/// The losses of the metric log.
fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// Activations have 8 bits of mantissa, weights and sums 24.
#[test]
fn bf16_trains_as_f32_does() {
    let place = Sandbox::new();
    place.train_tiny("f32", &[]).done();
    place.train_tiny("bf16", &BF16).done();
    let [expected, found] = ["f32", "bf16"].map(|run| losses(&place.path(run)));
    assert!(!expected.is_empty() && expected.len() == found.len());
    assert_ne!(expected, found);
    for (expected, found) in expected.iter().zip(&found) {
        assert!(
            (found / expected - 1.0).abs() < 2e-2,
            "{found} for {expected}"
        );
    }
}

#[test]
fn bf16_is_the_same_on_any_number_of_threads() {
    let place = Sandbox::new();
    for (run, threads) in [("one", "1"), ("two", "2"), ("three", "3")] {
        let args = tiny(run).into_iter().chain(BF16.map(str::to_owned));
        let mut command = place.command(args.collect::<Vec<_>>());
        Ended::from(command.env("RAYON_NUM_THREADS", threads).output().unwrap()).done();
    }
    let weights = |run: &str| {
        let checkpoints = std::fs::read_dir(place.path(run).join("checkpoints")).unwrap();
        let newest = checkpoints
            .map(|entry| entry.unwrap().path())
            .max()
            .unwrap();
        std::fs::read(newest.join("unet/diffusion_pytorch_model.safetensors")).unwrap()
    };
    let expected = weights("two");
    for run in ["one", "three"] {
        assert!(weights(run) == expected, "{run}");
    }
}

#[test]
fn images_of_bf16_are_those_of_f32_and_the_same_in_any_batch() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    let draw = |out: &str, more: &[&str]| -> Vec<Vec<u8>> {
        let args = [
            "sample", "--model", "run", "-n", "5", "--steps", "3", "--device", "cpu", "--out", out,
        ];
        place.ddpm(args.iter().chain(more)).done();
        (0..5)
            .map(|i| {
                let file = place.path(out).join(format!("{i:05}.png"));
                image::open(file).unwrap().into_rgb8().into_raw()
            })
            .collect()
    };
    let wide = draw("f32", &[]);
    let narrow = draw("bf16", &["--precision", "bf16"]);
    let alone = draw("alone", &["--precision", "bf16", "--batch", "1"]);
    assert_eq!(narrow, alone);
    let apart = wide.iter().flatten().zip(narrow.iter().flatten());
    // bf16 moves an output by about 1% of its size, 2.5 of 255; the largest of some hundred pixels by five times that.
    let most = apart.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(most <= 12, "{most} of 255");
}
