//! The directory of one training run and the names in it.
//!
//! ```text
//! RUN/config.toml  run.json  metrics.jsonl  skips.jsonl  run.lock
//! RUN/samples/step-00001200.png
//! RUN/checkpoints/step-1200/
//! RUN/ema/step-1200/    snapshots of tracked averages
//! RUN/model/            the exported pipeline
//! RUN/cache/kernels.json  the kernels that a GPU was found fastest with
//! ```
//! Whoever reads takes a [`RunDir`]; whoever writes takes a [`RunWriter`], of which there is one at a
//! time across processes.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::atomic;
use crate::error::{Result, StoreError};
use crate::io as disk;

/// The paths of a run, for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

/// A run that this process alone may write to, until this value is dropped.
#[derive(Debug)]
pub struct RunWriter {
    run: RunDir,
    /// Held, never read: closing it releases the lock.
    _lock: File,
}

impl Deref for RunWriter {
    type Target = RunDir;

    fn deref(&self) -> &RunDir {
        &self.run
    }
}

impl RunDir {
    /// Starts a run in a directory that is new or empty.
    ///
    /// # Errors   [`StoreError::Occupied`] if a run or anything else is there, [`StoreError::Locked`],
    /// [`StoreError::Io`]
    pub fn create(path: impl AsRef<Path>) -> Result<RunWriter> {
        let run = Self {
            path: path.as_ref().to_owned(),
        };
        if let Some(what) = run.occupant()? {
            return Err(StoreError::Occupied {
                path: run.path,
                what,
            });
        }
        disk::create_dir_all(&run.path)?;
        let writer = run.lock()?;
        // Another process may have begun its run between the look and the lock.
        match writer.occupant()? {
            Some(what) => Err(StoreError::Occupied {
                path: writer.path.clone(),
                what,
            }),
            None => writer.prepared(),
        }
    }

    /// Starts a run in the next free `ROOT/NAME-001`, `ROOT/NAME-002`, …
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn create_in(root: impl AsRef<Path>, name: &str) -> Result<RunWriter> {
        let root = root.as_ref();
        disk::create_dir_all(root)?;
        let taken = disk::read_dir_sorted(root)?;
        let numbers = taken.iter().filter_map(|path| {
            let number = path
                .file_name()?
                .to_str()?
                .strip_prefix(name)?
                .strip_prefix('-')?;
            number.parse::<u64>().ok()
        });
        let mut number = numbers.max().unwrap_or(0).saturating_add(1);
        loop {
            let path = root.join(format!("{name}-{number:03}"));
            // Only one process can create a directory: two starts at once get two numbers.
            if disk::create_dir_new(&path)? {
                return Self::create(path);
            }
            number = number.saturating_add(1);
        }
    }

