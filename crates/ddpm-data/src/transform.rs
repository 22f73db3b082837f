use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, LumaA, Pixel, Primitive, Rgb as RgbPixel, Rgba as RgbaPixel};

use crate::config::{DataConfig, Fit, Rgb, Size};
use crate::error::Fault;
use crate::raster::{Raster, Sample, Samples, has_alpha};

/// Shares of red, green and blue in grey (ITU-R BT.601, as PIL and torchvision have it).
pub const GREY_WEIGHTS: [f32; 3] = [0.299, 0.587, 0.114];

/// What is done to every image of a set: channels first, then size.
#[derive(Clone, Debug)]
pub(crate) struct Fitting {
    pub(crate) size: Option<Size>,
    pub(crate) channels: Option<usize>,
    pub(crate) background: Option<Rgb>,
    pub(crate) fit: Fit,
    pub(crate) max_pixels: u64,
}

impl Fitting {
    pub(crate) fn new(config: &DataConfig) -> Self {
        Self {
            size: config.size,
            channels: config.channels,
            background: config.background,
            fit: config.fit,
            max_pixels: config.max_image_pixels,
        }
    }

    pub(crate) fn apply(&self, raster: Raster) -> Result<Raster, Fault> {
        let channels = self.channels.unwrap_or(match self.background {
            Some(_) if raster.has_alpha() => raster.channels - 1,
            _ => raster.channels,
        });
        let background = self
            .background
            .map_or([0.0; 3], |Rgb(parts)| parts.map(u8::to_unit));
        let raster = convert_channels(raster, channels, background);
        match self.size {
            Some(size) if (size.height, size.width) != (raster.height, raster.width) => {
                self.resize(raster, size, background)
            }
            _ => Ok(raster),
        }
    }

    fn resize(&self, raster: Raster, size: Size, background: [f32; 3]) -> Result<Raster, Fault> {
        match self.fit {
            Fit::Stretch => self.resample(raster, size),
            Fit::Crop => {
                let window = crop_window(&raster, size);
                self.resample(crop(&raster, window), size)
            }
            Fit::Pad => {
                let inner = inner_size(&raster, size);
                let fill = pad_pixel(raster.channels, background);
                Ok(pad(&self.resample(raster, inner)?, size, fill))
            }
        }
    }

    /// Lanczos with three lobes; the colours of transparent pixels do not bleed into their neighbours.
    fn resample(&self, raster: Raster, size: Size) -> Result<Raster, Fault> {
        if (size.height, size.width) == (raster.height, raster.width) {
            return Ok(raster);
        }
        // the resampler's buffer between its two passes: a very wide image can make it far larger than both ends
        let between = (raster.width as u64).saturating_mul(size.height as u64);
        if between > self.max_pixels {
            return Err(Fault::Limit {
                what: "number of pixels between the passes of resizing",
                got: between,
                limit: self.max_pixels,
                key: "max_image_pixels",
            });
        }
        let Raster {
            width,
            height,
            channels,
            samples,
        } = raster;
        let from = Size { height, width };
        let samples = match samples {
            Samples::U8(bytes) if has_alpha(channels) => {
                let mut units: Vec<f32> = bytes.into_iter().map(u8::to_unit).collect();
                premultiply(&mut units, channels);
                let mut units = lanczos(units, channels, from, size)?;
                unpremultiply(&mut units, channels);
                Samples::U8(units.into_iter().map(u8::from_unit).collect())
            }
            Samples::U8(bytes) => Samples::U8(lanczos(bytes, channels, from, size)?),
            Samples::Unit(mut units) if has_alpha(channels) => {
                premultiply(&mut units, channels);
                let mut units = lanczos(units, channels, from, size)?;
                unpremultiply(&mut units, channels);
                Samples::Unit(units)
            }
            Samples::Unit(units) => Samples::Unit(lanczos(units, channels, from, size)?),
        };
        Ok(Raster::new(size.width, size.height, channels, samples))
    }
}

