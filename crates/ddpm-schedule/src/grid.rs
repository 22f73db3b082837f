//! The levels that a sampler visits, leg by leg.

mod sigmas;
mod whole;

use serde::{Deserialize, Serialize};

use crate::{Level, Process, Schedule, ScheduleError, Spacing};

/// A place where the network is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// In the process's own terms: what [`Process::network_time`] is told of.
    pub time: f64,
    /// How noisy the image is there.
    pub level: Level,
}

/// One step of a sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// Where it begins.
    pub from: Stop,
    /// Where it leads: the beginning of the next leg, but of strided grids.
    pub to: Stop,
}

/// The legs of a sampler, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    legs: Vec<Leg>,
}

/// Where other programs spread levels differently; the default is ours.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GridRules {
    /// Every leg spans ⌊T/steps⌋ steps of a table, whichever is visited next (diffusers' DDIM and PNDM).
    pub fixed_stride: bool,
    /// The last leg ends at the table's first step, or the process's least noisy level, instead of the image.
    pub to_first: bool,
    /// leading and linspace spread one level more, and leave out the last (diffusers' DPM-Solver, DEIS and UniPC).
    pub open_end: bool,
    /// linspace visits real-valued steps, with σ interpolated (diffusers' Euler, Heun, LMS and DPM2).
    pub fractional: bool,
    /// karras, exponential and polyexponential lie between the first and the last level of leading, linspace or
    /// trailing instead of the process's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::named::deserialize_some"
    )]
    pub within: Option<Spacing>,
    /// What the network of a table is told of levels between its steps.
    pub told: Told,
}

/// What the network of a table is told of a level between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The real-valued step.
    #[default]
    Exact,
    /// The nearest step.
    Nearest,
    /// The step below.
    Below,
    /// The steps of linspace, whatever the level is.
    Linspace,
}

/// How many levels, and how they are spread.
#[derive(Debug, Clone, PartialEq)]
pub struct GridConfig {
    /// How the levels are spread.
    pub spacing: Spacing,
    /// How many there are besides the image itself; a list has its own number.
    pub steps: usize,
    /// Added to every step of the leading spacing.
    pub offset: usize,
    /// Where other programs differ.
    pub rules: GridRules,
}

impl GridConfig {
    /// The grid over a process.
    ///
    /// # Errors   [`ScheduleError::Timesteps`] for a spacing that this process does not have, or numbers of levels or σ
    /// that make none; [`ScheduleError::SpacingAtZeroSnr`] for a start that zero terminal SNR does not allow
    pub fn build(&self, process: &Process) -> Result<Grid, ScheduleError> {
        let mut stops = self.stops(process)?;
        let shares_end = self.rules.open_end && self.by_sigma();
        let end = match shares_end {
            true => stops.pop().unwrap_or(clean(process)),
            false if self.rules.to_first => first(process),
            false => clean(process),
        };
        if self.rules.told != Told::Exact {
            self.tell(process, &mut stops)?;
        }
        let grid = match (self.rules.fixed_stride, process) {
            (true, Process::Discrete(schedule)) if !self.by_sigma() => {
                Grid::strided(schedule, &stops, schedule.len() / self.steps, end)?
            }
            (true, _) => {
                return refuse(format!(
                    "fixed_stride is of whole steps of a table, not of {} spacing of the process {}; remove it",
                    self.spacing,
                    process.name()
                ));
            }
            (false, _) => Grid::through(&stops, end)?,
        };
        self.check_start(process, &grid)?;
        Ok(grid)
    }

    fn by_sigma(&self) -> bool {
        !matches!(
            self.spacing,
            Spacing::Leading {}
                | Spacing::Linspace {}
                | Spacing::Trailing {}
                | Spacing::Sections { .. }
                | Spacing::Times { .. }
        )
    }

    fn stops(&self, process: &Process) -> Result<Vec<Stop>, ScheduleError> {
        if let Some(0) = self.spacing.listed() {
            return refuse("no sampling steps were given; give at least one".into());
        }
        if self.steps == 0 && self.spacing.listed().is_none() {
            return refuse("0 sampling steps: take at least 1".into());
        }
        match (&self.spacing, process) {
            (Spacing::Times { times }, _) => times.iter().map(|&t| at(process, t)).collect(),
            (Spacing::Sections { counts }, Process::Discrete(schedule)) => {
                let list = whole::sections(schedule.len(), counts)?;
                list.into_iter().map(|t| at(process, t as f64)).collect()
            }
            (Spacing::Sections { .. }, _) => refuse(format!(
                "sections are of a table of steps, and the process {} has none; set spacing to another",
                process.name()
            )),
            (Spacing::Leading {} | Spacing::Linspace {} | Spacing::Trailing {}, _) => {
                self.by_time(process, &self.spacing)
            }
            _ => self.sigmas(process),
        }
    }

