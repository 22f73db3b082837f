//! Networks of other programs, taken over by `ddpm import`.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;

use ddpm_store::{NamedTensor, TensorFile};
use ddpm_tests::torch_file::{archive, listed, save, text};
use ddpm_tests::{Ended, Sandbox, repository};
use serde_json::Value;
use zip::CompressionMethod;

fn fixture(name: &str) -> std::path::PathBuf {
    repository().join("tests/fixtures/torch").join(name)
}

/// A `.pt` of a network that is listed among the fixtures.
fn state_dict(place: &Sandbox, name: &str) {
    let bytes = save(&listed(name).unwrap()).unwrap();
    place.file(&format!("{name}.pt"), bytes);
}

fn import(place: &Sandbox, source: &str, more: &[&str]) -> Ended {
    place.ddpm(["import", source, "run", "--json"].iter().chain(more))
}

/// Value and origin of a setting.
fn setting<'a>(said: &'a Value, what: &str) -> (&'a str, &'a str) {
    let all = said["settings"].as_array().unwrap();
    let found = all.iter().find(|setting| setting["what"] == what);
    let found = found.unwrap_or_else(|| panic!("no {what} in {said}"));
    (
        found["value"].as_str().unwrap(),
        found["origin"].as_str().unwrap(),
    )
}

/// What `predict` makes of tensors of a file, by the names they have there: `(theirs, ours)`.
#[track_caller]
fn predicts(
    place: &Sandbox,
    golden: &str,
    names: &[(&str, &str)],
    more: &[NamedTensor],
    output: &str,
    within: f32,
) {
    let golden = TensorFile::read(&fixture(golden)).unwrap();
    let tensors = names.iter().map(|(theirs, ours)| NamedTensor {
        name: (*ours).to_owned(),
        ..golden.get(theirs).unwrap().clone()
    });
    TensorFile::new(tensors.chain(more.iter().cloned()).collect())
        .write(&place.path("in.safetensors"))
        .unwrap();
    let args = [
        "predict",
        "--device",
        "cpu",
        "--model",
        "run",
        "--input",
        "in.safetensors",
        "--output",
        "out.safetensors",
    ];
    place.ddpm(args).done();
    let found = TensorFile::read(&place.path("out.safetensors")).unwrap();
    let (found, expected) = (found.get("y").unwrap(), golden.get(output).unwrap());
    assert_eq!(found.shape, expected.shape);
    let errors = found
        .data
        .iter()
        .zip(&expected.data)
        .map(|(a, b)| (a - b).abs());
    let worst = errors.fold(0.0, f32::max);
    assert!(worst <= within, "{worst}");
}

/// Draws two images of the run.
fn draws(place: &Sandbox, more: &[&str]) -> Value {
    let args = [
        "sample", "--device", "cpu", "--model", "run", "-n", "2", "--grid", "grid.png", "--json",
    ];
    let said = place.ddpm(args.iter().chain(more)).done().json();
    assert!(place.path("grid.png").is_file());
    said
}

#[test]
fn a_network_of_guided_diffusion_predicts_and_draws() {
    let place = Sandbox::new();
    state_dict(&place, "guided_adm");
    let given = [
        "--size",
        "16",
        "--head-channels",
        "16",
        "--schedule",
        "cosine",
    ];
    let said = import(&place, "guided_adm.pt", &given).done().json();
    assert_eq!(setting(&said, "image size"), ("16x16", "given"));
    assert_eq!(setting(&said, "classes"), ("7", "read"));
    assert_eq!(setting(&said, "variance"), ("learned", "read"));
    assert_eq!(setting(&said, "schedule"), ("cosine", "given"));
    assert_eq!(setting(&said, "diffusion steps"), ("1000", "taken"));
    let names = [("x", "x"), ("t", "t"), ("labels", "class_labels")];
    predicts(&place, "guided_adm-io.safetensors", &names, &[], "y", 2e-4);

    let said = draws(&place, &["--class", "3", "--steps", "3"]);
    assert_eq!(said["sample"]["sampler"]["kind"], "ddpm");
    let seen = place.ddpm(["inspect", "run", "--json"]).done().json();
    assert_eq!(seen["model"]["schedule"]["kind"], "cosine");
    assert!(
        seen["model"]["imported"]
            .as_str()
            .unwrap()
            .ends_with("guided_adm.pt")
    );
    assert_eq!(seen["model"]["step"], Value::Null);
    let bpd = [
        "eval", "bpd", "--device", "cpu", "--model", "run", "-n", "1",
    ];
    place
        .ddpm(bpd)
        .failed(2, &["does not say what it was trained on", "--data"]);
    place
        .ddpm(["train", "--resume", "--run", "run"])
        .failed(2, &["run/config.toml", "imported from", "--init"]);
    import(&place, "guided_adm.pt", &given).failed(2, &["a run is already there"]);
}

