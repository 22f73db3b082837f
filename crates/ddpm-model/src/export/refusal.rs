//! What diffusers' `UNet2DModel` is not: refused by name.

use ddpm_unet::Model;
use serde_json::{Map, Value, json};

use crate::error::ModelError;
use crate::open::OpenedModel;

/// Keys with an underscore are this program's own, and diffusers passes over them; these two change nothing in what the
/// network computes.
const HARMLESS: [&str; 2] = ["_class_name", "_null_class"];
const PAD: &str = "_pad";

/// The network's `config.json` for diffusers.
///
/// # Errors   [`ModelError::Foreign`] naming the key of what diffusers would compute otherwise
pub(super) fn config(opened: &OpenedModel) -> Result<Map<String, Value>, ModelError> {
    let refuse = |key: &str, value: Value, hint| {
        Err(ModelError::Foreign {
            path: opened.path.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            hint,
        })
    };
    let Model::Unet(unet) = &opened.model else {
        let hint =
            "train with model.kind = \"unet\", or name a FILE.safetensors for the weights alone";
        return refuse("model.kind", json!("plain"), hint);
    };
    let mut config = opened.model.to_json();
    let multiple = unet.config().size_multiple();
    let divides = |size: [usize; 2]| size.iter().all(|side| side % multiple == 0);
    // Where the levels divide the images there is nothing to pad.
    if opened.size.is_some_and(divides) {
        config.remove(PAD);
    }
    for (key, value) in &config {
        if !key.starts_with('_') || HARMLESS.contains(&key.as_str()) {
            continue;
        }
        let hint = match key.as_str() {
            PAD => {
                "train with model.pad = false at a size that the levels divide, or name a FILE.safetensors for the \
                 weights alone"
            }
            _ => "train without it, or name a FILE.safetensors for the weights alone",
        };
        return refuse(key, value.clone(), hint);
    }
    let told_of_itself = opened.meaning.self_condition;
    if unet.config().in_channels != opened.channels && !told_of_itself {
        let hint = "its pipelines draw from noise alone, so train without a picture as a condition, or name a \
                    FILE.safetensors for the weights alone";
        return refuse("in_channels", json!(unet.config().in_channels), hint);
    }
    Ok(config)
}