fn lanczos<S>(samples: Vec<S>, channels: usize, from: Size, to: Size) -> Result<Vec<S>, Fault>
where
    S: Primitive + 'static,
    Luma<S>: Pixel<Subpixel = S> + 'static,
    LumaA<S>: Pixel<Subpixel = S> + 'static,
    RgbPixel<S>: Pixel<Subpixel = S> + 'static,
    RgbaPixel<S>: Pixel<Subpixel = S> + 'static,
{
    match channels {
        1 => lanczos_as::<Luma<S>>(samples, from, to),
        2 => lanczos_as::<LumaA<S>>(samples, from, to),
        3 => lanczos_as::<RgbPixel<S>>(samples, from, to),
        _ => lanczos_as::<RgbaPixel<S>>(samples, from, to),
    }
}

fn lanczos_as<P: Pixel + 'static>(
    samples: Vec<P::Subpixel>,
    from: Size,
    to: Size,
) -> Result<Vec<P::Subpixel>, Fault>
where
    P::Subpixel: 'static,
{
    let side = |pixels: usize| {
        u32::try_from(pixels).map_err(|_| Fault::Bad(format!("has a side of {pixels} pixels")))
    };
    let (width, height) = (side(from.width)?, side(from.height)?);
    let (to_width, to_height) = (side(to.width)?, side(to.height)?);
    let buffer: ImageBuffer<P, _> = ImageBuffer::from_raw(width, height, samples)
        .ok_or_else(|| Fault::Bad("holds fewer samples than its size needs".into()))?;
    Ok(imageops::resize(&buffer, to_width, to_height, FilterType::Lanczos3).into_raw())
}

fn premultiply(units: &mut [f32], channels: usize) {
    for pixel in units.chunks_exact_mut(channels) {
        if let Some((alpha, colours)) = pixel.split_last_mut() {
            for colour in colours {
                *colour *= *alpha;
            }
        }
    }
}

fn unpremultiply(units: &mut [f32], channels: usize) {
    for pixel in units.chunks_exact_mut(channels) {
        if let Some((alpha, colours)) = pixel.split_last_mut() {
            for colour in colours {
                *colour = if *alpha > 0.0 {
                    (*colour / *alpha).min(1.0)
                } else {
                    0.0
                };
            }
        }
    }
}

/// Grey to colour by repetition, colour to grey by [`GREY_WEIGHTS`], alpha added opaque or laid on `background`.
fn convert_channels(raster: Raster, channels: usize, background: [f32; 3]) -> Raster {
    if raster.channels == channels {
        return raster;
    }
    let samples = match &raster.samples {
        Samples::U8(bytes) => Samples::U8(convert_samples(
            bytes,
            raster.channels,
            channels,
            background,
        )),
        Samples::Unit(units) => Samples::Unit(convert_samples(
            units,
            raster.channels,
            channels,
            background,
        )),
    };
    Raster::new(raster.width, raster.height, channels, samples)
}

fn convert_samples<S: Sample>(
    samples: &[S],
    from: usize,
    to: usize,
    background: [f32; 3],
) -> Vec<S> {
    let mut out = Vec::with_capacity(samples.len() / from * to);
    for pixel in samples.chunks_exact(from) {
        let unit = |index: usize| pixel[index].to_unit();
        let (colour, alpha) = match from {
            1 => ([unit(0); 3], 1.0),
            2 => ([unit(0); 3], unit(1)),
            3 => ([unit(0), unit(1), unit(2)], 1.0),
            _ => ([unit(0), unit(1), unit(2)], unit(3)),
        };
        let colour = if has_alpha(to) {
            colour
        } else {
            [0, 1, 2].map(|i| colour[i] * alpha + background[i] * (1.0 - alpha))
        };
        match to {
            1 | 2 => out.push(S::from_unit(grey(colour))),
            _ => out.extend(colour.map(S::from_unit)),
        }
        if has_alpha(to) {
            out.push(S::from_unit(alpha));
        }
    }
    out
}

