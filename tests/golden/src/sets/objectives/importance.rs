//! OpenAI's sampler of time steps by their losses.

use anyhow::Context;
use ddpm_schedule::Importance;
use serde_json::Value;

use crate::compare::{difference, larger};
use crate::keys::{Keys, needed, unsupported};
use crate::source::Source;

pub(super) fn check(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let steps = needed(case.count("T"), "T")?;
    let history = needed(case.count("history_per_term"), "history_per_term")?;
    let uniform = needed(case.number("uniform_prob"), "uniform_prob")?;
    let mut law = Importance::new(steps, history, uniform);
    let times = &source.tensor(&format!("{name}_t"))?.values;
    let losses = &source.tensor(&format!("{name}_loss"))?.values;
    let snapshots = match case.take("snapshots") {
        Some(Value::Array(snapshots)) => snapshots,
        other => return Err(unsupported("snapshots", &other.into(), "a list")),
    };
    let (mut done, mut worst) = (0, 0.0);
    for snapshot in snapshots {
        let Value::Object(snapshot) = snapshot else {
            return Err(unsupported("a snapshot", &snapshot, "an object"));
        };
        let mut snapshot = Keys::new(snapshot);
        let after = needed(snapshot.count("after"), "after")?;
        while done < after {
            let (t, loss) = times
                .get(done)
                .zip(losses.get(done))
                .context("too few losses")?;
            law.note(*t as usize, *loss);
            done += 1;
        }
        let warm = needed(snapshot.boolean("warmed_up"), "warmed_up")?;
        if warm != law.is_warm() {
            return Ok(f64::INFINITY);
        }
        let ours = law.probabilities();
        let probability = needed(snapshot.numbers("probability"), "probability")?;
        worst = larger(worst, difference(&ours, &probability));
        let factors: Vec<f64> = ours.iter().map(|p| 1.0 / (p * steps as f64)).collect();
        let theirs = needed(
            snapshot.numbers("loss_factor_if_drawn"),
            "loss_factor_if_drawn",
        )?;
        worst = larger(worst, difference(&factors, &theirs));
        // The weights before they are normalised.
        snapshot.drop(&["weights"]);
        snapshot.finish()?;
    }
    Ok(worst)
}
