//! Frames in WebP's container (RFC 9649, section 2.7): the encoder for single pictures knows no animations.

use super::Animation;
use crate::error::{Result, StoreError};
use crate::images::Grid;
use crate::images::format::{PictureFormat, encode};

/// In `VP8X`: there is an animation.
const ANIMATED: u8 = 1 << 1;
/// In `ANMF`: the frame replaces what was there instead of being blended with it.
const NO_BLENDING: u8 = 1 << 1;

/// # Errors   [`StoreError::Image`] if a frame cannot be encoded
pub(super) fn animated(first: &Grid, frames: &[Grid], timing: Animation) -> Result<Vec<u8>> {
    let size = [less_one(first.width), less_one(first.height)].concat();
    let mut chunks = chunk(b"VP8X", &[&[ANIMATED, 0, 0, 0], &size[..]].concat());
    // Background and loops: black, and without end.
    chunks.extend(chunk(b"ANIM", &[0; 6]));
    for (index, grid) in frames.iter().enumerate() {
        let bytes = encode(
            PictureFormat::Webp,
            &grid.pixels,
            [grid.width, grid.height],
            grid.channels,
        )?;
        let ms = u24(timing.ms(index, frames.len()));
        let header = [&[0; 6], &size[..], &ms, &[NO_BLENDING]].concat();
        chunks.extend(chunk(b"ANMF", &[&header[..], picture(&bytes)?].concat()));
    }
    Ok(chunk(b"RIFF", &[b"WEBP", &chunks[..]].concat()))
}

/// A chunk: name, length, and bytes that are filled up to an even number.
fn chunk(name: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let padding: &[u8] = if bytes.len() % 2 == 1 { &[0] } else { &[] };
    [name, &length.to_le_bytes()[..], bytes, padding].concat()
}

/// What stands behind the header of a file with one picture: its chunk, header included.
fn picture(file: &[u8]) -> Result<&[u8]> {
    match file.get(12..) {
        Some(rest) if rest.starts_with(b"VP8L") => Ok(rest),
        _ => Err(StoreError::Image {
            problem: "the encoder made no lossless WebP".to_owned(),
        }),
    }
}

fn u24(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.min(0xff_ffff).to_le_bytes();
    [a, b, c]
}

/// A side, which WebP writes down less one.
fn less_one(side: usize) -> [u8; 3] {
    u24(u32::try_from(side.saturating_sub(1)).unwrap_or(u32::MAX))
}
