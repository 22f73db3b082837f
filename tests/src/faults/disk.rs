//! Row 3: the disk fails.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use ddpm_store::{RunDir, checkpoint};

use super::toy;
use super::{Form, Passed};
use crate::Sandbox;

/// The system's numbers and words for the errors of a disk.
const ERRORS: [(i32, &str); 2] = [(5, "Input/output error"), (28, "No space left on device")];

/// The N-th change fails, once or for good.
pub fn fails(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let reference = toy::reference(&place, &[])?;
    let total = changes(&place)?;
    let every = form.pick(total / 9, 1).max(1);
    let mut cases = Vec::new();
    for (kind, (number, words)) in ERRORS.into_iter().enumerate() {
        for (half, lasting) in ["once", "always"].into_iter().enumerate() {
            // The quick form's few places differ from kind to kind.
            let first = 1 + (kind * 2 + half) as u64 * every / 4;
            let step = every as usize;
            cases.extend(
                (first..=total)
                    .step_by(step)
                    .map(|at| (at, number, words, lasting)),
            );
        }
    }
    let next = AtomicU64::new(0);
    let count = toy::each(
        form,
        &cases,
        |case| format!("{case:?}"),
        |_, &(at, number, words, lasting)| {
            let run = format!("failed-{}", next.fetch_add(1, Ordering::Relaxed));
            let mut command = place.faulty(toy::begin(&run, &[]));
            command.env("DDPM_DISK", format!("fail:{at}:{number}:{lasting}"));
            let ended = toy::end(&mut command)?;
            toy::expect(&ended, 4, &[&run, words])?;
            let path = place.path(&run);
            if let Ok(run) = RunDir::open(&path) {
                // An error here would be a checkpoint that does not load, and none before it.
                checkpoint::latest_valid(&run)?;
            }
            toy::finish(&place, &run, &[], &reference)?;
            fs::remove_dir_all(&path)?;
            Ok(())
        },
    )?;
    // One more change than there are: nothing fails.
    let mut clean = place.faulty(toy::begin("clean", &[]));
    clean.env("DDPM_DISK", format!("fail:{}:5:always", total + 1));
    toy::expect(&toy::end(&mut clean)?, 0, &[])?;
    Ok(Passed {
        count,
        note: format!("{total} changes, EIO and ENOSPC, once and for good"),
    })
}

fn changes(place: &Sandbox) -> Result<u64> {
    let file = place.path("all.changes");
    let mut command = place.faulty(toy::begin("counted", &[]));
    command.env("DDPM_DISK", format!("record:{}", file.display()));
    toy::expect(&toy::end(&mut command)?, 0, &[])?;
    let total = fs::read_to_string(&file)?.lines().count() as u64;
    ensure!(total > 100, "only {total} changes");
    Ok(total)
}
