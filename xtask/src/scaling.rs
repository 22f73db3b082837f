//! What many GPUs would reach, on paper: the tables of docs/scaling.md.
//!
//! Nothing here is measured. The page has the same formulas in words, and says which numbers are assumptions.

use crate::step::print;

/// Multiply-adds of a training step for each one of the forward pass: the backward pass computes two gradients.
const STEP_PER_FORWARD: f64 = 3.0;

/// Floating point operations of a multiply-add.
const FLOP_PER_MAC: f64 = 2.0;

/// The part of a step that is the backward pass.
const BACKWARD_SHARE: f64 = 2.0 / 3.0;

/// What a GPU keeps up over whole steps in bf16, in FLOP/s; an assumption.
const GPU_FLOP_PER_SECOND: f64 = 200e12;

/// Bytes of a parameter's gradient, which is f32.
const BYTES_PER_NUMBER: f64 = 4.0;

/// Numbers of a bucket, which are 16 MiB: as many as `ddpm-train` sends at once.
const BUCKET: u64 = 1 << 22;

/// GPUs of a machine, which share its network; an assumption.
const GPUS_PER_MACHINE: u64 = 8;

/// What a machine's network carries each way, in bytes a second: 100 Gbit/s; an assumption.
const MACHINE_BYTES_PER_SECOND: f64 = 12.5e9;

/// The part of a network's rate that is reached; an assumption.
const NETWORK_EFFICIENCY: f64 = 0.8;

/// What a GPU sends and receives within a machine, in bytes a second; an assumption.
const NVLINK_BYTES_PER_SECOND: f64 = 200e9;

/// What a message takes besides its bytes, in seconds; an assumption.
const MESSAGE_SECONDS: f64 = 15e-6;

/// The numbers of ranks in the table of steps.
const RANKS: [u64; 3] = [8, 64, 1024];

/// The numbers of ranks in the table of batches.
const RANKS_OF_BATCHES: [u64; 2] = [64, 1024];

/// The part of a step that should be computing, in the table of batches.
const WANTED: f64 = 0.9;

/// A network, and how many of its images a GPU computes at once.
#[derive(Debug)]
struct Network {
    name: &'static str,
    /// Trained numbers.
    parameters: u64,
    /// Multiply-adds of the forward pass over an image.
    macs: f64,
    /// Images of a pass on a GPU.
    images: u64,
}

const NETWORKS: [Network; 3] = [
    Network {
        name: "ddpm-cifar10",
        parameters: 35_746_307,
        macs: 6.06e9,
        images: 128,
    },
    Network {
        name: "ddpm-256",
        parameters: 113_673_219,
        macs: 248e9,
        images: 8,
    },
    // Four times the multiply-adds of ddpm-256: an assumption, since there is no such network here.
    Network {
        name: "500 M",
        parameters: 500_000_000,
        macs: 4.0 * 248e9,
        images: 4,
    },
];

/// Prints the tables as they stand in docs/scaling.md.
///
/// # Errors
/// If stdout cannot be written.
pub fn run() -> anyhow::Result<()> {
    print(&tables())
}

/// Both tables in Markdown.
pub fn tables() -> String {
    let gpus = grouped(RANKS_OF_BATCHES[1]);
    format!(
        "A step in which each GPU makes one pass, over {} images:\n\n{}\n\
         Images a GPU and step at which {:.0} % of a step without overlap is computing, at {} and {gpus} GPUs:\n\n{}",
        listed(&NETWORKS.map(|network| network.images)),
        steps(),
        100.0 * WANTED,
        RANKS_OF_BATCHES[0],
        batches(),
    )
}

/// The table of steps with one pass on each GPU.
fn steps() -> String {
    let mut table = table(&[
        "network",
        "GPUs",
        "compute, s",
        "sum, s",
        "messages of it, s",
        "step, s",
        "efficiency",
        "images/s",
        "overlapped: step, s",
        "efficiency",
        "images/s",
    ]);
    for network in &NETWORKS {
        for ranks in RANKS {
            let compute = compute_seconds(network, network.images);
            let sum = sum_seconds(network.parameters, ranks);
            let mut cells = vec![
                network.name.to_owned(),
                grouped(ranks),
                significant(compute),
                significant(sum),
                significant(message_seconds(network.parameters, ranks)),
            ];
            for step in [compute + sum, compute + exposed_seconds(network, ranks)] {
                let rate = (network.images * ranks) as f64 / step;
                cells.extend([significant(step), percent(compute / step), rounded(rate)]);
            }
            row(&mut table, &cells);
        }
    }
    table
}

