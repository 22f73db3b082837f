//! Runs the `ddpm` binary the way a person does, in a folder of its own.

pub mod faults;
pub mod hostile;
pub mod mpirun;
mod objectives;
pub mod shown;
pub mod torch_file;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ddpm_store::{NamedTensor, TensorFile};
use serde_json::Value;
use tempfile::TempDir;

pub use objectives::OBJECTIVES;

/// Overrides that make a run of a second: a network of some ten thousand parameters on the digits.
pub const TINY: &[&str] = &[
    "model.channels=8",
    "model.multipliers=[1,2]",
    "model.blocks=1",
    "model.groups=4",
    "model.attention_at=[4]",
    "model.mid_attention=true",
    "train.batch=4",
    "train.steps=6",
    "train.log_every=1",
    "train.checkpoint_every=2",
    "train.sample_every=0",
    "sample.steps=2",
    "sample.count=4",
    "optim.warmup_steps=2",
];

/// An empty folder in which `ddpm` is run.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
}

/// How one call of `ddpm` ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Ended {
    /// What a process left that has ended.
    pub fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The one JSON object that `--json` prints.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Asserts success and hands itself on.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts a failure that is one sentence without a panic, with this code and these words.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        let errors: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        for word in words {
            assert!(errors[0].contains(word), "no `{word}` in: {}", self.stderr);
        }
        for bug in ["panicked", "ddpm has a bug"] {
            assert!(!self.stderr.contains(bug), "{}", self.stderr);
        }
        self
    }
}

impl Ended {
    /// Asserts that the arguments were refused, with these words.
    #[track_caller]
    pub fn failed_usage(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(2), "{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no `{word}` in: {}",
                self.stderr
            );
        }
        self
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// A new one.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A path inside.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file inside and returns its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// `ddpm` with these arguments, not started yet.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.prepared("ddpm", args)
    }

    /// The same with faults in it; see `src/bin/ddpm-faulty.rs` for the environment that says which.
    pub fn faulty<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.prepared("ddpm-faulty", args)
    }

    fn prepared<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(binary(program));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs `ddpm` with these arguments.
    pub fn ddpm<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        Ended::from(self.command(args).output().expect("ddpm starts"))
    }

    /// `ddpm train --run NAME` with [`TINY`] and further arguments.
    pub fn train_tiny(&self, run: &str, more: &[&str]) -> Ended {
        self.ddpm(
            tiny(run)
                .iter()
                .map(String::as_str)
                .chain(more.iter().copied()),
        )
    }
}

/// The arguments of a tiny training run.
pub fn tiny(run: &str) -> Vec<String> {
    let mut args: Vec<String> = ["train", "--json", "--device", "cpu", "--run", run]
        .map(String::from)
        .to_vec();
    for set in TINY {
        args.push("--set".into());
        args.push((*set).into());
    }
    args
}

/// A binary of the workspace: in `target/PROFILE`, where this very executable lies, or in whose `deps` it lies.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let mut places = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|place| place.join(&file));
    places.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "{file} is not beside {}; build the whole workspace",
            own.display()
        )
    })
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository")
        .to_owned()
}

/// The tiny network as a diffusers directory, told one of three classes, which all its pictures show.
pub fn class_network(place: &Sandbox, name: &str) {
    let fixture = repository().join("tests/fixtures/tiny-unet");
    let text = std::fs::read_to_string(fixture.join("config.json")).expect("a fixture");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["num_class_embeds"] = 3.into();
    place.file(&format!("{name}/config.json"), config.to_string());
    let weights = "diffusion_pytorch_model.safetensors";
    let mut file = TensorFile::read(&fixture.join(weights)).expect("a fixture");
    let embedded = file.get("time_embedding.linear_2.bias").expect("a bias");
    let channels = embedded.shape[0];
    file.tensors.push(NamedTensor {
        name: "class_embedding.weight".to_owned(),
        shape: vec![3, channels],
        data: (0..3 * channels).map(|k| (k as f32).sin()).collect(),
    });
    // After two steps of training its output is next to nothing.
    let numbers = file.tensors.iter_mut().flat_map(|tensor| &mut tensor.data);
    for (k, number) in numbers.enumerate() {
        *number += 0.2 * (k as f32).sin();
    }
    let path = place.path(name).join(weights);
    file.write(&path).expect("a place to write");
}

/// `--set` arguments that give a recipe a few images in place of those that are not shipped.
pub fn stand_in(place: &Sandbox, recipe: &str) -> Vec<String> {
    match recipe {
        "ddpm-cifar10" => {
            for i in 1..=5 {
                place.file(&format!("cifar/data_batch_{i}.bin"), vec![1; 3 * 3073]);
            }
            vec![format!("data.path={}", place.path("cifar").display())]
        }
        name if name.starts_with("fashion-mnist") => {
            let mut file = vec![0, 0, 8, 3];
            for extent in [3u32, 28, 28] {
                file.extend(extent.to_be_bytes());
            }
            file.resize(16 + 3 * 784, 9);
            place.file("fashion/train-images-idx3-ubyte", file);
            vec![format!("data.path={}", place.path("fashion").display())]
        }
        "ddpm-256" => vec![
            format!(
                "data.path={}",
                repository().join("configs/data/sprites-32.zip").display()
            ),
            "data.kind=zip".to_owned(),
        ],
        _ => Vec::new(),
    }
}
