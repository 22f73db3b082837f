//! `ddpm devices`.

use serde_json::{Value, json};

use super::Report;

/// Lists what `--device` may be, here and with this binary.
pub fn devices() -> Report {
    let listings = ddpm_device::list();
    let mut text = String::new();
    for listing in &listings {
        let state = match (listing.compiled, listing.devices.is_empty()) {
            (false, _) => "not compiled in".to_owned(),
            (true, true) => "none here".to_owned(),
            (true, false) => listing.devices.join(" "),
        };
        text += &format!("{:<8}{state}\n", listing.feature);
    }
    let list: Vec<Value> = listings
        .iter()
        .map(|listing| {
            json!({
                "feature": listing.feature, "compiled": listing.compiled, "devices": listing.devices,
            })
        })
        .collect();
    Report::done(text, json!({ "devices": list }))
}
