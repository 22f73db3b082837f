//! What a program holds in memory: as the system counts it, and as the device's allocator does.

use std::fs;

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use crate::place::Place;

/// The resident set in bytes; `None` where the system has no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    of_this_process("VmRSS")
}

/// The largest resident set so far, in bytes; `None` where the system has no `/proc`.
fn peak_resident_bytes() -> Option<u64> {
    of_this_process("VmHWM")
}

/// Adds the most memory so far to a line: of the process, or on a GPU of what it holds there, which its
/// allocator does not give back.
pub fn write(line: &mut Map<String, Value>, place: &Place) {
    let resident = peak_resident_bytes();
    let mut put = |key: &str, value: Option<u64>| line.insert(key.to_owned(), json!(value));
    if place.picked.is_cpu() {
        put("peak_bytes", resident);
        return;
    }
    let (reserved, used) = on_device(place.device()).unzip();
    put("peak_bytes", reserved);
    put("allocated_bytes_after", used);
    put("resident_bytes", resident);
}

/// Bytes that the device's allocator has taken from it, and of those what is in use now.
fn on_device(device: &Device) -> Option<(u64, u64)> {
    let usage = device.memory_pool_usage()?;
    Some((usage.bytes_reserved, usage.bytes_in_use))
}

fn of_this_process(field: &str) -> Option<u64> {
    bytes(&fs::read_to_string("/proc/self/status").ok()?, field)
}

/// The value of a line such as `VmRSS:     1234 kB`; the system's kB are 1,024 bytes.
fn bytes(status: &str, field: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_status_are_read() {
        let status = "Name:\tddpm\nVmHWM:\t    2048 kB\nVmRSS:\t 7 kB\nThreads:\t3\n";
        assert_eq!(bytes(status, "VmHWM"), Some(2 << 20));
        assert_eq!(bytes(status, "VmRSS"), Some(7168));
        for field in ["Vm", "Threads", "VmSwap"] {
            assert_eq!(bytes(status, field), None, "{field}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory() {
        let (resident, peak) = (resident_bytes().unwrap(), peak_resident_bytes().unwrap());
        assert!(resident > 0 && peak > 0, "{resident} {peak}");
    }
}
