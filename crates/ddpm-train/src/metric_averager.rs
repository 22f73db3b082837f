//! Means over the steps between two lines of the metric log.

use std::time::Duration;

use ddpm_schedule::Process;
use serde::{Deserialize, Serialize};

use crate::step::StepReport;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricLine {
    /// The last step of the window, counted from 1.
    pub step: u64,
    /// Images trained on so far.
    pub images_seen: u64,
    /// Steps of the window whose update was skipped; the means are over the others.
    pub skipped: u64,
    /// Mean loss.
    pub loss: f64,
    /// Mean global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// EMA decay of the last step.
    pub ema_decay: f64,
    /// Mean loss of the images whose time lies in each quarter of the process's own time; `null` where none did.
    pub loss_by_t: [Option<f64>; 4],
    /// Images trained on per second of training time.
    pub images_per_s: f64,
}

/// Collects steps until a line is written; a part of the training state, so that a run which was stopped between two
/// lines writes the lines of one that was not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricAverager {
    steps: u64,
    loss: f64,
    grad_norm: f64,
    by_t: [(f64, u64); 4],
    images: u64,
    skipped: u64,
    lr: f64,
    ema_decay: f64,
    seconds: f64,
}

impl MetricAverager {
    pub(crate) fn add(&mut self, report: &StepReport, process: &Process, time: Duration) {
        self.steps += 1;
        (self.lr, self.ema_decay) = (report.lr, report.ema_decay);
        self.loss += report.loss;
        self.grad_norm += report.grad_norm;
        self.seconds += time.as_secs_f64();
        self.images += report.per_image.len() as u64;
        for &(t, loss) in &report.per_image {
            let (sum, count) = &mut self.by_t[process.quarter(t)];
            *sum += f64::from(loss);
            *count += 1;
        }
    }

    /// A step whose update was skipped.
    pub(crate) fn add_skipped(&mut self) {
        self.skipped += 1;
    }

    pub(crate) fn images_per_s(&self) -> f64 {
        self.images as f64 / self.seconds.max(1e-9)
    }

    /// The line of a window of steps that ends with `step`, if any update was made in it; starts the next window.
    pub(crate) fn take(&mut self, step: u64, images_seen: u64) -> Option<MetricLine> {
        let window = std::mem::take(self);
        if window.steps == 0 {
            return None;
        }
        let steps = window.steps as f64;
        Some(MetricLine {
            step,
            images_seen,
            skipped: window.skipped,
            loss: window.loss / steps,
            grad_norm: window.grad_norm / steps,
            lr: window.lr,
            ema_decay: window.ema_decay,
            loss_by_t: window
                .by_t
                .map(|(sum, count)| (count > 0).then(|| sum / count as f64)),
            images_per_s: window.images_per_s(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64, loss: f64, per_image: Vec<(f64, f32)>) -> StepReport {
        StepReport {
            step,
            loss,
            grad_norm: 2.0 * loss,
            lr: 0.1,
            ema_decay: 0.5,
            per_image,
        }
    }

    #[test]
    fn means_and_quarters() {
        let table = ddpm_schedule::ScheduleConfig::default().build().unwrap();
        let process = Process::Discrete(table);
        let mut averager = MetricAverager::default();
        let last = report(2, 3.0, vec![(999.0, 4.0), (250.0, 2.0)]);
        averager.add(
            &report(1, 1.0, vec![(0.0, 0.5), (249.0, 1.5)]),
            &process,
            Duration::from_secs(1),
        );
        averager.add_skipped();
        averager.add(&last, &process, Duration::from_secs(3));
        let text = serde_json::to_string(&averager).unwrap();
        assert_eq!(
            serde_json::from_str::<MetricAverager>(&text).unwrap(),
            averager
        );
        let line = averager.take(2, 4).unwrap();
        assert_eq!((line.step, line.loss, line.grad_norm), (2, 2.0, 4.0));
        assert_eq!(line.loss_by_t, [Some(1.0), Some(2.0), None, Some(4.0)]);
        assert_eq!((line.images_per_s, line.skipped), (1.0, 1));
        assert_eq!(averager.take(2, 4), None);
    }
}
