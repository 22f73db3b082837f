//! A sequence of grids as an animated GIF, WebP or PNG.

mod webp;

use std::borrow::Cow;
use std::path::Path;

use gif::{Encoder, EncodingError, Frame, Repeat};

use super::Grid;
use super::format::{AnimationFormat, png_encoder, png_failed};
use crate::atomic;
use crate::error::{Result, StoreError};

/// How an animation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Animation {
    /// Milliseconds of each frame; GIF counts in steps of 10 and viewers slow down below 20.
    pub frame_ms: u32,
    /// Milliseconds of the last frame, the finished picture.
    pub hold_ms: u32,
}

impl Default for Animation {
    fn default() -> Self {
        Self {
            frame_ms: 60,
            hold_ms: 2000,
        }
    }
}

/// NeuQuant looks at every tenth pixel: its author's compromise of speed and quality.
const QUANTISER_SPEED: i32 = 10;

impl Animation {
    /// Milliseconds of frame `index` of `count`.
    fn ms(self, index: usize, count: usize) -> u32 {
        match index + 1 == count {
            true => self.hold_ms,
            false => self.frame_ms,
        }
    }
}

/// Writes the frames as an animation that repeats without end.
///
/// WebP and PNG keep every value. In a GIF grey frames do too, and colour frames as long as they have at most 256
/// colours; others get a palette of their own by NeuQuant.
///
/// # Errors   [`StoreError::Image`] if there are no frames, or their sizes differ or are more than the format has,
/// [`StoreError::Io`]
pub fn save_animation(
    path: &Path,
    frames: &[Grid],
    timing: Animation,
    format: AnimationFormat,
) -> Result<()> {
    let refuse = |problem: String| Err(StoreError::Image { problem });
    let Some(first) = frames.first() else {
        return refuse("an animation of no frames".to_owned());
    };
    let shape = |grid: &Grid| (grid.width, grid.height, grid.channels);
    for (index, grid) in frames.iter().enumerate() {
        let bytes = grid
            .width
            .saturating_mul(grid.height)
            .saturating_mul(grid.channels);
        if shape(grid) != shape(first) || grid.pixels.len() != bytes {
            return refuse(format!("frame {index} has another size than frame 0"));
        }
    }
    let longest = format.longest_side();
    if first.width.max(first.height) > longest {
        return refuse(format!(
            "{}x{} pixels as {format:?}, which has at most {longest} a side; draw fewer images",
            first.width, first.height
        ));
    }
    let bytes = match format {
        AnimationFormat::Gif => gif(first, frames, timing)?,
        AnimationFormat::Webp => webp::animated(first, frames, timing)?,
        AnimationFormat::Png => animated_png(first, frames, timing)?,
    };
    atomic::write_file(path, &bytes)
}

fn gif(first: &Grid, frames: &[Grid], timing: Animation) -> Result<Vec<u8>> {
    let refuse = |problem: String| StoreError::Image { problem };
    let (Ok(width), Ok(height)) = (u16::try_from(first.width), u16::try_from(first.height)) else {
        return Err(refuse("a GIF of more than 65535 pixels a side".to_owned()));
    };
    let failed = |error: EncodingError| refuse(error.to_string());
    // One grey palette for all frames, where they are grey.
    let greys: Vec<u8> = (0..=255).flat_map(|grey| [grey; 3]).collect();
    let palette: &[u8] = if first.channels == 1 { &greys } else { &[] };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height, palette).map_err(failed)?;
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    for (index, grid) in frames.iter().enumerate() {
        let mut frame = match grid.channels {
            1 => Frame {
                width,
                height,
                buffer: Cow::Borrowed(&grid.pixels),
                ..Frame::default()
            },
            _ => Frame::from_rgb_speed(width, height, &grid.pixels, QUANTISER_SPEED),
        };
        frame.delay = hundredths(timing.ms(index, frames.len()));
        encoder.write_frame(&frame).map_err(failed)?;
    }
    drop(encoder);
    Ok(bytes)
}

fn animated_png(first: &Grid, frames: &[Grid], timing: Animation) -> Result<Vec<u8>> {
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    let size = [side(first.width), side(first.height)];
    let mut encoder = png_encoder(&mut bytes, size, first.channels).map_err(png_failed)?;
    // 0 plays: without end.
    encoder.set_animated(count, 0).map_err(png_failed)?;
    let mut writer = encoder.write_header().map_err(png_failed)?;
    for (index, grid) in frames.iter().enumerate() {
        let ms = u16::try_from(timing.ms(index, frames.len())).unwrap_or(u16::MAX);
        writer.set_frame_delay(ms, 1000).map_err(png_failed)?;
        writer.write_image_data(&grid.pixels).map_err(png_failed)?;
    }
    writer.finish().map_err(png_failed)?;
    Ok(bytes)
}

