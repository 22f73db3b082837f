//! Row 12: images that are not what they should be, in a folder of good ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ddpm_data::{DataConfig, DataKind, Dataset, OnBad, Size};
use ddpm_store::ImageBatch;

use super::{Form, Passed};
use crate::{Sandbox, repository};

/// Height and width of the good images.
const SIDE: usize = 8;

/// Bad images of each kind and of all kinds in a set, and odd ones that must work.
///
/// # Errors
/// The first set that was not refused with its path, or not read as it would be without the bad images.
pub fn bad_images(form: Form) -> Result<Passed> {
    let count = form.pick(200, 1000);
    let mut tried = 0;
    let kinds = bad_kinds()?;
    let good = Sandbox::new();
    good_images(&good.path("set"), count)?;
    for chosen in kinds.chunks(1).chain([kinds.as_slice()]) {
        tried += in_a_set(&good.path("set"), count, chosen)?;
    }
    tried += sizes_differ()?;
    for odd in odd_ones() {
        tried += odd.check(form).with_context(|| odd.file.to_owned())?;
    }
    Ok(Passed {
        count: tried,
        note: format!(
            "{} bad kinds at 1% of {count}; {} odd images work: CMYK becomes RGB, 16 bits are rounded to 8, \
             EXIF turns, the content decides and not the extension, one pixel is stretched to data.size",
            kinds.len(),
            odd_ones().len()
        ),
    })
}

/// A kind of bad image.
struct Bad {
    name: &'static str,
    extension: &'static str,
    bytes: Vec<u8>,
}

fn fixture(name: &str) -> Result<Vec<u8>> {
    let path = repository().join("tests/fixtures/images").join(name);
    fs::read(&path).with_context(|| path.display().to_string())
}

fn bad_kinds() -> Result<Vec<Bad>> {
    let half = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let bad = |name, extension, bytes| Bad {
        name,
        extension,
        bytes,
    };
    let mut claiming = fixture("halves.bmp")?;
    for side in [18, 22] {
        claiming[side..side + 4].copy_from_slice(&60_000_i32.to_le_bytes());
    }
    Ok(vec![
        bad("no bytes", "png", Vec::new()),
        bad("a cut PNG", "png", half(fixture("halves.png")?)),
        bad("a cut JPEG", "jpg", half(fixture("turned-1.jpg")?)),
        bad(
            "a cut progressive JPEG",
            "jpeg",
            half(fixture("progressive.jpg")?),
        ),
        bad("a cut WebP", "webp", half(fixture("halves.webp")?)),
        bad("a cut GIF", "gif", half(fixture("halves.gif")?)),
        bad("a cut TIFF", "tif", half(fixture("halves.tif")?)),
        bad(
            "HTML named .jpg",
            "jpg",
            b"<!DOCTYPE html><html>404</html>".to_vec(),
        ),
        bad("a text named .png", "png", b"not an image".to_vec()),
        bad("a BMP claiming 60000x60000", "bmp", claiming),
    ])
}

/// Deterministic noise, one file an image: `a00000.png`, …
fn good_images(folder: &Path, count: usize) -> Result<()> {
    let numbers = count * 3 * SIDE * SIDE;
    let pixels = (0..numbers as u64)
        .map(|index| {
            let bits = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            (bits & 0xff) as f32 / 127.5 - 1.0
        })
        .collect();
    ImageBatch::new(pixels, [count, 3, SIDE, SIDE])?.save_separate(folder, 0)?;
    Ok(())
}

fn config(folder: &Path, on_bad: OnBad) -> DataConfig {
    DataConfig {
        kind: DataKind::Folder,
        path: Some(folder.to_owned()),
        size: Some(Size::square(SIDE)),
        channels: Some(3),
        on_bad,
        ..DataConfig::default()
    }
}

fn load(config: &DataConfig) -> Result<Dataset> {
    Ok(Dataset::load(config, 0, &mut |_, _| {})?)
}

/// One in a hundred of a set is bad, of each of `kinds`, spread over it. `good` is the set without them.
fn in_a_set(good: &Path, count: usize, kinds: &[Bad]) -> Result<u64> {
    let place = Sandbox::new();
    let folder = place.path("set");
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(good)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    let whole = load(&config(&folder, OnBad::Error))?;
    let each = count / 100;
    let mut expected = Vec::new();
    for (k, kind) in kinds.iter().enumerate() {
        for number in 0..each {
            // Behind the good image of the same number: the first and the last place among them.
            let after = (number * (count - 1)) / (each - 1).max(1);
            let name = format!("{after:05}.png.bad-{k:02}.{}", kind.extension);
            let path = folder.join(name);
            fs::write(&path, &kind.bytes)?;
            expected.push(path);
        }
    }
    expected.sort();
    let what = match kinds {
        [one] => one.name,
        _ => "all kinds at once",
    };
    refused(&place, &expected[0]).context(what)?;
    left_out(&place, &whole, &expected).context(what)?;
    Ok(expected.len() as u64)
}

const SET: [&str; 9] = [
    "train",
    "--dry-run",
    "--set",
    "data.kind=folder",
    "--set",
    "data.path=set",
    "--set",
    "data.channels=3",
    "--set",
];

/// By default: exit code 3 and the path of the first bad image.
fn refused(place: &Sandbox, first: &Path) -> Result<()> {
    let ended = place.ddpm(SET.iter().chain(&["data.size=8"]));
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        ended.code == Some(3) && ended.stderr.contains(&*name),
        "expected exit 3 and {name}, got {:?}: {}",
        ended.code,
        ended.stderr
    );
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    Ok(())
}

