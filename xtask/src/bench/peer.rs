//! PyTorch's side: `xtask/peer/bench_peer.py` in its modes.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::anyhow;
use serde_json::Value;

use super::places::Places;
use super::process::Invocation;
use super::work::{Task, Work};

/// How PyTorch does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// `eager`, `channels_last`, `compile` or `graphs`.
    pub how: &'static str,
    /// `f32`, `tf32` or `bf16`.
    pub dtype: &'static str,
}

impl Mode {
    /// What PyTorch does unless it is told otherwise.
    pub const EAGER: Self = Self::new("eager", "f32");

    /// Every mode that is measured on a CPU, the plainest first.
    pub const ALL: [Self; 5] = [
        Self::EAGER,
        Self::new("channels_last", "f32"),
        Self::new("channels_last", "bf16"),
        Self::new("compile", "f32"),
        Self::new("compile", "bf16"),
    ];

    /// The modes of a quick measurement: compilation takes minutes, and so does bf16 on CPUs
    /// without instructions for it.
    pub const QUICK: [Self; 2] = [Self::EAGER, Self::new("channels_last", "f32")];

    /// What only GPUs have besides.
    pub const CARDS: [Self; 5] = [
        Self::new("eager", "tf32"),
        Self::new("eager", "bf16"),
        Self::new("channels_last", "tf32"),
        Self::new("compile", "tf32"),
        Self::new("graphs", "bf16"),
    ];

    const fn new(how: &'static str, dtype: &'static str) -> Self {
        Self { how, dtype }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.into_iter().chain(Self::CARDS);
        let named = |mode: &Self| format!("{}-{}", mode.how, mode.dtype);
        known().find(|mode| named(mode) == name).ok_or_else(|| {
            let names: Vec<String> = known().map(|mode| named(&mode)).collect();
            format!("known modes: {}", names.join(", "))
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
    device: &'static str,
    environment: Vec<(&'static str, OsString)>,
    /// What it says of itself: versions, and the vector instructions that it uses.
    pub info: Value,
}

impl Peer {
    /// A Python that has been asked for its versions; it works on the CPU.
    ///
    /// # Errors
    /// If it does not start or lacks torch.
    pub fn start(places: &Places, python: &Path, threads: usize) -> anyhow::Result<Self> {
        Self::start_on(places, python, threads, "cpu", None)
    }

    /// One that works on `cpu` or `cuda`, on the GPU of that number if there are several.
    ///
    /// # Errors
    /// If it does not start, lacks torch or does not see the device.
    pub fn start_on(
        places: &Places,
        python: &Path,
        threads: usize,
        device: &'static str,
        gpu: Option<usize>,
    ) -> anyhow::Result<Self> {
        let visible = gpu.filter(|index| *index > 0);
        let visible = visible.map(|index| ("CUDA_VISIBLE_DEVICES", index.to_string().into()));
        let mut peer = Self {
            python: python.to_owned(),
            script: places.script(),
            threads,
            device,
            environment: visible.into_iter().collect(),
            info: Value::Null,
        };
        let asked = peer.invocation("info", Vec::new(), places);
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
        options.extend([("--mode", mode.how.into()), ("--dtype", mode.dtype.into())]);
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

    /// A task of the script.
    pub fn invocation(
        &self,
        task: &str,
        options: Vec<(&str, OsString)>,
        places: &Places,
    ) -> Invocation {
        let ours: [(&str, OsString); 2] = [
            ("--device", self.device.into()),
            ("--threads", self.threads.to_string().into()),
        ];
        let mut arguments = vec![self.script.clone().into(), task.into()];
        for (name, value) in options.into_iter().chain(ours) {
            arguments.extend([name.into(), value]);
        }
        let mut environment = self.environment.clone();
        environment.push(("TORCHINDUCTOR_CACHE_DIR", places.compiled().into()));
        Invocation {
            program: self.python.clone(),
            arguments,
            environment,
        }
    }

    /// One that has not been asked for anything.
    #[cfg(test)]
    pub fn unknown() -> Self {
        Self {
            python: "python3".into(),
            script: "peer.py".into(),
            threads: 2,
            device: "cpu",
            environment: Vec::new(),
            info: Value::Null,
        }
    }

    /// In a line.
    pub fn describe(&self) -> String {
        let text = |key: &str| self.info.get(key).and_then(Value::as_str);
        let of = |key: &str| text(key).unwrap_or("?");
        let network = match text("diffusers") {
            None if self.info.get("network").is_some() => "no diffusers".to_owned(),
            version => format!("diffusers {}", version.unwrap_or("?")),
        };
        let used = match text("gpu") {
            Some(gpu) => format!("{gpu}, driver {}, CUDA {}", of("driver"), of("cuda")),
            None => of("cpu_capability").to_owned(),
        };
        let (torch, python) = (of("torch"), of("python"));
        format!("torch {torch}, {network}, Python {python}, using {used}")
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
        let places = Places::new(&crate::root().unwrap(), None).unwrap();
        let command = |filter: &str, mode| {
            let work = select(all(false), Some(filter)).remove(0);
            peer().command(&work, mode, &places).typed()
        };
        let network = command("digits, batch 32: training", Mode::ALL[4]);
        for words in [
            "TORCHINDUCTOR_CACHE_DIR=",
            " python3 peer.py network --config ",
            "digits.json --batch 32 --steps 50 --warmup 10 --only train --mode compile --dtype bf16 --device cpu --threads 2",
        ] {
            assert!(network.contains(words), "{network}");
        }
        let sampling = command("first sampling step", Mode::EAGER);
        for words in [
            " python3 peer.py sample --model ",
            "small-32 --n 1 --steps 1 --out ",
            ".png --mode eager --dtype f32 --device cpu --threads 2",
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
        assert!(Mode::CARDS.iter().all(|mode| !Mode::ALL.contains(mode)));
        assert_eq!("graphs-bf16".parse(), Ok(Mode::CARDS[4]));
        assert!(
            "graphs"
                .parse::<Mode>()
                .unwrap_err()
                .contains("compile-tf32")
        );
    }

    #[test]
    fn a_peer_says_what_it_is() {
        assert_eq!(
            peer().describe(),
            "torch 2.15, diffusers ?, Python 3.11, using ?"
        );
        let on_gpu = Peer {
            info: json!({
                "torch": "2.15", "python": "3.11", "diffusers": null, "network": "in plain torch",
                "gpu": "H100", "driver": "580", "cuda": "13.0",
            }),
            ..Peer::unknown()
        };
        assert_eq!(
            on_gpu.describe(),
            "torch 2.15, no diffusers, Python 3.11, using H100, driver 580, CUDA 13.0"
        );
    }

    #[test]
    fn a_python_that_is_not_there_is_named() {
        let places = Places::new(&crate::root().unwrap(), None).unwrap();
        let error = Peer::start(&places, Path::new("no-such-python"), 2).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("--peer no-such-python: `no-such-python` does not start"),
            "{message}"
        );
    }
}
