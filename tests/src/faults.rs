//! The faults and inputs that must do no harm, one row of a table each.
//!
//! `cargo xtask faults` runs every row at its full count and prints the table; `tests/faults.rs` runs the
//! quick form of each row as a test.

mod bad_images;
mod bombs;
mod measured;
mod mutations;
mod tensors;
mod typos;

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
    vec![
        Row {
            number: 12,
            fault: "bad images: 0 bytes, truncated, wrong extension, CMYK, 16 bit, 1×1, EXIF rotation, HTML named .jpg",
            holds: "default: exit 3 with the path; on_bad = \"skip\": exact count reported, order of the rest unchanged",
            full_only: false,
            check: bad_images::bad_images,
        },
        Row {
            number: 13,
            fault: "decompression bombs: PNG claiming 60k×60k, zip entry of 1 GB, gzip 1000:1 and others",
            holds: "refused within 1 s, peak memory within 64 MB of normal",
            full_only: false,
            check: bombs::bombs,
        },
        Row {
            number: 14,
            fault: "safetensors: header length 2^63, 100k tensors, overlap, gap, overflowing shape, duplicate key, bad UTF-8, wrong dtype, extra and missing keys",
            holds: "typed error, no panic",
            full_only: false,
            check: tensors::tensors,
        },
        Row {
            number: 15,
            fault: "random mutations of weights, manifest, configuration, IDX, CIFAR, npz, zip and eight more formats",
            holds: "no panic, nothing over 1 s",
            full_only: false,
            check: mutations::mutations,
        },
        Row {
            number: 16,
            fault: "a typo in every configuration key",
            holds: "exit 2, the key and the nearest name",
            full_only: false,
            check: typos::typos,
        },
    ]
}
