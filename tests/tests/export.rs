//! `ddpm export`: models for elsewhere.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::Path;

use ddpm_store::TensorFile;
use ddpm_tests::{Ended, Sandbox, class_network};
use serde_json::{Value, json};

const WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";

/// `ddpm export` with these arguments.
fn export(place: &Sandbox, args: &[&str]) -> Ended {
    place.ddpm(["export", "--json"].iter().chain(args))
}

/// A grid of four images.
fn picture(place: &Sandbox, model: &str, more: &[&str]) -> Vec<u8> {
    let args = [
        "sample", "--device", "cpu", "-n", "4", "--grid", "g.png", "--model", model,
    ];
    place.ddpm(args.iter().chain(more)).done();
    fs::read(place.path("g.png")).unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn an_exported_run_draws_as_the_run() {
    let place = Sandbox::new();
    place.train_tiny("run", &["--seed", "3"]).done();
    let said = export(&place, &["run", "model"]).done().json();
    assert_eq!(
        (&said["step"], &said["difference"], &said["grid"]),
        (&json!(6), &Value::Null, &json!(true))
    );
    let model = place.path("model");
    let mut files: Vec<_> = fs::read_dir(&model)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    files.sort();
    let expected = [
        "README.md",
        "grid.png",
        "model_index.json",
        "scheduler",
        "unet",
    ];
    assert_eq!(files, expected);
    assert_eq!(
        fs::read(model.join("grid.png")).unwrap(),
        fs::read(place.path("run/samples/step-00000006.png")).unwrap()
    );
    assert_eq!(picture(&place, "model", &[]), picture(&place, "run", &[]));

    // Other weights, and another sampler, of a checkpoint; the run's grid shows neither.
    let raw = [
        "run/checkpoints/step-6",
        "raw",
        "--weights",
        "raw",
        "--sampler",
        "ddim",
        "--steps",
        "3",
    ];
    let said = export(&place, &raw).done().json();
    assert_eq!(
        (&said["scheduler"], &said["grid"]),
        (&json!("DDIMScheduler"), &json!(false))
    );
    let ddim = ["--sampler", "ddim", "--steps", "3", "--weights", "raw"];
    assert_eq!(picture(&place, "raw", &[]), picture(&place, "run", &ddim));

    // A diffusers directory goes on with its scheduler, or gets another.
    export(&place, &["raw", "again"]).done();
    for file in [
        WEIGHTS,
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ] {
        let both = ["raw", "again"].map(|name| fs::read(place.path(name).join(file)).unwrap());
        assert!(both[0] == both[1], "{file}");
    }
    let said = export(&place, &["raw", "other", "--sampler", "dpm_solver"])
        .done()
        .json();
    assert_eq!(said["scheduler"], "DPMSolverMultistepScheduler");
}

#[test]
fn the_settings_of_a_card_are_a_configuration() {
    let place = Sandbox::new();
    place.train_tiny("run", &["--set", "optim.lr=2e-3"]).done();
    let grid = ["--grid", "run/samples/step-00000006.png"];
    let words = [
        "--name",
        "me/digits",
        "--license",
        "mit",
        "--dataset",
        "me/eights",
    ];
    let args = [&["run", "model"][..], &grid, &words].concat();
    export(&place, &args).done();
    let card = read(&place.path("model/README.md"));
    for word in [
        "license: mit\n",
        "datasets:\n- me/eights\n",
        "# me/digits\n",
        "from_pretrained(\"me/digits\")",
        "6 steps of 4 images, 24 in all",
        "![Samples](grid.png)",
    ] {
        assert!(card.contains(word), "no {word} in: {card}");
    }
    let (_, rest) = card.split_once("```toml\n").unwrap();
    let (settings, _) = rest.split_once("```").unwrap();
    place.file("again.toml", settings);
    let dry = place
        .ddpm([
            "train",
            "again.toml",
            "--dry-run",
            "--json",
            "--device",
            "cpu",
        ])
        .done()
        .json();
    let own = toml::from_str::<Value>(&read(&place.path("run/config.toml"))).unwrap();
    assert_eq!(dry["config"]["optim"], own["optim"]);
    assert_eq!(dry["config"]["model"], own["model"]);
}

#[test]
fn nothing_is_overwritten_and_no_option_goes_unheeded() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    export(&place, &["run", "w.safetensors"]).done();
    let weights = TensorFile::read(&place.path("w.safetensors")).unwrap();
    let ema = place.path("run/checkpoints/step-6/ema/diffusion_pytorch_model.safetensors");
    assert_eq!(weights.tensors, TensorFile::read(&ema).unwrap().tensors);
    let before = fs::read(place.path("w.safetensors")).unwrap();
    place.file("mine/notes.txt", "mine");
    place.file("a.jpg", b"\xff\xd8\xff");
    for (args, words) in [
        (
            &["run", "w.safetensors"][..],
            ["w.safetensors: something is there already", "remove it"],
        ),
        (
            &["run", "mine"],
            ["mine: something is there already", "another place"],
        ),
        (
            &["run", "b.safetensors", "--license", "mit"],
            ["--license", "the weights alone"],
        ),
        (
            &["run", "b.safetensors", "--steps", "3"],
            ["--steps", "the weights alone"],
        ),
        (&["run", "b.onnx"], ["b.onnx", "ONNX is not written"]),
        (
            &["run", "b", "--license", "My own"],
            ["--license My own", "mit"],
        ),
        (
            &["run", "b", "--dataset", "a: b"],
            ["--dataset a: b", "uoft-cs/cifar10"],
        ),
        (&["run", "b", "--name", "a\nb"], ["--name", "one line"]),
        (
            &["run", "b", "--grid", "a.jpg"],
            ["--grid a.jpg", "is not a PNG"],
        ),
        (&["run", "b", "--grid", "none.png"], ["--grid none.png", ""]),
    ] {
        export(&place, args).failed(2, &words);
    }
    assert_eq!(fs::read(place.path("w.safetensors")).unwrap(), before);
    assert!(!place.path("b").exists() && !place.path("b.safetensors").exists());
    export(&place, &["nothing", "b"]).failed(4, &["nothing"]);
    // What diffusers cannot represent; the weights are those of any network.
    let plain = ["--set", "model.kind=plain", "--set", "model.features=[4]"];
    let mut args = vec!["train", "--device", "cpu", "--run", "plain"];
    let few = [
        "train.steps=1",
        "train.batch=2",
        "sample.steps=1",
        "sample.count=1",
    ];
    args.extend(few.iter().flat_map(|set| ["--set", set]));
    place.file("plain.toml", "");
    args.insert(1, "plain.toml");
    args.extend(plain);
    place.ddpm(&args).done();
    export(&place, &["plain", "b"]).failed(4, &["`model.kind` is \"plain\"", "FILE.safetensors"]);
    export(&place, &["plain", "b.safetensors"]).done();
}

#[test]
fn a_network_of_classes_is_exported_with_a_loop_that_tells_them() {
    let place = Sandbox::new();
    class_network(&place, "classes");
    export(
        &place,
        &["classes", "model", "--sampler", "ddim", "--steps", "4"],
    )
    .done();
    let card = read(&place.path("model/README.md"));
    for word in [
        "told one of 3 classes",
        "class_labels=class_labels",
        "--class 0",
    ] {
        assert!(card.contains(word), "no {word} in: {card}");
    }
    let steps = ["--sampler", "ddim", "--steps", "4", "--class", "2"];
    assert_eq!(
        picture(&place, "model", &["--class", "2"]),
        picture(&place, "classes", &steps)
    );
}
