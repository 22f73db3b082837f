//! How far a long task is: a live line at a terminal, now and then a plain line elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::LIVE;

/// Where a task stands after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// Steps done, those before a resume included.
    pub step: u64,
    /// The loss, if the task has one.
    pub loss: Option<f64>,
    /// Images per second, if the task counts images.
    pub images_per_s: Option<f64>,
}

/// The progress of one task, on stderr.
#[derive(Debug)]
pub struct Progress {
    from: u64,
    total: u64,
    start: Instant,
    form: Form,
}

/// How the progress is shown.
#[derive(Debug)]
enum Form {
    /// A line that is drawn over itself.
    Live(ProgressBar),
    /// Lines at a calm rhythm: for files, pipes and dumb terminals.
    Plain(Rhythm),
    /// Nothing at all.
    Quiet,
}

impl Progress {
    /// Starts showing a task that goes from step `from` to step `total`; a `quiet` one shows
    /// nothing.
    pub fn start(from: u64, total: u64, quiet: bool) -> Self {
        let form = if quiet {
            Form::Quiet
        } else if io::stderr().is_terminal() {
            Form::Live(live(from, total))
        } else {
            Form::Plain(Rhythm::default())
        };
        Self {
            from,
            total,
            start: Instant::now(),
            form,
        }
    }

    /// Shows where the task stands.
    pub fn update(&mut self, update: Update) {
        let elapsed = self.start.elapsed();
        let (from, total) = (self.from, self.total);
        match &mut self.form {
            Form::Live(bar) => {
                bar.set_position(update.step);
                bar.set_message(line(update, from, total, elapsed));
            }
            Form::Plain(rhythm) => {
                if rhythm.due(update.step, from, total, elapsed) {
                    // That stderr is gone is no reason to stop training.
                    let _ = writeln!(io::stderr(), "{}", line(update, from, total, elapsed));
                }
            }
            Form::Quiet => {}
        }
    }
}

impl Drop for Progress {
    /// An error on the way must not leave half a line behind its message.
    fn drop(&mut self) {
        if let Form::Live(bar) = &self.form {
            bar.finish_and_clear();
            LIVE.remove(bar);
        }
    }
}

/// The live line. It is drawn at most ten times a second.
fn live(from: u64, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
    let bar = LIVE.add(bar);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_position(from);
    bar
}

/// `step 120/2000, loss 0.0412, 350 images/s, 4 min 5 s left`.
fn line(update: Update, from: u64, total: u64, elapsed: Duration) -> String {
    let mut parts = vec![format!("step {}/{total}", update.step)];
    parts.extend(update.loss.map(|loss| format!("loss {loss:.4}")));
    parts.extend(update.images_per_s.map(|speed| {
        let digits = if speed < 10.0 { 2 } else { 0 };
        format!("{speed:.digits$} images/s")
    }));
    parts.extend(time_left(update.step, from, total, elapsed).map(|left| format!("{left} left")));
    parts.join(", ")
}

/// The time that the remaining steps take at the mean speed so far; none before the first step
/// or after the last.
fn time_left(step: u64, from: u64, total: u64, elapsed: Duration) -> Option<String> {
    let done = step.checked_sub(from).filter(|done| *done > 0)?;
    let left = total.checked_sub(step).filter(|left| *left > 0)?;
    let seconds = elapsed.as_secs_f64() * left as f64 / done as f64;
    Some(rounded(seconds))
}

/// A duration by its two largest units.
pub fn rounded(seconds: f64) -> String {
    // Saturates, which is good enough for a duration of more than the age of the universe.
    let seconds = seconds.ceil() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// When a plain line is due: the first and the last step always; between them with at least 5 s
/// from line to line, after each tenth of the task or after 30 s.
#[derive(Clone, Copy, Debug, Default)]
struct Rhythm {
    last: Option<(u64, Duration)>,
}

impl Rhythm {
    const LEAST: Duration = Duration::from_secs(5);
    const MOST: Duration = Duration::from_secs(30);

    fn due(&mut self, step: u64, from: u64, total: u64, elapsed: Duration) -> bool {
        let due = match self.last {
            None => true,
            Some((last, _)) if step >= total => last < total,
            Some((last, at)) => {
                let pause = elapsed.saturating_sub(at);
                let tenth = step.saturating_sub(last) >= total.saturating_sub(from).div_ceil(10);
                pause >= Self::MOST || (pause >= Self::LEAST && tenth)
            }
        };
        if due {
            self.last = Some((step, elapsed));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_says_what_is_known() {
        let full = Update {
            step: 120,
            loss: Some(0.041_23),
            images_per_s: Some(350.4),
        };
        let bare = Update {
            step: 100,
            ..Update::default()
        };
        let slow = Update {
            images_per_s: Some(1.234),
            ..bare
        };
        let cases = [
            (
                full,
                100,
                "step 120/2000, loss 0.0412, 350 images/s, 15 min 40 s left",
            ),
            (bare, 100, "step 100/2000"),
            (slow, 0, "step 100/2000, 1.23 images/s, 3 min 10 s left"),
        ];
        for (update, from, text) in cases {
            assert_eq!(line(update, from, 2000, seconds(10)), text);
        }
        assert_eq!(
            line(Update { step: 5, ..bare }, 0, 5, seconds(1)),
            "step 5/5"
        );
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [
            (0.2, "1 s"),
            (59.0, "59 s"),
            (60.0, "1 min 0 s"),
            (3_725.0, "1 h 2 min"),
            (200_000.0, "2 d 7 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(rounded(seconds), text);
        }
    }

    /// The steps at which a task of `total` steps, one a `period`, says something.
    fn lines(total: u64, period: Duration) -> Vec<u64> {
        let mut rhythm = Rhythm::default();
        (1..=total)
            .filter(|&step| {
                let elapsed = period * u32::try_from(step).unwrap();
                rhythm.due(step, 0, total, elapsed)
            })
            .collect()
    }

    #[test]
    fn plain_lines_keep_a_calm_rhythm() {
        // A short task: its first and last step.
        assert_eq!(lines(100, Duration::from_millis(10)), [1, 100]);
        // Each tenth, where that takes 5 to 30 s.
        assert_eq!(lines(10, seconds(6)), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        // A slow task: every 30 s.
        assert_eq!(lines(100, seconds(10))[..4], [1, 4, 7, 10]);
        // A fast one: no more than one in 5 s.
        let fast = lines(1000, Duration::from_millis(20));
        assert!(
            fast.windows(2)
                .all(|pair| pair[1] - pair[0] >= 250 || pair[1] == 1000)
        );
        assert_eq!(lines(1, seconds(1)), [1]);
    }

    #[test]
    fn a_task_may_be_shown_in_every_form() {
        for quiet in [true, false] {
            let mut progress = Progress::start(10, 20, quiet);
            for step in 11..=20 {
                progress.update(Update {
                    step,
                    loss: Some(1.0),
                    images_per_s: None,
                });
            }
            drop(progress);
        }
        let live = Progress {
            from: 0,
            total: 3,
            start: Instant::now(),
            form: Form::Live(super::live(0, 3)),
        };
        super::super::above_progress(|| {});
        drop(live);
    }
}
