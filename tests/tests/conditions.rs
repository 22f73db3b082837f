//! Networks that are told classes: training, sampling by class, guidance.

use std::fs;

use ddpm_tests::{Ended, Sandbox};

/// A run of a second whose network is told which digit an image is.
fn trained(more: &[&str]) -> Sandbox {
    let place = Sandbox::new();
    train(&place, &[&["model.classes=auto"], more].concat());
    place
}

fn train(place: &Sandbox, sets: &[&str]) {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    place.train_tiny("run", &sets).done();
}

fn sample(place: &Sandbox, more: &[&str]) -> Ended {
    let quick = [
        "sample",
        "--model",
        "run",
        "--sampler",
        "ddim",
        "--steps",
        "2",
    ];
    place.ddpm(quick.iter().chain(more))
}

#[test]
fn an_image_of_a_class_is_the_same_in_any_list_and_batch() {
    let place = trained(&[]);
    sample(&place, &["--class", "3:2,7:2", "--out", "both"]).done();
    let one = [
        "--class", "7:2", "--first", "2", "--batch", "1", "--out", "one",
    ];
    sample(&place, &one).done();
    sample(&place, &["--class", "7:4", "--out", "sevens"]).done();
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    for i in 2..4 {
        assert_eq!(
            bytes(&format!("both/0000{i}.png")),
            bytes(&format!("one/0000{i}.png"))
        );
    }
    // The first two are of another class.
    assert_ne!(bytes("both/00000.png"), bytes("sevens/00000.png"));
    assert_eq!(bytes("both/00003.png"), bytes("sevens/00003.png"));
}

#[test]
fn without_a_choice_every_class_has_its_row() {
    let place = trained(&[]);
    let drawn = sample(&place, &["--grid", "all.png", "--json"])
        .done()
        .json();
    // As many of each as come to 64 images at most.
    assert_eq!(drawn["images"], 60);
    let sides = image::image_dimensions(place.path("all.png")).unwrap();
    let row = 6 * 66 + 2;
    assert!(sides.0 > row && sides.1 == 10 * 66 + 2, "{sides:?}");
    sample(&place, &["--class", "0,1", "-n", "6", "--grid", "two.png"]).done();
    let sides = image::image_dimensions(place.path("two.png")).unwrap();
    assert_eq!(sides.1, 2 * 66 + 2);
}

#[test]
fn guidance_changes_images_and_a_scale_of_one_does_not() {
    let place = trained(&[]);
    let draw = |name: &str, more: &[&str]| {
        let options = ["--class", "4", "-n", "2", "--grid", name];
        let options: Vec<&str> = options.iter().chain(more).copied().collect();
        sample(&place, &options).done();
        fs::read(place.path(name)).unwrap()
    };
    let plain = draw("plain.png", &[]);
    assert_eq!(draw("one.png", &["--guidance", "1"]), plain);
    let guided = draw("four.png", &["--guidance", "4"]);
    assert_ne!(guided, plain);
    let nowhere = [
        "--guidance",
        "4",
        "--set",
        "guidance.interval.sigma=[1e8,1e9]",
    ];
    assert_eq!(draw("nowhere.png", &nowhere), plain);
    let early = fs::read_dir(place.path("run/checkpoints")).unwrap();
    let early = early.map(|entry| entry.unwrap().path().display().to_string());
    let early = early.min().unwrap();
    let by = ["--guidance", "8", "--guide-by", &early];
    assert_ne!(draw("by.png", &by), plain);
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    let place = trained(&[]);
    for (options, words) in [
        (
            &["--class", "10"][..],
            &["--class 10", "the classes are 0, 1"][..],
        ),
        (&["--class", "cat"], &["--class cat", "no such class"]),
        (&["--class", "0,1", "-n", "3"], &["--n 3", "evenly"]),
        (&["--guide-by", "run"], &["--guide-by run", "--guidance"]),
        (&["--guidance", "nan"], &["guidance.scale"]),
        (&["--set", "guidance.rescale=2"], &["guidance.rescale"]),
    ] {
        let options: Vec<&str> = ["--grid", "g.png"].iter().chain(options).copied().collect();
        sample(&place, &options).failed(2, words);
        assert!(!place.path("g.png").exists());
    }
    let told = trained(&["condition.dropout=0"]);
    sample(&told, &["--class", "3", "--guidance", "2"]).failed(2, &["condition.dropout"]);
    let untold = Sandbox::new();
    untold.train_tiny("run", &[]).done();
    sample(&untold, &["--class", "3"]).failed(2, &["has no classes"]);
    sample(&untold, &["--guidance", "2"]).failed(2, &["told no classes"]);
}