/// With `on_bad = "skip"`: the rest in its order, and the exact count of what is skipped.
fn left_out(place: &Sandbox, whole: &Dataset, expected: &[PathBuf]) -> Result<()> {
    let rest = load(&config(&place.path("set"), OnBad::Skip))?;
    let skipped: Vec<&Path> = rest
        .skipped()
        .iter()
        .map(|bad| bad.path.as_path())
        .collect();
    ensure!(
        skipped == expected,
        "expected {} skipped, got {}: {skipped:?}",
        expected.len(),
        skipped.len()
    );
    ensure!(
        rest.len() == whole.len(),
        "{} images are left of {}",
        rest.len(),
        whole.len()
    );
    for index in 0..whole.len() {
        ensure!(
            rest.get(index, false)? == whole.get(index, false)?,
            "image {index} is another one without the bad ones"
        );
    }
    let ended = place.ddpm(
        SET.iter()
            .chain(&["data.size=8", "--set", "data.on_bad=skip"]),
    );
    let told = [
        format!("{} images of 3×8×8", whole.len()),
        format!(", {} bad ones skipped", expected.len()),
    ];
    ensure!(
        ended.code == Some(0) && told.iter().all(|told| ended.stdout.contains(told)),
        "expected {told:?}, got {:?}: {}{}",
        ended.code,
        ended.stdout,
        ended.stderr
    );
    Ok(())
}

/// A single pixel among larger images is refused by its path without `data.size`, whatever `on_bad` says: it is not
/// bad, and what the set's size should be is not for the program to guess.
fn sizes_differ() -> Result<u64> {
    let place = Sandbox::new();
    good_images(&place.path("set"), 2)?;
    place.file("set/pixel.png", fixture("pixel.png")?);
    for on_bad in ["data.on_bad=error", "data.on_bad=skip"] {
        let ended = place.ddpm(SET.iter().chain(&[on_bad]));
        ensure!(
            ended.code == Some(3)
                && ended.stderr.contains("pixel.png")
                && ended.stderr.contains("data.size"),
            "one pixel among larger images, {on_bad}: {:?} {}",
            ended.code,
            ended.stderr
        );
    }
    Ok(2)
}

type Colour = [u8; 3];
const RED: Colour = [255, 0, 0];
const BLUE: Colour = [0, 0, 255];

/// An odd image that must be read, and what two of its pixels must be.
struct Odd {
    file: &'static str,
    size: [usize; 2],
    first: Colour,
    last: Colour,
    tolerance: f32,
}

/// All but the first three are 16 rows of 16 red and 16 blue pixels before they are turned.
fn odd_ones() -> Vec<Odd> {
    let odd = |file, size, first, last, tolerance| Odd {
        file,
        size,
        first,
        last,
        tolerance,
    };
    let halves = |file, tolerance| odd(file, [16, 32], RED, BLUE, tolerance);
    vec![
        odd("deep.png", [8, 8], [0x80; 3], [0x80; 3], 0.0),
        odd("pixel.png", [1, 1], [10, 20, 30], [10, 20, 30], 0.0),
        odd("turned-3.jpg", [16, 32], BLUE, RED, 3.0),
        odd("turned-6.jpg", [32, 16], RED, BLUE, 3.0),
        odd("turned-8.jpg", [32, 16], BLUE, RED, 3.0),
        odd("turned-6.png", [32, 16], RED, BLUE, 0.0),
        odd("turned-6.webp", [32, 16], RED, BLUE, 0.0),
        halves("turned-1.jpg", 3.0),
        halves("progressive.jpg", 3.0),
        halves("cmyk.jpg", 6.0),
        halves("png-named.jpg", 0.0),
        halves("jpeg-named.png", 3.0),
        halves("halves.png", 0.0),
        halves("halves.bmp", 0.0),
        halves("halves.tif", 0.0),
        halves("halves.gif", 4.0),
        halves("halves.webp", 12.0),
    ]
}

impl Odd {
    /// The pixels, and that no cut of the file is taken for another picture.
    fn check(&self, form: Form) -> Result<u64> {
        let place = Sandbox::new();
        let bytes = fixture(self.file)?;
        let path = place.file(&format!("set/{}", self.file), &bytes);
        let native = DataConfig {
            size: None,
            ..config(&place.path("set"), OnBad::Error)
        };
        let set = load(&native)?;
        ensure!(
            [set.height(), set.width()] == self.size,
            "expected {:?}, got {}x{}",
            self.size,
            set.height(),
            set.width()
        );
        let item = set.get(0, false)?;
        let plane = set.height() * set.width();
        for (corner, expected) in [(0, self.first), (plane - 1, self.last)] {
            for (channel, expected) in expected.into_iter().enumerate() {
                let got = (item.pixels[channel * plane + corner] + 1.0) * 127.5;
                if (got - f32::from(expected)).abs() > self.tolerance + 1e-3 {
                    bail!("pixel {corner}, channel {channel}: expected {expected}, got {got}");
                }
            }
        }
        // Fitted to a size it is still all there.
        let fitted = load(&config(&place.path("set"), OnBad::Error))?;
        ensure!(
            [fitted.height(), fitted.width()] == [SIDE, SIDE],
            "not fitted"
        );

        let cuts = form.pick(16, 64);
        for cut in 0..cuts {
            fs::write(&path, &bytes[..bytes.len() * cut / cuts])?;
            if let Ok(set) = load(&native)
                && set.get(0, false)? != item
            {
                bail!("cut at {cut}/{cuts} it is taken for another picture");
            }
        }
        Ok(1 + cuts as u64)
    }
}
