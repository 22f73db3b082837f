//! Networks from their directories.

use std::path::Path;

use anyhow::{Context, anyhow};
use burn::tensor::Device;
use ddpm_store::DiffusersModel;
use ddpm_unet::{Model, params};

/// A `UNet2DModel` directory.
///
/// # Errors   if it is none that can be built
pub fn open(folder: &Path, device: &Device) -> anyhow::Result<Model> {
    let found = DiffusersModel::read(folder).with_context(|| folder.display().to_string())?;
    let (model, unknown) = Model::from_json(&found.config, device)?;
    if !unknown.is_empty() {
        return Err(anyhow!(
            "config.json has keys without a meaning here: {}",
            unknown.join(", ")
        ));
    }
    let tensors = found.tensors.tensors.into_iter();
    Ok(params::load(
        model,
        tensors.map(|tensor| (tensor.name, tensor.shape, tensor.data)),
    )?)
}
