//! From a configuration file, or none, to a run's configuration.

use std::path::Path;

use anyhow::Result;
use ddpm_data::DataKind;
use ddpm_device::Picked;
use ddpm_diffusion::SampleConfig;
use ddpm_train::Config;
use ddpm_unet::{
    ATTENTION_KEY, Edm2Section, EdmSection, GivenSection, LucidrainsSection, Model, ModelConfig,
    ModelShape, PlainSection, UnetError, UnetSection,
};
use serde::Deserialize;
use toml::{Table, Value};
use tracing::subscriber::{NoSubscriber, with_default};

use crate::args::ConfigArgs;
use crate::config_file::{ConfigFile, Known, leaves};
use crate::exit::UsageError;
use crate::size::parse_size;
use crate::{choose, terminal};

/// What `ddpm train` does without a configuration.
pub const DIGITS: &str = include_str!("../../../configs/digits.toml");

/// Keys that the defaults do not show because they are unset, or whose type varies.
const OPTIONAL: &[&str] = &[
    "seed",
    "data.path",
    "data.labels",
    "data.size",
    "data.channels",
    "data.background",
    "data.count",
    "data.split",
    "data.range",
    "data.transpose",
    "augment.crop",
    "augment.jitter",
    "augment.edm",
    "model.kind",
    "init.model",
    "init.weights",
    "process",
    "schedule.betas",
    "schedule.network_steps",
    "objective.prediction",
    "objective.weighting",
    "objective.error",
    "objective.variance",
    "objective.bound",
    "objective.offset_noise",
    "objective.input_perturbation",
    "objective.self_condition",
    "objective.importance",
    "objective.uncertainty",
    "ema.law",
    "ema.update_after_step",
    "ema.power_function",
    "ema.snapshot_every",
    "train.steps",
    "train.accumulate",
    "train.epochs",
    "sample.sampler",
    "sample.steps",
    "sample.spacing",
    "sample.offset",
    "sample.grid",
    "sample.threshold",
    "sample.guidance",
    "condition.columns",
    "condition.kind",
    "condition.factor",
    "condition.noise",
    "promise.n",
    "promise.extractor",
    "promise.frechet_distance",
    "promise.kernel_distance",
    "promise.precision",
    "promise.recall",
    "promise.nearest_ratio",
    // Options of samplers, as they were written before samplers had tables.
    "sample.eta",
    "sample.variance",
    "sample.allow_large_respaced",
    "sample.ddim",
];

/// Keys whose value is a text, whatever it looks like.
const TEXTS: &[&str] = &[
    "data.path",
    "data.labels",
    "init.model",
    "model.config",
    "train.eval_extractor",
    "promise.extractor",
];

/// What decides the sides of a network's levels.
const SIDES: &[&str] = &["data.size", "data.kind", "data.path", "model.multipliers"];

/// A run's configuration as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The configuration.
    pub config: Config,
    /// Whether the network is what the user asked for, in a file or by an override.
    own_network: bool,
    /// Whether `model.attention_at` was written beside another image size than the overrides ask for.
    attention_gives_way: bool,
}

/// Reads a configuration: the file, or the built-in digits recipe, then the overrides.
///
/// # Errors   [`UsageError`] naming the file or the override, the key and what to write instead
pub fn read(path: Option<&Path>, set: &[String], seed: Option<u64>) -> Result<Recipe, UsageError> {
    let file = match path {
        Some(path) => trained(path)?,
        None => ConfigFile::parse("the built-in digits recipe", DIGITS)?,
    };
    let own_network = path.is_some() && file.keys_of("model").iter().any(|key| *key != "classes");
    let recipe = overridden(file, set, seed)?;
    Ok(Recipe {
        own_network: own_network || recipe.own_network,
        ..recipe
    })
}

/// A configuration file, which must not be that of a run that was imported.
///
/// # Errors   [`UsageError`] naming the file and what to do
fn trained(path: &Path) -> Result<ConfigFile, UsageError> {
    let file = ConfigFile::load(path)?;
    match file.text("imported", "from") {
        None => Ok(file),
        Some(from) => Err(UsageError(format!(
            "{}: this run was imported from {from} and has no state of training; start a run from it with --init",
            path.display()
        ))),
    }
}

/// The configuration that the command line asks for: a file, or one that is chosen for the images of `--data` and a
/// device, or the digits; then the overrides.
///
/// # Errors   [`UsageError`] as [`read`]; those of looking at the images
pub fn of(args: &ConfigArgs, device: &Picked, quiet: bool) -> Result<Recipe> {
    let size = args.size.as_deref().map(parse_size).transpose()?;
    let own = set_by_hand(args);
    let Some(path) = &args.data else {
        return Ok(read(args.config.as_deref(), &own, args.seed)?);
    };
    if let Some(config) = &args.config {
        let mut set = choose::overrides(path, size)?;
        set.extend(own);
        return Ok(read(Some(config), &set, args.seed)?);
    }
    // What is to be warned of is said again when the images are loaded.
    let chosen = with_default(NoSubscriber::new(), || {
        choose::choose(path, size, &args.set, device)
    })?;
    if !quiet {
        terminal::show(&chosen.why);
    }
    let name = format!("the recipe for {}", path.display());
    Ok(overridden(
        ConfigFile::parse(&name, &chosen.text)?,
        &own,
        args.seed,
    )?)
}

