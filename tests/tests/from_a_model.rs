//! `ddpm train --init`: runs that begin with the weights of another model.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::Path;

use ddpm_store::{NamedTensor, TensorFile};
use ddpm_tests::{Ended, Sandbox, class_network, repository};
use serde_json::Value;

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// A run of seconds that says nothing of the network.
const FEW: &[&str] = &[
    "train.batch=4",
    "train.steps=4",
    "train.checkpoint_every=2",
    "train.sample_every=0",
    "train.log_every=1",
    "train.keep=9",
    "sample.steps=2",
    "sample.count=4",
];

/// `ddpm train --init MODEL --run RUN` with [`FEW`] and further overrides.
fn begin(place: &Sandbox, model: &str, run: &str, sets: &[&str]) -> Ended {
    let args = ["train", "--device", "cpu", "--init", model, "--run", run];
    let sets = FEW.iter().chain(sets).flat_map(|set| ["--set", *set]);
    place.ddpm(args.into_iter().chain(sets))
}

fn weights(path: &Path) -> Vec<NamedTensor> {
    TensorFile::read(&path.join(WEIGHTS)).unwrap().tensors
}

fn config(place: &Sandbox, run: &str) -> Value {
    let text = fs::read_to_string(place.path(run).join("config.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

#[test]
fn a_run_begins_with_the_ema_weights_and_goes_on_without_their_source() {
    let place = Sandbox::new();
    place.train_tiny("a", &[]).done();
    let source = place.path("a/checkpoints/step-6");
    begin(&place, "a", "b", &[]).done();
    let first = place.path("b/checkpoints/step-0");
    for part in ["unet", "ema"] {
        assert!(
            weights(&first.join(part)) == weights(&source.join("ema")),
            "{part}"
        );
    }
    begin(&place, "a", "raw", &["init.weights=raw"]).done();
    let raw = place.path("raw/checkpoints/step-0/unet");
    assert!(weights(&raw) == weights(&source.join("unet")));
    assert!(weights(&raw) != weights(&first.join("unet")));

    // The network is the model's, not that of the built-in recipe, and where it came from is written down.
    let [a, b] = ["a", "b"].map(|run| config(&place, run));
    assert_eq!(b["model"]["channels"], 8);
    assert_eq!(b["model"]["multipliers"], a["model"]["multipliers"]);
    let absolute = place.path("a").canonicalize().unwrap();
    let said = b["init"]["model"].as_str().unwrap();
    assert_eq!(Path::new(said).canonicalize().unwrap(), absolute);

    let last = place.path("b/checkpoints/step-4/unet");
    let before = weights(&last);
    fs::remove_dir_all(place.path("a")).unwrap();
    for from in ["0", "2"] {
        let resume = [
            "train", "--device", "cpu", "--resume", "--run", "b", "--from", from,
        ];
        place.ddpm(resume).done();
        assert!(weights(&last) == before, "from {from}");
    }
    // With a recipe too, which says neither what it began with nor its network.
    let mut recipe: toml::Table = fs::read_to_string(place.path("b/config.toml"))
        .unwrap()
        .parse()
        .unwrap();
    for section in ["init", "model"] {
        recipe.remove(section).unwrap();
    }
    place.file("recipe.toml", recipe.to_string());
    let again = [
        "train",
        "recipe.toml",
        "--device",
        "cpu",
        "--resume",
        "--run",
        "b",
        "--set",
        "train.steps=5",
    ];
    place.ddpm(again).done();
    let now = config(&place, "b");
    assert_eq!((&now["init"], &now["model"]), (&b["init"], &b["model"]));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_an_error() {
    let place = Sandbox::new();
    class_network(&place, "classes");
    let said = begin(&place, "classes", "a", &[]).done().stderr;
    assert!(
        said.contains("only there: `class_embedding.weight`"),
        "{said}"
    );
    // Another image size fits, other channels do not fit the first and the last layer.
    let said = begin(&place, "classes", "b", &["data.size=16", "data.channels=3"])
        .done()
        .stderr;
    let named = "of another shape there: `conv_in.weight`, `conv_out.weight`, `conv_out.bias`";
    assert!(said.contains(named), "{said}");
    assert_eq!(
        config(&place, "b")["model"]["attention_at"],
        serde_json::json!([8])
    );
    // A network that the user asked for takes what fits.
    let said = begin(
        &place,
        "classes",
        "c",
        &[
            "model.blocks=2",
            "model.channels=4",
            "model.groups=2",
            "model.multipliers=[1,2]",
        ],
    );
    let said = said.done().stderr;
    assert!(
        said.contains("not there: `") && said.contains(" more"),
        "{said}"
    );

    place.file("plain.toml", "[model]\nkind = \"plain\"\nfeatures = [4]\n");
    let mut args = vec![
        "train",
        "plain.toml",
        "--device",
        "cpu",
        "--run",
        "d",
        "--init",
        "classes",
    ];
    args.extend(FEW.iter().flat_map(|set| ["--set", *set]));
    place.ddpm(&args).failed(
        4,
        &[
            "classes: none of its",
            "fits the network",
            "leave [model] out",
        ],
    );
    assert!(!place.path("d").exists());
    begin(&place, "nothing", "d", &[]).failed(4, &["nothing"]);
    assert!(!place.path("d").exists());
    place
        .ddpm(["train", "--resume", "--run", "a", "--init", "classes"])
        .failed(2, &["--init classes", "a resumed run"]);
}

#[test]
fn classes_alone_are_no_other_network() {
    let place = Sandbox::new();
    place.train_tiny("a", &[]).done();
    let begun = begin(&place, "a", "b", &["model.classes=auto"]).done();
    assert!(begun.stderr.contains("class_embedding"), "{}", begun.stderr);
    let model = &config(&place, "b")["model"];
    assert_eq!(
        (&model["channels"], &model["classes"]),
        (&8.into(), &"auto".into())
    );
    let drawn = [
        "sample", "--model", "b", "--class", "7", "-n", "1", "--grid", "g.png",
    ];
    place.ddpm(drawn).done();
}

#[test]
fn any_network_of_diffusers_can_be_gone_on_with() {
    let place = Sandbox::new();
    let model = repository().join("tests/golden/data/unet/library_defaults");
    let sets = [
        "data.size=16",
        "data.channels=3",
        "train.steps=2",
        "train.batch=2",
    ];
    begin(&place, model.to_str().unwrap(), "a", &sets).done();
    assert_eq!(config(&place, "a")["model"]["kind"], "given");
    assert!(weights(&place.path("a/checkpoints/step-0/unet")) == weights(&model));
    place
        .ddpm([
            "train",
            "--resume",
            "--run",
            "a",
            "--device",
            "cpu",
            "--set",
            "train.steps=3",
        ])
        .done();
    let sample = [
        "sample", "--model", "a", "-n", "1", "--grid", "g.png", "--device", "cpu",
    ];
    place.ddpm(sample).done();
    let doctor = [
        "doctor",
        "a/config.toml",
        "--device",
        "cpu",
        "--json",
        "--set",
        "optim.warmup_steps=0",
    ];
    place.ddpm(doctor).done();
}
