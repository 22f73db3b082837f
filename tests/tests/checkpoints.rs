//! The checkpoints of a run: verified, listed, pruned, gone back to; and what may change at a resume.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use ddpm_tests::Sandbox;

fn steps(run: &Path) -> Vec<u64> {
    let run = ddpm_store::RunDir::open(run).unwrap();
    let infos = ddpm_store::checkpoint::list(&run).unwrap();
    infos.iter().map(|info| info.step).collect()
}

fn resume<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let args = [
        "train", "--resume", "--json", "--device", "cpu", "--run", "run",
    ];
    args.iter().chain(more).copied().collect()
}

#[test]
fn verify_list_and_prune() {
    let place = Sandbox::new();
    let more = [
        "--set",
        "train.steps=12",
        "--set",
        "train.keep=4",
        "--set",
        "train.keep_every=4",
    ];
    place.train_tiny("run", &more).done();
    let run = place.path("run");
    assert_eq!(steps(&run), [4, 6, 8, 10, 12]);

    let verified = place.ddpm(["checkpoint", "verify", "run"]).done();
    assert_eq!(
        verified.stdout.matches(" sound ").count(),
        5,
        "{}",
        verified.stdout
    );
    assert!(verified.stdout.contains("goes on from step 12"));
    let listed = place
        .ddpm(["checkpoint", "list", "run", "--json"])
        .done()
        .json();
    assert_eq!(listed["checkpoints"][4]["step"], 12);
    assert_eq!(listed["checkpoints"][4]["images_seen"], 48);

    std::fs::write(run.join("checkpoints/step-12/state.json"), "{}").unwrap();
    let damaged = place.ddpm(["checkpoint", "verify", "run", "--json"]);
    assert_eq!(damaged.code, Some(4), "{}", damaged.stderr);
    assert_eq!(damaged.json()["damaged"], 1);
    assert_eq!(damaged.json()["resumes_from"], 10);
    place
        .ddpm(["checkpoint", "verify", "run/checkpoints/step-10"])
        .done();

    // The damaged one is left alone unless all is to go; step 4 and 8 are kept for good.
    place
        .ddpm(["checkpoint", "prune", "run", "--keep", "1"])
        .done();
    assert_eq!(steps(&run), [4, 8, 10, 12]);
    let all = [
        "checkpoint",
        "prune",
        "run",
        "--keep",
        "1",
        "--keep-every",
        "0",
        "--all",
    ];
    let pruned = place.ddpm(all).done();
    assert!(pruned.stdout.contains("kept steps 10"), "{}", pruned.stdout);
    assert_eq!(steps(&run), [10]);
    place
        .ddpm(["checkpoint", "prune", "run", "--keep", "0"])
        .failed(2, &["--keep 0"]);
    place
        .ddpm(["checkpoint", "list", "nowhere"])
        .failed(4, &["nowhere"]);
}

#[test]
fn a_run_goes_back_on_purpose() {
    let place = Sandbox::new();
    place.train_tiny("run", &["--set", "train.keep=9"]).done();
    place
        .ddpm(resume(&["--from", "3"]))
        .failed(4, &["step-3", "2, 4, 6"]);
    place
        .ddpm(["train", "--from", "2"])
        .failed_usage(&["--resume"]);
    let run = place.path("run");
    let before = std::fs::read(run.join("checkpoints/step-6/optimiser.safetensors")).unwrap();
    let ended = place.ddpm(resume(&["--from", "2"])).done();
    assert_eq!(ended.json()["step"], 6);
    // The same steps again: the same numbers. What was there before is kept beside.
    let again = std::fs::read(run.join("checkpoints/step-6/optimiser.safetensors")).unwrap();
    assert_eq!(again, before);
    assert_eq!(steps(&run), [2, 4, 6]);
    assert!(
        run.join("checkpoints/superseded/step-6/manifest.json")
            .is_file()
    );
    let lines = ddpm_store::read_metrics(&run.join("metrics.jsonl")).unwrap();
    let logged: Vec<u64> = lines
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(logged, [1, 2, 3, 4, 5, 6]);
    place.ddpm(["checkpoint", "prune", "run", "--all"]).done();
    assert!(!run.join("checkpoints/superseded").exists());
}

#[test]
fn a_resume_says_what_changed_and_takes_other_lengths() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    let ended = place
        .ddpm(resume(&[
            "--set",
            "train.steps=8",
            "--set",
            "optim.lr=1e-3",
        ]))
        .done();
    assert_eq!(ended.json()["step"], 8);
    for change in [
        "`train.steps` was 6 and is 8",
        "`optim.lr` was 0.002 and is 0.001",
    ] {
        assert!(ended.stderr.contains(change), "{}", ended.stderr);
    }
    let refused = [
        ("seed=1", "`seed` was 0 and is 1"),
        ("model.blocks=2", "`model.blocks` was 1 and is 2"),
        ("objective.prediction=v", "`objective.prediction`"),
        ("data.flip=true", "`data.flip` was false and is true"),
        ("augment.crop=0.9", "`augment.crop` was unset and is 0.9"),
    ];
    for (set, words) in refused {
        place
            .ddpm(resume(&["--set", set]))
            .failed(2, &["run", words, "--resume"]);
    }
}

