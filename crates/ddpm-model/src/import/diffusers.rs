//! A diffusers directory: everything is said there.

use std::path::Path;

use burn::tensor::Device;
use ddpm_diffusion::ObjectiveConfig;
use ddpm_store::DiffusersModel;
use ddpm_store::checkpoint::Weights;

use super::{ImportOptions, Imported, Network, Origin, Setting, sections, size, variance, word};
use crate::error::ModelError;
use crate::open::OpenedModel;

pub(super) fn read(
    source: &Path,
    options: &ImportOptions,
    device: &Device,
) -> Result<Imported, ModelError> {
    options.only_size("diffusers")?;
    let ours = ["config.toml", "manifest.json"];
    if ours.iter().any(|name| source.join(name).is_file()) {
        return Err(ModelError::Format {
            path: source.to_owned(),
            problem:
                "this is a run or a checkpoint of this program, which is taken as it is: --model"
                    .into(),
        });
    }
    let mut opened = OpenedModel::open(source, Some(Weights::Raw), device)?;
    opened.prepare(None, None)?;
    let known = opened.size.map(|size| (size, Origin::Read));
    let (size, size_origin) = size(source, options.size, known)?;
    let raw = DiffusersModel::read_weights(source, Some(Weights::Raw))?;
    let averaged = DiffusersModel::read_weights(source, Some(Weights::Ema))?;
    let ema = match averaged.unet_dir == raw.unet_dir {
        true => Vec::new(),
        false => averaged.tensors.tensors,
    };
    let process = opened.process()?;
    let scheduler = match raw.scheduler_path {
        Some(_) => Origin::Read,
        None => Origin::Taken,
    };
    let settings = vec![
        Setting::new(
            "image size",
            format!("{}x{}", size[0], size[1]),
            size_origin,
        ),
        Setting::new("process", process.name(), scheduler),
        Setting::new("prediction", word(opened.meaning.prediction), scheduler),
        Setting::new("sampler", opened.sample.sampler.name(), scheduler),
        Setting::new(
            "weights",
            if ema.is_empty() {
                "unet"
            } else {
                "unet and unet_ema"
            },
            Origin::Read,
        ),
    ];
    let objective = ObjectiveConfig {
        prediction: Some(opened.meaning.prediction),
        variance: variance(opened.meaning.variance),
        ..ObjectiveConfig::default()
    };
    Ok(Imported {
        source: source.to_owned(),
        program: "diffusers",
        settings,
        network: Network {
            config: opened.model.to_json(),
            weights: raw.tensors.tensors,
            ema,
            channels: opened.channels,
            step: None,
        },
        sections: sections(opened.process, opened.schedule, objective, opened.sample),
        size,
    })
}
