use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, RgbImage};

use super::*;
use crate::fixtures::{encode, noisy_png, png, png_claiming, rgb, rgba};

const MAX: u64 = 1 << 26;

fn bytes_of(raster: &Raster) -> &[u8] {
    match &raster.samples {
        Samples::U8(bytes) => bytes,
        Samples::Unit(_) => panic!("files decode to bytes"),
    }
}

#[test]
fn all_six_formats_are_read() {
    for (format, channels, tolerance) in [
        (ImageFormat::Png, 3, 0),
        (ImageFormat::Jpeg, 3, 3),
        (ImageFormat::WebP, 3, 0),
        (ImageFormat::Gif, 4, 8),
        (ImageFormat::Bmp, 3, 0),
        (ImageFormat::Tiff, 3, 0),
    ] {
        let bytes = if format == ImageFormat::Gif {
            encode(&rgba(5, 3, [200, 100, 50, 255]), format)
        } else {
            encode(&rgb(5, 3, [200, 100, 50]), format)
        };
        assert!(looks_like_image(&bytes[..SNIFF_BYTES]), "{format:?}");
        let raster = decode(&bytes, MAX).unwrap();
        assert_eq!(raster.shape(), [channels, 3, 5], "{format:?}");
        for (got, want) in bytes_of(&raster).iter().zip([200u8, 100, 50]) {
            assert!(got.abs_diff(want) <= tolerance, "{format:?}: {got} {want}");
        }
    }
}

#[test]
fn deep_samples_are_rounded_to_bytes() {
    let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(2, 2, Luma([0x8080]));
    let raster = decode(&encode(&deep.into(), ImageFormat::Png), MAX).unwrap();
    assert_eq!(raster.shape(), [1, 2, 2]);
    assert_eq!(bytes_of(&raster), [0x80; 4]);
}

#[test]
fn exif_orientation_is_applied() {
    // 2 columns, 1 row: red, blue
    let image = RgbImage::from_fn(2, 1, |x, _| {
        if x == 0 {
            Rgb([255, 0, 0])
        } else {
            Rgb([0, 0, 255])
        }
    });
    // little-endian TIFF header, one entry: orientation (0x0112), short, 1 value: 6 = turn clockwise
    let mut exif = b"II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    DynamicImage::from(image)
        .write_with_encoder(encoder)
        .unwrap();
    let raster = decode(&bytes, MAX).unwrap();
    assert_eq!(raster.shape(), [3, 2, 1]);
    assert_eq!(bytes_of(&raster), [255, 0, 0, 0, 0, 255]);
}

#[test]
fn what_is_no_image_says_what_it_is() {
    let broken_jpeg = {
        let mut bytes = Vec::new();
        rgb(16, 16, [9, 9, 9])
            .write_with_encoder(JpegEncoder::new(&mut bytes))
            .unwrap();
        bytes.truncate(100);
        bytes
    };
    let whole = noisy_png(20, 20);
    for (bytes, hint) in [
        (Vec::new(), "is empty (0 bytes)"),
        (
            b"<!DOCTYPE html><html>".to_vec(),
            "starts with the text \"<!DOCTYPE html><\"",
        ),
        (
            vec![0, 1, 2, 3, 255],
            "starts with the bytes 00 01 02 03 ff",
        ),
        (b"P6 1 1 255 abc".to_vec(), "holds PNM, which is not read"),
        (
            whole[..whole.len() / 2].to_vec(),
            "cannot be decoded as PNG",
        ),
        (whole[..20].to_vec(), "cannot be decoded as PNG"),
        (broken_jpeg, "cannot be decoded as JPEG"),
        (b"GIF89a".to_vec(), "cannot be decoded as GIF"),
        (b"BM".to_vec(), "cannot be decoded as BMP"),
        (b"II*\0".to_vec(), "cannot be decoded as TIFF"),
        (b"RIFF\0\0\0\0WEBP".to_vec(), "cannot be decoded as WEBP"),
    ] {
        let message = decode(&bytes, MAX).unwrap_err().to_string();
        assert!(message.contains(hint), "{hint}: {message}");
        assert!(!message.contains('\n'));
    }
}

