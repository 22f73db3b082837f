//! What the doctor finds.

use anyhow::Error;
use serde_json::{Value, json};

use crate::exit::{self, Exit};
use crate::words;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// The run can be done, but is probably not what is wanted.
    Warn,
    /// The run cannot be done.
    Fail,
}

impl Level {
    /// The mark in front of the line.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in one word.
    pub topic: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found and, unless all is well, what to change.
    pub text: String,
}

impl Finding {
    /// A finding of any level.
    pub fn new(level: Level, topic: &'static str, text: impl Into<String>) -> Self {
        Self {
            topic,
            level,
            text: text.into(),
        }
    }

    /// As it should be.
    pub fn ok(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, topic, text)
    }

    /// Worth knowing.
    pub fn note(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Note, topic, text)
    }

    /// Probably not what is wanted.
    pub fn warn(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warn, topic, text)
    }

    /// The run cannot be done.
    pub fn fail(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Fail, topic, text)
    }
}

/// All lines, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    /// Of the first failure that keeps its own code.
    exit: Option<Exit>,
}

impl Findings {
    /// One more.
    pub fn add(&mut self, finding: Finding) {
        self.list.push(finding);
    }

    /// Some more.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.list.extend(findings);
    }

    /// An error. Those of the data and of the device keep their exit code; what else fails is for the
    /// configuration to change.
    pub fn error(&mut self, topic: &'static str, error: impl Into<Error>) {
        let error = error.into();
        let code = exit::code_of(&error);
        if matches!(code, Exit::Data | Exit::Device) && self.exit.is_none() {
            self.exit = Some(code);
        }
        self.add(Finding::fail(topic, exit::sentence(&error)));
    }

    /// Whether anything failed.
    pub fn failed(&self) -> bool {
        self.count(Level::Fail) > 0
    }

    /// How the process ends: warnings do not count.
    pub fn exit(&self) -> Exit {
        match self.failed() {
            true => self.exit.unwrap_or(Exit::Usage),
            false => Exit::Done,
        }
    }

    fn count(&self, level: Level) -> u64 {
        let of_level = self.list.iter().filter(|finding| finding.level == level);
        of_level.count() as u64
    }

    /// A line each, and what follows from them.
    pub fn text(&self) -> String {
        let widest = self.list.iter().map(|finding| finding.topic.len()).max();
        let width = widest.unwrap_or_default();
        let mut text = String::new();
        for finding in &self.list {
            let mark = finding.level.mark();
            text += &format!("{mark:<4}  {:<width$}  {}\n", finding.topic, finding.text);
        }
        let warnings = words::some(self.count(Level::Warn), "warning");
        text += &match self.count(Level::Fail) {
            0 => format!("nothing failed, {warnings}: the run can begin\n"),
            fails => format!(
                "{} failed, {warnings}: change what failed before training\n",
                words::some(fails, "check")
            ),
        };
        text
    }

    /// A list of `{topic, level, text}`.
    pub fn json(&self) -> Value {
        self.list
            .iter()
            .map(|finding| {
                json!({
                    "topic": finding.topic, "level": finding.level.mark(), "text": finding.text,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::UsageError;
    use ddpm_data::DataError;

    #[test]
    fn warnings_do_not_fail_and_errors_keep_their_code() {
        let mut findings = Findings::default();
        findings.add(Finding::ok("a", "fine"));
        findings.extend([Finding::warn("second", "odd"), Finding::note("b", "so")]);
        assert_eq!((findings.failed(), findings.exit()), (false, Exit::Done));
        assert_eq!(
            findings.text(),
            "ok    a       fine\nwarn  second  odd\nnote  b       so\n\
             nothing failed, 1 warning: the run can begin\n"
        );
        findings.error("c", UsageError("bad".into()));
        assert_eq!(findings.exit(), Exit::Usage);
        findings.error("d", DataError::Index { index: 0, len: 0 });
        assert_eq!((findings.failed(), findings.exit()), (true, Exit::Data));
        assert_eq!(
            findings.json()[3],
            json!({"topic": "c", "level": "fail", "text": "bad"})
        );
    }
}
