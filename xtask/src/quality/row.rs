//! A row of a table of figures.

use std::path::PathBuf;

use serde_json::Value;

/// The figures of a table, by their places in eval.json, and their decimals.
const FIGURES: [(&str, &str, usize); 6] = [
    ("Fréchet", "frechet_distance", 3),
    ("kernel", "kernel_distance", 4),
    ("precision", "precision", 3),
    ("recall", "recall", 3),
    ("nearest", "copies/nearest_ratio", 3),
    ("copies", "copies/copied_share", 4),
];

/// What a recipe, a variant or the peer came to, by seed.
pub(super) struct Row {
    name: String,
    steps: Vec<f64>,
    /// Seconds of training.
    pub(super) seconds: Vec<f64>,
    /// Folders of the images that were judged.
    pub(super) images: Vec<PathBuf>,
    figures: Vec<Value>,
}

impl Row {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            steps: Vec::new(),
            seconds: Vec::new(),
            images: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// One seed more, and what `ddpm eval` said of it.
    pub(super) fn push(&mut self, steps: &Value, seconds: &Value, judged: &Value) {
        self.steps.push(steps.as_f64().unwrap_or(f64::NAN));
        self.seconds.push(seconds.as_f64().unwrap_or(f64::NAN));
        self.figures.push(judged["evaluation"]["figures"].clone());
    }

    /// The first lines of the table.
    pub(super) fn header(set: &str, n: usize, seeds: u64) -> String {
        let mut line = format!("| {set}: {n} images by pixels, seeds: {seeds} | steps | s |");
        let mut rule = "|---|---|---|".to_owned();
        for (shown, _, _) in FIGURES {
            line += &format!(" {shown} |");
            rule += "---|";
        }
        format!("{line}\n{rule}\n")
    }

    /// Means over seeds and from where to where those lie; of one seed, the interval of its images.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "| {} | {:.0} | {:.0} |",
            self.name,
            mean(&self.steps),
            mean(&self.seconds)
        );
        for (_, key, decimals) in FIGURES {
            let of = |part: &str| -> Vec<f64> {
                let place = format!("/{key}/{part}");
                let of_seed = |figures: &Value| {
                    let figure = figures.pointer(&place).and_then(Value::as_f64);
                    figure.unwrap_or(f64::NAN)
                };
                self.figures.iter().map(of_seed).collect()
            };
            let values = of("value");
            let (low, high) = match values.len() {
                1 => (of("low"), of("high")),
                _ => (values.clone(), values.clone()),
            };
            line += &format!(
                " {:.decimals$} ({:.decimals$} to {:.decimals$}) |",
                mean(&values),
                low.iter().copied().fold(f64::INFINITY, f64::min),
                high.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            );
        }
        line + "\n"
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(value: f64) -> Value {
        let figure = serde_json::json!({ "value": value, "low": 0.0, "high": 1.0 });
        serde_json::json!({ "evaluation": { "figures": {
            "frechet_distance": figure,
            "copies": { "copied_share": figure },
        } } })
    }

    #[test]
    fn one_seed_shows_its_interval_and_several_their_range() {
        let mut row = Row::new("ours");
        row.push(&10.into(), &2.4.into(), &judged(0.5));
        assert!(
            row.line()
                .starts_with("| ours | 10 | 2 | 0.500 (0.000 to 1.000) |")
        );
        assert!(row.line().ends_with(" 0.5000 (0.0000 to 1.0000) |\n"));
        row.push(&20.into(), &2.8.into(), &judged(0.7));
        assert!(
            row.line()
                .starts_with("| ours | 15 | 3 | 0.600 (0.500 to 0.700) |")
        );
    }
}
