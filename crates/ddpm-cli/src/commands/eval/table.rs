//! Figures as a table.

use ddpm_eval::{ClassFigures, Evaluation, Figure, Figures};

use crate::words;

/// A line: what it is called, what a good figure is, and the figure of each evaluation.
struct Line {
    name: &'static str,
    good: &'static str,
    of: fn(&Figures) -> Option<Figure>,
}

const LINES: [Line; 11] = [
    Line {
        name: "Fréchet distance",
        good: "lower",
        of: |figures| Some(figures.frechet_distance),
    },
    Line {
        name: "spatial Fréchet distance",
        good: "lower",
        of: |figures| figures.spatial_frechet_distance,
    },
    Line {
        name: "kernel distance",
        good: "lower",
        of: |figures| figures.kernel_distance,
    },
    Line {
        name: "RBF distance",
        good: "lower",
        of: |figures| figures.rbf_distance,
    },
    Line {
        name: "precision",
        good: "higher",
        of: |figures| figures.precision,
    },
    Line {
        name: "recall",
        good: "higher",
        of: |figures| figures.recall,
    },
    Line {
        name: "density",
        good: "1",
        of: |figures| figures.density,
    },
    Line {
        name: "coverage",
        good: "higher",
        of: |figures| figures.coverage,
    },
    Line {
        name: "Inception Score",
        good: "higher",
        of: |figures| figures.inception_score,
    },
    Line {
        name: "nearest, over real",
        good: "1",
        of: |figures| Some(figures.copies.as_ref()?.nearest_ratio),
    },
    Line {
        name: "copies",
        good: "0.01",
        of: |figures| Some(figures.copies.as_ref()?.copied_share),
    },
];

/// The figures of one evaluation, and class by class.
pub fn one(evaluation: &Evaluation) -> String {
    let mut text = format!("{:<26}{:>10}  {:^23}  good\n", "", "figure", "95% interval");
    for line in &LINES {
        let Some(figure) = (line.of)(&evaluation.figures) else {
            continue;
        };
        let interval = format!("{} to {}", digits(figure.low), digits(figure.high));
        text += &format!(
            "{:<26}{:>10}  {interval:^23}  {}\n",
            line.name,
            digits(figure.value),
            line.good
        );
    }
    if !evaluation.figures.classes.is_empty() {
        text += &classes(evaluation);
    }
    text
}

fn classes(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "\n{:<20}{:>10}{:>8}{:>12}{:>17}{:>11}{:>8}\n",
        "class", "generated", "real", "recognised", "kernel distance", "precision", "recall"
    );
    let names = evaluation.class_names.as_deref().unwrap_or_default();
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), words::percent);
    for figures in &evaluation.figures.classes {
        let ClassFigures {
            class,
            generated,
            real,
            recognised,
            kernel_distance,
            precision,
            recall,
        } = figures;
        let name = names
            .get(*class)
            .cloned()
            .unwrap_or_else(|| class.to_string());
        text += &format!(
            "{name:<20}{:>10}{:>8}{:>12}{:>17}{:>11}{:>8}\n",
            words::percent(*generated),
            words::percent(*real),
            percent(*recognised),
            kernel_distance.map_or("-".to_owned(), |figure| digits(figure.value)),
            percent(*precision),
            percent(*recall),
        );
    }
    text
}

/// Several evaluations, a column each.
pub fn several(evaluations: &[(String, Evaluation)]) -> String {
    let width = evaluations
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        .max(24)
        + 2;
    let mut text = format!("{:<26}", "");
    for (name, _) in evaluations {
        text += &format!("{name:>width$}");
    }
    text += "\n";
    for line in &LINES {
        let figures: Vec<Option<Figure>> = evaluations
            .iter()
            .map(|(_, one)| (line.of)(&one.figures))
            .collect();
        if figures.iter().all(Option::is_none) {
            continue;
        }
        text += &format!("{:<26}", line.name);
        for figure in figures {
            let shown = figure.map_or("-".to_owned(), |figure| {
                format!(
                    "{} ({} to {})",
                    digits(figure.value),
                    digits(figure.low),
                    digits(figure.high)
                )
            });
            text += &format!("{shown:>width$}");
        }
        text += &format!("  {}\n", line.good);
    }
    text
}

/// Four digits of a figure.
fn digits(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if size >= 1000.0 => format!("{value:.0}"),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 1.0 => format!("{value:.3}"),
        _ if size >= 1e-3 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits() {
        let shown = [0.0, 0.000_12, 0.012_34, 0.5, 3.25, 55.83, 317.736, 12345.6].map(digits);
        assert_eq!(
            shown,
            [
                "0", "1.2e-4", "0.0123", "0.5000", "3.250", "55.83", "317.7", "12346"
            ]
        );
    }
}
