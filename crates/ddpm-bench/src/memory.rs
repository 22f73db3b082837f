//! What this process holds in memory, as the system counts it.

use std::fs;

/// The resident set in bytes; `None` where the system has no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    of_this_process("VmRSS")
}

/// The largest resident set so far, in bytes; `None` where the system has no `/proc`.
pub fn peak_bytes() -> Option<u64> {
    of_this_process("VmHWM")
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
        let (resident, peak) = (resident_bytes().unwrap(), peak_bytes().unwrap());
        assert!(resident > 0 && peak > 0, "{resident} {peak}");
    }
}
