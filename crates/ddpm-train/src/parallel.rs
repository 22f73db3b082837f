//! One run on several devices of one machine: each computes the gradient of its share of every batch.
//!
//! Every device, called a rank and counted from 0, holds a copy of the network with moments and averages. A step's
//! rows are dealt out in their order ([`crate::batches::parts`]), and what is random about a row depends on its number
//! in the whole batch, so a step has the same images, noise, times and dropout on any number of ranks. The gradients
//! are added up over the ranks, and every rank makes the same update from the same sum, with the norm that rank 0
//! measured and the verdict of one guard: the copies stay equal without being sent around. Rank 0 is the one that is
//! saved, sampled from and logged; it is the [`TrainState`] that the loop holds, while [`Peer`]s hold the others.
//!
//! n ranks with `train.accumulate` a compute the same passes as one with a·n, and with a = 1 the host adds them up in
//! the same order: then every bit is the same. Otherwise the sums differ by rounding.
//!
//! With one rank nothing of this costs anything: there are no peers, so there is nothing to add.

mod agreement;
mod peer;
mod reduction;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ddpm_data::Batch;
use ddpm_kernels::Halt;

use crate::ahead::NoiseAhead;
use crate::batches::{self, Rank};
use crate::config::Config;
use crate::error::TrainError;
use crate::snapshot::{self, SavedState};
use crate::state::{Computed, Recipe, StepReport, TrainState};
use crate::underway::{Losses, Underway, Unseen};
use peer::{Peer, Seat};
use reduction::Reduction;

/// Checks that a batch can be dealt out to so many devices.
///
/// # Errors   [`TrainError::Config`] if it does not come out even, or there is no device
pub fn check_devices(config: &Config, devices: usize) -> Result<(), TrainError> {
    if devices == 0 {
        return Err(TrainError::Config {
            key: "--devices",
            got: "nothing".to_owned(),
            expected: "name at least one device".to_owned(),
        });
    }
    let (batch, accumulate) = (config.train.batch, config.train.accumulate);
    let shares = devices.saturating_mul(accumulate);
    if shares > 0 && batch.is_multiple_of(shares) {
        return Ok(());
    }
    let parts = match accumulate {
        1 => String::new(),
        _ => format!(" with `train.accumulate` = {accumulate} parts each"),
    };
    Err(TrainError::Config {
        key: "train.batch",
        got: batch.to_string(),
        expected: format!(
            "--devices names {devices} devices{parts}, so it must be a multiple of {shares}"
        ),
    })
}

/// What all ranks know of the run.
#[derive(Debug)]
struct Plan {
    config: Config,
    recipe: Recipe,
}

/// The devices of a run.
pub(crate) struct Ranks {
    plan: Arc<Plan>,
    first: Device,
    peers: Vec<Peer>,
    reduction: Reduction,
    /// The noise of rank 0's rows.
    ahead: NoiseAhead,
    /// Rank 0's, where it judges its steps itself.
    halt: Halt,
    /// Steps in which peers with a new state may still record it.
    settling: usize,
}

/// Steps after which a rank has recorded, if all goes well.
const SETTLING: usize = 4;

impl Plan {
    /// What a step of this state is drawn by.
    fn laws<'a>(&'a self, state: &'a TrainState) -> batches::Laws<'a> {
        batches::Laws {
            config: &self.config,
            process: &self.recipe.process,
            learned: &state.learned,
        }
    }
}

impl Ranks {
    /// Opens the devices; the peers have no state before [`Ranks::mirror`].
    ///
    /// # Errors   those of [`check_devices`]; [`TrainError::Device`] if no thread can be started
    pub(crate) fn new(
        devices: &[Device],
        config: &Config,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        // Two threads would gain nothing on one device; and where the calling thread is one of those that the CPU's
        // kernels share their work among, it must not wait for another one's kernels.
        Self::with_threads(devices, config, recipe, |first, device| device != first)
    }

