//! `ddpm doctor`: good recipes are found good, each mistake is a line that says what to change, and nothing is
//! written.

use ddpm_tests::{Ended, Sandbox, repository};

/// `ddpm doctor` on the CPU with further arguments; asserts that it leaves the folder as it was.
fn doctor(place: &Sandbox, args: &[&str]) -> Ended {
    let before = listing(place);
    let ended = place.ddpm(["doctor", "--device", "cpu"].iter().chain(args));
    assert_eq!(listing(place), before, "{args:?} wrote something");
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

fn listing(place: &Sandbox) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(place.path("."))
        .expect("the folder")
        .map(|entry| entry.expect("its entry").file_name())
        .collect();
    names.sort();
    names
}

/// The lines with this mark and topic.
fn lines<'a>(ended: &'a Ended, mark: &str, topic: &str) -> Vec<&'a str> {
    let matches = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() == Some(mark) && words.next() == Some(topic)
    };
    ended.stdout.lines().filter(matches).collect()
}

fn recipe(name: &str) -> String {
    let path = repository().join("configs").join(name);
    path.display().to_string()
}

#[test]
fn the_built_in_recipe_is_fine() {
    let place = Sandbox::new();
    let ended = doctor(&place, &[]).done();
    for topic in [
        "schedule",
        "objective",
        "device",
        "data",
        "pixels",
        "network",
        "levels",
        "channels",
        "sampling",
        "length",
        "optimiser",
        "average",
        "rhythm",
        "disk",
        "time",
    ] {
        assert!(
            !lines(&ended, "ok", topic).is_empty(),
            "{topic}: {}",
            ended.stdout
        );
    }
    assert!(!ended.stdout.contains("fail  "), "{}", ended.stdout);
    assert!(ended.stdout.contains("1797 images"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("303,713 parameters"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("the run can begin"),
        "{}",
        ended.stdout
    );
}

#[test]
fn json_has_findings_and_figures() {
    let place = Sandbox::new();
    let sets = ["train.steps=300", "model.attention_at=[4]"];
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let json = doctor(&place, &[&args[..], &["--json"]].concat())
        .done()
        .json();
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.len() > 10, "{json}");
    for finding in findings {
        let level = finding["level"].as_str().unwrap();
        assert!(["ok", "note", "warn"].contains(&level), "{finding}");
        assert!(finding["topic"].is_string() && finding["text"].is_string());
    }
    let figures = &json["figures"];
    assert_eq!(figures["parameters"], 332_225);
    assert_eq!(figures["steps"], 300);
    assert_eq!(figures["levels"][1]["attention"]["tokens"], 16);
    for key in ["step_s", "images_per_s", "run_s", "multiplications"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key}: {figures}");
    }
    let estimate = figures["memory"]["step_bytes"].as_f64().unwrap();
    if let Some(measured) = figures["measured_peak_bytes"].as_f64() {
        let ratio = estimate / measured;
        assert!((0.4..2.5).contains(&ratio), "{estimate} {measured}");
    }
}

#[test]
fn recipes_that_need_nothing_from_outside_are_fine() {
    let place = Sandbox::new();
    let zip = format!(
        "data.path={}",
        repository().join("configs/data/sprites-32.zip").display()
    );
    let (digits, sprites, tutorial) = (
        recipe("digits.toml"),
        recipe("sprites.toml"),
        recipe("tutorial.toml"),
    );
    // Smaller batches only save the time of measuring.
    let cases: [&[&str]; 3] = [
        &[&digits],
        &[&sprites, "--set", &zip, "--set", "train.batch=4"],
        &[
            &tutorial,
            "--set",
            "train.batch=1",
            "--set",
            "sample.count=1",
        ],
    ];
    for args in cases {
        let ended = doctor(&place, args).done();
        assert!(!lines(&ended, "ok", "time").is_empty(), "{}", ended.stdout);
    }
}

