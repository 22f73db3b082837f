//! A rank other than the first: a copy of the training state, and the thread that works on it.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use burn::tensor::{Device, Tensor};

use crate::ahead::NoiseAhead;
use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::state::TrainState;

/// As much stack as the main thread has on Linux.
const STACK_BYTES: usize = 8 << 20;

/// What a peer holds between two calls.
pub(super) struct Seat {
    pub(super) device: Device,
    pub(super) state: Option<TrainState>,
    /// The gradient of the step under way.
    pub(super) grads: Option<ParamGrads>,
    /// What is being added up among the devices.
    pub(super) flat: Option<Tensor<1>>,
    /// The noise of its rows.
    pub(super) ahead: NoiseAhead,
}

impl Seat {
    pub(super) fn new(device: Device) -> Self {
        Self {
            device,
            state: None,
            grads: None,
            flat: None,
            ahead: NoiseAhead::default(),
        }
    }
}

type Task = Box<dyn FnOnce(&mut Seat) + Send>;

/// A rank other than the first.
pub(super) enum Peer {
    /// Works in the calling thread, when it is asked.
    Here(Box<Seat>),
    /// Works in a thread of its own, which is the only one to touch its tensors.
    There {
        /// Work for the thread, which ends when there is no more to come.
        tasks: Option<Sender<Task>>,
        thread: Option<JoinHandle<()>>,
    },
}

impl Peer {
    pub(super) fn here(seat: Seat) -> Self {
        Self::Here(Box::new(seat))
    }

    /// # Errors   [`TrainError::Device`] if no thread can be started
    pub(super) fn with_thread(mut seat: Seat) -> Result<Self, TrainError> {
        let (tasks, coming) = channel::<Task>();
        let work = move || {
            for task in coming {
                task(&mut seat);
            }
        };
        let thread = Builder::new()
            .name("ddpm-rank".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map_err(|error| TrainError::Device {
                message: format!("no thread can be started for it: {error}"),
            })?;
        Ok(Self::There {
            tasks: Some(tasks),
            thread: Some(thread),
        })
    }

    /// Hands work over; what it comes to is there when it is waited for. Work is done in the order of the calls.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Seat) -> T + Send + 'static,
    ) -> Answer<T> {
        match self {
            Self::Here(seat) => Answer::Ready(work(seat)),
            Self::There { tasks, .. } => {
                let (sender, answer) = sync_channel(1);
                let task = Box::new(move |seat: &mut Seat| {
                    // Nobody may be waiting any more.
                    let _ = sender.send(work(seat));
                });
                // A thread that has ended drops the task, and with it the sender: the answer says so.
                let _ = tasks.as_ref().map(|tasks| tasks.send(task));
                Answer::Coming(answer)
            }
        }
    }

    /// Hands work over that has no answer.
    pub(super) fn tell(&mut self, work: impl FnOnce(&mut Seat) + Send + 'static) {
        let _ = self.ask(work);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Self::There { tasks, thread } = self {
            tasks.take();
            // In a panic the thread may be waiting for a rank that does not come any more.
            if !std::thread::panicking() {
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}

/// What work comes to.
pub(super) enum Answer<T> {
    Ready(T),
    Coming(Receiver<T>),
}

impl<T> Answer<T> {
    /// A panic of the work goes on here, as if it had been done in this thread; it has been reported where it was.
    pub(super) fn wait(self) -> T {
        match self {
            Self::Ready(value) => value,
            Self::Coming(answer) => answer
                .recv()
                .unwrap_or_else(|_| resume_unwind(Box::new("a device's thread ended early"))),
        }
    }
}
