//! TIFF 6.0 and BigTIFF: the `tiff` library unpacks the samples of the first page, what they mean is decided here.

mod bands;
mod colour;

use std::io::Cursor;

use image::DynamicImage;
use image::metadata::Orientation;
use tiff::TiffError;
use tiff::decoder::ifd::Value;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use crate::error::Fault;
use colour::{Alpha, Colour, Meaning, Pixels};

const INK_SET: Tag = Tag::Unknown(332);
const COEFFICIENTS: Tag = Tag::Unknown(529);
const REFERENCE_BLACK_WHITE: Tag = Tag::Unknown(532);
/// Compression by JPEG in each strip or tile (TIFF Technical Note 2).
const JPEG: u16 = 7;

type Tiff = Decoder<Cursor<Vec<u8>>>;

/// Decodes the first page to 8 bits a channel, upright, its alpha straight.
pub(super) fn decode(bytes: &[u8], max_pixels: u64, max_alloc: u64) -> Result<DynamicImage, Fault> {
    let (bands, photometric) = bands::split(bytes)?;
    let mut tiff = Decoder::new(Cursor::new(bands)).map_err(fault)?;
    let (width, height) = tiff.dimensions().map_err(fault)?;
    super::check_size(width, height, max_pixels)?;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(max_alloc).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    tiff = tiff.with_limits(limits);
    let meaning = meaning(&mut tiff, photometric)?;
    check_chunks(&mut tiff, bytes.len() as u64)?;
    let layout = tiff.image_buffer_layout().map_err(fault)?;
    if layout.complete_len as u64 > max_alloc {
        // with less room than that, the library reads the first plane alone
        return Err(fault(TiffError::LimitsExceeded));
    }
    let mut result = DecodingResult::U8(Vec::new());
    tiff.read_image_to_buffer(&mut result).map_err(fault)?;
    let pixels = Pixels {
        result,
        bits: one(&mut tiff, Tag::BitsPerSample, 1)?,
        samples: usize::from(one(&mut tiff, Tag::SamplesPerPixel, 1)?),
        planar: layout.planes > 1,
        width: width as usize,
        height: height as usize,
        row_bytes: layout.row_stride.map_or(0, usize::from),
        plane_bytes: layout.plane_stride.map_or(0, usize::from),
    };
    let mut image = pixels.to_image(&meaning)?;
    let orientation = one(&mut tiff, Tag::Orientation, 1)?.min(255) as u8;
    image.apply_orientation(
        Orientation::from_exif(orientation).unwrap_or(Orientation::NoTransforms),
    );
    Ok(image)
}

fn fault(error: TiffError) -> Fault {
    match error {
        TiffError::LimitsExceeded => Fault::Bad(
            "needs more memory to decode as TIFF than data.max_image_pixels allows".into(),
        ),
        TiffError::UnsupportedError(error) => not_read(error.to_string().trim_end_matches('.')),
        error => {
            let reason = error.to_string();
            Fault::Bad(format!(
                "cannot be decoded as TIFF: {}",
                reason.trim_end_matches('.')
            ))
        }
    }
}

fn bad(reason: &str) -> Fault {
    Fault::Bad(format!("cannot be decoded as TIFF: {reason}"))
}

fn not_read(what: &str) -> Fault {
    Fault::Unread(format!("is a kind of TIFF that is not read ({what})"))
}

/// What a tag's numbers are, none if there is no such tag.
fn numbers(tiff: &mut Tiff, tag: Tag) -> Result<Vec<u16>, Fault> {
    Ok(tiff
        .find_tag_unsigned_vec(tag)
        .map_err(fault)?
        .unwrap_or_default())
}

/// A tag's first number.
fn one(tiff: &mut Tiff, tag: Tag, default: u16) -> Result<u16, Fault> {
    Ok(numbers(tiff, tag)?.first().copied().unwrap_or(default))
}

fn rationals(tiff: &mut Tiff, tag: Tag) -> Result<Option<Vec<f64>>, Fault> {
    let number = |value: &Value| match value {
        Value::Rational(numerator, denominator) => {
            Some(f64::from(*numerator) / f64::from(*denominator))
        }
        Value::Float(value) => Some(f64::from(*value)),
        Value::Unsigned(value) => Some(f64::from(*value)),
        _ => None,
    };
    let numbers = match tiff.find_tag(tag).map_err(fault)? {
        None => return Ok(None),
        Some(Value::List(values)) => values.iter().map(number).collect(),
        Some(value) => number(&value).map(|value| vec![value]),
    };
    numbers
        .map(Some)
        .ok_or_else(|| bad("a tag that must hold fractions does not"))
}

