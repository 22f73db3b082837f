//! Sees panics and what takes long.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The most that one case may take.
pub const LONGEST: Duration = Duration::from_secs(1);
/// A machine that others use may hold one case up, hardly the same one so often.
const TRIES: usize = 4;

/// There is one panic hook a process.
static ONE: Mutex<()> = Mutex::new(());

/// From where panics came, and how many from each place.
type Panics = Arc<Mutex<BTreeMap<String, u64>>>;
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// Runs cases while it keeps a record of panics, those that a library catches by itself among them.
pub struct Watch {
    panics: Panics,
    longest: Duration,
    before: Option<Hook>,
    _one: MutexGuard<'static, ()>,
}

/// What a [`Watch`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The longest case.
    pub longest: Duration,
    /// Panics that a library caught by itself, with their places.
    pub caught: BTreeMap<String, u64>,
}

impl Watch {
    /// Begins; until the value is dropped no panic is printed.
    #[must_use]
    pub fn begin() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = Panics::default();
        let before = panic::take_hook();
        let record = Arc::clone(&panics);
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map_or_else(String::new, place);
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            *record.entry(place).or_default() += 1;
        }));
        Self {
            panics,
            longest: Duration::ZERO,
            before: Some(before),
            _one: one,
        }
    }

    /// Runs one case.
    ///
    /// # Errors
    /// That of the case, or if it panicked or took over a second each of several times.
    pub fn case<T>(&mut self, work: impl Fn() -> Result<T>) -> Result<T> {
        let mut least = Duration::MAX;
        for _ in 0..TRIES {
            let clock = Instant::now();
            let outcome = panic::catch_unwind(AssertUnwindSafe(&work));
            least = least.min(clock.elapsed());
            let Ok(result) = outcome else {
                let places: Vec<String> = self.record().keys().cloned().collect();
                bail!("it panicked (panics so far: {})", places.join(", "));
            };
            let result = result?;
            if least <= LONGEST {
                self.longest = self.longest.max(least);
                return Ok(result);
            }
        }
        bail!("it took {:.2} s", least.as_secs_f64());
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            longest: self.longest,
            caught: self.record().clone(),
        }
    }

    fn record(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(before) = self.before.take()
            && !std::thread::panicking()
        {
            panic::set_hook(before);
        }
    }
}

impl Seen {
    /// In a few words.
    #[must_use]
    pub fn note(&self) -> String {
        let mut note = format!("longest {:.0} ms", self.longest.as_secs_f64() * 1e3);
        for (place, count) in &self.caught {
            note += &format!(", {count} panics caught at {place}");
        }
        note
    }
}

/// Crate, file and line, without where the crate lies on this machine.
fn place(location: &panic::Location<'_>) -> String {
    let parts: Vec<&str> = location.file().split(['/', '\\']).collect();
    let start = parts.iter().rposition(|part| *part == "src").unwrap_or(1);
    let short = parts[start.saturating_sub(1)..].join("/");
    format!("{short}:{}", location.line())
}
