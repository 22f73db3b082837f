//! Whole pieces of work: by us, and in turn by PyTorch.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::machine::Machine;
use super::ours::Ours;
use super::peer::{Mode, Peer};
use super::places::Places;
use super::process::{Invocation, Ran};
use super::report::{Record, Report};
use super::row::Row;
use super::work::{Figure, Task, Work, shortened};
use crate::step::{print, say};

/// Rounds, unless the measurement is a quick one.
const ROUNDS: u32 = 3;

/// What is to be measured.
#[derive(Debug)]
pub struct Plan {
    /// The work.
    pub works: Vec<Work>,
    /// Whether it is to take a minute.
    pub quick: bool,
    /// Threads of both sides.
    pub threads: usize,
    /// The modes of PyTorch to choose from, if not those that are usual.
    pub modes: Option<Vec<Mode>>,
    /// Time that a mode has to show that it is the best.
    pub mode_limit: Duration,
    /// A Python with torch and diffusers.
    pub peer: Option<PathBuf>,
    /// Where every figure is to be written.
    pub json: Option<PathBuf>,
}

impl Plan {
    /// PyTorch's side, if it is to take part.
    ///
    /// # Errors
    /// If that Python cannot be used.
    pub fn start_peer(&self, places: &Places) -> anyhow::Result<Option<Peer>> {
        let start = |python: &PathBuf| Peer::start(places, python, self.threads);
        self.peer.as_ref().map(start).transpose()
    }

    /// Eager first, then the others.
    fn modes(&self) -> Vec<Mode> {
        let chosen = match (&self.modes, self.quick) {
            (Some(modes), _) => modes.clone(),
            (None, true) => Mode::QUICK.to_vec(),
            (None, false) => Mode::ALL.to_vec(),
        };
        let others = chosen.into_iter().filter(|mode| *mode != Mode::EAGER);
        std::iter::once(Mode::EAGER).chain(others).collect()
    }

    /// Measures, and prints the table.
    ///
    /// # Errors
    /// If our side fails, or if a file cannot be written.
    pub fn run(&self, places: &Places, peer: Option<Peer>) -> anyhow::Result<()> {
        let mut contest = Comparison {
            ours: Ours {
                threads: self.threads,
            },
            peer: peer.as_ref(),
            places,
            rounds: if self.quick { 1 } else { ROUNDS },
            quick: self.quick,
            modes: self.modes(),
            mode_limit: self.mode_limit,
            records: Vec::new(),
        };
        contest.make_models(&self.works)?;
        let mut rows = Vec::new();
        for work in &self.works {
            rows.extend(contest.measure(work)?);
        }
        let report = Report {
            machine: &Machine::this(),
            threads: self.threads,
            rounds: contest.rounds,
            quick: self.quick,
            peer: peer.as_ref(),
            modes: &contest.modes,
            rows: &rows,
            records: &contest.records,
        };
        if let Some(path) = &self.json {
            let text = format!("{:#}\n", report.json());
            fs::write(path, text).with_context(|| path.display().to_string())?;
            say(&format!("every figure: {}", path.display()));
        }
        print(&report.text())
    }
}

/// Both sides at work.
struct Comparison<'a> {
    ours: Ours,
    peer: Option<&'a Peer>,
    places: &'a Places,
    rounds: u32,
    quick: bool,
    modes: Vec<Mode>,
    mode_limit: Duration,
    records: Vec<Record>,
}

