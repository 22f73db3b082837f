//! The machine that figures are from.

use std::fs;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

/// What a figure depends on besides the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Vector instructions that it has, of those that matter here.
    pub features: Vec<&'static str>,
    /// The operating system.
    pub system: &'static str,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self {
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores(),
            features: features(),
            system: std::env::consts::OS,
        }
    }

    /// In a line.
    pub fn describe(&self) -> String {
        let Self {
            cpu,
            cores,
            features,
            system,
        } = self;
        let features = match features.as_slice() {
            [] => "no vector instructions known".to_owned(),
            some => some.join(" "),
        };
        format!("{cpu}; cores: {cores}; {features}; {system}")
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "features": self.features, "system": self.system,
        })
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

fn cpu() -> Option<String> {
    if let Ok(text) = fs::read_to_string("/proc/cpuinfo") {
        return model_name(&text);
    }
    // macOS has a command instead.
    let output = Command::new("sysctl")
        .args(["-n", "machdep.cpu.brand_string"])
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    let checked = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512", std::is_x86_feature_detected!("avx512f")),
        ("avx512-bf16", std::is_x86_feature_detected!("avx512bf16")),
    ];
    let has = |(name, there): (&'static str, bool)| there.then_some(name);
    checked.into_iter().filter_map(has).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let checked = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
    ];
    let has = |(name, there): (&'static str, bool)| there.then_some(name);
    checked.into_iter().filter_map(has).collect()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_a_name() {
        let text = "CPU\t: 0\nmodel name\t: AMD EPYC: 7003 \nflags\t: fpu\nmodel name\t: B\n";
        assert_eq!(model_name(text).as_deref(), Some("AMD EPYC: 7003"));
        assert_eq!(model_name("CPU : 0\n"), None);
        let machine = Machine::this();
        assert!(!machine.cpu.is_empty() && machine.cores > 0, "{machine:?}");
    }

    #[test]
    fn a_machine_is_a_line() {
        let machine = Machine {
            cpu: "Z80".into(),
            cores: 1,
            features: vec![],
            system: "linux",
        };
        assert_eq!(
            machine.describe(),
            "Z80; cores: 1; no vector instructions known; linux"
        );
    }
}
