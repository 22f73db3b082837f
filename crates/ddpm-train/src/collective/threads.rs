//! Ranks that are threads of one process, each with a device of its own or with turns on a common one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burn::tensor::Device;

use super::Collective;
use crate::error::TrainError;

/// One rank's place among the threads of a run. When it is dropped, the others stop waiting for it.
#[derive(Debug)]
pub(crate) struct Threads {
    rank: usize,
    /// Another rank has the same device, so that they take turns.
    crowded: bool,
    computing: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    devices: Vec<Device>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Meetings that all ranks have come to.
    meetings: u64,
    /// What ranks have brought to the next one.
    brought: Vec<Option<Arc<Brought>>>,
    /// What all brought to the last one. Nobody can come to the next but one before having read it.
    all: Vec<Arc<Brought>>,
    /// A rank that does not come any more.
    gone: Option<usize>,
    /// Whether a rank has its turn.
    taken: bool,
}

#[derive(Debug)]
enum Brought {
    StepStats(Vec<f32>),
    Bytes(Vec<u8>),
}

impl Threads {
    /// The places of one rank for each device, in their order.
    pub(crate) fn of(devices: &[Device]) -> Vec<Self> {
        let size = devices.len();
        let state = State {
            meetings: 0,
            brought: vec![None; size],
            all: Vec::new(),
            gone: None,
            taken: false,
        };
        let shared = Arc::new(Shared {
            devices: devices.to_vec(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let place = |rank| Self {
            rank,
            crowded: (1..size).any(|i| devices[..i].contains(&devices[i])),
            computing: false,
            shared: Arc::clone(&shared),
        };
        (0..size).map(place).collect()
    }

    /// Waits for all ranks; returns what each of them brought.
    fn meet(&mut self, own: Brought) -> Result<Vec<Arc<Brought>>, TrainError> {
        let mut state = self.shared.lock();
        let meeting = state.meetings + 1;
        state.brought[self.rank] = Some(Arc::new(own));
        if state.brought.iter().all(Option::is_some) {
            state.all = state.brought.iter_mut().filter_map(Option::take).collect();
            state.meetings = meeting;
            self.shared.changed.notify_all();
        }
        state = self.shared.wait_until(state, |state| {
            state.meetings >= meeting || state.gone.is_some()
        });
        match state.gone {
            Some(rank) if state.meetings < meeting => Err(TrainError::Ranks {
                problem: format!("rank {rank} has ended"),
            }),
            _ => Ok(state.all.clone()),
        }
    }

    fn numbers(&mut self, own: Vec<f32>) -> Result<Vec<Arc<Brought>>, TrainError> {
        self.meet(Brought::StepStats(own))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        ready: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        /// How long a thread that kernels need looks away at most.
        const NAP: Duration = Duration::from_micros(200);
        while !ready(&state) {
            if rayon::current_thread_index().is_none() {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // The kernels of the rank that is waited for may wait for this thread.
            drop(state);
            let worked = rayon::yield_now() == Some(rayon::Yield::Executed);
            state = self.lock();
            if !worked && !ready(&state) {
                let waited = self.changed.wait_timeout(state, NAP);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
        state
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end_turn();
        let mut state = self.shared.lock();
        state.gone.get_or_insert(self.rank);
        self.shared.changed.notify_all();
    }
}

/// The numbers of a meeting that was about numbers.
fn of(brought: &Brought) -> &[f32] {
    match brought {
        Brought::StepStats(numbers) => numbers,
        Brought::Bytes(_) => unreachable!("all ranks make the same calls"),
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.devices.len()
    }

    fn all_to_all(&mut self, send: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let piece = send.len() / self.size();
        let start = piece * self.rank;
        let all = self.numbers(send)?;
        let pieces = all.iter().map(|from| &of(from)[start..start + piece]);
        Ok(pieces.collect::<Vec<_>>().concat())
    }

    fn all_gather(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let all = self.numbers(own)?;
        Ok(all.iter().map(|from| of(from)).collect::<Vec<_>>().concat())
    }

    fn all_reduce(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let all = self.numbers(own)?;
        let (first, others) = all.split_at(1);
        let mut sum = of(&first[0]).to_vec();
        for from in others {
            for (sum, number) in sum.iter_mut().zip(of(from)) {
                *sum += number;
            }
        }
        Ok(sum)
    }

    fn broadcast(&mut self, bytes: Vec<u8>, root: usize) -> Result<Vec<u8>, TrainError> {
        let all = self.meet(Brought::Bytes(bytes))?;
        match &*all[root] {
            Brought::Bytes(bytes) => Ok(bytes.clone()),
            Brought::StepStats(_) => unreachable!("all ranks make the same calls"),
        }
    }

    fn begin_turn(&mut self, exclusive: bool) -> Result<(), TrainError> {
        if !(exclusive || self.crowded) {
            return Ok(());
        }
        let state = self.shared.lock();
        let mut state = self
            .shared
            .wait_until(state, |state| !state.taken || state.gone.is_some());
        if let Some(rank) = state.gone {
            return Err(TrainError::Ranks {
                problem: format!("rank {rank} has ended"),
            });
        }
        (state.taken, self.computing) = (true, true);
        Ok(())
    }

    fn devices(&self) -> Option<&[Device]> {
        Some(&self.shared.devices)
    }

    fn end_turn(&mut self) {
        if std::mem::take(&mut self.computing) {
            self.shared.lock().taken = false;
            self.shared.changed.notify_all();
        }
    }
}
