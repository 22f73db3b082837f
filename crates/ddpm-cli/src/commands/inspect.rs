//! `ddpm inspect`.

use std::path::Path;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use ddpm_model::OpenedModel;
use ddpm_schedule::ProcessConfig;
use ddpm_store::tensors::{TensorListing, list_tensors};
use ddpm_store::torch::TorchFile;
use ddpm_store::{RunDir, checkpoint, last_metrics};
use ddpm_unet::{Conditioning, Model, params};
use serde_json::{Value, json};

use super::{Report, shown};
use crate::args::InspectArgs;
use crate::drawing;
use crate::exit::visible;
use crate::{models, words};

/// Classes that are named, at most.
const MOST_NAMES: usize = 12;

/// Says what a path holds.
///
/// # Errors   format errors for what is damaged or not known
pub fn inspect(args: &InspectArgs) -> Result<Report> {
    let path = &models::find(&args.path)?;
    if path.is_file() {
        let listing = match TorchFile::looks_like(path) {
            true => TorchFile::open(path)?.listing()?,
            false => list_tensors(path)?,
        };
        return Ok(tensor_file(path, &listing));
    }
    let run = match path.join("config.toml").is_file() {
        true => Some(run(path)?),
        false => None,
    };
    let (mut text, mut json) =
        run.unwrap_or_else(|| (String::new(), json!({ "path": shown(path) })));
    let has_model = json
        .get("checkpoints")
        .is_none_or(|list| list != &json!([]));
    if has_model {
        let (described, model) = model(path)?;
        text += &described;
        json["model"] = model;
    }
    Ok(Report::done(text, json))
}

/// The parts of a run that are not its network.
fn run(path: &Path) -> Result<(String, Value)> {
    let run = RunDir::open(path)?;
    let checkpoints = checkpoint::list(&run)?;
    let mut text = format!("run {}\n", path.display());
    let mut listed = Vec::new();
    for info in &checkpoints {
        let state = match &info.problem {
            None => "good".to_owned(),
            Some(problem) => problem.to_string(),
        };
        text += &format!("  checkpoint step-{}: {state}\n", info.step);
        listed.push(json!({ "step": info.step, "path": shown(&info.path), "problem": info.problem.as_ref().map(ToString::to_string) }));
    }
    if checkpoints.is_empty() {
        text += "  no checkpoint yet\n";
    }
    let last = if run.metrics_jsonl().is_file() {
        last_metrics(&run.metrics_jsonl())?
    } else {
        None
    };
    if let Some(last) = &last {
        let figure = |key: &str| last.get(key).and_then(Value::as_f64);
        if let (Some(step), Some(loss)) = (figure("step"), figure("loss")) {
            text += &format!("  last logged step {step}: loss {loss:.4}\n");
        }
    }
    let json = json!({
        "path": shown(path), "checkpoints": listed, "last_metrics": last,
    });
    Ok((text, json))
}

