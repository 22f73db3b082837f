//! The metric log: one JSON object a line, appended as training goes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Result, StoreError};
use crate::io::OutFile;

/// A line has some hundred bytes; a longer one is another file, or a damaged one.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Every line read becomes an object of some hundred bytes more.
const MAX_LOG_BYTES: u64 = 1 << 30;

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
            let whole = File::open(path)
                .and_then(|mut file| end_of_lines(&mut file, log.position))
                .map_err(StoreError::io(path, "read"))?;
            log.truncate_at(whole)?;
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

/// Where the last whole line of a log of `bytes` ends, found from the end.
fn end_of_lines(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<u64> {
    const STEP: u64 = 1 << 16;
    let mut end = bytes;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut piece = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut piece)?;
        if let Some(last) = piece.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// All entries of a log; a last line without an end is ignored.
///
/// # Errors   [`StoreError::Format`] naming the first line that is not JSON or too long, or for a log of more
/// than 1 GiB, [`StoreError::Io`]
pub fn read_metrics(path: &Path) -> Result<Vec<Value>> {
    let file = File::open(path).map_err(StoreError::io(path, "open"))?;
    let bytes = file.metadata().map_err(StoreError::io(path, "read"))?.len();
    if bytes > MAX_LOG_BYTES {
        let problem = format!("{bytes} bytes, over the limit of {MAX_LOG_BYTES}");
        return Err(StoreError::format(path, "JSON lines", problem));
    }
    // The length again as a limit: the log may be growing.
    read_lines(path, file.take(bytes), 1)
}

/// The last whole entry of a log, without reading the rest; `None` if there is none.
///
/// # Errors   as [`read_metrics`], of the last line
pub fn last_metrics(path: &Path) -> Result<Option<Value>> {
    let failed = |error| StoreError::io(path, "read")(error);
    let mut file = File::open(path).map_err(StoreError::io(path, "open"))?;
    let bytes = file.metadata().map_err(failed)?.len();
    let end = end_of_lines(&mut file, bytes).map_err(failed)?;
    // The line before the one that ends here; a line over the limit is found to be one when it is read.
    let floor = end.saturating_sub(MAX_LINE_BYTES + 1);
    let mut tail = vec![0; (end - floor) as usize];
    file.seek(SeekFrom::Start(floor)).map_err(failed)?;
    file.read_exact(&mut tail).map_err(failed)?;
    let start = match tail.split_last() {
        Some((_, rest)) => rest
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1),
        None => return Ok(None),
    };
    Ok(read_lines(path, &tail[start..], 0)?.pop())
}

/// The entries of `input`, whose first line has the number `first`; 0 if that is not known.
fn read_lines(path: &Path, input: impl Read, first: usize) -> Result<Vec<Value>> {
    let mut input = BufReader::new(input);
    let mut entries = Vec::new();
    let mut line = Vec::new();
    for number in first.. {
        line.clear();
        (&mut input)
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut line)
            .map_err(StoreError::io(path, "read"))?;
        let problem = match serde_json::from_slice(&line) {
            _ if line.is_empty() => break,
            _ if line.len() as u64 > MAX_LINE_BYTES => {
                format!("more than {MAX_LINE_BYTES} bytes")
            }
            Ok(entry) => {
                entries.push(entry);
                continue;
            }
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => error.to_string(),
        };
        let place = match first {
            0 => "the last line".to_owned(),
            _ => format!("line {number}"),
        };
        return Err(StoreError::format(
            path,
            "JSON lines",
            format!("{place}: {problem}"),
        ));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

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

    #[test]
    fn the_last_line_is_found_without_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let last = |text: &str| {
            fs::write(&path, text).unwrap();
            last_metrics(&path)
        };
        assert_eq!(last("").unwrap(), None);
        assert_eq!(last("{\"a\":1}").unwrap(), None);
        assert_eq!(last("1\n").unwrap(), Some(json!(1)));
        assert_eq!(last("nonsense\n2\n{\"st").unwrap(), Some(json!(2)));
        // Longer than the steps in which the end is looked for.
        let padding = " ".repeat(300_000);
        assert_eq!(
            last(&format!("1\n{padding}3\n{padding}")).unwrap(),
            Some(json!(3))
        );
        let message = last("1\n{]\n").unwrap_err().to_string();
        assert!(message.contains("the last line"), "{message}");
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let long = "[".to_owned() + &"1,".repeat(1 << 20) + "1]\n";
        fs::write(&path, format!("1\n{long}")).unwrap();
        for error in [read_metrics(&path).err(), last_metrics(&path).err()] {
            let message = error.unwrap().to_string();
            assert!(message.contains("more than 1048576 bytes"), "{message}");
        }
        fs::write(&path, format!("1\n{}", "0".repeat(2 << 20))).unwrap();
        assert_eq!(MetricsLog::open(&path).unwrap().position(), 2);
    }
}
