use image::{DynamicImage, GrayAlphaImage, GrayImage, RgbImage, RgbaImage};
use tiff::decoder::DecodingResult;

use crate::error::Fault;

/// How far a float may lie outside 0..1: rounding in whatever wrote the file.
const TOLERANCE: f64 = 1e-3;

/// What the samples of a pixel are.
pub(super) struct Meaning {
    pub(super) colour: Colour,
    pub(super) alpha: Alpha,
}

pub(super) enum Colour {
    WhiteIsZero,
    Grey,
    Rgb,
    /// Red, green and blue of each index, in [0, 1].
    Palette(Vec<[f64; 3]>),
    Cmyk,
    /// With the shares of red, green and blue in Y.
    YCbCr([f64; 3]),
}

/// Which sample is alpha.
pub(super) enum Alpha {
    None,
    Straight(usize),
    Premultiplied(usize),
}

impl Colour {
    pub(super) fn samples(&self) -> usize {
        match self {
            Self::WhiteIsZero | Self::Grey | Self::Palette(_) => 1,
            Self::Rgb | Self::YCbCr(_) => 3,
            Self::Cmyk => 4,
        }
    }

    fn is_grey(&self) -> bool {
        matches!(self, Self::WhiteIsZero | Self::Grey)
    }
}

/// A page's samples as they are stored.
pub(super) struct Pixels {
    pub(super) result: DecodingResult,
    pub(super) bits: u16,
    pub(super) samples: usize,
    /// Whether each sample has a plane of its own.
    pub(super) planar: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) row_bytes: usize,
    pub(super) plane_bytes: usize,
}

impl Pixels {
    /// The picture, each channel rounded to 8 bits, its alpha straight.
    pub(super) fn to_image(&self, meaning: &Meaning) -> Result<DynamicImage, Fault> {
        let most = self.most(&meaning.colour)?;
        let alpha_at = match meaning.alpha {
            Alpha::None => None,
            Alpha::Straight(at) | Alpha::Premultiplied(at) => Some(at),
        };
        let colours = if meaning.colour.is_grey() { 1 } else { 3 };
        let channels = colours + usize::from(alpha_at.is_some());
        let mut out = Vec::with_capacity(self.width * self.height * channels);
        let (mut low, mut high) = (0f64, 1f64);
        for y in 0..self.height {
            for x in 0..self.width {
                let mut unit = |sample: usize| {
                    let value = self.stored(x, y, sample).unwrap_or(f64::NAN) / most;
                    low = low.min(value);
                    high = high.max(value);
                    if value.is_finite() {
                        Ok(value)
                    } else {
                        Err(not_a_number())
                    }
                };
                let mut colour = match &meaning.colour {
                    Colour::Grey => [unit(0)?; 3],
                    Colour::WhiteIsZero => [1.0 - unit(0)?; 3],
                    Colour::Rgb => [unit(0)?, unit(1)?, unit(2)?],
                    Colour::Cmyk => {
                        let paper = 1.0 - unit(3)?;
                        [
                            (1.0 - unit(0)?) * paper,
                            (1.0 - unit(1)?) * paper,
                            (1.0 - unit(2)?) * paper,
                        ]
                    }
                    Colour::YCbCr(shares) => from_ycbcr(*shares, [unit(0)?, unit(1)?, unit(2)?]),
                    Colour::Palette(palette) => self
                        .stored(x, y, 0)
                        .and_then(|index| palette.get(index as usize).copied())
                        .ok_or_else(not_a_number)?,
                };
                let alpha = alpha_at.map(&mut unit).transpose()?;
                if let (Alpha::Premultiplied(_), Some(alpha)) = (&meaning.alpha, alpha) {
                    let straight = |part: f64| if alpha > 0.0 { part / alpha } else { 0.0 };
                    colour = colour.map(straight);
                }
                let byte = |unit: f64| (unit * 255.0).round() as u8; // `as` saturates
                out.extend(colour.iter().take(colours).map(|&part| byte(part)));
                out.extend(alpha.map(byte));
            }
        }
        if low < -TOLERANCE || high > 1.0 + TOLERANCE {
            return Err(Fault::Unread(format!(
                "holds floats from {low} to {high}, and floats of a TIFF are read from 0 to 1 only"
            )));
        }
        self.wrap(out, channels)
            .ok_or_else(|| super::bad("it has fewer samples than its size needs"))
    }

