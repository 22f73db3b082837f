//! The processes of a measurement on a device, the ones that matter most first.

use std::fmt;

/// A network, how it is trained and how many images are drawn with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its configuration in `xtask/peer/configs`.
    pub config: &'static str,
    /// Images at a time.
    pub batch: u32,
    /// Images drawn by DDIM; 0 draws none.
    pub images: u32,
}

/// The networks of a whole measurement.
const NETWORKS: [Network; 2] = [
    Network {
        config: "ddpm-cifar10-32",
        batch: 128,
        images: 128,
    },
    Network {
        config: "unet-128",
        batch: 16,
        images: 0,
    },
];

/// The network of a quick one.
const QUICK: [Network; 1] = [Network {
    config: "digits",
    batch: 32,
    images: 16,
}];

/// Evaluations of the network that draw an image.
pub const SAMPLING_STEPS: u32 = 50;

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We do.
    Ours,
    /// PyTorch, in one of its modes.
    Peer(&'static str),
}

/// PyTorch's modes on a GPU; replaying CUDA graphs is for GPUs alone.
pub const CARD_MODES: [&str; 4] = ["eager", "channels_last", "compile", "graphs"];
/// PyTorch's modes elsewhere.
pub const MODES: [&str; 3] = ["eager", "channels_last", "compile"];
/// The modes that compile.
pub const COMPILED: [&str; 2] = ["compile", "graphs"];

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("ours"),
            Self::Peer(how) => write!(f, "PyTorch {how}"),
        }
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Training steps, then forward passes.
    Network(Network),
    /// Images by DDIM, from the command to the PNG.
    Sampling(Network),
    /// Matrix products, as large as it takes to find the most that the machine reaches.
    Matmul,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Who does it.
    pub side: Side,
    /// In which numbers.
    pub dtype: &'static str,
    /// What is done.
    pub what: What,
}

impl Job {
    /// What it is called while it runs.
    pub fn name(&self) -> String {
        let Self { side, dtype, .. } = self;
        match self.what {
            What::Network(Network { config, batch, .. }) => {
                format!("{config}, batch {batch}: {side} {dtype}")
            }
            What::Sampling(Network { config, images, .. }) => {
                format!("{config}, {images} images by DDIM: {side} {dtype}")
            }
            What::Matmul => "matrix products".to_owned(),
        }
    }
}

/// What a measurement consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// The networks.
    pub networks: Vec<Network>,
    /// The numbers, the most exact first.
    pub dtypes: Vec<&'static str>,
    /// PyTorch's modes; empty without a peer.
    pub modes: Vec<&'static str>,
}

impl Benchmark {
    /// What is measured on a device such as `cuda:0`, with or without PyTorch beside it.
    pub fn new(device: &str, quick: bool, with_peer: bool) -> Self {
        let gpu = peer_device(device) == Some("cuda");
        let modes: &[&str] = match (with_peer, gpu, quick) {
            (false, ..) => &[],
            (true, _, true) => &MODES[..2],
            (true, true, false) => &CARD_MODES,
            (true, false, false) => &MODES,
        };
        Self {
            networks: match quick {
                true => QUICK.to_vec(),
                false => NETWORKS.to_vec(),
            },
            dtypes: match gpu {
                true => vec!["f32", "tf32", "bf16"],
                false => vec!["f32"],
            },
            modes: modes.to_vec(),
        }
    }

