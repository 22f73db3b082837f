//! Which file of a network's directory holds its weights.

use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};
use crate::io;
use crate::tensors::{self, NamedTensor, PICKLE, TensorFile};

pub(super) const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const STEM: &str = "diffusion_pytorch_model";
const INDEX: &str = "safetensors.index.json";
/// What accelerate calls them.
const OTHER_NAME: &str = "model.safetensors";
const PICKLES: [&str; 2] = ["diffusion_pytorch_model.bin", "pytorch_model.bin"];
/// Variants that are taken before others, the most exact first.
const BEST_VARIANTS: [&str; 3] = ["fp32", "fp16", "bf16"];

/// What wrappers of PyTorch put before every name: `torch.compile` and `DistributedDataParallel`.
const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];

/// A file of weights, or the index of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    path: PathBuf,
    sharded: bool,
    /// The word between the name and the ending: `fp16`.
    variant: Option<String>,
}

/// Looks for, in this order: the plain file, its index of shards, a variant of either (fp32 before fp16 before bf16, any
/// other only if it is alone), `model.safetensors`.
///
/// # Errors   [`StoreError::Missing`] if it is not said which of several variants is meant, [`StoreError::Io`]
pub(super) fn find(directory: &Path) -> Result<Option<Found>> {
    let plain = |name: &str, sharded| Found {
        path: directory.join(name),
        sharded,
        variant: None,
    };
    let index = format!("{STEM}.{INDEX}");
    for found in [plain(WEIGHTS, false), plain(&index, true)] {
        if found.path.is_file() {
            return Ok(Some(found));
        }
    }
    let mut variants: Vec<Found> = io::read_dir_sorted(directory)?
        .into_iter()
        .filter(|path| path.is_file())
        .filter_map(variant)
        .collect();
    let rank = |found: &Found| {
        let name = found.variant.as_deref().unwrap_or_default();
        let place = BEST_VARIANTS.iter().position(|best| *best == name);
        (place.unwrap_or(BEST_VARIANTS.len()), found.sharded)
    };
    variants.sort_by_key(rank);
    let undecided = variants.len() > 1
        && variants
            .iter()
            .all(|found| rank(found).0 == BEST_VARIANTS.len());
    if undecided {
        let names: Vec<_> = variants
            .iter()
            .filter_map(|found| found.variant.as_deref())
            .collect();
        return Err(StoreError::Missing {
            path: directory.join(WEIGHTS),
            what: format!("the weights (there are the variants {})", names.join(", ")),
            hint: "rename the one that you want to that".to_owned(),
        });
    }
    if let Some(best) = variants.into_iter().next() {
        return Ok(Some(best));
    }
    let other = plain(OTHER_NAME, false);
    Ok(other.path.is_file().then_some(other))
}

/// `diffusion_pytorch_model.fp16.safetensors`, `….safetensors.index.fp16.json` or `….fp16.safetensors.index.json`.
fn variant(path: PathBuf) -> Option<Found> {
    let rest = path
        .file_name()?
        .to_str()?
        .strip_prefix(STEM)?
        .strip_prefix('.')?;
    let sharded_name = rest
        .strip_prefix("safetensors.index.")
        .and_then(|rest| rest.strip_suffix(".json"))
        .or_else(|| rest.strip_suffix(INDEX)?.strip_suffix('.'));
    let (name, sharded) = match sharded_name {
        Some(name) => (name, true),
        None => (rest.strip_suffix(".safetensors")?, false),
    };
    // A shard's own name: `….fp16-00001-of-00002.safetensors`.
    let is_word = !name.is_empty() && !name.contains('.') && !name.contains("-of-");
    let variant = Some(name.to_owned());
    is_word.then_some(Found {
        path,
        sharded,
        variant,
    })
}

