//! `mpirun … ddpm doctor`: how many ranks there are, what each has, and what their sums take.

use anyhow::Result;

use super::super::Report;
use crate::args::{Common, DoctorArgs};
use crate::ranks::Launched;

/// # Errors   [`crate::exit::UsageError`]: this program cannot
#[cfg(not(feature = "mpi"))]
pub fn doctor(_args: &DoctorArgs, _common: Common, launched: Launched) -> Result<Report> {
    super::super::in_ranks::refuse(launched)
}

#[cfg(feature = "mpi")]
pub use with_mpi::doctor;

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::time::Duration;

    use ddpm_train::{Reduction, on_first, time_of_sum};
    use serde_json::json;

    use super::super::{Finding, examine};
    use super::*;
    use crate::commands::in_ranks::{agree, share};
    use crate::exit::Exit;
    use crate::{threads, words};

    /// How long ranks wait for rank 0, which measures steps.
    const PATIENCE: Duration = Duration::from_secs(3600);
    /// Numbers that are summed to measure; a larger network takes longer in proportion.
    const MEASURED: usize = 1 << 24;

    /// What a rank has.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(super) struct Ranks {
        pub(super) size: usize,
        pub(super) machines: usize,
        /// The fewest threads that a rank may use, and those of its machine.
        pub(super) threads: usize,
        pub(super) cores: usize,
    }

    /// Examines as one of several ranks; rank 0 reports.
    ///
    /// # Errors   as without ranks, on rank 0
    pub fn doctor(args: &DoctorArgs, common: Common, _launched: Launched) -> Result<Report> {
        let quiet = common.quiet > 0;
        share(common.json, |session| {
            let mut ranks = session.ranks(PATIENCE);
            let first = session.rank() == 0;
            let own = first.then(|| examine(args, quiet)).transpose();
            let doctor = agree(ranks.as_mut(), own)?;
            let parameters: u64 = on_first(ranks.as_mut(), || {
                let figures = doctor.as_ref().map(|doctor| &doctor.figures);
                let parameters = figures.and_then(|figures| figures.get("parameters")?.as_u64());
                Ok(parameters.unwrap_or_default())
            })?;
            let (local_rank, local_size) = session.local();
            let threads = (threads::available() / local_size).max(1);
            let each = vec![
                f32::from(u8::from(local_rank == 0)),
                threads::available() as f32,
                threads as f32,
            ];
            let all = ranks.all_gather(each)?;
            let of = |i: usize| all.iter().skip(i).step_by(3).copied();
            let found = Ranks {
                size: session.size(),
                machines: of(0).sum::<f32>() as usize,
                threads: of(2).fold(f32::INFINITY, f32::min) as usize,
                cores: threads::cores(),
            };
            let measured = (parameters as usize).min(MEASURED);
            let time = match measured {
                0 => None,
                _ => {
                    let time = time_of_sum(ranks.as_mut(), Reduction::Tree, measured)?;
                    Some(time.as_secs_f64() * parameters as f64 / measured as f64)
                }
            };
            let Some(mut doctor) = doctor else {
                return Ok(Report::silent(Exit::Done));
            };
            doctor.add(found.finding(of(1).fold(f32::INFINITY, f32::min) as usize));
            doctor.put(
                "ranks",
                json!({
                    "size": found.size, "machines": found.machines, "threads": found.threads,
                }),
            );
            if let Some(seconds) = time {
                doctor.put("sum_s", json!(seconds));
                let step = doctor
                    .figures
                    .get("step_s")
                    .and_then(serde_json::Value::as_f64);
                let beside = step.map_or(String::new(), |step| {
                    format!(
                        "; a step of the whole batch takes {} on one rank",
                        words::seconds(step)
                    )
                });
                let text = format!(
                    "summing {} gradients over {} ranks takes {} a step{beside}",
                    words::count(parameters),
                    found.size,
                    words::seconds(seconds),
                );
                // Computing is shared out, and summing is not.
                let dear = step.is_some_and(|step| seconds > step / found.size as f64);
                doctor.add(match dear {
                    false => Finding::ok("sums", text),
                    true => Finding::warn(
                        "sums",
                        format!(
                            "{text}, so more ranks gain little; raise `train.batch`, or use fewer"
                        ),
                    ),
                });
            }
            Ok(doctor.report())
        })
    }

    impl Ranks {
        /// `bound`: the fewest threads that the launcher leaves a rank.
        pub(super) fn finding(self, bound: usize) -> Finding {
            let Self {
                size,
                machines,
                threads,
                cores,
            } = self;
            let text = format!(
                "{} on {}, {} each",
                words::some(size as u64, "rank"),
                words::some(machines as u64, "machine"),
                words::some(threads as u64, "thread"),
            );
            let share = (cores * machines / size).max(1);
            match bound < share {
                true => Finding::warn(
                    "ranks",
                    format!(
                        "{text}, though {share} are there for each: the launcher binds them; add --bind-to none to mpirun"
                    ),
                ),
                false => Finding::ok("ranks", text),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn ranks_that_are_bound_are_told_of() {
            let ranks = Ranks {
                size: 2,
                machines: 1,
                threads: 1,
                cores: 8,
            };
            assert!(ranks.finding(1).text.contains("--bind-to none"));
            assert_eq!(ranks.finding(8).text, "2 ranks on 1 machine, 1 thread each");
        }
    }
}
