//! The data set, and what its images hold.

use anyhow::Result;
use ddpm_data::{Dataset, PIXEL_MAX, PIXEL_MIN};
use ddpm_store::ImageBatch;
use ddpm_train::Config;
use ddpm_unet::ModelConfig;

use super::finding::{Finding, Level};
use crate::words;

/// How many images are looked at, unless they are large.
const LOOKED_AT: usize = 8;
/// Numbers of all these images together, beyond the first.
const MOST_NUMBERS: usize = 1 << 24;
/// Numbers of an image that is too large to look at.
const TOO_MANY_NUMBERS: usize = 1 << 28;
/// A smaller span between the darkest and the brightest pixel, of 2, is no picture: 12 bits in a file of 16 span a
/// sixteenth, 0.125 and rounding.
const LEAST_SPAN: f32 = 0.14;
/// Rounding may lead this far out of the range.
const SLACK: f32 = 1e-3;

/// Some images, evenly spread over a set.
#[derive(Debug)]
pub struct Look {
    /// The images.
    pub images: ImageBatch,
    /// Their pixels.
    pub pixels: Pixels,
}

/// The range of some images' pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixels {
    /// How many images.
    pub images: usize,
    /// The darkest.
    pub least: f32,
    /// Their mean.
    pub mean: f64,
    /// The brightest.
    pub most: f32,
    /// Whether they are made and not decoded, so that they need not be pixels.
    pub made: bool,
}

impl Pixels {
    /// The largest |pixel|.
    pub fn largest(&self) -> f32 {
        self.least.abs().max(self.most.abs())
    }
}

/// Decodes some images; `None` if they are too large for that.
///
/// # Errors   those of decoding
pub fn look(dataset: &Dataset, made: bool) -> Result<Option<Look>> {
    let Some(images) = looked_at(dataset) else {
        return Ok(None);
    };
    let count = images.len();
    let mut all = Vec::new();
    for image in images {
        all.extend(dataset.get(image, false)?.pixels);
    }
    let sum: f64 = all.iter().copied().map(f64::from).sum();
    let pixels = Pixels {
        images: count,
        least: all.iter().copied().fold(f32::INFINITY, f32::min),
        mean: sum / all.len().max(1) as f64,
        most: all.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        made,
    };
    let [channels, height, width] = dataset.shape();
    Ok(Some(Look {
        images: ImageBatch::new(all, [count, channels, height, width])?,
        pixels,
    }))
}

/// The numbers of the images that are looked at; none if they are too large for that.
fn looked_at(dataset: &Dataset) -> Option<Vec<usize>> {
    let extents = dataset.shape();
    let numbers = extents.into_iter().fold(1, usize::saturating_mul);
    if numbers > TOO_MANY_NUMBERS {
        return None;
    }
    let count = LOOKED_AT
        .min(MOST_NUMBERS / numbers.max(1))
        .clamp(1, dataset.len());
    let each = dataset.len() / count;
    Some((0..count).map(|i| each * i).collect())
}

/// The images of [`look`] as they come in the first epoch of a run.
///
/// # Errors   those of decoding, and of changes that these images cannot have
pub fn augmented(dataset: &Dataset, config: &Config) -> Result<ImageBatch> {
    let images = looked_at(dataset).unwrap_or_default();
    let mut all = Vec::new();
    for &image in &images {
        let at = (config.seed, 0);
        let item = dataset.get_augmented(image, config.data.flip, &config.augment, at)?;
        all.extend(item.pixels);
    }
    let [channels, height, width] = dataset.shape();
    Ok(ImageBatch::new(
        all,
        [images.len(), channels, height, width],
    )?)
}

/// How many images, and which could not be used.
pub fn set(dataset: &Dataset, model: &ModelConfig) -> Vec<Finding> {
    let mut found = vec![Finding::ok("data", dataset.describe())];
    if let Some(first) = dataset.skipped().first() {
        found.push(Finding::warn(
            "data",
            format!(
                "{} skipped, the first {}, because it {}; repair or remove what is bad",
                words::some(dataset.skipped().len() as u64, "bad image"),
                first.path.display(),
                first.reason
            ),
        ));
    }
    let untold = matches!(model, ModelConfig::Unet(_)) && model.classes().is_none();
    if dataset.labels().is_some() && untold {
        found.push(Finding::note(
            "data",
            "the network is not told the classes of the images; `model.classes = \"auto\"` tells it",
        ));
    }
    found
}

