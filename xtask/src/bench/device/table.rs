//! A measurement on a device as a table of Markdown.

use super::board::{Figure, Results};
use super::jobs::{Benchmark, Network, Side};

const NOTHING: &str = "–";
const MEBI: f64 = 1024.0 * 1024.0;

/// Images per second, and what they are beside PyTorch's.
pub fn markdown(board: &Results, programme: &Benchmark) -> String {
    let mut lines = vec![header(programme)];
    lines.push(vec!["---".to_owned(); lines[0].len()]);
    for network in &programme.networks {
        for figure in [Figure::Training, Figure::Forward, Figure::Sampling] {
            for dtype in &programme.dtypes {
                lines.extend(row(board, programme, *network, figure, dtype));
            }
        }
    }
    let lines = lines
        .iter()
        .map(|cells| format!("| {} |\n", cells.join(" | ")));
    lines.collect()
}

fn header(programme: &Benchmark) -> Vec<String> {
    let mut cells: Vec<String> = ["work", "numbers", "ours, images/s"]
        .map(str::to_owned)
        .to_vec();
    if !programme.modes.is_empty() {
        cells.extend(programme.modes.iter().map(|how| format!("PyTorch {how}")));
        cells.extend(["ours / eager f32", "ours / best"].map(str::to_owned));
    }
    cells.push("peak memory, ours".to_owned());
    if !programme.modes.is_empty() {
        cells.push("ours / PyTorch's least".to_owned());
        cells.push("of the matrix peak, ours; best".to_owned());
    }
    cells
}

/// `None` if nobody did the work in these numbers.
fn row(
    board: &Results,
    programme: &Benchmark,
    network: Network,
    figure: Figure,
    dtype: &str,
) -> Option<Vec<String>> {
    let of = |side, dtype: &str| board.figure(figure, network, side, dtype);
    let sides = || programme.modes.iter().map(|how| Side::Peer(how));
    let ours = of(Side::Ours, dtype);
    let theirs: Vec<Option<f64>> = sides().map(|side| of(side, dtype)).collect();
    if ours.is_none() && theirs.iter().all(Option::is_none) {
        return None;
    }
    let best = theirs.iter().copied().flatten().reduce(f64::max);
    let mut cells = vec![name(network, figure), dtype.to_owned(), rate(ours)];
    if !programme.modes.is_empty() {
        cells.extend(theirs.iter().map(|theirs| rate(*theirs)));
        cells.push(ratio(ours, of(Side::Peer("eager"), "f32")));
        cells.push(ratio(ours, best));
    }
    let (memory, least) = match figure {
        Figure::Training => memory(board, network, sides().collect(), dtype),
        _ => (None, None),
    };
    cells.push(memory.map_or_else(nothing, |bytes| format!("{:.0} MiB", bytes / MEBI)));
    if !programme.modes.is_empty() {
        cells.push(ratio(memory, least));
        let share = |rate| share(board, network, passes(figure)?, rate?, dtype);
        cells.push(match (share(ours), share(best)) {
            (None, None) => nothing(),
            (ours, best) => format!("{}; {}", percent(ours), percent(best)),
        });
    }
    Some(cells)
}

/// Ours, and PyTorch's least; both the GPU's, or both the allocators'.
pub fn memory(
    board: &Results,
    network: Network,
    peers: Vec<Side>,
    dtype: &str,
) -> (Option<f64>, Option<f64>) {
    let measured = |side: &Side| {
        board
            .figure(Figure::Training, network, *side, dtype)
            .is_some()
    };
    let peers: Vec<Side> = peers.into_iter().filter(measured).collect();
    let all: Vec<Side> = peers.iter().copied().chain([Side::Ours]).collect();
    let figure = board.memory(network, &all, dtype);
    let of = |side: &Side| board.figure(figure, network, *side, dtype);
    let least = peers.iter().filter_map(of).reduce(f64::min);
    (of(&Side::Ours), least)
}

