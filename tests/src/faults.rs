//! The faults and inputs that must do no harm, one row of a table each.
//!
//! `cargo xtask faults` runs every row at its full count and prints the table; `tests/faults.rs` runs the
//! quick form of each row as a test.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How often each fault is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As often as a test can afford.
    Quick,
    /// As often as the table says.
    Full,
}

impl Form {
    /// The count of this form.
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// What a row found when everything held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many faults or inputs were tried.
    pub count: u64,
    /// Figures worth printing, in a few words; may be empty.
    pub note: String,
}

impl Held {
    /// `count` cases, nothing else to say.
    pub fn times(count: u64) -> Self {
        Self {
            count,
            note: String::new(),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number in the table.
    pub number: u8,
    /// The fault or input.
    pub fault: &'static str,
    /// What must hold.
    pub holds: &'static str,
    /// Only in the full form.
    pub full_only: bool,
    /// Tries it; an error says what did not hold.
    pub check: fn(Form) -> Result<Held>,
}

/// A row that was run.
#[derive(Debug)]
pub struct Ran {
    /// The row.
    pub row: Row,
    /// What it found, or what did not hold.
    pub outcome: Result<Held>,
    /// How long it took.
    pub time: Duration,
}

impl Row {
    /// Runs it.
    pub fn run(self, form: Form) -> Ran {
        let clock = Instant::now();
        let outcome = (self.check)(form);
        Ran {
            row: self,
            outcome,
            time: clock.elapsed(),
        }
    }
}

/// All rows, by number.
pub fn rows() -> Vec<Row> {
    vec![]
}
