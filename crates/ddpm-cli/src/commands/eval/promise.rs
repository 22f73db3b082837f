//! What a run's recipe promised, held against its figures.

use std::path::Path;

use anyhow::Result;
use ddpm_eval::{Evaluation, Figures};
use ddpm_train::{Bound, PromiseConfig};
use serde_json::{Value, json};

use crate::args::JudgeArgs;
use crate::recipe;

/// A bound and the figure that it was promised of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    bound: Bound,
    figure: f64,
}

/// The promise of the run at `path`, if it has one and was judged in the way that it says.
///
/// # Errors   those of reading the run's configuration
pub fn held(args: &JudgeArgs, path: &Path, evaluation: &Evaluation) -> Result<Vec<Held>> {
    let config = path.join("config.toml");
    if !config.is_file() || args.reference.is_some() || !args.reference_set.is_empty() {
        return Ok(Vec::new());
    }
    let promise = recipe::read(Some(&config), &[], None)?.config.promise;
    let promise = promise
        .filter(|promise| promise.n == evaluation.images.n && promise.extractor == args.extractor);
    Ok(promise
        .map(|promise| of(&promise, &evaluation.figures))
        .unwrap_or_default())
}

fn of(promise: &PromiseConfig, figures: &Figures) -> Vec<Held> {
    let value = |name: &str| {
        let found = match name {
            "frechet_distance" => Some(figures.frechet_distance),
            "kernel_distance" => figures.kernel_distance,
            "precision" => figures.precision,
            "recall" => figures.recall,
            _ => figures.copies.as_ref().map(|copies| copies.nearest_ratio),
        };
        found.map_or(f64::NAN, |figure| figure.value)
    };
    let bounds = promise.bounds().into_iter();
    bounds
        .map(|bound| Held {
            bound,
            figure: value(bound.name),
        })
        .collect()
}

impl Held {
    fn is_kept(self) -> bool {
        self.bound.is_kept(self.figure)
    }
}

/// The promise as text, a line each.
pub fn text(held: &[Held]) -> String {
    let mut text = String::new();
    for one in held {
        let Held { bound, figure } = one;
        text += &format!(
            "promised {} {} {}: {} ({figure:.4})\n",
            bound.name.replace('_', " "),
            if bound.is_most { "at most" } else { "at least" },
            bound.bound,
            if one.is_kept() { "kept" } else { "NOT kept" },
        );
    }
    text
}

/// The same for programs; null without a promise.
pub fn json(held: &[Held]) -> Value {
    if held.is_empty() {
        return Value::Null;
    }
    let bounds = held.iter().map(|one| {
        json!({
            "figure": one.bound.name, "bound": one.bound.bound, "at_most": one.bound.is_most, "value": one.figure,
            "kept": one.is_kept(),
        })
    });
    json!({ "kept": held.iter().all(|one| one.is_kept()), "bounds": bounds.collect::<Vec<_>>() })
}
