//! Row 18: ten thousand steps.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::toy;
use super::{Form, Passed};
use crate::Sandbox;

const STEPS: u64 = 10_000;
/// Growth of the resident memory from the first fifth of the run to its end.
const MAX_GROWTH: f64 = 0.05;

/// One look at a process.
#[derive(Clone, Copy, Debug)]
struct Look {
    step: u64,
    kilobytes: u64,
    files: usize,
}

/// Memory and open files over a long run with a checkpoint every ten steps.
pub fn lasts(_form: Form) -> Result<Passed> {
    if !cfg!(target_os = "linux") {
        return Ok(Passed {
            count: 0,
            note: "memory is read from /proc, which is not here".to_owned(),
        });
    }
    let place = Sandbox::new();
    let steps = format!("train.steps={STEPS}");
    let mut child = place
        .command(toy::begin("long", &[&steps]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let log = place.path("long/metrics.jsonl");
    let mut looks = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(look) = look(child.id(), &log) {
            looks.push(look);
        }
        sleep(Duration::from_millis(100));
    };
    ensure!(status.code() == Some(0), "it ended with {status}");
    let settled: Vec<Look> = looks
        .into_iter()
        .filter(|look| look.step >= STEPS / 5)
        .collect();
    let (first, last) = (
        settled.first().context("never looked at")?,
        settled.last().context("never looked at")?,
    );
    ensure!(
        settled.len() >= 10,
        "looked at {} times only",
        settled.len()
    );
    let growth = last.kilobytes as f64 / first.kilobytes as f64 - 1.0;
    ensure!(
        growth < MAX_GROWTH,
        "memory grew by {:.1}%: {first:?} to {last:?}",
        100.0 * growth
    );
    // While a checkpoint is written one or two more are open than between checkpoints.
    let fewest = |looks: &[Look]| looks.iter().map(|look| look.files).min().unwrap_or(0);
    let most = |looks: &[Look]| looks.iter().map(|look| look.files).max().unwrap_or(0);
    let (early, late) = settled.split_at(settled.len() / 2);
    ensure!(
        fewest(early) == fewest(late) && most(late) <= most(early).max(fewest(early) + 2),
        "open files: {}..{}, later {}..{}",
        fewest(early),
        most(early),
        fewest(late),
        most(late)
    );
    Ok(Passed {
        count: STEPS,
        note: format!(
            "memory {:+.1}% from step {} on, {} open files, {} looks",
            100.0 * growth,
            first.step,
            fewest(late),
            settled.len()
        ),
    })
}

fn look(process: u32, log: &std::path::Path) -> Option<Look> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes = resident.split_whitespace().next()?.parse().ok()?;
    let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?.count();
    let text = fs::read_to_string(log).ok()?;
    let last: serde_json::Value = serde_json::from_str(text.lines().last()?).ok()?;
    Some(Look {
        step: last["step"].as_u64()?,
        kilobytes,
        files,
    })
}
