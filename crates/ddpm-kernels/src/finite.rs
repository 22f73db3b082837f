//! Updates whose loss and gradient the host has not seen yet.
//!
//! A host that waits for a step's numbers before it gives a GPU the update leaves the GPU idle meanwhile. So the GPU
//! checks a step itself: where the loss or the gradient is not finite, it notes that ([`FoundInf`]), and neither this
//! update nor any later one is made until the host, which sees the same numbers a little later, has dealt with it.

use burn::tensor::{Device, Tensor};

use crate::optimiser::{AdamState, AdamStep, adam_steps, sum_of_squares};

/// Whether updates are made on a device.
#[derive(Debug)]
pub struct FoundInf(Tensor<1>);

impl FoundInf {
    /// A device without autodiff, on which updates are made.
    pub fn new(device: &Device) -> Self {
        Self(Tensor::zeros([1], device))
    }

    /// Lets updates be made again.
    pub fn clear(&mut self) {
        self.0 = self.0.zeros_like();
    }

    /// `moved`, or `kept` bit for bit if updates are not made: for what follows an update by other operations. The
    /// device chooses, and nothing is waited for.
    ///
    /// # Shapes   both `[values]`, on the device of this, without autodiff; returns the same
    #[must_use]
    pub fn unless(&self, moved: Tensor<1>, kept: Tensor<1>) -> Tensor<1> {
        let found_inf = self.0.clone().not_equal_elem(0.0).expand(moved.dims());
        moved.mask_where(found_inf, kept)
    }
}

/// Whether a device checks its steps itself; elsewhere the functions of this file do it on the host, at once.
pub fn checks_finite(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    return crate::Place::of(device) == crate::Place::Gpu;
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        false
    }
}

/// How a gradient is scaled before it meets the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// What the sums of the gradients are too large by.
    pub divisor: f64,
    /// The norm that is left at most, after that; infinite for no bound.
    pub max_norm: f64,
}

impl Clip {
    /// What a gradient of this norm is multiplied with.
    pub fn scale(self, norm: f64) -> f64 {
        // The 1e-6 is PyTorch's (clip_grad_norm_).
        (self.max_norm / (norm + 1e-6)).min(1.0) / self.divisor
    }
}

/// Numbers of a step, in the host's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct StepStats {
    /// The losses that were given.
    pub losses: Vec<f32>,
    /// Σ over all gradients of Σ x².
    pub sum_of_squares: f64,
}

impl StepStats {
    /// The global norm of the gradient; `divisor` is what the sums of the gradients are too large by.
    pub fn norm(&self, divisor: f64) -> f64 {
        self.sum_of_squares.sqrt() / divisor
    }
}

/// A step's losses and the norm of its gradient, where they were computed.
pub struct DeviceStats(Found);

enum Found {
    Host(StepStats),
    #[cfg(feature = "cube")]
    Gpu(Box<crate::cube::DeviceStats>),
}

impl std::fmt::Debug for DeviceStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Found::Host(_) => "DeviceStats on the host",
            #[cfg(feature = "cube")]
            Found::Gpu(_) => "DeviceStats on the GPU",
        })
    }
}

/// Numbers that may be on their way still; what is not wanted any more is waited for too, since some drivers take
/// memory that nobody has fetched for memory in use.
pub struct PendingStats(Option<Way>);

enum Way {
    Here(StepStats),
    #[cfg(feature = "cube")]
    FromGpu(crate::cube::PendingStats),
}

impl std::fmt::Debug for PendingStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingStats")
    }
}

impl PendingStats {
    /// Waits for them.
    ///
    /// # Errors   what a GPU's driver says if its work failed
    pub fn wait(mut self) -> Result<StepStats, String> {
        self.take()
    }

    fn take(&mut self) -> Result<StepStats, String> {
        match self.0.take() {
            Some(Way::Here(numbers)) => Ok(numbers),
            #[cfg(feature = "cube")]
            Some(Way::FromGpu(coming)) => {
                let (losses, sum_of_squares) = crate::cube::wait(coming)?;
                Ok(StepStats {
                    losses,
                    sum_of_squares,
                })
            }
            None => Err("these numbers were fetched before".to_owned()),
        }
    }
}

impl Drop for PendingStats {
    fn drop(&mut self) {
        if self.0.is_some() && !std::thread::panicking() {
            let _ = self.take();
        }
    }
}

/// Measures the gradients and, on a GPU, sends the numbers to the host in one transfer, which is not waited for.
///
/// # Shapes   `losses`: `[n]`; `grads`: `[values]` each; on one device, without autodiff
/// # Errors   what the device says if its work failed
pub fn measure(losses: Tensor<1>, grads: &[Tensor<1>]) -> Result<DeviceStats, String> {
    #[cfg(feature = "cube")]
    if !grads.is_empty() && crate::Place::of(&losses.device()) == crate::Place::Gpu {
        let measured = crate::cube::measure(losses, grads);
        return Ok(DeviceStats(Found::Gpu(Box::new(measured))));
    }
    let numbers = losses.try_into_data().map_err(|error| error.to_string())?;
    Ok(DeviceStats(Found::Host(StepStats {
        losses: numbers.iter::<f32>().collect(),
        sum_of_squares: sum_of_squares(grads)?,
    })))
}

impl DeviceStats {
    /// Goes without what stays on the GPU.
    pub fn pending(self) -> PendingStats {
        PendingStats(Some(match self.0 {
            Found::Host(numbers) => Way::Here(numbers),
            #[cfg(feature = "cube")]
            Found::Gpu(measured) => Way::FromGpu(measured.pending()),
        }))
    }
}

/// As [`adam_steps`], checked on the device: `step.grad_scale` is not read but found by `clip`, and nothing moves if
/// a loss or the gradient is not finite, or one of an earlier step was not.
///
/// # Shapes   as [`adam_steps`]; `measured` of the same gradients
pub fn adam_steps_if_finite(
    states: Vec<AdamState>,
    grads: Vec<Tensor<1>>,
    step: AdamStep,
    clip: Clip,
    measured: DeviceStats,
    found_inf: &mut FoundInf,
) -> (Vec<AdamState>, PendingStats) {
    match measured.0 {
        #[cfg(feature = "cube")]
        Found::Gpu(measured) => {
            let (states, coming) =
                crate::cube::adam_all_if_finite(states, grads, step, clip, *measured, &found_inf.0);
            (states, PendingStats(Some(Way::FromGpu(coming))))
        }
        Found::Host(numbers) => {
            let finite = numbers.losses.iter().all(|loss| loss.is_finite())
                && numbers.sum_of_squares.is_finite();
            if !finite {
                found_inf.0 = found_inf.0.ones_like();
            }
            let states = match found_inf.0.clone().into_scalar::<f32>() != 0.0 {
                true => states,
                false => {
                    let grad_scale = clip.scale(numbers.norm(clip.divisor));
                    adam_steps(states, grads, AdamStep { grad_scale, ..step })
                }
            };
            (states, PendingStats(Some(Way::Here(numbers))))
        }
    }
}
