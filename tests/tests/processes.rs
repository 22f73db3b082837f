//! Every process and objective through the binary: trained, stopped, gone on with, sampled by every sampler.

use std::fs;
use std::path::Path;

use ddpm_tests::{OBJECTIVES, Sandbox};

fn set(keys: &[&str]) -> Vec<String> {
    keys.iter()
        .flat_map(|key| ["--set".to_owned(), (*key).to_owned()])
        .collect()
}

fn train(place: &Sandbox, run: &str, keys: &[&str], more: &[&str]) {
    let mut options = set(keys);
    options.extend(more.iter().map(ToString::to_string));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    place.train_tiny(run, &options).done();
}

fn weights(run: &Path, kind: &str) -> Vec<u8> {
    let path = run
        .join("checkpoints/step-6")
        .join(kind)
        .join("diffusion_pytorch_model.safetensors");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_objective_goes_on_with_the_same_bits_and_samples() {
    let place = Sandbox::new();
    for (name, keys) in OBJECTIVES {
        let parts = format!("{name}-parts");
        train(&place, name, keys, &[]);
        train(&place, &parts, keys, &[]);
        // As if it had been killed after step 4.
        fs::remove_dir_all(place.path(&parts).join("checkpoints/step-6")).unwrap();
        place
            .ddpm(["train", "--resume", "--run", &parts, "--device", "cpu"])
            .done();
        for kind in ["unet", "ema"] {
            let [whole, parts] = [*name, &*parts].map(|run| weights(&place.path(run), kind));
            assert!(whole == parts, "{name}: {kind} differs after a resume");
        }
        let line = fs::read_to_string(place.path(name).join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        assert_eq!(line["loss_by_t"].as_array().unwrap().len(), 4, "{name}");
        let ended = place.ddpm([
            "sample", "--model", name, "-n", "2", "--grid", "g.png", "--device", "cpu",
        ]);
        ended.done();
    }
}

#[test]
fn networks_of_edm_go_on_with_the_same_bits_and_sample() {
    let place = Sandbox::new();
    let kinds = [
        ("ddpmpp", "kind = 'edm'"),
        ("ncsnpp", "kind = 'edm'\narch = 'ncsnpp'"),
        ("adm", "kind = 'edm'\narch = 'adm'"),
        ("edm2", "kind = 'edm2'"),
    ];
    for (name, kind) in kinds {
        let recipe = format!(
            "[process]\nkind = 'edm'\nsigma_data = 0.75\n[model]\n{kind}\nchannels = 8\nmultipliers = [1, 2]\n\
             blocks = 1\ndropout = 0.1\nclasses = 'auto'\n[train]\nsteps = 6\nbatch = 4\ncheckpoint_every = 2\n\
             sample_every = 0\n[sample]\nsampler = 'heun'\nsteps = 2\ncount = 4\n"
        );
        place.file("recipe.toml", recipe);
        let parts = format!("{name}-parts");
        for run in [name, &parts] {
            let args = ["train", "recipe.toml", "--run", run, "--device", "cpu"];
            place.ddpm(args).done();
        }
        fs::remove_dir_all(place.path(&parts).join("checkpoints/step-6")).unwrap();
        place
            .ddpm(["train", "--resume", "--run", &parts, "--device", "cpu"])
            .done();
        for kind in ["unet", "ema"] {
            let [whole, parts] = [name, &*parts].map(|run| weights(&place.path(run), kind));
            assert!(whole == parts, "{name}: {kind} differs after a resume");
        }
        let guided = ["--class", "3,7", "--guidance", "2", "--grid", "g.png"];
        let sample = ["sample", "--model", name, "-n", "2", "--device", "cpu"];
        place.ddpm(sample.iter().chain(&guided)).done();
    }
}

#[test]
fn every_sampler_samples_from_every_process() {
    let place = Sandbox::new();
    let listed = place.ddpm(["samplers", "--json"]).done().json();
    let kinds: Vec<String> = listed["samplers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sampler| sampler["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(kinds.len() >= 16, "{kinds:?}");
    train(&place, "discrete", &[], &[]);
    for (name, keys) in &OBJECTIVES[..3] {
        train(&place, name, keys, &[]);
    }
    for process in ["discrete", "vp", "edm", "flow"] {
        for kind in &kinds {
            let sample = [
                "sample",
                "--model",
                process,
                "--sampler",
                kind,
                "--steps",
                "5",
                "-n",
                "2",
            ];
            let out = ["--grid", "g.png", "--json", "--device", "cpu"];
            let ended = place.ddpm(sample.iter().chain(&out));
            if (process, kind.as_str()) == ("flow", "pndm") {
                ended.failed(2, &["pndm", "lms"]);
                continue;
            }
            let said = ended.done().json();
            assert_eq!(said["sample"]["sampler"]["kind"], **kind, "{said}");
        }
    }
}

#[test]
fn what_has_no_meaning_together_is_refused_with_the_reason() {
    let place = Sandbox::new();
    train(&place, "edm", OBJECTIVES[1].1, &[]);
    let sample = |options: &[&str]| {
        let model = [
            "sample", "--model", "edm", "--device", "cpu", "-n", "1", "--grid", "g.png",
        ];
        place.ddpm(model.iter().chain(options))
    };
    sample(&["--spacing", "trailing"]).failed(2, &["trailing spacing", "karras"]);
    sample(&["--sampler", "ddpm", "--set", "sampler.variance=learned"])
        .failed(2, &["learned none"]);
    let heun = |set| sample(&["--sampler", "heun", "--set", set]);
    heun("sampler.variable=time").failed(2, &["process vp"]);
    heun("sampler.s_chrn=3").failed(2, &["s_chrn", "s_churn"]);
    place
        .ddpm([
            "eval", "bpd", "--model", "edm", "-n", "1", "--device", "cpu",
        ])
        .failed(2, &["process edm has none"]);
    for (keys, words) in [
        (
            &["process=edm", "schedule.kind=cosine"][..],
            &["[schedule]", "discrete"][..],
        ),
        (
            &["process=flow", "objective.variance=learned_range"],
            &["objective.variance", "discrete"],
        ),
        (&["objective.bound=hybrid"], &["objective.bound"]),
        (
            &["process=flow", "objective.importance.history=3"],
            &["objective.importance", "discrete"],
        ),
        (
            &["objective.variance=learned", "objective.uncertainty.lr=0.1"],
            &["objective.uncertainty", "bound"],
        ),
        (
            &["process.kind=edm", "process.sigma_mn=1"],
            &["sigma_mn", "sigma_min"],
        ),
        (&["process.shift=3"], &["process", "kind"]),
        (&["objective.error=l3"], &["l3", "pseudo_huber"]),
    ] {
        let mut options = set(keys);
        options.insert(0, "--dry-run".to_owned());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        place.train_tiny("other", &options).failed(2, words);
    }
}

#[test]
fn bits_per_dimension_are_said_with_their_error() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    let eval = [
        "eval", "bpd", "--model", "run", "-n", "3", "--device", "cpu",
    ];
    let said = place.ddpm(eval.iter().chain(&["--json"])).done().json();
    let number = |key: &str| said[key].as_f64().unwrap();
    assert_eq!(said["images"], 3);
    assert!(
        number("bits_per_dim") > 0.0 && number("standard_error") > 0.0,
        "{said}"
    );
    let terms: f64 = said["terms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|term| term.as_f64().unwrap())
        .sum();
    assert!(
        (terms + number("prior") - number("bits_per_dim")).abs() < 1e-6,
        "{said}"
    );
    // An image's bound does not depend on those beside it.
    let alone = place
        .ddpm(eval.iter().chain(&["--batch", "1", "--json"]))
        .done()
        .json();
    for (a, b) in said["per_image"]
        .as_array()
        .unwrap()
        .iter()
        .zip(alone["per_image"].as_array().unwrap())
    {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a - b).abs() < 1e-3 * b.abs(), "{a} {b}");
    }
    let ended = place.ddpm(eval).done();
    assert!(
        ended.stdout.contains("bits per dimension"),
        "{}",
        ended.stdout
    );
}
