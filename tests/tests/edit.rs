//! `ddpm edit`: what each edit writes, keeps and refuses.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::Path;

use ddpm_data::{DataConfig, read_picture};
use ddpm_store::images::Grid;
use ddpm_tests::{Ended, Sandbox};

/// A place with a run, two digits drawn by it, and a mask whose right half is white.
fn trained() -> Sandbox {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    let sample = ["sample", "--model", "run", "-n", "2", "--out", "mine"];
    place.ddpm(sample.iter().chain(&DDIM)).done();
    picture(
        &place,
        "mask.png",
        [8, 8],
        1,
        |_, x, _| if x < 4 { 0 } else { 255 },
    );
    place
}

/// Writes a picture of `[height, width]` whose bytes are a function of row, column and channel.
fn picture(
    place: &Sandbox,
    name: &str,
    [height, width]: [usize; 2],
    channels: usize,
    byte: impl Fn(usize, usize, usize) -> u8,
) {
    let size = height * width * channels;
    let each = (0..size).map(|i| byte(i / channels / width, i / channels % width, i % channels));
    let grid = Grid {
        width,
        height,
        channels,
        pixels: each.collect(),
    };
    grid.save_png(&place.path(name)).unwrap();
}

const DDIM: [&str; 4] = ["--sampler", "ddim", "--steps", "6"];

fn edit(place: &Sandbox, args: &[&str]) -> Ended {
    let model = ["--model", "run", "--device", "cpu"];
    place.ddpm(["edit"].iter().chain(args).chain(&model))
}

/// The pixels of a picture, and its sides.
fn pixels(path: &Path) -> (Vec<f32>, [usize; 2]) {
    let config = DataConfig {
        channels: Some(1),
        ..DataConfig::default()
    };
    let picture = read_picture(path, &config).unwrap();
    (picture.pixels, picture.size)
}

fn of(place: &Sandbox, path: &str) -> Vec<f32> {
    pixels(&place.path(path)).0
}

fn left_half(pixels: &[f32]) -> Vec<f32> {
    pixels.chunks(8).flat_map(|row| row[..4].to_vec()).collect()
}

#[test]
fn painting_in_changes_what_is_white_and_nothing_else() {
    let place = trained();
    let original = of(&place, "mine/00000.png");
    let jumps = ["--jump-length", "2", "--jump-n-sample", "2"];
    for (folder, more) in [
        (
            "repaint",
            [&["--mask", "mask.png"][..], &jumps, &DDIM].concat(),
        ),
        (
            "ancestral",
            [&["--mask", "mask.png", "--steps", "6"][..], &jumps].concat(),
        ),
        (
            "replace",
            [&[
                "--box",
                "0,4,8,4",
                "--method",
                "replace",
                "--sampler",
                "heun",
                "--steps",
                "5",
            ][..]]
            .concat(),
        ),
    ] {
        let painted = |out: &str, batch: &str| {
            let args = [
                "inpaint",
                "mine/00000.png",
                "-n",
                "3",
                "--batch",
                batch,
                "--out",
                out,
                "--json",
            ];
            edit(&place, &[&args[..], &more].concat()).done().json()
        };
        let json = painted(folder, "3");
        assert_eq!(
            (&json["edit"], &json["images"]),
            (&"inpaint".into(), &3.into())
        );
        let results =
            ["00000", "00001", "00002"].map(|name| of(&place, &format!("{folder}/{name}.png")));
        for result in &results {
            assert_eq!(left_half(result), left_half(&original), "{folder}");
            assert_ne!(*result, original, "{folder}");
        }
        assert_ne!(results[0], results[1]);
        // Image, mask and three results in a row of tiles of 64 with gaps of 2.
        assert_eq!(
            pixels(&place.path(format!("{folder}.png"))).1,
            [68, 5 * 66 + 2]
        );
        // A result is the same whatever is drawn with it.
        painted("again", "1");
        for (index, result) in results.iter().enumerate() {
            assert_eq!(of(&place, &format!("again/{index:05}.png")), *result);
        }
        fs::remove_dir_all(place.path("again")).unwrap();
    }
}

#[test]
fn a_strength_of_0_is_the_image_and_of_1_another() {
    let place = trained();
    let original = of(&place, "mine/00000.png");
    let vary = |strength: &str, out: &str| {
        let args = [
            "vary",
            "mine/00000.png",
            "--strength",
            strength,
            "-n",
            "2",
            "--out",
            out,
        ];
        edit(&place, &[&args[..], &DDIM].concat()).done()
    };
    let said = vary("0", "none").stderr;
    assert!(
        said.contains("--strength 0 of 6 steps leaves none"),
        "{said}"
    );
    assert_eq!(of(&place, "none/00001.png"), original);
    vary("0.7", "some");
    vary("1", "all");
    for folder in ["some", "all"] {
        let [a, b] = ["00000", "00001"].map(|name| of(&place, &format!("{folder}/{name}.png")));
        assert!(a != original && a != b, "{folder}");
    }
}