/// The table of what a step has to compute for the sum to be a small part of it.
fn batches() -> String {
    let mut table = table(&[
        "network",
        "GPUs",
        "passes a GPU",
        "images a GPU",
        "images of all (global batch)",
        "step, s",
        "messages' part of the sum",
    ]);
    for network in &NETWORKS {
        for ranks in RANKS_OF_BATCHES {
            let passes = passes_for(network, ranks, WANTED);
            let images = passes * network.images;
            let sum = sum_seconds(network.parameters, ranks);
            let messages = message_seconds(network.parameters, ranks);
            let cells = [
                network.name.to_owned(),
                grouped(ranks),
                grouped(passes),
                grouped(images),
                grouped(images * ranks),
                significant(compute_seconds(network, images) + sum),
                percent(messages / sum),
            ];
            row(&mut table, &cells);
        }
    }
    table
}

/// Seconds in which a GPU computes the forward and backward passes over so many images.
fn compute_seconds(network: &Network, images: u64) -> f64 {
    images as f64 * network.macs * STEP_PER_FORWARD * FLOP_PER_MAC / GPU_FLOP_PER_SECOND
}

/// Bytes that each rank sends, and receives, when so many f32 numbers are summed over so many ranks.
///
/// All-to-all and all-gather each move every piece of a rank but its own.
fn sent_bytes(numbers: u64, ranks: u64) -> f64 {
    2.0 * (ranks - 1) as f64 / ranks as f64 * BYTES_PER_NUMBER * numbers as f64
}

/// Bytes a second that a rank sends, and receives at the same time, among so many ranks.
fn link_bytes_per_second(ranks: u64) -> f64 {
    match ranks <= GPUS_PER_MACHINE {
        true => NVLINK_BYTES_PER_SECOND,
        false => MACHINE_BYTES_PER_SECOND / GPUS_PER_MACHINE as f64 * NETWORK_EFFICIENCY,
    }
}

/// Messages that a rank sends, one after the other, when so many numbers are summed over so many ranks.
///
/// In each bucket one to every other rank for all-to-all, and another for all-gather.
fn messages(numbers: u64, ranks: u64) -> u64 {
    numbers.div_ceil(BUCKET) * 2 * (ranks - 1)
}

/// Seconds that these messages take besides their bytes.
fn message_seconds(numbers: u64, ranks: u64) -> f64 {
    messages(numbers, ranks) as f64 * MESSAGE_SECONDS
}

/// Seconds in which so many numbers are summed over so many ranks: bytes and messages.
fn sum_seconds(numbers: u64, ranks: u64) -> f64 {
    sent_bytes(numbers, ranks) / link_bytes_per_second(ranks) + message_seconds(numbers, ranks)
}

/// Numbers of the last bucket, which belongs to the first layers: what the full ones leave.
fn last_bucket(numbers: u64) -> u64 {
    match numbers % BUCKET {
        0 => BUCKET.min(numbers),
        rest => rest,
    }
}

/// Seconds by which a step of one pass is longer than its computing, when buckets are sent during the backward pass.
///
/// The last bucket begins when that pass has ended. No more than the whole sum, which could begin then.
fn exposed_seconds(network: &Network, ranks: u64) -> f64 {
    let backward = BACKWARD_SHARE * compute_seconds(network, network.images);
    let sum = sum_seconds(network.parameters, ranks);
    let last = sum_seconds(last_bucket(network.parameters), ranks);
    sum.min((sum - backward).max(0.0) + last)
}

/// Passes a GPU and step, without overlap, after which computing is at least this part of the step, from 0 to 1.
fn passes_for(network: &Network, ranks: u64, part: f64) -> u64 {
    let wanted = part / (1.0 - part) * sum_seconds(network.parameters, ranks);
    (wanted / compute_seconds(network, network.images)).ceil() as u64
}

/// The head of a table whose first column is text and the others are numbers.
fn table(columns: &[&str]) -> String {
    let rule = "---:|".repeat(columns.len().saturating_sub(1));
    format!("| {} |\n|---|{rule}\n", columns.join(" | "))
}

fn row(table: &mut String, cells: &[String]) {
    table.push_str(&format!("| {} |\n", cells.join(" | ")));
}

/// Numbers as in a sentence: `1, 2 or 3`.
fn listed(numbers: &[u64]) -> String {
    match numbers.split_last() {
        None => String::new(),
        Some((last, [])) => last.to_string(),
        Some((last, rest)) => {
            let rest: Vec<String> = rest.iter().map(u64::to_string).collect();
            format!("{} or {last}", rest.join(", "))
        }
    }
}

