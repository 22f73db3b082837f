//! A run of `ddpm` with a clock and, on Linux, its peak of memory.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Sandbox;

/// The most that refusing may take.
const LONGEST: Duration = Duration::from_secs(1);
/// A machine that others use may hold one call up, hardly the same one so often.
const TRIES: usize = 4;

/// How a call of `ddpm` ended, how long it took and the most memory that it held.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) time: Duration,
    /// `None` where it is not measured.
    pub(super) peak_bytes: Option<u64>,
}

/// Runs `ddpm` until it has taken less than a second, a few times at most; the last call counts.
pub(super) fn within_a_second(place: &Sandbox, arguments: &[&str]) -> Result<Measured> {
    let mut least = Duration::MAX;
    for _ in 0..TRIES {
        let measured = run(place, arguments)?;
        least = least.min(measured.time);
        if least <= LONGEST {
            return Ok(measured);
        }
    }
    bail!("{arguments:?} took {:.2} s", least.as_secs_f64());
}

fn run(place: &Sandbox, arguments: &[&str]) -> Result<Measured> {
    let clock = Instant::now();
    let mut child = place
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ddpm does not start")?;
    // Both pipes are drained while it runs, or it would wait for us.
    let readers = [
        std::thread::spawn(reader(child.stdout.take())),
        std::thread::spawn(reader(child.stderr.take())),
    ];
    let mut peak_bytes = None;
    let status = loop {
        peak_bytes = peak(&child).or(peak_bytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_micros(300));
    };
    let time = clock.elapsed();
    let [stdout, stderr] = readers.map(|reader| reader.join().unwrap_or_default());
    Ok(Measured {
        code: status.code(),
        stdout,
        stderr,
        time,
        peak_bytes,
    })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> impl FnOnce() -> String + Send + 'static {
    move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was written before a pipe broke is all there is to see.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The peak so far; the system keeps it, so only the last moment before the end can be missed.
#[cfg(target_os = "linux")]
fn peak(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(not(target_os = "linux"))]
fn peak(_child: &Child) -> Option<u64> {
    None
}

impl Measured {
    /// That it failed with this code, in one sentence with these words, and without a panic.
    pub(super) fn failed(&self, code: i32, words: &[&str]) -> Result<()> {
        let Self { stdout, stderr, .. } = self;
        ensure!(
            self.code == Some(code),
            "expected exit {code}, got {:?}: {stdout}{stderr}",
            self.code
        );
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        ensure!(errors.len() == 1, "not one sentence: {stderr}");
        ensure!(
            errors[0].len() < 6000,
            "a sentence of {} bytes",
            errors[0].len()
        );
        for word in words {
            ensure!(errors[0].contains(word), "no `{word}` in: {}", errors[0]);
        }
        let bug = ["panicked", "ddpm has a bug"]
            .iter()
            .any(|word| stderr.contains(word));
        ensure!(!bug, "it panicked: {stderr}");
        Ok(())
    }

    /// That it succeeded.
    pub(super) fn done(&self) -> Result<()> {
        ensure!(
            self.code == Some(0) && !self.stderr.contains("panicked"),
            "{:?}: {}",
            self.code,
            self.stderr
        );
        Ok(())
    }
}