    /// As [`Ranks::new`], with a thread for each peer of which `apart(first, device)` says so.
    fn with_threads(
        devices: &[Device],
        config: &Config,
        recipe: &Recipe,
        apart: impl Fn(&Device, &Device) -> bool,
    ) -> Result<Self, TrainError> {
        check_devices(config, devices.len())?;
        let (first, others) = (&devices[0], &devices[1..]);
        let peers = others.iter().map(|device| {
            let seat = Seat::new(device.clone());
            match apart(first, device) {
                true => Peer::with_thread(seat),
                false => Ok(Peer::here(seat)),
            }
        });
        let mut ranks = Self {
            plan: Arc::new(Plan {
                config: config.clone(),
                recipe: recipe.clone(),
            }),
            first: first.clone(),
            peers: peers.collect::<Result<_, _>>()?,
            reduction: Reduction::OnHost,
            ahead: NoiseAhead::default(),
            halt: Halt::new(&first.clone().inner()),
            settling: 0,
        };
        ranks.reduction = Reduction::choose(devices, &mut ranks.peers);
        Ok(ranks)
    }

    /// The device of rank 0.
    pub(crate) fn first(&self) -> &Device {
        &self.first
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.peers.len() + 1
    }

    /// Gives every peer a copy of rank 0's state, by way of the host.
    ///
    /// # Errors   [`TrainError::Device`] if it cannot be read back
    pub(crate) fn mirror(
        &mut self,
        state: &TrainState,
        saved: &SavedState,
    ) -> Result<(), TrainError> {
        if self.peers.is_empty() {
            return Ok(());
        }
        self.settling = SETTLING;
        let shape = saved.shape();
        let updates = state.updates;
        let copied = Arc::new(snapshot::save(state, saved, 0)?);
        for peer in &mut self.peers {
            let (plan, copied) = (self.plan.clone(), copied.clone());
            let learned = state.learned.clone();
            let placed = peer.ask(move |seat| {
                // Room for the new one first.
                seat.state = None;
                let device = seat.device.clone().autodiff();
                let config = &plan.config;
                let model = config
                    .model
                    .build(shape, config.seed, &device)
                    .map_err(TrainError::Model)?;
                // The path is named in errors about what is missing, which cannot be here.
                let copied = Arc::unwrap_or_clone(copied);
                let tracked = &config.ema.power_function;
                let path = Path::new("rank 0");
                let state = snapshot::restore(path, copied, updates, tracked, model, &device)?;
                seat.state = Some(state.learning(learned));
                Ok::<_, TrainError>(())
            });
            // One after the other, so that only one copy is under way.
            placed.wait()?;
        }
        Ok(())
    }

    /// Loss and gradient of a batch; the peers keep theirs, added up, for [`Ranks::update`]. With one rank nothing is
    /// waited for.
    ///
    /// # Errors   those of [`TrainState::compute`]
    pub(crate) fn compute(
        &mut self,
        state: &TrainState,
        batch: &Arc<Batch>,
    ) -> Result<Underway, TrainError> {
        let (step, loss_scale) = (state.step, state.loss_scale);
        let of = self.count();
        let rank = move |index| Rank { index, of };
        // Cards record their passes one after the other, the first one last.
        let settling = self.settling > 0 || state.recorder.borrow().may_record();
        let alone = self.plan.recipe.record && ddpm_kernels::judges(&self.first) && settling;
        self.settling = self.settling.saturating_sub(1);
        let mut answers = Vec::new();
        for (index, peer) in (1..).zip(&mut self.peers) {
            let (plan, batch) = (self.plan.clone(), batch.clone());
            let answer = peer.ask(move |seat| {
                if let Some(state) = &mut seat.state {
                    state.loss_scale = loss_scale;
                }
                seat.compute(&plan, &batch, step, rank(index), alone)
            });
            answers.push(match alone {
                true => peer::Answer::Ready(answer.wait()),
                false => answer,
            });
        }
        let device = self.first.clone().autodiff();
        let laws = self.plan.laws(state);
        let parts = batches::parts(laws, batch, step, rank(0), &mut self.ahead, &device);
        let own = state.share(parts, &self.plan.recipe, alone);
        // All are waited for before any error is returned, and only if there is none do they meet for the sum: a rank
        // that does not come to it would leave the others waiting.
        let answers: Vec<_> = answers.into_iter().map(peer::Answer::wait).collect();
        let mut all = own?;
        let others: Vec<Losses> = answers.into_iter().collect::<Result<_, _>>()?;
        self.reduction.sum(&mut all.grads, &mut self.peers)?;
        state.measured(all, others)
    }

