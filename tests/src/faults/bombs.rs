//! Row 13: small files that claim, or unpack to, far more than a machine has.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, Crc};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::measured::{Measured, within_a_second};
use super::{Form, Passed};
use crate::{Sandbox, repository};

/// How far over a normal run's a refusal's peak of memory may be.
const MARGIN_BYTES: u64 = 64 << 20;

/// Bombs of every format through the command line.
///
/// # Errors
/// The first that was not refused within a second, by its path, within 64 MiB of a normal run's memory.
pub fn bombs(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let normal = normal_peak(&place)?;
    let mut most = 0;
    let mut tried = 0;
    let mut longest = 0.0f64;
    for bomb in all(&place, form)? {
        let measured = within_a_second(&place, &bomb.arguments()).context(bomb.what)?;
        bomb.check(&measured).context(bomb.what)?;
        if let (Some(peak), Some(normal)) = (measured.peak_bytes, normal) {
            let over = peak.saturating_sub(normal);
            ensure!(
                over <= MARGIN_BYTES,
                "{}: its peak is {} MiB over the {} MiB of a normal run",
                bomb.what,
                over >> 20,
                normal >> 20
            );
            most = most.max(over);
        }
        longest = longest.max(measured.time.as_secs_f64());
        tried += 1;
    }
    let memory = match normal {
        Some(normal) => format!(
            "at most {} MiB over a normal run's {} MiB",
            most >> 20,
            normal >> 20
        ),
        None => "memory is not measured on this system".to_owned(),
    };
    Ok(Passed {
        count: tried,
        note: format!("longest {:.0} ms, {memory}", longest * 1e3),
    })
}

/// The peak of looking at a small, sound set, in the run of several that was looked at for longest: they end so soon that
/// the last that is seen of one can be long before its peak.
fn normal_peak(place: &Sandbox) -> Result<Option<u64>> {
    std::fs::create_dir_all(place.path("sound"))?;
    for number in 0..8 {
        std::fs::copy(
            fixture("halves.png"),
            place.path(format!("sound/{number}.png")),
        )?;
    }
    let sound = Bomb::new("a sound set", "folder", "sound", "");
    let mut most = None;
    for _ in 0..5 {
        let measured = within_a_second(place, &sound.arguments())?;
        measured.done()?;
        most = most.max(measured.peak_bytes);
    }
    Ok(most)
}

/// One hostile set, and how it must be refused.
struct Bomb {
    what: &'static str,
    set: Vec<String>,
    /// Of the error; empty if the set may be taken as well, as long as it costs nothing.
    word: &'static str,
    /// `inspect` looks at it instead of `train`.
    inspect: Option<&'static str>,
}

impl Bomb {
    fn new(what: &'static str, kind: &str, path: &str, word: &'static str) -> Self {
        let keys = [
            format!("data.kind={kind}"),
            format!("data.path={path}"),
            "data.size=32".into(),
            "data.channels=3".into(),
        ];
        Self {
            what,
            set: keys.to_vec(),
            word,
            inspect: None,
        }
    }

    fn with(mut self, key: &str) -> Self {
        self.set.push(key.to_owned());
        self
    }

    fn arguments(&self) -> Vec<&str> {
        if let Some(path) = self.inspect {
            return vec!["inspect", path];
        }
        let mut arguments = vec![
            "train",
            "--dry-run",
            "--device",
            "cpu",
            "--set",
            "model.attention_at=[]",
        ];
        for key in &self.set {
            arguments.extend(["--set", key]);
        }
        arguments
    }

