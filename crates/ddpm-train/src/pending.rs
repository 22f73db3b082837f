//! A step between the device that computes its loss and gradient norm and the host that reads them.

use ddpm_kernels::{DeviceStats, PendingStats};

use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::step::{ScaledGradients, StepReport, device_failed};

/// A step's gradients and their norm on the device, before anything is done with them.
#[derive(Debug)]
pub(crate) struct MeasuredGradients {
    pub(crate) grads: ParamGrads,
    pub(crate) stats: DeviceStats,
    /// What the gradients are too large by.
    pub(crate) divisor: f64,
    pub(crate) step: u64,
    pub(crate) lr: f64,
    pub(crate) ema_decay: f64,
    /// The times of each micro-batch's images.
    pub(crate) times: Vec<Vec<f64>>,
}

impl MeasuredGradients {
    /// Images of all micro-batches.
    pub(crate) fn images(&self) -> u64 {
        self.times.iter().map(Vec::len).sum::<usize>() as u64
    }

    /// The gradients, for an update that waits for the numbers.
    pub(crate) fn deferred(self) -> (ScaledGradients, PendingStep) {
        let divisor = self.divisor;
        let (grads, stats, pending) = self.split();
        (ScaledGradients { grads, divisor }, pending(stats.pending()))
    }

    /// What an update needs, and what becomes of the numbers once they are on their way.
    pub(crate) fn split(
        self,
    ) -> (
        ParamGrads,
        DeviceStats,
        impl FnOnce(PendingStats) -> PendingStep,
    ) {
        let Self {
            grads,
            stats,
            divisor,
            step,
            lr,
            ema_decay,
            times,
        } = self;
        let pending = move |stats| PendingStep {
            stats,
            divisor,
            times,
            report: StepReport {
                step,
                loss: f64::NAN,
                grad_norm: f64::NAN,
                lr,
                ema_decay,
                per_image: Vec::new(),
            },
        };
        (grads, stats, pending)
    }
}

/// A step whose numbers are on their way to the host.
#[derive(Debug)]
pub struct PendingStep {
    stats: PendingStats,
    divisor: f64,
    times: Vec<Vec<f64>>,
    /// All but the numbers.
    report: StepReport,
}

impl PendingStep {
    /// Waits for the numbers; if any is not finite, a device that was given the update has made neither it nor a later
    /// one.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back
    pub fn wait(self) -> Result<StepReport, TrainError> {
        let stats = self.stats.wait().map_err(device_failed)?;
        let grad_norm = stats.norm(self.divisor);
        let micro_batches = self.times.len();
        let mut numbers = stats.losses.into_iter();
        let (mut sum, mut per_image) = (0.0, Vec::new());
        for times in self.times {
            sum += numbers.next().map_or(0.0, f64::from);
            per_image.extend(times.into_iter().zip(&mut numbers));
        }
        Ok(StepReport {
            loss: sum / micro_batches as f64,
            grad_norm,
            per_image,
            ..self.report
        })
    }
}

impl StepReport {
    /// # Errors   [`TrainError::Diverged`] if the loss or the gradient is not finite
    pub(crate) fn finite(self) -> Result<Self, TrainError> {
        for (quantity, value) in [("loss", self.loss), ("gradient norm", self.grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::Diverged {
                    quantity,
                    step: self.step,
                    value,
                    last_good: "nothing was saved yet".to_owned(),
                });
            }
        }
        Ok(self)
    }
}
