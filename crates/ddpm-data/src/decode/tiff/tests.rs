//! Every expected value is worked out by hand from the bytes, which no library wrote.

use super::super::decode;
use crate::error::Fault;
use crate::raster::Samples;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const LONG8: u16 = 16;

/// A page: its tags in any order, and the bytes of its strips or, if it has a TileWidth, tiles.
#[derive(Clone, Default)]
struct Page {
    tags: Vec<(u16, u16, Vec<u64>)>,
    chunks: Vec<Vec<u8>>,
}

impl Page {
    /// One uncompressed strip.
    fn new(width: u64, height: u64, photometric: u64, bits: &[u64], data: &[u8]) -> Self {
        Self {
            tags: vec![
                (256, SHORT, vec![width]),
                (257, SHORT, vec![height]),
                (258, SHORT, bits.to_vec()),
                (259, SHORT, vec![1]),
                (262, SHORT, vec![photometric]),
                (277, SHORT, vec![bits.len() as u64]),
                (278, SHORT, vec![height]),
            ],
            chunks: vec![data.to_vec()],
        }
    }

    fn with(mut self, tag: u16, kind: u16, values: &[u64]) -> Self {
        self.tags.retain(|(other, ..)| *other != tag);
        self.tags.push((tag, kind, values.to_vec()));
        self
    }

    fn extra(self, kinds: &[u64]) -> Self {
        self.with(338, SHORT, kinds)
    }

    fn chunks(mut self, chunks: &[&[u8]]) -> Self {
        self.chunks = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        self
    }

    fn without(mut self, tag: u16) -> Self {
        self.tags.retain(|(other, ..)| *other != tag);
        self
    }

    fn file(&self) -> Vec<u8> {
        write(&[self], false, false)
    }
}

fn write(pages: &[&Page], big_endian: bool, big: bool) -> Vec<u8> {
    let number = |value: u64, len: usize| match big_endian {
        true => value.to_be_bytes()[8 - len..].to_vec(),
        false => value.to_le_bytes()[..len].to_vec(),
    };
    let offset_len = if big { 8 } else { 4 };
    let mut out = if big_endian {
        b"MM".to_vec()
    } else {
        b"II".to_vec()
    };
    out.extend(number(if big { 43 } else { 42 }, 2));
    if big {
        out.extend(number(8, 2));
        out.extend(number(0, 2));
    }
    let mut link = out.len();
    out.extend(number(0, offset_len));
    for page in pages {
        let mut tags = page.tags.clone();
        let tiled = tags.iter().any(|(tag, ..)| *tag == 322);
        let mut offsets = Vec::new();
        for chunk in &page.chunks {
            offsets.push(out.len() as u64);
            out.extend(chunk);
        }
        let lengths = page.chunks.iter().map(|chunk| chunk.len() as u64).collect();
        let kind = if big { LONG8 } else { LONG };
        tags.push((if tiled { 324 } else { 273 }, kind, offsets));
        tags.push((if tiled { 325 } else { 279 }, LONG, lengths));
        tags.sort();
        let mut directory = number(tags.len() as u64, if big { 8 } else { 2 });
        for (tag, kind, values) in tags {
            let (len, count) = match kind {
                SHORT => (2, values.len()),
                LONG => (4, values.len()),
                LONG8 => (8, values.len()),
                _ => (4, values.len() / 2),
            };
            let mut bytes: Vec<u8> = values
                .iter()
                .flat_map(|&value| number(value, len))
                .collect();
            directory.extend(number(tag.into(), 2));
            directory.extend(number(kind.into(), 2));
            directory.extend(number(count as u64, offset_len));
            if bytes.len() > offset_len {
                let at = number(out.len() as u64, offset_len);
                out.extend(bytes);
                bytes = at;
            }
            bytes.resize(offset_len, 0);
            directory.extend(bytes);
        }
        let at = number(out.len() as u64, offset_len);
        out[link..link + offset_len].copy_from_slice(&at);
        out.extend(directory);
        link = out.len();
        out.extend(number(0, offset_len));
    }
    out
}