/// The first three digits that count, of a number above 0.
fn significant(number: f64) -> String {
    let places = (2.0 - number.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{number:.places$}")
}

/// A large number with zeros from its fourth digit on.
fn rounded(number: f64) -> String {
    let unit = 10f64.powf((number.log10().floor() - 2.0).max(0.0));
    grouped(((number / unit).round() * unit) as u64)
}

/// A part of 1 in hundredths.
fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

/// A number with a comma before every third digit from its end.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/scaling.md");

    fn near(found: f64, expected: f64) {
        assert!(
            (found / expected - 1.0).abs() < 1e-4,
            "{found}, not {expected}"
        );
    }

    #[test]
    fn ddpm_cifar10_on_64_gpus_by_hand() {
        let network = &NETWORKS[0];
        // 128 images · 6.06 GMAC · 6 FLOP / 200 TFLOP/s
        near(compute_seconds(network, 128), 0.023_270_4);
        // 2 · 63/64 · 142,985,228 bytes, at 1.25 GB/s
        near(sent_bytes(network.parameters, 64), 281_502_168.0);
        near(link_bytes_per_second(64), 1.25e9);
        // Nine buckets, each with 63 messages twice, of 15 µs
        assert_eq!(messages(network.parameters, 64), 1134);
        near(message_seconds(network.parameters, 64), 0.017_01);
        near(sum_seconds(network.parameters, 64), 0.225_201_7 + 0.017_01);
        assert_eq!(last_bucket(network.parameters), 2_191_875);
        // 9 · 0.2422117 s / 0.0232704 s = 93.7
        assert_eq!(passes_for(network, 64, 0.9), 94);
    }

    #[test]
    fn the_sum_over_a_machine_is_hidden_up_to_its_last_bucket() {
        let network = &NETWORKS[1];
        assert_eq!(last_bucket(network.parameters), 427_011);
        // 2 · 7/8 · 1,708,044 bytes at 200 GB/s, and 14 messages
        near(exposed_seconds(network, 8), 0.000_014_945 + 0.000_21);
    }

    #[test]
    fn a_sum_that_takes_longer_than_the_backward_pass_is_never_worse_for_overlap() {
        for network in &NETWORKS {
            for ranks in RANKS {
                let sum = sum_seconds(network.parameters, ranks);
                assert!(exposed_seconds(network, ranks) <= sum);
            }
        }
    }

    #[test]
    fn one_rank_sums_nothing() {
        for network in &NETWORKS {
            assert_eq!(sum_seconds(network.parameters, 1), 0.0);
            assert_eq!(exposed_seconds(network, 1), 0.0);
            assert_eq!(passes_for(network, 1, 0.9), 0);
        }
    }

    #[test]
    fn efficiencies_fall_with_the_number_of_ranks() {
        for network in &NETWORKS {
            let parts = |ranks| {
                let compute = compute_seconds(network, network.images);
                let sum = sum_seconds(network.parameters, ranks);
                [sum, exposed_seconds(network, ranks)].map(|waits| compute / (compute + waits))
            };
            for power in 0..10 {
                let (fewer, more) = (parts(1 << power), parts(2 << power));
                assert!(fewer[0] > more[0] && fewer[1] > more[1], "2^{power}");
            }
        }
    }

    #[test]
    fn the_passes_found_are_enough_and_one_fewer_is_not() {
        for network in &NETWORKS {
            for ranks in RANKS_OF_BATCHES {
                let sum = sum_seconds(network.parameters, ranks);
                let part = |passes| {
                    let compute = compute_seconds(network, passes * network.images);
                    compute / (compute + sum)
                };
                let passes = passes_for(network, ranks, WANTED);
                assert!(part(passes) >= WANTED && part(passes - 1) < WANTED);
            }
        }
    }

    #[test]
    fn last_buckets() {
        assert_eq!(last_bucket(0), 0);
        assert_eq!(last_bucket(BUCKET - 1), BUCKET - 1);
        assert_eq!(last_bucket(2 * BUCKET), BUCKET);
        assert_eq!(last_bucket(2 * BUCKET + 1), 1);
    }

    #[test]
    fn numbers_as_text() {
        assert_eq!(significant(0.023_270_4), "0.0233");
        assert_eq!(significant(6.996), "7.00");
        assert_eq!(significant(43.21), "43.2");
        assert_eq!(rounded(482.4), "482");
        assert_eq!(rounded(38_765.4), "38,800");
        assert_eq!(grouped(1_024), "1,024");
        assert_eq!(grouped(770_048), "770,048");
        assert_eq!(grouped(64), "64");
        assert_eq!(listed(&[128, 8, 4]), "128, 8 or 4");
    }

    #[test]
    fn the_page_has_these_tables() {
        let page = PAGE.replace("\r\n", "\n");
        let (_, rest) = page.split_once("<!-- scaling -->\n").unwrap();
        let (between, _) = rest.split_once("<!-- /scaling -->").unwrap();
        assert_eq!(between, format!("\n{}\n", tables()));
    }
}
