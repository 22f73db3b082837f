//! Row 19: one of several ranks is killed.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::toy::{self, STEPS};
use super::{Form, Passed};
use crate::Sandbox;
use crate::mpirun::{self, children, is_locked_up, missing, mpirun, signal};

/// As many micro-batches as the most ranks.
const SETTINGS: [&str; 2] = ["train.accumulate=4", "train.timeout_s=30"];

/// Killed at a random time, resumed with another number of ranks.
pub fn killed(form: Form) -> Result<Passed> {
    if let Some(why) = missing() {
        return Ok(Passed {
            count: 0,
            note: format!("skipped: {why}"),
        });
    }
    let place = Sandbox::new();
    let reference = toy::reference(&place, &SETTINGS)?;
    let clock = Instant::now();
    let whole = mpirun(4, &place.command(toy::begin("whole", &SETTINGS)));
    toy::expect(&mpirun::end(whole)?, 0, &[])?;
    toy::Result60::of(&place.path("whole"))?.must_equal(&reference)?;
    let usual = clock.elapsed();
    let mut unfinished = 0;
    let count = form.pick(20, 200);
    for case in 0..count {
        let run = format!("rank-{case}");
        // Now and then later than the run's end, so that a finished one is found finished.
        let share = toy::random(19, case) as f64 / u64::MAX as f64;
        let ranks = 2 + (toy::random(20, case) % 3) as usize;
        unfinished += u64::from(kill_one(
            &place,
            &run,
            ranks,
            usual.mul_f64(1.05 * share),
            case,
        )?);
        let then = 1 + (ranks + (toy::random(21, case) % 3) as usize) % 4;
        let args = toy::begin_or_go_on(&place, &run, &SETTINGS);
        let command = place.command(args);
        let ended = match then {
            1 => toy::end(&mut place.command(command.get_args()))?,
            _ => mpirun::end(mpirun(then, &command))?,
        };
        toy::expect(&ended, 0, &[])?;
        let path = place.path(&run);
        let left = toy::temporaries(&path)?;
        ensure!(
            left.is_empty(),
            "case {case}: temporaries are left: {left:?}"
        );
        toy::Result60::of(&path)?.must_equal(&reference)?;
        std::fs::remove_dir_all(path)?;
    }
    ensure!(
        unfinished * 3 > count,
        "only {unfinished} of {count} were killed in time"
    );
    Ok(Passed {
        count,
        note: format!("{unfinished} before their end, of {STEPS} steps"),
    })
}

/// Starts a run and kills one of its ranks; whether that was in time.
fn kill_one(place: &Sandbox, run: &str, ranks: usize, wait: Duration, case: u64) -> Result<bool> {
    let mut job = mpirun(ranks, &place.command(toy::begin(run, &SETTINGS)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    sleep(wait);
    let processes = children(job.id(), "ddpm");
    let chosen = toy::random(22, case) as usize % processes.len().max(1);
    let killed = processes.get(chosen).is_some_and(|&id| signal(id, "-KILL"));
    let clock = Instant::now();
    let mut since = clock;
    loop {
        if is_locked_up(&job, &mut since) {
            // All ranks have ended, which is what counts.
            job.kill()?;
            job.wait()?;
            return Ok(killed);
        }
        if let Some(status) = job.try_wait()? {
            if !(killed && status.success()) {
                return Ok(killed);
            }
            // A process takes a signal after its last word, too.
            let finished = toy::Result60::of(&place.path(run)).is_ok();
            ensure!(finished, "case {case}: the job did not notice");
            return Ok(false);
        }
        ensure!(
            clock.elapsed() < Duration::from_secs(60),
            "case {case}: the job of {ranks} ranks goes on without one of them"
        );
        sleep(Duration::from_millis(20));
    }
}
