//! What is measured end to end.

use super::process::Ran;

/// The networks, by the name of their configuration in `xtask/peer/configs`.
const SMALL: &str = "small-32";
const CIFAR: &str = "ddpm-cifar10-32";
const DIGITS: &str = "digits";

/// What one process does, and which of its figures are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// What it does.
    pub task: Task,
    /// A row of the table each.
    pub figures: Vec<Figure>,
}

/// What one process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Training steps and forward passes on images that are there.
    Network {
        /// The network.
        config: &'static str,
        /// Images at a time.
        batch: u32,
        /// Repetitions that are measured.
        steps: u32,
        /// Repetitions before them.
        warmup: u32,
    },
    /// DDIM sampling from a model on disk to a PNG.
    Sampling {
        /// The network.
        config: &'static str,
        /// Images drawn.
        images: u32,
        /// Network evaluations an image.
        steps: u32,
    },
}

/// A figure that a process yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Seconds of a training step.
    TrainingStep,
    /// Seconds of a forward pass.
    Forward,
    /// The most memory that training took, in bytes.
    TrainingPeak,
    /// Seconds of the process from its start to its end.
    WholeProcess,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Figure {
    /// What it is counted in.
    pub fn unit(self) -> Unit {
        match self {
            Self::TrainingStep | Self::Forward | Self::WholeProcess => Unit::Seconds,
            Self::TrainingPeak => Unit::Bytes,
        }
    }

    /// The figure of a process that has run, if it yielded it.
    pub fn of(self, ran: &Ran) -> Option<f64> {
        let key = match self {
            Self::TrainingStep => "train_step_s",
            Self::Forward => "forward_s",
            Self::TrainingPeak => "peak_bytes",
            Self::WholeProcess => return Some(ran.seconds),
        };
        ran.line.get(key)?.as_f64()
    }
}

impl Work {
    /// What it is called while it runs.
    pub fn name(&self) -> String {
        match self.task {
            Task::Network { config, batch, .. } => format!("{config}, batch {batch}"),
            Task::Sampling {
                config, steps: 1, ..
            } => format!("{config}: first sampling step after start"),
            Task::Sampling {
                config,
                images,
                steps,
            } => format!("{config}: {images} images by DDIM in {steps} steps"),
        }
    }

    /// What a row of the table is called.
    pub fn row(&self, figure: Figure) -> String {
        let name = self.name();
        match figure {
            Figure::TrainingStep => format!("{name}: training step"),
            Figure::Forward => format!("{name}: forward"),
            Figure::TrainingPeak => format!("{name}: peak memory of training"),
            Figure::WholeProcess => format!("{name}, from command to PNG"),
        }
    }

    /// The parts of a network's work that the figures need, as `--only` names them.
    pub fn only(&self) -> &'static str {
        let forward = self.figures.contains(&Figure::Forward);
        let train = self.figures.iter().any(|figure| *figure != Figure::Forward);
        match (train, forward) {
            (true, true) => "both",
            (true, false) => "train",
            (false, _) => "forward",
        }
    }
}

/// Everything that is measured, in the order of the table.
pub fn all(quick: bool) -> Vec<Work> {
    if quick {
        return vec![
            network(SMALL, 8, 2, 1),
            sampling(DIGITS, 16, 50),
            sampling(DIGITS, 1, 1),
        ];
    }
    vec![
        network(SMALL, 8, 7, 3),
        network(CIFAR, 8, 5, 2),
        network(CIFAR, 1, 10, 3),
        network(DIGITS, 32, 50, 10),
        sampling(SMALL, 16, 50),
        sampling(SMALL, 1, 1),
    ]
}

fn network(config: &'static str, batch: u32, steps: u32, warmup: u32) -> Work {
    Work {
        task: Task::Network {
            config,
            batch,
            steps,
            warmup,
        },
        figures: vec![Figure::TrainingStep, Figure::Forward, Figure::TrainingPeak],
    }
}

