//! This process as one of several that `mpirun`, `srun` or another launcher has started.

use std::env;

use crate::exit::UsageError;

/// What a launcher says in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Which process this is, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// How many of them are on this machine, if that is said.
    pub local_size: Option<usize>,
}

/// The variables of launchers: rank, number of ranks, number of ranks on this machine.
const LAUNCHERS: [[&str; 3]; 3] = [
    // Open MPI
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ],
    // MPICH, Intel MPI
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"],
    // Slurm's srun; SLURM_NTASKS is there in a batch script too, which is one process.
    [
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_NTASKS_PER_NODE",
    ],
];

/// Whether this process is one of several; none if it is alone.
pub fn launched() -> Option<Launched> {
    launched_by(|name| env::var(name).ok()?.parse().ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<usize>) -> Option<Launched> {
    LAUNCHERS.iter().find_map(|[rank, size, local_size]| {
        let launched = Launched {
            rank: variable(rank)?,
            size: variable(size)?,
            local_size: variable(local_size),
        };
        (launched.size > 1).then_some(launched)
    })
}

/// # Errors   [`UsageError`] if a launcher has started several processes for what is the work of one
pub fn refuse_several() -> Result<(), UsageError> {
    match launched() {
        None => Ok(()),
        Some(Launched { size, .. }) => Err(UsageError(format!(
            "only `ddpm train` and `ddpm doctor` are the work of several processes, and a launcher has started {size}; \
             start this without mpirun or srun"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known_by_their_variables() {
        let of = |set: &[(&str, usize)]| {
            launched_by(|name| {
                set.iter()
                    .find(|(set, _)| *set == name)
                    .map(|(_, value)| *value)
            })
        };
        let launched = |rank, size, local_size| Launched {
            rank,
            size,
            local_size,
        };
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&[
                ("OMPI_COMM_WORLD_RANK", 3),
                ("OMPI_COMM_WORLD_SIZE", 4),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", 2)
            ]),
            Some(launched(3, 4, Some(2)))
        );
        assert_eq!(
            of(&[("PMI_RANK", 0), ("PMI_SIZE", 2)]),
            Some(launched(0, 2, None))
        );
        assert_eq!(
            of(&[("SLURM_PROCID", 1), ("SLURM_STEP_NUM_TASKS", 2)]),
            Some(launched(1, 2, None))
        );
        // One process is no other for being launched, and a batch script is one.
        assert_eq!(
            of(&[("OMPI_COMM_WORLD_RANK", 0), ("OMPI_COMM_WORLD_SIZE", 1)]),
            None
        );
        assert_eq!(of(&[("SLURM_PROCID", 0), ("SLURM_NTASKS", 16)]), None);
    }
}
