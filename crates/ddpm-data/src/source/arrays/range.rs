//! What the numbers of an array span: said by `data.range`, or decided from all of them, or refused.

use std::path::Path;

use super::Arrays;
use crate::config::{FloatRange, OnBad};
use crate::error::{DataError, Fault};

/// How far, as a part of the range, a number may lie outside it: rounding in whatever wrote the file.
const TOLERANCE: f32 = 1e-3;
/// How far, as a part of the range, resampling may have thrown a number outside it: for what is said of a refused set.
const OVERSHOOT: f32 = 0.25;

/// The numbers that black and white stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::source) struct Range {
    pub(in crate::source) low: f32,
    pub(in crate::source) high: f32,
}

const UNIT: Range = Range::new(0.0, 1.0);
const SIGNED: Range = Range::new(-1.0, 1.0);
const BYTES: Range = Range::new(0.0, 255.0);
const WORDS: Range = Range::new(0.0, 65535.0);
/// What a user may mean, and how `data.range` says it.
const READINGS: [(Range, &str); 6] = [
    (UNIT, "\"unit\""),
    (SIGNED, "\"signed\""),
    (BYTES, "\"bytes\""),
    (Range::new(0.0, 1023.0), "[0, 1023]"),
    (Range::new(0.0, 4095.0), "[0, 4095]"),
    (WORDS, "[0, 65535]"),
];

impl Range {
    pub(in crate::source) const fn new(low: f32, high: f32) -> Self {
        Self { low, high }
    }

    /// A number of the range as one of [0, 1]; what lies outside is clamped, what is not finite refused.
    pub(in crate::source) fn to_unit(self, value: f32) -> Result<f32, Fault> {
        check_finite(value)?;
        Ok(((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }

    /// Whether all of `extent` lies within it, but for `slack` as a part of it.
    fn holds(self, extent: Self, slack: f32) -> bool {
        let slack = (self.high - self.low) * slack;
        extent.low >= self.low - slack && extent.high <= self.high + slack
    }

    fn said(range: FloatRange) -> Option<Self> {
        match range {
            FloatRange::Auto => None,
            FloatRange::Signed => Some(SIGNED),
            FloatRange::Unit => Some(UNIT),
            FloatRange::Bytes => Some(BYTES),
            FloatRange::Between([low, high]) => Some(Self::new(low, high)),
        }
    }
}

fn check_finite(value: f32) -> Result<(), Fault> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Fault::Bad(format!(
        "holds the value {value}, which is not finite"
    )))
}

/// The range of the numbers of `arrays`, of which it reads all.
///
/// # Errors   the first image with a number that is not finite, unless bad images are skipped;
/// [`DataError::Unread`] if nothing says the range and the numbers leave it open
pub(in crate::source) fn of(
    path: &Path,
    arrays: &Arrays,
    float: bool,
    range: FloatRange,
    on_bad: OnBad,
) -> Result<Range, DataError> {
    let said = Range::said(range);
    let mut extent: Option<Range> = None;
    let (mut outside, mut total) = (0u64, 0u64);
    for index in 0..arrays.len() {
        let at = |fault: Fault| fault.at(arrays.path_of(index));
        let values = arrays.numbers(index).map_err(at)?;
        match values.iter().try_for_each(|&value| check_finite(value)) {
            Err(fault) if on_bad == OnBad::Error => return Err(at(fault)),
            // it will be skipped, so it has no say
            Err(_) => continue,
            Ok(()) => {}
        }
        for value in values {
            let one = Range::new(value, value);
            extent = Some(extent.map_or(one, |all| {
                Range::new(all.low.min(value), all.high.max(value))
            }));
            outside += u64::from(said.is_some_and(|said| !said.holds(one, TOLERANCE)));
            total += 1;
        }
    }
    let Some(extent) = extent else {
        // every image is bad, which is said where they are skipped
        return Ok(said.unwrap_or(UNIT));
    };
    match said {
        None => decide(extent, float).map_err(|(what, remedy)| DataError::Unread {
            path: path.to_path_buf(),
            what,
            remedy,
        }),
        Some(said) => {
            if outside > 0 {
                tracing::warn!(
                    "{}: {outside} of {total} values lie outside {} to {} (data.range): they reach from {} to {}, and are clamped",
                    path.display(),
                    said.low,
                    said.high,
                    extent.low,
                    extent.high
                );
            }
            Ok(said)
        }
    }
}

/// The one range that numbers of this extent can be of, or what is wrong and what to do.
///
/// A range that they use too little of is not taken for theirs: 0 to 1.06 is no dark set of bytes, -0.06 to 1 no bright
/// one of [-1, 1], and 0 to 0.004 was divided by 255 twice.
fn decide(extent: Range, float: bool) -> Result<Range, (String, String)> {
    let constant = extent.low == extent.high;
    let found = if constant {
        None
    } else if !float {
        (extent.high > 32767.0).then_some(WORDS)
    } else if UNIT.holds(extent, TOLERANCE) && extent.high >= 0.0625 {
        Some(UNIT)
    } else if SIGNED.holds(extent, TOLERANCE) && extent.low <= -0.75 {
        Some(SIGNED)
    } else if BYTES.holds(extent, TOLERANCE) && extent.high > 127.5 {
        Some(BYTES)
    } else {
        None
    };
    if let Some(range) = found {
        return Ok(range);
    }
    let Range { low, high } = extent;
    let numbers = if float { "floats" } else { "16-bit numbers" };
    let what = match constant {
        true => format!("every value is {low}"),
        false => format!("holds {numbers} from {low} to {high}"),
    };
    let smallest = READINGS
        .iter()
        .find(|(range, _)| range.holds(extent, OVERSHOOT));
    let possible = |reading: &&(Range, &str)| {
        let range = reading.0;
        let is_smallest = smallest == Some(*reading) && low >= 0.0;
        if !float && (range == SIGNED || range == WORDS) {
            return range == WORDS;
        }
        if constant && range.high <= BYTES.high {
            return range.holds(extent, TOLERANCE);
        }
        let filled = high - low >= (range.high - range.low) / 2.0;
        range.holds(extent, OVERSHOOT) && (filled || is_smallest)
    };
    let (ranges, settings): (Vec<String>, Vec<&str>) = READINGS
        .iter()
        .filter(possible)
        .map(|(range, setting)| (format!("[{}, {}]", range.low, range.high), *setting))
        .unzip();
    let clamped = "values outside it are clamped";
    if ranges.is_empty() {
        return Err((
            format!("{what}, which fills none of [0, 1], [-1, 1] and [0, 255]"),
            format!("set data.range = [low, high] to the values of black and white; {clamped}"),
        ));
    }
    Err((
        format!("{what}, which may be of {}", ranges.join(" or ")),
        format!(
            "set data.range = {}, or [low, high], the values of black and white; {clamped}",
            settings.join(" or ")
        ),
    ))
}

#[cfg(test)]
mod tests;
