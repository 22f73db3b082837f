//! What pictures and animations are encoded as, by the ending of the file's name.

use std::path::Path;

use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder};
use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use crate::atomic;
use crate::error::{Result, StoreError};

/// Of JPEG: hardly to be told from the original, at a quarter of its size.
const JPEG_QUALITY: u8 = 95;
/// What every PNG of ours says of itself (its `tEXt` chunk), so that it can be told from those of others.
const MARK: [&str; 2] = ["Software", "ddpm"];

/// A format for one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// Without loss.
    Png,
    /// Of quality 95.
    Jpeg,
    /// Without loss.
    Webp,
}

impl PictureFormat {
    /// The endings it is told by, as a sentence has them.
    pub const ENDINGS: &'static str = ".png, .jpg or .webp";

    /// The format that a file's name ends with, in small letters or capitals.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match ending(path)?.as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// Pixels that a side may have.
    #[must_use]
    pub fn longest_side(self) -> usize {
        match self {
            Self::Png => i32::MAX as usize,
            Self::Jpeg => usize::from(u16::MAX),
            Self::Webp => 1 << 14,
        }
    }
}

/// A format for an animation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnimationFormat {
    /// At most 256 colours a frame.
    Gif,
    /// Without loss.
    Webp,
    /// APNG, without loss.
    Png,
}

impl AnimationFormat {
    /// The endings it is told by, as a sentence has them.
    pub const ENDINGS: &'static str = ".gif, .webp or .png";

    /// The format that a file's name ends with, in small letters or capitals.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match ending(path)?.as_str() {
            "gif" => Some(Self::Gif),
            "webp" => Some(Self::Webp),
            "png" | "apng" => Some(Self::Png),
            _ => None,
        }
    }

    /// Pixels that a side may have.
    #[must_use]
    pub fn longest_side(self) -> usize {
        match self {
            Self::Gif => usize::from(u16::MAX),
            Self::Webp => PictureFormat::Webp.longest_side(),
            Self::Png => PictureFormat::Png.longest_side(),
        }
    }
}

fn ending(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Whether the first bytes of a PNG carry our mark, which stands right behind its header.
pub(super) fn is_marked(start: &[u8]) -> bool {
    let [key, value] = MARK.map(str::as_bytes);
    let chunk = [b"tEXt", key, b"\0", value].concat();
    start.windows(chunk.len()).any(|bytes| bytes == chunk)
}

/// How many first bytes of a file [`is_marked`] wants to see.
pub(super) const MARK_WITHIN: u64 = 128;

/// Bytes, channels last, as a file of `format`; JPEG and WebP have no grey with alpha, PNG has all.
pub(super) fn encode(
    format: PictureFormat,
    bytes: &[u8],
    [width, height]: [usize; 2],
    channels: usize,
) -> Result<Vec<u8>> {
    let refuse = |problem: String| StoreError::Image { problem };
    let longest = format.longest_side();
    let (Ok(w), Ok(h)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(refuse(format!("a picture of {width}x{height} pixels")));
    };
    if width.max(height) > longest {
        return Err(refuse(format!(
            "{width}x{height} pixels as {format:?}, which has at most {longest} a side; write a .png"
        )));
    }
    if bytes.len() != width * height * channels {
        return Err(refuse(format!(
            "{} bytes for {width}x{height} pixels",
            bytes.len()
        )));
    }
    let color = match channels {
        1 => ExtendedColorType::L8,
        2 => ExtendedColorType::La8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    };
    let mut out = Vec::new();
    let failed = |error: image::ImageError| refuse(error.to_string());
    match format {
        PictureFormat::Png => {
            let mut writer = png_encoder(&mut out, [w, h], channels)
                .and_then(Encoder::write_header)
                .map_err(png_failed)?;
            writer.write_image_data(bytes).map_err(png_failed)?;
            writer.finish().map_err(png_failed)?;
        }
        PictureFormat::Jpeg => JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY)
            .write_image(bytes, w, h, color)
            .map_err(failed)?,
        PictureFormat::Webp => WebPEncoder::new_lossless(&mut out)
            .write_image(bytes, w, h, color)
            .map_err(failed)?,
    }
    Ok(out)
}

