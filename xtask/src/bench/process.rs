//! One process that is measured: its command, its seconds, and the line of JSON that it prints.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A command with its environment.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables that it needs.
    pub environment: Vec<(&'static str, OsString)>,
}

/// A process that ended well.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// From its start to its end.
    pub seconds: f64,
    /// What it printed.
    pub line: Value,
}

impl Invocation {
    /// The command as one would type it.
    pub fn typed(&self) -> String {
        let environment = self.environment.iter();
        let mut words: Vec<String> = environment
            .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
            .collect();
        words.push(self.program.display().to_string());
        let arguments = self.arguments.iter();
        words.extend(arguments.map(|argument| argument.to_string_lossy().into_owned()));
        words.join(" ")
    }

    /// Runs it to its end, silently.
    ///
    /// # Errors
    /// In one sentence, why there are no figures.
    pub fn run(&self) -> Result<Ran, String> {
        self.run_within(None)
    }

    /// Runs it to its end, or ends it when the time is up.
    ///
    /// # Errors
    /// In one sentence, why there are no figures.
    pub fn run_within(&self, limit: Option<Duration>) -> Result<Ran, String> {
        self.run_telling(limit).map_err(|failure| failure.why)
    }

    /// The same, for where a failure cannot easily be had again.
    ///
    /// # Errors
    /// Why there are no figures, and what else the process said.
    pub fn run_telling(&self, limit: Option<Duration>) -> Result<Ran, Failure> {
        let clock = Instant::now();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`{}` does not start: {error}", self.program.display()))?;
        // Read while it runs: a full pipe would stop it.
        let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
        let status = wait(&mut child, clock, limit)?;
        let seconds = clock.elapsed().as_secs_f64();
        let (stdout, stderr) = (text(stdout), text(stderr));
        if !status.success() {
            let why = why(status, &stderr);
            return Err(Failure { why, said: stderr });
        }
        let line = parse(&stdout)?;
        Ok(Ran { seconds, line })
    }
}

/// A process that yielded no figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in one sentence.
    pub why: String,
    /// All that it wrote to stderr.
    pub said: String,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self {
            why,
            said: String::new(),
        }
    }
}

/// Why a process failed: an error or a panic that it tells of, or else the last that it said. What it said before a
/// signal ended it is about something else, unless it aborted itself because of a panic.
fn why(status: ExitStatus, stderr: &str) -> String {
    let ended = || format!("it ended with {status}");
    match (status.code(), told(stderr)) {
        (Some(_), told) => told
            .or_else(|| last_line(stderr).map(str::to_owned))
            .unwrap_or_else(ended),
        (None, Some(told)) => format!("{told} ({})", ended()),
        (None, None) => ended(),
    }
}

/// The line of an error, or of a panic.
fn told(stderr: &str) -> Option<String> {
    let lines = || {
        stderr
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let error = || {
        lines()
            .filter_map(|line| line.strip_prefix("error: "))
            .next_back()
    };
    let panic = || {
        lines()
            .skip_while(|line| !line.contains("panicked at"))
            .nth(1)
    };
    error().or_else(panic).map(str::to_owned)
}

/// Reads a pipe to its end on a thread of its own.
fn read(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    let mut pipe = pipe?;
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could not be read is missed by whoever parses the rest.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    }))
}

