//! Updates whose loss and gradient the host has not seen yet.
//!
//! A host that waits for a step's numbers before it gives a card the update leaves the card idle meanwhile. So the
//! card judges a step itself: where the loss or the gradient is not finite, it [halts](Halt), and neither this update
//! nor any later one is made until the host, which sees the same numbers a little later, has dealt with it.

use burn::tensor::{Device, Tensor};

use crate::optimiser::{AdamState, AdamStep, adam_steps, sum_of_squares};

/// Whether updates are made on a device.
#[derive(Debug)]
pub struct Halt(Tensor<1>);

impl Halt {
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
        let halted = self.0.clone().not_equal_elem(0.0).expand(moved.dims());
        moved.mask_where(halted, kept)
    }
}

/// Whether a device judges its steps itself; elsewhere the functions of this file do it on the host, at once.
pub fn judges(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    return crate::Place::of(device) == crate::Place::Card;
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
pub struct Numbers {
    /// The losses that were given.
    pub losses: Vec<f32>,
    /// Σ over all gradients of Σ x².
    pub sum_of_squares: f64,
}

impl Numbers {
    /// The global norm of the gradient; `divisor` is what the sums of the gradients are too large by.
    pub fn norm(&self, divisor: f64) -> f64 {
        self.sum_of_squares.sqrt() / divisor
    }
}

/// A step's losses and the norm of its gradient, where they were computed.
pub struct Measured(Found);

enum Found {
    Host(Numbers),
    #[cfg(feature = "cube")]
    Card(Box<crate::cube::Measured>),
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Found::Host(_) => "Measured on the host",
            #[cfg(feature = "cube")]
            Found::Card(_) => "Measured on the card",
        })
    }
}

/// Numbers that may be on their way still; what is not wanted any more is waited for too, since some drivers take
/// memory that nobody has fetched for memory in use.
pub struct Coming(Option<Way>);

enum Way {
    Here(Numbers),
    #[cfg(feature = "cube")]
    FromCard(crate::cube::Coming),
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coming")
    }
}

impl Coming {
    /// Waits for them.
    ///
    /// # Errors   what a card's driver says if its work failed
    pub fn wait(mut self) -> Result<Numbers, String> {
        self.take()
    }

    fn take(&mut self) -> Result<Numbers, String> {
        match self.0.take() {
            Some(Way::Here(numbers)) => Ok(numbers),
            #[cfg(feature = "cube")]
            Some(Way::FromCard(coming)) => {
                let (losses, sum_of_squares) = crate::cube::wait(coming)?;
                Ok(Numbers {
                    losses,
                    sum_of_squares,
                })
            }
            None => Err("these numbers were fetched before".to_owned()),
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.0.is_some() && !std::thread::panicking() {
            let _ = self.take();
        }
    }
}

/// Measures the gradients and, on a card, sends the numbers to the host in one transfer, which is not waited for.
///
/// # Shapes   `losses`: `[n]`; `grads`: `[values]` each; on one device, without autodiff
/// # Errors   what the device says if its work failed
pub fn measure(losses: Tensor<1>, grads: &[Tensor<1>]) -> Result<Measured, String> {
    #[cfg(feature = "cube")]
    if !grads.is_empty() && crate::Place::of(&losses.device()) == crate::Place::Card {
        let measured = crate::cube::measure(losses, grads);
        return Ok(Measured(Found::Card(Box::new(measured))));
    }
    let numbers = losses.try_into_data().map_err(|error| error.to_string())?;
    Ok(Measured(Found::Host(Numbers {
        losses: numbers.iter::<f32>().collect(),
        sum_of_squares: sum_of_squares(grads)?,
    })))
}

impl Measured {
    /// Goes without what stays on the card.
    pub fn coming(self) -> Coming {
        Coming(Some(match self.0 {
            Found::Host(numbers) => Way::Here(numbers),
            #[cfg(feature = "cube")]
            Found::Card(measured) => Way::FromCard(measured.coming()),
        }))
    }
}

/// As [`adam_steps`], judged on the device: `step.grad_scale` is not read but found by `clip`, and nothing moves if
/// a loss or the gradient is not finite, or the device has halted before.
///
/// # Shapes   as [`adam_steps`]; `measured` of the same gradients
pub fn adam_steps_unseen(
    states: Vec<AdamState>,
    grads: Vec<Tensor<1>>,
    step: AdamStep,
    clip: Clip,
    measured: Measured,
    halt: &mut Halt,
) -> (Vec<AdamState>, Coming) {
    match measured.0 {
        #[cfg(feature = "cube")]
        Found::Card(measured) => {
            let (states, coming) =
                crate::cube::adam_all_unseen(states, grads, step, clip, *measured, &halt.0);
            (states, Coming(Some(Way::FromCard(coming))))
        }
        Found::Host(numbers) => {
            let finite = numbers.losses.iter().all(|loss| loss.is_finite())
                && numbers.sum_of_squares.is_finite();
            if !finite {
                halt.0 = halt.0.ones_like();
            }
            let halted = halt.0.clone().into_scalar::<f32>() != 0.0;
            let states = match halted {
                true => states,
                false => {
                    let grad_scale = clip.scale(numbers.norm(clip.divisor));
                    adam_steps(states, grads, AdamStep { grad_scale, ..step })
                }
            };
            (states, Coming(Some(Way::Here(numbers))))
        }
    }
}