fn sampling(config: &'static str, images: u32, steps: u32) -> Work {
    Work {
        task: Task::Sampling {
            config,
            images,
            steps,
        },
        figures: vec![Figure::WholeProcess],
    }
}

/// The rows whose name contains the filter, and the work that they need.
pub fn select(works: Vec<Work>, filter: Option<&str>) -> Vec<Work> {
    let Some(filter) = filter else { return works };
    works
        .into_iter()
        .filter_map(|work| {
            let wanted = |figure: &Figure| work.row(*figure).contains(filter);
            let figures: Vec<Figure> = work.figures.iter().copied().filter(wanted).collect();
            (!figures.is_empty()).then_some(Work {
                task: work.task,
                figures,
            })
        })
        .collect()
}

/// The same work with as few repetitions as tell one mode from another.
pub fn shortened(work: &Work) -> Work {
    let task = match work.task {
        Task::Network {
            config,
            batch,
            steps,
            ..
        } => Task::Network {
            config,
            batch,
            steps: steps.div_ceil(3),
            warmup: 1,
        },
        // A whole process cannot be had in part.
        sampling @ Task::Sampling { .. } => sampling,
    };
    Work {
        task,
        figures: work.figures.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(works: &[Work]) -> Vec<String> {
        let rows = |work: &Work| -> Vec<String> {
            let figures = work.figures.iter();
            figures.map(|figure| work.row(*figure)).collect()
        };
        works.iter().flat_map(rows).collect()
    }

    #[test]
    fn rows_have_names_of_their_own() {
        for quick in [true, false] {
            let mut names = rows(&all(quick));
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        let names = rows(&all(false));
        for expected in [
            "small-32, batch 8: training step",
            "ddpm-cifar10-32, batch 1: forward",
            "digits, batch 32: peak memory of training",
            "small-32: 16 images by DDIM in 50 steps, from command to PNG",
            "small-32: first sampling step after start, from command to PNG",
        ] {
            assert!(names.iter().any(|name| name == expected), "{names:?}");
        }
    }

    #[test]
    fn a_filter_leaves_only_the_work_of_its_rows() {
        let select = |filter| select(all(false), Some(filter));
        assert_eq!(rows(&select("nothing of the kind")), Vec::<String>::new());
        let forwards = select("forward");
        assert_eq!(forwards.len(), 4);
        assert!(forwards.iter().all(|work| work.only() == "forward"));
        let memory = select("small-32, batch 8: peak");
        assert_eq!(
            rows(&memory),
            ["small-32, batch 8: peak memory of training"]
        );
        assert_eq!(memory[0].only(), "train");
        assert_eq!(select("batch 1:")[0].only(), "both");
        assert_eq!(super::select(all(true), None), all(true));
    }

    #[test]
    fn probes_are_shorter() {
        for work in all(false) {
            let probe = shortened(&work);
            match (work.task, probe.task) {
                (Task::Network { steps, .. }, Task::Network { steps: fewer, .. }) => {
                    assert!(0 < fewer && fewer < steps);
                }
                (sampling, same) => assert_eq!(sampling, same),
            }
            assert_eq!(probe.name(), work.name());
        }
    }

    #[test]
    fn figures_are_read_by_their_keys() {
        let ran = Ran {
            seconds: 4.0,
            line: json!({"train_step_s": 0.5, "forward_s": 0.25, "peak_bytes": 1024}),
        };
        for (figure, value) in [
            (Figure::TrainingStep, 0.5),
            (Figure::Forward, 0.25),
            (Figure::TrainingPeak, 1024.0),
            (Figure::WholeProcess, 4.0),
        ] {
            assert_eq!(figure.of(&ran), Some(value), "{figure:?}");
        }
        let silent = Ran {
            seconds: 4.0,
            line: json!({"peak_bytes": null}),
        };
        assert_eq!(Figure::TrainingPeak.of(&silent), None);
        assert_eq!(Figure::Forward.of(&silent), None);
    }
}
