//! Where the model is that `--model` names: a path, or a repository in the Hugging Face cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_store::{RunDir, StoreError};

use crate::commands::RUNS;
use crate::exit::UsageError;

/// The path itself, or the cached repository that `OWNER/NAME` names where no such path is there.
///
/// # Errors   [`StoreError::Missing`] for what looks like a repository and is not in the cache, with how to get it
pub fn find(path: &Path) -> Result<PathBuf, StoreError> {
    find_in(path, cache())
}

fn find_in(path: &Path, cache: Option<PathBuf>) -> Result<PathBuf, StoreError> {
    let repository = match repository(path) {
        Some(repository) if !path.exists() => repository,
        _ => return Ok(path.to_owned()),
    };
    let cached = cache
        .as_ref()
        .map(|cache| cache.join(format!("models--{}", repository.replace('/', "--"))));
    match (cached, cache) {
        (Some(found), _) if found.is_dir() => Ok(found),
        (_, cache) => Err(StoreError::Missing {
            path: path.to_owned(),
            what: match cache {
                Some(cache) => format!(
                    "this path and a repository of that name in {}",
                    cache.display()
                ),
                None => "this path and a Hugging Face cache".to_owned(),
            },
            hint: format!("give a path, or download it with `hf download {repository}`"),
        }),
    }
}

/// `OWNER/NAME` of the letters that names on Hugging Face have.
fn repository(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (owner, name) = text.split_once('/')?;
    let is_name = |part: &str| {
        part.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    (is_name(owner) && is_name(name)).then_some(text)
}

/// `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`, as in Python's huggingface_hub.
fn cache() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(cache) = set("HF_HUB_CACHE") {
        return Some(cache.into());
    }
    if let Some(home) = set("HF_HOME") {
        return Some(PathBuf::from(home).join("hub"));
    }
    let caches = match set("XDG_CACHE_HOME") {
        Some(caches) => PathBuf::from(caches),
        None => env::home_dir()?.join(".cache"),
    };
    Some(caches.join("huggingface").join("hub"))
}

/// Where a model lies: the one that is named, or the latest run.
///
/// # Errors   [`UsageError`] if there is neither
pub fn named_or_latest(name: Option<&Path>) -> Result<PathBuf> {
    if let Some(name) = name {
        return Ok(find(name)?);
    }
    let latest = match Path::new(RUNS).is_dir() {
        true => RunDir::latest(RUNS)?,
        false => None,
    };
    match latest {
        Some(run) => Ok(run.path().to_owned()),
        None => Err(UsageError(format!(
            "there is no run below {RUNS}/; train one with `ddpm train`, or name a model with --model"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_found_in_the_cache_and_paths_stay() {
        let cache = tempfile::tempdir().unwrap();
        let cached = cache.path().join("models--google--ddpm-cifar10-32");
        std::fs::create_dir(&cached).unwrap();
        let find = |name: &str| find_in(Path::new(name), Some(cache.path().to_owned()));
        assert_eq!(find("google/ddpm-cifar10-32").unwrap(), cached);
        for path in [
            "runs",
            "./google/x",
            "/google/x",
            "a/b/c",
            "../x",
            "src/models.rs",
        ] {
            assert_eq!(find(path).unwrap(), Path::new(path));
        }
        let message = find("google/other").unwrap_err().to_string();
        for word in [
            "google/other",
            "hf download",
            &*cache.path().to_string_lossy(),
        ] {
            assert!(message.contains(word), "{message}");
        }
    }
}