    /// Its processes, so that a measurement that is cut short has the most important ones.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let sides = || {
            let peers = self.modes.iter().map(|how| Side::Peer(how));
            std::iter::once(Side::Ours).chain(peers)
        };
        for network in &self.networks {
            for side in sides() {
                for dtype in self
                    .dtypes
                    .iter()
                    .filter(|dtype| self.takes_part(side, dtype))
                {
                    jobs.push(Job {
                        side,
                        dtype,
                        what: What::Network(*network),
                    });
                }
            }
            for (side, dtype) in sides().filter_map(|side| Some((side, self.sampled(side)?))) {
                if network.images > 0 {
                    jobs.push(Job {
                        side,
                        dtype,
                        what: What::Sampling(*network),
                    });
                }
            }
        }
        if !self.modes.is_empty() {
            jobs.push(Job {
                side: Side::Peer("eager"),
                dtype: "f32",
                what: What::Matmul,
            });
        }
        jobs.sort_by_key(|job| self.rank(job));
        jobs
    }

    /// Replaying graphs hides the time that a program takes to start kernels, which matters only where those are
    /// short: in the fewest bits.
    fn takes_part(&self, side: Side, dtype: &str) -> bool {
        side != Side::Peer("graphs") || self.dtypes.last() == Some(&dtype)
    }

    /// What a side draws images in: we and channels_last in the fewest bits, eager in f32. Compiled modes are
    /// left out, since compiling takes longer than the drawing.
    fn sampled(&self, side: Side) -> Option<&'static str> {
        match side {
            Side::Ours | Side::Peer("channels_last") => self.dtypes.last().copied(),
            Side::Peer("eager") => Some("f32"),
            Side::Peer(_) => None,
        }
    }

    /// The smaller, the earlier: what the targets and our own figures need, network by network, before the rest.
    fn rank(&self, job: &Job) -> usize {
        const REST: usize = 12;
        let fewest = self.dtypes.last() == Some(&job.dtype);
        let (network, rank) = match job.what {
            What::Matmul => (None, 3),
            What::Network(network) => {
                let rank = match (job.side, fewest) {
                    (Side::Ours, true) => 0,
                    (Side::Peer("compile"), true) => 1,
                    (Side::Peer("eager"), _) if job.dtype == "f32" => 2,
                    (Side::Ours, false) => 5,
                    (Side::Peer(_), true) => REST,
                    (Side::Peer(_), false) => REST + 1,
                };
                (Some(network), rank)
            }
            What::Sampling(network) if job.side == Side::Ours => (Some(network), 4),
            What::Sampling(network) => (Some(network), REST),
        };
        let position = self.networks.iter().position(|each| Some(*each) == network);
        rank + REST / 2 * position.unwrap_or(0)
    }
}

/// Where PyTorch does the same work, if it can.
pub fn peer_device(device: &str) -> Option<&'static str> {
    let (kind, unit) = device.split_once(':').unwrap_or((device, ""));
    match (kind, unit) {
        ("cpu", _) | (_, "cpu") => Some("cpu"),
        // PyTorch calls AMD's GPUs cuda too.
        ("cuda" | "rocm", _) => Some("cuda"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_most_comes_first() {
        let jobs = Benchmark::new("cuda:0", false, true).jobs();
        let names: Vec<String> = jobs.iter().map(Job::name).collect();
        assert_eq!(
            names[..9],
            [
                "ddpm-cifar10-32, batch 128: ours bf16",
                "ddpm-cifar10-32, batch 128: PyTorch compile bf16",
                "ddpm-cifar10-32, batch 128: PyTorch eager f32",
                "matrix products",
                "ddpm-cifar10-32, 128 images by DDIM: ours bf16",
                "ddpm-cifar10-32, batch 128: ours f32",
                "ddpm-cifar10-32, batch 128: ours tf32",
                "unet-128, batch 16: ours bf16",
                "unet-128, batch 16: PyTorch compile bf16",
            ]
        );
        // Two networks, four sides, three kinds of numbers, and graphs in one; three ways to draw; the products.
        assert_eq!(names.len(), 2 * (4 * 3 + 1) + 3 + 1);
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn elsewhere_there_is_less() {
        let programme = Benchmark::new("vulkan:cpu", true, false);
        let names: Vec<String> = programme.jobs().iter().map(Job::name).collect();
        let expected = [
            "digits, batch 32: ours f32",
            "digits, 16 images by DDIM: ours f32",
        ];
        assert_eq!(names, expected);
        assert_eq!(Benchmark::new("cpu", false, true).modes, MODES);
    }

    #[test]
    fn the_peer_has_devices_of_its_own() {
        for (device, peer) in [
            ("cpu", Some("cpu")),
            ("vulkan:cpu", Some("cpu")),
            ("cuda", Some("cuda")),
            ("cuda:1", Some("cuda")),
            ("rocm:0", Some("cuda")),
            ("metal:0", None),
            ("vulkan:0", None),
        ] {
            assert_eq!(peer_device(device), peer, "{device}");
        }
    }
}
