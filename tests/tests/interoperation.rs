//! Networks that Python's diffusers wrote, through the command line.

use std::fs;
use std::path::{Path, PathBuf};

use ddpm_store::{NamedTensor, TensorFile};
use ddpm_tests::{Ended, Sandbox, repository};
use serde_json::{Value, json};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// A copy of the tiny network below the workplace.
fn network(place: &Sandbox, name: &str) -> PathBuf {
    let fixture = repository().join("tests/fixtures/tiny-unet");
    for file in ["config.json", WEIGHTS] {
        let bytes = fs::read(fixture.join(file)).expect("a fixture");
        place.file(&format!("{name}/{file}"), bytes);
    }
    place.path(name)
}

/// The same with a scheduler.
fn scheduled(place: &Sandbox, name: &str, scheduler: &Value) -> PathBuf {
    let folder = network(place, name);
    let text = scheduler.to_string();
    place.file(&format!("{name}/scheduler_config.json"), text);
    folder
}

/// Four images of a model into `grid.png`.
fn sample(place: &Sandbox, model: &Path, more: &[&str]) -> Ended {
    let model = model.to_str().expect("a path in UTF-8");
    let args = [
        "sample", "--device", "cpu", "-n", "4", "--grid", "grid.png", "--json", "--model", model,
    ];
    place.ddpm(args.iter().chain(more))
}

/// The picture that [`sample`] makes.
fn picture(place: &Sandbox, model: &Path, more: &[&str]) -> Vec<u8> {
    sample(place, model, more).done();
    fs::read(place.path("grid.png")).expect("a picture")
}

