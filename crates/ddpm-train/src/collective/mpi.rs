//! Ranks that are processes of MPI, on one machine or many. All use of the MPI library is in this file.

use std::fmt;
use std::mem::ManuallyDrop;
use std::thread;
use std::time::{Duration, Instant};

use ferrompi::{Communicator, Mpi, ReduceOp, Request, ThreadLevel};

use super::Collective;
use crate::error::TrainError;

/// This process as one of those that `mpirun`, `srun` or another launcher has started.
///
/// It has to end with [`Session::finish`]; a process that ends without it takes all others along.
pub struct Session {
    world: Communicator,
    /// Which of the ranks on this machine this is.
    local_rank: usize,
    local_size: usize,
    /// Ended by [`Session::finish`] alone: a process that panics must not wait for the others here.
    mpi: ManuallyDrop<Mpi>,
}

impl Session {
    /// Joins the other processes.
    ///
    /// # Errors   [`TrainError::Ranks`] if the library finds none
    pub fn start() -> Result<Self, TrainError> {
        // Whichever thread calls this is the only one that will.
        let mpi = Mpi::init_thread(ThreadLevel::Funneled).map_err(failed)?;
        let world = mpi.world();
        let local = world.split_shared().map_err(failed)?;
        Ok(Self {
            local_rank: local.rank() as usize,
            local_size: local.size() as usize,
            world,
            mpi: ManuallyDrop::new(mpi),
        })
    }

    /// Which rank this is, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.world.size() as usize
    }

    /// Which of the ranks on this machine this is, and how many those are.
    #[must_use]
    pub fn local(&self) -> (usize, usize) {
        (self.local_rank, self.local_size)
    }

    /// All ranks, who wait no longer than this for each other's gradients.
    #[must_use]
    pub fn ranks(&self, timeout: Duration) -> Box<dyn Collective> {
        Box::new(Processes {
            world: self.mpi.world(),
            timeout,
        })
    }

    /// Waits for all ranks to come to their end. If they do not within `time`, `last_words` says what there is to say,
    /// and all processes end at once, this one with the exit code that it returns.
    pub fn finish(self, time: Duration, last_words: impl FnOnce() -> u8) {
        let start = Instant::now();
        let ended = ferrompi::scope(|scope| {
            let mut request = self.world.ibarrier(scope)?;
            while request.test()?.is_none() {
                if start.elapsed() > time {
                    // What was begun cannot be taken back.
                    self.world.abort(last_words().into())
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        if let Err(error) = ended {
            tracing::debug!("at the end of MPI: {error}");
        }
        drop(ManuallyDrop::into_inner(self.mpi));
    }
}

/// Ranks that are processes.
struct Processes {
    world: Communicator,
    timeout: Duration,
}

fn failed(error: ferrompi::Error) -> TrainError {
    TrainError::Ranks {
        problem: format!("MPI says: {error}"),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.world.rank(), self.world.size())
    }
}

impl Processes {
    /// Waits for a call that all ranks make at about the same time.
    fn wait(&self, mut request: Request<'_>) -> ferrompi::Result<()> {
        let start = Instant::now();
        while request.test()?.is_none() {
            if start.elapsed() > self.timeout {
                self.end_all();
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Ends all processes, since the others do not answer.
    fn end_all(&self) -> ! {
        tracing::error!(
            "rank {}: no answer from the other ranks within {} s (`train.timeout_s`): a machine or the network \
             between them is gone, or one is much slower; the last checkpoint is whole, go on with --resume",
            self.world.rank(),
            self.timeout.as_secs()
        );
        // Nothing that was begun can be taken back, so the process has to end; after the launcher has passed the
        // sentence on.
        thread::sleep(Duration::from_millis(300));
        self.world.abort(DEVICE_EXIT)
    }

    /// Waits for a call that rank 0, or another, may come to much later; without using the CPU, which that rank needs.
    fn wait_patiently(mut request: Request<'_>) -> ferrompi::Result<()> {
        let mut nap = Duration::from_micros(10);
        while request.test()?.is_none() {
            thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// The exit code of a process that lost the others.
const DEVICE_EXIT: i32 = 6;

/// Bytes of one message: the length of a message is an `int` in older libraries.
const MESSAGE_BYTES: usize = 1 << 26;

impl Collective for Processes {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn all_to_all(&mut self, send: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let mut received = vec![0.0; send.len()];
        ferrompi::scope(|scope| self.wait(self.world.ialltoall(scope, &send, &mut received)?))
            .map_err(failed)?;
        Ok(received)
    }

    fn all_gather(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let mut all = vec![0.0; own.len() * self.size()];
        ferrompi::scope(|scope| self.wait(self.world.iallgather(scope, &own, &mut all)?))
            .map_err(failed)?;
        Ok(all)
    }

    fn all_reduce(&mut self, own: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let mut sum = own;
        ferrompi::scope(|scope| {
            let request = self
                .world
                .iallreduce_inplace(scope, &mut sum, ReduceOp::Sum)?;
            self.wait(request)
        })
        .map_err(failed)?;
        Ok(sum)
    }

    fn broadcast(&mut self, bytes: Vec<u8>, root: usize) -> Result<Vec<u8>, TrainError> {
        let root = root as i32;
        let mut length = [bytes.len() as u64];
        ferrompi::scope(|scope| {
            Self::wait_patiently(self.world.ibroadcast(scope, &mut length, root)?)
        })
        .map_err(failed)?;
        let mut bytes = match self.world.rank() == root {
            true => bytes,
            false => vec![0; length[0] as usize],
        };
        for message in bytes.chunks_mut(MESSAGE_BYTES) {
            ferrompi::scope(|scope| self.wait(self.world.ibroadcast(scope, message, root)?))
                .map_err(failed)?;
        }
        Ok(bytes)
    }

    /// Every rank has a process of its own.
    fn begin_turn(&mut self, _exclusive: bool) -> Result<(), TrainError> {
        Ok(())
    }

    fn end_turn(&mut self) {}

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn give_up(&self) -> TrainError {
        self.end_all()
    }
}
