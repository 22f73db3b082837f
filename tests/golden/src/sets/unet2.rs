//! More of them, and networks of OpenAI's, NVIDIA's and lucidrains' programs, whose weights follow a formula.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::{Device, Int, Tensor};
use ddpm_unet::foreign::{Named, edm, lucidrains, openai};
use ddpm_unet::{
    ClassLabels, EdmUNet, Init, InitKind, LucidrainsUNet, Model, NetworkCondition, UNet2D, params,
};
use serde_json::{Map, Value};

use super::{Kind, gradients, unet};
use crate::Case;
use crate::keys::Keys;
use crate::source::{Source, tensor};

pub(super) const KIND: Kind = Kind {
    name: "unet2/*",
    cases,
};

/// Of `EDMPrecond`.
const SIGMA_DATA: f64 = 0.5;

fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    if folder.join("config.json").is_file() {
        return unet::cases(folder);
    }
    let io = Source::tensors(&folder.join("io"))?;
    let grads = Source::open(&folder.join("grads"))?.json;
    let config = grads
        .get("config")
        .and_then(Value::as_object)
        .context("`config` is missing")?;
    let weights = weights(&grads, &io)?;
    let device = Device::flex().autodiff();
    let mut init = Init::new(0, InitKind::Default, &device);
    if config.get("model_type").and_then(Value::as_str) == Some("lucidrains") {
        let (config, parameters) = lucidrains::network(weights.clone())?;
        let network = LucidrainsUNet::new(&config, &mut init)?;
        let network = Model::Lucidrains(params::load(network, parameters)?);
        let became = became(weights, |tensors| Ok(lucidrains::network(tensors)?.1))?;
        let x = tensor(io.tensor("x")?, &device)?.require_grad();
        let times = tensor(io.tensor("t")?, &device)?;
        let y = network.forward(x.clone(), times, NetworkCondition::default(), None)?;
        return gradients::compare(&network, &x, y, &io, &grads, |name| {
            became.get(name).cloned().unwrap_or_default()
        });
    }
    if config.contains_key("model_type") {
        let config = edm::config(config)?;
        let network = EdmUNet::new(&config, &mut init)?;
        let import = |tensors| Ok(edm::parameters(&config, tensors)?);
        let network = Model::Edm(params::load(network, import(weights.clone())?)?);
        return of_edm(&network, &io, &grads, &became(weights, import)?, &device);
    }
    let options = options(config)?;
    let (config, parameters) = openai::network(weights.clone(), options)?;
    let network = UNet2D::new(&config, false, &mut init)?;
    let network = Model::Unet(params::load(network, parameters)?);
    let became = became(weights, |tensors| Ok(openai::network(tensors, options)?.1))?;
    let labels = io.tensor("labels").ok().map(|labels| {
        let labels: Vec<i64> = labels.values.iter().map(|&label| label as i64).collect();
        ClassLabels::Index(Tensor::<1, Int>::from_data(labels.as_slice(), &device))
    });
    let x = tensor(io.tensor("x")?, &device)?.require_grad();
    let times = tensor(io.tensor("t")?, &device)?;
    let y = network.forward(x.clone(), times, NetworkCondition::of_labels(labels), None)?;
    gradients::compare(&network, &x, y, &io, &grads, |name| {
        became.get(name).cloned().unwrap_or_default()
    })
}

/// D(x; σ), the network inside with its preconditioning (Karras et al. 2022, table 1), and F alone.
fn of_edm(
    network: &Model,
    io: &Source,
    grads: &Map<String, Value>,
    became: &HashMap<String, Vec<String>>,
    device: &Device,
) -> anyhow::Result<Vec<Case>> {
    // One-hot vectors; all zeros are the null class, whose number comes after the last.
    let labels = io.tensor("labels").ok().map(|labels| {
        let rows = labels
            .values
            .chunks(labels.shape.get(1).copied().unwrap_or(1));
        let index = |row: &[f64]| row.iter().position(|&hot| hot == 1.0).unwrap_or(row.len());
        let labels: Vec<i64> = rows.map(|row| index(row) as i64).collect();
        ClassLabels::Index(Tensor::<1, Int>::from_data(labels.as_slice(), device))
    });
    let augment = io.tensor("augment_labels").ok();
    let condition = NetworkCondition {
        labels,
        vector: augment.map(|series| tensor(series, device)).transpose()?,
    };
    let noise: Tensor<1> = tensor(io.tensor("c_noise")?, device)?;
    let input = tensor(io.tensor("net_input")?, device)?;
    let raw = network.forward(input, noise, condition.clone(), None)?;
    let expected = &io.tensor("net_output")?.values;
    let mut cases = vec![Case::new(
        "network alone",
        gradients::OF_TENSORS,
        gradients::distance(raw, expected),
    )];

    let sigma: Tensor<1> = tensor(io.tensor("sigma")?, device)?;
    let noise = sigma.clone().log() / 4.0;
    // [batch] -> [batch, 1, 1, 1]
    let sigma = sigma.unsqueeze_dims::<4>(&[1, 2, 3]);
    let variance = sigma.clone().powi_scalar(2) + SIGMA_DATA * SIGMA_DATA;
    let x = tensor(io.tensor("x")?, device)?.require_grad();
    let scaled = x.clone() / variance.clone().sqrt();
    let raw = network.forward(scaled, noise, condition, None)?;
    let y = x.clone() * variance.clone().recip() * (SIGMA_DATA * SIGMA_DATA)
        + raw * sigma / variance.sqrt() * SIGMA_DATA;
    cases.extend(gradients::compare(network, &x, y, io, grads, |name| {
        became.get(name).cloned().unwrap_or_default()
    })?);
    Ok(cases)
}

