//! What a GPU says of itself while a program runs, through `nvidia-smi`.
//!
//! The GPU's memory in use is asked for, not the process's: in a container the driver counts processes by
//! numbers that nobody inside knows. So the GPU should have nothing else to do; what it had before is
//! subtracted, and both sides are measured alike, contexts and caches included.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two samples, besides the time that asking takes.
const PAUSE: Duration = Duration::from_millis(50);

/// A GPU that `nvidia-smi` knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number.
    pub index: usize,
    /// Its name, driver and memory, as `nvidia-smi` words them.
    pub description: String,
}

/// What was in use, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Before the program started, in bytes.
    pub before: f64,
    /// Seconds since 1970 and bytes.
    pub taken: Vec<(f64, f64)>,
}

impl Gpu {
    /// The GPU of a device such as `cuda:0`, if there is one and `nvidia-smi` answers.
    pub fn of(device: &str) -> Option<Self> {
        let (kind, index) = device.split_once(':').unwrap_or((device, "0"));
        let index = index.parse().ok().filter(|_| kind == "cuda")?;
        let description = ask(index, "name,driver_version,memory.total")?;
        Some(Self { index, description })
    }

    /// Begins to sample; the program is to be started after this.
    pub fn watch(&self) -> Option<Watch> {
        let index = self.index;
        let before = used(index)?;
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let sampler = thread::spawn(move || {
            let mut taken = Vec::new();
            while !told.load(Ordering::Relaxed) {
                taken.extend(used(index).map(|bytes| (unix_s(), bytes)));
                thread::sleep(PAUSE);
            }
            taken
        });
        Some(Watch {
            before,
            done,
            sampler,
        })
    }
}

/// A GPU that is being sampled.
#[derive(Debug)]
pub struct Watch {
    before: f64,
    done: Arc<AtomicBool>,
    sampler: JoinHandle<Vec<(f64, f64)>>,
}

impl Watch {
    /// Ends it.
    pub fn finish(self) -> Samples {
        self.done.store(true, Ordering::Relaxed);
        Samples {
            before: self.before,
            // A thread that has panicked has no samples.
            taken: self.sampler.join().unwrap_or_default(),
        }
    }
}

impl Samples {
    /// The most that the program used between two moments, or ever if there is no sample between them.
    pub fn most(&self, during: Option<[f64; 2]>) -> Option<f64> {
        let within = |moment: f64| during.is_none_or(|[from, to]| (from..=to).contains(&moment));
        let most = |taken: &mut dyn Iterator<Item = f64>| taken.reduce(f64::max);
        let all = || self.taken.iter();
        let inside = most(&mut all().filter(|(at, _)| within(*at)).map(|(_, bytes)| *bytes));
        let most = inside.or_else(|| most(&mut all().map(|(_, bytes)| *bytes)))?;
        Some(most - self.before).filter(|bytes| *bytes > 0.0)
    }
}

fn used(index: usize) -> Option<f64> {
    mebibytes(&ask(index, "memory.used")?)
}

/// A line such as `1234`; on some GPUs the driver says `[N/A]`.
fn mebibytes(line: &str) -> Option<f64> {
    let mebibytes: f64 = line.trim().parse().ok()?;
    Some(mebibytes * 1024.0 * 1024.0)
}

fn ask(index: usize, fields: &str) -> Option<String> {
    let output = Command::new("nvidia-smi")
        .arg(format!("--id={index}"))
        .arg(format!("--query-gpu={fields}"))
        .arg("--format=csv,noheader,nounits")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

fn unix_s() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_that_of_the_moments_asked_for() {
        let samples = Samples {
            before: 100.0,
            taken: vec![(1.0, 150.0), (2.0, 900.0), (3.0, 300.0), (4.0, 400.0)],
        };
        for (during, most) in [
            (None, Some(800.0)),
            (Some([2.5, 4.5]), Some(300.0)),
            (Some([1.0, 2.0]), Some(800.0)),
            // Too short for a sample.
            (Some([2.1, 2.2]), Some(800.0)),
        ] {
            assert_eq!(samples.most(during), most, "{during:?}");
        }
        assert_eq!(Samples::default().most(None), None);
        let idle = Samples {
            before: 100.0,
            taken: vec![(1.0, 100.0)],
        };
        assert_eq!(idle.most(None), None);
    }

    #[test]
    fn what_is_no_number_is_nothing() {
        assert_eq!(mebibytes(" 2\n"), Some(2_097_152.0));
        assert_eq!(mebibytes("[N/A]"), None);
        for device in ["cpu", "vulkan:cpu", "cuda:x", "metal:0"] {
            assert_eq!(Gpu::of(device), None, "{device}");
        }
    }
}
