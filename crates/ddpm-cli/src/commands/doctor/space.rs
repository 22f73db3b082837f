//! What a run needs on disk and in memory, against what there is.

use ddpm_train::{Config, MemoryEstimate};
use ddpm_unet::ModelConfig;

use super::finding::Finding;
use crate::machine::{Memory, keys_of_size};
use crate::words;

/// The share of what is free that may be used without a warning.
const COMFORT: f64 = 0.8;

/// Checkpoints of `each` bytes, `count` at a time, and all `snapshots` of tracked averages, against what the run
/// directory's file system has free.
pub fn disk(each: u128, count: u64, snapshots: u128, free: Option<u64>) -> Finding {
    let needed = each.saturating_mul(count.into()).saturating_add(snapshots);
    let text = format!(
        "{} at a time, {} each{}: {}",
        words::some(count, "checkpoint"),
        words::bytes(each),
        match snapshots {
            0 => String::new(),
            bytes => format!(", and {} of snapshots of averages", words::bytes(bytes)),
        },
        words::bytes(needed)
    );
    let Some(free) = free else {
        return Finding::note(
            "disk",
            format!("{text}; this system does not tell what is free"),
        );
    };
    let text = format!("{text} of the {} that are free", words::bytes(free.into()));
    if needed > free.into() {
        Finding::fail(
            "disk",
            format!("{text}; lower `train.keep`, or make room for the run"),
        )
    } else if needed as f64 > COMFORT * free as f64 {
        Finding::warn(
            "disk",
            format!("{text}, which leaves little; lower `train.keep`, or make room"),
        )
    } else {
        Finding::ok("disk", text)
    }
}

/// The estimate of the run's peak against the memory of its owner; `None` if that is not known. `each` if other devices
/// need as much.
pub fn memory(
    estimate: &MemoryEstimate,
    config: &Config,
    memory: Option<Memory>,
    owner: &str,
    each: bool,
) -> Finding {
    let peak = estimate.peak();
    let text = format!(
        "about {} at most{}: weights, moments and average {}, gradients {}, kept activations of a batch {}",
        words::bytes(peak),
        if each { " on each device" } else { "" },
        words::bytes(estimate.state),
        words::bytes(estimate.gradients),
        words::bytes(estimate.activations)
    );
    let Some(memory) = memory else {
        return Finding::note(
            "memory",
            format!("{text}; the memory of this device is not known"),
        );
    };
    let (total, available) = (u128::from(memory.total), u128::from(memory.available));
    let lower = what_to_lower(estimate, config, total);
    if peak > total {
        let total = words::bytes(total);
        Finding::fail("memory", format!("{text}; {owner} has {total}; {lower}"))
    } else if peak > available {
        let available = words::bytes(available);
        Finding::warn(
            "memory",
            format!("{text}; only {available} are available now: end other programs, or {lower}"),
        )
    } else if peak as f64 > COMFORT * total as f64 {
        let total = words::bytes(total);
        Finding::warn(
            "memory",
            format!("{text}; most of {owner}'s {total}: {lower}"),
        )
    } else {
        let available = words::bytes(available);
        Finding::ok("memory", format!("{text}; {available} are available"))
    }
}

/// The keys that what is largest depends on.
fn what_to_lower(estimate: &MemoryEstimate, config: &Config, total: u128) -> String {
    let rest = estimate
        .peak()
        .saturating_sub(estimate.state)
        .saturating_sub(estimate.program_and_data);
    let least = estimate.state.saturating_add(estimate.gradients);
    if least > total || rest == estimate.saving {
        format!("lower {}", keys_of_size(&config.model))
    } else if rest == estimate.drawing {
        "lower `sample.count`".to_owned()
    } else {
        let lower = "lower `train.batch` or `data.size`, or raise `train.accumulate`";
        match (&config.model, config.train.recompute) {
            (ModelConfig::Unet(_) | ModelConfig::Given(_), false) => {
                format!("{lower}, or set `train.recompute` = true")
            }
            _ => lower.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    const GIB: u128 = 1 << 30;

    #[test]
    fn checkpoints_must_fit() {
        for (each, count, snapshots, free, level) in [
            (GIB, 4, 0, Some(8 << 30), Level::Ok),
            (GIB, 4, 3 * GIB, Some(8 << 30), Level::Warn),
            (GIB, 7, 0, Some(8 << 30), Level::Warn),
            (GIB, 9, 0, Some(8 << 30), Level::Fail),
            (GIB, 4, 5 * GIB, Some(8 << 30), Level::Fail),
            (u128::MAX, 9, 0, Some(u64::MAX), Level::Fail),
            (GIB, 4, 0, None, Level::Note),
        ] {
            let finding = disk(each, count, snapshots, free);
            assert_eq!(finding.level, level, "{finding:?}");
        }
        assert_eq!(
            disk(GIB, 4, 0, Some(8 << 30)).text,
            "4 checkpoints at a time, 1.00 GiB each: 4.00 GiB of the 8.00 GiB that are free"
        );
    }

    #[test]
    fn the_batch_or_the_network_must_be_smaller() {
        let estimate = |state: u128, activations: u128| MemoryEstimate {
            program_and_data: 0,
            state: state * GIB,
            gradients: 0,
            activations: activations * GIB,
            workspace: activations * GIB / 2,
            saving: 0,
            drawing: 0,
        };
        let mut config = Config::default();
        for (state, activations, available, level, words) in [
            (1, 2, 12, Level::Ok, "12.0 GiB are available"),
            (1, 2, 3, Level::Warn, "end other programs"),
            (1, 8, 16, Level::Warn, "most of this machine's 16.0 GiB"),
            (1, 12, 16, Level::Fail, "`train.batch`"),
            (20, 1, 16, Level::Fail, "`model.channels`"),
        ] {
            let machine = Memory {
                total: 16 << 30,
                available: available << 30,
            };
            let finding = memory(
                &estimate(state, activations),
                &config,
                Some(machine),
                "this machine",
                false,
            );
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(words), "{finding:?}");
        }
        let unknown = memory(&estimate(1, 1), &config, None, "vulkan:0", true);
        assert_eq!(unknown.level, Level::Note);
        assert!(unknown.text.contains("on each device"));
        let part = |saving, drawing| MemoryEstimate {
            saving: saving * GIB,
            drawing: drawing * GIB,
            ..estimate(1, 1)
        };
        for (estimate, words) in [
            (part(20, 2), "`model.channels`"),
            (part(2, 20), "`sample.count`"),
        ] {
            let machine = Memory {
                total: 16 << 30,
                available: 12 << 30,
            };
            let finding = memory(&estimate, &config, Some(machine), "this machine", false);
            assert_eq!(finding.level, Level::Fail);
            assert!(finding.text.contains(words), "{finding:?}");
        }
        assert!(what_to_lower(&estimate(1, 12), &config, 16 << 30).contains("recompute"));
        config.train.recompute = true;
        assert!(!what_to_lower(&estimate(1, 12), &config, 16 << 30).contains("recompute"));
    }
}