#[test]
fn interpolation_ends_where_sampling_does() {
    let place = trained();
    for seed in ["4", "9"] {
        let out = format!("seed-{seed}");
        let sample = [
            "sample", "--model", "run", "-n", "1", "--seed", seed, "--out", &out,
        ];
        place.ddpm(sample.iter().chain(&DDIM)).done();
    }
    // Without a sampler of its own, as the model's draws noise.
    let seeds = [
        "interpolate",
        "--seeds",
        "4,9",
        "-n",
        "5",
        "--steps",
        "6",
        "--out",
        "seeds",
    ];
    edit(&place, &seeds).done();
    assert_eq!(
        of(&place, "seeds/00000.png"),
        of(&place, "seed-4/00000.png")
    );
    assert_eq!(
        of(&place, "seeds/00004.png"),
        of(&place, "seed-9/00000.png")
    );
    assert_ne!(of(&place, "seeds/00002.png"), of(&place, "seeds/00000.png"));

    let images = [
        "interpolate",
        "mine/00000.png",
        "mine/00001.png",
        "-n",
        "4",
        "--steps",
        "60",
        "--out",
        "images",
    ];
    edit(&place, &images).done();
    // Both images and four results.
    assert_eq!(pixels(&place.path("images.png")).1, [68, 6 * 66 + 2]);
}

#[test]
fn inversion_draws_the_image_again_and_says_how_near_it_is() {
    let place = trained();
    let args = [
        "invert",
        "mine/00000.png",
        "--steps",
        "8",
        "--out",
        "invert.png",
        "--json",
    ];
    let json = edit(&place, &args).done().json();
    let [mean, most] = ["error_mean", "error_max"].map(|key| json[key].as_f64().unwrap());
    assert!(0.0 < mean && mean <= most && most < 0.2, "{mean} {most}");
    // The image, its noise and the image again.
    assert_eq!(pixels(&place.path("invert.png")).1, [68, 3 * 66 + 2]);
    let said = edit(&place, &["invert", "mine/00000.png", "--steps", "5"])
        .done()
        .stdout;
    assert!(said.contains("of 255 from the original"), "{said}");
    assert!(place.path("samples/run-invert.png").is_file());
}

#[test]
fn one_window_is_what_sampling_draws_and_more_make_a_larger_picture() {
    let place = trained();
    let args = [
        &["tile", "--size", "8", "-n", "2", "--out", "one"][..],
        &DDIM,
    ]
    .concat();
    edit(&place, &args).done();
    for name in ["00000", "00001"] {
        assert_eq!(
            of(&place, &format!("one/{name}.png")),
            of(&place, &format!("mine/{name}.png"))
        );
    }
    let large = |more: &[&str], out: &str| {
        let args = [
            &["tile", "--size", "13x20", "-n", "2", "--out", out][..],
            &DDIM,
            more,
        ]
        .concat();
        edit(&place, &args).done();
        pixels(&place.path(format!("{out}/00001.png")))
    };
    let (some, sides) = large(&[], "large");
    assert_eq!(sides, [13, 20]);
    assert_eq!(large(&["--batch", "3"], "small-batches").0, some);
    assert_ne!(large(&["--overlap", "1"], "other-windows").0, some);
}

#[test]
fn outpainting_keeps_the_image_where_it_is_put() {
    let place = trained();
    let original = of(&place, "mine/00000.png");
    for (more, sides, [top, left]) in [
        (&["--size", "12x20"][..], [12, 20], [2, 6]),
        (&["--right", "5", "--top", "3"], [11, 13], [3, 0]),
    ] {
        let args = [
            &["outpaint", "mine/00000.png", "-n", "2", "--out", "wide"][..],
            &DDIM,
            more,
        ]
        .concat();
        edit(&place, &args).done();
        let (found, found_sides) = pixels(&place.path("wide/00001.png"));
        assert_eq!(found_sides, sides);
        let rows = found.chunks(sides[1]).skip(top).take(8);
        let inside: Vec<f32> = rows.flat_map(|row| row[left..left + 8].to_vec()).collect();
        assert_eq!(inside, original);
        assert_ne!(of(&place, "wide/00000.png"), found);
    }
}

#[test]
fn images_of_any_size_and_colour_are_fitted() {
    let place = trained();
    picture(&place, "photo.png", [20, 40], 3, |y, x, channel| {
        [x * 6, y * 12, 90][channel] as u8
    });
    for fit in ["crop", "pad", "stretch"] {
        let args = [
            "vary",
            "photo.png",
            "--strength",
            "0",
            "-n",
            "1",
            "--fit",
            fit,
            "--out",
            fit,
        ];
        edit(&place, &args).done();
    }
    let [crop, pad, stretch] =
        ["crop", "pad", "stretch"].map(|fit| of(&place, &format!("{fit}/00000.png")));
    assert!(crop != pad && pad != stretch && crop != stretch);
    assert!(pad[..8].iter().all(|pixel| *pixel == -1.0));
}