#[test]
fn a_claimed_size_is_checked_before_it_is_believed() {
    let fault = decode(&png_claiming(60_000, 60_000), MAX).unwrap_err();
    assert!(
        matches!(
            fault,
            Fault::Limit {
                got: 3_600_000_000,
                key: "max_image_pixels",
                ..
            }
        ),
        "{fault}"
    );
    let image = png(10, 10, [1, 2, 3]);
    assert!(decode(&image, 100).is_ok());
    assert!(matches!(decode(&image, 99), Err(Fault::Limit { .. })));
}

#[test]
fn every_cut_and_many_mutations_end_in_a_result() {
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ];
    let mut state = 7u64;
    for format in formats {
        let whole = encode(&rgba(6, 6, [1, 2, 3, 255]).to_rgb8().into(), format);
        for length in 0..whole.len().min(200) {
            let _ = decode(&whole[..length], 1 << 12);
        }
        for _ in 0..100 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            let _ = decode(&bytes, 1 << 12);
        }
    }
}

#[test]
fn a_cut_file_is_never_taken_for_another_picture() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let noise = image::load_from_memory(&noisy_png(24, 24)).unwrap();
        let noise = match format {
            ImageFormat::Gif => noise.to_rgba8().into(),
            _ => noise,
        };
        let whole = encode(&noise, format);
        let picture = decode(&whole, MAX).unwrap();
        let mut wrong = Vec::new();
        for length in 0..whole.len() {
            if decode(&whole[..length], MAX).is_ok_and(|cut| cut != picture) {
                wrong.push(length);
            }
        }
        assert!(
            wrong.is_empty(),
            "{wrong:?}: {format:?} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn a_jpeg_ends_with_its_scans_and_not_with_its_thumbnail() {
    let mut whole = Vec::new();
    let mut encoder = JpegEncoder::new(&mut whole);
    // A thumbnail has an end marker of its own.
    encoder
        .set_exif_metadata(b"II*\0 \xff\xd8\xff\xda\xff\xd9".to_vec())
        .unwrap();
    rgb(16, 16, [9, 9, 9]).write_with_encoder(encoder).unwrap();
    assert!(jpeg_is_whole(&whole));
    for length in 2..whole.len() {
        assert!(!jpeg_is_whole(&whole[..length]), "{length}");
    }
    // What phones append, and filler before a marker.
    assert!(jpeg_is_whole(
        &[whole.as_slice(), b"\xff\xd8 more"].concat()
    ));
    let end = whole.len() - 2;
    assert!(jpeg_is_whole(&[&whole[..end], b"\xff\xff\xd9"].concat()));
}

#[test]
fn metadata_has_a_limit_of_its_own() {
    let with = |profile: usize, exif: usize| {
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(&mut file);
        encoder.set_icc_profile(vec![0; profile]).unwrap();
        encoder.set_exif_metadata(vec![0; exif]).unwrap();
        rgb(2, 2, [1, 2, 3]).write_with_encoder(encoder).unwrap();
        decode(&file, MAX)
    };
    let over = METADATA_BYTES as usize + 1;
    assert!(with(1 << 20, 1 << 20).is_ok());
    // A profile over the limit is not unpacked, and does without: row 13 of the faults measures the memory.
    assert!(with(over, 0).is_ok());
    let message = with(0, over).unwrap_err().to_string();
    assert!(message.contains("metadata"), "{message}");
}

#[test]
fn a_webp_must_have_the_bytes_that_it_states() {
    let whole = encode(&rgb(4, 4, [1, 2, 3]), ImageFormat::WebP);
    let stated = |bytes: &[u8]| 8 + u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
    assert_eq!(stated(&whole), whole.len());
    assert!(webp_is_whole(&whole) && webp_is_whole(&[whole.as_slice(), b"more"].concat()));
    // The byte that makes a length even is skipped by some writers.
    assert!(webp_is_whole(&whole[..whole.len() - 1]));
    assert!(!webp_is_whole(&whole[..whole.len() - 2]));
    assert!(!webp_is_whole(b"RIFF"));
}

#[test]
fn extensions_are_told_without_regard_to_case() {
    for name in ["a.png", "b.JPG", "c.tar.TiFf", "ü.webp"] {
        assert!(has_image_extension(name), "{name}");
    }
    for name in ["png", "a.txt", "a.png.txt", "a", ""] {
        assert!(!has_image_extension(name), "{name}");
    }
}