impl Comparison<'_> {
    /// Writes the networks that sampling reads: PyTorch's weights, if it is there, for both sides.
    fn make_models(&self, works: &[Work]) -> anyhow::Result<()> {
        let mut made = Vec::new();
        for work in works {
            let Task::Sampling { config, .. } = work.task else {
                continue;
            };
            if made.contains(&config) {
                continue;
            }
            made.push(config);
            let command = match self.peer {
                Some(peer) => peer.make_model(config, self.places),
                None => self.ours.make_model(config, self.places),
            };
            command
                .run()
                .map_err(|problem| anyhow!("{}: {problem}", command.typed()))?;
        }
        Ok(())
    }

    /// The rows of one piece of work.
    fn measure(&mut self, work: &Work) -> anyhow::Result<Vec<Row>> {
        let figures = work.figures.iter();
        let mut rows: Vec<Row> = figures
            .map(|figure| Row::new(work.row(*figure), figure.unit()))
            .collect();
        let entrants = self.entrants(work, &mut rows);
        for round in 1..=self.rounds {
            // Ours between PyTorch's, so that what changes on the machine meanwhile hits both.
            if let Some(eager) = entrants.first() {
                self.peer_round(eager, round, &mut rows);
            }
            self.our_round(work, round, &mut rows)?;
            for other in entrants.iter().skip(1) {
                self.peer_round(other, round, &mut rows);
            }
        }
        Ok(rows)
    }

    /// What PyTorch does in each round: all of the work in eager mode, and each row in the mode that
    /// a short run of every mode found best for it. A quick measurement has no time to choose.
    fn entrants(&mut self, work: &Work, rows: &mut [Row]) -> Vec<Entrant> {
        let Some(peer) = self.peer else {
            return Vec::new();
        };
        if self.quick {
            let all = |mode| Entrant {
                mode,
                work: work.clone(),
            };
            return self.modes.iter().copied().map(all).collect();
        }
        let probe = shortened(work);
        for mode in self.modes.clone() {
            let command = peer.command(&probe, mode, self.places);
            let limit = (mode != Mode::EAGER).then_some(self.mode_limit);
            let outcome = self.process(&format!("PyTorch {mode}"), work, None, &command, limit);
            for (row, figure) in rows.iter_mut().zip(&work.figures) {
                match &outcome {
                    Ok(ran) => row.probes.extend(figure.of(ran).map(|value| (mode, value))),
                    Err(why) => row.fail(mode, why),
                }
            }
        }
        chosen(work, rows)
    }

    /// `rows` are those of the whole work, of which the entrant may do only some.
    fn peer_round(&mut self, entrant: &Entrant, round: u32, rows: &mut [Row]) {
        let Some(peer) = self.peer else { return };
        let Entrant { mode, work } = entrant;
        let command = peer.command(work, *mode, self.places);
        let outcome = self.process(
            &format!("PyTorch {mode}"),
            work,
            Some(round),
            &command,
            None,
        );
        for figure in &work.figures {
            let name = work.row(*figure);
            let Some(row) = rows.iter_mut().find(|row| row.name == name) else {
                continue;
            };
            match &outcome {
                Ok(ran) => {
                    if let Some(value) = figure.of(ran) {
                        row.add(*mode, value);
                    }
                }
                Err(why) => row.fail(*mode, why),
            }
        }
    }

    fn our_round(&mut self, work: &Work, round: u32, rows: &mut [Row]) -> anyhow::Result<()> {
        let command = self.ours.command(work, self.places);
        let ran = self
            .process("ours", work, Some(round), &command, None)
            .map_err(|problem| anyhow!("{}: {problem}", command.typed()))?;
        for (row, figure) in rows.iter_mut().zip(&work.figures) {
            row.ours.extend(figure.of(&ran));
        }
        Ok(())
    }

    fn process(
        &mut self,
        side: &str,
        work: &Work,
        round: Option<u32>,
        command: &Invocation,
        limit: Option<Duration>,
    ) -> Result<Ran, String> {
        let name = work.name();
        let which = match round {
            Some(round) => format!("round {round} of {}", self.rounds),
            None => "choosing a mode".to_owned(),
        };
        let outcome = command.run_within(limit);
        say(&match &outcome {
            Ok(ran) => format!("{name}, {which}, {side}: {:.1} s", ran.seconds),
            Err(problem) => format!("{name}, {which}, {side}: failed: {problem}"),
        });
        self.records.push(Record {
            side: side.to_owned(),
            work: name,
            round,
            command: command.typed(),
            outcome: outcome.clone(),
        });
        outcome
    }
}

/// A mode of PyTorch and what it does in each round.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entrant {
    mode: Mode,
    work: Work,
}

/// Eager for all rows, then the best mode of each row where it is another.
fn chosen(work: &Work, rows: &[Row]) -> Vec<Entrant> {
    let mut entrants = vec![Entrant {
        mode: Mode::EAGER,
        work: work.clone(),
    }];
    for mode in Mode::ALL.into_iter().filter(|mode| *mode != Mode::EAGER) {
        let best = rows.iter().zip(&work.figures);
        let figures: Vec<Figure> = best
            .filter(|(row, _)| row.best_probe() == Some(mode))
            .map(|(_, figure)| *figure)
            .collect();
        if figures.is_empty() {
            continue;
        }
        // A peak of memory needs few steps, in a mode that may be slow.
        let brief = figures == [Figure::TrainingPeak];
        let work = Work {
            task: work.task,
            figures,
        };
        entrants.push(Entrant {
            mode,
            work: if brief { shortened(&work) } else { work },
        });
    }
    entrants
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::{Unit, all};

    #[test]
    fn eager_does_everything_and_others_what_they_are_best_at() {
        let work = all(false).remove(0);
        let chosen = |probes: [&[(usize, f64)]; 3]| -> Vec<(Mode, Vec<Figure>)> {
            let rows = probes.map(|probes| {
                let mut row = Row::new("a".into(), Unit::Seconds);
                let probes = probes.iter();
                row.probes = probes.map(|&(i, value)| (Mode::ALL[i], value)).collect();
                row
            });
            let entrants = super::chosen(&work, &rows).into_iter();
            entrants
                .map(|entrant| {
                    let brief = entrant.work.figures == [Figure::TrainingPeak];
                    assert_eq!(entrant.work.task != work.task, brief);
                    (entrant.mode, entrant.work.figures)
                })
                .collect()
        };
        let eager = (Mode::EAGER, work.figures.clone());
        assert_eq!(chosen([&[], &[], &[]]), std::slice::from_ref(&eager));
        let plain: &[(usize, f64)] = &[(0, 1.0), (1, 2.0)];
        assert_eq!(chosen([plain, plain, plain]), std::slice::from_ref(&eager));
        let bf16: &[(usize, f64)] = &[(0, 3.0), (2, 1.0), (4, 2.0)];
        let compiled: &[(usize, f64)] = &[(0, 3.0), (2, 2.0), (4, 1.0)];
        assert_eq!(
            chosen([compiled, compiled, bf16]),
            [
                eager,
                (Mode::ALL[2], vec![Figure::TrainingPeak]),
                (Mode::ALL[4], vec![Figure::TrainingStep, Figure::Forward]),
            ]
        );
    }
}
