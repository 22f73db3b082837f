//! How good a run's samples were, step by step: `eval.jsonl`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::atomic::write_file;
use crate::error::{Result, StoreError};
use crate::run_dir::{RunDir, RunWriter};

/// Figures of the samples of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The step.
    pub step: u64,
    /// What checkpoints are compared by; lower is better.
    pub score: f64,
    /// How many samples were judged.
    pub n: usize,
    /// All figures by their names.
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

impl RunDir {
    /// The log of evaluations.
    #[must_use]
    pub fn eval_jsonl(&self) -> PathBuf {
        self.path().join("eval.jsonl")
    }
}

/// All points in the order of their steps; none of a run that judges nothing.
///
/// # Errors   [`StoreError::Format`] for a line that is none, [`StoreError::Io`]
pub fn read(run: &RunDir) -> Result<Vec<Point>> {
    let path = run.eval_jsonl();
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let lines = crate::read_metrics(&path)?;
    let point = |line| {
        serde_json::from_value(line).map_err(|error| StoreError::format(&path, "evaluation", error))
    };
    lines.into_iter().map(point).collect()
}

/// The step that drew best, the first of several.
///
/// # Errors   as [`read`]
pub fn best(run: &RunDir) -> Result<Option<Point>> {
    let points = read(run)?.into_iter();
    Ok(points.min_by(|a, b| a.score.total_cmp(&b.score)))
}

/// Adds a point, at once or not at all.
///
/// # Errors   as [`read`]; [`StoreError::Io`]
pub fn add(run: &RunWriter, point: &Point) -> Result<()> {
    let mut points = read(run)?;
    points.retain(|other| other.step < point.step);
    points.push(point.clone());
    write(run, &points)
}

/// Forgets the points after a step, for a run that goes on from there.
///
/// # Errors   as [`add`]
pub fn cut(run: &RunWriter, step: u64) -> Result<()> {
    let points = read(run)?;
    let kept: Vec<Point> = points
        .iter()
        .filter(|point| point.step <= step)
        .cloned()
        .collect();
    match kept.len() == points.len() {
        true => Ok(()),
        false => write(run, &kept),
    }
}

fn write(run: &RunWriter, points: &[Point]) -> Result<()> {
    let path = run.eval_jsonl();
    let mut text = String::new();
    for point in points {
        let line = serde_json::to_string(point);
        text += &line.map_err(|error| StoreError::format(&path, "evaluation", error))?;
        text.push('\n');
    }
    write_file(&path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_kept_in_order_and_cut_and_the_best_is_found() {
        let place = tempfile::tempdir().unwrap();
        let run = RunDir::create(place.path().join("run")).unwrap();
        run.write_config("").unwrap();
        assert_eq!(
            (read(&run).unwrap(), best(&run).unwrap()),
            (Vec::new(), None)
        );
        let point = |step, score| Point {
            step,
            score,
            n: 64,
            figures: BTreeMap::from([("precision".to_owned(), 0.5)]),
        };
        for (step, score) in [(10, 3.0), (20, 1.0), (30, 1.0), (40, 2.0)] {
            add(&run, &point(step, score)).unwrap();
        }
        assert_eq!(best(&run).unwrap(), Some(point(20, 1.0)));
        // A step that is done again takes the place of its first time and of what followed.
        add(&run, &point(30, 0.5)).unwrap();
        assert_eq!(read(&run).unwrap().len(), 3);
        assert_eq!(best(&run).unwrap().unwrap().step, 30);
        cut(&run, 20).unwrap();
        assert_eq!(read(&run).unwrap(), [point(10, 3.0), point(20, 1.0)]);
        std::fs::write(run.eval_jsonl(), "{\"step\": 1}\n{\"step\": 2}\n").unwrap();
        assert!(read(&run).is_err());
    }
}
