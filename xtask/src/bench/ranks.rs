//! `cargo xtask bench --ranks`: what several processes on this machine's cores reach, and what their sums take.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{machine, places};
use crate::step::{Step, print, say};

/// A network and the run that it is measured in.
struct Work {
    name: &'static str,
    settings: &'static [&'static str],
    batch: u32,
    steps: usize,
}

/// Runs of the same global batch on 1 and 2 ranks: two micro-batches.
const WORKS: [Work; 4] = [
    Work {
        name: "digits, 0.4 M parameters, batch 64",
        settings: &[],
        batch: 64,
        steps: 200,
    },
    Work {
        name: "1 M parameters, 32×32, batch 16",
        settings: &[
            "model.channels=32",
            "model.multipliers=[1,2,2]",
            "model.blocks=1",
        ],
        batch: 16,
        steps: 20,
    },
    Work {
        name: "36 M parameters (ddpm-cifar10), batch 8",
        settings: &[
            "model.channels=128",
            "model.multipliers=[1,2,2,2]",
            "model.blocks=2",
        ],
        batch: 8,
        steps: 6,
    },
    Work {
        name: "120 M parameters, 32×32, batch 4",
        settings: &[
            "model.channels=224",
            "model.multipliers=[1,2,2,2]",
            "model.blocks=2",
        ],
        batch: 4,
        steps: 4,
    },
];

/// What one run says.
struct Measured {
    step_s: f64,
    parameters: u64,
}

/// Measures, prints the table, and writes it into docs/scaling.md.
///
/// # Errors
/// If there is no MPI, or something does not build or run.
pub fn run(root: &Path, quick: bool) -> anyhow::Result<()> {
    Step::cargo(
        "programs",
        "build --release --locked -p ddpm-cli -p ddpm-bench --features ddpm-cli/mpi,ddpm-bench/mpi",
    )
    .run(root)?;
    let programs = places::target(root)?.join("release");
    let folder = tempfile::tempdir()?;
    let mut table = String::from(
        "| network | 1 rank, steps/s | 2 ranks, steps/s | ratio | sum along the tree | the same over TCP | sum, fast | \
         share of a step spent summing | the same over TCP |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for work in WORKS.iter().take(if quick { 1 } else { WORKS.len() }) {
        say(&format!("== {}", work.name));
        let [one, two] = [1, 2].map(|ranks| train(&programs, folder.path(), work, ranks));
        let (one, two) = (one?, two?);
        let sum = |order, transport| sum(&programs, one.parameters, order, transport);
        let tree = sum("tree", None)?;
        let tcp = sum("tree", Some("tcp,self"))?;
        let fast = sum("fast", None)?;
        let _ = writeln!(
            table,
            "| {} | {:.3} | {:.3} | {:.2} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1}% | {:.1}% |",
            work.name,
            1.0 / one.step_s,
            1.0 / two.step_s,
            one.step_s / two.step_s,
            1e3 * tree,
            1e3 * tcp,
            1e3 * fast,
            100.0 * tree / two.step_s,
            100.0 * tcp / (two.step_s - tree + tcp),
        );
    }
    let text = format!(
        "{}, one thread a rank, over Open MPI's shared memory, sums also over TCP on the loopback interface; \
         `train.accumulate` is 2, so both runs are the same to the bit.\n\n{table}",
        machine::Machine::this().describe()
    );
    print(&text)?;
    if !quick {
        let path = root.join("docs/scaling.md");
        let page = fs::read_to_string(&path)?;
        let (before, rest) = page
            .split_once("<!-- ranks -->")
            .context("docs/scaling.md has no place for it")?;
        let (_, after) = rest
            .split_once("<!-- /ranks -->")
            .context("docs/scaling.md has no place for it")?;
        fs::write(
            &path,
            format!("{before}<!-- ranks -->\n{text}<!-- /ranks -->{after}"),
        )?;
    }
    Ok(())
}

fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args([
            "--oversubscribe",
            "--bind-to",
            "none",
            "-n",
            &ranks.to_string(),
        ])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RAYON_NUM_THREADS", "1");
    command
}

/// Trains with that many ranks of one thread each; the time of a step is the median between lines of the log.
fn train(programs: &Path, folder: &Path, work: &Work, ranks: usize) -> anyhow::Result<Measured> {
    let run = folder.join(format!("run-{ranks}"));
    let _ = fs::remove_dir_all(&run);
    let mut command = mpirun(ranks);
    command
        .arg(programs.join("ddpm"))
        .args(["train", "--json", "-q", "--device", "cpu", "--run"])
        .arg(&run);
    let steps = format!("train.steps={}", work.steps);
    let batch = format!("train.batch={}", work.batch);
    let usual = [
        &*steps,
        &batch,
        "train.accumulate=2",
        "train.log_every=1",
        "train.sample_every=0",
        "train.checkpoint_every=0",
        "sample.count=1",
        "sample.steps=1",
    ];
    for set in usual.iter().chain(work.settings) {
        command.args(["--set", set]);
    }
    if !work.settings.is_empty() {
        for set in [
            "data.kind=synthetic",
            "data.size=32",
            "data.channels=3",
            "data.count=64",
        ] {
            command.args(["--set", set]);
        }
    }
    let output = command.output().context("mpirun does not start")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let log = fs::read_to_string(run.join("metrics.jsonl"))?;
    let rate = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        line.get("images_per_s")?.as_f64()
    };
    // The first step fetches memory.
    let mut rates: Vec<f64> = log.lines().skip(1).filter_map(rate).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let rate = rates.get(rates.len() / 2).context("no step was logged")?;
    let inspected = Command::new(programs.join("ddpm"))
        .args(["inspect", "--json"])
        .arg(&run)
        .output()?;
    let inspected: Value = serde_json::from_slice(&inspected.stdout)?;
    let parameters = &inspected["model"]["parameters"];
    let parameters = parameters.as_u64().context("the run says no parameters")?;
    Ok(Measured {
        step_s: f64::from(work.batch) / rate,
        parameters,
    })
}

/// Seconds of one sum over 2 ranks, over Open MPI's usual transport or others.
fn sum(
    programs: &Path,
    parameters: u64,
    order: &str,
    transport: Option<&str>,
) -> anyhow::Result<f64> {
    let mut command = mpirun(2);
    if let Some(transport) = transport {
        command.args([
            "--mca",
            "btl",
            transport,
            "--mca",
            "btl_tcp_if_include",
            "lo",
        ]);
    }
    let output = command
        .arg(programs.join("ddpm-bench"))
        .args([
            "sums",
            "--parameters",
            &parameters.to_string(),
            "--order",
            order,
        ])
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let line: Value = serde_json::from_slice(&output.stdout)?;
    line["sum_s"].as_f64().context("ddpm-bench says no time")
}
