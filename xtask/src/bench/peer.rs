//! PyTorch's side: `xtask/peer/bench_peer.py` in its modes.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::anyhow;
use serde_json::Value;

use super::places::{self, Places};
use super::process::Invocation;
use super::work::{Task, Work};

/// How PyTorch does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// `eager`, `channels_last` or `compile`.
    pub how: &'static str,
    /// `f32` or `bf16`.
    pub dtype: &'static str,
}

impl Mode {
    /// What PyTorch does unless it is told otherwise.
    pub const EAGER: Self = Self::new("eager", "f32");

    /// Every mode that is measured, the plainest first.
    pub const ALL: [Self; 5] = [
        Self::EAGER,
        Self::new("channels_last", "f32"),
        Self::new("channels_last", "bf16"),
        Self::new("compile", "f32"),
        Self::new("compile", "bf16"),
    ];

    /// The modes of a quick measurement: compilation takes minutes, and so does bf16 on processors
    /// without instructions for it.
    pub const QUICK: [Self; 2] = [Self::EAGER, Self::new("channels_last", "f32")];

    const fn new(how: &'static str, dtype: &'static str) -> Self {
        Self { how, dtype }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = |mode: &Self| format!("{}-{}", mode.how, mode.dtype);
        let found = Self::ALL.into_iter().find(|mode| named(mode) == name);
        found.ok_or_else(|| {
            format!(
                "known modes: {}",
                Self::ALL.map(|mode| named(&mode)).join(", ")
            )
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.how, self.dtype)
    }
}

/// PyTorch's side.
#[derive(Clone, Debug)]
pub struct Peer {
    python: PathBuf,
    script: PathBuf,
    threads: usize,
    /// What it says of itself: versions, and the vector instructions that it uses.
    pub info: Value,
}

impl Peer {
    /// A Python that has been asked for its versions.
    ///
    /// # Errors
    /// If it does not start or lacks torch or diffusers.
    pub fn start(root: &Path, python: &Path, threads: usize) -> anyhow::Result<Self> {
        let mut peer = Self {
            python: python.to_owned(),
            script: places::peer(root).join("bench_peer.py"),
            threads,
            info: Value::Null,
        };
        let asked = Invocation {
            program: peer.python.clone(),
            arguments: vec![
                peer.script.clone().into(),
                "info".into(),
                "--threads".into(),
                threads.to_string().into(),
            ],
            environment: Vec::new(),
        };
        let ran = asked
            .run()
            .map_err(|problem| anyhow!("--peer {}: {problem}", python.display()))?;
        peer.info = ran.line;
        Ok(peer)
    }

    /// What does a piece of work in a mode.
    pub fn command(&self, work: &Work, mode: Mode, places: &Places) -> Invocation {
        let (task, mut options): (&str, Vec<(&str, OsString)>) = match work.task {
            Task::Network {
                config,
                batch,
                steps,
                warmup,
            } => (
                "network",
                vec![
                    ("--config", places.config(config).into()),
                    ("--batch", batch.to_string().into()),
                    ("--steps", steps.to_string().into()),
                    ("--warmup", warmup.to_string().into()),
                    ("--only", work.only().into()),
                ],
            ),
            Task::Sampling {
                config,
                images,
                steps,
            } => (
                "sample",
                vec![
                    ("--model", places.model(config).into()),
                    ("--n", images.to_string().into()),
                    ("--steps", steps.to_string().into()),
                    ("--out", places.picture("peer").into()),
                ],
            ),
        };
        options.extend([
            ("--mode", mode.how.into()),
            ("--dtype", mode.dtype.into()),
            ("--threads", self.threads.to_string().into()),
        ]);
        self.invocation(task, options, places)
    }

    /// What writes a network with initial weights.
    pub fn make_model(&self, config: &str, places: &Places) -> Invocation {
        let options = vec![
            ("--config", places.config(config).into()),
            ("--to", places.model(config).into()),
        ];
        self.invocation("make-model", options, places)
    }

    fn invocation(
        &self,
        task: &str,
        options: Vec<(&str, OsString)>,
        places: &Places,
    ) -> Invocation {
        let mut arguments = vec![self.script.clone().into(), task.into()];
        for (name, value) in options {
            arguments.extend([name.into(), value]);
        }
        Invocation {
            program: self.python.clone(),
            arguments,
            environment: vec![("TORCHINDUCTOR_CACHE_DIR", places.compiled().into())],
        }
    }

    /// One that has not been asked for anything.
    #[cfg(test)]
    pub fn unknown() -> Self {
        Self {
            python: "python3".into(),
            script: "peer.py".into(),
            threads: 2,
            info: Value::Null,
        }
    }

    /// In a line.
    pub fn describe(&self) -> String {
        let text = |key: &str| self.info.get(key).and_then(Value::as_str).unwrap_or("?");
        format!(
            "torch {}, diffusers {}, Python {}, using {}",
            text("torch"),
            text("diffusers"),
            text("python"),
            text("cpu_capability"),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::work::{all, select};

    fn peer() -> Peer {
        Peer {
            info: json!({"torch": "2.15", "python": "3.11"}),
            ..Peer::unknown()
        }
    }

    #[test]
    fn commands_say_what_is_asked() {
        let places = Places::new(&crate::root().unwrap()).unwrap();
        let command = |filter: &str, mode| {
            let work = select(all(false), Some(filter)).remove(0);
            peer().command(&work, mode, &places).typed()
        };
        let network = command("digits, batch 32: training", Mode::ALL[4]);
        for words in [
            "TORCHINDUCTOR_CACHE_DIR=",
            " python3 peer.py network --config ",
            "digits.json --batch 32 --steps 50 --warmup 10 --only train --mode compile --dtype bf16 --threads 2",
        ] {
            assert!(network.contains(words), "{network}");
        }
        let sampling = command("first sampling step", Mode::EAGER);
        for words in [
            " python3 peer.py sample --model ",
            "small-32 --n 1 --steps 1 --out ",
            ".png --mode eager --dtype f32 --threads 2",
        ] {
            assert!(sampling.contains(words), "{sampling}");
        }
        let model = peer().make_model("digits", &places).typed();
        assert!(model.contains(" peer.py make-model --config "), "{model}");
    }

    #[test]
    fn modes_have_names_of_their_own() {
        let names: Vec<String> = Mode::ALL.iter().map(Mode::to_string).collect();
        assert_eq!(
            names,
            [
                "eager f32",
                "channels_last f32",
                "channels_last bf16",
                "compile f32",
                "compile bf16"
            ]
        );
        assert!(Mode::QUICK.iter().all(|mode| Mode::ALL.contains(mode)));
    }

    #[test]
    fn a_peer_says_what_it_is() {
        assert_eq!(
            peer().describe(),
            "torch 2.15, diffusers ?, Python 3.11, using ?"
        );
    }

    #[test]
    fn a_python_that_is_not_there_is_named() {
        let root = crate::root().unwrap();
        let error = Peer::start(&root, Path::new("no-such-python"), 2).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("--peer no-such-python: `no-such-python` does not start"),
            "{message}"
        );
    }
}