#[test]
fn refusals_name_the_option_or_the_file_and_what_to_do() {
    let place = trained();
    fs::write(place.path("text.png"), "hello").unwrap();
    fs::create_dir(place.path("samples")).unwrap();
    fs::write(place.path("samples/run-vary.png"), "of somebody").unwrap();
    picture(&place, "wide.png", [8, 9], 1, |_, _, _| 255);
    picture(&place, "black.png", [8, 8], 1, |_, _, _| 0);
    let given = "mine/00000.png";
    for (args, code, words) in [
        (
            &["vary", "none.png", "--out", "o.png"][..],
            3,
            &["none.png", "cannot be read"][..],
        ),
        (
            &["vary", "text.png", "--out", "o.png"],
            3,
            &["text.png", "holds no PNG", "give another picture"],
        ),
        (
            &["vary", given],
            2,
            &["samples/run-vary.png", "not of this program", "--out"],
        ),
        (
            &["vary", given, "--out", "o.png", "--strength", "1.5"],
            2,
            &["strength is 1.5", "from 0"],
        ),
        (&["vary", given, "--out", "o.png", "-n", "0"], 2, &["--n 0"]),
        (
            &["vary", given, "--out", "o.png", "--grid", "g.png"],
            2,
            &["--out o.png", "so is --grid"],
        ),
        (
            &["vary", given, "--out", "o.png", "--class", "3"],
            2,
            &["--class 3", "no classes"],
        ),
        (
            &["vary", given, "--out", "mine"],
            2,
            &["--out", "would replace mine/00000.png"],
        ),
        (
            &["inpaint", given, "--mask", "wide.png"],
            2,
            &["--mask wide.png", "8x9", "8x8"],
        ),
        (
            &["inpaint", given, "--mask", "black.png"],
            2,
            &["--mask black.png", "no white"],
        ),
        (
            &["inpaint", given, "--box", "0,4,8,5"],
            2,
            &["--box 0,4,8,5", "8x8"],
        ),
        (
            &["inpaint", given, "--box", "0,4,8,4", "--sampler", "heun"],
            2,
            &["heun", "RePaint", "replace"],
        ),
        (
            &[
                "inpaint",
                given,
                "--box",
                "0,4,8,4",
                "--method",
                "replace",
                "--jump-length",
                "2",
            ],
            2,
            &["--jump-length", "RePaint"],
        ),
        (
            &["inpaint", given, "--box", "0,4,8,4", "--jump-n-sample", "0"],
            2,
            &["jump_n_sample is 0"],
        ),
        (
            &["interpolate", "--seeds", "1,2", "--sampler", "ddpm"],
            2,
            &["--sampler ddpm", "ddim"],
        ),
        (
            &["interpolate", "--seeds", "1,2", "-n", "1"],
            2,
            &["--n", "at least 2"],
        ),
        (
            &["interpolate", given, given, "--sampler", "heun"],
            2,
            &["--sampler heun", "inversion"],
        ),
        (
            &["invert", given, "--sampler", "ddim", "--eta", "1"],
            2,
            &["inversion", "--eta 0"],
        ),
        (&["tile", "--size", "4x20"], 2, &["the canvas is 4x20"]),
        (
            &["tile", "--size", "16", "--overlap", "8"],
            2,
            &["overlap of windows is 8"],
        ),
        (
            &["outpaint", given, "--size", "4x20"],
            2,
            &["--size 4x20", given, "8x8"],
        ),
        (
            &["outpaint", given, "--left", "0"],
            2,
            &["nothing is added"],
        ),
        (&["outpaint", given, "--left", "99999"], 2, &["16384"]),
    ] {
        edit(&place, args).failed(code, words);
    }
    for (args, words) in [
        (&["inpaint", given][..], "--mask"),
        (
            &["inpaint", given, "--box", "0,4,0,4"],
            "TOP,LEFT,HEIGHT,WIDTH",
        ),
        (&["interpolate"], "IMAGE"),
        (&["interpolate", given], "2"),
        (&["interpolate", "--seeds", "1"], "such as 1,2"),
        (&["outpaint", given], "--size"),
    ] {
        edit(&place, args).failed_usage(&[words]);
    }
    assert!(!place.path("o.png").exists());
    assert_eq!(
        fs::read(place.path("samples/run-vary.png")).unwrap(),
        b"of somebody"
    );
}

#[cfg(unix)]
#[test]
fn a_stopped_edit_keeps_what_is_finished() {
    let place = trained();
    let args = [
        "edit",
        "vary",
        "mine/00000.png",
        "--model",
        "run",
        "-n",
        "100000",
        "--batch",
        "1",
        "--out",
        "many",
    ];
    let child = place
        .command(args.iter().chain(&DDIM))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let third = place.path("many/00003.png");
    for _ in 0..600 {
        if third.is_file() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(75));
    let said = String::from_utf8(ended.stdout).unwrap();
    let count = fs::read_dir(place.path("many")).unwrap().count();
    assert!(
        count > 3 && said.starts_with(&format!("stopped after {count} of 100,000 images")),
        "{count}: {said}"
    );
    assert!(!place.path("many.png").exists());
}
