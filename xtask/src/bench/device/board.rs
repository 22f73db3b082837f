//! What the processes of a measurement on a device yielded.

use super::gpu::Samples;
use super::jobs::{Job, Network, Side, What};
use crate::bench::process::Ran;

/// A process that ended well, and what the GPU held meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Its figures.
    pub ran: Ran,
    /// What the GPU said, if there is one that says something.
    pub samples: Option<Samples>,
}

/// All processes, in the order in which they ran.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Each with its figures, or why there are none.
    pub cells: Vec<(Job, Result<Done, String>)>,
}

/// A figure that can be compared between the sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Images trained on in a second.
    Training,
    /// Images through a forward pass in a second.
    Forward,
    /// Images drawn in a second, the start of the program included.
    Sampling,
    /// The most that the GPU held during training, in bytes.
    GpuMemory,
    /// The most that the allocator held during training, in bytes.
    Reserved,
}

impl Done {
    fn figure(&self, figure: Figure, network: Network) -> Option<f64> {
        let number = |key: &str| self.ran.line.get(key)?.as_f64();
        match figure {
            Figure::Training => number("train_images_per_s"),
            Figure::Forward => number("forward_images_per_s"),
            Figure::Sampling => Some(f64::from(network.images) / self.ran.seconds),
            Figure::GpuMemory => {
                let moments = self.ran.line.get("train_unix_s")?.as_array()?;
                let moment = |i: usize| moments.get(i)?.as_f64();
                let during = moment(0).zip(moment(1)).map(|(from, to)| [from, to]);
                self.samples.as_ref()?.most(during)
            }
            Figure::Reserved => number("peak_bytes"),
        }
    }

    /// The figures in words, for whoever watches.
    pub fn describe(&self, job: &Job) -> String {
        let network = match job.what {
            What::Network(network) | What::Sampling(network) => network,
            What::Matmul => return format!("{}", self.ran.line["peak_flops"]),
        };
        let of = |figure| self.figure(figure, network);
        if matches!(job.what, What::Sampling(_)) {
            let rate = of(Figure::Sampling);
            return rate.map_or_else(String::new, |rate| format!("{rate:.1} images/s"));
        }
        let mut words = Vec::new();
        words.extend(of(Figure::Training).map(|rate| format!("{rate:.0} images/s trained")));
        words.extend(of(Figure::Forward).map(|rate| format!("{rate:.0} images/s forward")));
        for (figure, of_what) in [(Figure::GpuMemory, "GPU"), (Figure::Reserved, "allocator")] {
            let mebibytes = of(figure).map(|bytes| bytes / 1024.0 / 1024.0);
            words.extend(mebibytes.map(|size| format!("{size:.0} MiB ({of_what})")));
        }
        words.join(", ")
    }
}

impl Results {
    /// A figure of a side; `None` if it was not measured.
    pub fn figure(&self, figure: Figure, network: Network, side: Side, dtype: &str) -> Option<f64> {
        let what = match figure {
            Figure::Sampling => What::Sampling(network),
            _ => What::Network(network),
        };
        let mut done = self.cells.iter().filter_map(|(job, outcome)| {
            let same = job.side == side && job.dtype == dtype && job.what == what;
            outcome.as_ref().ok().filter(|_| same)
        });
        done.find_map(|done| done.figure(figure, network))
    }

    /// Which figure of memory both of two sides have: the GPU's rather than the allocators'.
    pub fn memory(&self, network: Network, sides: &[Side], dtype: &str) -> Figure {
        let all = |figure| {
            let mut sides = sides.iter();
            sides.all(|side| self.figure(figure, network, *side, dtype).is_some())
        };
        match all(Figure::GpuMemory) {
            true => Figure::GpuMemory,
            false => Figure::Reserved,
        }
    }

    /// What compiled our kernels, if that is known.
    pub fn compiler(&self) -> Option<&str> {
        let mut done = self
            .cells
            .iter()
            .filter_map(|(_, outcome)| outcome.as_ref().ok());
        done.find_map(|done| done.ran.line.get("compiler")?.as_str())
    }

    /// Operations of a forward pass of one image.
    pub fn flops(&self, network: Network) -> Option<f64> {
        self.find("forward_flops_per_image", What::Network(network))?
            .as_f64()
    }

