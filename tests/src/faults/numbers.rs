//! Row 9: numbers that go bad.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ddpm_store::{RunDir, checkpoint, read_metrics};
use serde_json::Value;

use super::toy;
use super::{Form, Passed};
use crate::Sandbox;

const PARTS: [&str; 4] = ["loss", "gradient", "batch", "parameter"];
const VALUES: [&str; 2] = ["NaN", "inf"];

/// NaN and infinity in loss, gradient, batch and parameter.
pub fn go_bad(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let reference = toy::reference(&place, &[])?;
    let mut cases = Vec::new();
    for part in PARTS {
        for value in VALUES {
            for step in form.pick(vec![17], vec![2, 17, 43]) {
                cases.push((part, value, step));
            }
        }
    }
    let name = |case: &(&str, &str, u64)| format!("{case:?}");
    let mut count = toy::each(form, &cases, name, |case, &(part, value, step)| {
        skipped(&place, &format!("skip-{case}"), part, value, step)?;
        if part == "parameter" {
            heals(&place, &format!("heal-{case}"), value, step, &reference)?;
        }
        Ok(())
    })?;
    count += toy::each(form, &cases, name, |case, &(part, value, step)| {
        gives_up(&place, &format!("give-up-{case}"), part, value, step)
    })?;
    Ok(Passed::times(count))
}

/// One bad step: it is skipped, and nothing else is another one.
fn skipped(place: &Sandbox, run: &str, part: &str, value: &str, step: u64) -> Result<()> {
    // The run ends with the bad step, so that its checkpoint shows the state right after it.
    let steps = format!("train.steps={step}");
    let mut command = place.faulty(toy::begin(
        run,
        &[&steps, "train.checkpoint_every=1", "train.keep=99"],
    ));
    command.env("DDPM_POISON", format!("{part}:{value}:{step}"));
    let ended = toy::end(&mut command)?;
    toy::expect(&ended, 0, &[])?;
    ensure!(
        ended.stderr.contains(&format!("step {step}: the")) && ended.stderr.contains("skipped"),
        "nothing was said: {}",
        ended.stderr
    );
    let path = place.path(run);
    let line = skips(&path)?
        .into_iter()
        .next()
        .context("no line in skips.jsonl")?;
    ensure!(line["step"] == step, "{line}");
    let images = line["images"].as_array().map_or(0, Vec::len);
    ensure!(images == 4, "the batch of 4 is not in the log: {line}");
    if part == "parameter" {
        // A parameter is bad before the step: the state cannot be kept, and the run went back to before it.
        return Ok(());
    }
    for tensors in toy::TENSORS {
        let bytes = |step: u64| fs::read(path.join(format!("checkpoints/step-{step}/{tensors}")));
        ensure!(
            bytes(step - 1)? == bytes(step)?,
            "{tensors} was changed by step {step}"
        );
    }
    Ok(())
}

/// A parameter that went bad once, by no fault of the steps: back at the last checkpoint everything is as if
/// nothing had happened.
fn heals(
    place: &Sandbox,
    run: &str,
    value: &str,
    step: u64,
    reference: &toy::Result60,
) -> Result<()> {
    if step <= toy::EVERY {
        // There is no checkpoint to go back to.
        return Ok(());
    }
    let mut command = place.faulty(toy::begin(run, &["guard.max_consecutive_skips=2"]));
    command.env("DDPM_POISON", format!("parameter:{value}:{step}"));
    let ended = toy::end(&mut command)?;
    toy::expect(&ended, 0, &[])?;
    ensure!(
        ended.stderr.contains("back to the checkpoint"),
        "{}",
        ended.stderr
    );
    let path = place.path(run);
    toy::Result60::of(&path)?.must_equal(reference)?;
    let back = step / toy::EVERY * toy::EVERY;
    ensure!(
        skips(&path)?
            .iter()
            .any(|line| line["went_back_to"] == back),
        "the way back is not in the log"
    );
    Ok(())
}

/// Bad steps without end: exit 5, and the last good checkpoint is there.
fn gives_up(place: &Sandbox, run: &str, part: &str, value: &str, step: u64) -> Result<()> {
    let poison: Vec<String> = (step..=toy::STEPS)
        .map(|step| format!("{part}:{value}:{step}:again"))
        .collect();
    let mut command = place.faulty(toy::begin(run, &["guard.max_consecutive_skips=3"]));
    command.env("DDPM_POISON", poison.join(","));
    let ended = toy::end(&mut command)?;
    toy::expect(&ended, 5, &["diverged", "skips.jsonl", "optim.lr"])?;
    let path = place.path(run);
    let good = (step - 1) / toy::EVERY * toy::EVERY;
    let newest = checkpoint::latest_valid(&RunDir::open(&path)?)?;
    let expected = (good > 0).then(|| path.join(format!("checkpoints/step-{good}")));
    ensure!(newest == expected, "{newest:?} is not {expected:?}");
    if let Some(good) = expected {
        all_finite(&good)?;
    }
    // Each pass leaves out four: three are allowed, the fourth is one too many.
    let skipped = skips(&path)?
        .iter()
        .filter(|line| line["went_back_to"].is_null())
        .count();
    let passes = if good > 0 { 2 } else { 1 };
    ensure!(skipped == 4 * passes, "{skipped} updates were skipped");
    Ok(())
}

fn all_finite(checkpoint: &Path) -> Result<()> {
    for name in toy::TENSORS {
        for tensor in ddpm_store::TensorFile::read(&checkpoint.join(name))?.tensors {
            ensure!(
                tensor.data.iter().all(|number| number.is_finite()),
                "{name}: {} is not finite",
                tensor.name
            );
        }
    }
    Ok(())
}

fn skips(run: &Path) -> Result<Vec<Value>> {
    Ok(read_metrics(&run.join("skips.jsonl"))?)
}
