mod tiff;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    metadata::Orientation,
};

use crate::error::Fault;
use crate::kinds;
use crate::raster::{Raster, Samples};

/// Extensions, in lower case, of files that are taken for images whatever they hold. A file with another
/// extension is taken for one if it starts like one; the format is decided by the content in both cases.
pub const IMAGE_EXTENSIONS: [&str; 11] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "dib", "tif", "tiff",
];

/// As many bytes as tell the formats apart.
pub(crate) const SNIFF_BYTES: usize = 16;

/// What a decoder may use beside the output image: palettes, tables, metadata, one frame of working space.
const DECODER_OVERHEAD_BYTES: u64 = 64 << 20;
/// Colour profile, texts and the like of a PNG; what cameras and programs write has at most a few megabytes.
const METADATA_BYTES: u64 = 8 << 20;
/// The most bytes a decoded pixel takes: four channels of 32-bit floats.
const MAX_PIXEL_BYTES: u64 = 16;

/// Whether a file's name says that it is an image.
pub(crate) fn has_image_extension(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| {
        IMAGE_EXTENSIONS
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Whether a file's first bytes are those of a format that [`decode`] reads.
pub(crate) fn looks_like_image(head: &[u8]) -> bool {
    guess_format(head).is_some_and(is_read)
}

fn guess_format(head: &[u8]) -> Option<ImageFormat> {
    if head.starts_with(b"II+\0") || head.starts_with(b"MM\0+") {
        // BigTIFF, which the library does not know
        return Some(ImageFormat::Tiff);
    }
    image::guess_format(head).ok()
}

fn is_read(format: ImageFormat) -> bool {
    matches!(
        format,
        ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff
    )
}

/// Decodes an image file's bytes to 8 bits a channel, upright by its EXIF orientation; the first frame of an
/// animation. Nothing is allocated for the pixels before their number is known to be allowed.
pub(crate) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Raster, Fault> {
    if bytes.is_empty() {
        return Err(Fault::Bad("is empty (0 bytes)".into()));
    }
    let format = match guess_format(bytes) {
        // Its decoder fills what is missing with grey and says nothing.
        Some(ImageFormat::Jpeg) if !jpeg_is_whole(bytes) => return Err(cut_off("JPEG")),
        // What says how to turn it stands behind the pixels.
        Some(ImageFormat::WebP) if !webp_is_whole(bytes) => return Err(cut_off("WEBP")),
        Some(format) if is_read(format) => format,
        Some(format) => {
            let name = format!("{format:?}").to_uppercase();
            return Err(Fault::Unread(format!("holds {name}, which is not read")));
        }
        None => {
            // a phone's HEIC goes by the name of a JPEG at times
            if let Some(kind) = kinds::of_content(bytes) {
                let name = kind.name();
                return Err(Fault::Unread(format!("holds {name}, which is not read")));
            }
            return Err(Fault::Bad(format!(
                "holds no PNG, JPEG, WebP, GIF, BMP or TIFF; it starts with {}",
                describe_start(bytes)
            )));
        }
    };
    // A decoder's panic on crafted input is a bad file, not a reason to lose a run.
    catch_unwind(AssertUnwindSafe(|| decode_as(format, bytes, max_pixels))).unwrap_or_else(|_| {
        Err(Fault::Bad(format!(
            "makes the {format:?} decoder fail; it is damaged"
        )))
    })
}

fn decode_as(format: ImageFormat, bytes: &[u8], max_pixels: u64) -> Result<Raster, Fault> {
    let max_alloc = max_pixels
        .saturating_mul(MAX_PIXEL_BYTES)
        .saturating_add(DECODER_OVERHEAD_BYTES);
    if format == ImageFormat::Tiff {
        return tiff::decode(bytes, max_pixels, max_alloc).map(to_raster);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_alloc);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let broken = |error: ImageError| Fault::Bad(describe_failure(format, &error));
    let opened = if format == ImageFormat::Png {
        // What this decoder opens with, it may unpack colour profiles and texts to.
        let mut header_limits = limits.clone();
        header_limits.max_alloc = Some(METADATA_BYTES);
        reader.limits(header_limits);
        reader.into_decoder().map_err(|error| match error {
            ImageError::Limits(_) => Fault::Bad(format!(
                "has metadata, or rows, of more than {METADATA_BYTES} bytes when unpacked"
            )),
            error => broken(error),
        })
    } else {
        reader.limits(limits.clone());
        reader.into_decoder().map_err(broken)
    };
    let mut decoder = opened?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    // metadata that cannot be read says nothing about the pixels
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    limits.reserve(decoder.total_bytes()).map_err(broken)?;
    decoder.set_limits(limits).map_err(broken)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(to_raster(image))
}

fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<(), Fault> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Fault::Bad(format!(
            "is {width}×{height} pixels, so it has none"
        )));
    }
    if pixels > max_pixels {
        return Err(Fault::Limit {
            what: "number of pixels",
            got: pixels,
            limit: max_pixels,
            key: "max_image_pixels",
        });
    }
    Ok(())
}

