use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader, Limits};

use crate::config::Size;
use crate::decode::{decode, looks_like_image};
use crate::error::Fault;
use crate::source::Source;

/// Nearly all headers end before this; what does not is read as a whole.
const HEAD_BYTES: usize = 128 << 10;
/// What a decoder may set aside before it comes to the pixels.
const MAX_ALLOC: u64 = 64 << 20;

/// What a file says of its image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    /// Upright, by the file's orientation.
    pub(super) size: Size,
    pub(super) channels: usize,
}

/// What the file of an image says of it; of a file whose header cannot be read by itself, what decoding it gives.
///
/// # Errors   those of [`decode`]
pub(super) fn header(source: &Source, index: usize, max_pixels: u64) -> Result<Header, Fault> {
    let head = source.head(index, HEAD_BYTES)?;
    // what says how to turn a WebP stands behind its pixels
    if let (false, Some(header)) = (head.starts_with(b"RIFF"), parse(&head)) {
        return Ok(header);
    }
    let bytes = source.bytes(index)?;
    if let Some(header) = parse(&bytes) {
        return Ok(header);
    }
    // for the sentence that says what is wrong with it
    decode(&bytes, max_pixels).map(|raster| Header {
        size: Size {
            height: raster.height,
            width: raster.width,
        },
        channels: raster.channels,
    })
}

fn parse(bytes: &[u8]) -> Option<Header> {
    if !looks_like_image(bytes) {
        return None;
    }
    // A decoder's panic on crafted input is a bad file, which decoding it will say.
    catch_unwind(AssertUnwindSafe(|| parse_as(bytes))).ok()?
}

fn parse_as(bytes: &[u8]) -> Option<Header> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let channels = usize::from(decoder.color_type().channel_count());
    let turned = matches!(
        decoder.orientation(),
        Ok(Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH)
    );
    let (height, width) = match turned {
        true => (width, height),
        false => (height, width),
    };
    let size = Size {
        height: height as usize,
        width: width as usize,
    };
    (width > 0 && height > 0).then_some(Header { size, channels })
}