fn meaning(tiff: &mut Tiff, photometric: u16) -> Result<Meaning, Fault> {
    if one(tiff, Tag::FillOrder, 1)? != 1 {
        return Err(not_read(
            "the bits of its bytes are in reverse order, FillOrder 2",
        ));
    }
    let bits = one(tiff, Tag::BitsPerSample, 1)?;
    let colour = match photometric {
        0 => Colour::WhiteIsZero,
        1 => Colour::Grey,
        2 => Colour::Rgb,
        3 => Colour::Palette(palette(&numbers(tiff, Tag::ColorMap)?, bits)?),
        5 if one(tiff, INK_SET, 1)? == 1 => Colour::Cmyk,
        5 => return Err(not_read("its inks are not cyan, magenta, yellow and black")),
        6 => ycbcr(tiff, bits)?,
        8..=10 => return Err(not_read("its colours are CIE Lab")),
        other => {
            let what = format!("its colours are of PhotometricInterpretation {other}");
            return Err(not_read(&what));
        }
    };
    let samples = one(tiff, Tag::SamplesPerPixel, 1)?;
    let extra = tiff
        .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
        .map_err(fault)?;
    let own = colour.samples();
    let Some(more) = usize::from(samples).checked_sub(own) else {
        return Err(bad(&format!(
            "its pixels have {samples} samples, of which colours take {own}"
        )));
    };
    let alpha = match &extra {
        Some(kinds) => match kinds
            .iter()
            .take(more)
            .position(|kind| matches!(kind, 1 | 2))
        {
            None => Alpha::None,
            Some(place) if kinds[place] == 2 => Alpha::Straight(own + place),
            Some(place) if matches!(colour, Colour::Grey | Colour::Rgb) => {
                Alpha::Premultiplied(own + place)
            }
            Some(_) => {
                return Err(not_read(
                    "its alpha is premultiplied and its colours are not RGB",
                ));
            }
        },
        None if more == 0 => Alpha::None,
        // Photoshop's and many others' RGBA; nobody else leaves the tag out
        None if more == 1 && matches!(colour, Colour::Rgb) => Alpha::Straight(own),
        None => {
            return Err(not_read(
                "nothing says what its further samples are, ExtraSamples",
            ));
        }
    };
    Ok(Meaning { colour, alpha })
}

/// Red, green and blue of each index.
fn palette(map: &[u16], bits: u16) -> Result<Vec<[f64; 3]>, Fault> {
    let len = 1usize.checked_shl(u32::from(bits)).unwrap_or(usize::MAX);
    if bits > 16 || map.len() != 3 * len {
        return Err(bad(&format!(
            "its palette has {} numbers for {bits} bits",
            map.len()
        )));
    }
    // as libtiff does: some programs write bytes. Others write a byte times 256 or times 257; both have it on top
    let down = if map.iter().all(|&part| part < 256) {
        0
    } else {
        8
    };
    let part = |index: usize| f64::from(map[index] >> down) / 255.0;
    Ok((0..len)
        .map(|index| [part(index), part(len + index), part(2 * len + index)])
        .collect())
}

fn ycbcr(tiff: &mut Tiff, bits: u16) -> Result<Colour, Fault> {
    let jpeg = one(tiff, Tag::Compression, 1)? == JPEG;
    let subsampling = tiff
        .find_tag_unsigned_vec::<u16>(Tag::ChromaSubsampling)
        .map_err(fault)?;
    // unless said, 2 by 2; JPEG brings colours to full size by itself
    if bits != 8 || !jpeg && subsampling.as_deref() != Some(&[1, 1]) {
        return Err(not_read(
            "its colours are YCbCr, subsampled or not of 8 bits",
        ));
    }
    let full = [0.0, 255.0, 128.0, 255.0, 128.0, 255.0];
    if rationals(tiff, REFERENCE_BLACK_WHITE)?.is_some_and(|range| range != full) {
        return Err(not_read(
            "its colours are YCbCr of a range of their own, ReferenceBlackWhite",
        ));
    }
    match rationals(tiff, COEFFICIENTS)?.as_deref() {
        None => Ok(Colour::YCbCr([0.299, 0.587, 0.114])),
        Some(&[red, green, blue]) if red > 0.0 && green > 0.0 && blue > 0.0 => {
            Ok(Colour::YCbCr([red, green, blue]))
        }
        Some(_) => Err(bad("its YCbCrCoefficients are not three shares")),
    }
}

/// Every strip or tile of JPEG must lie within the file: its decoder fills what is missing and says nothing.
fn check_chunks(tiff: &mut Tiff, len: u64) -> Result<(), Fault> {
    if one(tiff, Tag::Compression, 1)? != JPEG {
        return Ok(());
    }
    for (offsets, counts) in [
        (Tag::StripOffsets, Tag::StripByteCounts),
        (Tag::TileOffsets, Tag::TileByteCounts),
    ] {
        let mut list = |tag| tiff.find_tag_unsigned_vec::<u64>(tag).map_err(fault);
        let (offsets, counts) = (list(offsets)?, list(counts)?);
        let ends = offsets.iter().flatten().zip(counts.iter().flatten());
        if ends
            .map(|(offset, count)| offset.saturating_add(*count))
            .any(|end| end > len)
        {
            return Err(bad("it is cut off before its end"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
