//! A run's events on stderr.

use ddpm_train::{Cause, Event};

use super::show;
use crate::terminal::{self, Progress, Update};

/// Shows a run's events on stderr.
pub struct Watcher<'a> {
    quiet: bool,
    device: &'a str,
    total: u64,
    steps: Option<Progress>,
    last: Update,
    sampling: Option<Progress>,
}

impl<'a> Watcher<'a> {
    /// Nothing has been seen yet.
    pub fn new(quiet: bool, device: &'a str) -> Self {
        Self {
            quiet,
            device,
            total: 0,
            steps: None,
            last: Update::default(),
            sampling: None,
        }
    }

    /// Shows one event.
    pub fn see(&mut self, event: &Event) {
        match event {
            Event::Started {
                data,
                model,
                run,
                done,
                total,
            } => {
                if !self.quiet {
                    terminal::show(&format!(
                        "data     {data}\nnetwork  {model}\ndevice   {}\n",
                        self.device,
                    ));
                    if let Some(run) = run {
                        terminal::show(&format!("run      {}\n", run.display()));
                    }
                    if *done > 0 {
                        terminal::show(&format!("resumed at step {done} of {total}\n"));
                    }
                }
                self.total = *total;
                self.steps = Some(Progress::start(*done, *total, self.quiet));
            }
            Event::Step {
                report,
                images_per_s,
                ..
            } => {
                self.last = Update {
                    step: report.step,
                    loss: Some(report.loss),
                    images_per_s: Some(*images_per_s),
                };
                if let Some(progress) = &mut self.steps {
                    progress.update(self.last);
                }
            }
            Event::Skipped {
                step,
                cause,
                value,
                consecutive,
            } => {
                let why = match cause {
                    Cause::Spike => format!("the loss jumped to {value:.4}"),
                    cause => format!("the {} is {value}", cause.quantity()),
                };
                tracing::warn!(
                    "step {step}: {why}; its update is skipped ({consecutive} in a row)"
                );
            }
            Event::RolledBack { from, to } => {
                tracing::warn!(
                    "too many updates skipped: from step {from} back to the checkpoint of step {to}"
                );
                self.steps = Some(Progress::start(*to, self.total, self.quiet));
            }
            Event::Sampling { done, total } => {
                let (quiet, total) = (self.quiet, *total as u64);
                let progress = self
                    .sampling
                    .get_or_insert_with(|| Progress::start(0, total, quiet));
                progress.update(Update {
                    step: *done as u64,
                    ..Update::default()
                });
            }
            Event::Sampled { images, path } => {
                self.sampling = None;
                if !self.quiet {
                    show(images);
                    terminal::show(&format!("samples  {}\n", path.display()));
                }
            }
            Event::Evaluated {
                step,
                figures,
                is_best,
            } => {
                self.sampling = None;
                if !self.quiet {
                    let figure = |(name, figure): (&&str, &f64)| {
                        format!("{} {figure:.4}", name.replace('_', " "))
                    };
                    let figures: Vec<String> = figures.iter().map(figure).collect();
                    let best = if *is_best { " (the best so far)" } else { "" };
                    terminal::show(&format!("step {step}  {}{best}\n", figures.join(", ")));
                }
            }
            Event::Saved { path } => {
                tracing::info!("checkpoint {}", path.display());
            }
        }
    }
}
