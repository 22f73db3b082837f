//! `--devices`: one run on several devices, here on shares of the CPU.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use ddpm_tests::{Ended, Sandbox, tiny};
use serde_json::Value;

/// A tiny run on these devices.
fn train(place: &Sandbox, run: &str, devices: &str, more: &[&str]) -> Ended {
    place.ddpm(arguments(run, devices, more))
}

fn arguments(run: &str, devices: &str, more: &[&str]) -> Vec<String> {
    let one = ["--device", "cpu"];
    let args = tiny(run)
        .into_iter()
        .filter(|arg| !one.contains(&arg.as_str()));
    let more = ["--devices", devices]
        .into_iter()
        .chain(more.iter().copied());
    args.chain(more.map(String::from)).collect()
}

/// The bytes of everything in a checkpoint that is a tensor.
fn tensors(run: &Path, step: u64) -> Vec<Vec<u8>> {
    let checkpoint = run.join(format!("checkpoints/step-{step}"));
    [
        "unet/diffusion_pytorch_model.safetensors",
        "ema/diffusion_pytorch_model.safetensors",
        "optimiser.safetensors",
    ]
    .map(|file| std::fs::read(checkpoint.join(file)).unwrap())
    .to_vec()
}

/// The metric log without what a clock says.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("images_per_s");
        line
    });
    lines.collect()
}

/// Two devices compute what one does that takes its batch in two parts, bit for bit.
#[test]
fn two_devices_do_what_one_does_in_two_parts() {
    let place = Sandbox::new();
    let parts = ["--set", "train.accumulate=2"];
    place.train_tiny("one", &parts).done();
    train(&place, "two", "cpu:2", &[]).done();
    train(&place, "again", "cpu:2", &[]).done();
    let [one, two, again] = ["one", "two", "again"].map(|run| place.path(run));
    assert_eq!(metrics(&one), metrics(&two));
    for step in [4, 6] {
        assert_eq!(tensors(&one, step), tensors(&two, step));
    }
    assert_eq!(tensors(&two, 6), tensors(&again, 6));
    let run: Value = serde_json::from_slice(&std::fs::read(two.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["device"], "cpu:2");
}

#[test]
fn a_run_goes_on_with_other_devices() {
    let place = Sandbox::new();
    let constant = ["--set", "optim.decay=constant"];
    let parts = [constant[0], constant[1], "--set", "train.accumulate=2"];
    place.train_tiny("one", &parts).done();
    let short = [constant[0], constant[1], "--set", "train.steps=4"];
    train(&place, "two", "cpu:2", &short).done();
    let rest = ["train.steps=6", "train.accumulate=2"];
    let mut args = vec!["train", "--resume", "--run", "two", "--devices", "cpu:1"];
    args.extend(rest.iter().flat_map(|set| ["--set", *set]));
    place.ddpm(args).done();
    let [one, two] = ["one", "two"].map(|run| place.path(run));
    assert_eq!(metrics(&one), metrics(&two));
    assert_eq!(tensors(&one, 6), tensors(&two, 6));
}

/// A batch and a parameter that go bad once: the update is skipped on every rank, and all roll back together. With
/// one thread for the kernels, which the devices must not wait for each other on.
#[test]
fn all_devices_skip_and_go_back_together() {
    let place = Sandbox::new();
    let faulty = |run: &str, devices: &str, more: &[&str], poison: &str| {
        let mut command = place.faulty(arguments(run, devices, more));
        command.env("RAYON_NUM_THREADS", "1");
        Ended::from(command.env("DDPM_POISON", poison).output().unwrap()).done()
    };
    let patience = ["--set", "guard.max_consecutive_skips=1"];
    let parts = [patience[0], patience[1], "--set", "train.accumulate=2"];
    for (kind, poison, words) in [
        ("batch", "batch:nan:3", "skipped"),
        ("parameter", "parameter:nan:4", "back to the checkpoint"),
    ] {
        let [one, two] = ["one", "two"].map(|run| format!("{run}-{kind}"));
        faulty(&one, "cpu", &parts, poison);
        let ended = faulty(&two, "cpu:2", &patience, poison);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        let [one, two] = [one, two].map(|run| place.path(run));
        assert_eq!(tensors(&one, 6), tensors(&two, 6), "{kind}");
        assert_eq!(metrics(&one), metrics(&two), "{kind}");
    }
}

#[test]
fn one_device_is_no_other_run_for_being_listed() {
    let place = Sandbox::new();
    place.train_tiny("plain", &[]).done();
    train(&place, "listed", "cpu:1", &[]).done();
    let [plain, listed] = ["plain", "listed"].map(|run| place.path(run));
    assert_eq!(tensors(&plain, 6), tensors(&listed, 6));
    assert_eq!(metrics(&plain), metrics(&listed));
}

#[test]
fn bad_lists_are_usage_errors() {
    let place = Sandbox::new();
    for (list, word) in [
        ("cpu:0", "no number of shares"),
        ("cpu,tpu", "`tpu` is no device"),
        ("auto", "`auto`"),
        ("cuda:0,cuda:0", "named twice"),
        ("cpu,cuda:0", "different kinds"),
        ("", "no device"),
        ("cpu:3", "multiple of 3"),
    ] {
        train(&place, "run", list, &[]).failed(2, &["--devices", word]);
    }
    train(&place, "run", "cpu:2", &["--device", "cpu"]).failed(2, &["cannot be used with"]);
    let few = ["--set", "train.accumulate=1"];
    train(&place, "run", "cpu:2", &few).failed(2, &["`train.accumulate` = 1", "at least 2"]);
    assert!(!place.path("run").exists());
}

#[test]
fn a_device_that_is_not_there_is_a_device_error() {
    let place = Sandbox::new();
    train(&place, "run", "cuda:8,cuda:9", &[]).failed(6, &["cuda:8"]);
    assert!(!place.path("run").exists());
}

#[test]
fn a_dry_run_says_what_several_devices_need() {
    let place = Sandbox::new();
    let peak = |devices: &str| {
        let json = train(&place, "run", devices, &["--dry-run"]).done().json();
        assert_eq!(json["device"], devices);
        json["peak_bytes"].as_u64().unwrap()
    };
    assert!(peak("cpu") < peak("cpu:4"));
}
