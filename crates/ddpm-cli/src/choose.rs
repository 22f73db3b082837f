//! A recipe for images that nobody has written one for: `ddpm train --data PATH` and `ddpm init PATH`.

mod network;
mod text;

use std::path::Path;

use anyhow::Result;
use ddpm_data::{DataConfig, Size, Survey, detect, survey};
use ddpm_device::Picked;
use ddpm_train::{Config, MemoryEstimate};
use ddpm_unet::{Cost, ModelShape};
use toml::{Table, Value};

use self::network::{Length, Network, On, length, length_of, network};
use crate::config_file::ConfigFile;
use crate::exit::UsageError;
use crate::{machine, recipe, words};

/// The share of the free memory that a run may be planned to take.
const MEMORY_SHARE: f64 = 0.7;
/// Sides, in pixels, that a CPU trains in minutes to hours.
const CPU_SIDE: usize = 64;
/// The same where images differ, so that any size is a choice.
const CPU_CHOSEN_SIDE: usize = 32;
/// Sides that a GPU trains in hours to days.
const GPU_SIDE: usize = 256;
const GPU_CHOSEN_SIDE: usize = 128;
/// Smaller images are enlarged to this.
const LEAST_SIDE: usize = 8;

/// A recipe and why it is as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// TOML, with its reasons as comments.
    pub text: String,
    /// The reasons, for the terminal.
    pub why: String,
}

/// A recipe before it is written down.
struct Draft<'a> {
    path: &'a Path,
    data: DataConfig,
    survey: Survey,
    size: Size,
    why_size: String,
    channels: usize,
    network: Network,
    length: Length,
    on: On,
}

/// Looks at the images of `path` and chooses a recipe for them on a device. `set` are `--set` arguments, of which those
/// of `[data]` are heeded here.
///
/// # Errors   [`ddpm_data::DataError`] for what cannot be read, [`UsageError`] for a bad size or argument
pub fn choose(path: &Path, size: Option<Size>, set: &[String], device: &Picked) -> Result<Chosen> {
    let on = match device.is_cpu() {
        true => On::Cpu,
        false => On::Gpu,
    };
    let mut draft = Draft::new(path, size, set, on)?;
    // Half the batch, until it fits.
    while draft.length.batch > 1 && !draft.fits(device)? {
        let (batch, images) = (draft.length.batch / 2, draft.survey.images);
        draft.length = length_of(batch, images, [draft.size.height, draft.size.width], on);
    }
    Ok(Chosen {
        text: draft.text(),
        why: draft.why(),
    })
}

/// `--set` arguments that make a recipe one for the images of `path`.
///
/// # Errors   [`ddpm_data::DataError`] for what is no set of images, [`UsageError`] for a path that TOML cannot hold
pub fn overrides(path: &Path, size: Option<Size>) -> Result<Vec<String>> {
    let found = data_table(&detect(path)?)?;
    let mut set: Vec<String> = found
        .iter()
        .map(|(key, value)| format!("data.{key}={value}"))
        .collect();
    set.extend(size.map(|size| format!("data.size=[{}, {}]", size.height, size.width)));
    Ok(set)
}

/// What lies at `path`, as `[data]`, with the overrides of that section.
fn data(path: &Path, size: Option<Size>, set: &[String]) -> Result<DataConfig> {
    let found = DataConfig {
        size,
        ..detect(path)?
    };
    let text = toml::to_string(&Table::from_iter([(
        "data".to_owned(),
        Value::Table(data_table(&found)?),
    )]))
    .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
    let of_data: Vec<String> = set
        .iter()
        .filter(|argument| argument.trim_start().starts_with("data."))
        .cloned()
        .collect();
    let name = format!("the recipe for {}", path.display());
    let config = recipe::overridden(ConfigFile::parse(&name, &text)?, &of_data, None)?.config;
    config.data.validate()?;
    Ok(config.data)
}

/// The keys of `[data]` that are not as they are without a word, and the kind.
fn data_table(data: &DataConfig) -> Result<Table, UsageError> {
    let table = |data: &DataConfig| {
        Table::try_from(data).map_err(|error| {
            let path = data.path.as_deref().unwrap_or(Path::new("")).display();
            UsageError(format!(
                "{path}: cannot be written as TOML: {error}; rename it"
            ))
        })
    };
    let default = table(&DataConfig::default())?;
    let mut found = table(data)?;
    found.retain(|key, value| key == "kind" || default.get(key) != Some(value));
    Ok(found)
}

