//! The list of a checkpoint's files with their lengths and digests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::{Checkpoint, CheckpointSummary, EMA, MANIFEST, OPTIMISER, STATE, WEIGHTS, step_of};
use crate::atomic::FileRecord;
use crate::error::{Instead, Result, StoreError};
use crate::io as disk;
use crate::json;

const SCHEMA: u64 = 1;
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    schema: u64,
    step: u64,
    images_seen: u64,
    config_hash: String,
    metrics_bytes: u64,
    files: BTreeMap<String, FileRecord>,
    /// Digest of this manifest with this field empty: the figures above have no other guard.
    checksum: String,
}

/// Read on its own first, for a later schema may have other fields.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: u64,
}

impl Manifest {
    pub(super) fn new(checkpoint: &Checkpoint, files: BTreeMap<String, FileRecord>) -> Self {
        Self {
            schema: SCHEMA,
            step: checkpoint.step,
            images_seen: checkpoint.images_seen,
            config_hash: checkpoint.config_hash.clone(),
            metrics_bytes: checkpoint.metrics_bytes,
            files,
            checksum: String::new(),
        }
    }

    /// The file's bytes, the only ones that [`Manifest::read`] takes for this manifest.
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let mut sealed = Self {
            checksum: String::new(),
            ..self.clone()
        };
        let unsealed = json::to_bytes(path, &sealed)?;
        sealed.checksum = blake3::hash(&unsealed).to_hex().to_string();
        json::to_bytes(path, &sealed)
    }

    /// Reads and checks the manifest of a checkpoint directory; the files are not looked at.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(MANIFEST);
        if !path.is_file() {
            return Err(torn(directory, format!("{MANIFEST} is missing")));
        }
        let bytes = disk::read_bounded(&path, MAX_MANIFEST_BYTES)
            .map_err(|error| unreadable(directory, MANIFEST, error))?;
        match serde_json::from_slice(&bytes) {
            Ok(SchemaOnly { schema }) if schema > SCHEMA => {
                return Err(StoreError::Schema {
                    path,
                    found: schema,
                    supported: SCHEMA,
                });
            }
            _ => {}
        }
        let mut manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| torn(directory, format!("{MANIFEST} is not readable: {error}")))?;
        if manifest.to_bytes(&path)? != bytes {
            return Err(torn(
                directory,
                format!("{MANIFEST} was altered after it was written"),
            ));
        }
        manifest.checksum.clear();
        manifest.check_names(directory)?;
        Ok(manifest)
    }

    /// Whether a checkpoint has a file.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    fn check_names(&self, directory: &Path) -> Result<()> {
        if let Some(step) = step_of(directory).filter(|&step| step != self.step) {
            let problem = format!(
                "{MANIFEST} belongs to step {}, the directory to step {step}",
                self.step
            );
            return Err(torn(directory, problem));
        }
        for name in [STATE, OPTIMISER, WEIGHTS[0], WEIGHTS[1]] {
            if !self.files.contains_key(name) {
                return Err(torn(directory, format!("{MANIFEST} does not list {name}")));
            }
        }
        let inside = |name: &&String| {
            Path::new(name)
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
        };
        match self.files.keys().find(|name| !inside(name)) {
            Some(name) => Err(torn(
                directory,
                format!("{MANIFEST} lists `{name}`, which lies elsewhere"),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn check_lengths(&self, directory: &Path) -> Result<()> {
        for (name, record) in &self.files {
            match fs::metadata(directory.join(name)) {
                Ok(metadata) if metadata.is_file() && metadata.len() == record.bytes => {}
                Ok(metadata) => {
                    let problem = format!(
                        "{name} has {} bytes, its manifest says {}",
                        metadata.len(),
                        record.bytes
                    );
                    return Err(torn(directory, problem));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(torn(directory, format!("{name} is missing")));
                }
                Err(error) => return Err(torn(directory, format!("{name}: {error}"))),
            }
        }
        Ok(())
    }

    pub(super) fn check_contents(&self, directory: &Path) -> Result<()> {
        for (name, record) in &self.files {
            let mut hasher = blake3::Hasher::new();
            let hashed = File::open(directory.join(name))
                .and_then(|mut file| io::copy(&mut file, &mut hasher));
            if let Err(error) = hashed {
                return Err(torn(directory, format!("{name}: {error}")));
            }
            if hasher.finalize().to_hex().as_str() != record.blake3 {
                let problem = format!("checksum of {name} differs from its manifest");
                return Err(torn(directory, problem));
            }
        }
        Ok(())
    }

    pub(super) fn summary(&self) -> CheckpointSummary {
        CheckpointSummary {
            step: self.step,
            images_seen: self.images_seen,
            config_hash: self.config_hash.clone(),
            metrics_bytes: self.metrics_bytes,
            has_ema: EMA.iter().all(|name| self.files.contains_key(*name)),
            bytes: self
                .files
                .values()
                .fold(0, |sum, file| sum.saturating_add(file.bytes)),
        }
    }
}

fn torn(directory: &Path, problem: String) -> StoreError {
    StoreError::Checkpoint {
        path: directory.to_owned(),
        problem,
        instead: Instead::Unsought,
    }
}

fn unreadable(directory: &Path, name: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Io { source, .. } => torn(directory, format!("{name}: {source}")),
        other => torn(directory, other.to_string()),
    }
}