/// Warns, before a run, of pixels that are not those of pictures.
///
/// # Errors   those of decoding
pub fn warn_of_pixels(dataset: &Dataset, made: bool) -> Result<()> {
    if let Some(look) = look(dataset, made)? {
        let finding = pixels(&look.pixels);
        if finding.level >= Level::Warn {
            tracing::warn!("{}: {}", finding.topic, finding.text);
        }
    }
    Ok(())
}

/// Whether the pixels are those of pictures.
pub fn pixels(pixels: &Pixels) -> Finding {
    let Pixels {
        least, mean, most, ..
    } = *pixels;
    let text = format!(
        "{} from {least:.2} to {most:.2}, mean {mean:.2}",
        words::some(pixels.images as u64, "image"),
    );
    let warn = |problem: &str| Finding::warn("pixels", format!("{text}: {problem}"));
    let outside = least < PIXEL_MIN - SLACK || most > PIXEL_MAX + SLACK;
    if !(least.is_finite() && most.is_finite()) {
        Finding::fail(
            "pixels",
            format!("{text}: not all are numbers; repair the file that `data.path` names"),
        )
    } else if least == most {
        warn("they are all of one colour; look at what `data.path` holds")
    } else if most - least < LEAST_SPAN {
        warn(
            "almost one colour, as if scaled wrongly; check `data.range` and what `data.path` holds",
        )
    } else if outside && pixels.made {
        Finding::note("pixels", format!("{text}: noise, not pictures"))
    } else if outside {
        warn("pixels lie outside [-1, 1], so they are scaled wrongly; check `data.range`")
    } else {
        Finding::ok("pixels", text)
    }
}

#[cfg(test)]
mod tests {
    use ddpm_data::DataConfig;

    use super::*;
    use ddpm_unet::{Classes, UnetSection};

    #[test]
    fn pictures_span_the_range() {
        for (least, most, made, level) in [
            (-1.0, 1.0, false, Level::Ok),
            (-0.5, 0.2, false, Level::Ok),
            (-1.0, -1.0, false, Level::Warn),
            (-1.0, -0.99, false, Level::Warn),
            // 0 to 4095 of 65535, rounded to 8 bits.
            (-1.0, -1.0 + 2.0 * 16.0 / 255.0, false, Level::Warn),
            (-1.0, 509.0, false, Level::Warn),
            (-4.1, 3.9, true, Level::Note),
            (-1.0, f32::INFINITY, false, Level::Fail),
        ] {
            let finding = pixels(&Pixels {
                images: 8,
                least,
                mean: 0.0,
                most,
                made,
            });
            assert_eq!(finding.level, level, "{finding:?}");
        }
    }

    #[test]
    fn the_digits_are_looked_at() {
        let digits = Dataset::load(&DataConfig::default(), 0, &mut |_, _| {}).unwrap();
        let look = look(&digits, false).unwrap().unwrap();
        assert_eq!(look.images.shape(), [8, 1, 8, 8]);
        assert_eq!((look.pixels.least, look.pixels.most), (-1.0, 1.0));
        assert!((look.pixels.largest() - 1.0).abs() < f32::EPSILON);
        assert_eq!(pixels(&look.pixels).level, Level::Ok);
        let mut config = Config::default();
        let plain = augmented(&digits, &config).unwrap();
        assert_eq!(plain, look.images);
        config.augment.crop = Some(0.2);
        assert_ne!(augmented(&digits, &config).unwrap(), look.images);
        let model = |classes| {
            ModelConfig::Unet(UnetSection {
                classes,
                ..UnetSection::default()
            })
        };
        let found = set(&digits, &model(None));
        assert!(found[0].text.contains("1797 images of 1×8×8"), "{found:?}");
        let untold = |found: &[Finding]| found.iter().any(|one| one.text.contains("model.classes"));
        assert!(untold(&found));
        assert!(!untold(&set(&digits, &model(Some(Classes::Count(10))))));
    }
}
