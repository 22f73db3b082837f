//! The memory and the disk of this machine, and what cannot fit into them.

use std::path::Path;

use ddpm_device::Picked;
use ddpm_train::least_bytes;
use ddpm_unet::{Cost, ModelConfig, ModelShape};
use sysinfo::{CGroupLimits, CpuRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::words;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that this process may ever have.
    pub total: u64,
    /// What it could have now without pushing others out.
    pub available: u64,
}

/// The machine's memory, or less where this process's control group says so; `None` where the system does
/// not tell.
pub fn memory() -> Option<Memory> {
    let mut system = System::new();
    system.refresh_memory();
    let machine = Memory {
        total: system.total_memory(),
        available: system.available_memory(),
    };
    let limits = own_limits(&mut system).or_else(|| system.cgroup_limits());
    let group = limits.map(|limits: CGroupLimits| Memory {
        total: limits.total_memory,
        // Its own count of what is free leaves out what the page cache would give back.
        available: limits.total_memory.saturating_sub(limits.rss),
    });
    smaller(machine, group)
}

/// What the CPU is called, and how many threads it runs at once; `None` where the system does not tell.
pub fn cpu_name() -> Option<String> {
    let mut system = System::new();
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    let name = system.cpus().first()?.brand().trim();
    let threads = words::some(system.cpus().len() as u64, "thread");
    (!name.is_empty()).then(|| format!("{name}, {threads}"))
}

/// The memory that a device works in; `None` where nobody tells. What is free on a GPU is taken to be all of it where
/// its driver does not keep count.
pub fn memory_of(picked: &Picked) -> Option<Memory> {
    if picked.is_cpu() {
        return memory();
    }
    let details = picked.details();
    let total = details.total_bytes?;
    Some(Memory {
        total,
        available: details.free_bytes.unwrap_or(total),
    })
}

/// Whose memory that is, as a sentence says it.
pub fn owner(picked: &Picked) -> &str {
    match picked.is_cpu() {
        true => "this machine",
        false => &picked.name,
    }
}

fn own_limits(system: &mut System) -> Option<CGroupLimits> {
    let own = sysinfo::get_current_pid().ok()?;
    let update = ProcessesToUpdate::Some(&[own]);
    system.refresh_processes_specifics(update, false, ProcessRefreshKind::nothing());
    system.process(own)?.cgroup_limits()
}

fn smaller(machine: Memory, group: Option<Memory>) -> Option<Memory> {
    let memory = match group {
        Some(group) if group.total > 0 => Memory {
            total: machine.total.min(group.total),
            available: machine.available.min(group.available),
        },
        _ => machine,
    };
    (memory.total > 0).then_some(memory)
}

/// The largest resident set of this process so far, in bytes; `None` where the system has no `/proc`.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Bytes that this user may still write to the file system of `path`, or of the nearest folder above it that
/// is there; `None` where the system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|folder| folder.exists())?;
    of_file_system(there)
}

#[cfg(unix)]
fn of_file_system(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn of_file_system(_: &Path) -> Option<u64> {
    None
}

/// A network that this machine cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "[model]: a network of {parameters} parameters needs {needed} for weights, gradients, moments and average, and \
     {owner} has {total}; lower {keys}"
)]
pub struct MemoryError {
    /// Its parameters.
    pub parameters: String,
    /// What training it takes at least.
    pub needed: String,
    /// Whose memory is too small: this machine, or a GPU.
    pub owner: String,
    /// All of that memory.
    pub total: String,
    /// The keys that make it smaller.
    pub keys: &'static str,
}

/// Images that the device has no memory to draw, as the sentence that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoRoom(pub String);

/// Refuses a network that no batch size would make fit so many times, before it is allocated.
///
/// # Errors   [`MemoryError`]; configurations that no network can have are left to whoever builds it
pub fn refuse_what_cannot_fit(
    model: &ModelConfig,
    shape: ModelShape,
    picked: &Picked,
    copies: usize,
) -> Result<(), MemoryError> {
    match (Cost::of(model, shape), memory_of(picked)) {
        (Ok(figures), Some(memory)) => {
            check_fits(model, figures.parameters, copies, memory, owner(picked))
        }
        _ => Ok(()),
    }
}

/// # Errors   [`MemoryError`] if so many copies of `parameters` cannot be trained in its owner's `memory`
pub fn check_fits(
    model: &ModelConfig,
    parameters: u128,
    copies: usize,
    memory: Memory,
    owner: &str,
) -> Result<(), MemoryError> {
    let needed = least_bytes(parameters).saturating_mul(copies as u128);
    if needed <= u128::from(memory.total) {
        return Ok(());
    }
    Err(MemoryError {
        parameters: words::count(parameters),
        needed: words::bytes(needed),
        owner: owner.to_owned(),
        total: words::bytes(memory.total.into()),
        keys: keys_of_size(model),
    })
}

/// The keys that make a network smaller.
pub fn keys_of_size(model: &ModelConfig) -> &'static str {
    match model {
        ModelConfig::Unet(_) | ModelConfig::Edm(_) | ModelConfig::Edm2(_) => {
            "`model.channels`, `model.multipliers` or `model.blocks`"
        }
        ModelConfig::Lucidrains(_) => "`model.channels` or `model.multipliers`",
        ModelConfig::Plain(_) => "`model.features`",
        ModelConfig::Given(_) => "`block_out_channels` of `model.config`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_disk() {
        let memory = memory().unwrap();
        assert!(memory.total >= memory.available && memory.available > 0);
        if cfg!(unix) {
            assert!(free_bytes(Path::new("no/such/folder")).is_some());
        }
        if cfg!(target_os = "linux") {
            assert!(peak_bytes().unwrap() > 0);
        }
    }

    #[test]
    fn the_smaller_limit_counts() {
        let of = |total, available| Memory { total, available };
        assert_eq!(smaller(of(8, 6), None), Some(of(8, 6)));
        assert_eq!(smaller(of(8, 6), Some(of(4, 3))), Some(of(4, 3)));
        assert_eq!(smaller(of(8, 2), Some(of(4, 3))), Some(of(4, 2)));
        assert_eq!(smaller(of(8, 6), Some(of(0, 0))), Some(of(8, 6)));
        assert_eq!(smaller(of(0, 0), None), None);
    }

    #[test]
    fn a_network_that_is_too_large_is_named_with_what_to_lower() {
        let memory = Memory {
            total: 24 << 30,
            available: 20 << 30,
        };
        let unet = ModelConfig::Unet(ddpm_unet::UnetSection::default());
        assert_eq!(check_fits(&unet, 35_746_307, 1, memory, "cuda:0"), Ok(()));
        assert!(check_fits(&unet, 35_746_307, 64, memory, "cuda:0").is_err());
        let error = check_fits(&unet, 9_000_000_000, 1, memory, "this machine").unwrap_err();
        assert_eq!(
            error.to_string(),
            "[model]: a network of 9,000,000,000 parameters needs 168 GiB for weights, gradients, moments and \
             average, and this machine has 24.0 GiB; lower `model.channels`, `model.multipliers` or `model.blocks`"
        );
    }
}
