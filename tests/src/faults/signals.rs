//! Rows 7 and 8: signals, and two processes on one run.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ddpm_store::{RunDir, checkpoint};

use super::toy;
use super::{Form, Passed};
use crate::{Ended, Sandbox};

/// Longer than any save of a toy on a busy machine, far shorter than a stall that is waited out.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A run whose step `stalled` takes long; each of its steps writes a line.
struct Stalled {
    child: Child,
    step: u64,
}

impl Stalled {
    fn start(place: &Sandbox, run: &str, step: u64, stall: Duration) -> Result<Self> {
        let args = toy::begin(run, &["train.log_every=1", "train.steps=100000"]);
        let child = place
            .faulty(args)
            .env("DDPM_STALL", format!("{step}:{}", stall.as_millis()))
            .env("RAYON_NUM_THREADS", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stalled = Self { child, step };
        stalled.wait_for_line(&place.path(run), step - 1)?;
        Ok(stalled)
    }

    /// Until the step before the long one is in the log.
    fn wait_for_line(&mut self, run: &Path, step: u64) -> Result<()> {
        let clock = Instant::now();
        let log = run.join("metrics.jsonl");
        while !fs::read_to_string(&log).is_ok_and(|text| text.lines().count() as u64 >= step) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended before step {step} with {status}");
            }
            ensure!(clock.elapsed() < Duration::from_secs(60), "no step {step}");
            sleep(Duration::from_millis(2));
        }
        // It is at the stall within the time that a step takes.
        sleep(Duration::from_millis(30));
        Ok(())
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()?;
        ensure!(sent.success(), "kill {name} failed");
        Ok(())
    }

    /// Until no signal waits to be taken by the process.
    fn until_taken(&self) -> Result<()> {
        let clock = Instant::now();
        loop {
            sleep(Duration::from_millis(20));
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
            let Ok(status) = status else {
                // There is no /proc here: long enough for any machine that is not overloaded.
                sleep(Duration::from_millis(300));
                return Ok(());
            };
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
            if pending.is_none_or(|bits| bits.trim().chars().all(|digit| digit == '0')) {
                return Ok(());
            }
            ensure!(clock.elapsed() < AT_ONCE, "the signal is not taken");
        }
    }

    fn end(self) -> Result<Ended> {
        Ok(Ended::from(self.child.wait_with_output()?))
    }
}

/// Row 7: SIGTERM and SIGINT in the middle of a step, and a second SIGINT.
pub fn stops(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let times = form.pick(3, 20);
    let mut count = 0;
    let mut slowest = Duration::ZERO;
    for signal in ["-TERM", "-INT", "-HUP"] {
        for case in 0..times {
            let run = format!("stopped{signal}-{case}");
            let step = 2 + toy::random(7, case) % 25;
            let stall = Duration::from_millis(250);
            let stalled = Stalled::start(&place, &run, step, stall)?;
            stalled.signal(signal)?;
            let clock = Instant::now();
            let ended = stalled.end()?;
            toy::expect(&ended, 75, &[])?;
            let took = clock.elapsed();
            slowest = slowest.max(took);
            ensure!(took < stall + AT_ONCE, "{signal}: it took {took:?}");
            let done = ended.json()["step"].as_u64().context("no step")?;
            ensure!(
                done == step,
                "{signal} in step {step}: stopped after {done}"
            );
            ends_with(&place, &run, step)?;
            count += 1;
        }
    }
    for case in 0..times {
        let run = format!("cut-short-{case}");
        // Step 11 is in the log, so the checkpoint of step 10 is finished.
        let step = 12 + case % 8;
        let stalled = Stalled::start(&place, &run, step, Duration::from_secs(60))?;
        stalled.signal("-INT")?;
        // Two of a kind that wait to be taken are one.
        stalled.until_taken()?;
        stalled.signal("-INT")?;
        let clock = Instant::now();
        let ended = stalled.end()?;
        ensure!(
            ended.code == Some(130),
            "exit {:?}\n{}",
            ended.code,
            ended.stderr
        );
        ensure!(clock.elapsed() < AT_ONCE, "it took {:?}", clock.elapsed());
        ends_with(&place, &run, 10)?;
        count += 1;
    }
    Ok(Passed {
        count,
        note: format!(
            "at most {:.2} s, of which the rest of the step is 0.25 s",
            slowest.as_secs_f64()
        ),
    })
}

/// The newest checkpoint is that of `step`, and sound.
fn ends_with(place: &Sandbox, run: &str, step: u64) -> Result<()> {
    let run = RunDir::open(place.path(run))?;
    let newest = checkpoint::latest_valid(&run)?;
    ensure!(
        newest == Some(run.checkpoint(step)),
        "{newest:?} is not step {step}"
    );
    Ok(())
}

/// Row 8: a second process wants to train, and to prune, while the first one trains.
pub fn two_processes(_form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let stalled = Stalled::start(&place, "run", 13, Duration::from_millis(1500))?;
    let second = toy::end(&mut place.command(toy::go_on("run")))?;
    toy::expect(&second, 2, &["run", "another process"])?;
    let begun = toy::end(&mut place.command(toy::begin("run", &[])))?;
    toy::expect(&begun, 2, &["run", "already there"])?;
    let prune = toy::end(&mut place.command(["checkpoint", "prune", "run"]))?;
    toy::expect(&prune, 2, &["run", "another process"])?;
    // Reading is free.
    let list = toy::end(&mut place.command(["checkpoint", "verify", "run"]))?;
    toy::expect(&list, 0, &[])?;
    stalled.signal("-TERM")?;
    let step = stalled.step;
    toy::expect(&stalled.end()?, 75, &[])?;
    ends_with(&place, "run", step)?;
    Ok(Passed::times(3))
}
