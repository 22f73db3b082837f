//! `ddpm eval`: the figures, what they depend on, and what is not compared.

use std::fs;

use ddpm_tests::{Ended, Sandbox};
use serde_json::Value;

fn trained() -> Sandbox {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    place
}

fn eval(place: &Sandbox, more: &[&str]) -> Ended {
    let common = ["eval", "--device", "cpu", "--json"];
    place.ddpm(common.iter().chain(more))
}

/// The figures of an evaluation.
fn figures(json: &Value) -> &Value {
    &json["evaluation"]["figures"]
}

#[test]
fn a_run_is_drawn_from_judged_and_gone_on_with() {
    let place = trained();
    let first = eval(&place, &["run", "-n", "40"]).done().json();
    for name in [
        "frechet_distance",
        "kernel_distance",
        "rbf_distance",
        "precision",
        "recall",
        "density",
        "coverage",
    ] {
        let figure = &figures(&first)[name];
        let [value, low, high] = ["value", "low", "high"].map(|key| figure[key].as_f64().unwrap());
        assert!(value.is_finite() && low <= high, "{name}: {figure}");
    }
    // Six steps teach nothing: noise lies far from digits.
    assert!(figures(&first)["kernel_distance"]["low"].as_f64().unwrap() > 0.1);
    assert!(
        figures(&first)["warnings"][0]
            .as_str()
            .unwrap()
            .contains("40 generated images")
    );
    for (key, value) in [("n", 40.into()), ("shape", serde_json::json!([1, 8, 8]))] {
        assert_eq!(first["evaluation"]["images"][key], value);
    }
    assert_eq!(first["evaluation"]["sampling"]["weights"], "ema");
    assert_eq!(first["evaluation"]["reference"]["n"], 1797);
    assert_eq!(first["drawn_before"], 0);
    for file in ["run/eval/eval.json", "run/eval/nearest.png"] {
        assert!(place.path(file).is_file(), "{file}");
    }
    let images = place.path(first["images"].as_str().unwrap());
    assert!(images.join("00039.png").is_file());

    // The same again draws nothing and finds the same; more go on, and what was lost is drawn again.
    let again = eval(&place, &["run", "-n", "40"]).done().json();
    assert_eq!(
        (&again["drawn_before"], figures(&again)),
        (&40.into(), figures(&first))
    );
    fs::remove_file(images.join("00030.png")).unwrap();
    let more = eval(&place, &["run", "-n", "48", "--batch", "7"])
        .done()
        .json();
    assert_eq!(more["drawn_before"], 30);
    fs::remove_dir_all(&images).unwrap();
    let whole = eval(&place, &["run", "-n", "48"]).done().json();
    assert_eq!(whole["evaluation"]["images"], more["evaluation"]["images"]);
    assert_eq!(figures(&whole), figures(&more));
    // Another way of drawing has another place.
    let other = eval(&place, &["run", "-n", "40", "--seed", "1"])
        .done()
        .json();
    assert_ne!(other["images"], first["images"]);
}

#[test]
fn a_folder_an_archive_and_a_run_have_the_same_figures() {
    let place = trained();
    let run = eval(&place, &["run", "-n", "40"]).done().json();
    let folder = run["images"].as_str().unwrap();
    let sample = [
        "sample", "--device", "cpu", "--model", "run", "-n", "40", "--npz", "a.npz",
    ];
    place.ddpm(sample).done();
    for images in [folder, "a.npz"] {
        let found = eval(&place, &[images, "--reference", "digits"])
            .done()
            .json();
        assert_eq!(
            found["evaluation"]["images"], run["evaluation"]["images"],
            "{images}"
        );
        assert_eq!(figures(&found), figures(&run), "{images}");
        assert!(found["evaluation"]["sampling"].is_null());
    }
    eval(&place, &["a.npz"]).failed(2, &["a.npz", "--reference"]);
    eval(&place, &["a.npz", "--reference", "digits", "--steps", "5"])
        .failed(2, &["--steps", "leave it out"]);
    eval(&place, &["a.npz", "--reference", "digits", "-n", "41"])
        .failed(2, &["-n 41", "has not as many"]);
}

#[test]
fn statistics_are_written_and_read_back() {
    let place = trained();
    let whole = eval(&place, &["run", "-n", "40", "--stats", "digits.npz"])
        .done()
        .json();
    let read = eval(&place, &["run", "-n", "40", "--reference", "digits.npz"])
        .done()
        .json();
    for name in ["frechet_distance", "kernel_distance", "recall"] {
        assert_eq!(figures(&read)[name], figures(&whole)[name], "{name}");
    }
    let mu = ddpm_data::read_npz_array(&place.path("digits.npz"), "mu").unwrap();
    let sigma = ddpm_data::read_npz_array(&place.path("digits.npz"), "sigma").unwrap();
    assert_eq!((mu.shape, sigma.shape), (vec![64], vec![64, 64]));
    fs::write(place.path("broken.npz"), "PK").unwrap();
    eval(&place, &["run", "-n", "40", "--reference", "broken.npz"]).failed(3, &["broken.npz"]);
}

