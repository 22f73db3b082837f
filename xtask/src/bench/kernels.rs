//! What criterion measured of the kernels, as one table: ours beside burn's.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

/// One benchmark that criterion has measured.
#[derive(Clone, Debug, PartialEq)]
struct Measured {
    group: String,
    /// Whose operation: `ddpm` or `burn`.
    side: String,
    case: String,
    /// Median, in seconds.
    seconds: f64,
    /// Floating-point operations or values of one iteration.
    elements: Option<f64>,
}

/// Groups whose elements are floating-point operations.
const OPERATIONS: &[&str] = &["matrix product", "convolution", "attention"];

/// The table of the kernels that have been measured since a time, by criterion's own files below
/// `target/criterion`.
///
/// Nothing if there are none.
pub fn table(target: &Path, since: SystemTime) -> String {
    let mut measured = Vec::new();
    collect(&target.join("criterion"), since, &mut measured);
    measured.sort_by(|a, b| (&a.group, &a.case).cmp(&(&b.group, &b.case)));
    markdown(&measured)
}

/// Every benchmark below a folder. What cannot be read is not criterion's, or of a run that was stopped.
fn collect(folder: &Path, since: SystemTime, measured: &mut Vec<Measured>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name() == "new" {
            measured.extend(read(&path, since));
        } else if path.is_dir() {
            collect(&path, since, measured);
        }
    }
}

fn read(folder: &Path, since: SystemTime) -> Option<Measured> {
    let written = fs::metadata(folder.join("estimates.json"))
        .ok()?
        .modified()
        .ok()?;
    if written < since {
        return None;
    }
    let file = |name: &str| -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).ok()?).ok()
    };
    parse(&file("benchmark.json")?, &file("estimates.json")?)
}

fn parse(benchmark: &Value, estimates: &Value) -> Option<Measured> {
    let word = |key: &str| benchmark[key].as_str().map(str::to_owned);
    Some(Measured {
        group: word("group_id")?,
        side: word("function_id").unwrap_or_default(),
        case: word("value_str")?,
        seconds: estimates["median"]["point_estimate"].as_f64()? * 1e-9,
        elements: benchmark["throughput"]["Elements"].as_f64(),
    })
}

fn markdown(measured: &[Measured]) -> String {
    let mut text = String::new();
    for ours in measured.iter().filter(|one| one.side == "ddpm") {
        let same = |one: &&Measured| {
            one.side == "burn" && one.group == ours.group && one.case == ours.case
        };
        let Some(burn) = measured.iter().find(same) else {
            continue;
        };
        if text.is_empty() {
            text += "| kernel | ours | GFLOP/s | burn's operation | GFLOP/s | ratio |\n";
            text += "| --- | --- | --- | --- | --- | --- |\n";
        }
        text += &format!(
            "| {}: {} | {} | {} | {} | {} | {:.1} |\n",
            ours.group,
            ours.case,
            milliseconds(ours.seconds),
            rate(ours),
            milliseconds(burn.seconds),
            rate(burn),
            burn.seconds / ours.seconds,
        );
    }
    let peak = measured
        .iter()
        .filter(|one| one.group == "matrix product")
        .filter_map(|one| Some(one.elements? / one.seconds))
        .fold(0.0, f64::max);
    if !text.is_empty() && peak > 0.0 {
        text += &format!(
            "\nburn's matrix product reaches {:.0} GFLOP/s here. Operations are those of the plain \
             algorithm, so a convolution that saves multiplications can exceed it.\n",
            peak * 1e-9
        );
    }
    text
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

/// 10⁹ operations a second, where the elements are operations.
fn rate(one: &Measured) -> String {
    let counted = OPERATIONS.iter().any(|group| one.group.starts_with(group));
    match one.elements.filter(|_| counted) {
        Some(elements) => format!("{:.0}", elements / one.seconds * 1e-9),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(group: &str, side: &str, case: &str, nanoseconds: f64) -> Measured {
        let benchmark = json!({
            "group_id": group, "function_id": side, "value_str": case,
            "throughput": {"Elements": 2_000_000},
        });
        let estimates = json!({"median": {"point_estimate": nanoseconds}});
        parse(&benchmark, &estimates).unwrap()
    }

    #[test]
    fn pairs_become_rows() {
        let measured = [
            one("convolution, forward", "ddpm", "a", 1e4),
            one("convolution, forward", "burn", "a", 4e4),
            one("convolution, forward", "ddpm", "alone", 1e4),
            one("group norm", "ddpm", "b", 2e6),
            one("group norm", "burn", "b", 3e6),
            one("matrix product", "burn", "512", 2e4),
        ];
        let text = markdown(&measured);
        assert!(
            text.contains("| convolution, forward: a | 0.01 ms | 200 | 0.04 ms | 50 | 4.0 |"),
            "{text}"
        );
        assert!(
            text.contains("| group norm: b | 2.00 ms | – | 3.00 ms | – | 1.5 |"),
            "{text}"
        );
        assert!(!text.contains("alone"), "{text}");
        assert!(text.contains("reaches 100 GFLOP/s"), "{text}");
        assert_eq!(markdown(&[]), "");
    }

    #[test]
    fn files_are_found_in_their_folders() {
        let target = tempfile::tempdir().unwrap();
        let folder = target.path().join("criterion/g/ddpm/c/new");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("benchmark.json"), "not JSON").unwrap();
        let start = SystemTime::UNIX_EPOCH;
        assert_eq!(table(target.path(), start), "");
        for side in ["ddpm", "burn"] {
            let folder = target.path().join(format!("criterion/g/{side}/c/new"));
            fs::create_dir_all(&folder).unwrap();
            let benchmark = json!({"group_id": "g", "function_id": side, "value_str": "c"});
            let estimates = json!({"median": {"point_estimate": 1e6}});
            fs::write(folder.join("benchmark.json"), benchmark.to_string()).unwrap();
            fs::write(folder.join("estimates.json"), estimates.to_string()).unwrap();
        }
        assert!(table(target.path(), start).contains("| g: c | 1.00 ms |"));
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        assert_eq!(table(target.path(), later), "");
    }
}
