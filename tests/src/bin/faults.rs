//! Runs every row of faults and prints their table: `faults [--quick] [--each-objective] [--row N]…`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ddpm_tests::OBJECTIVES;
use ddpm_tests::faults::{Form, choose_objective, rows, table};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}\n"));
            ExitCode::from(2)
        }
    }
}

/// Whether all rows held.
fn run() -> Result<bool> {
    let Arguments {
        form,
        chosen,
        each_objective,
    } = arguments()?;
    if let Some(unknown) = chosen
        .iter()
        .find(|&&number| rows().iter().all(|row| row.number != number))
    {
        bail!("--row {unknown}: the table has no such row");
    }
    if !each_objective {
        return tried(form, &chosen);
    }
    let mut held = true;
    for (name, objective) in OBJECTIVES {
        say(&format!("== {name}: {}\n", objective.join(", ")));
        choose_objective(objective);
        held &= tried(form, if chosen.is_empty() { &OF_RUNS } else { &chosen })?;
    }
    Ok(held)
}

/// The rows whose runs are trained and gone on with.
const OF_RUNS: [u8; 7] = [1, 2, 3, 7, 9, 10, 11];

/// Tries these rows, or all, and prints their table.
fn tried(form: Form, chosen: &[u8]) -> Result<bool> {
    let mut ran = Vec::new();
    for row in rows() {
        let wanted = chosen.is_empty() || chosen.contains(&row.number);
        if !wanted || (row.full_only && form == Form::Quick) {
            continue;
        }
        say(&format!("{:>2}  {} …\n", row.number, row.fault));
        let done = row.run(form);
        say(&match &done.outcome {
            Ok(held) => format!(
                "    held, {} times in {:.1} s  {}\n",
                held.count,
                done.time.as_secs_f64(),
                held.note
            ),
            Err(error) => format!("    DID NOT HOLD: {error:#}\n"),
        });
        ran.push(done);
    }
    write!(io::stdout(), "{}", table(&ran))?;
    Ok(ran.iter().all(|ran| ran.outcome.is_ok()))
}

struct Arguments {
    form: Form,
    chosen: Vec<u8>,
    each_objective: bool,
}

fn arguments() -> Result<Arguments> {
    let mut form = Form::Full;
    let mut chosen = Vec::new();
    let mut each_objective = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => form = Form::Quick,
            "--each-objective" => each_objective = true,
            "--row" => {
                let number = words.next().context("--row: which?")?;
                chosen.push(number.parse().with_context(|| format!("--row {number}"))?);
            }
            other => bail!("`{other}`: there are --quick, --each-objective and --row N"),
        }
    }
    Ok(Arguments {
        form,
        chosen,
        each_objective,
    })
}

/// Progress, on stderr.
fn say(text: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}
