//! Rules on `Cargo.toml`: who may use whom, and what is said once for the whole workspace.

use toml::{Table, Value};

use super::Member;

/// Who may use whom. A crate of the workspace that is not listed breaks the rule by being there.
const ARROWS: &[(&str, &[&str])] = &[
    ("ddpm-schedule", &[]),
    ("ddpm-kernels", &["ddpm-schedule"]),
    // For the features: each device brings its kernels.
    ("ddpm-device", &["ddpm-kernels"]),
    ("ddpm-unet", &["ddpm-schedule", "ddpm-kernels"]),
    ("ddpm-diffusion", &["ddpm-schedule"]),
    ("ddpm-data", &["ddpm-schedule"]),
    // For what diffusers' schedulers are in our terms.
    ("ddpm-store", &["ddpm-schedule", "ddpm-diffusion"]),
    (
        "ddpm-model",
        &[
            "ddpm-schedule",
            "ddpm-kernels",
            "ddpm-unet",
            "ddpm-diffusion",
            "ddpm-store",
        ],
    ),
    (
        "ddpm-train",
        &[
            "ddpm-schedule",
            "ddpm-kernels",
            "ddpm-model",
            "ddpm-unet",
            "ddpm-diffusion",
            "ddpm-data",
            "ddpm-store",
        ],
    ),
    (
        "ddpm-eval",
        &[
            "ddpm-schedule",
            "ddpm-kernels",
            "ddpm-unet",
            "ddpm-data",
            "ddpm-store",
        ],
    ),
    (
        "ddpm-cli",
        &[
            "ddpm-model",
            "ddpm-device",
            "ddpm-schedule",
            "ddpm-kernels",
            "ddpm-unet",
            "ddpm-diffusion",
            "ddpm-data",
            "ddpm-store",
            "ddpm-train",
            "ddpm-eval",
        ],
    ),
    (
        "ddpm-bench",
        &[
            "ddpm-model",
            "ddpm-device",
            "ddpm-schedule",
            "ddpm-kernels",
            "ddpm-unet",
            "ddpm-diffusion",
            "ddpm-store",
            "ddpm-train",
        ],
    ),
    (
        "ddpm",
        &[
            "ddpm-device",
            "ddpm-schedule",
            "ddpm-unet",
            "ddpm-diffusion",
            "ddpm-data",
            "ddpm-store",
            "ddpm-model",
            "ddpm-train",
        ],
    ),
    // The one exception to "nobody uses ddpm-cli": the tests run it with faults in it.
    (
        "ddpm-tests",
        &[
            "ddpm-model",
            "ddpm-schedule",
            "ddpm-data",
            "ddpm-store",
            "ddpm-train",
            "ddpm-cli",
        ],
    ),
    (
        "ddpm-golden",
        &[
            "ddpm-schedule",
            "ddpm-unet",
            "ddpm-diffusion",
            "ddpm-store",
            "ddpm-train",
            "ddpm-eval",
        ],
    ),
    ("xtask", &[]),
];

/// The crates whose errors are for people: only they may use anyhow.
const FOR_PEOPLE: &[&str] = &[
    "ddpm-bench",
    "ddpm-cli",
    "ddpm-golden",
    "ddpm-tests",
    "xtask",
];

/// What every package takes from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// The broken rules of one manifest.
pub(super) fn check(member: &Member, members: &[Member]) -> Vec<String> {
    let mut broken = Vec::new();
    let package = member.manifest.get("package");
    for key in INHERITED {
        if !package.is_some_and(|package| package.get(key).is_some_and(inherits)) {
            broken.push(format!("`{key}` is not `{key}.workspace = true`"));
        }
    }
    if !member.manifest.get("lints").is_some_and(inherits) {
        broken.push("the workspace's lints are not inherited".to_owned());
    }
    let allowed = ARROWS.iter().find(|(name, _)| *name == member.name);
    if allowed.is_none() {
        broken.push(format!(
            "{} is not in the table of who may use whom (xtask/src/tidy/manifest.rs)",
            member.name
        ));
    }
    let allowed = allowed.map_or(&[][..], |(_, allowed)| allowed);
    for Dependency { name, value, dev } in dependencies(&member.manifest) {
        if !inherits(value) {
            broken.push(format!(
                "`{name}` is not `workspace = true`; versions stand in the workspace's Cargo.toml"
            ));
        }
        let ours = members.iter().any(|member| member.name == name);
        if ours && !allowed.contains(&name) {
            let kind = if dev { "tests of " } else { "" };
            broken.push(format!("{kind}{} may not use {name}", member.name));
        }
        if name == "anyhow" && !FOR_PEOPLE.contains(&member.name.as_str()) {
            broken.push("a library has typed errors and does not use anyhow".to_owned());
        }
    }
    let file = member.file("Cargo.toml");
    broken
        .into_iter()
        .map(|rule| format!("{file}: {rule}"))
        .collect()
}

/// A dependency as a manifest has it.
struct Dependency<'a> {
    name: &'a str,
    value: &'a Value,
    dev: bool,
}

/// Every dependency of a manifest, those of single platforms included.
fn dependencies(manifest: &Table) -> Vec<Dependency<'_>> {
    let platforms = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(|platforms| platforms.values().filter_map(Value::as_table));
    let mut found = Vec::new();
    for holder in std::iter::once(manifest).chain(platforms) {
        for (section, dev) in [
            ("dependencies", false),
            ("build-dependencies", false),
            ("dev-dependencies", true),
        ] {
            let Some(section) = holder.get(section).and_then(Value::as_table) else {
                continue;
            };
            found.extend(section.iter().map(|(key, value)| {
                Dependency {
                    // A renamed dependency is the one that it renames.
                    name: value
                        .get("package")
                        .and_then(Value::as_str)
                        .unwrap_or(key.as_str()),
                    value,
                    dev,
                }
            }));
        }
    }
    found
}

/// Whether a value is `{ workspace = true, … }`.
fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}
