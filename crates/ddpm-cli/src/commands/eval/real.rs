//! Real images: their features, from where they are kept or anew.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_data::{DataConfig, DataKind, Dataset, Split};
use ddpm_eval::{Extractor, Features, Reference, ReferenceRecord, Settings};
use ddpm_store::atomic::digest;

use super::super::shown;
pub use super::stream::fingerprint as digest_of;
use super::stream::{CHUNK, Stream, Watch, images};
use crate::exit::UsageError;
use crate::models;

/// A reference and where it came from.
pub struct Real {
    /// What images are compared with.
    pub reference: Reference,
    /// Of held-out images, if there are any.
    pub held_out: Option<Features>,
    /// What is written down of it.
    pub record: ReferenceRecord,
    /// The images, unless there are statistics alone.
    pub dataset: Option<Dataset>,
}

/// What real images are read for.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub extractor: &'a Extractor,
    pub settings: Settings,
    pub stop: &'a (dyn Fn() -> bool + Sync),
    pub quiet: bool,
}

/// The file of an evaluation's statistics, read as the reference.
///
/// # Errors   [`ddpm_eval::EvalError`] for what is no statistics
pub fn statistics(path: &Path) -> Result<Real> {
    let reference = Reference::load(path)?;
    let bytes = std::fs::read(path)?;
    Ok(Real {
        record: ReferenceRecord {
            name: shown(path),
            n: reference.moments.count,
            fingerprint: digest(&bytes),
            held_out: None,
        },
        reference,
        held_out: None,
        dataset: None,
    })
}

impl Real {
    /// Whether the classes of generated images are those of the real ones, as far as both have names; else they are not
    /// compared, and that is said.
    pub fn names_agree(&self, generated: Option<&[String]>) -> bool {
        let real = self.dataset.as_ref().and_then(Dataset::class_names);
        let agree = generated
            .zip(real)
            .is_none_or(|(generated, real)| generated == real);
        if !agree {
            tracing::warn!(
                "the generated images have other classes than the reference, so there are no figures by class"
            );
        }
        agree
    }
}

impl Reading<'_> {
    /// A set and its held-out images.
    ///
    /// # Errors   [`ddpm_data::DataError`], those of the extractor; [`ddpm_eval::EvalError::Stopped`] after a signal
    pub fn set(
        &self,
        (dataset, digest): (Dataset, String),
        held_out: Option<Dataset>,
    ) -> Result<Real> {
        let reference = self.features(&dataset, &digest)?;
        if let Some(others) = held_out
            .as_ref()
            .filter(|others| others.shape() != dataset.shape())
        {
            return Err(UsageError(format!(
                "--held-out: {} are of another shape than {}; give images like those",
                others.describe(),
                dataset.describe()
            ))
            .into());
        }
        let others = match held_out {
            Some(others) => {
                let digest = digest_of(&others)?;
                Some((self.features(&others, &digest)?, digest))
            }
            None => None,
        };
        Ok(Real {
            record: ReferenceRecord {
                name: dataset.describe(),
                n: Some(dataset.len()),
                fingerprint: digest,
                held_out: others.as_ref().map(|(_, digest)| digest.clone()),
            },
            reference,
            held_out: others.and_then(|(reference, _)| reference.features),
            dataset: Some(dataset),
        })
    }

    /// The features of a set of this digest.
    ///
    /// # Errors   those of decoding and of the extractor
    pub fn features(&self, dataset: &Dataset, digest: &str) -> Result<Reference> {
        let kept = self.kept(digest);
        if let Some(file) = kept.as_ref().filter(|file| file.is_file()) {
            match Reference::load(file) {
                Ok(reference) => return Ok(reference),
                Err(error) => tracing::warn!("{error}; the features are computed anew"),
            }
        }
        tracing::info!("features of {}", dataset.describe());
        let watch = Watch::new(self.stop, dataset.len(), self.quiet);
        let mut stream = Stream::new(self.extractor, watch);
        for from in (0..dataset.len()).step_by(CHUNK) {
            stream.take(&images(dataset, from..dataset.len().min(from + CHUNK))?)?;
        }
        let (mut features, _) = stream.finish();
        features.labels = dataset.labels().map(<[usize]>::to_vec);
        let reference = Reference::of(&features, self.settings.pairs, self.extractor.reduces())?;
        if let Some(file) = kept
            && let Err(error) = reference.save(&file)
        {
            tracing::warn!("{error}; the features are not kept for the next time");
        }
        Ok(reference)
    }

    /// Where the features of a set are kept for the next time: those of pixels are faster read from the images.
    fn kept(&self, digest: &str) -> Option<PathBuf> {
        let Extractor::Pixels = self.extractor else {
            let record = serde_json::to_string(&self.extractor.record()).ok()?;
            let key = format!("1 {digest} {record} {}", self.settings.pairs);
            let name = ddpm_store::atomic::digest(key.as_bytes());
            let folder = models::caches()?.join("ddpm").join("features");
            return Some(folder.join(format!("{}.npz", &name[..16])));
        };
        None
    }
}

/// The test split of a set that has one.
pub fn test_split(data: &DataConfig) -> Option<Dataset> {
    let has = match data.kind {
        DataKind::Idx | DataKind::Cifar10 | DataKind::Cifar100 => data.split != Some(Split::Test),
        _ => data.split == Some(Split::Train),
    };
    let test = DataConfig {
        split: Some(Split::Test),
        ..data.clone()
    };
    has.then(|| Dataset::load(&test, 0, &mut |_, _| {}).ok())
        .flatten()
}