fn name(network: Network, figure: Figure) -> String {
    let Network {
        config,
        batch,
        images,
    } = network;
    match figure {
        Figure::Sampling => format!("{config}: {images} images by DDIM, from command to PNG"),
        Figure::Forward => format!("{config}, batch {batch}: forward"),
        _ => format!("{config}, batch {batch}: training"),
    }
}

/// Forward passes' worth of operations that an image takes: a backward pass is two.
fn passes(figure: Figure) -> Option<f64> {
    match figure {
        Figure::Training => Some(3.0),
        Figure::Forward => Some(1.0),
        _ => None,
    }
}

/// What the work reaches of the most that matrix products reach.
fn share(board: &Results, network: Network, passes: f64, rate: f64, dtype: &str) -> Option<f64> {
    Some(rate * passes * board.flops(network)? / board.peak(dtype)?)
}

fn nothing() -> String {
    NOTHING.to_owned()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(nothing, |share| format!("{:.1}%", share * 100.0))
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(nothing, |rate| match rate {
        small if small < 100.0 => format!("{small:.2}"),
        large => format!("{large:.0}"),
    })
}

/// One figure divided by another.
pub fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    let ratio = ours.zip(theirs).filter(|(_, theirs)| *theirs > 0.0);
    ratio.map_or_else(nothing, |(ours, theirs)| format!("{:.2}", ours / theirs))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::device::board::tests::{NETWORK, cell};

    fn programme(modes: &[&'static str]) -> Benchmark {
        Benchmark {
            networks: vec![NETWORK],
            dtypes: vec!["f32", "bf16"],
            modes: modes.to_vec(),
        }
    }

    #[test]
    fn a_row_compares_both_sides() {
        let line = |train: f64, bytes: f64| {
            json!({
                "train_images_per_s": train, "forward_images_per_s": 4.0 * train,
                "peak_bytes": bytes * MEBI, "forward_flops_per_image": 1e9,
            })
        };
        let board = Results {
            cells: vec![
                cell(Side::Ours, "bf16", line(200.0, 30.0)),
                cell(Side::Peer("eager"), "f32", line(50.0, 90.0)),
                cell(Side::Peer("eager"), "bf16", line(100.0, 60.0)),
                cell(Side::Peer("compile"), "bf16", line(400.0, 40.0)),
                cell(
                    Side::Peer("eager"),
                    "f32",
                    json!({"peak_flops": {"bf16": 1e13}}),
                ),
                cell(Side::Ours, "bf16", json!({})),
            ],
        };
        let table = markdown(&board, &programme(&["eager", "compile"]));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "| work | numbers | ours, images/s | PyTorch eager | PyTorch compile | ours / eager f32 | ours / best | peak memory, ours | ours / PyTorch's least | of the matrix peak, ours; best |",
                "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
                "| small, batch 8: training | f32 | – | 50.00 | – | – | – | – | – | – |",
                "| small, batch 8: training | bf16 | 200 | 100 | 400 | 4.00 | 0.50 | 30 MiB | 0.75 | 6.0%; 12.0% |",
                "| small, batch 8: forward | f32 | – | 200 | – | – | – | – | – | – |",
                "| small, batch 8: forward | bf16 | 800 | 400 | 1600 | 4.00 | 0.50 | – | – | 8.0%; 16.0% |",
                "| small: 16 images by DDIM, from command to PNG | bf16 | 4.00 | – | – | – | – | – | – | – |",
            ]
        );
    }

    #[test]
    fn without_a_peer_there_are_our_figures() {
        let board = Results {
            cells: vec![cell(
                Side::Ours,
                "f32",
                json!({"train_images_per_s": 2.0, "peak_bytes": MEBI}),
            )],
        };
        let table = markdown(&board, &programme(&[]));
        assert_eq!(
            table,
            "| work | numbers | ours, images/s | peak memory, ours |\n| --- | --- | --- | --- |\n| small, batch 8: training | f32 | 2.00 | 1 MiB |\n"
        );
    }
}
