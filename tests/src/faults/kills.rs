//! Rows 1 and 2: the process is killed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::toy::{self, EVERY, STEPS};
use super::{Form, Passed};
use crate::Sandbox;

/// A change to the disk, as a recording has it.
#[derive(Clone, Debug)]
struct Moment {
    number: u64,
    /// The kind of change and the file, without what differs from step to step.
    point: String,
    /// The step whose commit it belongs to.
    step: u64,
}

/// Row 1: killed before every change to the disk in the commit of a checkpoint, and in the middle of every write.
pub fn at_each_point(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let reference = toy::reference(&place, &[])?;
    let plain = commits(&place, toy::begin("recorded", &[]), "recorded")?;
    let names: std::collections::BTreeSet<&str> =
        plain.iter().map(|moment| moment.point.as_str()).collect();
    let points = names.len();
    // Retention removes a predecessor from the second checkpoint on.
    let steps: Vec<u64> = form.pick(vec![40], vec![20, 30, 40, 50, 60]);
    let cases: Vec<&Moment> = plain
        .iter()
        .filter(|moment| steps.contains(&moment.step))
        .collect();
    let mut count = toy::each(
        form,
        &cases,
        |moment| format!("killed at {moment:?}"),
        |case, moment| {
            let run = format!("killed-{case}");
            killed(&place, toy::begin(&run, &[]), moment.number)?;
            toy::finish(&place, &run, &[], &reference)?;
            fs::remove_dir_all(place.path(&run))?;
            Ok(())
        },
    )?;
    count += replacing(form, &place, &reference)?;
    Ok(Passed {
        count,
        note: format!(
            "{points} points × {} steps, and those of a replacement",
            steps.len()
        ),
    })
}

/// The commit that puts a sound checkpoint into the place of a damaged one.
fn replacing(form: Form, place: &Sandbox, reference: &toy::Result60) -> Result<u64> {
    let keep = ["train.keep=9"];
    toy::expect(
        &toy::end(&mut place.command(toy::begin("damaged", &keep)))?,
        0,
        &[],
    )?;
    let damaged = place.path("damaged");
    for step in [50, 60] {
        fs::remove_dir_all(damaged.join(format!("checkpoints/step-{step}")))?;
    }
    fs::write(damaged.join("checkpoints/step-40/state.json"), "{}")?;
    let prepare = |run: &str| toy::copy(&damaged, &place.path(run));
    prepare("replaced")?;
    let moments = commits(place, toy::go_on("replaced"), "replaced")?;
    let cases: Vec<&Moment> = moments.iter().filter(|moment| moment.step == 40).collect();
    ensure!(
        cases
            .iter()
            .any(|moment| moment.point.contains(".replaced-")),
        "nothing was replaced: {cases:?}"
    );
    // The points of an ordinary commit were met above: in the quick form those around the replacement are enough.
    let around = form.pick(8, cases.len());
    let first = cases
        .iter()
        .position(|moment| moment.point.contains(".replaced-"))
        .unwrap_or(0)
        .saturating_sub(2);
    let cases = &cases[form.pick(first, 0)..];
    let cases = &cases[..around.min(cases.len())];
    toy::each(
        form,
        cases,
        |moment| format!("killed while replacing at {moment:?}"),
        |case, moment| {
            let run = format!("replacing-{case}");
            prepare(&run)?;
            killed(place, toy::go_on(&run), moment.number)?;
            toy::finish(place, &run, &keep, reference)?;
            fs::remove_dir_all(place.path(&run))?;
            Ok(())
        },
    )
}

fn killed(place: &Sandbox, args: Vec<String>, at: u64) -> Result<()> {
    let mut command = place.faulty(args);
    let ended = toy::end(command.env("DDPM_DISK", format!("kill:{at}")))?;
    ensure!(
        ended.code.is_none(),
        "it ended by itself with {:?}\n{}",
        ended.code,
        ended.stderr
    );
    Ok(())
}

/// Records a run and picks the changes that belong to the commits of its checkpoints.
fn commits(place: &Sandbox, args: Vec<String>, run: &str) -> Result<Vec<Moment>> {
    let file = place.path(format!("{run}.changes"));
    let mut command = place.faulty(args);
    command.env("DDPM_DISK", format!("record:{}", file.display()));
    toy::expect(&toy::end(&mut command)?, 0, &[])?;
    let text = fs::read_to_string(&file)?;
    let mut moments = Vec::new();
    let mut step = EVERY;
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (number, kind, path) = (words.next(), words.next(), words.next());
        let (Some(number), Some(kind), Some(path)) = (number, kind, path) else {
            continue;
        };
        let (_, within) = path.split_once(run).context("a path elsewhere")?;
        if let Some(rest) = within.strip_prefix("/checkpoints/.tmp-step-")
            && !within.ends_with("-removed")
        {
            step = rest
                .split('-')
                .next()
                .and_then(|step| step.parse().ok())
                .with_context(|| format!("no step in {path}"))?;
        }
        let in_commit = within.contains("/checkpoints")
            || (kind == "fsync"
                && (within.ends_with("metrics.jsonl") || within.ends_with("skips.jsonl")));
        // The folder of all checkpoints is made before the first commit.
        if in_commit && (within != "/checkpoints" || kind == "fsync-dir") {
            moments.push(Moment {
                number: number.parse()?,
                point: format!("{kind} {}", nameless(within)),
                step,
            });
        }
    }
    ensure!(!moments.is_empty(), "no checkpoint was committed");
    Ok(moments)
}

/// A path without the digits in it.
fn nameless(path: &str) -> String {
    let mut name = String::new();
    for letter in path.chars() {
        match letter {
            '0'..='9' if name.ends_with('#') => {}
            '0'..='9' => name.push('#'),
            letter => name.push(letter),
        }
    }
    name
}

/// Row 2: killed at a random time.
pub fn at_random_times(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let clock = Instant::now();
    let reference = toy::reference(&place, &[])?;
    let usual = clock.elapsed();
    let cases: Vec<u64> = (0..form.pick(20, 200)).collect();
    let unfinished = std::sync::atomic::AtomicU64::new(0);
    let count = toy::each(
        form,
        &cases,
        |case| format!("case {case}"),
        |_, &case| {
            let run = format!("random-{case}");
            // A little beyond the end: a run that had time to finish must be found finished.
            let share = toy::random(2, case) as f64 / u64::MAX as f64;
            let wait = Duration::from_secs_f64(usual.as_secs_f64() * 1.05 * share);
            let mut child = place
                .command(toy::begin(&run, &[]))
                .env("RAYON_NUM_THREADS", "1")
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()?;
            std::thread::sleep(wait);
            child.kill()?;
            if child.wait()?.code().is_none() {
                unfinished.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            toy::finish(&place, &run, &[], &reference)?;
            fs::remove_dir_all(place.path(&run))?;
            Ok(())
        },
    )?;
    let unfinished = unfinished.into_inner();
    ensure!(
        unfinished * 2 > count,
        "only {unfinished} of {count} were killed in time"
    );
    Ok(Passed {
        count,
        note: format!("{unfinished} before their end, of {STEPS} steps"),
    })
}
