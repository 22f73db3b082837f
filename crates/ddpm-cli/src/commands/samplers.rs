//! `ddpm samplers`.

use anyhow::Result;
use ddpm_diffusion::{Evaluations, Sampler};
use serde_json::{Map, Value, json};

use super::Report;

/// Lists every sampler.
///
/// # Errors   none that a sampler's defaults have
pub fn samplers() -> Result<Report> {
    let mut text = String::new();
    let mut all = Vec::new();
    for sampler in Sampler::all() {
        let about = sampler.about();
        let options = options(&sampler)?;
        let order = match about.order {
            0 => "converges to no single image".to_owned(),
            order => format!("order {order}"),
        };
        let evaluations = match about.evaluations {
            Evaluations::One => "1 evaluation a step".to_owned(),
            Evaluations::Two => "2 evaluations a step".to_owned(),
            Evaluations::OneAndMoreAtFirst(more) => format!("1 evaluation a step and {more} more"),
            Evaluations::Adaptive => "evaluations by its error".to_owned(),
        };
        let noise = if about.stochastic {
            "fresh noise"
        } else {
            "deterministic"
        };
        text += &format!("{}\n    {}\n", sampler.name(), about.good_for);
        text += &format!("    {order}, {evaluations}, {noise}; {}\n", about.source);
        if !options.is_empty() {
            let shown: Vec<String> = options
                .iter()
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            text += &format!("    options: {}\n", shown.join(", "));
        }
        all.push(json!({
            "kind": sampler.name(), "good_for": about.good_for, "order": about.order,
            "evaluations": about.evaluations, "usual_steps": about.usual_steps,
            "stochastic": about.stochastic, "source": about.source, "options": options,
        }));
    }
    Ok(Report::done(text, json!({ "samplers": all })))
}

/// A sampler's options with their values; what is unset by default is shown so.
fn options(sampler: &Sampler) -> Result<Map<String, Value>> {
    let Value::Object(mut table) = serde_json::to_value(sampler)? else {
        return Ok(Map::new());
    };
    table.remove("kind");
    if let Sampler::Ddpm(_) = sampler {
        table.insert("variance".to_owned(), Value::Null);
    }
    // The largest number stands for no bound.
    if table.get("s_tmax") == Some(&json!(f64::MAX)) {
        table.insert("s_tmax".to_owned(), json!("unbounded"));
    }
    Ok(table)
}
