//! What a measurement says at its end, for people and for programs.

use serde_json::{Value, json};

use super::machine::Machine;
use super::peer::{Mode, Peer};
use super::process::Ran;
use super::row::Row;
use super::table;

/// One process of a measurement.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who did it: `ours`, or PyTorch's mode.
    pub side: String,
    /// The work.
    pub work: String,
    /// The round, counted from 1; `None` for the short runs before them.
    pub round: Option<u32>,
    /// Its command.
    pub command: String,
    /// Its figures, or why there are none.
    pub outcome: Result<Ran, String>,
}

impl Record {
    fn json(&self) -> Value {
        let mut json = json!({
            "side": self.side, "work": self.work, "round": self.round, "command": self.command,
        });
        match &self.outcome {
            Ok(ran) => {
                json["process_s"] = json!(ran.seconds);
                json["output"] = ran.line.clone();
            }
            Err(why) => json["failed"] = json!(why),
        }
        json
    }
}

/// Everything that a measurement yielded.
#[derive(Debug)]
pub struct Report<'a> {
    /// Where it ran.
    pub machine: &'a Machine,
    /// Threads of both sides.
    pub threads: usize,
    /// Rounds.
    pub rounds: u32,
    /// Whether it was a quick one.
    pub quick: bool,
    /// PyTorch's side.
    pub peer: Option<&'a Peer>,
    /// Its modes that were tried.
    pub modes: &'a [Mode],
    /// The table.
    pub rows: &'a [Row],
    /// Every process.
    pub records: &'a [Record],
}

impl Report<'_> {
    /// The table with what one has to know to read it, as Markdown.
    pub fn text(&self) -> String {
        let mut text = format!(
            "Machine: {}; threads: {}.\n",
            self.machine.describe(),
            self.threads
        );
        if let Some(peer) = self.peer {
            text += &format!("PyTorch: {}.\n", peer.describe());
        }
        text += &match self.rounds {
            1 => "One round: take the figures as sizes.".to_owned(),
            rounds => format!("Medians of {rounds} rounds (least..most)."),
        };
        if self.peer.is_some() {
            text += " Ratio: PyTorch's figure divided by ours, so above 1 ours is faster, or takes less memory.";
        }
        text += "\n\n";
        text += &table::markdown(self.rows, self.peer.is_some());
        let notes = self.notes();
        if !notes.is_empty() {
            text += "\n";
            text += &notes;
        }
        text
    }

    /// The modes that no figure stands for, so that none is left out in silence.
    fn notes(&self) -> String {
        let mut notes = String::new();
        if self.peer.is_none() {
            return notes;
        }
        for (mode, why, rows) in self.failures() {
            let rows = rows.join("; ");
            notes += &format!("- PyTorch {mode} failed: {why} (at {rows})\n");
        }
        let left_out: Vec<String> = Mode::ALL
            .iter()
            .filter(|mode| !self.modes.contains(mode))
            .map(Mode::to_string)
            .collect();
        if !left_out.is_empty() {
            notes += &format!("- not tried: PyTorch {}\n", left_out.join(", "));
        }
        notes
    }

    /// Each failure once, with the rows that it left without a figure.
    fn failures(&self) -> Vec<(Mode, &str, Vec<&str>)> {
        let mut failures: Vec<(Mode, &str, Vec<&str>)> = Vec::new();
        for row in self.rows {
            for (mode, why) in &row.failed {
                let known = failures
                    .iter_mut()
                    .find(|(other, reason, _)| other == mode && reason == why);
                match known {
                    Some((_, _, rows)) => rows.push(&row.name),
                    None => failures.push((*mode, why, vec![&row.name])),
                }
            }
        }
        failures
    }

    /// Every figure of every round.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let records: Vec<Value> = self.records.iter().map(Record::json).collect();
        json!({
            "machine": self.machine.json(),
            "threads": self.threads,
            "rounds": self.rounds,
            "quick": self.quick,
            "peer": self.peer.map(|peer| &peer.info),
            "ratio": "the peer's median divided by ours",
            "rows": rows,
            "processes": records,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::Unit;

    #[test]
    fn no_mode_is_left_out_in_silence() {
        let rows: Vec<Row> = ["a: training step", "a: forward", "b: forward"]
            .into_iter()
            .map(|name| {
                let mut row = Row::new(name.into(), Unit::Seconds);
                row.ours = vec![1.0];
                row.add(Mode::EAGER, 2.0);
                if name.starts_with('a') {
                    row.fail(Mode::ALL[3], "no compiler");
                }
                row
            })
            .collect();
        let (machine, peer) = (Machine::this(), Peer::unknown());
        let report = |quick, modes| Report {
            machine: &machine,
            threads: 1,
            rounds: 3,
            quick,
            peer: Some(&peer),
            modes,
            rows: &rows,
            records: &[],
        };
        let text = report(false, &Mode::ALL).text();
        assert!(text.contains("above 1 ours is faster"), "{text}");
        let failed =
            "- PyTorch compile f32 failed: no compiler (at a: training step; a: forward)\n";
        assert!(text.ends_with(failed), "{text}");
        let text = report(true, &Mode::QUICK).text();
        let left_out = "PyTorch channels_last bf16, compile f32, compile bf16\n";
        assert!(text.ends_with(left_out), "{text}");
    }

    #[test]
    fn without_a_peer_nothing_is_said_of_one() {
        let machine = Machine::this();
        let mut row = Row::new("small: forward".into(), Unit::Seconds);
        row.ours = vec![2.0, 3.0];
        let record = |outcome| Record {
            side: "ours".into(),
            work: "small".into(),
            round: Some(1),
            command: "ddpm".into(),
            outcome,
        };
        let ran = Ran {
            seconds: 4.0,
            line: json!({"forward_s": 2.0}),
        };
        let report = Report {
            machine: &machine,
            threads: 2,
            rounds: 2,
            quick: true,
            peer: None,
            modes: &[],
            rows: &[row],
            records: &[record(Ok(ran)), record(Err("no memory".into()))],
        };
        let text = report.text();
        assert!(text.contains("threads: 2."), "{text}");
        assert!(text.contains("Medians of 2 rounds"), "{text}");
        assert!(
            text.contains("| small: forward | 2.50 s (2.00..3.00) |"),
            "{text}"
        );
        assert!(!text.contains("PyTorch"), "{text}");
        let json = report.json();
        assert_eq!(json["peer"], Value::Null);
        assert_eq!(json["rows"][0]["ours"]["rounds"], json!([2.0, 3.0]));
        assert_eq!(json["processes"][0]["output"]["forward_s"], 2.0);
        assert_eq!(json["processes"][1]["failed"], "no memory");
    }
}