    fn sigmas(&self, process: &Process) -> Result<Vec<Stop>, ScheduleError> {
        let ends = match &self.rules.within {
            None => [process.least_noisy(), process.noisiest()],
            Some(base) => {
                let stops = self.by_time(process, base)?;
                let [last, first] = [stops.last(), stops.first()];
                [last, first].map(|stop| stop.map_or(Level::CLEAN, |stop| stop.level))
            }
        };
        let ends = ends.map(|level| traced(level).sigma());
        let count = self.steps + usize::from(self.rules.open_end);
        let sigmas = sigmas::sigmas(&self.spacing, count, ends)?;
        Ok(sigmas
            .into_iter()
            .map(|sigma| Stop::of(process, process.at_sigma(sigma)))
            .collect())
    }

    fn by_time(&self, process: &Process, spacing: &Spacing) -> Result<Vec<Stop>, ScheduleError> {
        let steps = self.steps;
        let open = self.rules.open_end && !matches!(spacing, Spacing::Trailing {});
        // `linspace` of i of n: from 1 down to `least`, both included.
        let line = |least: f64, i: usize, n: usize| match n {
            1 => 1.0,
            _ => 1.0 - (1.0 - least) * i as f64 / (n - 1) as f64,
        };
        let falling = |least: f64, i: usize| match spacing {
            Spacing::Trailing {} => 1.0 - i as f64 / steps as f64,
            _ => line(least, i, steps),
        };
        let times: Vec<f64> = match (process, spacing) {
            (Process::Discrete(schedule), Spacing::Linspace {}) if self.rules.fractional => {
                let last = (schedule.len() - 1) as f64;
                return Ok((0..steps)
                    .map(|i| match steps {
                        // As numpy's linspace of one.
                        1 => 0.0,
                        _ => last * (steps - 1 - i) as f64 / (steps - 1) as f64,
                    })
                    .map(|time| between(schedule, time))
                    .collect());
            }
            (Process::Discrete(schedule), _) => {
                let count = steps + usize::from(open);
                let mut list = whole::timesteps(schedule.len(), count, spacing, self.offset)?;
                list.truncate(steps);
                list.into_iter().map(|t| t as f64).collect()
            }
            (Process::Vp(_), Spacing::Leading {}) | (Process::Flow(_), Spacing::Leading {}) => {
                return refuse(format!(
                    "leading spacing is of a table of steps, and the process {} has none; set spacing to \"trailing\" \
                     or \"linspace\"",
                    process.name()
                ));
            }
            (Process::Vp(vp), _) => (0..steps).map(|i| falling(vp.t_min, i)).collect(),
            (Process::Flow(flow), _) => {
                let times = (0..steps).map(|i| falling(flow.t_min, i));
                times.map(|t| flow.shifted(t)).collect()
            }
            (Process::Edm(_), _) => {
                return refuse(format!(
                    "{spacing} spacing is of time, and the process edm has σ alone; set spacing to \"karras\", \
                     \"exponential\" or \"polyexponential\""
                ));
            }
        };
        times.into_iter().map(|time| at(process, time)).collect()
    }

    /// Rounds what the network of a table is told.
    fn tell(&self, process: &Process, stops: &mut [Stop]) -> Result<(), ScheduleError> {
        let Process::Discrete(schedule) = process else {
            return refuse(format!(
                "grid.told is of whole steps of a table, and the process {} has none; remove it",
                process.name()
            ));
        };
        let last = (schedule.len() - 1) as f64;
        let n = stops.len();
        for (i, stop) in stops.iter_mut().enumerate() {
            stop.time = match self.rules.told {
                Told::Exact => stop.time,
                Told::Nearest => stop.time.round_ties_even(),
                Told::Below => stop.time.floor(),
                Told::Linspace => last * (n - 1 - i) as f64 / (n - 1).max(1) as f64,
            };
        }
        Ok(())
    }

    /// Zero terminal SNR is of use only from its last step on (Lin et al. 2023, section 3.3).
    fn check_start(&self, process: &Process, grid: &Grid) -> Result<(), ScheduleError> {
        let Process::Discrete(schedule) = process else {
            return Ok(());
        };
        let (first, last) = (grid.legs[0].from.time, schedule.len() - 1);
        let by_choice = self.spacing.listed().is_some() || self.by_sigma();
        if !schedule.is_zero_terminal_snr() || by_choice || first == last as f64 {
            return Ok(());
        }
        Err(ScheduleError::SpacingAtZeroSnr {
            spacing: self.spacing.name(),
            first: first as usize,
            last,
        })
    }
}