/// What the weights of OpenAI's programs do not tell; all else they have to tell.
fn options(config: &Map<String, Value>) -> anyhow::Result<openai::OpenAi> {
    let mut keys = Keys::new(config.clone());
    keys.drop(&[
        "in_channels",
        "model_channels",
        "out_channels",
        "num_res_blocks",
        "attention_resolutions",
        "channel_mult",
        "num_classes",
        "use_scale_shift_norm",
        "resblock_updown",
    ]);
    let count = |key: &str| config.get(key).and_then(Value::as_u64).map(|n| n as usize);
    let options = openai::OpenAi {
        num_heads: count("num_heads").or(Some(1)),
        num_head_channels: count("num_head_channels"),
        new_attention_order: config.get("use_new_attention_order") == Some(&Value::Bool(true)),
        image_size: count("image_size"),
    };
    keys.drop(&[
        "num_heads",
        "num_head_channels",
        "use_new_attention_order",
        "image_size",
    ]);
    keys.finish()?;
    Ok(options)
}

/// The tensors of a `state_dict`, by the formula that stands beside it.
pub(super) fn weights(grads: &Map<String, Value>, io: &Source) -> anyhow::Result<Vec<Named>> {
    let listed = grads
        .get("state_dict")
        .and_then(Value::as_array)
        .context("`state_dict` is missing")?;
    let config = grads.get("config").unwrap_or(&Value::Null);
    let tensor = |entry: &Value| -> anyhow::Result<Named> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).context("no text");
        let name = text("name")?;
        let index = entry
            .get("index")
            .and_then(Value::as_u64)
            .context("no index")?;
        let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone())?;
        let count: usize = shape.iter().product();
        let fan_in: usize = shape.iter().skip(1).product();
        let rule = text("rule")?;
        let values = (0..count as u64).map(|j| {
            let r = 2.0 * uniform((index << 32) + j + 1) - 1.0;
            Ok(match rule {
                "matrix" => (6.0 / fan_in as f64).sqrt() * r,
                "gain" => 1.0 + 0.1 * r,
                "variance" => 1.0 + 0.2 * r,
                "offset" => 0.1 * r,
                "zero" => 0.0,
                "given" if name.ends_with(".resample_filter") => filter(config, j as usize)?,
                "given" => io.tensor(name)?.values[j as usize],
                other => bail!("the rule {other:?} is not known"),
            } as f32)
        });
        let values = values.collect::<anyhow::Result<Vec<f32>>>();
        Ok((
            name.to_owned(),
            shape,
            values.with_context(|| name.to_owned())?,
        ))
    };
    listed.iter().map(tensor).collect()
}

/// The outer product of a filter divided by the square of its sum, row by row.
fn filter(config: &Value, place: usize) -> anyhow::Result<f64> {
    let taps: Vec<f64> = match config.get("resample_filter") {
        Some(taps) => serde_json::from_value(taps.clone())?,
        None => vec![1.0, 1.0],
    };
    let sum: f64 = taps.iter().sum();
    Ok(taps[place / taps.len()] * taps[place % taps.len()] / (sum * sum))
}

/// SplitMix64 of a counter, in [0, 1).
fn uniform(counter: u64) -> f64 {
    let mut z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// The parameters here that each tensor became: those that hold its number when each holds nothing else.
fn became(
    weights: Vec<Named>,
    import: impl Fn(Vec<Named>) -> anyhow::Result<Vec<Named>>,
) -> anyhow::Result<HashMap<String, Vec<String>>> {
    let names: Vec<String> = weights.iter().map(|(name, ..)| name.clone()).collect();
    let marked = weights.into_iter().enumerate().map(|(i, tensor)| {
        let (name, shape, mut data) = tensor;
        if !name.ends_with(".resample_filter") {
            data.fill(i as f32);
        }
        (name, shape, data)
    });
    let mut became: HashMap<String, Vec<String>> = HashMap::new();
    for (ours, _, data) in import(marked.collect())? {
        let index = data.first().copied().context("an empty tensor")? as usize;
        became.entry(names[index].clone()).or_default().push(ours);
    }
    Ok(became)
}
