//! A step's numbers between the device that computes them and the host that reads them.

use burn::tensor::Tensor;
use ddpm_kernels::{Coming, Measured, Numbers};

use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::state::{Computed, StepReport, device_failed};

/// The sums over some of a step's parts: on several devices, those of one device. Still on the device.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) grads: ParamGrads,
    pub(crate) losses: Tensor<1>,
    pub(crate) tally: Tally,
}

/// What the losses of some parts were, as the host reads them.
#[derive(Debug)]
pub(crate) struct Losses {
    sum: f64,
    per_image: Vec<(f64, f32)>,
    parts: usize,
}

impl Share {
    /// The losses in the host's memory, and the gradient.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back
    pub(crate) fn read(self) -> Result<(ParamGrads, Losses), TrainError> {
        let losses = crate::state::read(self.losses)?;
        Ok((self.grads, Tally::read(self.tally.times, losses)))
    }
}

/// A step of which the host knows all but the numbers.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The times of each part's images.
    pub(crate) times: Vec<Vec<f64>>,
    /// The losses of the other devices.
    pub(crate) others: Vec<Losses>,
    /// What the loss was scaled by.
    pub(crate) loss_scale: f64,
}

impl Tally {
    /// What the sums of the gradients are too large by.
    pub(crate) fn divisor(&self) -> f64 {
        let others = self.others.iter().map(|losses| losses.parts);
        (self.times.len() + others.sum::<usize>()) as f64 * self.loss_scale
    }

    /// How many images all parts have together, those of other devices included.
    pub(crate) fn rows(&self) -> u64 {
        let own = self.times.iter().map(Vec::len);
        let others = self.others.iter().map(|losses| losses.per_image.len());
        own.chain(others).sum::<usize>() as u64
    }

    /// Reads what [`Share::losses`] held.
    fn read(times: Vec<Vec<f64>>, losses: Vec<f32>) -> Losses {
        let parts = times.len();
        let (mut sum, mut per_image) = (0.0, Vec::new());
        let mut numbers = losses.into_iter();
        for t in times {
            sum += numbers.next().map_or(0.0, f64::from);
            per_image.extend(t.into_iter().zip(&mut numbers));
        }
        Losses {
            sum,
            per_image,
            parts,
        }
    }

    /// The mean loss, the norm of the gradient, and the losses of the images.
    fn figures(self, numbers: Numbers) -> (f64, f64, Vec<(f64, f32)>) {
        let norm = numbers.norm(self.divisor());
        let mut all = Self::read(self.times, numbers.losses);
        for losses in self.others {
            all.sum += losses.sum;
            all.parts += losses.parts;
            all.per_image.extend(losses.per_image);
        }
        (all.sum / all.parts as f64, norm, all.per_image)
    }
}

/// A step's loss and gradient on the device, and its numbers on their way from there.
#[derive(Debug)]
pub(crate) struct Underway {
    pub(crate) grads: ParamGrads,
    pub(crate) measured: Measured,
    pub(crate) tally: Tally,
}

impl Underway {
    /// Waits for the numbers.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back
    pub(crate) fn wait(self) -> Result<Computed, TrainError> {
        let numbers = self.measured.coming().wait().map_err(device_failed)?;
        let divisor = self.tally.divisor();
        let (loss, grad_norm, per_image) = self.tally.figures(numbers);
        Ok(Computed {
            loss,
            grad_norm,
            grads: self.grads,
            per_image,
            divisor,
        })
    }
}

/// A step whose update was left to the device, and whose numbers are on their way from there.
#[derive(Debug)]
pub struct Unseen {
    pub(crate) coming: Coming,
    pub(crate) tally: Tally,
    pub(crate) report: StepReport,
}

impl Unseen {
    /// Waits for the numbers; if any is not finite, the device has made neither this update nor one after it.
    ///
    /// # Errors   [`TrainError::Device`] if they cannot be read back
    pub fn wait(self) -> Result<StepReport, TrainError> {
        let numbers = self.coming.wait().map_err(device_failed)?;
        let (loss, grad_norm, per_image) = self.tally.figures(numbers);
        Ok(StepReport {
            loss,
            grad_norm,
            per_image,
            ..self.report
        })
    }
}
