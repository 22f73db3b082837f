//! Files of `torch.save`: every tensor in them, beside what PyTorch reads.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use ddpm_store::torch::TorchFile;
use ddpm_store::{NamedTensor, TensorFile};

use super::Kind;
use crate::Case;

pub(super) const KIND: Kind = Kind {
    name: "unet2/pt_files",
    cases,
};

/// Numbers are read, not computed.
const LIMIT: f64 = 0.0;

fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let expected = TensorFile::read(&folder.join("expected.safetensors"))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pt") {
            files.push(path);
        }
    }
    files.sort();
    let case = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Case::new(name, LIMIT, difference(path, &expected.tensors))
    };
    Ok(files.iter().map(case).collect())
}

/// The largest difference of a number. A file may hold its tensors below `model`, their names behind `module.`, and
/// parameters alone, which are of floating types.
fn difference(path: &Path, expected: &[NamedTensor]) -> anyhow::Result<f64> {
    let file = TorchFile::open(path)?;
    let root = file.root();
    let read = match root.get("model") {
        Some(model) => model.read_tensors()?,
        None => root.read_tensors()?,
    };
    let name = |tensor: &NamedTensor| tensor.name.trim_start_matches("module.").to_owned();
    let mut read: BTreeMap<String, NamedTensor> = read
        .into_iter()
        .map(|tensor| (name(&tensor), tensor))
        .collect();
    let parameters = path.file_stem().is_some_and(|stem| stem == "parameters");
    let mut worst = 0f64;
    for theirs in expected {
        let whole = ["count", "bytes", "flags"].contains(&theirs.name.as_str());
        let ours = match read.remove(&theirs.name) {
            None if parameters && whole => continue,
            ours => ours.with_context(|| format!("`{}` is missing", theirs.name))?,
        };
        ensure!(
            ours.shape == theirs.shape && ours.data.len() == theirs.data.len(),
            "`{}` has the shape {:?} instead of {:?}",
            theirs.name,
            ours.shape,
            theirs.shape
        );
        for (a, b) in ours.data.iter().zip(&theirs.data) {
            worst = worst.max(f64::from((a - b).abs()));
        }
    }
    ensure!(read.is_empty(), "more tensors: {:?}", read.keys());
    Ok(worst)
}
