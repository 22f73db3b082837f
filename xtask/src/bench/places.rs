//! Where the pieces of a measurement lie.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::step::Step;

/// Folders and programs of a measurement. What it writes is removed with this.
#[derive(Debug)]
pub struct Places {
    peer: PathBuf,
    programs: PathBuf,
    scratch: TempDir,
}

impl Places {
    /// An empty folder, and where the programs are or will be: below the build folder, or in a folder of binaries
    /// that were built elsewhere. PyTorch's side may lie there too, in `peer`.
    ///
    /// # Errors
    /// If cargo does not say where it builds, or the folder cannot be made.
    pub fn new(root: &Path, binaries: Option<&Path>) -> anyhow::Result<Self> {
        let mut scratch = tempfile::Builder::new();
        scratch.prefix("run-");
        if let Some(binaries) = binaries {
            let path = || binaries.display().to_string();
            let binaries = binaries.canonicalize().with_context(path)?;
            let beside = binaries.join("peer");
            return Ok(Self {
                peer: match beside.is_dir() {
                    true => beside,
                    false => peer(root),
                },
                programs: binaries,
                scratch: scratch.tempdir()?,
            });
        }
        let target = target(root)?;
        let bench = target.join("bench");
        let context = || bench.display().to_string();
        fs::create_dir_all(&bench).with_context(context)?;
        Ok(Self {
            peer: peer(root),
            programs: target.join("release"),
            scratch: scratch.tempdir_in(&bench).with_context(context)?,
        })
    }

    /// Builds the programs optimised; all at once, so that they share one build of burn. With a device of that
    /// cargo feature compiled in, if one is given.
    ///
    /// # Errors
    /// If they do not compile.
    pub fn build(&self, root: &Path, feature: Option<&str>) -> anyhow::Result<()> {
        let features = feature.map_or_else(String::new, |feature| {
            format!(" --features ddpm-cli/{feature},ddpm-bench/{feature}")
        });
        let arguments = format!("build --release --workspace --bins --locked{features}");
        Step::cargo("programs", &arguments).run(root)?;
        Ok(())
    }

    /// A program of the workspace.
    pub fn program(&self, name: &str) -> PathBuf {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        self.programs.join(file)
    }

    /// The configuration of a network.
    pub fn config(&self, name: &str) -> PathBuf {
        self.peer.join("configs").join(format!("{name}.json"))
    }

    /// PyTorch's side.
    pub fn script(&self) -> PathBuf {
        self.peer.join("bench_peer.py")
    }

    /// The directory of a network with weights.
    pub fn model(&self, name: &str) -> PathBuf {
        self.scratch.path().join("models").join(name)
    }

    /// The file that a side draws its images into.
    pub fn picture(&self, side: &str) -> PathBuf {
        self.scratch.path().join(format!("{side}.png"))
    }

    /// Where PyTorch keeps what it compiled, for the rounds after the first.
    pub fn compiled(&self) -> PathBuf {
        self.scratch.path().join("compiled")
    }
}

/// The folder of PyTorch's side in the workspace.
pub fn peer(root: &Path) -> PathBuf {
    root.join("xtask").join("peer")
}

/// The build folder, which the environment or a configuration of cargo may have moved.
pub fn target(root: &Path) -> anyhow::Result<PathBuf> {
    let output = std::process::Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("`cargo` does not start")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match metadata.get("target_directory").and_then(Value::as_str) {
        Some(path) => Ok(path.into()),
        None => bail!(
            "cargo metadata does not say where cargo builds: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::{Task, all};

    #[test]
    fn what_is_written_is_removed() {
        let root = crate::root().unwrap();
        let places = Places::new(&root, None).unwrap();
        let scratch = places.scratch.path().to_owned();
        assert!(scratch.starts_with(target(&root).unwrap()));
        let written = [places.model("a"), places.picture("b"), places.compiled()];
        assert!(written.iter().all(|path| path.starts_with(&scratch)));
        drop(places);
        assert!(!scratch.exists());
    }

    #[test]
    fn binaries_may_come_with_the_peer_or_without() {
        let root = crate::root().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let found = || Places::new(&root, Some(folder.path())).unwrap();
        assert_eq!(found().script(), peer(&root).join("bench_peer.py"));
        fs::create_dir(folder.path().join("peer")).unwrap();
        let beside = folder.path().canonicalize().unwrap();
        assert_eq!(found().script(), beside.join("peer/bench_peer.py"));
        assert!(found().program("ddpm").starts_with(&beside));
        let error = Places::new(&root, Some(Path::new("no-such-folder"))).unwrap_err();
        assert_eq!(error.to_string(), "no-such-folder");
    }

    #[test]
    fn every_network_has_a_configuration() {
        let root = crate::root().unwrap();
        for work in all(true).into_iter().chain(all(false)) {
            let (Task::Network { config, .. } | Task::Sampling { config, .. }) = work.task;
            let path = peer(&root).join("configs").join(format!("{config}.json"));
            let text = fs::read_to_string(&path).unwrap();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert!(read["sample_size"].is_u64(), "{}", path.display());
        }
        assert!(peer(&root).join("bench_peer.py").is_file());
    }
}
