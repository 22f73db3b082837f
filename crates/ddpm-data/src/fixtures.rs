//! Small files for the tests.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use zip::CompressionMethod;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::config::{DataConfig, DataKind};
use crate::dataset::Dataset;
use crate::error::DataError;

pub(crate) fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn rgb(width: u32, height: u32, colour: [u8; 3]) -> DynamicImage {
    RgbImage::from_pixel(width, height, Rgb(colour)).into()
}

pub(crate) fn rgba(width: u32, height: u32, colour: [u8; 4]) -> DynamicImage {
    RgbaImage::from_pixel(width, height, Rgba(colour)).into()
}

/// A PNG of one colour.
pub(crate) fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    encode(&rgb(width, height, colour), ImageFormat::Png)
}

/// A PNG of noise, so that cutting it anywhere loses pixels.
pub(crate) fn noisy_png(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let image = RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, _] = state.to_be_bytes();
        Rgb([a, b, c])
    });
    encode(&image.into(), ImageFormat::Png)
}

/// A PNG whose header claims a size that its data do not have.
pub(crate) fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(1, 1, [0; 3]);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

pub(crate) fn write(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip of files; a name that ends in a slash is a folder.
pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in files {
        match name.strip_suffix('/') {
            Some(folder) => writer.add_directory(folder, options).unwrap(),
            None => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(bytes).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

/// An IDX file of unsigned bytes.
pub(crate) fn idx(axes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, axes.len() as u8];
    for axis in axes {
        bytes.extend(axis.to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// A `.npy` file, version 1.
pub(crate) fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

pub(crate) fn config(kind: DataKind, path: &Path) -> DataConfig {
    DataConfig {
        kind,
        path: Some(path.to_path_buf()),
        ..DataConfig::default()
    }
}

pub(crate) fn load(config: &DataConfig) -> Result<Dataset, DataError> {
    Dataset::load(config, 0, &mut |_, _| {})
}

/// The error of a set that must not load, with its one-sentence message checked for what every message needs.
pub(crate) fn load_error(config: &DataConfig) -> DataError {
    let error = load(config).expect_err("this set must not load");
    let message = error.to_string();
    assert!(!message.contains('\n'), "more than a line: {message}");
    assert!(!message.ends_with('.'), "ends with a full stop: {message}");
    error
}

/// The first value of each channel of each image.
pub(crate) fn corners(set: &Dataset) -> Vec<Vec<f32>> {
    let plane = set.height() * set.width();
    (0..set.len())
        .map(|index| {
            let item = set.get(index, false).unwrap();
            item.pixels.iter().step_by(plane).copied().collect()
        })
        .collect()
}