fn text(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|reader| reader.join().ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn wait(child: &mut Child, clock: Instant, limit: Option<Duration>) -> Result<ExitStatus, String> {
    let failed = |error| format!("it cannot be waited for: {error}");
    let Some(limit) = limit else {
        return child.wait().map_err(failed);
    };
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        if clock.elapsed() > limit {
            // It may have ended just now, which is as good.
            let _ = child.kill();
            child.wait().map_err(failed)?;
            return Err(format!("not done after {} s, so stopped", limit.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The JSON object in the last line of an output; libraries may have said something before it.
fn parse(stdout: &str) -> Result<Value, String> {
    let line = last_line(stdout).ok_or("it printed nothing")?;
    match serde_json::from_str(line) {
        Ok(object @ Value::Object(_)) => Ok(object),
        _ => Err(format!("it printed no line of JSON but: {line}")),
    }
}

fn last_line(text: &str) -> Option<&str> {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_line_is_the_result() {
        assert_eq!(parse("{\"a\": 1}\n"), Ok(json!({"a": 1})));
        assert_eq!(parse("hello\n{\"a\": 1.5e3}\n\n"), Ok(json!({"a": 1500.0})));
        for (stdout, words) in [
            ("", "nothing"),
            ("\n \n", "nothing"),
            ("{\"a\": 1}\nbye", "but: bye"),
            ("[1]", "but: [1]"),
            ("{\"a\": ", "but: {\"a\":"),
        ] {
            let problem = parse(stdout).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }

    fn cargo(arguments: &[&str]) -> Invocation {
        Invocation {
            program: "cargo".into(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: vec![("CARGO_TERM_COLOR", "never".into())],
        }
    }

    #[test]
    fn a_command_reads_as_typed() {
        assert_eq!(
            cargo(&["bench", "--test"]).typed(),
            "CARGO_TERM_COLOR=never cargo bench --test"
        );
    }

    #[test]
    fn failures_are_one_sentence() {
        let problem = cargo(&["--version"]).run().unwrap_err();
        assert!(
            problem.starts_with("it printed no line of JSON"),
            "{problem}"
        );
        let problem = cargo(&["--no-such-flag"]).run().unwrap_err();
        assert!(!problem.is_empty() && !problem.contains('\n'), "{problem}");
        let absent = Invocation {
            program: "no-such-program-anywhere".into(),
            ..cargo(&[])
        };
        let problem = absent.run().unwrap_err();
        assert!(problem.contains("does not start"), "{problem}");
    }

    #[test]
    fn a_reason_is_the_line_that_says_it() {
        for (stderr, expected) in [
            ("", None),
            ("warning: a\nsomething broke\n\n", None),
            (
                "error: no such option\n\nFor more, try '--help'.\n",
                Some("no such option"),
            ),
            (
                "thread 'main' panicked at src/a.rs:1:2:\nout of memory\nnote: run with\n",
                Some("out of memory"),
            ),
        ] {
            assert_eq!(told(stderr).as_deref(), expected, "{stderr}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_end_says_what_a_process_said_last() {
        use std::os::unix::process::ExitStatusExt;

        let (exit, abort) = (ExitStatus::from_raw(3 << 8), ExitStatus::from_raw(6));
        let panic = "thread 'main' panicked at src/a.rs:1:2:\nout of memory\nnote: run with\n";
        assert_eq!(why(exit, "some warning\nbroken\n"), "broken");
        assert_eq!(why(exit, ""), "it ended with exit status: 3");
        assert_eq!(why(exit, panic), "out of memory");
        assert!(why(abort, panic).starts_with("out of memory (it ended with signal: 6"));
        assert!(why(abort, "some warning\n").starts_with("it ended with signal: 6"));
    }

    #[test]
    fn a_process_that_takes_too_long_is_stopped() {
        // Would read the manifest in some milliseconds, if it were given them.
        let command = cargo(&["read-manifest"]);
        let problem = command.run_within(Some(Duration::ZERO)).unwrap_err();
        assert!(problem.contains("stopped"), "{problem}");
    }

    #[test]
    fn a_process_yields_its_line_and_its_time() {
        let folder = env!("CARGO_MANIFEST_DIR");
        let manifest = format!("{folder}/Cargo.toml");
        let ran = cargo(&["read-manifest", "--manifest-path", &manifest])
            .run()
            .unwrap();
        assert_eq!(ran.line["name"], "xtask");
        assert!(ran.seconds > 0.0);
    }
}
