//! The whole configuration of a run, as one TOML file states it.

use std::path::PathBuf;

use ddpm_data::{AugmentConfig, DataConfig};
use ddpm_diffusion::{ConditionConfig, Meaning, Objective, ObjectiveConfig, Plan, SampleConfig};
use ddpm_schedule::{Process, ProcessConfig, ScheduleConfig, named};
use ddpm_unet::{ModelConfig, Precision, UnetSection};
use serde::{Deserialize, Serialize};

use crate::collective::gradients::Reduction;
use crate::ema::EmaConfig;
use crate::error::TrainError;
use crate::guard::GuardConfig;
use crate::init::InitConfig;
use crate::optim::OptimConfig;
use crate::promise::PromiseConfig;

/// A run's configuration; every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of every random number of the run.
    #[serde(with = "ddpm_model::seed")]
    pub seed: u64,
    /// The images.
    pub data: DataConfig,
    /// How they are changed at random.
    pub augment: AugmentConfig,
    /// The network.
    pub model: ModelConfig,
    /// What the network is told of an image besides its noise level.
    pub condition: ConditionConfig,
    /// The model whose weights the run begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<InitConfig>,
    /// The diffusion process.
    #[serde(deserialize_with = "named::deserialize")]
    pub process: ProcessConfig,
    /// The noise schedule: the table of the process `discrete`.
    pub schedule: ScheduleConfig,
    /// What the network predicts and how its error is weighted.
    pub objective: ObjectiveConfig,
    /// The optimiser.
    pub optim: OptimConfig,
    /// The moving averages of the weights.
    pub ema: EmaConfig,
    /// What keeps a step that went wrong from doing harm.
    pub guard: GuardConfig,
    /// Length and rhythm of the run.
    pub train: TrainConfig,
    /// How samples are drawn, during training and by default afterwards.
    pub sample: SampleConfig,
    /// What the recipe promises of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promise: Option<PromiseConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            data: DataConfig::default(),
            augment: AugmentConfig::default(),
            model: ModelConfig::Unet(UnetSection::default()),
            condition: ConditionConfig::default(),
            init: None,
            process: ProcessConfig::default(),
            schedule: ScheduleConfig::default(),
            objective: ObjectiveConfig::default(),
            optim: OptimConfig::default(),
            ema: EmaConfig::default(),
            guard: GuardConfig::default(),
            train: TrainConfig::default(),
            sample: SampleConfig::default(),
            promise: None,
        }
    }
}

/// The `[train]` section of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Optimiser steps; without `steps` and `epochs`, 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the data set, instead of `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Images per optimiser step, over all accumulated parts.
    pub batch: usize,
    /// Micro-batches that a batch is split into: ranks share them, and each computes its own one after the other, which
    /// saves memory. Without it, one a rank. Their number decides the bits of a step, and that of the ranks does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulate: Option<usize>,
    /// In what order the gradients of several ranks are added.
    pub reduction: Reduction,
    /// How long a rank waits for the gradients of another before it gives up, in seconds; among processes of
    /// MPI, not among `--devices`.
    pub timeout_s: u64,
    /// Steps between lines of the metric log; a line holds the means since the last one.
    pub log_every: u64,
    /// Steps between sample grids; 0 draws only one at the end.
    pub sample_every: u64,
    /// Steps between checkpoints; 0 writes only one at the end.
    pub checkpoint_every: u64,
    /// Steps between evaluations of samples, each with a checkpoint; 0 makes none.
    pub eval_every: u64,
    /// Samples of an evaluation.
    pub eval_n: usize,
    /// What sees them: `pixels`, or a file of weights as `ddpm eval --extractor` takes it.
    pub eval_extractor: PathBuf,
    /// Checkpoints that are kept, the newest, and besides them the one whose samples were best.
    pub keep: usize,
    /// Besides those, every checkpoint whose step is a multiple of this is kept for good; 0 keeps none.
    pub keep_every: u64,
    /// What the network computes in; the weights, their moments and averages are f32 in any case.
    pub precision: Precision,
    /// Whether blocks of the network are computed twice instead of being kept for the backward pass: about a
    /// third more time, and memory for larger images or batches.
    pub recompute: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            batch: 64,
            accumulate: None,
            reduction: Reduction::default(),
            timeout_s: TIMEOUT_S,
            log_every: 10,
            sample_every: 1000,
            checkpoint_every: 1000,
            eval_every: 0,
            eval_n: 256,
            eval_extractor: PathBuf::from("pixels"),
            keep: 3,
            keep_every: 0,
            precision: Precision::F32,
            recompute: false,
        }
    }
}

