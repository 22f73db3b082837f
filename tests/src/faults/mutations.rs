//! Row 15: random mutations of every format.

use anyhow::{Context, Result};

use super::{Form, Passed};
use crate::hostile::{Format, Input, Watch, corpus, parse};

/// Mutations of the seed corpora, of each format equally many.
///
/// # Errors
/// The first case that panicked, took over a second, or was refused without a sentence.
pub fn mutations(form: Form) -> Result<Passed> {
    let cases = form.pick(100, 10_000);
    let mut watch = Watch::begin();
    let scratch = tempfile::tempdir()?;
    let mut taken = 0;
    for format in Format::ALL {
        let seeds: Vec<Vec<u8>> = corpus(format)?
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        for case in 0..cases {
            let bytes = mutated(&seeds, &mut Random::new(format as u64, case));
            let fed = watch
                .case(|| parse(format, &bytes, scratch.path()))
                .with_context(|| format!("{} case {case}", format.name()))?;
            taken += u64::from(fed == Input::Taken);
        }
    }
    let count = cases * Format::ALL.len() as u64;
    Ok(Passed {
        count,
        note: format!(
            "{} formats, {taken} still taken, {}",
            Format::ALL.len(),
            watch.seen().note()
        ),
    })
}

/// Numbers that files like to be wrong by.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX >> 1,
    1 << 63,
    u64::MAX,
];

/// One of the seeds, changed in one to four ways.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    let changes = [1, 1, 2, 4][random.below(4)];
    for _ in 0..changes {
        let other = &seeds[random.below(seeds.len())];
        change(&mut bytes, other, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let rest = bytes.len() - at;
    let length = random.below(rest.min(64) + 1);
    match random.below(10) {
        // One bit.
        0 | 1 if rest > 0 => bytes[at] ^= 1 << random.below(8),
        // One byte.
        2 if rest > 0 => bytes[at] = random.next() as u8,
        // A number of 1, 2, 4 or 8 bytes, in either order.
        3 | 4 => {
            let width = (1 << random.below(4)).min(rest);
            let number = NUMBERS[random.below(NUMBERS.len())];
            let little = number.to_le_bytes();
            let big = &number.to_be_bytes()[8 - width..];
            let chosen = if random.below(2) == 0 {
                &little[..width]
            } else {
                big
            };
            bytes[at..at + width].copy_from_slice(chosen);
        }
        // A number in digits, where there are some.
        5 => {
            let digits = bytes[at..].iter().position(u8::is_ascii_digit);
            if let Some(start) = digits.map(|found| at + found) {
                let end = bytes[start..]
                    .iter()
                    .position(|byte| !byte.is_ascii_digit())
                    .map_or(bytes.len(), |found| start + found);
                let number = NUMBERS[random.below(NUMBERS.len())];
                let number = match random.below(4) {
                    0 => format!("-{number}"),
                    1 => format!("{number}e{}", random.below(400)),
                    _ => number.to_string(),
                };
                bytes.splice(start..end, number.into_bytes());
            }
        }
        // The end cut off.
        6 => bytes.truncate(at),
        // A piece left out.
        7 => drop(bytes.drain(at..at + length)),
        // A piece of another seed, or of this one, put in.
        8 => {
            let from = random.below(other.len() + 1);
            let piece = other[from..other.len().min(from + 64)].to_vec();
            bytes.splice(at..at + length.min(rest), piece);
        }
        // A piece repeated.
        _ => {
            let piece = bytes[at..at + length].repeat(1 + random.below(8));
            bytes.splice(at..at, piece);
        }
    }
}

/// A stream of numbers that is a function of (stream, case): SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn new(stream: u64, case: u64) -> Self {
        let mut random = Self((stream << 48) ^ case);
        // Neighbouring states give unlike streams after one step.
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}