#[test]
fn names_of_folders_are_names_of_classes() {
    let place = Sandbox::new();
    for (folder, value) in [("cats", 20u8), ("dogs", 200)] {
        fs::create_dir_all(place.path("pets").join(folder)).unwrap();
        for i in 0..4u8 {
            let picture = image::GrayImage::from_pixel(8, 8, image::Luma([value + i]));
            picture
                .save(place.path("pets").join(folder).join(format!("{i}.png")))
                .unwrap();
        }
    }
    train(
        &place,
        &["data.kind=folder", "data.path=pets", "model.classes=auto"],
    );
    let drawn = sample(
        &place,
        &["--class", "dogs:2,cats:1", "--out", "set", "--json"],
    );
    assert_eq!(drawn.done().json()["images"], 3);
    sample(&place, &["--class", "birds"]).failed(2, &["cats, dogs"]);
    let inspected = place.ddpm(["inspect", "run"]).done();
    assert!(inspected.stdout.contains("cats"), "{}", inspected.stdout);
}

#[test]
fn a_conditional_run_resumes_to_the_same_bits_and_keeps_its_classes() {
    let whole = trained(&[]);
    let parts = Sandbox::new();
    train(&parts, &["model.classes=auto", "train.steps=2"]);
    let resumed = [
        "train",
        "--resume",
        "--run",
        "run",
        "--set",
        "train.steps=6",
        "--device",
        "cpu",
    ];
    parts.ddpm(resumed).done();
    let draw = |place: &Sandbox| {
        sample(place, &["--class", "all", "-n", "10", "--grid", "g.png"]).done();
        fs::read(place.path("g.png")).unwrap()
    };
    assert_eq!(draw(&whole), draw(&parts));
    parts
        .ddpm([
            "train",
            "--resume",
            "--run",
            "run",
            "--set",
            "condition.dropout=0.5",
        ])
        .failed(2, &["condition.dropout"]);
}

#[test]
fn a_run_that_is_told_its_augmentation_resumes_to_the_same_bits_and_draws_without_any() {
    let edm = [
        "augment.edm=0.5",
        "augment.vertical_flip=true",
        "augment.crop=0.8",
        "augment.jitter.contrast=0.1",
    ];
    let whole = trained(&edm);
    let parts = Sandbox::new();
    let begun = [&["model.classes=auto", "train.steps=2"], &edm[..]].concat();
    train(&parts, &begun);
    let resumed = ["train", "--resume", "--run", "run", "--device", "cpu"];
    parts
        .ddpm([&resumed[..], &["--set", "train.steps=6"]].concat())
        .done();
    let draw = |place: &Sandbox, guidance: &str| {
        let guided = [
            "--class",
            "all",
            "-n",
            "10",
            "--grid",
            "g.png",
            "--guidance",
            guidance,
        ];
        sample(place, &guided).done();
        fs::read(place.path("g.png")).unwrap()
    };
    for guidance in ["1", "2"] {
        assert_eq!(draw(&whole, guidance), draw(&parts, guidance));
    }
    let change = [&resumed[..], &["--set", "augment.edm=0.1"]].concat();
    parts
        .ddpm(change)
        .failed(2, &["`augment.edm` was 0.5 and is 0.1"]);
}

#[test]
fn edits_are_led_to_a_class() {
    let place = trained(&[]);
    sample(&place, &["--class", "4", "-n", "1", "--out", "mine"]).done();
    let vary = |name: &str, more: &[&str]| {
        let edit = ["edit", "vary", "mine/00000.png", "--model", "run"];
        let draw = [
            "--sampler",
            "ddim",
            "--steps",
            "4",
            "-n",
            "2",
            "--out",
            name,
        ];
        let args = [&edit[..], &draw, more].concat();
        place.ddpm(args).done();
        fs::read(place.path(name)).unwrap()
    };
    // Without a class it is the one that stands for none, which guidance leads away from: that leads nowhere.
    let none = vary("none.png", &[]);
    assert_eq!(vary("nowhere.png", &["--guidance", "3"]), none);
    let three = vary("three.png", &["--class", "3"]);
    assert_ne!(three, none);
    assert_ne!(vary("led.png", &["--class", "3", "--guidance", "3"]), three);
    let edit = ["edit", "vary", "mine/00000.png", "--model", "run"];
    place
        .ddpm(edit.iter().chain(&["--class", "10"]))
        .failed(2, &["--class 10"]);
}