/// Ten minutes.
const TIMEOUT_S: u64 = 600;

/// Steps of a run that says neither `steps` nor `epochs`.
const DEFAULT_STEPS: u64 = 1000;

impl TrainConfig {
    /// Micro-batches of a run that begins with so many ranks.
    pub fn micro_batches(&self, ranks: usize) -> usize {
        self.accumulate.unwrap_or(ranks)
    }

    /// Optimiser steps of a run over `images` images.
    pub fn total_steps(&self, images: usize) -> u64 {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => epochs
                .saturating_mul(images as u64)
                .div_ceil(self.batch.max(1) as u64),
            (None, None) => DEFAULT_STEPS,
        }
    }
}

/// A configuration that has been checked, with what follows from it.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The configuration.
    pub config: Config,
    /// Its process.
    pub process: Process,
    /// Its objective.
    pub objective: Objective,
    /// How samples are drawn during training.
    pub plan: Plan,
}

impl Config {
    /// Checks every value that does not depend on the data set.
    ///
    /// # Errors   [`TrainError::Config`], [`TrainError::Schedule`], [`TrainError::Diffusion`] or
    /// [`TrainError::Data`] naming the key
    pub fn validate(mut self) -> Result<Validated, TrainError> {
        self.data.validate()?;
        self.augment.validate()?;
        let process = self.process()?;
        let objective = self.objective.build(&process)?;
        // What is written into the run says what it predicts, whatever becomes usual.
        self.objective = *objective.config();
        self.condition.check()?;
        self.validate_plain()?;
        self.validate_augment()?;
        self.validate_optim()?;
        self.validate_train()?;
        let plan = self.sample.plan(&process, objective.meaning())?;
        Ok(Validated {
            config: self,
            process,
            objective,
            plan,
        })
    }

    /// The diffusion process.
    ///
    /// # Errors   [`TrainError::Schedule`] naming the key
    pub fn process(&self) -> Result<Process, TrainError> {
        let section = match self.process {
            ProcessConfig::Discrete {} => "[schedule]",
            _ => "[process]",
        };
        let built = self.process.build(&self.schedule);
        built.map_err(|source| TrainError::Schedule { section, source })
    }

    /// The tutorial's network has no channels for a variance, and is told its time as a share of T.
    fn validate_plain(&self) -> Result<(), TrainError> {
        let ModelConfig::Plain(_) = self.model else {
            return Ok(());
        };
        let refuse = |key, got: String, expected: &str| {
            Err(TrainError::Config {
                key,
                got,
                expected: expected.to_owned(),
            })
        };
        if self.objective.variance.is_learned() {
            let expected =
                "the network of kind `plain` cannot learn a variance; set `model.kind = \"unet\"`";
            return refuse("objective.variance", "learned".to_owned(), expected);
        }
        if self.objective.self_condition > 0.0 {
            let expected = "the network of kind `plain` has no input for what it expected; set `model.kind = \"unet\"`";
            return refuse(
                "objective.self_condition",
                self.objective.self_condition.to_string(),
                expected,
            );
        }
        if let Some(key) = self.condition_key() {
            let expected = "the network of kind `plain` is told nothing of an image; set `model.kind = \"unet\"`";
            return refuse(key, "set".to_owned(), expected);
        }
        if let ProcessConfig::Edm(_) = self.process {
            let expected = "the network of kind `plain` is told its time as a share of T, which ln σ is not; set \
                            `model.kind = \"unet\"`";
            return refuse("process.kind", "edm".to_owned(), expected);
        }
        Ok(())
    }

    /// What is told of an augmentation needs a network with a place for it.
    fn validate_augment(&self) -> Result<(), TrainError> {
        let told_nothing = matches!(self.model, ModelConfig::Plain(_) | ModelConfig::Edm2(_));
        match self.augment.edm.filter(|_| told_nothing) {
            None => Ok(()),
            Some(p) => Err(TrainError::Config {
                key: "augment.edm",
                got: p.to_string(),
                expected: "unset: a network of this kind has no place for what it is told of the augmentation; set \
                           `model.kind` to \"unet\" or \"edm\""
                    .to_owned(),
            }),
        }
    }

