//! The networks on a device such as a GPU, beside PyTorch on the same.
//!
//! Here figures are images per second, and ours in each kind of numbers stands beside PyTorch's in the same: what
//! is slow in 32 bits may be fast in 16. Processes run one after the other, the most important ones first, so that
//! a measurement that is cut short still says something.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::machine::Machine;
use super::peer::{Mode, Peer};
use super::places::Places;
use super::process::{Failure, Invocation};
use crate::step::{print, say};

mod board;
mod commands;
mod gpu;
mod jobs;
mod table;
mod targets;

use board::{Done, Results};
use commands::{Pace, Setting};
use gpu::Gpu;
use jobs::{Benchmark, Job, Side, What};

pub use jobs::peer_device;

/// A process with less time than this would only be stopped.
const LEAST: Duration = Duration::from_secs(10);

/// Lines of what a failed process said that are shown.
const LINES: usize = 12;

/// What is to be measured.
#[derive(Debug)]
pub struct Plan {
    /// The device, as our programs name it.
    pub device: String,
    /// Only jobs whose name contains this.
    pub filter: Option<String>,
    /// Whether it is only to be seen that it works.
    pub quick: bool,
    /// Threads of both sides.
    pub threads: usize,
    /// The modes of PyTorch that take part, if not all.
    pub modes: Option<Vec<Mode>>,
    /// Time that a process has.
    pub job_limit: Duration,
    /// Time that all of them have.
    pub limit: Option<Duration>,
    /// Where every figure is to be written.
    pub json: Option<PathBuf>,
}

impl Plan {
    /// Measures, and prints the tables.
    ///
    /// # Errors
    /// If a model or a file cannot be written. What could not be measured is told of below the table.
    pub fn run(&self, places: &Places, peer: Option<&Peer>) -> anyhow::Result<()> {
        let programme = Benchmark::new(&self.device, self.quick, peer.is_some());
        let gpu = Gpu::of(&self.device);
        let setting = Setting {
            device: self.device.clone(),
            threads: self.threads,
            pace: Pace::new(peer_device(&self.device) != Some("cpu"), self.quick),
        };
        let jobs: Vec<Job> = programme
            .jobs()
            .into_iter()
            .filter(|job| self.wants(job))
            .collect();
        make_models(&jobs, &setting, places)?;
        let begun = Instant::now();
        let mut board = Results::default();
        for job in jobs {
            let left = self
                .limit
                .map(|limit| limit.saturating_sub(begun.elapsed()));
            let time = left.unwrap_or(self.job_limit).min(self.job_limit);
            let outcome = match time {
                short if short < LEAST.min(self.job_limit) => Err("the time was up".to_owned()),
                time => run(&job, time, &setting, peer, places, gpu.as_ref()),
            };
            say(&match &outcome {
                Ok(done) => {
                    let figures = done.describe(&job);
                    format!("{}: {figures} ({:.0} s)", job.name(), done.ran.seconds)
                }
                Err(why) => format!("{}: failed: {why}", job.name()),
            });
            board.cells.push((job, outcome));
            // After each, so that nothing is lost if somebody stops this.
            self.write_json(&board, peer, gpu.as_ref())?;
        }
        print(&self.text(&board, &programme, peer, gpu.as_ref()))
    }

    fn wants(&self, job: &Job) -> bool {
        let named = self
            .filter
            .as_ref()
            .is_none_or(|filter| job.name().contains(filter));
        let mode = match (job.side, job.what) {
            (Side::Ours, _) | (_, What::Matmul) => true,
            (Side::Peer(how), _) => self.modes.as_ref().is_none_or(|modes| {
                let chosen = |mode: &Mode| (mode.how, mode.dtype) == (how, job.dtype);
                modes.iter().any(chosen)
            }),
        };
        named && mode
    }

    fn text(
        &self,
        board: &Results,
        programme: &Benchmark,
        peer: Option<&Peer>,
        gpu: Option<&Gpu>,
    ) -> String {
        let machine = Machine::this().describe();
        let mut text = format!(
            "Machine: {machine}; threads: {}; device: {}",
            self.threads, self.device
        );
        if let Some(compiler) = board.compiler() {
            text += &format!(", kernels by {compiler}");
        }
        match gpu {
            Some(gpu) => text += &format!(" ({} MiB).\n", gpu.description),
            None => text += ".\n",
        }
        if let Some(peer) = peer {
            text += &format!("PyTorch: {}.\n", peer.describe());
        }
        text += "Ratios are ours divided by PyTorch's: of images per second above 1 ours is faster, of memory below 1 ours takes less.\n\n";
        text += &table::markdown(board, programme);
        let failures = board.failures();
        if !failures.is_empty() {
            text += "\n";
        }
        for (why, jobs) in failures {
            text += &format!("- failed: {why} (at {})\n", jobs.join("; "));
        }
        if peer.is_some() {
            text += "\n";
            text += &targets::markdown(board, programme);
        }
        text
    }