#[test]
fn what_is_not_comparable_is_not_compared() {
    let place = trained();
    place.train_tiny("other", &["--seed", "7"]).done();
    for run in ["run", "other"] {
        eval(&place, &[run, "-n", "40"]).done();
    }
    let compare = |more: &[&str]| place.ddpm(["eval", "compare"].iter().chain(more));
    let table = compare(&["run", "other"]).done().stdout;
    for words in [
        "40 images each, by pixels",
        "Fréchet distance",
        "precision",
        "other",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    eval(&place, &["other", "-n", "40", "--steps", "3"]).done();
    compare(&["run", "other"]).failed(
        2,
        &["its steps is 3 and the first one's is 2", "--across steps"],
    );
    compare(&["run", "other", "--across", "steps"]).done();
    eval(&place, &["other", "-n", "41"]).done();
    compare(&["run", "other", "--across", "steps,sampler,seed"])
        .failed(2, &["its n is 41 and the first one's is 40"]);
    compare(&["run", "none"]).failed(2, &["none: there is no eval.json", "ddpm eval none"]);
    fs::write(place.path("eval.json"), "{\"version\": 9}").unwrap();
    compare(&["run", "eval.json"]).failed(4, &["version 9"]);
}

#[test]
fn an_extractor_is_trained_on_the_set_and_sees_its_classes() {
    let place = Sandbox::new();
    place
        .train_tiny("run", &["--set", "model.classes=auto"])
        .done();
    eval(&place, &["run", "-n", "40", "--extractor", "lenet"])
        .failed(2, &["--extractor lenet", "--train-extractor"]);
    let trained = eval(&place, &["--train-extractor", "--reference", "digits"])
        .done()
        .json();
    assert!(trained["accuracy"].as_f64().unwrap() > 0.9, "{trained}");
    let found = eval(&place, &["run", "-n", "40", "--extractor", "lenet"])
        .done()
        .json();
    let record = &found["evaluation"]["extractor"];
    assert_eq!(record["name"], "lenet");
    let file = trained["extractor"].as_str().unwrap();
    let blake3 = ddpm_store::atomic::digest(&fs::read(place.path(file)).unwrap());
    assert_eq!(record["blake3"], blake3);
    assert!(
        figures(&found)["inception_score"]["value"]
            .as_f64()
            .unwrap()
            >= 1.0
    );
    let classes = figures(&found)["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 10);
    assert!(
        classes
            .iter()
            .all(|class| class["generated"] == 0.1 && class["recognised"].is_number())
    );
    // Named by its file, and the same from what is kept of the reference.
    let again = eval(&place, &["run", "-n", "40", "--extractor", file])
        .done()
        .json();
    assert_eq!(figures(&again), figures(&found));
}

#[test]
fn extractors_that_are_not_there_are_said_where_to_get() {
    let place = trained();
    let with = |extractor: &str| eval(&place, &["run", "-n", "40", "--extractor", extractor]);
    with("inception").failed(
        2,
        &["pt_inception-2015-12-05-6726825d.pth", "--extractor FILE"],
    );
    with("vgg").failed(2, &["vgg: no such file", "pixels, inception and lenet"]);
    fs::write(place.path("text.safetensors"), "hello").unwrap();
    with("text.safetensors").failed(4, &["text.safetensors"]);
    eval(&place, &["--train-extractor"]).failed(2, &["--reference"]);
    eval(&place, &["run", "--reference", "none"]).failed(3, &["none"]);
    eval(&place, &["run", "-n", "3"]).failed(3, &["needs at least 4 images"]);
}

#[test]
fn samples_are_judged_while_a_run_trains_and_the_best_checkpoint_stays() {
    let place = Sandbox::new();
    let set = [
        "train.eval_every=2",
        "train.eval_n=16",
        "train.keep=1",
        "train.checkpoint_every=0",
        "train.steps=8",
    ];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", *set]).collect();
    place.train_tiny("run", &set).done();
    let lines = fs::read_to_string(place.path("run/eval.jsonl")).unwrap();
    let points: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let steps: Vec<u64> = points
        .iter()
        .map(|point| point["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [2, 4, 6, 8]);
    let score = |point: &Value| point["score"].as_f64().unwrap();
    let best = points
        .iter()
        .min_by(|a, b| score(a).total_cmp(&score(b)))
        .unwrap();
    let best = format!("run/checkpoints/step-{}", best["step"]);
    let kept: Vec<bool> = [2, 4, 6, 8]
        .map(|step| place.path(format!("run/checkpoints/step-{step}")).is_dir())
        .into();
    assert!(place.path(&best).is_dir(), "{best}: {kept:?}");
    assert!(
        kept[3] && kept.iter().filter(|kept| **kept).count() <= 2,
        "{kept:?}"
    );
    // Going on from an earlier step forgets what came after it, and finds the same.
    let from = steps[0]
        .max(best.rsplit('-').next().unwrap().parse().unwrap())
        .to_string();
    place
        .ddpm([
            "train", "--device", "cpu", "--resume", "--run", "run", "--from", &from,
        ])
        .done();
    assert_eq!(
        fs::read_to_string(place.path("run/eval.jsonl")).unwrap(),
        lines
    );
    place
        .ddpm(["checkpoint", "prune", "run", "--keep", "1"])
        .done();
    assert!(place.path(&best).is_dir());
    place
        .train_tiny(
            "bad",
            &[
                "--set",
                "train.eval_every=2",
                "--set",
                "train.eval_extractor=none",
            ],
        )
        .failed(2, &["none: no such file"]);
}