fn cut_off(format: &str) -> Fault {
    Fault::Bad(format!(
        "cannot be decoded as {format}: it is cut off before its end"
    ))
}

/// Whether a WebP has the bytes that its RIFF header says; some writers leave out the byte that pads to an even number.
fn webp_is_whole(bytes: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = bytes.get(4..8) else {
        return false;
    };
    let stated = u64::from(u32::from_le_bytes([a, b, c, d])) + 8;
    bytes.len() as u64 + 1 >= stated
}

/// Whether a JPEG's marker segments lead through a scan to its end marker (ITU-T T.81, annex B). What stands behind
/// that, as phones append it, does not matter.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let mut at = 2;
    let mut scanned = false;
    // In scan data 0xff is followed by 0 or a restart marker; anywhere, it may be repeated as filler.
    let in_scan = |marker: u8| matches!(marker, 0 | 0xd0..=0xd7);
    loop {
        let Some(found) = bytes[at..].iter().position(|&byte| byte == 0xff) else {
            return false;
        };
        at += found;
        match bytes.get(at + 1) {
            None => return false,
            Some(0xff) => at += 1,
            Some(&END) => return scanned,
            Some(&marker) if in_scan(marker) => at += 2,
            Some(&marker) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                scanned |= marker == SCAN;
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                if at > bytes.len() {
                    return false;
                }
            }
        }
    }
}

/// Deeper samples are rounded to 8 bits, which is what [-1, 1] is later made of.
fn to_raster(image: DynamicImage) -> Raster {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let channels = usize::from(image.color().channel_count());
    let bytes = match (image.color(), channels) {
        (ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8, _) => {
            image.into_bytes()
        }
        (_, 1) => image.into_luma8().into_raw(),
        (_, 2) => image.into_luma_alpha8().into_raw(),
        (_, 3) => image.into_rgb8().into_raw(),
        _ => image.into_rgba8().into_raw(),
    };
    Raster::new(width, height, channels, Samples::U8(bytes))
}

fn describe_failure(format: ImageFormat, error: &ImageError) -> String {
    let format = format!("{format:?}").to_uppercase();
    let reason = error.to_string();
    // the library's messages are sentences over several lines at times; ours is one
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        ImageError::Limits(_) => {
            format!("needs more memory to decode as {format} than data.max_image_pixels allows")
        }
        _ => format!(
            "cannot be decoded as {format}: {}",
            reason.trim_end_matches('.')
        ),
    }
}

fn describe_start(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SNIFF_BYTES)];
    if start
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    {
        let text: String = start.iter().map(|&byte| char::from(byte)).collect();
        format!("the text {:?}", text.trim())
    } else {
        let hex: Vec<String> = start.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("the bytes {}", hex.join(" "))
    }
}

#[cfg(test)]
mod tests;
