//! Rows 10 and 11: what must make no difference.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ddpm_store::TensorFile;

use super::toy;
use super::{Form, Passed};
use crate::Sandbox;

/// Relative to the tensor's largest number; single-precision sums in another order differ by some 1e-7.
const TOLERANCE: f64 = 1e-5;

/// Row 10: one batch in 1, 2 and 4 parts. After one step Adam's first moment is the gradient, times 1 - β₁.
pub fn accumulation(_form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let mut largest: f64 = 0.0;
    let moments = |parts: usize| -> Result<TensorFile> {
        let run = format!("parts-{parts}");
        let accumulate = format!("train.accumulate={parts}");
        // The gradient itself: not clipped, of a network whose last layer is not zero.
        let more = [
            &accumulate,
            "train.steps=1",
            "train.batch=8",
            "optim.clip_norm=0",
            "model.init=default",
        ];
        toy::expect(
            &toy::end(&mut place.command(toy::begin(&run, &more)))?,
            0,
            &[],
        )?;
        let path = place.path(format!("{run}/checkpoints/step-1/optimiser.safetensors"));
        let mut file = TensorFile::read(&path)?;
        file.tensors
            .retain(|tensor| tensor.name.starts_with("exp_avg/"));
        ensure!(!file.tensors.is_empty(), "no first moments");
        Ok(file)
    };
    let whole = moments(1)?;
    for parts in [2, 4] {
        let split = moments(parts)?;
        largest = largest.max(difference(&whole, &split)?);
    }
    ensure!(largest <= TOLERANCE, "the gradients differ by {largest:e}");
    Ok(Passed {
        count: 3,
        note: format!("largest difference {largest:.1e}"),
    })
}

/// Row 11: one seed twice; one thread and two.
pub fn repetition(_form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let run = |name: &str, threads: &str| -> Result<toy::Result60> {
        let mut command = place.command(toy::begin(name, &[]));
        let ended = crate::Ended::from(command.env("RAYON_NUM_THREADS", threads).output()?);
        toy::expect(&ended, 0, &[])?;
        toy::Result60::of(&place.path(name))
    };
    let first = run("one-a", "1")?;
    run("one-b", "1")?
        .must_equal(&first)
        .context("one thread")?;
    let two = run("two-a", "2")?;
    run("two-b", "2")?.must_equal(&two).context("two threads")?;
    let read = |run: &str, name: &str| {
        let path = place.path(format!("{run}/checkpoints/step-{}", toy::STEPS));
        TensorFile::read(&path.join(name))
    };
    let mut largest: f64 = 0.0;
    for name in toy::TENSORS {
        largest = largest.max(difference(&read("one-a", name)?, &read("two-a", name)?)?);
    }
    ensure!(
        largest <= TOLERANCE,
        "threads make a difference of {largest:e}"
    );
    Ok(Passed {
        count: 4,
        note: format!("1 and 2 threads differ by {largest:.1e}"),
    })
}

/// The largest difference between tensors of the same names, each relative to its largest number, or to a
/// thousandth of the largest of all where that is more: the gradient of a key's bias, for one, is zero but for
/// rounding, since adding a constant to all scores changes no softmax.
fn difference(a: &TensorFile, b: &TensorFile) -> Result<f64> {
    ensure!(a.tensors.len() == b.tensors.len(), "other tensors");
    let most = |data: &[f32]| data.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let of_all = a
        .tensors
        .iter()
        .fold(0.0_f32, |of_all, tensor| of_all.max(most(&tensor.data)));
    let mut largest: f64 = 0.0;
    for tensor in &a.tensors {
        let other = b.get(&tensor.name).context("a tensor is missing")?;
        let scale = most(&tensor.data).max(of_all * 1e-3);
        for (x, y) in tensor.data.iter().zip(&other.data) {
            if scale > 0.0 {
                largest = largest.max(f64::from((x - y).abs()) / f64::from(scale));
            }
        }
    }
    Ok(largest)
}

/// Whether a folder can be written to by this process; a superuser's always can.
pub fn writable(folder: &Path) -> bool {
    let probe = folder.join("probe");
    let written = std::fs::write(&probe, "x").is_ok();
    let _ = std::fs::remove_file(probe);
    written
}
