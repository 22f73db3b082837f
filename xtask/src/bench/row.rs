//! What is known of one row of the table.

use serde_json::{Map, Value, json};

use super::peer::Mode;
use super::stats::{Spread, least};
use super::work::Unit;

/// The figures of one row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What its figures are counted in.
    pub unit: Unit,
    /// Ours, one for each round.
    pub ours: Vec<f64>,
    /// PyTorch's, one for each round in which a mode took part; eager is first.
    pub peer: Vec<(Mode, Vec<f64>)>,
    /// PyTorch's of the short run before the rounds, by which modes were chosen.
    pub probes: Vec<(Mode, f64)>,
    /// Modes that failed, and why.
    pub failed: Vec<(Mode, String)>,
}

impl Row {
    /// A row without figures.
    pub fn new(name: String, unit: Unit) -> Self {
        Self {
            name,
            unit,
            ours: Vec::new(),
            peer: Vec::new(),
            probes: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Adds a figure of a mode's round.
    pub fn add(&mut self, mode: Mode, value: f64) {
        match self.peer.iter_mut().find(|(known, _)| *known == mode) {
            Some((_, values)) => values.push(value),
            None => self.peer.push((mode, vec![value])),
        }
    }

    /// Notes a failure, once a mode.
    pub fn fail(&mut self, mode: Mode, why: &str) {
        if !self.failed.iter().any(|(known, _)| *known == mode) {
            self.failed.push((mode, why.to_owned()));
        }
    }

    /// The best mode by the short runs.
    pub fn best_probe(&self) -> Option<Mode> {
        let probes = self.probes.iter();
        least(probes.map(|(mode, value)| (*mode, std::slice::from_ref(value))))
    }

    /// The best mode by the rounds.
    pub fn best(&self) -> Option<Mode> {
        least(
            self.peer
                .iter()
                .map(|(mode, values)| (*mode, values.as_slice())),
        )
    }

    /// Ours over the rounds.
    pub fn ours(&self) -> Option<Spread> {
        Spread::of(&self.ours)
    }

    /// A mode's over the rounds.
    pub fn of(&self, mode: Mode) -> Option<Spread> {
        let (_, values) = self.peer.iter().find(|(known, _)| *known == mode)?;
        Spread::of(values)
    }

    /// PyTorch's median divided by ours.
    pub fn ratio(&self, mode: Mode) -> Option<f64> {
        let ours = self.ours()?.median;
        (ours > 0.0).then_some(self.of(mode)?.median / ours)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let unit = match self.unit {
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
        };
        let medians = |mode: &Mode| {
            json!({
                "rounds": self.peer.iter().find(|(known, _)| known == mode).map(|(_, values)| values),
                "median": self.of(*mode).map(|spread| spread.median),
                "ratio": self.ratio(*mode),
            })
        };
        let peer: Map<String, Value> = self
            .peer
            .iter()
            .map(|(mode, _)| (mode.to_string(), medians(mode)))
            .collect();
        let probes = self.probes.iter();
        let probes: Map<String, Value> = probes
            .map(|(mode, value)| (mode.to_string(), json!(value)))
            .collect();
        let failed = self.failed.iter();
        let failed: Map<String, Value> = failed
            .map(|(mode, why)| (mode.to_string(), json!(why)))
            .collect();
        json!({
            "name": self.name,
            "unit": unit,
            "ours": { "rounds": self.ours, "median": self.ours().map(|spread| spread.median) },
            "peer": peer,
            "peer_best": self.best().map(|mode| mode.to_string()),
            "peer_probes": probes,
            "peer_failed": failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut row = Row::new("a: forward".into(), Unit::Seconds);
        row.ours = vec![0.5, 0.25, 0.75];
        for value in [1.0, 2.0, 1.5] {
            row.add(Mode::EAGER, value);
        }
        row.add(Mode::ALL[2], 1.25);
        row
    }

    #[test]
    fn the_best_mode_is_the_least() {
        let mut row = row();
        assert_eq!(row.best(), Some(Mode::ALL[2]));
        assert_eq!(row.ratio(Mode::EAGER), Some(3.0));
        assert_eq!(row.ratio(Mode::ALL[2]), Some(2.5));
        assert_eq!(row.ratio(Mode::ALL[1]), None);
        row.add(Mode::ALL[2], 9.0);
        assert_eq!(row.best(), Some(Mode::EAGER));
        assert_eq!(row.best_probe(), None);
        row.probes = vec![(Mode::EAGER, 2.0), (Mode::ALL[3], 1.0)];
        assert_eq!(row.best_probe(), Some(Mode::ALL[3]));
    }

    #[test]
    fn without_figures_there_is_no_ratio() {
        let row = Row::new("a".into(), Unit::Bytes);
        assert_eq!(row.best(), None);
        assert_eq!(row.ratio(Mode::EAGER), None);
        assert_eq!(row.json()["peer_best"], Value::Null);
    }

    #[test]
    fn programs_get_every_figure() {
        let mut row = row();
        row.fail(Mode::ALL[3], "no compiler");
        row.fail(Mode::ALL[3], "again");
        let json = row.json();
        assert_eq!(json["unit"], "s");
        assert_eq!(
            json["ours"],
            json!({"rounds": [0.5, 0.25, 0.75], "median": 0.5})
        );
        assert_eq!(
            json["peer"]["eager f32"],
            json!({"rounds": [1.0, 2.0, 1.5], "median": 1.5, "ratio": 3.0})
        );
        assert_eq!(json["peer_best"], "channels_last bf16");
        assert_eq!(json["peer_failed"], json!({"compile f32": "no compiler"}));
    }
}
