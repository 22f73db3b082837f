//! A schedule seen through the steps that a sampler visits.

use crate::{Posterior, Schedule, ScheduleError};

/// One visited step and what lies between it and the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RespacedStep {
    /// The step of the full schedule, which the network is told.
    pub t: usize,
    /// ᾱ_t.
    pub alpha_bar: f64,
    /// ᾱ of the next visited step, never of t - 1; 1 after the last. [`Respaced::strided`] goes elsewhere.
    pub alpha_bar_prev: f64,
    /// 1 - ᾱ_t/ᾱ_prev, the β of the whole stride.
    pub beta: f64,
}

impl RespacedStep {
    /// The posterior of this stride.
    #[must_use]
    pub fn posterior(&self) -> Posterior {
        Posterior::new(self.alpha_bar, self.alpha_bar_prev)
    }
}

/// Any strictly falling choice of a schedule's steps (Nichol & Dhariwal 2021, section 4).
#[derive(Debug, Clone, PartialEq)]
pub struct Respaced {
    steps: Vec<RespacedStep>,
}

impl Respaced {
    /// The steps `timesteps` of `schedule`, from the noisiest down.
    ///
    /// # Errors
    /// [`ScheduleError::Timesteps`] if the list is empty, not strictly falling, or leaves the schedule.
    pub fn new(schedule: &Schedule, timesteps: Vec<usize>) -> Result<Self, ScheduleError> {
        let refuse = |problem| Err(ScheduleError::Timesteps { problem });
        let Some(&first) = timesteps.first() else {
            return refuse("no sampling steps were given; give at least one".into());
        };
        if first >= schedule.len() {
            return refuse(format!(
                "sampling step {first} lies beyond the schedule, whose last step is {}",
                schedule.len() - 1
            ));
        }
        if let Some(pair) = timesteps.windows(2).find(|pair| pair[0] <= pair[1]) {
            return refuse(format!(
                "sampling step {} comes after {}; list the steps strictly falling, none twice (so their number must be ≤ {})",
                pair[1],
                pair[0],
                schedule.len()
            ));
        }
        let following = timesteps[1..]
            .iter()
            .map(|&t| schedule.alpha_bar(t))
            .chain([1.0]);
        let steps = timesteps
            .iter()
            .zip(following)
            .map(|(&t, alpha_bar_prev)| {
                let alpha_bar = schedule.alpha_bar(t);
                RespacedStep {
                    t,
                    alpha_bar,
                    alpha_bar_prev,
                    beta: 1.0 - alpha_bar / alpha_bar_prev,
                }
            })
            .collect();
        Ok(Self { steps })
    }

    /// As [`Respaced::new`], but from each step `stride` further down, whichever is visited next, and below 0 to
    /// `alpha_bar_end`: what diffusers' DDIM does.
    ///
    /// # Errors   as [`Respaced::new`]; [`ScheduleError::Timesteps`] for a stride of 0
    pub fn strided(
        schedule: &Schedule,
        timesteps: Vec<usize>,
        stride: usize,
        alpha_bar_end: f64,
    ) -> Result<Self, ScheduleError> {
        if stride == 0 {
            let problem = "a stride of 0 sampling steps leads nowhere; use at least 1".into();
            return Err(ScheduleError::Timesteps { problem });
        }
        let mut respaced = Self::new(schedule, timesteps)?;
        for step in &mut respaced.steps {
            step.alpha_bar_prev = match step.t.checked_sub(stride) {
                Some(prev) => schedule.alpha_bar(prev),
                None => alpha_bar_end,
            };
            step.beta = 1.0 - step.alpha_bar / step.alpha_bar_prev;
        }
        Ok(respaced)
    }

    /// The visited steps, from the noisiest down; at least one.
    #[must_use]
    pub fn steps(&self) -> &[RespacedStep] {
        &self.steps
    }

    /// The number of visited steps, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one step")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The posteriors of all strides in the order of [`Respaced::steps`], with the logarithms of
    /// the last one clipped: see [`Posterior::table`].
    #[must_use]
    pub fn posteriors(&self) -> Vec<Posterior> {
        let rising: Vec<_> = self
            .steps
            .iter()
            .rev()
            .map(|step| (step.alpha_bar, step.alpha_bar_prev))
            .collect();
        let mut table = Posterior::table(&rising);
        table.reverse();
        table
    }
}
