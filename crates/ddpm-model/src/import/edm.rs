//! A snapshot of EDM: the pickled object of its preconditioned network, which says everything.

use ddpm_diffusion::sampler::heun::Heun;
use ddpm_diffusion::{ObjectiveConfig, SampleConfig, Sampler};
use ddpm_schedule::{Edm, Prediction, ProcessConfig, ScheduleConfig, Spacing, Vp};
use ddpm_store::NamedTensor;
use ddpm_store::torch::{TorchFile, Value};
use ddpm_unet::foreign::edm;
use serde_json::{Map, json};

use super::{ImportOptions, Imported, Network, Origin, Setting, sections, size};
use crate::error::ModelError;

/// The sampler of its `generate.py`.
const STEPS: usize = 18;
const RHO: f64 = 7.0;
const SIGMA_MIN: f64 = 0.002;
const SIGMA_MAX: f64 = 80.0;
/// Arguments of `VPPrecond` that are not its network's.
const OF_VP: [&str; 4] = ["beta_d", "beta_min", "M", "epsilon_t"];

pub(super) fn read(
    file: &TorchFile,
    ema: Value<'_>,
    class: &str,
    options: &ImportOptions,
) -> Result<Imported, ModelError> {
    options.only_size("EDM")?;
    let refuse = |problem: String| ModelError::Format {
        path: file.path().to_owned(),
        problem,
    };
    let number = |name: &str| {
        let found = ema.get(name).and_then(Value::float);
        found.ok_or_else(|| {
            refuse(format!(
                "its `{class}` has no number `{name}`; the file was altered"
            ))
        })
    };
    let (process, prediction) = match class {
        "EDMPrecond" => {
            let edm = Edm {
                sigma_min: number("sigma_min")?.max(SIGMA_MIN),
                sigma_max: number("sigma_max")?.min(SIGMA_MAX),
                sigma_data: number("sigma_data")?,
                ..Edm::default()
            };
            (ProcessConfig::Edm(edm), Prediction::Edm)
        }
        "VPPrecond" if number("M")? == 1000.0 => {
            let beta_min = number("beta_min")?;
            let vp = Vp {
                beta_min,
                beta_max: beta_min + number("beta_d")?,
                ..Vp::default()
            };
            (ProcessConfig::Vp(vp), Prediction::Eps)
        }
        _ => {
            return Err(refuse(format!(
                "its network is preconditioned by `{class}`, which is not supported; `EDMPrecond` and `VPPrecond` with M = \
                 1000 are"
            )));
        }
    };
    let network = ema.get("_modules").and_then(|modules| modules.get("model"));
    let kind = network.and_then(Value::class);
    let kind = kind.ok_or_else(|| {
        refuse(format!(
            "its `{class}` has no network; the file was altered"
        ))
    })?;
    let positional = ema
        .get("_init_args")
        .map(Value::elements)
        .unwrap_or_default();
    let mut arguments = Map::new();
    let given = ema.get("_init_kwargs");
    for name in given.map(Value::keys).unwrap_or_default() {
        if OF_VP.contains(&name) || name.starts_with("sigma_") {
            continue;
        }
        let value = given
            .and_then(|given| given.get(name))
            .and_then(Value::json);
        let value = value.ok_or_else(|| {
            refuse(format!(
                "the argument `{name}` of its `{class}` is no plain value"
            ))
        })?;
        arguments.insert(name.to_owned(), value);
    }
    if arguments.is_empty() || !positional.is_empty() {
        return Err(refuse(format!(
            "the arguments of its `{class}` are not in the file by name; make the snapshot anew with EDM's own training"
        )));
    }
    arguments.insert("model_type".into(), json!(kind));
    let bad = |error: ddpm_unet::UnetError| refuse(error.to_string());
    let config = edm::config(&arguments).map_err(bad)?;
    let tensors = ema.read_tensors()?.into_iter();
    let tensors = tensors.map(|tensor| (tensor.name, tensor.shape, tensor.data));
    let weights = edm::parameters(&config, tensors).map_err(bad)?;

    let known = ([config.img_resolution; 2], Origin::Read);
    let (size, size_origin) = size(file.path(), options.size, Some(known))?;
    let classes = match config.label_dim {
        0 => "none".to_owned(),
        classes => classes.to_string(),
    };
    let settings = vec![
        Setting::new("network", kind, Origin::Read),
        Setting::new(
            "image size",
            format!("{}x{}", size[0], size[1]),
            size_origin,
        ),
        Setting::new("classes", classes, Origin::Read),
        Setting::new(
            "process",
            if prediction == Prediction::Edm {
                "edm"
            } else {
                "vp"
            },
            Origin::Read,
        ),
        Setting::new("weights", "ema", Origin::Read),
        Setting::new("sampler", format!("heun, {STEPS} steps"), Origin::Taken),
    ];
    let mut json = config.to_json();
    json.insert("_class_name".into(), json!("EdmUNet"));
    let objective = ObjectiveConfig {
        prediction: Some(prediction),
        ..ObjectiveConfig::default()
    };
    let sample = SampleConfig {
        sampler: Sampler::Heun(Heun::default()),
        steps: Some(STEPS),
        spacing: Some(Spacing::Karras {
            rho: RHO,
            sigma_min: Some(SIGMA_MIN),
            sigma_max: Some(SIGMA_MAX),
        }),
        clip: false,
        ..SampleConfig::default()
    };
    Ok(Imported {
        source: file.path().to_owned(),
        program: "EDM",
        settings,
        network: Network {
            channels: config.in_channels,
            config: json,
            weights: weights
                .into_iter()
                .map(|(name, shape, data)| NamedTensor { name, shape, data })
                .collect(),
            ema: Vec::new(),
            step: None,
        },
        sections: sections(process, ScheduleConfig::default(), objective, sample),
        size,
    })
}
