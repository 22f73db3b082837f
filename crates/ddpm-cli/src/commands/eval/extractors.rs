//! Which extractor `--extractor` means, and where its weights lie.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use ddpm_eval::{Extractor, Resize};

use crate::exit::UsageError;
use crate::models;

/// Where classifiers of sets are kept unless `--extractor FILE` says otherwise.
const FOLDER: &str = "extractors";

/// The file of the classifier of a set.
pub fn lenet(fingerprint: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("lenet-{}.safetensors", &fingerprint[..12]))
}

/// The extractor of that name or file. `fingerprint` is that of the reference, where there are images.
///
/// # Errors   [`UsageError`] saying where the weights are to be had, [`ddpm_eval::EvalError`] for a file of something else
pub fn open(
    name: &Path,
    resize: Resize,
    fingerprint: Option<&str>,
    device: &Device,
) -> Result<Extractor> {
    let refuse = |text: String| Err(UsageError(text).into());
    let file = match name.to_str() {
        Some("pixels") => return Ok(Extractor::Pixels),
        Some("inception") => match models::inception() {
            Some(file) => file,
            None => {
                return refuse(
                    "--extractor inception: its weights are in no cache of torch or Hugging Face; get them as \
                     `pip install pytorch-fid` does (pt_inception-2015-12-05-6726825d.pth, of the releases of \
                     mseitzer/pytorch-fid) and name the file: --extractor FILE"
                        .into(),
                );
            }
        },
        Some("lenet") => {
            let Some(fingerprint) = fingerprint else {
                return refuse(
                    "--extractor lenet: the reference is statistics, which it cannot be trained on; name its file with \
                     --extractor FILE"
                        .into(),
                );
            };
            let file = lenet(fingerprint);
            if !file.is_file() {
                return refuse(format!(
                    "--extractor lenet: {} is not there; train it with `ddpm eval --train-extractor --reference DATA`",
                    file.display()
                ));
            }
            file
        }
        _ => name.to_owned(),
    };
    if !file.is_file() {
        return refuse(format!(
            "--extractor {}: no such file, and no extractor of that name; there are pixels, inception and lenet",
            file.display()
        ));
    }
    Ok(Extractor::load(&file, resize, device)?)
}