/// The folder moved, which is no matter; then an image was taken out, which is.
#[test]
fn images_are_known_again() {
    let place = Sandbox::new();
    let image = |folder: &str, name: &str, shade: u8| {
        let pixels: Vec<f32> = (0..64)
            .map(|i| f32::from(shade) / 128.0 - 1.0 + i as f32 / 200.0)
            .collect();
        let batch = ddpm_store::ImageBatch::new(pixels, [1, 1, 8, 8]).unwrap();
        let grid = batch.grid(ddpm_store::GridOptions::default()).unwrap();
        grid.save_png(&place.path(folder).join(name)).unwrap();
    };
    for i in 0..9 {
        image("first", &format!("{i}.png"), 20 * i);
    }
    let from = |folder: &str| format!("data.path={folder}");
    let first = from("first");
    let more = [
        "--set",
        "data.kind=folder",
        "--set",
        &first,
        "--set",
        "data.size=8",
        "--set",
        "data.channels=1",
    ];
    place.train_tiny("run", &more).done();
    std::fs::rename(place.path("first"), place.path("second")).unwrap();
    let second = from("second");
    let longer = ["--set", &second, "--set", "train.steps=7"];
    let moved = place.ddpm(resume(&longer)).done();
    // A run keeps the whole path, so that it goes on from any folder.
    let whole = ["first", "second"].map(|name| place.path(name).display().to_string());
    let change = format!("`data.path` was {:?} and is {:?}", whole[0], whole[1]);
    assert!(moved.stderr.contains(&change), "{}", moved.stderr);
    std::fs::remove_file(place.path("second/4.png")).unwrap();
    place
        .ddpm(resume(&["--set", &second, "--set", "train.steps=9"]))
        .failed(3, &["step-7", "another set of images", "8 images"]);
}

#[test]
fn an_average_of_random_weights_is_said_to_be_one() {
    let place = Sandbox::new();
    let slow = ["--set", "ema.decay=0.99", "--set", "ema.min_decay=0.99"];
    let trained = place.train_tiny("run", &slow).done();
    let warning =
        "after 6 updates 94% of the averaged weights (EMA) are still the initial, random ones";
    assert!(trained.stderr.contains(warning), "{}", trained.stderr);
    let sample = |more: &[&str]| {
        let args = [
            "sample", "--model", "run", "-n", "1", "--steps", "2", "--out", "drawn",
        ];
        place.ddpm(args.iter().chain(more)).done()
    };
    assert!(sample(&[]).stderr.contains(warning));
    let first = std::fs::read(place.path("drawn.png")).unwrap();
    assert!(!sample(&["--weights", "raw"]).stderr.contains("random"));
    assert_ne!(std::fs::read(place.path("drawn.png")).unwrap(), first);
    // The default warm-up forgets the initial weights at once.
    let warm = Sandbox::new();
    assert!(!warm.train_tiny("run", &[]).done().stderr.contains("random"));
}

/// The loss of step 9 is made to be 50 where it is about 1.
#[test]
fn jumps_of_the_loss_follow_the_policy() {
    for (policy, said, logged) in [("off", false, 0), ("clip", false, 0), ("skip", true, 1)] {
        let place = Sandbox::new();
        let spike = format!("guard.spike={policy}");
        let mut args = ddpm_tests::tiny("run");
        for set in [
            &spike,
            "guard.spike_window=8",
            "guard.spike_factor=4",
            "train.steps=12",
        ] {
            args.extend(["--set".to_owned(), set.to_owned()]);
        }
        let output = place
            .faulty(&args)
            .env("DDPM_POISON", "loss:50:9")
            .output()
            .unwrap();
        let ended = ddpm_tests::Ended::from(output).done();
        assert_eq!(
            ended.stderr.contains("step 9: the loss jumped"),
            said,
            "{policy}: {}",
            ended.stderr
        );
        let skips = ddpm_store::read_metrics(&place.path("run/skips.jsonl")).unwrap();
        assert_eq!(skips.len(), logged, "{policy}");
        if policy == "skip" {
            assert_eq!(skips[0]["cause"], "spike");
            assert_eq!(skips[0]["images"].as_array().unwrap().len(), 4);
        }
        let lines = ddpm_store::read_metrics(&place.path("run/metrics.jsonl")).unwrap();
        let jumped = lines
            .iter()
            .any(|line| line["loss"].as_f64().unwrap() > 40.0);
        assert_eq!(jumped, policy != "skip", "{policy}");
    }
}
