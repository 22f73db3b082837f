//! The levels of a plan in diffusers' words: every way that may be one.

use ddpm_diffusion::{Plan, SampleConfig};
use ddpm_schedule::{Process, Spacing};
use serde_json::{Map, Value, json};

use super::network::object;

/// Keys and arguments that may make the levels.
pub(super) struct Levels {
    pub(super) keys: Map<String, Value>,
    pub(super) set_timesteps: Map<String, Value>,
}

/// All ways of a class, the plainest first.
pub(super) fn all(class: &str, sample: &SampleConfig, plan: &Plan) -> Vec<Levels> {
    let spreads = match plan.process() {
        Process::Flow(_) => of_flow(class, plan),
        Process::Edm(_) => of_edm(sample),
        _ => of_table(class, sample, plan),
    };
    let ends: &[Value] = match class {
        "DDIMScheduler" | "PNDMScheduler" => &[
            json!({"set_alpha_to_one": true}),
            json!({"set_alpha_to_one": false}),
        ],
        _ => &[
            json!({"final_sigmas_type": "zero"}),
            json!({"final_sigmas_type": "sigma_min"}),
        ],
    };
    let with_end = |(keys, set_timesteps): (Value, Value)| {
        ends.iter().map(move |end| {
            let mut keys = object(keys.clone());
            keys.extend(object(end.clone()));
            Levels {
                keys,
                set_timesteps: object(set_timesteps.clone()),
            }
        })
    };
    spreads.into_iter().flat_map(with_end).collect()
}

fn of_table(class: &str, sample: &SampleConfig, plan: &Plan) -> Vec<(Value, Value)> {
    let named = ["leading", "linspace", "trailing"];
    let named = named.map(|name| json!({"timestep_spacing": name, "steps_offset": sample.offset}));
    let mut found: Vec<_> = named.iter().map(|keys| (keys.clone(), json!({}))).collect();
    let by_sigma = match sample.spacing {
        Some(Spacing::Karras {
            sigma_min,
            sigma_max,
            ..
        }) => Some(("use_karras_sigmas", sigma_min, sigma_max)),
        Some(Spacing::Exponential {
            sigma_min,
            sigma_max,
        }) => Some(("use_exponential_sigmas", sigma_min, sigma_max)),
        _ => None,
    };
    if let Some((key, sigma_min, sigma_max)) = by_sigma {
        for mut keys in named {
            keys["sigma_min"] = json!(sigma_min);
            keys["sigma_max"] = json!(sigma_max);
            let mut log = keys.clone();
            log["interpolation_type"] = json!("log_linear");
            keys[key] = json!(true);
            found.extend([(keys.clone(), json!({})), (log, json!({}))]);
            if key == "use_exponential_sigmas" {
                keys[key] = json!(false);
                keys["use_lu_lambdas"] = json!(true);
                found.push((keys, json!({})));
            }
        }
    }
    found.extend(lists(class, plan).into_iter().map(|list| (json!({}), list)));
    found
}

/// Steps and σ one by one, for classes whose `set_timesteps` takes such lists.
fn lists(class: &str, plan: &Plan) -> Vec<Value> {
    let legs = plan.grid().legs();
    let whole = legs.iter().all(|leg| leg.from.time.fract() == 0.0);
    let times = || legs.iter().map(|leg| leg.from.time as u64);
    let mut found = Vec::new();
    let takes_steps = [
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
    ];
    if whole && takes_steps.contains(&class) {
        found.push(json!({"timesteps": times().collect::<Vec<_>>()}));
    }
    if class == "EulerDiscreteScheduler" {
        let first = legs.iter().map(|leg| leg.from.level);
        let sigmas = first.chain(legs.last().map(|leg| leg.to.level));
        let sigmas: Vec<f64> = sigmas.map(|level| level.sigma()).collect();
        found.push(json!({ "sigmas": sigmas }));
    }
    found
}

fn of_edm(sample: &SampleConfig) -> Vec<(Value, Value)> {
    let (name, rho, ends) = match sample.spacing {
        Some(Spacing::Karras {
            rho,
            sigma_min,
            sigma_max,
        }) => ("karras", rho, [sigma_min, sigma_max]),
        Some(Spacing::Exponential {
            sigma_min,
            sigma_max,
        }) => ("exponential", 7.0, [sigma_min, sigma_max]),
        _ => ("karras", 7.0, [None; 2]),
    };
    let mut keys = json!({"sigma_schedule": name, "rho": rho});
    for (key, end) in ["sigma_min", "sigma_max"].into_iter().zip(ends) {
        if let Some(end) = end {
            keys[key] = json!(end);
        }
    }
    vec![(keys, json!({}))]
}

fn of_flow(class: &str, plan: &Plan) -> Vec<(Value, Value)> {
    let mut found = vec![(json!({}), json!({}))];
    let Process::Flow(flow) = plan.process() else {
        return found;
    };
    if class == "FlowMatchEulerDiscreteScheduler" {
        // Before the shift, which diffusers makes of what it is given.
        let before = |t: f64| t / (flow.shift - (flow.shift - 1.0) * t);
        let legs = plan.grid().legs().iter();
        let sigmas: Vec<f64> = legs.map(|leg| before(leg.from.time)).collect();
        found.push((json!({}), json!({ "sigmas": sigmas })));
    }
    found
}