/// The size to learn images at, and why: their own where all are alike and the device can do that, else a power of two
/// that the short sides fill.
fn fitting(survey: &Survey, on: On) -> (Size, String) {
    let (most, most_chosen, device) = match on {
        On::Cpu => (CPU_SIDE, CPU_CHOSEN_SIDE, "a CPU"),
        On::Gpu => (GPU_SIDE, GPU_CHOSEN_SIDE, "a GPU"),
    };
    if let Some(own) = survey.size
        && own.height.max(own.width) <= most
    {
        return (own, "the images' own".to_owned());
    }
    let [smallest, median, _] = survey.short_sides;
    // A few tiny images do not decide for all.
    let short = if smallest * 4 < median {
        median
    } else {
        smallest
    };
    let most = match survey.size {
        Some(_) => most,
        None => most_chosen,
    };
    let power = 1usize << short.max(1).ilog2();
    let side = power.min(most).max(LEAST_SIDE);
    let why = if power > most {
        let more = 2 * side;
        format!(
            "what {device} learns in a sitting; --size {more} shows more and takes four times as long"
        )
    } else {
        let short = words::some(short as u64, "pixel");
        format!("a power of two that short sides of {short} fill")
    };
    (Size::square(side), why)
}

impl<'a> Draft<'a> {
    fn new(path: &'a Path, size: Option<Size>, set: &[String], on: On) -> Result<Self> {
        let data = data(path, size, set)?;
        let survey = survey(&data)?;
        let (size, why_size) = match data.size {
            Some(size) => (size, "as asked for".to_owned()),
            None => fitting(&survey, on),
        };
        let sides = [size.height, size.width];
        Ok(Self {
            path,
            channels: data.channels.unwrap_or(survey.channels),
            network: network(sides, on),
            length: length(survey.images, sides, on),
            data,
            survey,
            size,
            why_size,
            on,
        })
    }

    fn shape(&self, steps: usize) -> ModelShape {
        ModelShape {
            channels: self.channels,
            height: self.size.height,
            width: self.size.width,
            learned_variance: false,
            self_condition: false,
            steps,
            condition: Default::default(),
        }
    }

    /// Whether the run fits into the free memory of its device.
    fn fits(&self, device: &Picked) -> Result<bool> {
        let config: Config = recipe::configuration("the recipe", &self.text(), &[])?;
        let shape = self.shape(config.network_steps());
        let image = (self.channels * self.size.height * self.size.width) as u128;
        let data = (image * self.survey.images as u128).min(u128::from(config.data.cache_bytes));
        let (Ok(figures), Some(memory)) =
            (Cost::of(&config.model, shape), machine::memory_of(device))
        else {
            return Ok(true);
        };
        let needed = MemoryEstimate::new(&figures, &config, image, data).peak();
        Ok(needed as f64 <= memory.available as f64 * MEMORY_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::parse_size;

    fn in_repository(path: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path)
    }

    #[test]
    fn recipes_make_networks_that_fit_the_images() {
        for (path, size, expected) in [
            // 2,425 tiles, all of 32x32, with transparency.
            ("configs/data/sprites-32.zip", None, [4, 32, 32]),
            ("configs/data/sprites-32.zip", Some("20x48"), [4, 20, 48]),
            // Pictures of many sizes and modes.
            ("tests/fixtures/images", None, [3, 16, 16]),
        ] {
            for on in [On::Cpu, On::Gpu] {
                let path = in_repository(path);
                let size = size.map(|size| parse_size(size).unwrap());
                let draft = Draft::new(&path, size, &[], on).unwrap();
                let text = draft.text();
                let config = recipe::configuration("chosen", &text, &[]).unwrap();
                let config = config.validate().unwrap().config;
                let dataset = ddpm_data::Dataset::load(&config.data, 0, &mut |_, _| {}).unwrap();
                let shape = [dataset.channels(), dataset.height(), dataset.width()];
                assert_eq!(shape, expected, "{text}");
                let figures = Cost::of(&config.model, draft.shape(1000)).unwrap();
                assert!(figures.parameters > 100_000, "{text}");
                assert!(draft.why().contains("pixels"), "{}", draft.why());
            }
        }
    }

    #[test]
    fn overrides_of_the_data_are_heeded() {
        let path = in_repository("configs/data/sprites-32.zip");
        let set = [
            "data.channels=1",
            "data.size=16",
            "data.flip=true",
            "train.batch=2",
        ];
        let set = set.map(String::from);
        let text = Draft::new(&path, None, &set, On::Cpu).unwrap().text();
        let config = recipe::configuration("chosen", &text, &[]).unwrap();
        assert_eq!(config.data.channels, Some(1));
        assert_eq!(config.data.size, Some(Size::square(16)));
        assert!(config.data.flip);
        assert_eq!(config.train.batch, 16, "left to the whole recipe");
        let bad = ["data.chanels=1".to_owned()];
        assert!(Draft::new(&path, None, &bad, On::Cpu).is_err());
    }
}
