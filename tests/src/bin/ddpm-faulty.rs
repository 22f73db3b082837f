//! `ddpm` with faults in it: the same program, told by its environment what goes wrong.
//!
//! `DDPM_DISK`: `record:FILE`, `kill:N`, or `fail:N:ERRNO:once` and `fail:N:ERRNO:always`, N being the number of a
//! change to the disk.
//! `DDPM_POISON`: `PART:NUMBER:STEP[:again]`, several separated by commas, PART being `batch`, `parameter`, `loss` or
//! `gradient`.
//! `DDPM_STALL`: `STEP:MILLISECONDS`.
//! `DDPM_RANK`: the one rank of several processes that all this is for.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ddpm_store::faults::{self as disk, Failing, Killing, Lasting, Recording, Seam};
use ddpm_train::faults::{self as steps, Place, Poison};

/// What Open MPI tells each process.
const RANK: &str = "OMPI_COMM_WORLD_RANK";

fn main() -> ExitCode {
    match prepare() {
        Ok(()) => ddpm_cli::main(),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: ddpm-faulty: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<()> {
    if let (Ok(faulty), Ok(own)) = (std::env::var("DDPM_RANK"), std::env::var(RANK))
        && faulty != own
    {
        return Ok(());
    }
    if let Ok(list) = std::env::var("DDPM_POISON") {
        for item in list.split(',') {
            steps::poison(poison(item).with_context(|| format!("DDPM_POISON: {item}"))?);
        }
    }
    if let Ok(stall) = std::env::var("DDPM_STALL") {
        let (step, time) = stall.split_once(':').context("DDPM_STALL: no colon")?;
        steps::stall(step.parse()?, Duration::from_millis(time.parse()?));
    }
    if let Ok(plan) = std::env::var("DDPM_DISK") {
        disk::install_everywhere(seam(&plan).with_context(|| format!("DDPM_DISK: {plan}"))?);
    }
    Ok(())
}

fn poison(item: &str) -> Result<Poison> {
    let parts: Vec<&str> = item.split(':').collect();
    let (part, value, step, again) = match parts.as_slice() {
        [part, value, step] => (*part, *value, *step, false),
        [part, value, step, "again"] => (*part, *value, *step, true),
        _ => bail!("write PART:NUMBER:STEP[:again]"),
    };
    Ok(Poison {
        step: step.parse()?,
        place: match part {
            "batch" => Place::Batch,
            "parameter" => Place::Parameter,
            "loss" => Place::Loss,
            "gradient" => Place::Gradient,
            other => bail!("no part `{other}`"),
        },
        value: value.parse()?,
        again,
    })
}

fn seam(plan: &str) -> Result<Box<dyn Seam>> {
    let parts: Vec<&str> = plan.split(':').collect();
    Ok(match parts.as_slice() {
        ["record", path] => Box::new(Recording::to(path.as_ref())?),
        ["kill", at] => Box::new(Killing { at: at.parse()? }),
        ["fail", at, error, lasting] => Box::new(Failing {
            at: at.parse()?,
            os_error: error.parse()?,
            lasting: match *lasting {
                "once" => Lasting::Once,
                "always" => Lasting::ForGood,
                other => bail!("neither once nor always: {other}"),
            },
        }),
        _ => bail!("write record:FILE, kill:N or fail:N:ERRNO:once"),
    })
}
