//! Inception Score (Salimans et al. 2016): exp(E KL(p(y|x) ‖ p(y))) of a classifier's logits.

use crate::bootstrap::Figure;
use crate::rows::Rows;

/// Mean and standard deviation over parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The mean of the parts' scores.
    pub mean: f64,
    /// Their standard deviation, divided by the number of parts.
    pub deviation: f64,
}

/// The score of each of `parts` nearly equal parts of the images in the order given (torch-fidelity).
///
/// # Shapes   `logits`: `[n, classes]`
#[must_use]
pub fn inception_score(logits: &Rows, order: &[usize], parts: usize) -> Score {
    let n = order.len();
    let scores = (0..parts).map(|part| {
        let of_part = &order[part * n / parts..(part + 1) * n / parts];
        score(logits, of_part).0
    });
    let scores: Vec<f64> = scores.collect();
    let mean = crate::bootstrap::mean(&scores);
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    Score {
        mean,
        deviation: (squares / parts as f64).sqrt(),
    }
}

/// The score of all images as one part, with its interval.
#[must_use]
pub fn whole_score(logits: &Rows, seed: u64) -> Figure {
    let order: Vec<usize> = (0..logits.count()).collect();
    let (_, divergences) = score(logits, &order);
    // The mean distribution stands at the minimum of the mean divergence: its own error is of second order.
    Figure::of_means(&[&divergences], seed, |means| means[0].exp())
}

/// The score of some images, and the divergence of each in nats.
fn score(logits: &Rows, images: &[usize]) -> (f64, Vec<f64>) {
    let classes = logits.dim();
    let mut mean = vec![0.0; classes];
    let logs: Vec<Vec<f64>> = images
        .iter()
        .map(|&image| log_softmax(logits.row(image)))
        .collect();
    for row in &logs {
        for (sum, log) in mean.iter_mut().zip(row) {
            *sum += log.exp();
        }
    }
    let logs_of_mean: Vec<f64> = mean
        .iter()
        .map(|sum| (sum / images.len() as f64).ln())
        .collect();
    let divergence = |row: &Vec<f64>| {
        let terms = row.iter().zip(&logs_of_mean);
        // A class without any probability adds nothing.
        terms
            .map(|(log, of_mean)| match log.exp() {
                0.0 => 0.0,
                p => p * (log - of_mean),
            })
            .sum::<f64>()
    };
    let divergences: Vec<f64> = logs.iter().map(divergence).collect();
    (crate::bootstrap::mean(&divergences).exp(), divergences)
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let shifted: Vec<f64> = logits
        .iter()
        .map(|&x| f64::from(x) - f64::from(largest))
        .collect();
    let total = shifted.iter().map(|x| x.exp()).sum::<f64>().ln();
    shifted.iter().map(|x| x - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_even_answers_score_the_number_of_classes() {
        let sure = Rows::new(vec![50.0, 0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 50.0], 3).unwrap();
        let found = inception_score(&sure, &[0, 1, 2], 1);
        assert!(
            (found.mean - 3.0).abs() < 1e-9 && found.deviation == 0.0,
            "{found:?}"
        );
        let unsure = Rows::new(vec![1.0; 9], 3).unwrap();
        assert!((whole_score(&unsure, 0).value - 1.0).abs() < 1e-12);
        // One class alone: sure, and not diverse.
        let one = sure.select(&[1, 1, 1]);
        assert!((inception_score(&one, &[0, 1, 2], 3).mean - 1.0).abs() < 1e-12);
    }
}
