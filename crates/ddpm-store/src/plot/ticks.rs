//! Where an axis begins and ends, and which of its values are written beside it.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// A linear axis; a logarithmic one is linear in log10.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
    style: Labels,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Labels {
    /// Plain numbers with so many decimals.
    Decimals(usize),
    /// 1.5e-7, for what would need too many.
    Scientific,
    /// 10^tick.
    Decades,
}

/// At most about this many steps an axis.
const TICKS: f64 = 5.0;
const DECADES: f64 = 8.0;

impl Axis {
    /// Ticks at 1, 2 or 5 times a power of ten; with `room`, a little space beyond the values.
    pub(super) fn linear(values: impl Iterator<Item = f64>, room: bool) -> Self {
        let (low, high) = range(values);
        let step = nice_step((high - low) / TICKS);
        let margin = if room { (high - low) * 0.04 } else { 0.0 };
        let (low, high) = (low - margin, high + margin);
        let magnitude = low.abs().max(high.abs());
        let style = match (-step.log10().floor()).max(0.0) {
            _ if magnitude >= 1e6 => Labels::Scientific,
            decimals if decimals <= 4.0 => Labels::Decimals(decimals as usize),
            _ => Labels::Scientific,
        };
        Self {
            low,
            high,
            ticks: multiples(step, low, high),
            style,
        }
    }

    /// `values` are log10: ticks at whole powers of ten.
    pub(super) fn decades(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
        let step = nice_step((high - low) / DECADES).max(1.0).round();
        Self {
            low,
            high,
            ticks: multiples(step, low, high),
            style: Labels::Decades,
        }
    }

    fn label(&self, value: f64) -> String {
        match self.style {
            Labels::Decimals(decimals) => format!("{:.decimals$}", value + 0.0),
            Labels::Scientific => format!("{value:.1e}"),
            Labels::Decades => match value.round() as i64 {
                exponent @ -2..=3 => format!("{}", 10_f64.powi(exponent as i32)),
                exponent => format!("1e{exponent}"),
            },
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

/// The values' ends, pulled apart where they are one value, and 0 to 1 where there is none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    // Differences of two finite numbers stay finite below this.
    const LIMIT: f64 = 1e300;
    let (low, high) = values
        .map(|value| value.clamp(-LIMIT, LIMIT))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
    let least = low.abs().max(high.abs()) * 1e-9;
    match high - low {
        _ if low > high => (0.0, 1.0),
        width if width > least => (low, high),
        _ => {
            let half = if low == 0.0 { 0.5 } else { low.abs() / 2.0 };
            (low - half, high + half)
        }
    }
}

/// The least of 1, 2, 5, 10, … times a power of ten that is not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= rough * 0.999_999);
    factor.unwrap_or(10.0) * power
}

fn multiples(step: f64, low: f64, high: f64) -> Vec<f64> {
    let slack = step * 1e-9;
    let first = ((low - slack) / step).ceil();
    let ticks = (0..20).map(|k| (first + f64::from(k)) * step);
    ticks.take_while(|tick| *tick <= high + slack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let cases: [(&[f64], &[&str]); 5] = [
            (&[0.0, 999.0], &["0", "200", "400", "600", "800"]),
            (&[0.0, 1.0], &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (&[1e-4, 0.02], &["0.005", "0.010", "0.015", "0.020"]),
            (
                &[0.0, 1e-7],
                &["0.0e0", "2.0e-8", "4.0e-8", "6.0e-8", "8.0e-8", "1.0e-7"],
            ),
            (&[-1.0, 1.0], &["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ];
        for (values, expected) in cases {
            assert_eq!(
                labels(&Axis::linear(values.iter().copied(), false)),
                expected
            );
        }
    }

    #[test]
    fn decades_are_whole_powers() {
        let axis = Axis::decades([-4.4, 3.9].into_iter());
        assert_eq!((axis.low, axis.high), (-5.0, 4.0));
        assert_eq!(labels(&axis), ["1e-4", "0.01", "1", "100", "1e4"]);
        let narrow = Axis::decades([0.2, 0.3].into_iter());
        assert_eq!(labels(&narrow), ["1", "10"]);
    }

    #[test]
    fn degenerate_ranges_still_make_an_axis() {
        let cases: [&[f64]; 6] = [
            &[],
            &[0.0],
            &[7.0, 7.0],
            &[-1e300, f64::MAX],
            &[1e-300],
            &[1.0, 1.0 + 1e-15],
        ];
        for values in cases {
            for axis in [
                Axis::linear(values.iter().copied(), true),
                Axis::linear(values.iter().copied(), false),
            ] {
                assert!(
                    axis.low < axis.high && axis.ticks.len() <= 20,
                    "{values:?}: {axis:?}"
                );
                assert!((axis.high - axis.low).is_finite());
            }
        }
    }
}