fn hundredths(milliseconds: u32) -> u16 {
    u16::try_from(milliseconds.div_ceil(10)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const TIMING: Animation = Animation {
        frame_ms: 50,
        hold_ms: 1500,
    };

    fn save(path: &Path, frames: &[Grid]) -> Result<()> {
        save_animation(path, frames, Animation::default(), AnimationFormat::Gif)
    }

    struct Decoded {
        rgba: Vec<u8>,
        delay: u16,
    }

    fn decode(path: &Path) -> Vec<Decoded> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(path).unwrap()).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            frames.push(Decoded {
                rgba: frame.buffer.to_vec(),
                delay: frame.delay,
            });
        }
        frames
    }

    fn grid(channels: usize, pixels: Vec<u8>) -> Grid {
        let width = pixels.len() / channels / 4;
        Grid {
            width,
            height: 4,
            channels,
            pixels,
        }
    }

    #[test]
    fn grey_frames_are_exact_and_the_last_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.gif");
        let frames: Vec<Grid> = (0..3)
            .map(|k| grid(1, (0..=255_u8).map(|v| v.wrapping_add(k)).collect()))
            .collect();
        save_animation(&path, &frames, TIMING, AnimationFormat::Gif).unwrap();
        let decoded = decode(&path);
        assert_eq!(
            decoded.iter().map(|frame| frame.delay).collect::<Vec<_>>(),
            [5, 5, 150]
        );
        for (frame, grid) in decoded.iter().zip(&frames) {
            let expected: Vec<u8> = grid.pixels.iter().flat_map(|&v| [v, v, v, 255]).collect();
            assert_eq!(frame.rgba, expected);
        }
    }

    #[test]
    fn few_colours_are_exact_and_many_are_near() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.gif");
        for (count, mean_tolerance) in [(200_usize, 0), (65_536, 8)] {
            // A smooth picture: every channel a ramp along its own direction.
            let pixels: Vec<u8> = (0..count)
                .flat_map(|at| [at * 255 / count, (at % 64) * 4, 255 - at * 255 / count])
                .map(|value| value as u8)
                .collect();
            save(&path, &[grid(3, pixels.clone())]).unwrap();
            let decoded = decode(&path);
            let differences = pixels
                .chunks(3)
                .zip(decoded[0].rgba.chunks(4))
                .flat_map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| usize::from(a.abs_diff(b))));
            let total: usize = differences.sum();
            assert!(
                total <= mean_tolerance * pixels.len(),
                "{count} colours: {total}"
            );
        }
    }

    #[test]
    fn webp_and_png_keep_every_value_and_the_times() {
        use image::AnimationDecoder;
        use image::codecs::{png::PngDecoder, webp::WebPDecoder};
        use std::io::BufReader;

        let directory = tempfile::tempdir().unwrap();
        for channels in [1, 3] {
            let frames: Vec<Grid> = (0..4_u32)
                .map(|k| {
                    let pixels = (0..5 * 4 * channels as u32).map(|at| (at * 37 + k * 91) as u8);
                    grid(channels, pixels.collect())
                })
                .collect();
            for (name, format) in [
                ("a.webp", AnimationFormat::Webp),
                ("a.png", AnimationFormat::Png),
            ] {
                let path = directory.path().join(name);
                save_animation(&path, &frames, TIMING, format).unwrap();
                let file = BufReader::new(File::open(&path).unwrap());
                let decoded = match format {
                    AnimationFormat::Webp => WebPDecoder::new(file).unwrap().into_frames(),
                    _ => PngDecoder::new(file).unwrap().apng().unwrap().into_frames(),
                };
                let decoded = decoded.collect_frames().unwrap();
                assert_eq!(decoded.len(), frames.len());
                for (index, (found, grid)) in decoded.iter().zip(&frames).enumerate() {
                    let expected: Vec<u8> = grid
                        .pixels
                        .chunks(channels)
                        .flat_map(|p| [p[0], p[channels / 2], p[channels - 1], 255])
                        .collect();
                    assert_eq!(found.buffer().as_raw(), &expected, "{name}, frame {index}");
                    let ms = if index == 3 { 1500 } else { 50 };
                    assert_eq!(
                        found.delay().numer_denom_ms(),
                        (ms, 1),
                        "{name}, frame {index}"
                    );
                }
                // One picture where animations are not known.
                assert_eq!(image::open(&path).unwrap().width(), 5);
            }
        }
    }

    #[test]
    fn unequal_or_missing_frames_are_refused() {
        let path = Path::new("never-written.gif");
        assert!(save(path, &[]).is_err());
        let unequal = [grid(1, vec![0; 8]), grid(1, vec![0; 12])];
        assert!(save(path, &unequal).is_err());
        let lying = Grid {
            width: 4,
            height: 4,
            channels: 3,
            pixels: vec![0; 5],
        };
        assert!(save(path, &[lying]).is_err());
        let wide = Grid {
            width: 70_000,
            height: 1,
            channels: 1,
            pixels: vec![0; 70_000],
        };
        assert!(save(path, &[wide]).is_err());
        assert!(!path.exists());
    }
}