/// Channels and bytes of a file that must decode.
fn pixels(file: &[u8]) -> (usize, Vec<u8>) {
    let raster = decode(file, 1 << 16).unwrap();
    match raster.samples {
        Samples::U8(bytes) => (raster.channels, bytes),
        Samples::Unit(_) => panic!("files decode to bytes"),
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn words(values: &[u16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

const B1: [u64; 1] = [8];
const B2: [u64; 2] = [8; 2];
const B3: [u64; 3] = [8; 3];
const B4: [u64; 4] = [8; 4];
const B5: [u64; 5] = [8; 5];

#[test]
fn alpha_is_made_straight_by_what_extra_samples_says() {
    // two pixels: half, and none of it
    let data = [32, 24, 18, 128, 9, 9, 9, 0];
    let page = || Page::new(2, 1, 2, &B4, &data);
    let straight = vec![32, 24, 18, 128, 9, 9, 9, 0];
    for (page, channels, want) in [
        (page().extra(&[1]), 4, vec![64, 48, 36, 128, 0, 0, 0, 0]),
        (page().extra(&[2]), 4, straight.clone()),
        (page(), 4, straight),
        // of no said kind: not alpha
        (page().extra(&[0]), 3, vec![32, 24, 18, 9, 9, 9]),
        // more than alpha, colours are at most alpha
        (
            Page::new(1, 1, 2, &B5, &[200, 50, 0, 7, 100]).extra(&[0, 1]),
            4,
            vec![255, 128, 0, 100],
        ),
        (
            Page::new(2, 1, 1, &B2, &[50, 100, 3, 255]).extra(&[1]),
            2,
            vec![128, 100, 3, 255],
        ),
        (
            Page::new(2, 1, 1, &B2, &[50, 100, 3, 255]).extra(&[2]),
            2,
            vec![50, 100, 3, 255],
        ),
        (
            Page::new(2, 1, 1, &B2, &[50, 100, 3, 255]).extra(&[0]),
            1,
            vec![50, 3],
        ),
        // inverted, its alpha not
        (
            Page::new(1, 1, 0, &B2, &[50, 100]).extra(&[2]),
            2,
            vec![205, 100],
        ),
        // 16 bits are divided before they are rounded: 300/600, 3/600
        (
            Page::new(1, 1, 1, &[16, 16], &words(&[300, 600])).extra(&[1]),
            2,
            vec![128, 2],
        ),
        (
            Page::new(1, 1, 2, &[32; 4], &floats(&[0.25, 0.1, 0.0, 0.5]))
                .extra(&[1])
                .with(339, SHORT, &[3; 4]),
            4,
            vec![128, 51, 0, 128],
        ),
    ] {
        assert_eq!(pixels(&page.file()), (channels, want), "{:?}", page.tags);
    }
}

#[test]
fn every_colour_is_what_it_is_in_rgb() {
    // index: red, green, blue of 16 bits
    let map = [0, 65535, 32896, 257, 0, 65535, 257 * 9, 0, 0, 0, 0, 65535];
    let bytes_map = [0, 255, 128, 1, 0, 255, 9, 0, 0, 0, 0, 255];
    let shifted_map = map.map(|part| part & 0xff00);
    let palette = vec![0, 0, 0, 255, 255, 0, 128, 9, 0, 1, 0, 255];
    let indices = [0b0001_1011];
    for (page, channels, want) in [
        (Page::new(2, 1, 1, &B1, &[0, 200]), 1, vec![0, 200]),
        (Page::new(2, 1, 0, &B1, &[0, 200]), 1, vec![255, 55]),
        // nine pixels, so that a row ends within a byte
        (
            Page::new(9, 2, 1, &[1], &[0b1010_0000, 0x80, 0, 0]),
            1,
            [[255, 0, 255, 0, 0, 0, 0, 0, 255], [0; 9]].concat(),
        ),
        (Page::new(3, 1, 0, &[1], &[0b1010_0000]), 1, vec![0, 255, 0]),
        (
            Page::new(3, 1, 1, &[2], &[0b0001_1000]),
            1,
            vec![0, 85, 170],
        ),
        (
            Page::new(3, 1, 1, &[4], &[0x0f, 0x70]),
            1,
            vec![0, 255, 119],
        ),
        (
            Page::new(2, 1, 1, &[16], &words(&[0x8080, 0xffff])),
            1,
            vec![0x80, 255],
        ),
        (
            Page::new(2, 1, 1, &[32], &floats(&[0.5, 1.0005])).with(339, SHORT, &[3]),
            1,
            vec![128, 255],
        ),
        (
            Page::new(2, 1, 0, &[32], &floats(&[0.2, 1.0])).with(339, SHORT, &[3]),
            1,
            vec![204, 0],
        ),
        (
            Page::new(2, 1, 1, &[16], &words(&[0x3800, 0x3c00])).with(339, SHORT, &[3]),
            1,
            vec![128, 255],
        ),
        (
            Page::new(4, 1, 3, &[2], &indices).with(320, SHORT, &map),
            3,
            palette.clone(),
        ),
        (
            Page::new(4, 1, 3, &[2], &indices).with(320, SHORT, &shifted_map),
            3,
            palette.clone(),
        ),
        (
            Page::new(4, 1, 3, &[2], &indices).with(320, SHORT, &bytes_map),
            3,
            palette,
        ),
        // cyan and black by half: (1 - 1)(1 - 128/255), (1 - 0)(1 - 128/255)
        (
            Page::new(2, 1, 5, &B4, &[255, 0, 0, 128, 0, 51, 255, 0]),
            3,
            vec![0, 127, 127, 255, 204, 0],
        ),
        (
            Page::new(1, 1, 5, &B5, &[255, 0, 0, 0, 77]).extra(&[2]),
            4,
            vec![0, 255, 255, 77],
        ),
        // grey, and red as ITU-R BT.601 has it
        (
            Page::new(2, 1, 6, &B3, &[100, 128, 128, 76, 85, 255]).with(530, SHORT, &[1, 1]),
            3,
            vec![100, 100, 100, 254, 0, 0],
        ),
        (
            Page::new(1, 1, 2, &[16; 3], &words(&[0, 257, 65535])),
            3,
            vec![0, 1, 255],
        ),
    ] {
        assert_eq!(pixels(&page.file()), (channels, want), "{:?}", page.tags);
    }
}

#[test]
fn layouts_orders_and_pages_are_read_alike() {
    // 3 rows of 2
    let data: Vec<u8> = (0..18).map(|n| n * 10).collect();
    let plain = Page::new(2, 3, 2, &B3, &data);
    let plane =
        |sample: usize| -> Vec<u8> { data.iter().skip(sample).step_by(3).copied().collect() };
    let planes = [plane(0), plane(1), plane(2)];
    let planar = plain
        .clone()
        .with(284, SHORT, &[2])
        .chunks(&[&planes[0], &planes[1], &planes[2]]);
    let strips = plain
        .clone()
        .with(278, SHORT, &[2])
        .chunks(&[&data[..12], &data[12..]]);
    // tiles of 16 by 16, all but a corner of it filled with what must not be seen
    let mut tile = vec![99; 16 * 16 * 3];
    for (row, source) in tile.chunks_mut(48).zip(data.chunks(6)) {
        row[..6].copy_from_slice(source);
    }
    let tiled = plain
        .clone()
        .without(278)
        .with(322, SHORT, &[16])
        .with(323, SHORT, &[16])
        .chunks(&[&tile]);
    // differences along the row
    let mut differences = data.clone();
    for row in differences.chunks_mut(6) {
        (3..6).rev().for_each(|at| row[at] -= row[at - 3]);
    }
    let predicted = plain.clone().with(317, SHORT, &[2]).chunks(&[&differences]);
    // PackBits: six bytes as they are
    let packed: Vec<u8> = data
        .chunks(6)
        .flat_map(|row| [&[5], row].concat())
        .collect();
    let packed = plain.clone().with(259, SHORT, &[32773]).chunks(&[&packed]);
    for page in [&plain, &planar, &strips, &tiled, &predicted, &packed] {
        for (big_endian, big) in [(false, false), (true, false), (false, true), (true, true)] {
            let file = write(&[page, &Page::new(1, 1, 1, &B1, &[7])], big_endian, big);
            assert!(super::super::looks_like_image(&file[..16]));
            assert_eq!(
                pixels(&file),
                (3, data.clone()),
                "{:?} {big_endian} {big}",
                page.tags
            );
        }
    }
    let long = plain.clone().with(262, LONG, &[2]);
    assert_eq!(pixels(&write(&[&long], true, false)), (3, data.clone()));
    // a quarter turn clockwise
    let turned = Page::new(2, 1, 1, &B1, &[10, 20]).with(274, SHORT, &[6]);
    let raster = decode(&turned.file(), 4).unwrap();
    assert_eq!(
        (raster.shape(), raster.samples),
        ([1, 2, 1], Samples::U8(vec![10, 20]))
    );
}

/// Predictor and a sample that is dropped: the differences run over all four.
#[test]
fn a_sample_that_is_no_colour_is_dropped_after_the_differences_are_summed() {
    let page = Page::new(2, 1, 2, &B4, &[10, 20, 30, 40, 1, 2, 3, 4])
        .extra(&[0])
        .with(317, SHORT, &[2]);
    assert_eq!(pixels(&page.file()), (3, vec![10, 20, 30, 11, 22, 33]));
}

#[test]
fn a_sound_tiff_that_is_not_read_is_not_called_damaged() {
    let grey = |bits: &[u64], data: &[u8]| Page::new(1, 1, 1, bits, data);
    for (page, hint) in [
        (Page::new(1, 1, 8, &B3, &[0; 3]), "CIE Lab"),
        (
            Page::new(1, 1, 32844, &B1, &[0]),
            "PhotometricInterpretation 32844",
        ),
        (Page::new(1, 1, 6, &B3, &[0; 3]), "subsampled"),
        (
            Page::new(1, 1, 6, &B3, &[0; 3])
                .with(530, SHORT, &[1, 1])
                .with(
                    532,
                    RATIONAL,
                    &[15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1],
                ),
            "ReferenceBlackWhite",
        ),
        (
            Page::new(1, 1, 5, &B4, &[0; 4]).with(332, SHORT, &[2]),
            "inks",
        ),
        (
            Page::new(1, 1, 5, &B5, &[0; 5]).extra(&[1]),
            "premultiplied",
        ),
        (grey(&B2, &[0; 2]), "ExtraSamples"),
        (grey(&B1, &[0]).with(259, SHORT, &[50000]), "compression"),
        (grey(&B1, &[0]).with(266, SHORT, &[2]), "FillOrder"),
        (grey(&[12], &[0; 2]), "12"),
        (grey(&[32], &[0; 4]), "32 bits"),
        (grey(&[8], &[0]).with(339, SHORT, &[2]), "signed"),
        (
            grey(&[32], &floats(&[212.5])).with(339, SHORT, &[3]),
            "floats from 0 to 212.5",
        ),
        (
            grey(&[32], &floats(&[-0.06])).with(339, SHORT, &[3]),
            "floats from -0.05999",
        ),
        (Page::new(1, 1, 2, &[5, 6, 5], &[0; 2]), "[5, 6, 5]"),
    ] {
        let fault = decode(&page.file(), 4).unwrap_err();
        assert!(matches!(fault, Fault::Unread(_)), "{hint}: {fault}");
        let message = fault.at("a.tif".into()).to_string();
        assert!(message.contains(hint), "{hint}: {message}");
        assert!(
            message.contains("; convert it to an 8-bit RGB or RGBA PNG"),
            "{message}"
        );
        assert!(!message.contains("repair"), "{message}");
    }
}

#[test]
fn a_damaged_tiff_is_a_bad_image() {
    let grey = |bits: &[u64], data: &[u8]| Page::new(1, 1, 1, bits, data);
    for (page, hint) in [
        (grey(&B1, &[0]).without(262), "no PhotometricInterpretation"),
        (grey(&B1, &[0]).with(262, RATIONAL, &[1, 1]), "no number"),
        (
            Page::new(1, 1, 3, &B1, &[0]).with(320, SHORT, &[0; 9]),
            "palette",
        ),
        (Page::new(1, 1, 3, &B1, &[0]), "palette"),
        (
            Page::new(1, 1, 2, &B2, &[0; 2]),
            "its pixels have 2 samples",
        ),
        (
            grey(&[32], &floats(&[f32::NAN])).with(339, SHORT, &[3]),
            "not finite",
        ),
        (
            grey(&B1, &[0]).with(259, SHORT, &[7]),
            "cannot be decoded as TIFF",
        ),
        (Page::new(4, 9999, 1, &B1, &[0; 15]), "number of pixels"),
    ] {
        let fault = decode(&page.file(), 16).unwrap_err();
        assert!(!matches!(fault, Fault::Unread(_)), "{hint}: {fault}");
        assert!(fault.to_string().contains(hint), "{hint}: {fault}");
    }
    // of every cut and of many changes comes a picture or a sentence
    let whole = Page::new(2, 1, 2, &B4, &[32, 24, 18, 128, 9, 9, 9, 0]).extra(&[1]);
    for big in [false, true] {
        let whole = write(&[&whole], false, big);
        for at in 0..whole.len() {
            let _ = decode(&whole[..at], 16);
            for byte in [0, 1, 3, 127, 255] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = decode(&changed, 16);
            }
        }
    }
}