    /// A key that asks for more to be told than a noise level and a class.
    fn condition_key(&self) -> Option<&'static str> {
        match &self.condition {
            condition if condition.kind.is_some() => Some("condition.kind"),
            condition if !condition.columns.is_empty() => Some("condition.columns"),
            _ => None,
        }
    }

    /// What the network's output means.
    ///
    /// # Errors   as [`Config::process`]
    pub(crate) fn meaning(&self) -> Result<Meaning, TrainError> {
        Ok(self.objective.build(&self.process()?)?.meaning())
    }

    /// The sentence that EMA weights as young as this need, if they need one. Those that begin with another model's are
    /// no random ones.
    pub(crate) fn ema_warning(&self, updates: u64) -> Option<String> {
        match &self.init {
            Some(_) => None,
            None => self.ema.warning(updates),
        }
    }

    /// How many time steps a network that counts them is made for.
    pub fn network_steps(&self) -> usize {
        match self.process {
            ProcessConfig::Discrete {} => self.schedule.steps,
            // They are told 999·t or 1000·t.
            _ => 1000,
        }
    }

    fn validate_optim(&self) -> Result<(), TrainError> {
        let optim = &self.optim;
        let [beta1, beta2] = optim.betas;
        let unit = 0.0..1.0;
        let checks = [
            (
                "optim.lr",
                optim.lr.to_string(),
                optim.lr > 0.0 && optim.lr.is_finite(),
                "must be a positive number",
            ),
            (
                "optim.betas",
                format!("{:?}", optim.betas),
                unit.contains(&beta1) && unit.contains(&beta2),
                "must be two numbers in [0, 1)",
            ),
            (
                "optim.eps",
                optim.eps.to_string(),
                optim.eps > 0.0 && optim.eps.is_finite(),
                "must be a positive number",
            ),
            (
                "optim.weight_decay",
                optim.weight_decay.to_string(),
                optim.weight_decay >= 0.0 && optim.weight_decay.is_finite(),
                "must be 0 or a positive number",
            ),
            (
                "optim.clip_norm",
                optim.clip_norm.to_string(),
                optim.clip_norm >= 0.0,
                "must be a positive number, or 0 for no clipping",
            ),
        ];
        first_failure(checks)?;
        self.ema.validate()?;
        self.guard.validate()
    }

    fn validate_train(&self) -> Result<(), TrainError> {
        let train = &self.train;
        let accumulate = train.accumulate.unwrap_or(1);
        let accumulates = accumulate > 0 && train.batch.is_multiple_of(accumulate);
        let checks = [
            (
                "train.epochs",
                train.epochs.unwrap_or_default().to_string(),
                !(train.steps.is_some() && train.epochs.is_some()),
                "give either `steps` or `epochs`, not both",
            ),
            (
                "train.steps",
                "0".to_owned(),
                train.steps != Some(0),
                "must be at least 1",
            ),
            (
                "train.epochs",
                "0".to_owned(),
                train.epochs != Some(0),
                "must be at least 1",
            ),
            (
                "train.recompute",
                train.recompute.to_string(),
                !train.recompute || matches!(self.model, ModelConfig::Unet(_)),
                "only the network of kind `unet` is made of blocks that can be computed again",
            ),
            (
                "train.batch",
                train.batch.to_string(),
                (1..=1 << 20).contains(&train.batch),
                "must be between 1 and 1048576",
            ),
            (
                "train.accumulate",
                accumulate.to_string(),
                accumulates,
                "must divide `train.batch`",
            ),
            (
                "train.timeout_s",
                train.timeout_s.to_string(),
                train.timeout_s > 0,
                "must be at least 1",
            ),
            (
                "train.log_every",
                train.log_every.to_string(),
                train.log_every > 0,
                "must be at least 1",
            ),
            (
                "train.eval_n",
                train.eval_n.to_string(),
                (16..=1 << 20).contains(&train.eval_n),
                "must be between 16 and 1048576",
            ),
            (
                "train.eval_every",
                train.eval_every.to_string(),
                train.eval_every == 0 || self.condition.kind.is_none(),
                "must be 0: a network that makes images from pictures has no images to be held against",
            ),
            (
                "train.keep",
                train.keep.to_string(),
                train.keep > 0,
                "must be at least 1",
            ),
        ];
        first_failure(checks)
    }
}

pub(crate) fn first_failure<const N: usize>(
    checks: [(&'static str, String, bool, &str); N],
) -> Result<(), TrainError> {
    for (key, got, good, expected) in checks {
        if !good {
            return Err(TrainError::Config {
                key,
                got,
                expected: expected.to_owned(),
            });
        }
    }
    Ok(())
}
