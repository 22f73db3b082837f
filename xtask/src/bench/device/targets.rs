//! What the first network is to reach beside compiled PyTorch, in the fewest bits.

use super::board::{Figure, Results};
use super::jobs::{Benchmark, COMPILED, Network, Side};
use super::table::{memory, ratio};

/// A figure of ours divided by compiled PyTorch's.
struct Target {
    what: &'static str,
    figure: Figure,
    at_least: &'static str,
    aim: &'static str,
}

const TARGETS: [Target; 3] = [
    Target {
        what: "images/s trained",
        figure: Figure::Training,
        at_least: "0.7",
        aim: "1.1",
    },
    Target {
        what: "images/s of sampling's forward pass",
        figure: Figure::Forward,
        at_least: "0.7",
        aim: "1.2",
    },
    Target {
        what: "peak memory of training",
        figure: Figure::GpuMemory,
        at_least: "1.2 or less",
        aim: "0.8 or less",
    },
];

/// Three rows of Markdown.
pub fn markdown(board: &Results, programme: &Benchmark) -> String {
    let (Some(network), Some(dtype)) = (programme.networks.first(), programme.dtypes.last()) else {
        return String::new();
    };
    let mut text = format!(
        "| {}, batch {}, {dtype}: ours / compiled PyTorch | at least | aim | got |\n| --- | --- | --- | --- |\n",
        network.config, network.batch
    );
    for target in &TARGETS {
        let Target {
            what,
            figure,
            at_least,
            aim,
        } = target;
        let got = got(board, *network, *figure, dtype);
        text += &format!("| {what} | {at_least} | {aim} | {got} |\n");
    }
    text
}

fn got(board: &Results, network: Network, figure: Figure, dtype: &str) -> String {
    let compiled = COMPILED.map(Side::Peer);
    if figure == Figure::GpuMemory {
        let (ours, least) = memory(board, network, compiled.to_vec(), dtype);
        return ratio(ours, least);
    }
    let of = |side| board.figure(figure, network, side, dtype);
    let best = compiled.into_iter().filter_map(of).reduce(f64::max);
    ratio(of(Side::Ours), best)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::device::board::tests::{NETWORK, cell};

    #[test]
    fn only_compiled_modes_count() {
        let programme = Benchmark {
            networks: vec![NETWORK],
            dtypes: vec!["f32", "bf16"],
            modes: vec!["eager", "compile", "graphs"],
        };
        let line = |train: f64, forward: f64, bytes: f64| json!({"train_images_per_s": train, "forward_images_per_s": forward, "peak_bytes": bytes});
        let mut board = Results {
            cells: vec![
                cell(Side::Ours, "bf16", line(30.0, 60.0, 5.0)),
                cell(Side::Peer("eager"), "bf16", line(90.0, 90.0, 1.0)),
            ],
        };
        let ends = |board: &Results, ends: [&str; 3]| {
            let text = markdown(board, &programme);
            let rows: Vec<&str> = text.lines().skip(2).collect();
            assert_eq!(rows.len(), 3, "{text}");
            for (row, end) in rows.iter().zip(ends) {
                assert!(row.ends_with(&format!("| {end} |")), "{text}");
            }
        };
        ends(&board, ["–", "–", "–"]);
        board.cells.extend([
            cell(Side::Peer("compile"), "bf16", line(40.0, 20.0, 4.0)),
            cell(Side::Peer("graphs"), "bf16", line(20.0, 40.0, 10.0)),
        ]);
        ends(&board, ["0.75", "1.50", "1.25"]);
    }
}