/// What options and `--set` say of keys, in the form of `--set`.
pub fn set_by_hand(args: &ConfigArgs) -> Vec<String> {
    let init = args.init.iter();
    let init = init.map(|model| format!("init.model={}", model.display()));
    init.chain(args.set.iter().cloned()).collect()
}

/// The configuration that `ddpm train` makes of a file's text and its `--set` arguments. Messages call the file
/// `name`.
///
/// # Errors   [`UsageError`] naming the key and what to write instead
pub fn configuration(name: &str, text: &str, set: &[String]) -> Result<Config, UsageError> {
    Ok(overridden(ConfigFile::parse(name, text)?, set, None)?.config)
}

/// `[sample]` with overrides of it, `sample.KEY=VALUE` each.
///
/// # Errors   [`UsageError`] naming the override, the key and what to write instead
pub fn sampling(own: &SampleConfig, set: &[String]) -> Result<SampleConfig, UsageError> {
    let written = Config {
        sample: own.clone(),
        ..Config::default()
    };
    let text = toml::to_string(&written);
    let text = text.map_err(|error| UsageError(format!("[sample] has no TOML form: {error}")))?;
    let mut file = ConfigFile::parse("the model's own settings", &text)?;
    for argument in set {
        file.set(argument, TEXTS)?;
    }
    Ok(finish(file)?.sample)
}

/// A file with its overrides in their order.
///
/// # Errors   [`UsageError`] naming the override, the key and what to write instead
pub fn overridden(
    mut file: ConfigFile,
    set: &[String],
    seed: Option<u64>,
) -> Result<Recipe, UsageError> {
    let kind = file.text("data", "kind").map(str::to_owned);
    let mut own_network = false;
    for argument in set {
        let key = file.set(argument, TEXTS)?;
        // Which classes there are is a matter of the images.
        own_network |= key == "model" || (key.starts_with("model.") && key != "model.classes");
        // Both say how long the run is: the one that comes last does.
        match key.as_str() {
            "train.steps" => file.remove("train.epochs"),
            "train.epochs" => file.remove("train.steps"),
            _ => None,
        };
    }
    if let Some(seed) = seed {
        file.set(&format!("seed={seed}"), TEXTS)?;
    }
    if file.is_set("data.kind") && file.text("data", "kind") != kind.as_deref() {
        drop_keys_of_another_kind(&mut file);
    }
    if ["process", "process.kind"]
        .iter()
        .any(|key| file.is_set(key))
    {
        drop_schedule_of_another_process(&mut file);
    }
    let attention_gives_way =
        SIDES.iter().any(|key| file.is_set(key)) && !file.is_set(ATTENTION_KEY);
    let config = finish(file)?;
    if let Some(key) = config.schedule.unheeded() {
        return Err(UsageError(format!(
            "`schedule.{key}` says nothing of the table that schedule.kind names; remove it, or set schedule.kind to \
             one that has it"
        )));
    }
    Ok(Recipe {
        config,
        own_network,
        attention_gives_way,
    })
}

/// Takes out the file's own `[schedule]`, the table of its own process, unless the overrides have one too.
fn drop_schedule_of_another_process(file: &mut ConfigFile) {
    let discrete = file.kind("process").is_none_or(|kind| kind == "discrete");
    let keys = file.keys_of("schedule");
    let by_hand = keys
        .iter()
        .any(|key| file.is_set(&format!("schedule.{key}")));
    if !discrete && !by_hand && file.remove("schedule").is_some() {
        tracing::info!(
            "the process has no table of noise levels, so [schedule] of the configuration is dropped"
        );
    }
}

/// Keys of `[data]` that say something of one source, and nothing of a source of another kind.
const OF_THE_SOURCE: &[&str] = &["labels", "split", "transpose", "range"];

/// Takes out the keys of `[data]` that only the file's own source has.
fn drop_keys_of_another_kind(file: &mut ConfigFile) {
    let kind = file.text("data", "kind").unwrap_or_default().to_owned();
    // A kind that there is not is refused with the rest.
    let Ok(kind) = DataKind::deserialize(Value::String(kind)) else {
        return;
    };
    let dropped: Vec<String> = file
        .keys_of("data")
        .into_iter()
        .filter(|key| !kind.takes(key) || OF_THE_SOURCE.contains(&key.as_str()))
        .map(|key| format!("data.{key}"))
        .filter(|key| !file.is_set(key))
        .collect();
    for key in &dropped {
        file.remove(key);
    }
    if !dropped.is_empty() {
        tracing::warn!(
            "`{}` of the configuration belongs to images of another kind than \"{}\" and is dropped",
            dropped.join("`, `"),
            kind.name()
        );
    }
}

