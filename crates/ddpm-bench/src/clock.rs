//! Times work that a device may still be at when it has been told to do it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::place::Place;

/// How often work is repeated.
#[derive(Debug, Clone, Args)]
pub struct Pace {
    /// Windows that are measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Repetitions in a window; the device is waited for only at its end
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub window: u32,
    /// Repetitions before them: kernels are compiled and tuned in the first ones
    #[arg(long, default_value_t = 2)]
    pub warmup: u32,
    /// Begin no new window after these seconds
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
}

/// What the windows took.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Seconds of a repetition, in each window.
    pub seconds: Vec<f64>,
    /// Seconds of all repetitions before the windows.
    pub warmup_s: f64,
    /// When the windows began and ended, in seconds since 1970, to find them in what others recorded.
    pub unix_s: [f64; 2],
}

impl Pace {
    /// Repeats `work`, which is given what it returned the last time.
    ///
    /// # Errors   those of the work, and what the device reports
    pub fn measure<S>(
        &self,
        place: &Place,
        mut state: S,
        mut work: impl FnMut(S) -> anyhow::Result<S>,
    ) -> anyhow::Result<(S, Measured)> {
        let begun = Instant::now();
        for _ in 0..self.warmup {
            state = work(state)?;
        }
        place.wait()?;
        let (warmup_s, measuring, from) = (begun.elapsed(), Instant::now(), unix_s());
        let mut seconds = Vec::new();
        for _ in 0..self.steps {
            let clock = Instant::now();
            for _ in 0..self.window {
                state = work(state)?;
            }
            place.wait()?;
            seconds.push(clock.elapsed().as_secs_f64() / f64::from(self.window));
            let spent = measuring.elapsed().as_secs_f64();
            if self.seconds.is_some_and(|limit| spent > limit) {
                break;
            }
        }
        let measured = Measured {
            seconds,
            warmup_s: warmup_s.as_secs_f64(),
            unix_s: [from, unix_s()],
        };
        Ok((state, measured))
    }
}

impl Measured {
    /// Adds the figures of `name` to a line.
    pub fn write(&self, line: &mut Map<String, Value>, name: &str, step: &str, batch: u32) {
        let median = median(&self.seconds);
        let mut put = |key: String, value: Value| line.insert(key, value);
        put(format!("{name}{step}_s"), json!(median));
        put(
            format!("{name}_images_per_s"),
            json!(f64::from(batch) / median),
        );
        put(format!("{name}_seconds_by_step"), json!(self.seconds));
        put(format!("{name}_warmup_s"), json!(self.warmup_s));
        put(format!("{name}_unix_s"), json!(self.unix_s));
    }
}

fn unix_s() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |time| time.as_secs_f64())
}

/// The middle one, or the mean of the two in the middle.
fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::cpu;

    fn pace(seconds: Option<f64>) -> Pace {
        Pace {
            steps: 3,
            window: 4,
            warmup: 2,
            seconds,
        }
    }

    #[test]
    fn windows_are_counted() {
        for (limit, windows) in [(None, 3), (Some(1e9), 3), (Some(0.0), 1)] {
            let (count, measured) = pace(limit)
                .measure(&cpu(), 0, |count| Ok(count + 1))
                .unwrap();
            assert_eq!(measured.seconds.len(), windows);
            assert_eq!(count, 2 + 4 * windows);
            assert!(measured.unix_s[0] <= measured.unix_s[1], "{measured:?}");
        }
        let stopped = pace(None).measure(&cpu(), (), |()| Err(anyhow::anyhow!("no")));
        assert_eq!(stopped.unwrap_err().to_string(), "no");
    }

    #[test]
    fn a_line_has_the_keys_of_the_peer() {
        let measured = Measured {
            seconds: vec![0.5, 0.25, 1.0],
            warmup_s: 3.0,
            unix_s: [1.0, 2.0],
        };
        let mut line = Map::new();
        measured.write(&mut line, "train", "_step", 8);
        assert_eq!(line["train_step_s"], 0.5);
        assert_eq!(line["train_images_per_s"], 16.0);
        assert_eq!(line["train_unix_s"], json!([1.0, 2.0]));
        measured.write(&mut line, "forward", "", 8);
        assert_eq!(line["forward_s"], 0.5);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }
}
