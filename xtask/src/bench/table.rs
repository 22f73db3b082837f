//! The rows as a table of Markdown.

use super::peer::Mode;
use super::row::Row;
use super::stats::Spread;
use super::work::Unit;

const NOTHING: &str = "–";

/// The table; PyTorch's columns are there if it took part.
pub fn markdown(rows: &[Row], with_peer: bool) -> String {
    let mut lines = vec![match with_peer {
        true => vec![
            "work".to_owned(),
            "ours".to_owned(),
            format!("PyTorch {}", Mode::EAGER),
            "ratio".to_owned(),
            "PyTorch best".to_owned(),
            "ratio".to_owned(),
        ],
        false => vec!["work".to_owned(), "ours".to_owned()],
    }];
    lines.push(vec!["---".to_owned(); lines[0].len()]);
    for row in rows {
        let mut cells = vec![row.name.clone(), spread(row.ours(), row.unit)];
        if with_peer {
            cells.push(match row.of(Mode::EAGER) {
                None if failed(row, Mode::EAGER) => "failed".to_owned(),
                eager => spread(eager, row.unit),
            });
            cells.push(ratio(row.ratio(Mode::EAGER)));
            match row.best() {
                Some(best) => {
                    cells.push(format!("{}, {best}", spread(row.of(best), row.unit)));
                    cells.push(ratio(row.ratio(best)));
                }
                None => cells.extend([NOTHING.to_owned(), NOTHING.to_owned()]),
            }
        }
        lines.push(cells);
    }
    let lines = lines
        .iter()
        .map(|cells| format!("| {} |\n", cells.join(" | ")));
    lines.collect()
}

fn failed(row: &Row, mode: Mode) -> bool {
    row.failed.iter().any(|(known, _)| *known == mode)
}

/// The median with its unit, and the least and the most where they differ.
fn spread(spread: Option<Spread>, unit: Unit) -> String {
    let Some(Spread { median, min, max }) = spread else {
        return NOTHING.to_owned();
    };
    let (scale, name) = match unit {
        Unit::Bytes => (1.0 / (1024.0 * 1024.0), "MiB"),
        Unit::Seconds if median >= 1.0 => (1.0, "s"),
        Unit::Seconds => (1e3, "ms"),
    };
    let [median, min, max] = [median, min, max].map(|value| figure(value * scale));
    if min == max {
        format!("{median} {name}")
    } else {
        format!("{median} {name} ({min}..{max})")
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NOTHING.to_owned(), figure)
}

/// A number in about three digits.
fn figure(value: f64) -> String {
    match value {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, unit: Unit, ours: &[f64]) -> Row {
        let mut row = Row::new(name.into(), unit);
        row.ours = ours.to_vec();
        row
    }

    #[test]
    fn without_a_peer_there_are_two_columns() {
        let rows = [
            row("a", Unit::Seconds, &[0.25, 0.5, 0.125]),
            row("b", Unit::Bytes, &[]),
        ];
        assert_eq!(
            markdown(&rows, false),
            "| work | ours |\n| --- | --- |\n| a | 250 ms (125..500) |\n| b | – |\n"
        );
    }

    #[test]
    fn a_peer_has_its_plain_and_its_best_mode() {
        let mut both = row("a", Unit::Seconds, &[1.5]);
        both.add(Mode::EAGER, 3.0);
        both.add(Mode::ALL[2], 1.2);
        let mut broken = row("b", Unit::Bytes, &[1024.0 * 1024.0 * 300.0]);
        broken.fail(Mode::EAGER, "no memory");
        let table = markdown(&[both, broken], true);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "| work | ours | PyTorch eager f32 | ratio | PyTorch best | ratio |",
                "| --- | --- | --- | --- | --- | --- |",
                "| a | 1.50 s | 3.00 s | 2.00 | 1.20 s, channels_last bf16 | 0.80 |",
                "| b | 300 MiB | failed | – | – | – |",
            ]
        );
    }

    #[test]
    fn figures_have_about_three_digits() {
        for (value, text) in [
            (0.0123, "0.01"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (123.4, "123"),
            (4321.0, "4321"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!(
            spread(Spread::of(&[0.0021, 0.0019]), Unit::Seconds),
            "2.00 ms (1.90..2.10)"
        );
    }
}