#[test]
fn a_network_of_improved_diffusion_is_told_of_a_thousand_steps() {
    let place = Sandbox::new();
    state_dict(&place, "improved_cifar");
    let steps = ["--size", "8", "--diffusion-steps", "4000"];
    let said = import(&place, "improved_cifar.pt", &steps).done().json();
    assert_eq!(setting(&said, "heads"), ("4", "taken"));
    assert_eq!(setting(&said, "told of time"), ("t*1000/T", "taken"));
    predicts(
        &place,
        "improved_cifar-io.safetensors",
        &[("x", "x"), ("t", "t")],
        &[],
        "y",
        2e-4,
    );
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    for line in [
        "steps = 4000",
        "network_steps = 1000",
        "scale_ends = true",
        "variance = \"learned_range\"",
    ] {
        assert!(config.contains(line), "no {line} in {config}");
    }
    let told = draws(&place, &["--steps", "2"]);
    assert_eq!(told["images"], 2);
    let grid = fs::read(place.path("grid.png")).unwrap();

    fs::remove_dir_all(place.path("run")).unwrap();
    let unscaled = [&steps[..], &["--rescale-timesteps=false"]].concat();
    import(&place, "improved_cifar.pt", &unscaled).done();
    draws(&place, &["--steps", "2"]);
    assert_ne!(fs::read(place.path("grid.png")).unwrap(), grid);
}

#[test]
fn what_a_file_does_not_say_is_asked_for_or_refused() {
    let place = Sandbox::new();
    state_dict(&place, "improved_cifar");
    let refused = |more: &[&str], code, words: &[&str]| {
        import(&place, "improved_cifar.pt", more).failed(code, words);
        assert!(!place.path("run").exists());
    };
    refused(&[], 2, &["--size", "improved_cifar.pt"]);
    refused(&["--size", "8", "--heads", "5"], 2, &["--heads", "divide"]);
    refused(
        &["--size", "8", "--diffusion-steps", "0"],
        2,
        &["schedule.steps is 0"],
    );
    let plain = repository().join("tests/golden/data/unet2/pt_files/plain.pt");
    fs::copy(plain, place.path("plain.pt")).unwrap();
    import(&place, "plain.pt", &[]).failed(4, &["plain.pt", "conv.weight", "no program"]);
    import(&place, "missing.pt", &[]).failed(4, &["missing.pt"]);

    let other = NamedTensor {
        name: "model.init_conv.weight".into(),
        shape: vec![1],
        data: vec![0.0],
    };
    place.file("other.pt", save(&[other]).unwrap());
    import(&place, "other.pt", &[]).failed(4, &["other.pt"]);
}

#[test]
fn a_diffusers_directory_becomes_a_run_that_draws_alike() {
    let place = Sandbox::new();
    let model = repository().join("tests/fixtures/tiny-unet");
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        place.file(
            &format!("model/{file}"),
            fs::read(model.join(file)).unwrap(),
        );
    }
    let scheduler =
        r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 60, "clip_sample": false}"#;
    place.file("model/scheduler_config.json", scheduler);
    let said = import(&place, "model", &[]).done().json();
    assert_eq!(setting(&said, "sampler"), ("ddim", "read"));
    draws(&place, &["--steps", "4"]);
    let drawn = fs::read(place.path("grid.png")).unwrap();
    let own = [
        "sample", "--device", "cpu", "--model", "model", "-n", "2", "--grid", "own.png", "--steps",
        "4",
    ];
    place.ddpm(own).done();
    assert_eq!(fs::read(place.path("own.png")).unwrap(), drawn);
    place
        .ddpm(["import", "model", "other", "--heads", "4"])
        .failed(2, &["--heads", "diffusers"]);
    place
        .ddpm(["import", "run", "other"])
        .failed(4, &["run", "--model"]);
}