#[test]
fn a_scheduler_is_heeded_or_refused() {
    let place = Sandbox::new();
    let model = |name: &str, keys: Value| scheduled(&place, name, &keys);
    for (name, keys, code, words) in [
        (
            "inverted",
            json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": true}),
            4,
            ["scheduler_config.json: `invert_sigmas` is true", ""],
        ),
        (
            "ve",
            json!({"_class_name": "ScoreSdeVeScheduler"}),
            4,
            ["`_class_name`", "ScoreSdeVeScheduler"],
        ),
        (
            "sa",
            json!({"_class_name": "SASolverScheduler"}),
            4,
            ["SASolverScheduler", "--sampler ddim"],
        ),
        (
            "sde",
            json!({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver"}),
            4,
            ["`algorithm_type`", "sde-dpmsolver++"],
        ),
        (
            "negated",
            json!({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}),
            4,
            ["`prediction_type`", "epsilon"],
        ),
        (
            "learned",
            json!({"variance_type": "learned_range"}),
            4,
            ["`out_channels` is 1", "learned variance"],
        ),
        (
            "offset",
            json!({"steps_offset": 7}),
            2,
            ["1006", "use fewer steps"],
        ),
        (
            "zero_leading",
            json!({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true, "prediction_type": "v_prediction"}),
            2,
            ["starts at 980", "linspace"],
        ),
    ] {
        sample(&place, &model(name, keys), &[]).failed(code, &words);
    }
    // A sampler that is chosen is taken, and time steps that are fewer leave room for the offset.
    let few = ["--steps", "4"];
    for chosen in ["sa", "sde"] {
        let chosen = place.path(chosen);
        sample(&place, &chosen, &["--sampler", "ddim", "--steps", "4"]).done();
    }
    let plain = picture(&place, &model("plain", json!({})), &few);
    assert_ne!(picture(&place, &place.path("offset"), &few), plain);
    sample(
        &place,
        &place.path("zero_leading"),
        &["--spacing", "linspace"],
    )
    .done();
    let linspace = json!({
        "rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "timestep_spacing": "linspace"
    });
    let zero = model("zero_linspace", linspace);
    let drawn = picture(&place, &zero, &few);
    assert_ne!(
        drawn,
        picture(&place, &zero, &["--steps", "4", "--spacing", "trailing"])
    );
}

#[test]
fn every_class_draws_by_its_own_sampler() {
    let place = Sandbox::new();
    for (class, sampler, steps) in [
        ("PNDMScheduler", "pndm", 50),
        ("DEISMultistepScheduler", "deis", 50),
        ("DPMSolverMultistepScheduler", "dpm_solver", 50),
        ("DPMSolverSinglestepScheduler", "dpm_singlestep", 50),
        ("UniPCMultistepScheduler", "unipc", 50),
        ("EulerDiscreteScheduler", "euler", 50),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral", 50),
        ("HeunDiscreteScheduler", "heun", 50),
        ("LMSDiscreteScheduler", "lms", 50),
        ("KDPM2DiscreteScheduler", "dpm2", 50),
        ("KDPM2AncestralDiscreteScheduler", "dpm2_ancestral", 50),
        ("EDMEulerScheduler", "euler", 50),
        ("EDMDPMSolverMultistepScheduler", "dpm_solver", 50),
        ("FlowMatchEulerDiscreteScheduler", "euler", 50),
        ("FlowMatchHeunDiscreteScheduler", "heun", 50),
    ] {
        let model = scheduled(&place, class, &json!({"_class_name": class}));
        for (more, steps) in [(&[][..], steps), (&["--steps", "5"], 5)] {
            let said = sample(&place, &model, more).done().json();
            let found = (&said["sample"]["sampler"]["kind"], &said["sample"]["steps"]);
            assert_eq!(found, (&sampler.into(), &steps.into()), "{class}");
        }
    }
    // Levels that are listed for a number of steps are listed anew for another.
    let keys = json!({"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true});
    let listed = scheduled(&place, "listed", &keys);
    let said = sample(&place, &listed, &["--steps", "3"]).done().json();
    let sigmas = said["sample"]["spacing"]["sigmas"].as_array().unwrap();
    assert_eq!(sigmas.len(), 3);
}

#[test]
fn a_checkpoint_is_a_pipeline_that_draws_alike() {
    let place = Sandbox::new();
    for (name, sets, class) in [
        (
            "ddpm",
            &["sample.sampler='ddpm'", "sample.steps=5"][..],
            "DDPMScheduler",
        ),
        (
            "ddim",
            &["sample.sampler={kind='ddim',eta=0.5}", "sample.steps=5"],
            "DDIMScheduler",
        ),
        (
            "solver",
            &["sample.sampler='dpm_solver'", "sample.steps=5"],
            "DPMSolverMultistepScheduler",
        ),
    ] {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        place.train_tiny(name, &sets.collect::<Vec<_>>()).done();
        let checkpoint = place.path(name).join("checkpoints/step-6");
        let pipeline = format!("{name}-pipeline");
        for file in [
            "unet/config.json",
            &format!("unet/{WEIGHTS}"),
            "scheduler/scheduler_config.json",
            "model_index.json",
        ] {
            let bytes = fs::read(checkpoint.join(file)).unwrap();
            place.file(&format!("{pipeline}/{file}"), bytes);
        }
        let index = fs::read_to_string(checkpoint.join("model_index.json")).unwrap();
        assert!(index.contains(class), "{index}");
        let own = picture(&place, &checkpoint, &["--weights", "raw"]);
        assert!(own == picture(&place, &place.path(pipeline), &[]), "{name}");
    }
}

#[test]
fn every_key_of_a_scheduler_changes_the_picture() {
    let place = Sandbox::new();
    let steps = ["--steps", "4"];
    let with = |class: &str, key: &str, value: &Value| {
        let keys = json!({"_class_name": class, key: value});
        picture(&place, &scheduled(&place, "model", &keys), &steps)
    };
    for class in ["DDPMScheduler", "DDIMScheduler"] {
        let plain = with(class, "clip_sample", &json!(true));
        for (key, value) in [
            ("num_train_timesteps", json!(900)),
            ("beta_start", json!(0.01)),
            ("beta_end", json!(0.03)),
            ("beta_schedule", json!("squaredcos_cap_v2")),
            ("trained_betas", json!([0.1, 0.2, 0.3, 0.4, 0.5])),
            ("clip_sample", json!(false)),
            ("clip_sample_range", json!(0.5)),
            ("prediction_type", json!("sample")),
            ("prediction_type", json!("v_prediction")),
            ("timestep_spacing", json!("trailing")),
            ("steps_offset", json!(40)),
            ("set_alpha_to_one", json!(false)),
        ] {
            let changed = with(class, key, &value) != plain;
            // Only DDIM asks where its last step ends.
            let expected = key != "set_alpha_to_one" || class == "DDIMScheduler";
            assert_eq!(changed, expected, "{class} {key} {value}");
        }
    }
}

#[test]
fn the_class_chooses_the_sampler_and_its_steps() {
    let place = Sandbox::new();
    let keys = |class: &str| json!({"_class_name": class, "num_train_timesteps": 60});
    let ddim = scheduled(&place, "ddim", &keys("DDIMScheduler"));
    let said = sample(&place, &ddim, &[]).done().json();
    assert_eq!(said["sample"]["sampler"]["kind"], "ddim", "{said}");
    let own = fs::read(place.path("grid.png")).unwrap();
    assert_eq!(own, picture(&place, &ddim, &["--steps", "50"]));
    let ddpm = scheduled(&place, "ddpm", &keys("DDPMScheduler"));
    let said = sample(&place, &ddpm, &[]).done().json();
    assert_eq!(said["sample"]["sampler"]["kind"], "ddpm", "{said}");
    assert_eq!(
        fs::read(place.path("grid.png")).unwrap(),
        picture(&place, &ddpm, &["--steps", "60"])
    );
}

#[test]
fn latent_pipelines_and_variances_that_nobody_reads_are_refused_by_name() {
    let place = Sandbox::new();
    let folder = network(&place, "latent");
    let index = |index: Value| place.file("latent/model_index.json", index.to_string());
    for part in ["vae", "vqvae", "movq", "text_encoder"] {
        index(json!({"_class_name": "DDPMPipeline", part: ["diffusers", "Any"]}));
        let start = format!("model_index.json: `{part}` is");
        sample(&place, &folder, &["--sampler", "ddim"]).failed(4, &[&start, "autoencoder"]);
    }
    index(json!({"_class_name": "ScoreSdeVePipeline"}));
    sample(&place, &folder, &[]).failed(4, &["ScoreSdeVePipeline"]);

    let folder = network(&place, "learned");
    let text = fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["out_channels"] = 2.into();
    place.file("learned/config.json", config.to_string());
    let mut file = TensorFile::read(&folder.join(WEIGHTS)).unwrap();
    for tensor in &mut file.tensors {
        if tensor.name.starts_with("conv_out.") {
            tensor.shape[0] = 2;
            tensor.data.extend_from_within(..);
        }
    }
    file.write(&folder.join(WEIGHTS)).unwrap();
    sample(&place, &folder, &[]).failed(4, &["`out_channels` is 2", "learned variance"]);
    let learned = json!({"variance_type": "learned_range"});
    place.file("learned/scheduler_config.json", learned.to_string());
    sample(&place, &folder, &["--steps", "4"]).done();
    // The network itself can be evaluated.
    let tensor = |name: &str, shape: &[usize]| NamedTensor {
        name: name.into(),
        shape: shape.to_vec(),
        data: vec![0.5; shape.iter().product()],
    };
    let inputs = vec![tensor("x", &[1, 1, 8, 8]), tensor("t", &[1])];
    TensorFile::new(inputs)
        .write(&place.path("x.safetensors"))
        .unwrap();
    let args = [
        "predict",
        "--device",
        "cpu",
        "--model",
        "learned",
        "--input",
        "x.safetensors",
        "--output",
        "y.safetensors",
    ];
    place.ddpm(args).done();
    let y = TensorFile::read(&place.path("y.safetensors")).unwrap();
    assert_eq!(y.tensors[0].shape, [1, 2, 8, 8]);
}

#[test]
fn numbers_that_are_not_finite_make_no_pictures() {
    let place = Sandbox::new();
    let folder = network(&place, "nan");
    let path = folder.join(WEIGHTS);
    let sound = TensorFile::read(&path).unwrap();
    for (number, code, words) in [
        (f32::NAN, 4, ["safetensors: tensor `conv_in.bias`", "NaN"]),
        (
            f32::INFINITY,
            4,
            ["safetensors: tensor `conv_in.bias`", "inf"],
        ),
        // Finite, but squared by the first normalisation.
        (3e38, 5, ["not finite at sampling step 1 of 40", ""]),
    ] {
        let mut spoilt = sound.clone();
        for tensor in &mut spoilt.tensors {
            if tensor.name == "conv_in.bias" {
                tensor.data[0] = number;
            }
        }
        spoilt.write(&path).unwrap();
        sample(&place, &folder, &["--steps", "40"]).failed(code, &words);
    }
}

#[test]
fn weights_are_found_under_every_name() {
    let place = Sandbox::new();
    let folder = network(&place, "plain");
    let steps = ["--steps", "3"];
    let expected = picture(&place, &folder, &steps);
    let bytes = |file: &str| fs::read(folder.join(file)).unwrap();
    for file in [
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.non_ema.safetensors",
        "model.safetensors",
    ] {
        let other = network(&place, file);
        fs::remove_file(other.join(WEIGHTS)).unwrap();
        sample(&place, &other, &steps).failed(4, &["the weights not found"]);
        place.file(&format!("{file}/{file}"), bytes(WEIGHTS));
        assert_eq!(picture(&place, &other, &steps), expected, "{file}");
    }
    let wrapped = network(&place, "wrapped");
    let mut file = TensorFile::read(&wrapped.join(WEIGHTS)).unwrap();
    for tensor in &mut file.tensors {
        tensor.name.insert_str(0, "_orig_mod.");
    }
    file.write(&wrapped.join(WEIGHTS)).unwrap();
    let config = String::from_utf8(bytes("config.json")).unwrap();
    place.file("wrapped/config.json", format!("\u{feff}{config}"));
    assert_eq!(picture(&place, &wrapped, &steps), expected);
    place.file(
        &format!("wrapped/{WEIGHTS}"),
        "version https://git-lfs.github.com/spec/v1\n",
    );
    sample(&place, &wrapped, &steps).failed(4, &["git lfs pull"]);

    // A checkpoint of diffusers' training script: another moving average beside the trained weights.
    for (part, scale) in [("unet", 1.0), ("unet_ema", 0.5)] {
        let part = network(&place, &format!("checkpoint-500/{part}"));
        let mut file = TensorFile::read(&part.join(WEIGHTS)).unwrap();
        let numbers = file.tensors.iter_mut().flat_map(|tensor| &mut tensor.data);
        numbers.for_each(|number| *number *= scale);
        file.write(&part.join(WEIGHTS)).unwrap();
    }
    let trained = place.path("checkpoint-500");
    assert_eq!(picture(&place, &trained, &steps), expected);
    let ema = picture(&place, &trained, &["--steps", "3", "--weights", "ema"]);
    assert_ne!(ema, expected);
    fs::remove_dir_all(trained.join("unet")).unwrap();
    assert_eq!(picture(&place, &trained, &steps), ema);
}

#[test]
fn a_repository_is_found_in_the_cache() {
    let place = Sandbox::new();
    network(&place, "hub/models--google--ddpm-tiny/snapshots/abc");
    place.file("hub/models--google--ddpm-tiny/refs/main", "abc");
    let run = |variable: &str, value: &str, name: &str| {
        let mut command = place.command(["inspect", name, "--json"]);
        for unset in ["HF_HUB_CACHE", "HF_HOME"] {
            command.env_remove(unset);
        }
        command.env(variable, place.path(value));
        Ended::from(command.output().unwrap())
    };
    for (variable, value) in [("HF_HUB_CACHE", "hub"), ("HF_HOME", "")] {
        let json = run(variable, value, "google/ddpm-tiny").done().json();
        let path = json["model"]["path"].as_str().unwrap();
        assert!(path.ends_with("snapshots/abc"), "{path}");
    }
    let hub = place.path("hub");
    run("HF_HUB_CACHE", "hub", "google/other").failed(
        4,
        &[
            "google/other",
            hub.to_str().unwrap(),
            "hf download google/other",
        ],
    );
}

#[test]
fn predict_is_what_diffusers_computed() {
    let place = Sandbox::new();
    for name in [
        "ho_cifar_like",
        "class_scale_shift_gray",
        "library_defaults",
    ] {
        let folder = repository().join("tests/golden/data/unet").join(name);
        let input = folder.join("io.safetensors");
        let [folder, io] = [&folder, &input].map(|path| path.to_str().unwrap());
        place
            .ddpm([
                "predict",
                "--model",
                folder,
                "--input",
                io,
                "--output",
                "y.safetensors",
                "--device",
                "cpu",
            ])
            .done();
        let y = TensorFile::read(&place.path("y.safetensors")).unwrap();
        let expected = TensorFile::read(&input).unwrap();
        let (y, expected) = (y.get("y").unwrap(), expected.get("y").unwrap());
        assert_eq!(y.shape, expected.shape);
        let square = |x: f64| x * x;
        let pairs = y.data.iter().zip(&expected.data);
        let error: f64 = pairs.map(|(a, b)| square(f64::from(a - b))).sum();
        let size: f64 = expected.data.iter().map(|b| square(f64::from(*b))).sum();
        // Single precision over some forty layers; the layouts and constants are exact.
        assert!((error / size).sqrt() < 1e-4, "{name}");
    }
}

#[test]
fn sample_and_inspect_read_a_diffusers_directory() {
    let place = Sandbox::new();
    let folder = repository().join("tests/golden/data/unet/library_defaults");
    let folder = folder.to_str().unwrap();
    let text = place.ddpm(["inspect", folder]).done().stdout;
    assert!(
        text.contains("UNet2DModel") && text.contains("16x16"),
        "{text}"
    );
    place
        .ddpm([
            "sample",
            "--model",
            folder,
            "-n",
            "2",
            "--sampler",
            "ddim",
            "--steps",
            "2",
            "--grid",
            "g.png",
        ])
        .done();
    let classes = repository().join("tests/golden/data/unet/class_scale_shift_gray");
    place
        .ddpm([
            "sample",
            "--model",
            classes.to_str().unwrap(),
            "--class",
            "11",
        ])
        .failed(2, &["--class 11", "0 to 10"]);
}

#[test]
fn schedule_prints_and_plots() {
    let place = Sandbox::new();
    let ended = place
        .ddpm([
            "schedule",
            "--kind",
            "cosine",
            "--plot",
            "cosine.png",
            "--json",
        ])
        .done()
        .json();
    assert_eq!(ended["alpha_bar"].as_array().unwrap().len(), 1000);
    assert_eq!(
        &std::fs::read(place.path("cosine.png")).unwrap()[1..4],
        b"PNG"
    );
    let text = place.ddpm(["schedule", "--rows", "3"]).done().stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    place
        .ddpm(["schedule", "--steps", "20000"])
        .failed(2, &["20000"]);
}

#[test]
fn devices_are_listed() {
    let place = Sandbox::new();
    let json = place.ddpm(["devices", "--json"]).done().json();
    let cpu = &json["devices"][0];
    assert_eq!(
        (&cpu["feature"], &cpu["devices"][0]["device"]),
        (&"cpu".into(), &"cpu".into())
    );
    assert!(
        cpu["devices"][0]["total_bytes"].as_u64() > Some(0),
        "{json}"
    );
    let text = place.ddpm(["devices"]).done().stdout;
    assert!(text.starts_with("cpu         "), "{text}");
}
