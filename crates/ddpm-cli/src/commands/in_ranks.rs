//! Commands that are the work of several processes.

use anyhow::Result;

use super::Report;

#[cfg(feature = "mpi")]
pub use with_mpi::{agree, share};

/// # Errors   [`crate::exit::UsageError`]: this program cannot
#[cfg(not(feature = "mpi"))]
pub fn refuse(launched: crate::ranks::Launched) -> Result<Report> {
    Err(crate::exit::UsageError(format!(
        "a launcher has started {} processes, and this ddpm was built without the feature `mpi`; build it with cargo \
         build --release -p ddpm-cli --features mpi",
        launched.size
    ))
    .into())
}

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::time::Duration;

    use ddpm_train::mpi::Session;
    use ddpm_train::{Collective, Fault, TrainError, first_failure};

    use super::*;
    use crate::exit::{self, Exit};

    /// How long a rank that has ended waits for the others.
    const ENDING: Duration = Duration::from_secs(20);

    /// Does `task` as one of several processes. The first one reports, also what failed elsewhere: before any of them
    /// ends, since a launcher may end the others when one has ended with an exit code.
    ///
    /// # Errors   [`ddpm_train::TrainError::Ranks`] if the processes do not find each other
    pub fn share(json: bool, task: impl FnOnce(&Session) -> Result<Report>) -> Result<Report> {
        let session = Session::start()?;
        let mut error = None;
        let exit = match task(&session) {
            Ok(report) if session.rank() == 0 => match crate::print(&report, json) {
                Ok(()) => report.exit,
                Err(error) => exit::report(&error.into()),
            },
            Err(error) if session.rank() == 0 => exit::report(&error),
            Ok(report) => report.exit,
            Err(own) => {
                let exit = exit::code_of(&own);
                error = Some(own);
                exit
            }
        };
        session.finish(ENDING, || {
            // The others do not know of it.
            if let Some(error) = &error {
                exit::report(error);
            }
            exit.code()
        });
        Ok(Report::silent(exit))
    }

    /// `own`, or the error of the first rank that has one.
    ///
    /// # Errors   on every rank, if any has one
    pub fn agree<T>(ranks: &mut dyn Collective, own: Result<T>) -> Result<T> {
        let said = own
            .as_ref()
            .err()
            .map(|error| (kind_of(exit::code_of(error)), exit::sentence(error)));
        match first_failure(ranks, said)? {
            Some(TrainError::OtherRank { rank, .. }) if rank == ranks.rank() => own,
            Some(error) => Err(error.into()),
            None => own,
        }
    }

    fn kind_of(exit: Exit) -> Fault {
        match exit {
            Exit::Usage => Fault::Configuration,
            Exit::Data => Fault::Data,
            Exit::Format => Fault::Format,
            Exit::Diverged => Fault::Diverged,
            Exit::Device => Fault::Device,
            Exit::Done | Exit::Other | Exit::Stopped => Fault::Other,
        }
    }
}
