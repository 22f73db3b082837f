//! Exported models in Python's diffusers: the program of their card draws what `ddpm sample` draws.
//!
//! `DDPM_PYTHON` names an interpreter that must have diffusers and torch; without it, `python3` is tried, and the test is
//! skipped where that has them not.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::env;
use std::ffi::OsString;
use std::process::Command;

use ddpm_schedule::noise::{Stream, normal_fill};
use ddpm_store::{NamedTensor, TensorFile};
use ddpm_tests::{Ended, Sandbox, class_network, repository};
use serde_json::{Value, json};

/// Images of a card's program.
const IMAGES: u64 = 4;
const STEPS: u64 = 12;
/// Pixels of an image of the digits.
const PIXELS: usize = 64;

/// The interpreter, or why there is none.
///
/// # Panics   if the one that is named has not what it must have
fn python() -> Result<OsString, String> {
    let named = env::var_os("DDPM_PYTHON").filter(|name| !name.is_empty());
    let program = named.clone().unwrap_or_else(|| "python3".into());
    let needed = "import diffusers, numpy, PIL, safetensors, torch";
    let why = match Command::new(&program).args(["-c", needed]).output() {
        Ok(output) if output.status.success() => return Ok(program),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            said.lines().last().unwrap_or_default().to_owned()
        }
        Err(error) => error.to_string(),
    };
    let why = format!("{}: {why}", program.display());
    assert!(named.is_none(), "DDPM_PYTHON: {why}");
    Err(why)
}

/// The noise that `ddpm sample` takes for the first images of seed 0.
fn write_noise(place: &Sandbox, name: &str) {
    let draw = |stream, steps: u64| {
        let each = (0..steps).flat_map(|step| (0..IMAGES).map(move |image| (step, image)));
        let mut data = Vec::new();
        for (step, image) in each {
            let mut one = vec![0.0; PIXELS];
            normal_fill(0, stream, step, image, &mut one);
            data.extend(one);
        }
        data
    };
    let images = IMAGES as usize;
    let tensors = vec![
        NamedTensor {
            name: "start".into(),
            shape: vec![images, 1, 8, 8],
            data: draw(Stream::SampleInit, 1),
        },
        NamedTensor {
            name: "noise".into(),
            shape: vec![STEPS as usize, images, 1, 8, 8],
            data: draw(Stream::SampleStep, STEPS),
        },
    ];
    let path = place.path(format!("{name}.safetensors"));
    TensorFile::new(tensors).write(&path).unwrap();
}

/// Exports `model` as `name` and draws into `name-pictures`, by the same options; returns what `export` said.
fn export(place: &Sandbox, model: &str, name: &str, options: &[&str]) -> Value {
    let steps = STEPS.to_string();
    let options = [options, &["--steps", &steps]].concat();
    let args = ["export", "--json", model, name];
    let said = place.ddpm(args.iter().chain(&options)).done().json();
    write_noise(place, name);
    said
}

/// The pictures of `model` by the program itself.
fn pictures(place: &Sandbox, model: &str, out: &str, options: &[&str]) {
    let (steps, images) = (STEPS.to_string(), IMAGES.to_string());
    let args = [
        "sample", "--device", "cpu", "--model", model, "--out", out, "-n", &images, "--steps",
        &steps,
    ];
    place.ddpm(args.iter().chain(options)).done();
}

#[test]
fn diffusers_draws_what_we_draw() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let place = Sandbox::new();
    // Weights that say something after a few steps.
    let sets = [
        "model.init='default'",
        "optim.lr=1e-2",
        "ema.decay=0.5",
        "train.steps=20",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    place.train_tiny("run", &sets).done();
    let cases: [(&str, &str, &[&str]); 4] = [
        ("ddpm", "DDPMScheduler", &["--sampler", "ddpm"]),
        (
            "ddim",
            "DDIMScheduler",
            &["--sampler", "ddim", "--eta", "0.5"],
        ),
        (
            "solver",
            "DPMSolverMultistepScheduler",
            &["--sampler", "dpm_solver"],
        ),
        (
            "euler",
            "EulerDiscreteScheduler",
            &["--sampler", "euler", "--set", "clip=false"],
        ),
    ];
    for (name, class, options) in cases {
        let said = export(&place, "run", name, options);
        assert_eq!(
            (&said["scheduler"], &said["difference"]),
            (&json!(class), &Value::Null),
            "{name}"
        );
        pictures(&place, "run", &format!("{name}-pictures"), options);
    }
    // The card's program tells image i of class i modulo 3.
    class_network(&place, "classes");
    export(&place, "classes", "told", &["--sampler", "ddim"]);
    for image in 0..IMAGES {
        let class = (image % 3).to_string();
        let out = format!("class-{class}");
        pictures(
            &place,
            "classes",
            &out,
            &["--sampler", "ddim", "--class", &class],
        );
        let file = format!("{image:05}.png");
        let bytes = std::fs::read(place.path(out).join(&file)).unwrap();
        place.file(&format!("told-pictures/{file}"), bytes);
    }

    let script = repository().join("tests/python/round_trip.py");
    let names = cases.iter().map(|(name, ..)| *name).chain(["told"]);
    let mut command = Command::new(python);
    command
        .arg(script)
        .args(names.clone())
        .current_dir(place.path(""))
        .env("HF_HUB_OFFLINE", "1");
    let ended = Ended::from(command.output().unwrap()).done();
    let said: Vec<Value> = ended
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(said.len(), names.count(), "{}", ended.stdout);
    for line in &said {
        assert_eq!(line["images"], IMAGES, "{line}");
        assert!(
            line["largest"].as_u64().is_some_and(|levels| levels <= 1),
            "{line}"
        );
    }
    for (line, (_, class, _)) in said.iter().zip(cases) {
        assert_eq!(line["scheduler"], class);
    }
}