    /// The most operations a second that matrix products in these numbers reached.
    pub fn peak(&self, dtype: &str) -> Option<f64> {
        self.find("peak_flops", What::Matmul)?.get(dtype)?.as_f64()
    }

    fn find(&self, key: &str, what: What) -> Option<&serde_json::Value> {
        self.cells.iter().find_map(|(job, outcome)| {
            let done = outcome.as_ref().ok().filter(|_| job.what == what)?;
            done.ran.line.get(key)
        })
    }

    /// Each reason for a missing figure once, with the jobs that it concerns.
    pub fn failures(&self) -> Vec<(&str, Vec<String>)> {
        let mut failures: Vec<(&str, Vec<String>)> = Vec::new();
        for (job, outcome) in &self.cells {
            let Err(why) = outcome else { continue };
            match failures.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, jobs)) => jobs.push(job.name()),
                None => failures.push((why, vec![job.name()])),
            }
        }
        failures
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub const NETWORK: Network = Network {
        config: "small",
        batch: 8,
        images: 16,
    };

    /// A process of the network that took four seconds.
    pub fn cell(side: Side, dtype: &'static str, line: Value) -> (Job, Result<Done, String>) {
        let what = match line.get("peak_flops") {
            Some(_) => What::Matmul,
            None if line == json!({}) => What::Sampling(NETWORK),
            None => What::Network(NETWORK),
        };
        let done = Done {
            ran: Ran { seconds: 4.0, line },
            samples: None,
        };
        (Job { side, dtype, what }, Ok(done))
    }

    #[test]
    fn figures_are_found_by_side_and_numbers() {
        let eager = Side::Peer("eager");
        let mut board = Results {
            cells: vec![
                cell(
                    Side::Ours,
                    "bf16",
                    json!({"train_images_per_s": 20.0, "forward_flops_per_image": 5e9, "peak_bytes": 7}),
                ),
                cell(Side::Ours, "bf16", json!({})),
                cell(
                    eager,
                    "bf16",
                    json!({"train_images_per_s": 10.0, "peak_bytes": 9}),
                ),
                cell(eager, "f32", json!({"peak_flops": {"bf16": 1e15}})),
            ],
        };
        let of = |board: &Results, figure, side, dtype| board.figure(figure, NETWORK, side, dtype);
        assert_eq!(of(&board, Figure::Training, Side::Ours, "bf16"), Some(20.0));
        assert_eq!(of(&board, Figure::Sampling, Side::Ours, "bf16"), Some(4.0));
        assert_eq!(of(&board, Figure::Training, Side::Ours, "f32"), None);
        assert_eq!(of(&board, Figure::Forward, eager, "bf16"), None);
        assert_eq!(board.flops(NETWORK), Some(5e9));
        assert_eq!((board.peak("bf16"), board.peak("f32")), (Some(1e15), None));
        let both = [Side::Ours, eager];
        assert_eq!(board.memory(NETWORK, &both, "bf16"), Figure::Reserved);
        for (_, outcome) in &mut board.cells {
            if let Ok(done) = outcome {
                done.ran.line["train_unix_s"] = json!([1.0, 2.0]);
                done.samples = Some(Samples {
                    before: 1.0,
                    taken: vec![(1.5, 3.0), (5.0, 9.0)],
                });
            }
        }
        assert_eq!(board.memory(NETWORK, &both, "bf16"), Figure::GpuMemory);
        assert_eq!(of(&board, Figure::GpuMemory, eager, "bf16"), Some(2.0));
    }

    #[test]
    fn a_reason_is_given_once() {
        let jobs = [
            ("bf16", "no memory"),
            ("f32", "late"),
            ("tf32", "no memory"),
        ];
        let cells = jobs.map(|(dtype, why)| {
            let (job, _) = cell(Side::Ours, dtype, json!({"a": 1}));
            (job, Err(why.to_owned()))
        });
        let board = Results {
            cells: cells.to_vec(),
        };
        let failures = board.failures();
        assert_eq!(failures.len(), 2);
        assert_eq!(failures[0].0, "no memory");
        assert_eq!(
            failures[0].1,
            ["small, batch 8: ours bf16", "small, batch 8: ours tf32"]
        );
    }
}