impl Stop {
    /// The place of a level, with the time that the process has for it.
    #[must_use]
    pub fn of(process: &Process, level: Level) -> Self {
        Self {
            time: process.time(level),
            level,
        }
    }
}

impl Grid {
    /// From stop to stop, and from the last one to the end.
    ///
    /// # Errors   [`ScheduleError::Timesteps`] if there is none, or two that follow each other are the same
    pub fn through(stops: &[Stop], end: Stop) -> Result<Self, ScheduleError> {
        if stops.is_empty() {
            return refuse("no sampling steps were given; give at least one".into());
        }
        if let Some(pair) = stops.windows(2).find(|pair| pair[0].level == pair[1].level) {
            return refuse(format!(
                "two sampling steps that follow each other are at the same level, time {}; use fewer steps, none twice",
                pair[0].time
            ));
        }
        let following = stops[1..].iter().copied().chain([end]);
        let legs = stops.iter().zip(following);
        Ok(Self {
            legs: legs.map(|(&from, to)| Leg { from, to }).collect(),
        })
    }

    /// From each whole step of a table `stride` further down, whichever is visited next, and from below 0 to the end:
    /// what diffusers' DDIM and PNDM do.
    fn strided(
        schedule: &Schedule,
        stops: &[Stop],
        stride: usize,
        end: Stop,
    ) -> Result<Self, ScheduleError> {
        let mut grid = Self::through(stops, end)?;
        for leg in &mut grid.legs {
            leg.to = match (leg.from.time as usize).checked_sub(stride) {
                Some(t) => Stop {
                    time: t as f64,
                    level: schedule.level(t),
                },
                None => end,
            };
        }
        Ok(grid)
    }

    /// The legs, in the order of sampling; at least one.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// The way from leg `count` on; `None` if there are no more.
    #[must_use]
    pub fn skip(&self, count: usize) -> Option<Self> {
        let legs = self.legs.get(count..).filter(|legs| !legs.is_empty())?;
        Some(Self {
            legs: legs.to_vec(),
        })
    }

    /// The same way in two legs at most: to the last place above the image, and to the end.
    #[must_use]
    pub fn ends(self) -> Self {
        let (first, last) = (self.legs[0], self.legs[self.legs.len() - 1]);
        let way = Leg {
            from: first.from,
            to: last.from,
        };
        let legs = [way, last]
            .into_iter()
            .filter(|leg| leg.from.level != leg.to.level);
        Self {
            legs: legs.collect(),
        }
    }

    /// The same grid with a trace of signal at every level, for samplers to which pure noise is infinitely far.
    #[must_use]
    pub fn with_signal(mut self) -> Self {
        for leg in &mut self.legs {
            leg.from.level = traced(leg.from.level);
            leg.to.level = traced(leg.to.level);
        }
        self
    }
}

fn clean(process: &Process) -> Stop {
    Stop::of(process, Level::CLEAN)
}

fn first(process: &Process) -> Stop {
    Stop::of(process, process.least_noisy())
}

/// The place of a time.
fn at(process: &Process, time: f64) -> Result<Stop, ScheduleError> {
    let last = process.schedule().map(|schedule| schedule.len() - 1);
    let most = match process {
        Process::Discrete(_) => last.unwrap_or_default() as f64,
        Process::Vp(_) | Process::Flow(_) => 1.0,
        Process::Edm(_) => f64::MAX,
    };
    let least = match process {
        Process::Discrete(_) => 0.0,
        _ => f64::MIN_POSITIVE,
    };
    match (least..=most).contains(&time) {
        true => Ok(Stop {
            time,
            level: process.level(time),
        }),
        false => match last {
            Some(last) => refuse(format!(
                "sampling step {time} lies beyond the schedule, whose last step is {last}"
            )),
            None => refuse(format!(
                "the sampling time {time} is none of the process {}; take times above 0{}",
                process.name(),
                if most == 1.0 { " and at most 1" } else { "" }
            )),
        },
    }
}

/// A level, or the one beside it where it is pure noise: the cosine's last step has less signal than that, but some.
fn traced(level: Level) -> Level {
    match level.signal == 0.0 {
        true => level.with_signal(),
        false => level,
    }
}

/// A place between two steps of a table where σ itself is interpolated.
fn between(schedule: &Schedule, time: f64) -> Stop {
    let low = time.floor() as usize;
    let high = (low + 1).min(schedule.len() - 1);
    let share = time.fract();
    let level = match share == 0.0 {
        true => schedule.level(low),
        false => {
            let [a, b] = [low, high].map(|t| traced(schedule.level(t)).sigma());
            Level::variance_preserving(a + share * (b - a))
        }
    };
    Stop { time, level }
}

fn refuse<T>(problem: String) -> Result<T, ScheduleError> {
    Err(ScheduleError::Timesteps { problem })
}

#[cfg(test)]
mod tests;