/// An encoder of a PNG, animated or not, with our mark.
pub(super) fn png_encoder(
    out: &mut Vec<u8>,
    [width, height]: [u32; 2],
    channels: usize,
) -> std::result::Result<Encoder<'static, &mut Vec<u8>>, png::EncodingError> {
    let mut encoder = Encoder::new(out, width, height);
    encoder.set_color(match channels {
        1 => ColorType::Grayscale,
        2 => ColorType::GrayscaleAlpha,
        3 => ColorType::Rgb,
        _ => ColorType::Rgba,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Adaptive);
    let [key, value] = MARK.map(str::to_owned);
    encoder.add_text_chunk(key, value)?;
    Ok(encoder)
}

pub(super) fn png_failed(error: png::EncodingError) -> StoreError {
    StoreError::Image {
        problem: error.to_string(),
    }
}

/// Encodes and writes bytes, channels last, atomically.
pub(crate) fn write_png(
    path: &Path,
    bytes: &[u8],
    width: usize,
    height: usize,
    channels: usize,
) -> Result<()> {
    let png = encode(PictureFormat::Png, bytes, [width, height], channels)?;
    atomic::write_file(path, &png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_choose_the_format() {
        use AnimationFormat as A;
        use PictureFormat as P;
        for (name, picture, animation) in [
            ("a.png", Some(P::Png), Some(A::Png)),
            ("a.PNG", Some(P::Png), Some(A::Png)),
            ("b/c.d.jpg", Some(P::Jpeg), None),
            ("a.jpeg", Some(P::Jpeg), None),
            ("a.webp", Some(P::Webp), Some(A::Webp)),
            ("a.gif", None, Some(A::Gif)),
            ("a.apng", None, Some(A::Png)),
            ("a.mp4", None, None),
            ("png", None, None),
            (".png", None, None),
            ("a.", None, None),
            ("", None, None),
        ] {
            let path = Path::new(name);
            assert_eq!((P::of(path), A::of(path)), (picture, animation), "{name}");
        }
    }

    #[test]
    fn what_is_encoded_reads_back() {
        // A soft gradient, which JPEG keeps too.
        let pixels = |channels: usize| -> Vec<u8> {
            (0..16 * 8 * channels)
                .map(|at| (at / channels * 2) as u8)
                .collect()
        };
        for (format, tolerance) in [
            (PictureFormat::Png, 0),
            (PictureFormat::Webp, 0),
            (PictureFormat::Jpeg, 4),
        ] {
            for channels in [1, 3] {
                let bytes = pixels(channels);
                let file = encode(format, &bytes, [16, 8], channels).unwrap();
                assert_eq!(is_marked(&file), format == PictureFormat::Png);
                let read = image::load_from_memory(&file).unwrap();
                let read = match channels {
                    1 => read.into_luma8().into_raw(),
                    _ => read.into_rgb8().into_raw(),
                };
                assert_eq!(read.len(), bytes.len());
                for (a, b) in read.iter().zip(&bytes) {
                    assert!(
                        a.abs_diff(*b) <= tolerance,
                        "{format:?} {channels}: {a} {b}"
                    );
                }
            }
        }
    }

    #[test]
    fn sides_that_a_format_has_not_are_refused() {
        for (format, side) in [(PictureFormat::Jpeg, 65_536), (PictureFormat::Webp, 16_385)] {
            let refused = encode(format, &vec![0; side], [side, 1], 1)
                .unwrap_err()
                .to_string();
            assert!(refused.contains(&format!("{side}x1")), "{refused}");
            assert!(encode(format, &vec![0; side - 1], [1, side - 1], 1).is_ok());
        }
        assert!(encode(PictureFormat::Png, &[0; 3], [2, 2], 1).is_err());
    }
}
