//! `mpirun … ddpm train`: the same run, by several processes.

use anyhow::Result;

use super::super::Report;
use crate::args::{Common, TrainArgs};
use crate::ranks::Launched;

/// # Errors   [`crate::exit::UsageError`]: this program cannot
#[cfg(not(feature = "mpi"))]
pub fn train(_args: &TrainArgs, _common: Common, launched: Launched) -> Result<Report> {
    super::super::in_ranks::refuse(launched)
}

#[cfg(feature = "mpi")]
pub use with_mpi::train;

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::sync::Arc;
    use std::time::Duration;

    use anyhow::Context;
    use ddpm_device::resolve_for_rank;
    use ddpm_train::mpi::Session;
    use ddpm_train::{Config, Workers, on_first};

    use super::*;
    use crate::commands::in_ranks::{agree, share};
    use crate::commands::train::{Prepared, carry_out, dry_run, load, prepare};
    use crate::exit::{Exit, UsageError};
    use crate::placed::Placed;
    use crate::signals;

    /// How long ranks wait for each other while they begin.
    const BEGINNING: Duration = Duration::from_secs(3600);

    /// Trains as one of several ranks. Rank 0 writes and reports.
    ///
    /// # Errors   as without ranks, on rank 0
    pub fn train(args: &TrainArgs, common: Common, _launched: Launched) -> Result<Report> {
        share(common.json, |session| {
            in_session(args, common.quiet > 0, session)
        })
    }

    fn in_session(args: &TrainArgs, quiet: bool, session: &Session) -> Result<Report> {
        let mut ranks = session.ranks(BEGINNING);
        let (local_rank, _) = session.local();
        let (first, size) = (session.rank() == 0, session.size());
        let own = one_device(args).and_then(|()| {
            let placed = Placed::one(resolve_for_rank(args.device, local_rank)?);
            let prepared = first
                .then(|| prepare(args, quiet, &placed, size))
                .transpose()?;
            Ok((placed, prepared))
        });
        let (placed, prepared) = agree(ranks.as_mut(), own)?;
        if args.dry_run {
            let own = match &prepared {
                Some(prepared) => dry_run(prepared, &placed, size),
                None => Ok(Report::silent(Exit::Done)),
            };
            return agree(ranks.as_mut(), own);
        }

        // Rank 0's configuration is that of all: only it needs to see the recipe and the run.
        let config = on_first(ranks.as_mut(), || match &prepared {
            Some(prepared) => Ok(prepared.validated.config.clone()),
            None => Ok(Config::default()),
        })?;
        let own = match prepared {
            Some(prepared) => Ok(prepared),
            None => follow(config),
        };
        let prepared = agree(ranks.as_mut(), own)?;
        let stop = signals::listen().context("signals cannot be handled");
        let stop = agree(ranks.as_mut(), stop)?;
        let device = format!("{}, {size} ranks", placed.name());
        let run = first.then(|| prepared.run(args, &device)).transpose();
        let run = agree(ranks.as_mut(), run)?;
        let timeout = Duration::from_secs(prepared.validated.config.train.timeout_s);
        let workers = Workers::Rank(placed.first().device.clone(), session.ranks(timeout));
        carry_out(
            args,
            quiet || !first,
            prepared,
            run,
            &device,
            workers,
            &stop,
        )
    }

    /// What a rank other than the first has to prepare.
    fn follow(config: Config) -> Result<Prepared> {
        let validated = config.validate()?;
        let dataset = Arc::new(load(&validated.config, true)?);
        Ok(Prepared {
            validated,
            dataset,
            resumed: None,
            // Rank 0 knows.
            parameters: 0,
        })
    }

    fn one_device(args: &TrainArgs) -> Result<()> {
        let refuse = |option: &str, instead: &str| {
            Err(UsageError(format!(
                "{option}: several processes have one device each; {instead}"
            ))
            .into())
        };
        match (&args.devices, args.minutes) {
            (Some(_), _) => refuse("--devices", "give --device, such as --device cuda:auto"),
            (_, Some(_)) => refuse("--minutes", "give train.steps"),
            _ => Ok(()),
        }
    }
}
