//! What an evaluation writes down, and which evaluations may stand in one table.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EvalError;
use crate::extractor::ExtractorRecord;
use crate::figures::{Figures, Settings};

/// The form of the file; another one is refused.
const VERSION: u32 = 1;

/// Figures with everything that they depend on: `eval.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The form of this file.
    pub version: u32,
    /// What was judged, as it was named.
    pub subject: String,
    /// The images.
    pub images: Drawn,
    /// How they were drawn, if that was done here.
    pub sampling: Option<Sampling>,
    /// What saw them.
    pub extractor: ExtractorRecord,
    /// What they were compared with.
    pub reference: ReferenceRecord,
    /// How figures were computed.
    pub settings: Settings,
    /// The figures.
    pub figures: Figures,
    /// The names of the classes, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
}

/// Images that were judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// How many.
    pub n: usize,
    /// `[channels, height, width]` of each.
    pub shape: [usize; 3],
    /// The digest of their bytes.
    pub blake3: String,
}

/// How images were drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// The checkpoint or model directory.
    pub model: String,
    /// Updates that it was trained for, where that is known.
    pub step: Option<u64>,
    /// `ema`, `raw`, or none where the model has one kind alone.
    pub weights: Option<String>,
    /// The sampler with all its parameters, its spacing and clipping.
    pub sampler: Value,
    /// Its steps.
    pub steps: usize,
    /// The guidance, if there was any.
    pub guidance: Value,
    /// Which classes and numbers were asked for, if any.
    pub told: Value,
    /// The seed of the noise.
    pub seed: u64,
    /// What the network computed in.
    pub precision: String,
}

/// Real images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// As it was named.
    pub name: String,
    /// How many images it has, where that is known.
    pub n: Option<usize>,
    /// The digest of its images, or of the file of its statistics.
    pub fingerprint: String,
    /// The digest of the held-out images, if there are any.
    pub held_out: Option<String>,
}

/// What evaluations may differ in if one says that this is what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// The sampler and its parameters.
    Sampler,
    /// Its steps.
    Steps,
    /// Guidance, classes and numbers.
    Guidance,
    /// EMA or raw weights, and what they compute in.
    Weights,
    /// The seed.
    Seed,
}

impl Crossing {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Sampler,
        Self::Steps,
        Self::Guidance,
        Self::Weights,
        Self::Seed,
    ];

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampler => "sampler",
            Self::Steps => "steps",
            Self::Guidance => "guidance",
            Self::Weights => "weights",
            Self::Seed => "seed",
        }
    }

    /// What an evaluation has of it, as it is shown; images of unknown origin have none.
    fn of(self, sampling: Option<&Sampling>) -> String {
        let Some(sampling) = sampling else {
            return "not known".to_owned();
        };
        match self {
            Self::Sampler => sampling.sampler.to_string(),
            Self::Steps => sampling.steps.to_string(),
            Self::Guidance => format!("{} {}", sampling.guidance, sampling.told),
            Self::Weights => {
                let weights = sampling.weights.as_deref().unwrap_or("its own");
                format!("{weights} in {}", sampling.precision)
            }
            Self::Seed => sampling.seed.to_string(),
        }
    }
}

impl Evaluation {
    /// The version that this program writes.
    pub const VERSION: u32 = VERSION;

    /// Reads one.
    ///
    /// # Errors   [`EvalError::Format`] for what is none, or one of another version
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let bad = |problem: String| EvalError::Format {
            path: path.to_owned(),
            problem,
        };
        let bytes = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
            bad(format!(
                "is no evaluation: {error}; write one with `ddpm eval`"
            ))
        })?;
        match value["version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            version => {
                let version = version.map_or("none".to_owned(), |version| version.to_string());
                return Err(bad(format!(
                    "is an evaluation of version {version}, and this program reads {VERSION}; write it anew with `ddpm eval`"
                )));
            }
        }
        serde_json::from_value(value).map_err(|error| {
            bad(format!(
                "is no evaluation: {error}; write it anew with `ddpm eval`"
            ))
        })
    }

    /// Whether another evaluation may stand beside this one. `crossing` may differ.
    ///
    /// # Errors   [`EvalError::Incomparable`] naming the first thing that differs, with both values
    pub fn compare(
        &self,
        other: &Self,
        path: &Path,
        crossing: &[Crossing],
    ) -> Result<(), EvalError> {
        let refuse = |what: &str, ours: &str, theirs: &str, remedy: &str| {
            Err(EvalError::Incomparable {
                path: path.to_owned(),
                problem: format!("its {what} is {theirs} and the first one's is {ours}; {remedy}"),
            })
        };
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let resize = |record: &ExtractorRecord| {
            record
                .resize
                .map_or("none", |resize| resize.name())
                .to_owned()
        };
        let same = [
            (
                "extractor",
                self.extractor.name.clone(),
                other.extractor.name.clone(),
            ),
            (
                "extractor's blake3",
                show(&self.extractor.blake3),
                show(&other.extractor.blake3),
            ),
            ("resize", resize(&self.extractor), resize(&other.extractor)),
            ("n", self.images.n.to_string(), other.images.n.to_string()),
            (
                "image",
                format!("{:?}", self.images.shape),
                format!("{:?}", other.images.shape),
            ),
            (
                "reference",
                self.reference.fingerprint.clone(),
                other.reference.fingerprint.clone(),
            ),
            (
                "held-out set",
                show(&self.reference.held_out),
                show(&other.reference.held_out),
            ),
            (
                "setting of figures",
                format!("{:?}", self.settings),
                format!("{:?}", other.settings),
            ),
        ];
        for (what, ours, theirs) in same {
            if ours != theirs {
                return refuse(what, &ours, &theirs, "evaluate both alike");
            }
        }
        for one in Crossing::ALL {
            let (ours, theirs) = (
                one.of(self.sampling.as_ref()),
                one.of(other.sampling.as_ref()),
            );
            if ours != theirs && !crossing.contains(&one) {
                let remedy = format!("if that is what you compare, add --across {}", one.name());
                return refuse(one.name(), &ours, &theirs, &remedy);
            }
        }
        Ok(())
    }
}
