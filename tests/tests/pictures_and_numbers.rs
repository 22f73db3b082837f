//! Networks that are told more than a class: numbers of a table, and pictures that images are made from.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;

use ddpm_tests::{Ended, Sandbox};
use image::{Rgb, RgbImage};

const DDIM: [&str; 4] = ["--sampler", "ddim", "--steps", "3"];

fn train(place: &Sandbox, run: &str, sets: &[&str]) -> Ended {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    place.train_tiny(run, &sets)
}

fn ddpm(place: &Sandbox, args: &[&str]) -> Ended {
    place.ddpm(args.iter().chain(&DDIM).chain(&["--device", "cpu"]))
}

/// Eight pictures in colours, the larger their number the brighter, with a table of it.
fn bright(place: &Sandbox) {
    fs::create_dir_all(place.path("set")).unwrap();
    let mut table = String::from("file_name,light,name\n");
    for i in 0..8u8 {
        let colour = Rgb([30 * i, 200, 255 - 30 * i]);
        let file = format!("{i}.png");
        RgbImage::from_pixel(8, 8, colour)
            .save(place.path("set").join(&file))
            .unwrap();
        table += &format!("{file},{},n{i}\n", f64::from(i) / 10.0);
    }
    place.file("set/labels.csv", table);
}

const SET: [&str; 2] = ["data.kind=folder", "data.path=set"];

#[test]
fn numbers_of_a_table_are_told_and_asked_for_by_name() {
    let place = Sandbox::new();
    bright(&place);
    train(
        &place,
        "run",
        &[&SET[..], &["condition.columns=['light']"]].concat(),
    )
    .done();
    let draw = |more: &[&str], name: &str| {
        let sample = ["sample", "--model", "run", "-n", "2", "--grid", name];
        ddpm(&place, &[&sample[..], more].concat()).done();
        fs::read(place.path(name)).unwrap()
    };
    let dark = draw(&["--numbers", "light=0"], "dark.png");
    assert_ne!(draw(&["--numbers", "light=0.7"], "light.png"), dark);
    assert_ne!(draw(&[], "none.png"), dark);
    assert_eq!(draw(&["--numbers", " light = 0.0"], "again.png"), dark);
    assert_ne!(
        draw(&["--numbers", "light=0", "--guidance", "3"], "guided.png"),
        dark
    );
    for (numbers, word) in [
        ("dark=1", "there are light"),
        ("light", "light=0"),
        ("light=high", "is no number"),
    ] {
        let args = ["sample", "--model", "run", "--numbers", numbers];
        ddpm(&place, &args).failed(2, &["--numbers", word]);
    }
    let shown = place.ddpm(["inspect", "run"]).done();
    assert!(shown.stdout.contains("light"), "{}", shown.stdout);
    let vary = [
        "edit",
        "vary",
        "set/1.png",
        "--model",
        "run",
        "--out",
        "v.png",
    ];
    ddpm(&place, &[&vary[..], &["--numbers", "light=0.1"]].concat()).done();
    let bpd = [
        "eval", "bpd", "--model", "run", "-n", "2", "--device", "cpu",
    ];
    place.ddpm(bpd).done();
}

#[test]
fn columns_that_cannot_be_told_are_refused_by_name() {
    let place = Sandbox::new();
    bright(&place);
    for (column, word) in [("name", "the columns light"), ("age", "the columns light")] {
        let set = format!("condition.columns=['{column}']");
        train(&place, "run", &[&SET[..], &[&set]].concat()).failed(2, &[column, word]);
    }
    train(&place, "run", &["condition.columns=['light']"]).failed(2, &["labels.csv"]);
    place.file("set/labels.csv", "file_name,light\n0.png,1\n1.png,2\n");
    train(
        &place,
        "run",
        &[&SET[..], &["condition.columns=['light']"]].concat(),
    )
    .failed(2, &["no number of 2.png"]);
    train(
        &place,
        "run",
        &[
            &SET[..],
            &["condition.columns=['light']", "condition.dropout=0"],
        ]
        .concat(),
    )
    .failed(2, &["light"]);
    assert!(!place.path("run/checkpoints").exists());
}

#[test]
fn a_run_that_is_told_numbers_goes_on_to_the_same_bits() {
    let whole = Sandbox::new();
    let parts = Sandbox::new();
    let sets = [&SET[..], &["condition.columns=['light']"]].concat();
    for (place, more) in [(&whole, None), (&parts, Some("train.steps=2"))] {
        bright(place);
        let sets: Vec<&str> = sets.iter().copied().chain(more).collect();
        train(place, "run", &sets).done();
    }
    let resume = ["train", "--resume", "--run", "run", "--device", "cpu"];
    parts
        .ddpm(resume.iter().chain(&["--set", "train.steps=6"]))
        .done();
    let draw = |place: &Sandbox| {
        let sample = ["sample", "--model", "run", "-n", "2", "--grid", "g.png"];
        ddpm(place, &[&sample[..], &["--numbers", "light=0.4"]].concat()).done();
        fs::read(place.path("g.png")).unwrap()
    };
    assert_eq!(draw(&whole), draw(&parts));
    // Other numbers beside the same images make another set.
    let table = fs::read_to_string(parts.path("set/labels.csv")).unwrap();
    parts.file("set/labels.csv", table.replace("7.png,0.7", "7.png,0.9"));
    parts
        .ddpm(resume.iter().chain(&["--set", "train.steps=8"]))
        .failed(3, &["another set of images"]);
}