    /// Whether the first device may judge its steps itself; not if the host has to add up numbers of several.
    pub(crate) fn judge(&self) -> bool {
        self.peers.is_empty() && ddpm_kernels::judges(&self.first)
    }

    /// Moves rank 0, the only one, if the device finds nothing wrong; see [`TrainState::update_unseen`].
    pub(crate) fn update_unseen(
        &mut self,
        state: TrainState,
        underway: Underway,
    ) -> (TrainState, Unseen) {
        state.update_unseen(underway, &self.plan.recipe, &mut self.halt)
    }

    /// Lets the device make updates again.
    pub(crate) fn clear_halt(&mut self) {
        self.halt.clear();
    }

    /// Moves rank 0, and the peers alike; see [`TrainState::update`].
    pub(crate) fn update(
        &mut self,
        state: TrainState,
        computed: Computed,
        max_norm: f64,
    ) -> (TrainState, StepReport) {
        for peer in &mut self.peers {
            let plan = self.plan.clone();
            let judged = Judged::of(&computed);
            peer.tell(move |seat| {
                if let Some((state, computed)) = seat.take(judged) {
                    let (state, _) = state.update(computed, &plan.recipe, max_norm);
                    seat.state = Some(state);
                }
            });
        }
        state.update(computed, &self.plan.recipe, max_norm)
    }

    /// Goes on to the next step without an update; see [`TrainState::skip`].
    pub(crate) fn skip(&mut self, state: TrainState, computed: Computed) -> TrainState {
        for peer in &mut self.peers {
            let judged = Judged::of(&computed);
            peer.tell(move |seat| {
                if let Some((state, computed)) = seat.take(judged) {
                    seat.state = Some(state.skip(computed));
                }
            });
        }
        state.skip(computed)
    }

    /// Makes sure that every peer has rank 0's weights still.
    ///
    /// # Errors   [`TrainError::Apart`] if they differ by more than rounding
    pub(crate) fn agree(
        &mut self,
        state: &TrainState,
        saved: &SavedState,
    ) -> Result<(), TrainError> {
        if agreement::check(state, &mut self.peers)? {
            return Ok(());
        }
        tracing::warn!(
            "step {}: the devices have rounded the weights differently; all get those of the first one",
            state.step
        );
        self.mirror(state, saved)
    }
}

/// A step as rank 0 sees it, all but the gradient.
struct Judged {
    loss: f64,
    grad_norm: f64,
    per_image: Vec<(f64, f32)>,
    divisor: f64,
}

impl Judged {
    fn of(computed: &Computed) -> Self {
        Self {
            loss: computed.loss,
            grad_norm: computed.grad_norm,
            per_image: computed.per_image.clone(),
            divisor: computed.divisor,
        }
    }
}

impl Seat {
    /// Computes this rank's share and keeps its gradient.
    fn compute(
        &mut self,
        plan: &Plan,
        batch: &Batch,
        step: u64,
        rank: Rank,
        alone: bool,
    ) -> Result<Losses, TrainError> {
        self.grads = None;
        let state = self.state.as_ref().ok_or_else(no_state)?;
        let device = self.device.clone().autodiff();
        let parts = batches::parts(
            plan.laws(state),
            batch,
            step,
            rank,
            &mut self.ahead,
            &device,
        );
        let (grads, losses) = state.share(parts, &plan.recipe, alone)?.read()?;
        self.grads = Some(grads);
        Ok(losses)
    }

    /// This rank's state, with the step as it is on all ranks.
    fn take(&mut self, judged: Judged) -> Option<(TrainState, Computed)> {
        let computed = Computed {
            loss: judged.loss,
            grad_norm: judged.grad_norm,
            grads: self.grads.take()?,
            per_image: judged.per_image,
            divisor: judged.divisor,
        };
        Some((self.state.take()?, computed))
    }
}

/// What a rank says that is asked before it was given a state, or after it lost it.
fn no_state() -> TrainError {
    TrainError::Device {
        message: "one of several devices has no copy of the network".to_owned(),
    }
}
