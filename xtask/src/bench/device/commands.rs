//! Jobs as commands of both sides.

use std::ffi::OsString;

use super::jobs::{Job, Network, SAMPLING_STEPS, Side, What};
use crate::bench::peer::Peer;
use crate::bench::places::Places;
use crate::bench::process::Invocation;

/// What all commands of a measurement have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Our device.
    pub device: String,
    /// Threads of both sides.
    pub threads: usize,
    /// How often work is repeated.
    pub pace: Pace,
}

/// How often work is repeated, on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    windows: u32,
    window: u32,
    warmup: u32,
    seconds: u32,
}

impl Pace {
    /// A GPU is given work without waiting for it, as in training, where a loss is read now and then.
    pub fn new(gpu: bool, quick: bool) -> Self {
        let (windows, window, warmup, seconds) = match (gpu, quick) {
            (true, false) => (5, 10, 5, 10),
            (true, true) => (2, 5, 3, 5),
            (false, false) => (3, 1, 1, 60),
            (false, true) => (2, 1, 1, 10),
        };
        Self {
            windows,
            window,
            warmup,
            seconds,
        }
    }

    fn options(self) -> Vec<(&'static str, OsString)> {
        let options = [
            ("--steps", self.windows),
            ("--window", self.window),
            ("--warmup", self.warmup),
            ("--seconds", self.seconds),
        ];
        let options = options.map(|(name, value)| (name, value.to_string().into()));
        options.to_vec()
    }
}

impl Setting {
    /// What does a job; PyTorch's need a peer.
    pub fn command(&self, job: &Job, peer: Option<&Peer>, places: &Places) -> Option<Invocation> {
        match (job.side, job.what) {
            (Side::Ours, What::Network(network)) => Some(self.network(network, job.dtype, places)),
            (Side::Ours, What::Sampling(network)) => {
                Some(self.sampling(network, job.dtype, places))
            }
            (Side::Ours, What::Matmul) => None,
            (Side::Peer(how), what) => Some(self.peers(peer?, how, job.dtype, what, places)),
        }
    }

    fn network(&self, network: Network, dtype: &str, places: &Places) -> Invocation {
        let mut options = self.pace.options();
        options.extend([
            ("--config", places.config(network.config).into()),
            ("--batch", network.batch.to_string().into()),
            ("--device", OsString::from(&self.device)),
            ("--precision", dtype.into()),
            ("--threads", self.threads.to_string().into()),
        ]);
        Invocation {
            program: places.program("ddpm-bench"),
            arguments: arguments("network", options),
            environment: Vec::new(),
        }
    }

    fn sampling(&self, network: Network, dtype: &str, places: &Places) -> Invocation {
        let images = network.images.to_string();
        let mut options: Vec<(&str, OsString)> = vec![
            ("--model", places.model(network.config).into()),
            ("--sampler", "ddim".into()),
            ("--steps", SAMPLING_STEPS.to_string().into()),
            ("--n", images.clone().into()),
            ("--batch", images.into()),
            ("--device", OsString::from(&self.device)),
            ("--grid", places.picture("ours").into()),
        ];
        if dtype != "f32" {
            options.push(("--precision", dtype.into()));
        }
        let mut arguments = arguments("sample", options);
        arguments.extend(["--json".into(), "--quiet".into()]);
        Invocation {
            program: places.program("ddpm"),
            arguments,
            // `ddpm` has no option for it.
            environment: vec![("RAYON_NUM_THREADS", self.threads.to_string().into())],
        }
    }

    fn peers(
        &self,
        peer: &Peer,
        how: &str,
        dtype: &str,
        what: What,
        places: &Places,
    ) -> Invocation {
        let (task, mut options): (_, Vec<(&str, OsString)>) = match what {
            What::Network(network) => {
                let mut options = self.pace.options();
                options.push(("--config", places.config(network.config).into()));
                options.push(("--batch", network.batch.to_string().into()));
                ("network", options)
            }
            What::Sampling(network) => (
                "sample",
                vec![
                    ("--model", places.model(network.config).into()),
                    ("--n", network.images.to_string().into()),
                    ("--steps", SAMPLING_STEPS.to_string().into()),
                    ("--out", places.picture("peer").into()),
                ],
            ),
            What::Matmul => ("matmul", Vec::new()),
        };
        options.extend([("--mode", how.into()), ("--dtype", dtype.into())]);
        peer.invocation(task, options, places)
    }
}

fn arguments(task: &str, options: Vec<(&str, OsString)>) -> Vec<OsString> {
    let options = options
        .into_iter()
        .flat_map(|(name, value)| [name.into(), value]);
    std::iter::once(task.into()).chain(options).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::device::jobs::Benchmark;

    #[test]
    fn commands_say_what_is_asked() {
        let places = Places::new(&crate::root().unwrap(), None).unwrap();
        let setting = Setting {
            device: "cuda:0".to_owned(),
            threads: 3,
            pace: Pace::new(true, false),
        };
        let peer = Peer::unknown();
        let jobs = Benchmark::new("cuda:0", false, true).jobs();
        let command = |side: Side, words: &str| {
            let found = jobs
                .iter()
                .find(|job| job.side == side && job.name().contains(words));
            let command = setting.command(found.unwrap(), Some(&peer), &places);
            command.unwrap().typed()
        };
        let pace = "--steps 5 --window 10 --warmup 5 --seconds 10 ";
        let ours = command(Side::Ours, "batch 128: ours tf32");
        for words in [
            " network --steps 5",
            pace,
            "ddpm-cifar10-32.json --batch 128 --device cuda:0 --precision tf32 --threads 3",
        ] {
            assert!(ours.contains(words), "{ours}");
        }
        let drawn = command(Side::Ours, "by DDIM");
        assert!(
            drawn.contains("--n 128 --batch 128 --device cuda:0 --grid "),
            "{drawn}"
        );
        assert!(drawn.contains("--precision bf16 --json"), "{drawn}");
        let peer = command(Side::Peer("compile"), "unet-128");
        for words in [
            " network --steps 5",
            pace,
            "unet-128.json --batch 16 --mode compile --dtype bf16 --device cpu --threads 2",
        ] {
            assert!(peer.contains(words), "{peer}");
        }
        let peer = command(Side::Peer("eager"), "matrix");
        assert!(peer.contains(" matmul --mode eager"), "{peer}");
    }

    #[test]
    fn without_a_peer_its_jobs_have_no_command() {
        let places = Places::new(&crate::root().unwrap(), None).unwrap();
        let setting = Setting {
            device: "cpu".to_owned(),
            threads: 1,
            pace: Pace::new(false, true),
        };
        for job in Benchmark::new("cpu", true, true).jobs() {
            let command = setting.command(&job, None, &places);
            assert_eq!(command.is_some(), job.side == Side::Ours, "{job:?}");
        }
    }
}
