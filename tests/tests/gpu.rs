//! The program on a GPU: the CPU posing as one (Mesa's lavapipe), through wgpu.

#![cfg(feature = "wgpu")]
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use ddpm_tests::{Ended, Sandbox, tiny};
use serde_json::Value;

const CARD: &str = "wgpu:cpu";

/// A tiny run there.
fn train(place: &Sandbox, run: &str, more: &[&str]) -> Ended {
    let on_gpu = |arg: String| if arg == "cpu" { CARD.to_owned() } else { arg };
    let mut args: Vec<String> = tiny(run).into_iter().map(on_gpu).collect();
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

/// The GPU leaves a bad update out by itself, while the steps after it are under way: they are done again, and the
/// run is that of the CPU, which waits for every step.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_bad_batch_is_left_out_there_too() {
    let place = Sandbox::new();
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
    let (found, left_out_there) = run("GPU", CARD);
    assert_eq!(left_out.lines().count(), 1);
    assert_eq!(left_out_there, left_out);
    close(&found, &expected, 1e-4);
}

/// The same seed is the same noise on every device: the losses differ by rounding, which f32 keeps small over a few
/// steps. What was trained there can be gone on with on the CPU, and drawn from.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_run_is_that_of_the_cpu() {
    let place = Sandbox::new();
    place.train_tiny("cpu", &[]).done();
    train(&place, "GPU", &[]).done();
    let [cpu, gpu] = ["cpu", "GPU"].map(|run| losses(&place.path(run)));
    close(&gpu, &cpu, 1e-4);
    let draw = |device: &str, grid: &str| {
        let args = [
            "sample", "--model", "GPU", "--n", "4", "--steps", "3", "--device", device,
        ];
        place.ddpm(args.into_iter().chain(["--grid", grid])).done();
    };
    draw(CARD, "GPU.png");
    draw("cpu", "cpu.png");
    let args = [
        "train",
        "--resume",
        "--run",
        "GPU",
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
    let place = Sandbox::new();
    place.train_tiny("cpu", &[]).done();
    train(&place, "half", &["--set", "train.precision=f16"]).done();
    let [cpu, half] = ["cpu", "half"].map(|run| losses(&place.path(run)));
    close(&half, &cpu, 2e-2);
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn what_a_device_lacks_is_said() {
    let place = Sandbox::new();
    for (device, precision, words) in [
        ("cpu", "tf32", "the CPU's kernels compute in f32 and bf16"),
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
