//! A network with an average of the weights that was not tracked, out of a run's snapshots of those that were.

use std::path::{Path, PathBuf};

use ddpm_store::averages::{self, AverageFile};
use ddpm_store::checkpoint::{self, Weights};
use ddpm_store::{Checkpoint, NamedTensor, RunDir, StoreError, TensorFile};
use serde_json::json;

use super::posthoc::{Mixture, Profile, solve};
use super::power::MAX_SIGMA_REL;
use crate::error::TrainError;
use crate::identity::identity_hash;
use crate::scheduler;
use crate::snapshot::SavedState;

/// The share of a profile that may be missed without a warning.
const NOTABLE_RESIDUAL: f64 = 0.05;

/// An average to be made of snapshots.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthesis {
    /// The relative length of the average.
    pub sigma_rel: f64,
    /// The step at whose end it stands.
    pub step: u64,
    /// Images seen until then.
    pub images_seen: u64,
    /// The snapshots up to there.
    pub files: Vec<AverageFile>,
    /// What each of them counts for.
    pub mixture: Mixture,
    run: RunDir,
}

impl Synthesis {
    /// Finds the coefficients for the average of `sigma_rel` after `step`, or after the last snapshot.
    ///
    /// # Errors   [`TrainError::Config`] for a σ_rel that no average has, [`TrainError::Format`] if the run has no snapshots,
    /// [`TrainError::Store`] if it has none of that step or one is damaged
    pub fn plan(run: &RunDir, sigma_rel: f64, step: Option<u64>) -> Result<Self, TrainError> {
        if !(sigma_rel > 0.0 && sigma_rel <= MAX_SIGMA_REL) {
            return Err(TrainError::Config {
                key: "--sigma-rel",
                got: sigma_rel.to_string(),
                expected: "must be above 0 and at most 0.2886, the plain mean".to_owned(),
            });
        }
        let unusable = |problem: &str| TrainError::Format {
            path: run.ema(),
            problem: problem.to_owned(),
        };
        let mut files = averages::list(run)?;
        let last = files.last().map(|file| file.step);
        let step = step.or(last).ok_or_else(|| {
            unusable(
                "this run has no snapshots of tracked averages; train with `ema.power_function` = [0.05, 0.1], and \
                 more often than at checkpoints with `ema.snapshot_every`",
            )
        })?;
        let Some(end) = files.iter().find(|file| file.step == step) else {
            return Err(missing(run, step, &files).into());
        };
        let images_seen = end.images_seen;
        files.retain(|file| file.step <= step);
        let profiles: Vec<Profile> = files
            .iter()
            .map(|file| Profile::new(file.images_seen as f64, file.sigma_rel))
            .collect();
        let mixture = solve(&profiles, Profile::new(images_seen as f64, sigma_rel))
            .ok_or_else(|| unusable("nothing can be made of these snapshots; are they whole?"))?;
        Ok(Self {
            sigma_rel,
            step,
            images_seen,
            files,
            mixture,
            run: run.clone(),
        })
    }