#[test]
fn small_pictures_are_enlarged_and_cascades_draw_them() {
    let place = Sandbox::new();
    let sets = [
        "condition.kind=low_resolution",
        "condition.factor=2",
        "condition.noise=0.5",
    ];
    train(&place, "large", &sets).done();
    // A run's own grid shows each picture before what is made of it.
    let grids = fs::read_dir(place.path("large/samples")).unwrap();
    let grid = grids.map(|entry| entry.unwrap().path()).max().unwrap();
    let (width, height) = image::image_dimensions(grid).unwrap();
    assert_eq!((width - 2) / 66 % 2, 0, "{width} {height}");
    for i in 0..2u8 {
        RgbImage::from_fn(4, 4, |x, y| Rgb([(60 * x + 9 * y) as u8 + i; 3]))
            .save(place.path(format!("{i}.png")))
            .unwrap();
    }
    let edit = |more: &[&str]| {
        ddpm(
            &place,
            &[&["edit", "enlarge", "--model", "large"], more].concat(),
        )
    };
    let pixels = |path: &str| fs::read(place.path(path)).unwrap();
    edit(&["0.png", "1.png", "-n", "2", "--out", "all"]).done();
    edit(&["0.png", "-n", "2", "--batch", "1", "--out", "one"]).done();
    for name in ["00000.png", "00001.png"] {
        assert_eq!(
            pixels(&format!("all/{name}")),
            pixels(&format!("one/{name}"))
        );
    }
    assert_ne!(pixels("all/00002.png"), pixels("all/00000.png"));
    edit(&["0.png", "--noise", "0.4", "--out", "noisy"]).done();
    assert_ne!(pixels("noisy/00000.png"), pixels("one/00000.png"));

    train(&place, "small", &["data.size=4", "model.attention_at=[]"]).done();
    let cascade = [
        "--from", "small", "-n", "3", "--noise", "0.2", "--out", "cascade",
    ];
    edit(&cascade).done();
    let small = ["sample", "--model", "small", "-n", "3", "--out", "drawn"];
    place.ddpm(small.iter().chain(&["--device", "cpu"])).done();
    let by_hand = ["drawn/00000.png", "drawn/00001.png", "drawn/00002.png"];
    edit(&[&by_hand[..], &["--noise", "0.2", "--out", "by-hand"]].concat()).done();
    for i in 0..3 {
        let of = |folder: &str| {
            let path = place.path(format!("{folder}/0000{i}.png"));
            image::open(path).unwrap().to_luma8().into_raw()
        };
        // Files hold whole grey levels, a cascade's pictures do not.
        let (a, b) = (of("cascade"), of("by-hand"));
        let far = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far <= Some(4), "{far:?}");
    }

    edit(&["0.png", "--noise", "0.6"]).failed(2, &["--noise 0.6", "0 to 0.5"]);
    edit(&["--from", "large"]).failed(2, &["ddpm edit enlarge"]);
    edit(&[]).failed_usage(&["IMAGE"]);
    ddpm(&place, &["sample", "--model", "large"]).failed(2, &["ddpm edit enlarge"]);
    ddpm(&place, &["edit", "vary", "0.png", "--model", "large"]).failed(2, &["ddpm edit enlarge"]);
    ddpm(&place, &["edit", "colourise", "0.png", "--model", "large"])
        .failed(2, &["small pictures"]);
    ddpm(&place, &["edit", "enlarge", "0.png", "--model", "small"])
        .failed(2, &["condition.kind=low_resolution"]);
    train(
        &place,
        "wrong",
        &[
            "data.size=6",
            "model.attention_at=[]",
            "model.multipliers=[1]",
        ],
    )
    .done();
    edit(&["--from", "wrong"]).failed(2, &["1×6×6", "1×4×4"]);
    place
        .ddpm(["export", "large", "out", "--json"])
        .failed(4, &["_vector_dim"]);
    place
        .ddpm([
            "eval", "bpd", "--model", "large", "-n", "2", "--device", "cpu",
        ])
        .done();
}

#[test]
fn grey_pictures_get_colours() {
    let place = Sandbox::new();
    bright(&place);
    train(
        &place,
        "run",
        &[&SET[..], &["condition.kind=gray"]].concat(),
    )
    .done();
    let edit = [
        "edit",
        "colourise",
        "--model",
        "run",
        "set/0.png",
        "set/7.png",
        "--out",
        "out",
    ];
    ddpm(&place, &edit).done();
    let drawn = image::open(place.path("out/00001.png")).unwrap();
    assert_eq!(drawn.color().channel_count(), 3);
    train(&place, "digits", &["condition.kind=gray"]).failed(2, &["condition.kind", "colours"]);
}
