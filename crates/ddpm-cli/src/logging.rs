//! Logs: `tracing` events as short lines on stderr.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::{UsageError, one_line};
use crate::terminal;

/// Starts logging to stderr for the rest of the process.
///
/// `verbosity` counts `-v` less `-q`; the environment variable `RUST_LOG`, where it is set,
/// decides instead. Lines carry no time, since a run directory records its own, and no colour
/// where stderr is not a terminal or `NO_COLOR` is set.
///
/// # Errors
/// [`UsageError`] if `RUST_LOG` is not a list of directives.
pub fn start(verbosity: i8) -> Result<(), UsageError> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), verbosity)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveProgress)
        .with_ansi(io::stderr().is_terminal() && !terminal::no_colour())
        .with_target(verbosity > 0)
        .without_time()
        .compact()
        .finish();
    // Only a second call could fail, and then the first one's choice stands.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// The directives that a count of `-v` less `-q` stands for. Targets match by prefix: `ddpm`
/// is this binary and all its libraries.
fn directives(verbosity: i8) -> &'static str {
    match verbosity {
        ..=-3 => "off",
        -2 => "error",
        -1 => "warn",
        0 => "warn,ddpm=info",
        1 => "info,ddpm=debug",
        2 => "debug,ddpm=trace",
        3.. => "trace",
    }
}

/// The filter that the environment's directives give, or else the verbosity.
fn filter(environment: Option<&str>, verbosity: i8) -> Result<EnvFilter, UsageError> {
    let directives = match environment {
        Some(directives) if !directives.trim().is_empty() => directives,
        _ => directives(verbosity),
    };
    EnvFilter::try_new(directives).map_err(|error| {
        UsageError(format!(
            "RUST_LOG={directives}: {}; write for instance RUST_LOG=debug or RUST_LOG=warn,ddpm_train=trace",
            one_line(&error.to_string())
        ))
    })
}

/// Makes writers that lift the live progress line out of the way of each log line.
struct AboveProgress;

impl<'a> MakeWriter<'a> for AboveProgress {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine
    }
}

/// One event: the subscriber hands it over in a single `write_all`.
struct LogLine;

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        terminal::above_progress(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::LevelFilter;

    #[test]
    fn verbosity_sets_the_level_unless_the_environment_does() {
        let cases = [
            (None, -3, LevelFilter::OFF),
            (None, -2, LevelFilter::ERROR),
            (None, -1, LevelFilter::WARN),
            (None, 0, LevelFilter::INFO),
            (None, 1, LevelFilter::DEBUG),
            (None, 9, LevelFilter::TRACE),
            (Some(""), 0, LevelFilter::INFO),
            (Some("error"), 2, LevelFilter::ERROR),
            (Some("warn,ddpm_train=trace"), 0, LevelFilter::TRACE),
        ];
        for (environment, verbosity, most) in cases {
            let filter = filter(environment, verbosity).unwrap();
            assert_eq!(
                filter.max_level_hint(),
                Some(most),
                "{environment:?} {verbosity}"
            );
        }
    }

    #[test]
    fn a_bad_directive_is_one_sentence() {
        let error = filter(Some("ddpm=loud"), 0).unwrap_err();
        assert!(error.0.starts_with("RUST_LOG=ddpm=loud: "), "{error}");
        assert!(!error.0.contains('\n'), "{error}");
    }
}
