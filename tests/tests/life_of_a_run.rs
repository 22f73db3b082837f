//! Training, stopping, resuming, sampling, inspecting.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use ddpm_store::TensorFile;
use ddpm_tests::Sandbox;

fn weights(run: &Path, step: u64, kind: &str) -> Vec<u8> {
    let path = run
        .join(format!("checkpoints/step-{step}"))
        .join(kind)
        .join("diffusion_pytorch_model.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            // The one figure that is a clock's.
            line.as_object_mut()
                .unwrap()
                .remove("images_per_s")
                .unwrap();
            line
        })
        .collect()
}

#[test]
fn a_run_leaves_what_it_promises() {
    let place = Sandbox::new();
    let ended = place.train_tiny("run", &[]).done();
    let json = ended.json();
    assert_eq!(
        (&json["step"], &json["stopped"]),
        (&6.into(), &false.into())
    );
    let run = place.path("run");
    for file in [
        "config.toml",
        "run.json",
        "metrics.jsonl",
        "checkpoints/step-4/manifest.json",
        "checkpoints/step-6/manifest.json",
        "checkpoints/step-6/ema/config.json",
        "checkpoints/step-6/optimiser.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let lines = metrics(&run);
    assert_eq!(lines.len(), 6);
    for line in &lines {
        for key in [
            "step",
            "loss",
            "grad_norm",
            "lr",
            "loss_by_t",
            "images_seen",
            "ema_decay",
        ] {
            assert!(!line[key].is_null(), "{key}: {line}");
        }
    }
    let grid = std::fs::read_dir(run.join("samples"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let bytes = std::fs::read(grid.path()).unwrap();
    assert_eq!(&bytes[1..4], b"PNG");
}

#[test]
fn one_seed_is_one_run() {
    let place = Sandbox::new();
    for run in ["a", "b"] {
        place.train_tiny(run, &[]).done();
    }
    place.train_tiny("c", &["--seed", "7"]).done();
    let [a, b, c] = ["a", "b", "c"].map(|run| place.path(run));
    assert_eq!(weights(&a, 6, "unet"), weights(&b, 6, "unet"));
    assert_eq!(weights(&a, 6, "ema"), weights(&b, 6, "ema"));
    assert_eq!(metrics(&a), metrics(&b));
    assert_ne!(weights(&a, 6, "unet"), weights(&c, 6, "unet"));
}

#[test]
fn resuming_is_as_if_nothing_had_happened() {
    let place = Sandbox::new();
    // The recipe's learning rate follows the length of the run, so the halves are of one plan:
    // constant after the warm-up.
    let constant = ["--set", "optim.decay=constant"];
    place.train_tiny("whole", &constant).done();
    place
        .train_tiny(
            "parts",
            &[constant[0], constant[1], "--set", "train.steps=4"],
        )
        .done();
    place
        .ddpm([
            "train",
            "--resume",
            "--run",
            "parts",
            "--device",
            "cpu",
            "--set",
            "train.steps=6",
        ])
        .done();
    let [whole, parts] = ["whole", "parts"].map(|run| place.path(run));
    for kind in ["unet", "ema"] {
        assert_eq!(weights(&whole, 6, kind), weights(&parts, 6, kind), "{kind}");
    }
    let moments =
        |run: &Path| std::fs::read(run.join("checkpoints/step-6/optimiser.safetensors")).unwrap();
    assert_eq!(moments(&whole), moments(&parts));
    assert_eq!(metrics(&whole), metrics(&parts));
}

#[cfg(unix)]
#[test]
fn a_signal_stops_a_run_that_can_be_resumed() {
    for signal in ["-TERM", "-INT"] {
        let place = Sandbox::new();
        let mut args = ddpm_tests::tiny("run");
        for set in ["train.steps=100000", "train.checkpoint_every=0"] {
            args.extend(["--set".to_owned(), set.to_owned()]);
        }
        let child = place
            .command(&args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let log = place.path("run/metrics.jsonl");
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 2) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let id = child.id().to_string();
        let killed = std::process::Command::new("kill")
            .args([signal, &id])
            .status()
            .unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{signal}: {stderr}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let step = json["step"].as_u64().unwrap();
        assert!(json["stopped"].as_bool().unwrap() && step > 2);

        let more = (step + 2).to_string();
        let resumed = place
            .ddpm([
                "train",
                "--json",
                "--resume",
                "--device",
                "cpu",
                "--run",
                "run",
                "--set",
                &format!("train.steps={more}"),
            ])
            .done();
        assert_eq!(resumed.json()["step"], step + 2);
        let steps: Vec<u64> = metrics(&place.path("run"))
            .iter()
            .map(|line| line["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, (1..=step + 2).collect::<Vec<_>>());
    }
}

#[test]
fn another_configuration_does_not_resume() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    place
        .ddpm([
            "train",
            "--resume",
            "--run",
            "run",
            "--set",
            "model.channels=16",
        ])
        .failed(2, &["`model.channels` was 8 and is 16", "run"]);
    place
        .ddpm(["train", "--resume", "--run", "run", "--seed", "5"])
        .failed(2, &["`seed` was 0 and is 5"]);
    // A finished run that is resumed is finished still.
    place
        .ddpm(["train", "--resume", "--run", "run", "--device", "cpu"])
        .done();
    // A run is not overwritten.
    place.train_tiny("run", &[]).failed(2, &["run", "--resume"]);
}

#[test]
fn sampling_does_not_depend_on_the_batch() {
    let place = Sandbox::new();
    place.train_tiny("runs/tiny-001", &[]).done();
    let sample = |more: &[&str]| {
        let args = [
            "sample",
            "--device",
            "cpu",
            "--steps",
            "3",
            "--sampler",
            "ddim",
        ];
        place.ddpm(args.iter().chain(more)).done()
    };
    // Without --model: the latest run. Five images one by one, or all at once.
    sample(&[
        "-n",
        "5",
        "--batch",
        "5",
        "--out",
        "all",
        "--animate",
        "all/denoising.gif",
    ]);
    sample(&["-n", "5", "--batch", "2", "--out", "pairs"]);
    sample(&[
        "-n", "3", "--batch", "1", "--out", "few", "--grid", "few.png",
    ]);
    sample(&["-n", "3", "--batch", "1", "--out", "other", "--seed", "1"]);
    let mut names: Vec<_> = std::fs::read_dir(place.path("all"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let images: Vec<&String> = names
        .iter()
        .filter(|name| !name.starts_with("grid") && name.ends_with("png"))
        .collect();
    assert_eq!(images.len(), 5, "{names:?}");
    let bytes = |folder: &str, name: &str| std::fs::read(place.path(folder).join(name)).unwrap();
    for name in &images {
        assert_eq!(bytes("all", name), bytes("pairs", name), "{name}");
    }
    for name in &images[..3] {
        assert_eq!(bytes("all", name), bytes("few", name), "{name}");
        assert_ne!(bytes("all", name), bytes("other", name), "{name}");
    }
    assert_eq!(&bytes("all", "denoising.gif")[..6], b"GIF89a");
    assert!(place.path("few.png").is_file() && !place.path("few/grid.png").exists());
    // A checkpoint is a model too, and DDPM a sampler.
    place
        .ddpm([
            "sample",
            "--model",
            "runs/tiny-001/checkpoints/step-4",
            "-n",
            "2",
            "--steps",
            "4",
            "--sampler",
            "ddpm",
            "--grid",
            "g.png",
        ])
        .done();
}

#[test]
fn inspect_and_predict() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    let text = place.ddpm(["inspect", "run"]).done().stdout;
    for word in [
        "step-6: good",
        "parameters",
        "8x8",
        "cosine, 1,000 steps",
        "eps",
        "residual 8",
    ] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    let json = place
        .ddpm(["inspect", "--json", "run/checkpoints/step-4"])
        .done()
        .json();
    assert_eq!(json["model"]["step"], 4);
    let file = "run/checkpoints/step-6/unet/diffusion_pytorch_model.safetensors";
    let listed = place.ddpm(["inspect", "--json", file]).done().json();
    assert_eq!(
        listed["tensors"].as_array().unwrap().len(),
        json["model"]["tensors"].as_array().unwrap().len()
    );

    let tensor = |name: &str, shape: &[usize]| ddpm_store::NamedTensor {
        name: name.into(),
        shape: shape.into(),
        data: (0..shape.iter().product())
            .map(|i: usize| (i as f32 * 0.7).sin())
            .collect(),
    };
    let write = |name: &str, tensors| TensorFile::new(tensors).write(&place.path(name)).unwrap();
    write(
        "two.safetensors",
        vec![tensor("x", &[2, 1, 8, 8]), tensor("t", &[2])],
    );
    let predict = |input: &str| {
        place.ddpm([
            "predict",
            "--model",
            "run",
            "--input",
            input,
            "--output",
            "y.safetensors",
        ])
    };
    predict("two.safetensors").done();
    let y = TensorFile::read(&place.path("y.safetensors")).unwrap();
    assert_eq!(y.get("y").unwrap().shape, [2, 1, 8, 8]);
    write(
        "grey.safetensors",
        vec![tensor("x", &[2, 3, 8, 8]), tensor("t", &[2])],
    );
    predict("grey.safetensors").failed(4, &["grey.safetensors", "[2, 3, 8, 8]"]);
    write(
        "odd.safetensors",
        vec![tensor("x", &[1, 1, 9, 8]), tensor("t", &[1])],
    );
    predict("odd.safetensors").failed(4, &["9x8", "8x8", "10x8"]);
    write("no-t.safetensors", vec![tensor("x", &[2, 1, 8, 8])]);
    predict("no-t.safetensors").failed(4, &["no-t.safetensors", "`t`"]);
}