/// Reads the weights of a directory, without the names that wrappers of PyTorch have put before all.
///
/// # Errors   [`StoreError::Missing`] if there are none, [`StoreError::Format`] for pickles and what is broken,
/// [`StoreError::Tensor`] for numbers that are not finite, [`StoreError::Io`]
pub(super) fn read(directory: &Path) -> Result<TensorFile> {
    let Some(found) = find(directory)? else {
        if let Some(pickle) = PICKLES
            .iter()
            .map(|name| directory.join(name))
            .find(|path| path.is_file())
        {
            return Err(StoreError::format(&pickle, "safetensors", PICKLE));
        }
        return Err(StoreError::Missing {
            path: directory.join(WEIGHTS),
            what: "the weights".to_owned(),
            hint: "copy them there, or save the model with safe_serialization=True".to_owned(),
        });
    };
    if let Some(variant) = &found.variant {
        tracing::warn!(
            "{}: reading the variant {variant}, the only weights there",
            found.path.display()
        );
    }
    let mut file = match found.sharded {
        true => tensors::read_sharded(&found.path)?,
        false => {
            let file = TensorFile::read(&found.path)?;
            tensors::check_finite(&found.path, &file.tensors)?;
            file
        }
    };
    unwrap_names(&mut file.tensors);
    Ok(file)
}

fn unwrap_names(tensors: &mut [NamedTensor]) {
    while let Some(wrapper) = WRAPPERS.iter().find(|wrapper| {
        !tensors.is_empty()
            && tensors
                .iter()
                .all(|tensor| tensor.name.starts_with(**wrapper))
    }) {
        for tensor in tensors.iter_mut() {
            tensor.name.drain(..wrapper.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tensor(name: &str) -> NamedTensor {
        NamedTensor {
            name: name.into(),
            shape: vec![1],
            data: vec![0.5],
        }
    }

    #[test]
    fn the_best_file_is_found() {
        let name = |rest: &str| format!("{STEM}{rest}");
        let [plain, index, fp16, bf16, ema] = [
            ".safetensors",
            ".safetensors.index.json",
            ".fp16.safetensors",
            ".bf16.safetensors",
            ".non_ema.safetensors",
        ]
        .map(name);
        let [index16, index16_old] = [
            ".safetensors.index.fp16.json",
            ".fp16.safetensors.index.json",
        ]
        .map(name);
        let shard = name(".fp16-00001-of-00002.safetensors");
        for (files, expected) in [
            (vec![&plain, &fp16, &index], Some(&plain)),
            (vec![&index, &fp16], Some(&index)),
            (vec![&bf16, &fp16], Some(&fp16)),
            (vec![&bf16, &ema], Some(&bf16)),
            (vec![&ema], Some(&ema)),
            (vec![&index16, &shard], Some(&index16)),
            (vec![&index16_old, &shard], Some(&index16_old)),
            (vec![&shard], None),
            (vec![&OTHER_NAME.to_owned()], Some(&OTHER_NAME.to_owned())),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for file in &files {
                fs::write(folder.path().join(file), "").unwrap();
            }
            let found = find(folder.path()).unwrap().map(|found| found.path);
            assert_eq!(
                found,
                expected.map(|name| folder.path().join(name)),
                "{files:?}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        for word in ["a", "b"] {
            fs::write(folder.path().join(format!("{STEM}.{word}.safetensors")), "").unwrap();
        }
        let message = find(folder.path()).unwrap_err().to_string();
        assert!(message.contains("variants a, b"), "{message}");
    }

    #[test]
    fn wrappers_are_taken_off_where_all_have_them() {
        for (names, expected) in [
            (["_orig_mod.a", "_orig_mod.b"], ["a", "b"]),
            (["module.a.w", "module.b.w"], ["a.w", "b.w"]),
            (["_orig_mod.module.a", "_orig_mod.module.b"], ["a", "b"]),
            (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
            (["module.a", "b"], ["module.a", "b"]),
        ] {
            let mut tensors = names.map(tensor);
            unwrap_names(&mut tensors);
            assert_eq!(tensors.map(|tensor| tensor.name), expected);
        }
        unwrap_names(&mut []);
    }

    #[test]
    fn numbers_that_are_not_finite_name_file_and_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{STEM}.fp16.safetensors"));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut spoilt = tensor("conv_in.bias");
            spoilt.data = vec![bad];
            TensorFile::new(vec![tensor("a"), spoilt])
                .write(&path)
                .unwrap();
            let error = read(folder.path()).unwrap_err();
            assert!(
                matches!(&error, StoreError::Tensor { path: p, name, .. } if p == &path && name == "conv_in.bias"),
                "{error}"
            );
        }
    }

    #[test]
    fn pointers_of_git_lfs_are_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 143000000\n";
        fs::write(folder.path().join(WEIGHTS), pointer).unwrap();
        let message = read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("git lfs pull"), "{message}");
    }
}
