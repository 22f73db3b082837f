//! The metric log: one JSON object a line, appended as training goes.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Result, StoreError};
use crate::io::{self as disk, OutFile};

/// An open metric log.
#[derive(Debug)]
pub struct MetricsLog {
    file: OutFile,
    position: u64,
}

impl MetricsLog {
    /// Opens the log for appending, new or not; a last line without an end (a process was killed while
    /// it wrote) is cut off.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn open(path: &Path) -> Result<Self> {
        let file = OutFile::append(path)?;
        let mut log = Self {
            position: file.len()?,
            file,
        };
        if log.position > 0 {
            let bytes = fs::read(path).map_err(StoreError::io(path, "read"))?;
            let whole = bytes
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |last| last + 1);
            log.truncate_at(whole as u64)?;
        }
        Ok(log)
    }

    /// Appends one line and hands it to the system. Numbers that are not finite become `null`.
    ///
    /// # Errors   [`StoreError::Io`], [`StoreError::Format`] if `entry` has no JSON form
    pub fn write(&mut self, entry: &impl Serialize) -> Result<()> {
        let path = self.file.path().to_owned();
        let mut line =
            serde_json::to_vec(entry).map_err(|error| StoreError::format(&path, "JSON", error))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(StoreError::io(&path, "write"))?;
        self.position += line.len() as u64;
        Ok(())
    }

    /// Bytes written so far: what a checkpoint keeps so that a resumed run can go back to it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Forgets every line after the first `bytes` bytes. A log that is shorter than that (somebody
    /// removed it) stays as it is, with a warning: it is no reason to refuse to train.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn truncate_at(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.position {
            tracing::warn!(
                path = %self.file.path().display(),
                expected = bytes,
                found = self.position,
                "the metric log is shorter than when the checkpoint was saved"
            );
        } else if bytes < self.position {
            self.file.set_len(bytes)?;
            self.position = bytes;
        }
        Ok(())
    }

    /// Makes the lines durable, as a checkpoint that names [`MetricsLog::position`] needs them.
    ///
    /// # Errors   [`StoreError::Io`]
    pub fn sync(&self) -> Result<()> {
        self.file.sync()
    }
}

/// All entries of a log; a last line without an end is ignored.
///
/// # Errors   [`StoreError::Format`] naming the first line that is not JSON, [`StoreError::Io`]
pub fn read_metrics(path: &Path) -> Result<Vec<Value>> {
    const MAX_LOG_BYTES: u64 = 4 << 30;
    let bytes = disk::read_bounded(path, MAX_LOG_BYTES)?;
    let mut entries = Vec::new();
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(entry) => entries.push(entry),
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => {
                let problem = format!("line {}: {error}", index + 1);
                return Err(StoreError::format(path, "JSON lines", problem));
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn steps(path: &Path) -> Vec<u64> {
        let entries = read_metrics(path).unwrap();
        entries
            .iter()
            .map(|entry| entry["step"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn a_log_is_appended_and_cut_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path).unwrap();
        let mut saved = 0;
        for step in 0..5 {
            log.write(&json!({"step": step, "loss": 0.5})).unwrap();
            if step == 2 {
                saved = log.position();
            }
        }
        log.sync().unwrap();
        assert_eq!(log.position(), fs::metadata(&path).unwrap().len());
        drop(log);

        let mut log = MetricsLog::open(&path).unwrap();
        log.truncate_at(saved).unwrap();
        assert_eq!(steps(&path), [0, 1, 2]);
        log.write(&json!({"step": 3})).unwrap();
        assert_eq!(steps(&path), [0, 1, 2, 3]);
        log.truncate_at(1 << 40).unwrap();
        assert_eq!(steps(&path), [0, 1, 2, 3]);
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_a_torn_middle_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":0}\n{\"ste").unwrap();
        assert_eq!(steps(&path), [0]);
        let mut log = MetricsLog::open(&path).unwrap();
        log.write(&json!({"step": 1, "loss": f64::NAN})).unwrap();
        assert_eq!(steps(&path), [0, 1]);
        assert!(read_metrics(&path).unwrap()[1]["loss"].is_null());

        fs::write(&path, "{\"step\":0}\nnonsense\n{\"step\":2}\n").unwrap();
        let message = read_metrics(&path).unwrap_err().to_string();
        assert!(message.contains("line 2"), "{message}");
    }
}
