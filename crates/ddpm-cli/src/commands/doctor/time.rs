//! How long the run will take, from a few measured steps.

use ddpm_train::Probe;

use super::finding::Finding;
use crate::terminal::rounded;
use crate::words;

/// The share of a run's time that sample grids may take without a warning.
const MUCH_SAMPLING: f64 = 0.5;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Optimiser steps.
    pub steps: u64,
    /// Images a step.
    pub batch: usize,
    /// Sample grids.
    pub grids: u64,
    /// Times that samples are judged.
    pub evaluations: u64,
    /// Images that are judged, by those of a grid.
    pub judged: f64,
    /// Network evaluations an image.
    pub nfe: usize,
}

/// Seconds of the run and of the samples drawn in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// All of it.
    pub run_s: f64,
    /// Drawing sample grids and what is judged; without a measured evaluation of the network, nothing.
    pub sampling_s: f64,
}

/// The whole run from its measured pieces.
pub fn expected(work: Work, probe: &Probe) -> Expected {
    let evaluation_s = probe.evaluation_s.unwrap_or_default();
    let grid_s = work.nfe as f64 * evaluation_s;
    let sampling_s = grid_s * (work.grids as f64 + work.evaluations as f64 * work.judged);
    Expected {
        run_s: probe.step_s() * work.steps as f64 + sampling_s,
        sampling_s,
    }
}

/// What was measured, and what follows from it.
pub fn check(work: Work, probe: &Probe) -> Vec<Finding> {
    let step_s = probe.step_s();
    let measured = match probe.steps_s.len() {
        0 => "measured at the first step, which is the slowest".to_owned(),
        count => format!("measured over {}", words::some(count as u64, "step")),
    };
    let speed = work.batch as f64 / step_s.max(1e-9);
    let digits = if speed < 10.0 { 2 } else { 0 };
    let text = format!(
        "a step of {} takes {} ({speed:.digits$} images/s), {measured}",
        words::some(work.batch as u64, "image"),
        words::seconds(step_s),
    );
    let Expected { run_s, sampling_s } = expected(work, probe);
    let mut drawn = words::some(work.grids, "sample grid");
    if work.evaluations > 0 {
        drawn += &format!(
            " and the samples of {}",
            words::some(work.evaluations, "evaluation")
        );
    }
    let whole = match probe.evaluation_s {
        Some(_) => format!(
            "about {} for the whole run, {} of it for {drawn}",
            rounded(run_s),
            rounded(sampling_s)
        ),
        None => format!(
            "about {} for the whole run without its {drawn}",
            rounded(run_s)
        ),
    };
    let whole = match sampling_s > MUCH_SAMPLING * run_s {
        true => Finding::warn(
            "time",
            format!(
                "{whole}; raise `train.sample_every`{}, or lower `sample.steps` or `sample.count`{}",
                if work.evaluations > 0 {
                    " or `train.eval_every`"
                } else {
                    ""
                },
                if work.evaluations > 0 {
                    " or `train.eval_n`"
                } else {
                    ""
                },
            ),
        ),
        false => Finding::ok("time", whole),
    };
    vec![Finding::ok("time", text), whole]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_run_is_its_steps_and_its_grids() {
        let work = Work {
            steps: 1000,
            batch: 32,
            grids: 2,
            evaluations: 0,
            judged: 16.0,
            nfe: 50,
        };
        let probe = |evaluation_s| Probe {
            first_step_s: 0.2,
            steps_s: vec![0.02, 0.03, 0.04],
            evaluation_s,
        };
        let found = check(work, &probe(Some(0.02)));
        assert_eq!(
            found[0].text,
            "a step of 32 images takes 30 ms (1067 images/s), measured over 3 steps"
        );
        assert_eq!(
            found[1].text,
            "about 32 s for the whole run, 2 s of it for 2 sample grids"
        );
        assert_eq!(found[1].level, Level::Ok);
        assert_eq!(check(work, &probe(Some(2.0)))[1].level, Level::Warn);
        let judging = Work {
            evaluations: 2,
            ..work
        };
        // 34 grids' worth of 50 evaluations of 20 ms.
        assert_eq!(expected(judging, &probe(Some(0.02))).sampling_s, 34.0);
        assert!(
            check(judging, &probe(Some(0.02)))[1]
                .text
                .contains("2 sample grids and the samples of 2 evaluations; raise `train.sample_every` or `train.eval_every`")
        );
        assert!(check(work, &probe(None))[1].text.contains("without its 2"));
        let hurried = Probe {
            steps_s: Vec::new(),
            ..probe(None)
        };
        assert!((expected(work, &hurried).run_s - 200.0).abs() < 1e-9);
        assert!(check(work, &hurried)[0].text.contains("first step"));
    }
}