#[test]
fn a_snapshot_of_edm_predicts_and_draws() {
    let place = Sandbox::new();
    fs::copy(fixture("edm.pkl"), place.path("edm.pkl")).unwrap();
    let said = import(&place, "edm.pkl", &[]).done().json();
    assert_eq!(said["program"], "EDM");
    assert_eq!(setting(&said, "network"), ("SongUNet", "read"));
    assert_eq!(setting(&said, "image size"), ("8x8", "read"));
    assert_eq!(setting(&said, "classes"), ("5", "read"));
    // Classes are one-hot in the reference.
    let names = [
        ("net_input", "x"),
        ("c_noise", "t"),
        ("augment_labels", "vector"),
    ];
    let labels = NamedTensor {
        name: "class_labels".into(),
        shape: vec![2],
        data: vec![0.0, 4.0],
    };
    predicts(
        &place,
        "edm-io.safetensors",
        &names,
        &[labels],
        "net_output",
        2e-4,
    );
    let said = draws(&place, &["--class", "2", "--steps", "3"]);
    assert_eq!(said["sample"]["sampler"]["kind"], "heun");
    let seen = place.ddpm(["inspect", "run", "--json"]).done().json();
    assert_eq!(seen["model"]["process"]["kind"], "edm");
    place
        .ddpm(["import", "edm.pkl", "other", "--steps", "4"])
        .failed_usage(&["--steps"]);
    import(&place, "edm.pkl", &["--schedule", "linear"]).failed(2, &["already there"]);
    place
        .ddpm(["import", "edm.pkl", "other", "--schedule", "linear"])
        .failed(2, &["--schedule", "EDM"]);
}

#[test]
fn a_checkpoint_of_lucidrains_predicts_draws_and_is_trained_on() {
    let place = Sandbox::new();
    fs::copy(fixture("lucidrains.pt"), place.path("model-1.pt")).unwrap();
    import(&place, "model-1.pt", &[]).failed(2, &["--size", "model-1.pt"]);
    let given = ["--size", "8", "--schedule", "linear"];
    import(&place, "model-1.pt", &given).failed(2, &["--schedule", "denoising-diffusion-pytorch"]);
    let said = import(&place, "model-1.pt", &["--size", "8"]).done().json();
    assert_eq!(said["program"], "denoising-diffusion-pytorch");
    for (what, expected) in [
        ("version", ("2.3.4", "read")),
        ("image size", ("8x8", "given")),
        ("variance", ("fixed, small", "taken")),
        ("self-condition", ("true", "read")),
        ("diffusion steps", ("20", "read")),
        ("schedule", ("sigmoid_alpha_bar", "read")),
        ("prediction", ("v", "read")),
        ("weights", ("model and ema", "read")),
    ] {
        assert_eq!(setting(&said, what), expected);
    }
    // The self-condition stands before the image.
    let names = [("x", "x"), ("t", "t")];
    predicts(&place, "lucidrains-io.safetensors", &names, &[], "y", 1e-5);
    let said = draws(&place, &["--steps", "1"]);
    assert_eq!(said["sample"]["sampler"]["kind"], "ddpm");
    let seen = place.ddpm(["inspect", "run", "--json"]).done().json();
    assert_eq!(seen["model"]["step"], 10);
    let sets = [
        "train.batch=2",
        "train.steps=1",
        "train.sample_every=0",
        "sample.count=1",
        "objective.self_condition=0.5",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let train = ["train", "--device", "cpu", "--init", "run", "--run", "on"];
    let train = train.into_iter().chain(sets);
    place.ddpm(train).done();
    let config = fs::read_to_string(place.path("on/config.toml")).unwrap();
    assert!(config.contains("kind = \"lucidrains\""), "{config}");
}

#[test]
fn other_files_of_lucidrains_are_refused_in_a_sentence() {
    let place = Sandbox::new();
    // {"version": …, "model": {"model.init_conv.weight": None}}
    let older = |version: &str| {
        let parts = [
            b"\x80\x02}(".to_vec(),
            text("version"),
            text(version),
            text("model"),
            b"}(".to_vec(),
            text("model.init_conv.weight"),
            b"Nuu.".to_vec(),
        ];
        archive(&parts.concat(), &[], CompressionMethod::Stored).unwrap()
    };
    place.file("older.pt", older("1.11.0"));
    let words = ["older.pt", "1.11.0", "version 2"];
    import(&place, "older.pt", &["--size", "8"]).failed(4, &words);
    place.file("empty.pt", older("2.0.0"));
    let words = ["empty.pt", "`init_conv.weight` is missing"];
    import(&place, "empty.pt", &["--size", "8"]).failed(4, &words);
    let whole = fs::read(fixture("lucidrains.pt")).unwrap();
    place.file("cut.pt", &whole[..whole.len() / 2]);
    import(&place, "cut.pt", &["--size", "8"]).failed(4, &["cut.pt"]);
    assert!(!place.path("run").exists());
}