fn grey(colour: [f32; 3]) -> f32 {
    let [red, green, blue] = colour;
    if red == green && green == blue {
        // exact, where the weighted sum would round
        return red;
    }
    GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue
}

/// A rectangle of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    top: usize,
    left: usize,
    size: Size,
}

/// The largest centred rectangle of the aspect ratio of `size`: cropping before resizing gives what cropping
/// after it does, without an intermediate image that a very long side would make huge.
fn crop_window(raster: &Raster, size: Size) -> Window {
    let wider =
        raster.width as u128 * size.height as u128 > size.width as u128 * raster.height as u128;
    let window = if wider {
        Size {
            height: raster.height,
            width: scale(raster.height, size.width, size.height).clamp(1, raster.width),
        }
    } else {
        Size {
            height: scale(raster.width, size.height, size.width).clamp(1, raster.height),
            width: raster.width,
        }
    };
    Window {
        top: (raster.height - window.height) / 2,
        left: (raster.width - window.width) / 2,
        size: window,
    }
}

/// The largest size of the image's aspect ratio within `size`.
fn inner_size(raster: &Raster, size: Size) -> Size {
    let wider =
        raster.width as u128 * size.height as u128 > size.width as u128 * raster.height as u128;
    if wider {
        Size {
            height: scale(size.width, raster.height, raster.width).clamp(1, size.height),
            width: size.width,
        }
    } else {
        Size {
            height: size.height,
            width: scale(size.height, raster.width, raster.height).clamp(1, size.width),
        }
    }
}

/// length · numerator / denominator, rounded to the nearest pixel.
fn scale(length: usize, numerator: usize, denominator: usize) -> usize {
    (length as f64 * numerator as f64 / denominator as f64).round() as usize
}

fn crop(raster: &Raster, window: Window) -> Raster {
    let samples = match &raster.samples {
        Samples::U8(bytes) => Samples::U8(crop_samples(bytes, raster, window)),
        Samples::Unit(units) => Samples::Unit(crop_samples(units, raster, window)),
    };
    Raster::new(
        window.size.width,
        window.size.height,
        raster.channels,
        samples,
    )
}

fn crop_samples<S: Copy>(samples: &[S], raster: &Raster, window: Window) -> Vec<S> {
    let first = window.left * raster.channels;
    let last = first + window.size.width * raster.channels;
    samples
        .chunks_exact(raster.width * raster.channels)
        .skip(window.top)
        .take(window.size.height)
        .flat_map(|row| row[first..last].iter().copied())
        .collect()
}

/// The colour of padding: the background, transparent where there is alpha.
fn pad_pixel(channels: usize, background: [f32; 3]) -> Vec<f32> {
    match channels {
        1 => vec![grey(background)],
        3 => background.to_vec(),
        _ => vec![0.0; channels],
    }
}

/// Sets the image into the middle of a larger one.
fn pad(raster: &Raster, size: Size, fill: Vec<f32>) -> Raster {
    let samples = match &raster.samples {
        Samples::U8(bytes) => Samples::U8(pad_samples(bytes, raster, size, &fill)),
        Samples::Unit(units) => Samples::Unit(pad_samples(units, raster, size, &fill)),
    };
    Raster::new(size.width, size.height, raster.channels, samples)
}

fn pad_samples<S: Sample>(samples: &[S], raster: &Raster, size: Size, fill: &[f32]) -> Vec<S> {
    let fill: Vec<S> = fill.iter().map(|&unit| S::from_unit(unit)).collect();
    let mut out = fill.repeat(size.width * size.height);
    let top = (size.height - raster.height) / 2;
    let left = (size.width - raster.width) / 2 * raster.channels;
    let row_length = raster.width * raster.channels;
    let rows = out.chunks_exact_mut(size.width * raster.channels).skip(top);
    for (row, source) in rows.zip(samples.chunks_exact(row_length)) {
        row[left..left + row_length].copy_from_slice(source);
    }
    out
}

#[cfg(test)]
mod tests;
