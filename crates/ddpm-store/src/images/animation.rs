//! A sequence of grids as an animated GIF.

use std::borrow::Cow;
use std::path::Path;

use gif::{Encoder, EncodingError, Frame, Repeat};

use super::Grid;
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

/// Writes the frames as a GIF that repeats without end.
///
/// Grey frames keep every value; colour frames too as long as they have at most 256 colours, and get a
/// palette of their own by NeuQuant otherwise.
///
/// # Errors   [`StoreError::Image`] if there are no frames, or their sizes differ or are over 65,535,
/// [`StoreError::Io`]
pub fn save_gif(path: &Path, frames: &[Grid], timing: Animation) -> Result<()> {
    let refuse = |problem: String| StoreError::Image { problem };
    let Some(first) = frames.first() else {
        return Err(refuse("an animation of no frames".to_owned()));
    };
    let (Ok(width), Ok(height)) = (u16::try_from(first.width), u16::try_from(first.height)) else {
        return Err(refuse(format!(
            "a GIF of {}x{} pixels; 65535 a side are possible, so draw fewer images",
            first.width, first.height
        )));
    };
    let failed = |error: EncodingError| refuse(error.to_string());
    // One grey palette for all frames, where they are grey.
    let greys: Vec<u8> = (0..=255).flat_map(|grey| [grey; 3]).collect();
    let palette: &[u8] = if first.channels == 1 { &greys } else { &[] };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height, palette).map_err(failed)?;
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    for (index, grid) in frames.iter().enumerate() {
        let shape = |grid: &Grid| (grid.width, grid.height, grid.channels);
        if shape(grid) != shape(first)
            || grid.pixels.len() != grid.width * grid.height * grid.channels
        {
            return Err(refuse(format!(
                "frame {index} has another size than frame 0"
            )));
        }
        let mut frame = match grid.channels {
            1 => Frame {
                width,
                height,
                buffer: Cow::Borrowed(&grid.pixels),
                ..Frame::default()
            },
            _ => Frame::from_rgb_speed(width, height, &grid.pixels, QUANTISER_SPEED),
        };
        let last = index + 1 == frames.len();
        frame.delay = hundredths(if last {
            timing.hold_ms
        } else {
            timing.frame_ms
        });
        encoder.write_frame(&frame).map_err(failed)?;
    }
    drop(encoder);
    atomic::write_file(path, &bytes)
}

fn hundredths(milliseconds: u32) -> u16 {
    u16::try_from(milliseconds.div_ceil(10)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

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
        save_gif(
            &path,
            &frames,
            Animation {
                frame_ms: 50,
                hold_ms: 1500,
            },
        )
        .unwrap();
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
            save_gif(&path, &[grid(3, pixels.clone())], Animation::default()).unwrap();
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
    fn unequal_or_missing_frames_are_refused() {
        let path = Path::new("never-written.gif");
        assert!(save_gif(path, &[], Animation::default()).is_err());
        let unequal = [grid(1, vec![0; 8]), grid(1, vec![0; 12])];
        assert!(save_gif(path, &unequal, Animation::default()).is_err());
        let lying = Grid {
            width: 4,
            height: 4,
            channels: 3,
            pixels: vec![0; 5],
        };
        assert!(save_gif(path, &[lying], Animation::default()).is_err());
        let wide = Grid {
            width: 70_000,
            height: 1,
            channels: 1,
            pixels: vec![0; 70_000],
        };
        assert!(save_gif(path, &[wide], Animation::default()).is_err());
        assert!(!path.exists());
    }
}