    /// An existing run, for reading.
    ///
    /// # Errors   [`StoreError::Missing`] if there is no run
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let run = Self {
            path: path.as_ref().to_owned(),
        };
        if run.is_run() {
            return Ok(run);
        }
        Err(StoreError::Missing {
            path: run.path,
            what: "a run (no config.toml)".to_owned(),
            hint: "give the directory that `ddpm train` printed".to_owned(),
        })
    }

    /// An existing run, for going on with it; sweeps what an interrupted write left.
    ///
    /// # Errors   [`StoreError::Missing`], [`StoreError::Locked`] if another process writes to it,
    /// [`StoreError::Io`]
    pub fn resume(path: impl AsRef<Path>) -> Result<RunWriter> {
        Self::open(path)?.lock()?.prepared()
    }

    /// The run under `root` that was written to last; `None` if there is none.
    ///
    /// # Errors   [`StoreError::Io`] if `root` cannot be listed
    pub fn latest(root: impl AsRef<Path>) -> Result<Option<Self>> {
        let candidates = disk::read_dir_sorted(root.as_ref())?.into_iter();
        let runs = candidates.map(|path| Self { path }).filter(Self::is_run);
        // Equal times (coarse clocks, copied trees): the later name, which has the higher number.
        Ok(runs.max_by_key(Self::modified))
    }

    fn modified(&self) -> SystemTime {
        [
            self.config_toml(),
            self.run_json(),
            self.metrics_jsonl(),
            self.checkpoints(),
        ]
        .iter()
        .filter_map(|path| {
            fs::metadata(path)
                .and_then(|metadata| metadata.modified())
                .ok()
        })
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn is_run(&self) -> bool {
        self.config_toml().is_file()
    }

    /// What forbids a new run here; a directory where one died before its first file is free.
    fn occupant(&self) -> Result<Option<&'static str>> {
        if self.is_run() {
            return Ok(Some("a run is already there"));
        }
        for entry in disk::read_dir_sorted(&self.path)? {
            let name = entry.file_name().unwrap_or_default().as_encoded_bytes();
            let ours = entry == self.lock_path()
                || name.starts_with(atomic::TEMPORARY_PREFIX.as_bytes())
                || (entry.is_dir() && disk::read_dir_sorted(&entry)?.is_empty());
            if !ours {
                return Ok(Some("the directory is not empty"));
            }
        }
        Ok(None)
    }

    fn lock(self) -> Result<RunWriter> {
        let lock = disk::lock(&self.lock_path())?;
        Ok(RunWriter {
            run: self,
            _lock: lock,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration.
    #[must_use]
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Versions, command, device and seed.
    #[must_use]
    pub fn run_json(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// One JSON object a line, one line a logged step.
    #[must_use]
    pub fn metrics_jsonl(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The grids drawn during training.
    #[must_use]
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples")
    }

    /// The grid of one step; the zeros make names sort as steps do.
    #[must_use]
    pub fn sample_png(&self, step: u64) -> PathBuf {
        self.samples().join(format!("step-{step:08}.png"))
    }

    /// Where the checkpoints lie.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The directory of one checkpoint.
    #[must_use]
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(format!("step-{step}"))
    }

    /// Checkpoints that were moved away when the run went on from an earlier one on purpose.
    #[must_use]
    pub fn superseded(&self) -> PathBuf {
        self.checkpoints().join("superseded")
    }

    /// Snapshots of tracked averages of the weights.
    #[must_use]
    pub fn ema(&self) -> PathBuf {
        self.path.join("ema")
    }

    /// One JSON object a line, one line a skipped update.
    #[must_use]
    pub fn skips_jsonl(&self) -> PathBuf {
        self.path.join("skips.jsonl")
    }

    /// The pipeline exported at the end.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// The kernels that a GPU was found fastest with.
    #[must_use]
    pub fn tuning_json(&self) -> PathBuf {
        self.path.join("cache").join("kernels.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join("run.lock")
    }

    /// The resolved configuration as text.
    ///
    /// # Errors   [`StoreError::Io`], [`StoreError::Format`] if it is not UTF-8 or over 1 MiB
    pub fn read_config(&self) -> Result<String> {
        let path = self.config_toml();
        let bytes = disk::read_bounded(&path, 1 << 20)?;
        String::from_utf8(bytes).map_err(|error| StoreError::format(&path, "TOML", error))
    }
}

impl RunDir {
    /// The text of `cache/kernels.json`, if there is one.
    ///
    /// # Errors   [`StoreError::Io`], [`StoreError::Format`] if it is not UTF-8 or over 4 MiB
    pub fn read_tuning(&self) -> Result<Option<String>> {
        let path = self.tuning_json();
        if !path.exists() {
            return Ok(None);
        }
        let bytes = disk::read_bounded(&path, 4 << 20)?;
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|error| StoreError::format(&path, "JSON", error))
    }
}

impl RunWriter {
    /// Sweeps and makes the fixed directories.
    fn prepared(self) -> Result<Self> {
        for directory in [self.path.clone(), self.samples(), self.model()] {
            atomic::sweep_temporaries(&directory)?;
        }
        for directory in [self.checkpoints(), self.ema()] {
            crate::checkpoint::sweep(&directory)?;
        }
        disk::create_dir_all(&self.samples())?;
        disk::create_dir_all(&self.checkpoints())?;
        Ok(self)
    }

    /// Writes `config.toml`, with which the directory becomes a run.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn write_config(&self, toml: &str) -> Result<()> {
        atomic::write_file(&self.config_toml(), toml.as_bytes())
    }

    /// Writes `cache/kernels.json`.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn write_tuning(&self, json: &str) -> Result<()> {
        let path = self.tuning_json();
        if let Some(directory) = path.parent() {
            disk::create_dir_all(directory)?;
        }
        atomic::write_file(&path, json.as_bytes())
    }

    /// Writes `run.json`.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn write_run_json(&self, value: &serde_json::Value) -> Result<()> {
        crate::json::write_pretty(&self.run_json(), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn started(path: &Path) -> RunWriter {
        let run = RunDir::create(path).unwrap();
        run.write_config("seed = 0\n").unwrap();
        run
    }

    #[test]
    fn a_run_is_created_once_and_resumed_after() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs/a");
        let run = started(&path);
        assert!(run.samples().is_dir() && run.checkpoints().is_dir());
        assert!(matches!(
            RunDir::resume(&path),
            Err(StoreError::Locked { .. })
        ));
        drop(run);
        assert!(matches!(
            RunDir::create(&path),
            Err(StoreError::Occupied { .. })
        ));
        let run = RunDir::resume(&path).unwrap();
        assert_eq!(run.read_config().unwrap(), "seed = 0\n");
        assert_eq!(
            run.sample_png(1200).file_name().unwrap(),
            "step-00001200.png"
        );
    }

    #[test]
    fn a_foreign_directory_is_refused_and_an_aborted_start_is_not() {
        let root = tempfile::tempdir().unwrap();
        let foreign = root.path().join("holiday");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("photo.jpg"), "x").unwrap();
        let refused = RunDir::create(&foreign).unwrap_err().to_string();
        assert!(
            refused.contains("holiday") && refused.contains("not empty"),
            "{refused}"
        );
        assert!(matches!(
            RunDir::open(&foreign),
            Err(StoreError::Missing { .. })
        ));

        let aborted = root.path().join("aborted");
        drop(RunDir::create(&aborted).unwrap());
        fs::write(aborted.join(".tmp-config.toml-1-1"), "se").unwrap();
        drop(started(&aborted));
        assert!(!aborted.join(".tmp-config.toml-1-1").exists());
    }

    #[test]
    fn numbers_go_on_from_the_highest() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..2)
            .map(|_| RunDir::create_in(root.path(), "digits").unwrap())
            .map(|run| {
                run.path()
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(names, ["digits-001", "digits-002"]);
        fs::create_dir(root.path().join("digits-041")).unwrap();
        fs::create_dir(root.path().join("digits-extra")).unwrap();
        let next = RunDir::create_in(root.path(), "digits").unwrap();
        assert!(next.path().ends_with("digits-042"));
    }

    #[test]
    fn the_latest_run_is_the_one_written_last() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(RunDir::latest(root.path()).unwrap(), None);
        assert_eq!(RunDir::latest(root.path().join("missing")).unwrap(), None);
        for name in ["b", "a"] {
            drop(started(&root.path().join(name)));
        }
        fs::create_dir(root.path().join("z-not-a-run")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(60);
        let metrics = root.path().join("a/metrics.jsonl");
        File::create(&metrics).unwrap().set_modified(later).unwrap();
        let latest = RunDir::latest(root.path()).unwrap().unwrap();
        assert!(latest.path().ends_with("a"));
    }
}
