//! The rules of the house that the compiler does not know.
//!
//! Each broken rule is one line, `file: rule`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use toml::{Table, Value};

use crate::step::say;

mod manifest;
mod source;

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub struct Member {
    /// The name of its package.
    pub name: String,
    /// Its folder, relative to the workspace's.
    pub folder: PathBuf,
    /// Its `Cargo.toml`.
    manifest: Table,
}

impl Member {
    /// The path of one of its files, as it stands in a message.
    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().replace('\\', "/")
    }
}

/// Checks the whole workspace.
///
/// # Errors
/// If a rule is broken, after one line for each, or if a file cannot be read.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let broken = check(root)?;
    for line in &broken {
        say(line);
    }
    if broken.is_empty() {
        Ok(())
    } else {
        bail!("tidy: rules broken {} times; see above", broken.len());
    }
}

/// Every broken rule, as a line each, sorted.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let members = members(root)?;
    let mut broken = Vec::new();
    for member in &members {
        broken.extend(manifest::check(member, &members));
        for path in rust_files(&root.join(&member.folder))? {
            let text = read(&path)?;
            let within = path
                .strip_prefix(root.join(&member.folder))
                .unwrap_or(&path);
            broken.extend(source::check(member, within, &text));
        }
    }
    broken.extend(recipes(root)?);
    broken.sort();
    Ok(broken)
}

/// The crates that the workspace's manifest lists, in the order of their names.
///
/// # Errors
/// If a manifest cannot be read.
pub fn members(root: &Path) -> anyhow::Result<Vec<Member>> {
    let workspace = manifest(&root.join("Cargo.toml"))?;
    let listed = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(Value::as_array)
        .context("Cargo.toml: no list `members`")?;
    let mut folders = Vec::new();
    for pattern in listed.iter().filter_map(Value::as_str) {
        match pattern.strip_suffix("/*") {
            None => folders.push(root.join(pattern)),
            Some(parent) => folders.extend(entries(&root.join(parent))?),
        }
    }
    let mut members = Vec::new();
    for folder in folders {
        let path = folder.join("Cargo.toml");
        if !path.is_file() {
            continue;
        }
        let manifest = manifest(&path)?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str)
            .with_context(|| format!("{}: no package name", path.display()))?;
        members.push(Member {
            name: name.to_owned(),
            folder: folder.strip_prefix(root).unwrap_or(&folder).to_owned(),
            manifest,
        });
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

/// Recipes that README.md does not tell of. A workspace without a README has no such rule.
fn recipes(root: &Path) -> anyhow::Result<Vec<String>> {
    let (readme, configs) = (root.join("README.md"), root.join("configs"));
    if !readme.is_file() || !configs.is_dir() {
        return Ok(Vec::new());
    }
    let readme = read(&readme)?;
    let recipes = entries(&configs)?.into_iter().filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    Ok(recipes
        .filter_map(|path| Some(format!("configs/{}", path.file_name()?.to_string_lossy())))
        .filter(|name| !readme.contains(name))
        .map(|name| format!("{name}: README.md does not mention this recipe"))
        .collect())
}

fn manifest(path: &Path) -> anyhow::Result<Table> {
    read(path)?
        .parse()
        .with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// What a folder holds, by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || folder.display().to_string();
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Every Rust file below a folder, build output aside.
fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