/// A network: figures, schedule and a drawing of its levels.
fn model(path: &Path) -> Result<(String, Value)> {
    let opened = OpenedModel::open(path, None, &host()?)?;
    let parameters = opened.model.num_params();
    let mut text = format!("network in {}\n", opened.path.display());
    let mut line = |what: &str, value: String| text += &format!("  {what:<12}{value}\n");
    let kind = match &opened.model {
        Model::Unet(_) => "U-Net (UNet2DModel)",
        Model::Plain(_) => "plain U-Net",
        Model::Edm(_) => "U-Net of EDM",
        Model::Edm2(_) => "U-Net of EDM2",
        Model::Lucidrains(_) => "U-Net of denoising-diffusion-pytorch",
    };
    line("kind", kind.to_owned());
    line(
        "parameters",
        format!("{parameters} ({:.1} MB as f32)", parameters as f64 * 4e-6),
    );
    let size = opened.size.map_or_else(
        || "any size".to_owned(),
        |[height, width]| format!("{height}x{width}"),
    );
    let channels = words::some(opened.channels as u64, "channel");
    line("images", format!("{channels}, {size}"));
    if let Some(told) = told(&opened) {
        line("is told", told);
    }
    if let Some(step) = opened.step {
        line("trained", words::some(step, "step"));
    }
    if let Some(imported) = &opened.imported {
        let origin = format!("{} ({})", imported.from, imported.program);
        line("imported", visible(&origin));
    }
    match &opened.refusal {
        Some(refusal) => line("sampling", format!("not possible: {refusal}")),
        None => {
            match &opened.process {
                ProcessConfig::Discrete {} => {
                    let kind = word(&opened.schedule.kind);
                    let steps = words::some(opened.schedule.steps as u64, "step");
                    line("schedule", format!("{kind}, {steps}"));
                }
                _ => line("process", opened.process()?.name().to_owned()),
            }
            line("predicts", word(&opened.meaning.prediction));
        }
    }
    if let Some(warning) = &opened.warning {
        line("weights", warning.clone());
    }
    text += "\n";
    text += &drawing::levels(&opened.model, opened.size);
    let tensors: Vec<Value> = params::shapes(&opened.model)
        .into_iter()
        .map(|(name, shape)| json!({ "name": name, "shape": shape }))
        .collect();
    let json = json!({
        "path": shown(&opened.path), "kind": kind, "parameters": parameters, "channels": opened.channels,
        "size": opened.size, "step": opened.step, "imported": opened.imported.as_ref().map(|origin| &origin.from),
        "schedule": opened.schedule, "process": opened.process, "prediction": opened.meaning.prediction, "sample": opened.sample,
        "refusal": opened.refusal.as_ref().map(ToString::to_string),
        "condition": opened.condition, "class_names": opened.class_names,
        "config": opened.model.to_json(), "tensors": tensors,
    });
    Ok((text, json))
}

/// What the network is told of an image besides its noise level, if anything.
fn told(opened: &OpenedModel) -> Option<String> {
    let mut parts = Vec::new();
    match (opened.model.conditioning(), &opened.class_names) {
        (Conditioning::Classes { count, null }, names) => {
            let mut text = words::some(count as u64, "class").replace("classs", "classes");
            if let Some(names) = names {
                let shown: Vec<&str> = names.iter().take(MOST_NAMES).map(String::as_str).collect();
                let more = if names.len() > MOST_NAMES {
                    ", …"
                } else {
                    ""
                };
                text += &format!(" ({}{more})", shown.join(", "));
            }
            if null.is_some() {
                text += ", or none";
            }
            parts.push(text);
        }
        (Conditioning::Number, _) => parts.push("a class, any number".to_owned()),
        (Conditioning::Embedding, _) => parts.push("an embedding of its class".to_owned()),
        (Conditioning::None, _) => {}
    }
    parts.extend(opened.condition.columns.iter().cloned());
    parts.extend(
        opened
            .condition
            .kind
            .map(|kind| format!("a picture ({})", word(&kind))),
    );
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn tensor_file(path: &Path, listing: &TensorListing) -> Report {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let total: usize = listing
        .entries
        .iter()
        .map(|entry| count(&entry.shape))
        .sum();
    let mut text = format!(
        "{}: {} tensors, {total} numbers\n",
        path.display(),
        listing.entries.len()
    );
    // One long name must not pad the lines of all others: a crafted one may have megabytes.
    const WIDEST: usize = 80;
    let widths = listing.entries.iter().map(|entry| entry.name.len());
    let width = widths.max().unwrap_or_default().min(WIDEST);
    for entry in &listing.entries {
        text += &format!(
            "  {:<width$}  {:<5} {:?}\n",
            visible(&entry.name),
            entry.dtype,
            entry.shape
        );
    }
    for (key, value) in &listing.metadata {
        text += &format!("  metadata {} = {}\n", visible(key), visible(value));
    }
    let tensors: Vec<Value> = listing
        .entries
        .iter()
        .map(|entry| json!({ "name": entry.name, "dtype": entry.dtype, "shape": entry.shape }))
        .collect();
    let json = json!({
        "path": shown(path), "tensors": tensors, "numbers": total, "metadata": listing.metadata,
    });
    Report::done(text, json)
}

/// The serde name of a unit variant.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Nothing is computed here, so any device will do.
pub fn host() -> Result<Device> {
    Ok(ddpm_device::resolve(ddpm_device::Choice::Auto)?.device)
}