#[test]
fn what_can_be_known_without_the_images_is_told() {
    let place = Sandbox::new();
    let ended = doctor(&place, &[&recipe("ddpm-256.toml")]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert!(lines(&ended, "fail", "data")[0].contains("images"));
    assert!(lines(&ended, "ok", "network")[0].contains("113,673,219"));
    assert!(lines(&ended, "note", "time")[0].contains("not measured"));
}

#[test]
fn each_mistake_is_a_line_that_says_what_to_change() {
    let place = Sandbox::new();
    let cases: &[(&[&str], i32, &str, &[&str])] = &[
        (
            &["schedule.kind=linear", "schedule.steps=100"],
            2,
            "schedule",
            &["scale_ends"],
        ),
        (
            &["schedule.kind=linear", "schedule.beta_end=1.5"],
            2,
            "schedule",
            &["beta_end"],
        ),
        (
            &["schedule.zero_terminal_snr=true"],
            2,
            "objective",
            &["eps", "objective.prediction"],
        ),
        (&["optim.lr=-1"], 2, "keys", &["optim.lr", "-1"]),
        (&["sample.steps=2000"], 2, "keys", &["2000"]),
        (&["model.groups=5"], 2, "network", &["groups", "5"]),
        (
            &["model.attention_at=[5]"],
            2,
            "network",
            &["model.attention_at"],
        ),
        (
            &["model.channels=10000000"],
            2,
            "network",
            &["model.channels", "1048576"],
        ),
        (
            &["model.channels=100000"],
            2,
            "memory",
            &["this machine has", "model.channels"],
        ),
        (
            &["model.channels=100000"],
            2,
            "disk",
            &["free", "train.keep"],
        ),
        (
            &["model.channels=128", "train.batch=1048576"],
            2,
            "memory",
            &["train.batch", "train.accumulate"],
        ),
        (
            &["optim.warmup_steps=3000"],
            2,
            "optimiser",
            &["optim.warmup_steps"],
        ),
        (
            &["optim.lr=1e300", "optim.warmup_steps=0"],
            2,
            "time",
            &["diverged", "optim.lr"],
        ),
        (
            &["data.kind=folder", "data.path=nowhere"],
            3,
            "data",
            &["nowhere"],
        ),
        (
            &["data.kind=synthetic", "data.size=1000000"],
            2,
            "data",
            &["data.size"],
        ),
        (
            &[
                "data.kind=synthetic",
                "data.size=16384",
                "data.max_image_pixels=9223372036854775807",
                "data.channels=1",
                "model.attention_at=[]",
            ],
            2,
            "memory",
            &["this machine has"],
        ),
    ];
    for (sets, code, topic, words) in cases {
        let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let ended = doctor(&place, &args);
        assert_eq!(ended.code, Some(*code), "{sets:?}: {}", ended.stdout);
        let found = lines(&ended, "fail", topic).join("\n");
        for word in *words {
            assert!(found.contains(word), "no `{word}` in: {}", ended.stdout);
        }
        let measured = !lines(&ended, "ok", "time").is_empty();
        assert!(!measured, "{}", ended.stdout);
    }
}

#[test]
fn a_device_that_is_not_there_keeps_its_exit_code() {
    let place = Sandbox::new();
    let ended = place.ddpm(["doctor", "--device", "cuda:0"]);
    assert_eq!(ended.code, Some(6), "{}", ended.stdout);
    assert!(lines(&ended, "fail", "device")[0].contains("cuda"));
    place
        .ddpm(["doctor", "--set", "train.stesp=3"])
        .failed(2, &["train.steps"]);
    place
        .ddpm(["doctor", "no-such.toml"])
        .failed(2, &["no-such.toml"]);
}

#[test]
fn several_devices_are_examined_as_a_run_has_them() {
    let place = Sandbox::new();
    let ended = place.ddpm(["doctor", "--devices", "cpu:2"]).done();
    assert!(lines(&ended, "ok", "device")[0].contains("cpu:2, f32"));
    assert!(!lines(&ended, "ok", "time").is_empty());
    let odd = place.ddpm(["doctor", "--devices", "cpu:3"]);
    assert_eq!(odd.code, Some(2), "{}", odd.stdout);
    let found = lines(&odd, "fail", "devices");
    assert!(found[0].contains("train.batch"), "{}", odd.stdout);
}

#[test]
fn what_the_device_does_not_compute_in_is_found() {
    let place = Sandbox::new();
    let ended = doctor(&place, &["--set", "train.precision=f16"]);
    assert_eq!(ended.code, Some(6), "{}", ended.stdout);
    assert!(lines(&ended, "fail", "device")[0].contains("precision f16"));
}

#[test]
fn doubtful_choices_are_warnings() {
    let place = Sandbox::new();
    let cases: &[(&[&str], &str, &str)] = &[
        (
            &["schedule.kind=linear", "schedule.steps=300"],
            "schedule",
            "scale_ends",
        ),
        (
            &["optim.warmup_steps=1200"],
            "optimiser",
            "optim.warmup_steps",
        ),
        (&["optim.lr=0.5"], "optimiser", "optim.lr"),
        (
            &["ema.decay=0.9999", "ema.inv_gamma=1e-6"],
            "average",
            "ema.decay",
        ),
        (
            &["train.steps=10", "optim.warmup_steps=0"],
            "length",
            "train.steps",
        ),
        (
            &[
                "data.kind=synthetic",
                "data.size=64",
                "data.count=2",
                "model.attention_at=[64]",
                "train.batch=1",
                "sample.count=1",
            ],
            "attention",
            "4,096 tokens",
        ),
    ];
    for (sets, topic, word) in cases {
        let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let ended = doctor(&place, &args).done();
        let found = lines(&ended, "warn", topic).join("\n");
        assert!(found.contains(word), "no `{word}` in: {}", ended.stdout);
    }
}

#[test]
fn training_refuses_a_network_that_no_memory_holds() {
    let place = Sandbox::new();
    let train = |channels: &str, more: &[&str]| {
        place.ddpm(
            ["train", "--device", "cpu", "--set", channels]
                .iter()
                .chain(more),
        )
    };
    let words = ["parameters", "this machine has", "model.channels"];
    train("model.channels=100000", &[]).failed(6, &words);
    train("model.channels=100000", &["--dry-run"]).failed(6, &words);
    train("model.channels=10000000", &[]).failed(2, &["model.channels", "10000000"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn a_configuration_that_asks_for_more_than_the_weights_hold_is_refused() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    std::fs::create_dir(place.path("model")).unwrap();
    let ema = place.path("run/checkpoints/step-6/ema");
    for entry in std::fs::read_dir(ema).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.path("model").join(entry.file_name())).unwrap();
    }
    place.ddpm(["inspect", "model"]).done();
    let config = place.path("model/config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    for (key, value) in [
        (
            "block_out_channels",
            serde_json::json!([524_288, 1_048_576]),
        ),
        ("layers_per_block", serde_json::json!(64)),
    ] {
        let was = std::mem::replace(&mut json[key], value);
        std::fs::write(&config, json.to_string()).unwrap();
        let words = ["config.json", "parameters", "numbers"];
        place.ddpm(["inspect", "model"]).failed(4, &words);
        place
            .ddpm(["sample", "--model", "model", "-n", "1", "--size", "8"])
            .failed(4, &words);
        json[key] = was;
    }
}

#[test]
fn snapshots_of_averages_count_on_the_disk() {
    let place = Sandbox::new();
    let bytes = |sets: &[&str]| {
        let mut args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        args.push("--json");
        let figures = doctor(&place, &args).done().json()["figures"].clone();
        let number = |key: &str| {
            figures[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key}: {figures}"))
        };
        (number("checkpoint_bytes"), number("snapshots_bytes"))
    };
    let average = 303_713 * 4;
    let (plain, none) = bytes(&[]);
    assert_eq!(none, 0);
    // 3,000 steps of 750 each: four snapshots of two averages, which every checkpoint holds as well.
    let sets = ["ema.power_function=[0.05,0.1]", "ema.snapshot_every=750"];
    assert_eq!(bytes(&sets), (plain + 2 * average, 8 * average));
}
