//! Small JSON files.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic;
use crate::error::{Result, StoreError};
use crate::io;

/// The longest that is written lists ten thousand betas in some hundred kilobytes. As values in memory, a crafted file
/// takes thirty times its length.
const MAX_JSON_BYTES: u64 = 4 << 20;

/// How the stand-in begins that git leaves for a large file until git-lfs has fetched it.
pub(crate) const LFS_MARK: &[u8] = b"version https://git-lfs";
pub(crate) const LFS: &str =
    "this is the pointer that git-lfs leaves for a file; run `git lfs pull` in its repository";

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    from_bytes(path, "JSON", &io::read_bounded(path, MAX_JSON_BYTES)?)
}

/// As [`read`]; the words `Infinity` and `NaN`, which Python writes for what JSON has no numbers for, are read as strings.
pub(crate) fn read_python<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = io::read_bounded(path, MAX_JSON_BYTES)?;
    from_bytes(path, "JSON", &quoted(&bytes))
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut found = Vec::with_capacity(bytes.len());
    let (mut at, mut within) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let words: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
        let word = words
            .into_iter()
            .find(|word| !within && bytes[at..].starts_with(word));
        if let Some(word) = word {
            found.push(b'"');
            found.extend_from_slice(word);
            found.push(b'"');
            at += word.len();
            continue;
        }
        found.push(byte);
        at += 1;
        match byte {
            b'"' => within = !within,
            b'\\' if within => {
                found.extend(bytes.get(at));
                at += 1;
            }
            _ => {}
        }
    }
    found
}

/// What `bytes` say; a byte-order mark before them, as editors of Windows write it, is passed over.
pub(crate) fn from_bytes<T: DeserializeOwned>(
    path: &Path,
    format: &'static str,
    bytes: &[u8],
) -> Result<T> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.starts_with(LFS_MARK) {
        return Err(StoreError::format(path, format, LFS));
    }
    serde_json::from_slice(bytes).map_err(|error| StoreError::format(path, format, error))
}

pub(crate) fn write_pretty(path: &Path, value: &impl Serialize) -> Result<()> {
    atomic::write_file(path, &to_bytes(path, value)?)
}

/// Indented, with a newline at the end, as Python's libraries write theirs.
pub(crate) fn to_bytes(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| StoreError::format(path, "JSON", error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_before_the_text_are_understood() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        std::fs::write(&path, "\u{feff}{\"a\": 1}").unwrap();
        let read_back: serde_json::Value = read(&path).unwrap();
        assert_eq!(read_back["a"], 1);
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid x\n").unwrap();
        let message = read::<serde_json::Value>(&path).unwrap_err().to_string();
        assert!(message.contains("git lfs pull"), "{message}");
    }

    #[test]
    fn numbers_that_only_python_has_are_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let text = r#"{"a": -Infinity, "b": [Infinity, NaN], "c \" NaN": "Infinity\\"}"#;
        std::fs::write(&path, text).unwrap();
        let read_back: serde_json::Value = read_python(&path).unwrap();
        let expected = serde_json::json!({"a": "-Infinity", "b": ["Infinity", "NaN"], "c \" NaN": "Infinity\\"});
        assert_eq!(read_back, expected);
        assert!(read::<serde_json::Value>(&path).is_err());
    }

    #[test]
    fn what_is_long_or_deep_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let read = |text: String| {
            std::fs::write(&path, text).unwrap();
            read::<serde_json::Value>(&path)
        };
        let list = |count: usize| format!("[{}0]", "[],".repeat(count));
        assert!(read(list(1_000_000)).is_ok());
        let message = read(list(1_500_000)).unwrap_err().to_string();
        assert!(message.contains("4194304"), "{message}");
        assert!(read("[".repeat(100_000)).is_err());
    }
}