    /// The relative lengths that were tracked, rising.
    pub fn tracked(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.files.iter().map(|file| file.sigma_rel).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    /// Why the average is not quite what was asked for, if it shows.
    pub fn warning(&self) -> Option<String> {
        let residual = self.mixture.residual;
        if residual <= NOTABLE_RESIDUAL {
            return None;
        }
        let tracked = self.tracked();
        let within =
            tracked.first() <= Some(&self.sigma_rel) && tracked.last() >= Some(&self.sigma_rel);
        let why = match within {
            true => "there are too few snapshots; set `ema.snapshot_every` lower".to_owned(),
            false => format!(
                "it lies outside of what was tracked, {tracked:?}; ask for one nearer to that, or train with it in \
                 `ema.power_function`, or with a lower `ema.snapshot_every`"
            ),
        };
        Some(format!(
            "{:.0}% of the profile of sigma_rel {} is not met: {why}",
            100.0 * residual,
            self.sigma_rel
        ))
    }

    /// Writes the model directory `out`, a checkpoint without moments: the run's settings, and the average as weights.
    ///
    /// # Errors   [`TrainError::Format`] if the run has no checkpoint or a snapshot is of another network,
    /// [`TrainError::Store`] if a file is damaged or `out` is taken
    pub fn write(&self, out: &Path) -> Result<(), TrainError> {
        let Some(newest) = checkpoint::latest_valid(&self.run)? else {
            return Err(TrainError::Format {
                path: self.run.path().to_owned(),
                problem: "this run has no checkpoint, which would say what its network is".into(),
            });
        };
        let found = checkpoint::load_for_sampling(&newest, Weights::Raw)?;
        let weights = self.weights(found.weights)?;
        let scheduler = scheduler::json(&SavedState::read(&newest, found.state.clone())?.config);
        let mut state = found.state;
        let config_hash = identity_hash(&state["config"]);
        if let Some(state) = state.as_object_mut() {
            // That of another step.
            state.remove("progress");
            let parts = self.files.iter().zip(&self.mixture.coefficients);
            let parts = parts.map(|(file, coefficient)| {
                json!({ "step": file.step, "sigma_rel": file.sigma_rel, "coefficient": coefficient })
            });
            let synthesis = json!({
                "sigma_rel": self.sigma_rel,
                "residual": self.mixture.residual,
                "snapshots": parts.collect::<Vec<_>>(),
            });
            state.insert("synthesis".to_owned(), synthesis);
        }
        let model = Checkpoint {
            step: self.step,
            images_seen: self.images_seen,
            config_hash,
            metrics_bytes: 0,
            weights,
            ema: Vec::new(),
            optimiser: Vec::new(),
            state,
            config: found.config,
            scheduler,
        };
        Ok(checkpoint::export(out, &model)?)
    }

    /// Σ coefficient · snapshot, for tensors of these names and shapes.
    fn weights(&self, like: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, TrainError> {
        let mut sums: Vec<Vec<f64>> = like.iter().map(|t| vec![0.0; t.data.len()]).collect();
        for (file, &coefficient) in self.files.iter().zip(&self.mixture.coefficients) {
            if coefficient == 0.0 {
                continue;
            }
            let snapshot = TensorFile::read(&file.path)?;
            ddpm_store::tensors::check_finite(&file.path, &snapshot.tensors)?;
            for (tensor, sum) in like.iter().zip(&mut sums) {
                let part = snapshot.get(&tensor.name);
                let Some(part) = part.filter(|part| part.shape == tensor.shape) else {
                    return Err(foreign(&file.path, &tensor.name));
                };
                for (sum, value) in sum.iter_mut().zip(&part.data) {
                    *sum += coefficient * f64::from(*value);
                }
            }
        }
        let tensors = like.into_iter().zip(sums);
        Ok(tensors
            .map(|(tensor, sum)| NamedTensor {
                data: sum.into_iter().map(|value| value as f32).collect(),
                ..tensor
            })
            .collect())
    }
}

fn foreign(path: &Path, name: &str) -> TrainError {
    TrainError::Format {
        path: path.to_owned(),
        problem: format!(
            "`{name}` is missing or of another shape than in the run's checkpoint; they do not belong together"
        ),
    }
}

fn missing(run: &RunDir, step: u64, files: &[AverageFile]) -> StoreError {
    let mut steps: Vec<String> = files.iter().map(|file| file.step.to_string()).collect();
    steps.dedup();
    let path: PathBuf = run.ema().join(format!("step-{step}"));
    StoreError::Missing {
        path,
        what: "the snapshot".to_owned(),
        hint: match steps.as_slice() {
            [] => "this run has none; train with `ema.power_function` = [0.05, 0.1]".to_owned(),
            steps => format!("this run has those of steps {}", steps.join(", ")),
        },
    }
}
