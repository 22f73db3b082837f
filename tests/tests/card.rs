//! The program on a graphics card: the processor posing as one (Mesa's lavapipe), through wgpu.

#![cfg(feature = "wgpu")]
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use ddpm_tests::{Ended, Workplace, tiny};
use serde_json::Value;

const CARD: &str = "wgpu:cpu";

/// A tiny run there.
fn train(place: &Workplace, run: &str, more: &[&str]) -> Ended {
    let on_card = |arg: String| if arg == "cpu" { CARD.to_owned() } else { arg };
    let mut args: Vec<String> = tiny(run).into_iter().map(on_card).collect();
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    place.ddpm(args)
}

/// The losses of the metric log.
fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap()).collect()
}

fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert!(!expected.is_empty() && got.len() == expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (got / expected - 1.0).abs() < tolerance,
            "{got} for {expected}"
        );
    }
}

/// The card leaves a bad update out by itself, while the steps after it are under way: they are done again, and the
/// run is that of the processor, which waits for every step.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_bad_batch_is_left_out_there_too() {
    let place = Workplace::new();
    let run = |name: &str, device: &str| {
        let args = tiny(name).into_iter();
        let args = args.map(|arg| if arg == "cpu" { device.to_owned() } else { arg });
        let mut command = place.faulty(args.collect::<Vec<_>>());
        let ended = Ended::from(command.env("DDPM_POISON", "batch:nan:3").output().unwrap());
        ended.done();
        let folder = place.path(name);
        let skips = std::fs::read_to_string(folder.join("skips.jsonl")).unwrap();
        (losses(&folder), skips)
    };
    let (expected, left_out) = run("cpu", "cpu");
    let (found, left_out_there) = run("card", CARD);
    assert_eq!(left_out.lines().count(), 1);
    assert_eq!(left_out_there, left_out);
    close(&found, &expected, 1e-4);
}

/// The same seed is the same noise on every device: the losses differ by rounding, which f32 keeps small over a few
/// steps. What was trained there can be gone on with on the processor, and drawn from.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_run_is_that_of_the_processor() {
    let place = Workplace::new();
    place.train_tiny("cpu", &[]).done();
    train(&place, "card", &[]).done();
    let [cpu, card] = ["cpu", "card"].map(|run| losses(&place.path(run)));
    close(&card, &cpu, 1e-4);
    let draw = |device: &str, grid: &str| {
        let args = [
            "sample", "--model", "card", "--n", "4", "--steps", "3", "--device", device,
        ];
        place.ddpm(args.into_iter().chain(["--grid", grid])).done();
    };
    draw(CARD, "card.png");
    draw("cpu", "cpu.png");
    let args = [
        "train",
        "--resume",
        "--run",
        "card",
        "--device",
        "cpu",
        "--set",
        "train.steps=7",
    ];
    place.ddpm(args).done();
}

/// Half precision learns too: its losses are those of f32 to about 10 bits.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn half_precision_trains() {
    let place = Workplace::new();
    place.train_tiny("cpu", &[]).done();
    train(&place, "half", &["--set", "train.precision=f16"]).done();
    let [cpu, half] = ["cpu", "half"].map(|run| losses(&place.path(run)));
    close(&half, &cpu, 2e-2);
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn what_a_device_lacks_is_said() {
    let place = Workplace::new();
    for (device, precision, words) in [
        ("cpu", "bf16", "the processor's kernels compute in f32 only"),
        (CARD, "tf32", "has no TF32 matrix units"),
    ] {
        let set = format!("train.precision={precision}");
        let args = [
            "train", "--run", "lacking", "--device", device, "--set", &set,
        ];
        let ended = place.ddpm(args);
        ended.failed(6, &[words]);
        assert!(!place.path("lacking").exists());
    }
}