    fn write_json(
        &self,
        board: &Results,
        peer: Option<&Peer>,
        gpu: Option<&Gpu>,
    ) -> anyhow::Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let processes: Vec<Value> = board.cells.iter().map(process).collect();
        let report = json!({
            "machine": Machine::this().json(),
            "GPU": gpu.map(|gpu| &gpu.description),
            "device": self.device,
            "threads": self.threads,
            "quick": self.quick,
            "peer": peer.map(|peer| &peer.info),
            "processes": processes,
        });
        fs::write(path, format!("{report:#}\n")).with_context(|| path.display().to_string())
    }
}

/// A process for programs.
fn process((job, outcome): &(Job, Result<Done, String>)) -> Value {
    let mut json = json!({
        "job": job.name(), "side": job.side.to_string(), "dtype": job.dtype,
    });
    match outcome {
        Ok(done) => {
            json["process_s"] = json!(done.ran.seconds);
            json["output"] = done.ran.line.clone();
            let samples = done.samples.as_ref();
            json["gpu_bytes_before"] = json!(samples.map(|samples| samples.before));
            json["gpu_bytes_most"] = json!(samples.and_then(|samples| samples.most(None)));
        }
        Err(why) => json["failed"] = json!(why),
    }
    json
}

/// Writes the networks that both sides draw with.
fn make_models(jobs: &[Job], setting: &Setting, places: &Places) -> anyhow::Result<()> {
    let mut made = Vec::new();
    for job in jobs {
        let What::Sampling(network) = job.what else {
            continue;
        };
        if made.contains(&network.config) {
            continue;
        }
        made.push(network.config);
        let ours = super::ours::Ours {
            threads: setting.threads,
        };
        let command = ours.make_model(network.config, places);
        command
            .run()
            .map_err(|problem| anyhow!("{}: {problem}", command.typed()))?;
    }
    Ok(())
}

fn run(
    job: &Job,
    time: Duration,
    setting: &Setting,
    peer: Option<&Peer>,
    places: &Places,
    gpu: Option<&Gpu>,
) -> Result<Done, String> {
    let command = setting.command(job, peer, places);
    let command = command.ok_or("there is no peer to do it")?;
    let watch = gpu.and_then(Gpu::watch);
    let outcome = command.run_telling(Some(time));
    let samples = watch.map(gpu::Watch::finish);
    match outcome {
        Ok(ran) => Ok(Done { ran, samples }),
        Err(failure) => {
            tell(&command, &failure);
            Err(failure.why)
        }
    }
}

/// The command of a process that failed and the end of what it said, since the machine may be gone before
/// anybody can try again.
fn tell(command: &Invocation, failure: &Failure) {
    let lines: Vec<&str> = failure.said.lines().collect();
    say(&format!("{}:", command.typed()));
    for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
        say(&format!("    {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            device: "cuda:7".to_owned(),
            filter: None,
            quick: false,
            threads: 2,
            modes: None,
            job_limit: Duration::from_secs(60),
            limit: None,
            json: None,
        }
    }

    #[test]
    fn jobs_are_chosen_by_name_and_mode() {
        let jobs = Benchmark::new("cuda:7", false, true).jobs();
        let chosen = |plan: &Plan| -> Vec<String> {
            let chosen = jobs.iter().filter(|job| plan.wants(job));
            chosen.map(Job::name).collect()
        };
        assert_eq!(chosen(&plan()).len(), jobs.len());
        let few = Plan {
            filter: Some("unet-128".to_owned()),
            modes: Some(vec!["compile-bf16".parse().unwrap()]),
            ..plan()
        };
        let names = ["ours bf16", "PyTorch compile bf16", "ours f32", "ours tf32"];
        assert_eq!(
            chosen(&few),
            names.map(|name| format!("unet-128, batch 16: {name}"))
        );
    }

    #[test]
    fn nothing_is_left_out_in_silence() {
        let programme = Benchmark::new("cuda:7", false, true);
        let cells = programme.jobs().into_iter();
        let board = Results {
            cells: cells
                .map(|job| (job, Err("the time was up".to_owned())))
                .collect(),
        };
        let peer = Peer::unknown();
        let text = plan().text(&board, &programme, Some(&peer), None);
        for words in [
            "device: cuda:7.",
            "failed: the time was up (at ddpm-cifar10-32, batch 128: ours bf16; ",
            "ddpm-cifar10-32, batch 128, bf16: ours / compiled PyTorch | at least | aim | got |",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(
            text.ends_with("| 1.2 or less | 0.8 or less | – |\n"),
            "{text}"
        );
    }
}
