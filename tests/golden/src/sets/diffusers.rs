//! diffusers' schedulers over closed-form networks.

pub(super) mod run;

use std::path::Path;

use anyhow::bail;
use burn::tensor::DType;
use ddpm_store::diffusers::Scheduler;
use serde_json::json;

use self::run::Inputs;
use super::Kind;
use crate::Case;
use crate::keys::{Keys, needed};
use crate::models;
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "samplers2/diffusers",
    cases,
};

/// diffusers computes its tables in float32; where that alone leads further off, three times as far.
const LIMIT: f64 = 1e-4;
const OF_ROUNDING: f64 = 3.0;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let limit = |case: &serde_json::Map<_, _>| {
        let rounding = case
            .get("float64_difference")
            .and_then(serde_json::Value::as_f64);
        LIMIT.max(OF_ROUNDING * rounding.unwrap_or(0.0))
    };
    let check = |name: &str, case: &mut Keys| {
        let model = needed(case.text("model"), "model")?;
        case.drop(&["float64_difference", "noise_used_after_each_step"]);
        scheduler(&source, name, case, models::network(&model)?, |_, _| 0.0)
    };
    cases.extend(source.cases("cases", &[], limit, check));
    Ok(cases)
}

/// A case with a scheduler, its arguments, and the tensor of its name.
pub(super) fn scheduler(
    source: &Source,
    name: &str,
    case: &mut Keys,
    network: models::Pixel,
    variance: models::Pixel,
) -> anyhow::Result<f64> {
    // What differs from the defaults of the class, and what the class made of it all.
    case.drop(&["config", "timesteps"]);
    let class = needed(case.text("scheduler"), "scheduler")?;
    let mut config = needed(case.object("full_config"), "full_config")?.into_map();
    let arguments = |found: Option<Keys>| found.unwrap_or_default().into_map();
    let call = json!({
        "steps": needed(case.count("steps"), "steps")?,
        "set_timesteps": arguments(case.object("set_timesteps_args")?),
        "step": arguments(case.object("step_args")?),
    });
    let first = case
        .numbers("sigmas")?
        .and_then(|sigmas| sigmas.first().copied());
    let start_scale = needed(case.number("init_noise_sigma"), "init_noise_sigma")?;
    config.insert("_class_name".to_owned(), json!(class));
    config.insert("_call".to_owned(), call);
    let scheduler = Scheduler::from_json(Path::new("full_config"), config)?;
    if !scheduler.unknown().is_empty() {
        bail!(
            "{class} has keys without a meaning here: {:?}",
            scheduler.unknown()
        );
    }
    let choice = scheduler.choice(None)?;
    let inputs = Inputs {
        noise_at_start: source.tensor("x_T")?.images(DType::F32)?,
        start_scale,
        first_sigma: first,
        noise: source.tensor("noise")?,
        network,
        variance,
        expected: source.tensor(name)?,
    };
    run::run(&choice, inputs)
}