    fn check(&self, measured: &Measured) -> Result<()> {
        match self.word {
            "" if measured.code == Some(0) => measured.done(),
            "" => measured.failed(3, &[]),
            word => measured.failed(3, &[word]),
        }
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    repository().join("tests/fixtures/images").join(name)
}

fn all(place: &Sandbox, form: Form) -> Result<Vec<Bomb>> {
    const PIXELS: &str = "max_image_pixels";
    // The largest are as in the table; a shorter bomb of the same kind is refused for the same reason.
    let large = form.pick(60 << 20, 1 << 30);
    let medium = form.pick(40 << 20, 200 << 20);
    let limit = form.pick(
        "data.max_file_bytes=50000000",
        "data.max_file_bytes=268435456",
    );
    let mut bombs = pictures(place, form)?;
    for (what, name, bytes, word) in [
        (
            "a zip entry of gigabytes",
            "large.zip",
            large,
            "max_file_bytes",
        ),
        (
            "a zip entry below that limit",
            "medium.zip",
            medium,
            "max_expansion",
        ),
    ] {
        zip_of_zeros(&place.path(name), "a.png", &[], bytes)?;
        bombs.push(Bomb::new(what, "zip", name, word).with(limit));
    }
    zip_of_zeros(&place.path("lie.zip"), "a.png", &[], medium)?;
    lie(&place.path("lie.zip"))?;
    bombs.push(Bomb::new(
        "a zip whose directory says 1000 bytes",
        "zip",
        "lie.zip",
        "larger than its declared",
    ));
    many_files(&place.path("many.zip"), 100_000)?;
    bombs.push(
        Bomb::new("a zip of 100,000 files", "zip", "many.zip", "max_files")
            .with("data.max_files=1000"),
    );
    let header = npy_header(form.pick(20_000, 400_000));
    zip_of_zeros(
        &place.path("a.npz"),
        "images.npy",
        &header,
        form.pick(20_000, 400_000) * 3072,
    )?;
    bombs.push(Bomb::new(
        "an npz of a thousand times its size",
        "npy",
        "a.npz",
        "a.npz",
    ));
    let images = form.pick(60_000u32, 1_000_000);
    gzip_of_zeros(
        &place.path("a.gz"),
        &idx_header(images),
        u64::from(images) * 1024,
    )?;
    bombs.push(Bomb::new(
        "a gzip of 1000:1",
        "idx",
        "a.gz",
        "max_expansion",
    ));
    gzip_of_zeros(&place.path("b.gz"), &idx_header(2), medium)?;
    bombs.push(Bomb::new(
        "a gzip that goes on behind what its header says",
        "idx",
        "b.gz",
        "b.gz",
    ));
    place.file("c.idx", idx_header(u32::MAX));
    bombs.push(Bomb::new(
        "an IDX file that claims terabytes",
        "idx",
        "c.idx",
        "c.idx",
    ));
    place.file("d.npy", npy_header(1 << 40));
    bombs.push(Bomb::new(
        "a NumPy file that claims petabytes",
        "npy",
        "d.npy",
        "d.npy",
    ));
    place.file("huge/a.png", png(60_000, 60_000, &[], 0)?);
    bombs.push(Bomb::new(
        "a PNG claiming 60000x60000",
        "folder",
        "huge",
        PIXELS,
    ));
    bombs.push(log(place, form)?);
    Ok(bombs)
}

/// Fixtures whose sizes are written over, and PNGs with packed text and colour profiles behind their header.
fn pictures(place: &Sandbox, form: Form) -> Result<Vec<Bomb>> {
    const PIXELS: &str = "max_image_pixels";
    let mut bombs = Vec::new();
    let mut claim = |what, name: &str, patches: &[(usize, &[u8])], word| -> Result<()> {
        let mut bytes = std::fs::read(fixture(name))?;
        for (at, patch) in patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        let folder = format!("claims-{}", bombs.len());
        place.file(&format!("{folder}/{name}"), bytes);
        bombs.push(Bomb::new(what, "folder", &folder, word));
        Ok(())
    };
    let side = 60_000u32.to_le_bytes();
    claim(
        "a BMP claiming 60000x60000",
        "halves.bmp",
        &[(18, &side), (22, &side)],
        PIXELS,
    )?;
    claim(
        "a GIF claiming 65535x65535",
        "halves.gif",
        &[(6, &[0xff; 4])],
        PIXELS,
    )?;
    // VP8L: 14 bits of width - 1 and of height - 1 behind its signature.
    claim(
        "a WebP claiming 16384x16384",
        "turned-6.webp",
        &[(24, &[0xff, 0x3f, 0, 0xff, 0x3f, 0])],
        "webp",
    )?;
    let jpeg = std::fs::read(fixture("turned-1.jpg"))?;
    let frame = position(&jpeg, &[0xff, 0xc0]).context("no frame header")?;
    claim(
        "a JPEG claiming 65535x65535",
        "turned-1.jpg",
        &[(frame + 5, &[0xff; 4])],
        PIXELS,
    )?;
    let tiff = std::fs::read(fixture("halves.tif"))?;
    let entry = |tag: u16| {
        let start = [tag.to_le_bytes().as_slice(), &[3, 0, 1, 0, 0, 0]].concat();
        position(&tiff, &start).context("no size")
    };
    // One strip of all rows.
    let (width, height, rows) = (entry(256)?, entry(257)?, entry(278)?);
    let side = 60_000u16.to_le_bytes();
    claim(
        "a TIFF claiming 60000x60000",
        "halves.tif",
        &[(width + 8, &side), (height + 8, &side), (rows + 8, &side)],
        PIXELS,
    )?;
    for (what, chunk, name) in [
        ("a PNG with much packed text", b"zTXt", "text"),
        (
            "a PNG with a large packed colour profile",
            b"iCCP",
            "profile",
        ),
    ] {
        let packed = zeros(form.pick(80 << 20, 1 << 30))?;
        // A name, its end, the method, and what is packed.
        let body = [b"x\0\0".as_slice(), &packed].concat();
        let bytes = png(4, 4, &[(chunk, &body)], 4 * 5)?;
        place.file(&format!("{name}/a.png"), bytes);
        bombs.push(Bomb::new(what, "folder", name, ""));
    }
    Ok(bombs)
}

/// A run whose metric log has many millions of lines.
fn log(place: &Sandbox, form: Form) -> Result<Bomb> {
    place.file("run/config.toml", "seed = 0\n");
    std::fs::create_dir_all(place.path("run/checkpoints"))?;
    place.file(
        "run/metrics.jsonl",
        "0\n".repeat(form.pick(10_000_000, 200_000_000)),
    );
    Ok(Bomb {
        inspect: Some("run"),
        ..Bomb::new("a long metric log", "folder", "run", "")
    })
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn idx_header(count: u32) -> Vec<u8> {
    let mut header = vec![0, 0, 8, 3];
    for axis in [count, 32, 32] {
        header.extend(axis.to_be_bytes());
    }
    header
}

fn npy_header(count: u64) -> Vec<u8> {
    let text =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 32, 32, 3), }}\n");
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

