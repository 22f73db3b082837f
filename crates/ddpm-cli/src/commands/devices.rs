//! `ddpm devices`.

use ddpm_device::{Choice, Details, Listed, Listing};
use serde_json::{Value, json};

use super::Report;
use crate::{machine, words};

/// Lists what `--device` may be, here and with this binary, and what is known of each.
pub fn devices() -> Report {
    let mut listings = ddpm_device::list();
    for listed in listings.iter_mut().flat_map(|listing| &mut listing.devices) {
        if listed.choice == Choice::Cpu {
            listed.details = cpu();
        }
    }
    let text = listings.iter().map(lines).collect();
    let list: Vec<Value> = listings.iter().map(entry).collect();
    Report::done(text, json!({ "devices": list }))
}

/// The CPU, of which the machine tells and no driver.
fn cpu() -> Details {
    let memory = machine::memory();
    Details {
        name: machine::cpu_name(),
        total_bytes: memory.map(|memory| memory.total),
        free_bytes: memory.map(|memory| memory.available),
        lacks: None,
    }
}

/// A line for each device of a kind, or one that says why there is none.
fn lines(listing: &Listing) -> String {
    let nothing = match listing.compiled {
        false => "not compiled in",
        true => "none here",
    };
    if listing.devices.is_empty() {
        return format!("{:<12}{nothing}\n", listing.feature);
    }
    listing.devices.iter().map(line).collect()
}

/// `cuda:0      NVIDIA H100 80GB HBM3, 79.1 GiB, 78.6 GiB free`.
fn line(listed: &Listed) -> String {
    let Details {
        name,
        total_bytes,
        free_bytes,
        lacks,
    } = &listed.details;
    let size = |bytes: u64| words::bytes(bytes.into());
    let name = name.as_deref().unwrap_or("name unknown");
    let memory = match (total_bytes, free_bytes) {
        (None, _) => "memory unknown".to_owned(),
        (Some(total), None) => size(*total),
        (Some(total), Some(free)) => format!("{}, {} free", size(*total), size(*free)),
    };
    let lacks = lacks.map_or_else(String::new, |what| format!("; cannot be used: no {what}"));
    format!("{:<12}{name}, {memory}{lacks}\n", listed.choice.to_string())
}

fn entry(listing: &Listing) -> Value {
    let devices: Vec<Value> = listing
        .devices
        .iter()
        .map(|Listed { choice, details }| {
            json!({
                "device": choice.to_string(), "name": details.name,
                "total_bytes": details.total_bytes, "free_bytes": details.free_bytes, "lacks": details.lacks,
            })
        })
        .collect();
    json!({ "feature": listing.feature, "compiled": listing.compiled, "devices": devices })
}

#[cfg(test)]
mod tests {
    use ddpm_device::{Gpu, Unit};

    use super::*;

    #[test]
    fn what_is_not_known_is_said_to_be_unknown() {
        let listing = |details: &[Details]| Listing {
            feature: "cuda",
            compiled: true,
            devices: (0..)
                .zip(details)
                .map(|(index, details)| Listed {
                    choice: Choice::Gpu(Gpu::Cuda, Unit::Index(index)),
                    details: details.clone(),
                })
                .collect(),
        };
        let details = |name: Option<&str>, total_bytes, free_bytes| Details {
            name: name.map(str::to_owned),
            total_bytes,
            free_bytes,
            lacks: None,
        };
        assert_eq!(lines(&listing(&[])), "cuda        none here\n");
        let gpus = [
            details(Some("Tesla T4"), Some(15 << 30), Some(12 << 30)),
            details(Some("Tesla T4"), Some(15 << 30), None),
            details(None, None, None),
            Details {
                lacks: Some("VK_it"),
                ..details(None, None, None)
            },
        ];
        assert_eq!(
            lines(&listing(&gpus)),
            "cuda:0      Tesla T4, 15.0 GiB, 12.0 GiB free\ncuda:1      Tesla T4, 15.0 GiB\n\
             cuda:2      name unknown, memory unknown\n\
             cuda:3      name unknown, memory unknown; cannot be used: no VK_it\n"
        );
        let off = Listing {
            compiled: false,
            ..listing(&[])
        };
        assert_eq!(lines(&off), "cuda        not compiled in\n");
    }
}
