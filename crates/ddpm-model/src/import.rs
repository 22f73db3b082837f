//! Trained networks of other programs as runs of this one: a checkpoint to sample from, without a state of training.
//!
//! One file a format. What a file does not say comes from [`ImportOptions`], from what was published with networks of
//! that form, or from the program's own defaults; [`Imported::settings`] tells which.

mod diffusers;
mod edm;
mod lucidrains;
mod openai;
mod write;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_diffusion::{ConditionConfig, ObjectiveConfig, SampleConfig, Variance, VarianceOutput};
use ddpm_schedule::{ProcessConfig, ScheduleConfig, ScheduleKind};
use ddpm_store::NamedTensor;
use ddpm_store::torch::TorchFile;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::open::build;
use crate::settings::Sections;

/// What files of other programs do not say of their networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// `[height, width]` of an image.
    pub size: Option<[usize; 2]>,
    /// Diffusion steps T.
    pub steps: Option<usize>,
    /// The table of β.
    pub schedule: Option<ScheduleKind>,
    /// Heads of each attention.
    pub heads: Option<usize>,
    /// Channels of each head, instead of their number.
    pub head_channels: Option<usize>,
    /// Whether queries, keys and values are split before heads.
    pub new_attention_order: Option<bool>,
    /// Whether the network is told t·1000/T instead of t.
    pub rescale_timesteps: Option<bool>,
    /// Whether it predicts x0 instead of ε.
    pub predict_x0: Option<bool>,
}

impl ImportOptions {
    /// # Errors   [`ModelError::Option`] for the first one that is given besides `size`, which files of `program` say
    fn only_size(&self, program: &'static str) -> Result<(), ModelError> {
        let given = [
            ("--diffusion-steps", self.steps.is_some()),
            ("--schedule", self.schedule.is_some()),
            ("--heads", self.heads.is_some()),
            ("--head-channels", self.head_channels.is_some()),
            ("--new-attention-order", self.new_attention_order.is_some()),
            ("--rescale-timesteps", self.rescale_timesteps.is_some()),
            ("--predict-x0", self.predict_x0.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(ModelError::Option {
                option,
                problem: format!("a network of {program} says this itself; leave it out"),
            }),
        }
    }
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// From the file.
    Read,
    /// From the options.
    Given,
    /// From what was published with a network of this form.
    Published,
    /// A default.
    Taken,
}

/// A setting of an imported network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// What it is: "schedule", "heads", …
    pub what: &'static str,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Setting {
    fn new(what: &'static str, value: impl ToString, origin: Origin) -> Self {
        Self {
            what,
            value: value.to_string(),
            origin,
        }
    }
}

/// A network of another program, checked and ready to be written.
#[derive(Debug)]
pub struct Imported {
    /// The file or directory.
    pub source: PathBuf,
    /// The program that wrote it, or that it is of the form of.
    pub program: &'static str,
    /// What is known of it, and from where.
    pub settings: Vec<Setting>,
    network: Network,
    sections: Sections,
    size: [usize; 2],
}

/// A network as checkpoints keep it.
#[derive(Debug)]
struct Network {
    /// Its `config.json`.
    config: Map<String, Value>,
    weights: Vec<NamedTensor>,
    /// Empty where there is one set of weights.
    ema: Vec<NamedTensor>,
    /// Of an image.
    channels: usize,
    /// It was trained for, where that is known.
    step: Option<u64>,
}

impl Imported {
    /// Reads a diffusers directory, or a file of OpenAI's improved-diffusion and guided-diffusion (`.pt`), of EDM (`.pkl`) or
    /// of denoising-diffusion-pytorch (`.pt`).
    ///
    /// # Errors   [`ModelError::Store`] for what is damaged or hostile, [`ModelError::Format`] for a network that this
    /// program does not have, [`ModelError::Option`] for an option that is missing or says nothing here
    pub fn read(
        source: &Path,
        options: &ImportOptions,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let imported = match source.is_dir() {
            true => diffusers::read(source, options, device)?,
            false => Self::of_file(&TorchFile::open(source)?, options)?,
        };
        imported.check(device)?;
        Ok(imported)
    }

    fn of_file(file: &TorchFile, options: &ImportOptions) -> Result<Self, ModelError> {
        let root = file.root();
        let keys = root.keys();
        let has = |key: &str| keys.contains(&key);
        let refuse = |problem: String| {
            Err(ModelError::Format {
                path: file.path().to_owned(),
                problem,
            })
        };
        if let Some(ema) = root.get("ema")
            && let Some(class) = ema.class().filter(|class| class.ends_with("Precond"))
        {
            return edm::read(file, ema, class, options);
        }
        if has("time_embed.0.weight") {
            return openai::read(file, options);
        }
        if let Some(model) = root.get("model")
            && model.keys().contains(&"model.init_conv.weight")
        {
            return lucidrains::read(file, model, options);
        }
        let known = "improved-diffusion and guided-diffusion (a bare state dict), EDM (a snapshot with `ema`), \
                     denoising-diffusion-pytorch (a checkpoint with `model`)";
        let shown: Vec<&str> = keys.iter().take(5).copied().collect();
        let more = if keys.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        refuse(match shown.is_empty() {
            true => format!("it holds no dict with names, as files of {known} do"),
            false => format!(
                "its keys ({}{more}) are those of no program that is known here: {known}",
                shown.join(", ")
            ),
        })
    }

    /// Builds the network with its weights and makes a plan of its sampler, so that what is written can be opened.
    fn check(&self, device: &Device) -> Result<(), ModelError> {
        let Network {
            config,
            weights,
            ema,
            ..
        } = &self.network;
        for weights in [weights, ema] {
            if weights.is_empty() {
                continue;
            }
            ddpm_store::tensors::check_finite(&self.source, weights)?;
            build(&self.source, config, weights.clone(), device)?;
        }
        let process = self.sections.process()?;
        self.sections
            .sample
            .plan(&process, self.sections.meaning()?)?;
        Ok(())
    }
}

/// The sections of a run whose network is never trained here but as one that starts from it.
fn sections(
    process: ProcessConfig,
    schedule: ScheduleConfig,
    objective: ObjectiveConfig,
    sample: SampleConfig,
) -> Sections {
    Sections {
        condition: ConditionConfig::default(),
        seed: 0,
        process,
        schedule,
        objective,
        sample,
    }
}

/// The word of a configuration for a choice without options.
fn word(choice: impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The variance of training for what a network says of it.
fn variance(output: VarianceOutput) -> Variance {
    match output {
        VarianceOutput::None => Variance::FixedSmall,
        VarianceOutput::Range => Variance::LearnedRange,
        VarianceOutput::Log => Variance::Learned,
    }
}

/// The size that is given, or the one that is known.
fn size(
    path: &Path,
    given: Option<[usize; 2]>,
    known: Option<([usize; 2], Origin)>,
) -> Result<([usize; 2], Origin), ModelError> {
    match (given, known) {
        (Some(size), _) => Ok((size, Origin::Given)),
        (None, Some(known)) => Ok(known),
        (None, None) => Err(ModelError::Option {
            option: "--size",
            problem: format!(
                "{} does not say how large its images are; give their size, such as --size 64",
                path.display()
            ),
        }),
    }
}
