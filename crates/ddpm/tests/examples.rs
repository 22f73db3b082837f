//! Every example runs, in short.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an example, and returns what it prints.
#[track_caller]
fn run(name: &str, args: &[&str], folder: &Path) -> String {
    let own = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST and target/PROFILE/examples/NAME
    let profile = own.parent().and_then(Path::parent).unwrap();
    let program: PathBuf = profile
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&program)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_is_trained_and_drawn_from() {
    let folder = tempfile::tempdir().unwrap();
    let said = run("train_digits", &["run", "50"], folder.path());
    assert!(said.contains("step 50, loss"), "{said}");
    assert!(folder.path().join("run/drawn.png").is_file());
    // A checkpoint is a diffusers directory too.
    let said = run(
        "sample_diffusers",
        &["run/checkpoints/step-50"],
        folder.path(),
    );
    assert!(said.contains("drawn.png: by"), "{said}");
    assert!(folder.path().join("drawn.png").is_file());
}

#[test]
fn a_sampler_of_ones_own_has_the_order_that_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let said = run("own_sampler", &[], folder.path());
    let errors = said.lines().map(|line| {
        let (_, rest) = line.split_once("off by ").unwrap();
        rest.split(',').next().unwrap().parse::<f64>().unwrap()
    });
    let errors: Vec<f64> = errors.collect();
    assert_eq!(errors.len(), 4, "{said}");
    // Twice the steps, a quarter of the error.
    assert!(
        errors[0] > 3.0 * errors[1] && errors[1] > 3.0 * errors[2],
        "{said}"
    );
}

#[test]
fn a_network_of_ones_own_learns() {
    let folder = tempfile::tempdir().unwrap();
    let said = run("own_network", &["200", "drawn.png"], folder.path());
    let losses = said
        .lines()
        .filter_map(|line| line.split_once("loss ")?.1.parse::<f64>().ok());
    let losses: Vec<f64> = losses.collect();
    assert!(
        losses.len() == 2 && losses[1] < losses[0] && losses[1] < 0.9,
        "{said}"
    );
    assert!(folder.path().join("drawn.png").is_file());
}

#[test]
fn a_toy_of_two_dimensions_learns() {
    let folder = tempfile::tempdir().unwrap();
    let said = run("swiss_roll", &["500"], folder.path());
    assert!(said.lines().count() > 20, "{said}");
}
