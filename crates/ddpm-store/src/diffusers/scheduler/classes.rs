//! diffusers' scheduler classes: the keys that each has with their defaults, and what makes a sampler of it.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Asked, CLASS, Choice, edm, flow, samplers};
use crate::diffusers::keys::Keys;
use crate::error::Result;

/// The parameters of every class and their defaults, as diffusers 0.42.1 has them. An infinite default is `null`.
static CLASSES: LazyLock<HashMap<String, Map<String, Value>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("classes.json")).unwrap_or_default());

/// A class by its own name, and all of its keys; none for one that is not known.
pub(super) fn known(class: &str) -> Option<(&'static str, Map<String, Value>)> {
    let name = match class {
        "DDPMParallelScheduler" => "DDPMScheduler",
        "DDIMParallelScheduler" => "DDIMScheduler",
        other => other,
    };
    let (name, keys) = CLASSES.get_key_value(name)?;
    Some((name, keys.clone()))
}

/// The sampler of a class.
///
/// # Errors   [`StoreError::Unsupported`](crate::StoreError) naming the class or key that has no meaning here
pub(super) fn choice(class: &str, keys: &mut Keys<'_>, asked: &mut Asked<'_>) -> Result<Choice> {
    match class {
        "DDPMScheduler" => samplers::ddpm(keys, asked),
        "DDIMScheduler" => samplers::ddim(keys, asked),
        "PNDMScheduler" => samplers::pndm(keys, asked),
        "DEISMultistepScheduler" => samplers::deis(keys, asked),
        "DPMSolverMultistepScheduler" => samplers::dpm_solver(keys, asked),
        "DPMSolverSinglestepScheduler" => samplers::dpm_singlestep(keys, asked),
        "UniPCMultistepScheduler" => samplers::unipc(keys, asked),
        "EulerDiscreteScheduler" => samplers::euler(keys, asked),
        "EulerAncestralDiscreteScheduler" => samplers::euler_ancestral(keys, asked),
        "HeunDiscreteScheduler" => samplers::heun(keys, asked),
        "LMSDiscreteScheduler" => samplers::lms(keys, asked),
        "KDPM2DiscreteScheduler" => samplers::kdpm2(keys, asked),
        "KDPM2AncestralDiscreteScheduler" => samplers::kdpm2_ancestral(keys, asked),
        "EDMEulerScheduler" => edm::euler(keys, asked),
        "EDMDPMSolverMultistepScheduler" => edm::dpm_solver(keys, asked),
        "FlowMatchEulerDiscreteScheduler" => flow::euler(keys, asked),
        "FlowMatchHeunDiscreteScheduler" => flow::heun(keys, asked),
        other => {
            let supported =
                "another sampler for this network with --sampler ddim or --sampler ddpm";
            Err(keys.refusal(CLASS, &json!(other), supported))
        }
    }
}
