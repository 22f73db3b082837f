//! `ddpm schedule`.

use anyhow::Result;
use ddpm_schedule::{ProcessConfig, Schedule};
use ddpm_store::plot::{Panel, plot_lines};
use ddpm_train::TrainError;
use serde_json::json;

use super::{Report, shown};
use crate::args::ScheduleArgs;
use crate::exit::UsageError;
use crate::recipe;

/// Prints a noise schedule as a table, and plots it.
///
/// # Errors   usage errors for impossible schedules, format errors for the plot
pub fn schedule(args: &ScheduleArgs) -> Result<Report> {
    let mut config = match &args.config {
        Some(path) => {
            let config = recipe::read(Some(path), &[], None)?.config;
            if config.process != (ProcessConfig::Discrete {}) {
                return Err(UsageError(format!(
                    "{}: its process has no table of beta; leave --config out, or name a recipe of the process \
                     \"discrete\"",
                    path.display()
                ))
                .into());
            }
            config.schedule
        }
        None => ddpm_schedule::ScheduleConfig::default(),
    };
    if let Some(kind) = args.kind {
        config.kind = kind.into();
    }
    config.steps = args.steps.unwrap_or(config.steps);
    config.beta_start = args.beta_start.unwrap_or(config.beta_start);
    config.beta_end = args.beta_end.unwrap_or(config.beta_end);
    config.scale_ends |= args.scale_ends;
    config.zero_terminal_snr |= args.zero_terminal_snr;
    if let Some(key) = config.unheeded() {
        let option = key.replace('_', "-");
        return Err(UsageError(format!(
            "--{option} says nothing of a table of this kind; remove it, or choose another --kind"
        ))
        .into());
    }
    let schedule = config.build().map_err(|source| TrainError::Schedule {
        section: "the schedule",
        source,
    })?;

    let mut text = format!(
        "{:>6}  {:>12}  {:>12}  {:>12}\n",
        "t", "beta", "alpha_bar", "snr"
    );
    for t in rows(schedule.len(), args.rows) {
        text += &format!(
            "{t:>6}  {:>12.6e}  {:>12.6e}  {:>12.6e}\n",
            schedule.beta(t),
            schedule.alpha_bar(t),
            schedule.snr(t)
        );
    }
    if let Some(path) = &args.plot {
        plot_lines(path, &panels(&schedule))?;
        text += &format!("plot  {}\n", path.display());
    }
    let json = json!({
        "schedule": config,
        "beta": schedule.betas(),
        "alpha_bar": schedule.alpha_bars(),
        "plot": args.plot.as_deref().map(shown),
    });
    Ok(Report::done(text, json))
}

/// `count` time steps from 0 to T-1, evenly spread.
fn rows(steps: usize, count: usize) -> Vec<usize> {
    let count = count.clamp(1, steps);
    let mut rows: Vec<usize> = (0..count)
        .map(|i| (i * (steps - 1)) / (count - 1).max(1))
        .collect();
    rows.dedup();
    rows
}

fn panels(schedule: &Schedule) -> [Panel; 3] {
    let line = |value: &dyn Fn(usize) -> f64| {
        (0..schedule.len())
            .map(|t| (t as f64, value(t)))
            .filter(|(_, y)| y.is_finite())
            .collect::<Vec<_>>()
    };
    let panel = |title: &str, y_log, points: Vec<(f64, f64)>| Panel {
        title: title.to_owned(),
        x_label: "t".to_owned(),
        y_log,
        series: vec![(String::new(), points)],
    };
    // A logarithm has no place for the SNR of 0 at a zero terminal step.
    let mut snr = line(&|t| schedule.snr(t));
    snr.retain(|(_, y)| *y > 0.0);
    [
        panel(
            "signal kept: alpha_bar(t)",
            false,
            line(&|t| schedule.alpha_bar(t)),
        ),
        panel("noise added: beta(t)", false, line(&|t| schedule.beta(t))),
        panel("signal-to-noise ratio: snr(t)", true, snr),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_reach_both_ends() {
        assert_eq!(rows(1000, 3), [0, 499, 999]);
        assert_eq!(rows(1, 11), [0]);
        assert_eq!(rows(3, 11), [0, 1, 2]);
        assert_eq!(rows(10, 1), [0]);
    }
}