    fn wrap(&self, out: Vec<u8>, channels: usize) -> Option<DynamicImage> {
        let (width, height) = (
            u32::try_from(self.width).ok()?,
            u32::try_from(self.height).ok()?,
        );
        match channels {
            1 => GrayImage::from_raw(width, height, out).map(DynamicImage::from),
            2 => GrayAlphaImage::from_raw(width, height, out).map(DynamicImage::from),
            3 => RgbImage::from_raw(width, height, out).map(DynamicImage::from),
            _ => RgbaImage::from_raw(width, height, out).map(DynamicImage::from),
        }
    }

    /// The stored number that stands for 1.
    fn most(&self, colour: &Colour) -> Result<f64, Fault> {
        let unsigned = matches!(self.result, DecodingResult::U8(_) | DecodingResult::U16(_));
        let float = matches!(
            self.result,
            DecodingResult::F16(_) | DecodingResult::F32(_) | DecodingResult::F64(_)
        );
        match self.bits {
            1 | 2 | 4 | 8 | 16 if unsigned => Ok(f64::from((1u32 << self.bits) - 1)),
            _ if float && matches!(colour, Colour::WhiteIsZero | Colour::Grey | Colour::Rgb) => {
                Ok(1.0)
            }
            bits => {
                let kind = if unsigned || float {
                    ""
                } else {
                    ", signed or 32 bits and more"
                };
                Err(super::not_read(&format!(
                    "its samples have {bits} bits{kind}"
                )))
            }
        }
    }

    /// A sample as it is stored; none beyond the end.
    fn stored(&self, x: usize, y: usize, sample: usize) -> Option<f64> {
        let (plane, sample, samples) = match self.planar {
            true => (sample, 0, 1),
            false => (0, sample, self.samples),
        };
        let along = x * samples + sample;
        if let (DecodingResult::U8(bytes), bits @ 1..8) = (&self.result, usize::from(self.bits)) {
            // packed from the highest bit on, each row from a byte on
            let bit = along * bits;
            let byte = bytes.get(plane * self.plane_bytes + y * self.row_bytes + bit / 8)?;
            let shifted = byte >> (8 - bits - bit % 8);
            return Some(f64::from(shifted & ((1 << bits) - 1)));
        }
        let at = (plane * self.height + y) * self.width * samples + along;
        match &self.result {
            DecodingResult::U8(values) => values.get(at).map(|&value| f64::from(value)),
            DecodingResult::U16(values) => values.get(at).map(|&value| f64::from(value)),
            DecodingResult::F16(values) => values.get(at).map(|value| value.to_f64()),
            DecodingResult::F32(values) => values.get(at).map(|&value| f64::from(value)),
            DecodingResult::F64(values) => values.get(at).copied(),
            _ => None,
        }
    }
}

fn not_a_number() -> Fault {
    Fault::Bad("holds a sample that is not finite, or beyond its palette".into())
}

/// Full-range YCbCr as JPEG has it; the shares of red, green and blue sum to 1.
fn from_ycbcr([red, green, blue]: [f64; 3], [y, cb, cr]: [f64; 3]) -> [f64; 3] {
    const MIDDLE: f64 = 128.0 / 255.0;
    let r = y + (2.0 - 2.0 * red) * (cr - MIDDLE);
    let b = y + (2.0 - 2.0 * blue) * (cb - MIDDLE);
    [r, (y - red * r - blue * b) / green, b]
}
