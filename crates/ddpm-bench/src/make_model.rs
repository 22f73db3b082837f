//! `ddpm-bench make-model`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use ddpm_store::NamedTensor;
use ddpm_store::diffusers::{Scheduler, write_pipeline};
use ddpm_unet::params;
use serde_json::{Value, json};

use crate::{build, cpu};

/// `ddpm-bench make-model`.
#[derive(Debug, Args)]
pub struct MakeModelArgs {
    /// Configuration of a UNet2DModel (JSON)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Writes the network, with the initial weights of a fixed seed, as a pipeline that `ddpm sample`
/// and Python's diffusers read.
///
/// # Errors   for a configuration that no network can have, and what the disk reports
pub fn run(args: &MakeModelArgs) -> anyhow::Result<Value> {
    let model = build(&args.config, &cpu()?)?;
    let mut weights = Vec::new();
    for (name, data) in params::export(&model) {
        let shape = data.shape().to_vec();
        let data = data
            .try_to_vec()
            .map_err(|error| anyhow!("`{name}` cannot be read back: {error:?}"))?;
        weights.push(NamedTensor { name, shape, data });
    }
    write_pipeline(
        &args.to,
        &model.to_json(),
        &weights,
        &Scheduler::from_json(&args.to, serde_json::Map::new())?,
    )?;
    let parameters: usize = weights.iter().map(|tensor| tensor.data.len()).sum();
    Ok(json!({ "model": args.to, "parameters": parameters }))
}

#[cfg(test)]
mod tests {
    use ddpm_store::DiffusersModel;
    use ddpm_unet::Model;

    use super::*;

    #[test]
    fn what_is_written_is_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let args = MakeModelArgs {
            config: crate::tests::config("digits.json"),
            to: folder.path().join("digits"),
        };
        let line = run(&args).unwrap();
        let read = DiffusersModel::read(&args.to).unwrap();
        let (model, _) = Model::from_json(&read.config, &cpu().unwrap()).unwrap();
        let tensors = read.tensors.tensors.into_iter();
        let tensors: Vec<_> = tensors.map(|t| (t.name, t.shape, t.data)).collect();
        let count: usize = tensors.iter().map(|(_, _, data)| data.len()).sum();
        assert_eq!(line["parameters"], count);
        params::load(model, tensors).unwrap();
    }
}