impl Recipe {
    /// Lets the default say where attention goes, if the file says so only for the image size that it has itself.
    pub fn fit_attention(&mut self, shape: ModelShape) {
        let (problem, attention_at) = match &mut self.config.model {
            ModelConfig::Unet(section) => (section.resolve(shape).err(), &mut section.attention_at),
            ModelConfig::Edm(section) => (section.resolve(shape).err(), &mut section.attention_at),
            ModelConfig::Edm2(section) => (section.resolve(shape).err(), &mut section.attention_at),
            ModelConfig::Lucidrains(section) => {
                (section.resolve(shape).err(), &mut section.attention_at)
            }
            ModelConfig::Plain(_) | ModelConfig::Given(_) => return,
        };
        let fits_no_level =
            matches!(problem, Some(UnetError::Config { key, .. }) if key == ATTENTION_KEY);
        if self.attention_gives_way && fits_no_level {
            let dropped = attention_at.take().unwrap_or_default();
            tracing::warn!(
                "`{ATTENTION_KEY}` = {dropped:?} of the configuration is for images of another size; the default for {}x{} is taken",
                shape.height,
                shape.width
            );
        }
    }

    /// Takes the network of the model that the run begins with, for images of `shape`, unless the user asked for one.
    pub fn take_network_of(&mut self, model: &Model, shape: ModelShape) {
        if !self.own_network {
            let classes = self.config.model.classes();
            self.config.model = ModelConfig::like(model, shape).with_classes(classes);
            self.attention_gives_way = false;
        }
    }

    /// On `--resume`, what the run began with, and the network that came of it, stand where nothing else was asked for.
    pub fn keep_init_of(&mut self, was: &Config) {
        if was.init.is_some() && self.config.init.is_none() {
            self.config.init.clone_from(&was.init);
        }
        if was.init.is_some() && !self.own_network {
            self.config.model.clone_from(&was.model);
        }
    }

    /// On `--resume`, what the run has decided stands where nothing else was asked for.
    pub fn keep_attention_of(&mut self, was: &Config) {
        let (now, was) = match (&mut self.config.model, &was.model) {
            (ModelConfig::Unet(now), ModelConfig::Unet(was)) => {
                (&mut now.attention_at, &was.attention_at)
            }
            (ModelConfig::Edm(now), ModelConfig::Edm(was)) => {
                (&mut now.attention_at, &was.attention_at)
            }
            (ModelConfig::Edm2(now), ModelConfig::Edm2(was)) => {
                (&mut now.attention_at, &was.attention_at)
            }
            (ModelConfig::Lucidrains(now), ModelConfig::Lucidrains(was)) => {
                (&mut now.attention_at, &was.attention_at)
            }
            _ => return,
        };
        if self.attention_gives_way || now.is_none() {
            now.clone_from(was);
        }
    }
}

/// Every dotted key that a configuration may have whose `[model]` is of this kind, in order.
///
/// # Errors   [`UsageError`] if the defaults have no TOML form
pub fn configuration_keys(kind: &str) -> Result<Vec<String>, UsageError> {
    let mut keys: Vec<String> = optional(kind).iter().map(ToString::to_string).collect();
    leaves(&defaults(kind)?, "", &mut keys);
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// The defaults where `[model]` is of this kind.
fn defaults(kind: &str) -> Result<Table, UsageError> {
    let defaults = Config {
        model: match kind {
            "plain" => ModelConfig::Plain(PlainSection::default()),
            "given" => ModelConfig::Given(GivenSection::default()),
            "edm" => ModelConfig::Edm(EdmSection::default()),
            "edm2" => ModelConfig::Edm2(Edm2Section::default()),
            "lucidrains" => ModelConfig::Lucidrains(LucidrainsSection::default()),
            // Another kind is refused with the rest.
            _ => ModelConfig::Unet(UnetSection::default()),
        },
        ..Config::default()
    };
    let mut table = Table::try_from(&defaults)
        .map_err(|error| UsageError(format!("the defaults have no TOML form: {error}")))?;
    // Sections that are not there by default, whose keys are all optional.
    for section in ["init", "promise"] {
        table.insert(section.to_owned(), Value::Table(Table::new()));
    }
    Ok(table)
}

fn optional(kind: &str) -> Vec<&'static str> {
    let mut optional = OPTIONAL.to_vec();
    match kind {
        "plain" => {}
        "given" => optional.push("model.classes"),
        "edm" | "edm2" => optional.extend(["model.classes", ATTENTION_KEY]),
        "lucidrains" => optional.extend(["model.init_channels", ATTENTION_KEY]),
        _ => optional.extend(["model.classes", "model.head_dim", ATTENTION_KEY]),
    }
    optional
}

fn finish(mut file: ConfigFile) -> Result<Config, UsageError> {
    // Which keys `[model]` has depends on its kind, which may be left out.
    file.default_to("model", "kind", "unet");
    let kind = file.text("model", "kind").unwrap_or_default().to_owned();
    file.read(Known {
        defaults: &defaults(&kind)?,
        optional: &optional(&kind),
    })
}

#[cfg(test)]
mod tests;