/// A grey PNG of one bit a pixel with a header that is true to its checksum, some chunks, and so many zeros.
fn png(width: u32, height: u32, chunks: &[(&[u8; 4], &[u8])], bytes: usize) -> Result<Vec<u8>> {
    fn chunk(name: &[u8; 4], body: &[u8], out: &mut Vec<u8>) {
        let mut crc = Crc::new();
        crc.update(name);
        crc.update(body);
        out.extend((body.len() as u32).to_be_bytes());
        out.extend(name);
        out.extend(body);
        out.extend(crc.sum().to_be_bytes());
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(
        b"IHDR",
        &[&sides, [8, 0, 0, 0, 0].as_slice()].concat(),
        &mut out,
    );
    for (name, body) in chunks {
        chunk(name, body, &mut out);
    }
    chunk(b"IDAT", &zeros(bytes as u64)?, &mut out);
    chunk(b"IEND", &[], &mut out);
    Ok(out)
}

static PIECE: [u8; 1 << 16] = [0; 1 << 16];

fn write_zeros(out: &mut impl Write, bytes: u64) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE.len() as u64);
        out.write_all(&PIECE[..piece as usize])?;
        left -= piece;
    }
    Ok(())
}

/// So many zeros in zlib's format.
fn zeros(bytes: u64) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    write_zeros(&mut encoder, bytes)?;
    Ok(encoder.finish()?)
}

fn gzip_of_zeros(path: &Path, head: &[u8], bytes: u64) -> Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder.write_all(head)?;
    write_zeros(&mut encoder, bytes)?;
    encoder.finish()?.flush()?;
    Ok(())
}

fn zip_of_zeros(path: &Path, name: &str, head: &[u8], bytes: u64) -> Result<()> {
    let mut writer = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .large_file(true);
    writer.start_file(name, options)?;
    writer.write_all(head)?;
    write_zeros(&mut writer, bytes)?;
    writer.finish()?.flush()?;
    Ok(())
}

fn many_files(path: &Path, count: usize) -> Result<()> {
    let mut writer = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for number in 0..count {
        writer.start_file(format!("{number}.png"), options)?;
    }
    writer.finish()?.flush()?;
    Ok(())
}

/// Writes 1000 over the size in the directory of a zip of one file.
fn lie(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let entry = position(&bytes, b"PK\x01\x02").context("no directory")?;
    let mut file = File::options().write(true).open(path)?;
    file.seek(SeekFrom::Start(entry as u64 + 24))?;
    file.write_all(&1000u32.to_le_bytes())?;
    Ok(())
}
