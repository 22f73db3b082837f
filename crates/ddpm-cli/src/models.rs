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
    Some(caches()?.join("huggingface").join("hub"))
}

/// `$XDG_CACHE_HOME`, else `~/.cache`.
pub fn caches() -> Option<PathBuf> {
    match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(caches) => Some(PathBuf::from(caches)),
        None => Some(env::home_dir()?.join(".cache")),
    }
}

/// The weights of FID's Inception, where Python's programs have put them: below torch's cache or that of Hugging Face.
pub fn inception() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let torch = match set("TORCH_HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => caches().map(|caches| caches.join("torch")),
    };
    inception_in(torch.as_deref(), cache().as_deref())
}

/// Names of the file with pytorch-fid and torch-fidelity.
const INCEPTION: [&str; 2] = [
    "pt_inception-2015-12-05-6726825d.pth",
    "weights-inception-2015-12-05-6726825d.pth",
];

fn inception_in(torch: Option<&Path>, hub: Option<&Path>) -> Option<PathBuf> {
    let checkpoints = torch.map(|torch| torch.join("hub").join("checkpoints"));
    let folders = |path: PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let repositories = hub.map(|hub| folders(hub.to_owned())).unwrap_or_default();
    let snapshots = repositories
        .into_iter()
        .flat_map(|repository| folders(repository.join("snapshots")));
    checkpoints
        .into_iter()
        .chain(snapshots)
        .flat_map(|folder| INCEPTION.map(|name| folder.join(name)))
        .find(|file| file.is_file())
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
    fn weights_of_inception_are_found_in_both_caches() {
        let place = tempfile::tempdir().unwrap();
        let [torch, hub] = ["torch", "hub"].map(|name| place.path().join(name));
        let find = || inception_in(Some(&torch), Some(&hub));
        assert_eq!(find(), None);
        let snapshot = hub.join("models--a--b/snapshots/0123");
        std::fs::create_dir_all(&snapshot).unwrap();
        let second = snapshot.join(INCEPTION[1]);
        std::fs::write(&second, "").unwrap();
        assert_eq!(find(), Some(second));
        std::fs::create_dir_all(torch.join("hub/checkpoints")).unwrap();
        let first = torch.join("hub/checkpoints").join(INCEPTION[0]);
        std::fs::write(&first, "").unwrap();
        assert_eq!(find(), Some(first));
    }

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
