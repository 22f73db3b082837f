//! The faults and inputs that must do no harm, one row of a table each.
//!
//! `cargo xtask faults` runs every row at its full count and prints the table; `tests/faults.rs` runs the
//! quick form of each row as a test.

mod bad_images;
mod bombs;
mod damage;
mod disk;
mod endurance;
mod kills;
mod measured;
mod mutations;
mod numbers;
mod pickles;
mod ranks;
mod sameness;
mod signals;
mod surroundings;
mod table;
mod tensors;
mod toy;
mod typos;

use std::time::{Duration, Instant};

use anyhow::Result;

pub use table::table;
pub use toy::choose as choose_objective;

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
pub struct Passed {
    /// How many faults or inputs were tried.
    pub count: u64,
    /// Figures worth printing, in a few words; may be empty.
    pub note: String,
}

impl Passed {
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
    pub check: fn(Form) -> Result<Passed>,
}

/// A row that was run.
#[derive(Debug)]
pub struct Ran {
    /// The row.
    pub row: Row,
    /// What it found, or what did not hold.
    pub outcome: Result<Passed>,
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
    let row = |number, fault, holds, check| Row {
        number,
        fault,
        holds,
        full_only: false,
        check,
    };
    vec![
        row(
            1,
            "SIGKILL at each point of the commit",
            "resumed: weights, EMA, moments byte-identical, metric log equal",
            kills::at_each_point,
        ),
        row(
            2,
            "SIGKILL at a random time",
            "the same",
            kills::at_random_times,
        ),
        row(
            3,
            "the N-th change to the disk fails, N = 1, 2, … until clean",
            "exit 4 naming path and cause; resumed byte-identical; no temporary left",
            disk::fails,
        ),
        row(
            4,
            "each checkpoint file cut at each 1/64 of its length",
            "detected; the one before it is used, and that is said",
            damage::cuts,
        ),
        row(5, "one random bit flipped", "detected", damage::bits),
        row(
            6,
            "missing file, mixed steps, future schema, another configuration",
            "refused, cause named",
            damage::mixed,
        ),
        row(
            7,
            "SIGTERM, SIGINT, SIGHUP in a step; a second SIGINT",
            "checkpoint of that very step, exit 75; the second ends at once",
            signals::stops,
        ),
        row(
            8,
            "two processes on one run directory",
            "the second refuses",
            signals::two_processes,
        ),
        row(
            9,
            "NaN, Inf in loss, gradient, batch, parameter",
            "step skipped, state bit-unchanged, logged; too many: exit 5, last good checkpoint intact",
            numbers::go_bad,
        ),
        row(
            10,
            "gradient accumulation 1, 2, 4",
            "gradients within 1e-5 relative",
            sameness::accumulation,
        ),
        row(
            11,
            "same seed twice; 1 and 2 threads",
            "bit-equal; within 1e-5",
            sameness::repetition,
        ),
        row(
            12,
            "bad images, 1% of a set: 0 bytes, cut, another extension, HTML; CMYK, 16 bits, 1×1, turned by EXIF",
            "exit 3 with the path, or read right; left out: exact count, order of the rest unchanged",
            bad_images::bad_images,
        ),
        row(
            13,
            "bombs: sizes claimed by PNG, JPEG, WebP, GIF, BMP, TIFF, IDX, NumPy; zip, npz, gzip of 1000:1; metadata; logs",
            "refused within 1 s, peak memory within 64 MB of normal",
            bombs::bombs,
        ),
        row(
            14,
            "safetensors: header of 2^63, 100k tensors, overlap, gap, overflow, name twice, UTF-8, type, keys",
            "exit 4 with the file within 1 s, from every command",
            tensors::tensors,
        ),
        row(
            15,
            "random mutations of sixteen formats, equally many of each",
            "no panic, nothing over 1 s",
            mutations::mutations,
        ),
        row(
            16,
            "a slip in every configuration key",
            "exit 2, the key and the nearest name",
            typos::typos,
        ),
        row(
            17,
            "stdout closed; read-only run directory; path not UTF-8",
            "exit 0; 4; works",
            surroundings::are_odd,
        ),
        Row {
            full_only: true,
            ..row(
                18,
                "10,000 steps",
                "memory grows by less than 5%, open files constant",
                endurance::lasts,
            )
        },
        row(
            19,
            "SIGKILL of a random rank of 2 to 4 processes",
            "the job ends; resumed with another number of ranks, byte-identical",
            ranks::killed,
        ),
        row(
            23,
            "hostile .pt and .pkl: programs, bombs, loops, lengths and views over the file, cuts",
            "exit 4 with the file within 1 s, peak memory within 64 MB of normal; nothing is run",
            pickles::pickles,
        ),
    ]
}
