//! The noise schedule, and the objective and the sampler against it.

use ddpm_diffusion::{ObjectiveConfig, SampleConfig};
use ddpm_schedule::{
    Ending, Prediction, Process, Schedule, ScheduleConfig, ScheduleError, ScheduleKind, Weighting,
};

use super::finding::Finding;
use crate::words;

/// More than what an error in ε is multiplied by at the last step of most schedules; Ho et al.'s: 157.
const MUCH_AMPLIFICATION: f64 = 1000.0;

/// How much of the image is left at the last step, where samplers start from noise alone.
pub fn ending(config: &ScheduleConfig, schedule: &Schedule) -> Finding {
    let scale = schedule.sqrt_alpha_bar(schedule.len() - 1);
    let left = format!(
        "{} of the image's scale is left at the last of {} steps",
        words::percent(scale),
        words::count(schedule.len() as u64)
    );
    match Ending::of(schedule) {
        Ending::Nothing => Finding::ok(
            "schedule",
            "nothing of the image is left at the last step (zero terminal SNR)",
        ),
        Ending::Trace => Finding::ok("schedule", left),
        Ending::Brightness => Finding::note(
            "schedule",
            format!(
                "{left}: samples tend to medium brightness; {}",
                cure(config)
            ),
        ),
        Ending::Shapes => Finding::warn(
            "schedule",
            format!(
                "{left}, but sampling starts from noise alone; {}",
                cure(config)
            ),
        ),
        Ending::Image => Finding::fail(
            "schedule",
            format!(
                "{left}, but sampling starts from noise alone, which training never shows; {}",
                cure(config)
            ),
        ),
    }
}

/// A process without a table: where its samplers start and end.
pub fn process(process: &Process) -> Finding {
    let (first, last) = (process.noisiest(), process.least_noisy());
    let named = match process {
        Process::Flow(_) => "rectified flow".to_owned(),
        other => format!("the process {}", other.name()),
    };
    let from = match first.signal == 0.0 {
        true => "pure noise".to_owned(),
        false => format!("σ = {}", words::short(first.sigma())),
    };
    Finding::ok(
        "process",
        format!(
            "{named}, from {from} down to σ = {}",
            words::short(last.sigma())
        ),
    )
}

/// What would leave less of the image.
fn cure(config: &ScheduleConfig) -> &'static str {
    let by_ends = matches!(
        config.kind,
        ScheduleKind::Linear | ScheduleKind::ScaledLinear | ScheduleKind::SigmoidBeta
    );
    match by_ends && config.steps < 1000 && !config.scale_ends {
        true => {
            "set `schedule.scale_ends = true`, which multiplies both ends of beta by 1000/`schedule.steps`"
        }
        false => {
            "set `schedule.kind = \"cosine\"`, or `schedule.zero_terminal_snr = true` with `objective.prediction = \"v\"`"
        }
    }
}

/// What is predicted, and with which weights, against the schedule and how `sample` draws.
pub fn objective(config: &ObjectiveConfig, sample: &SampleConfig, process: &Process) -> Finding {
    let noisiest = process.noisiest();
    let zero = noisiest.signal == 0.0;
    // x̂0 = (x - noise·ε̂)/signal
    let amplification = noisiest.noise / noisiest.signal;
    // What clipping leaves of such an error, fresh noise washes out.
    let washed_out = sample.clip && sample.sampler.about().stochastic;
    let prediction = config.prediction(process);
    let predicted = match prediction {
        Prediction::Eps => "eps",
        Prediction::X0 => "x0",
        Prediction::V => "v",
        Prediction::Edm => "EDM's residual",
        Prediction::Velocity => "the velocity",
    };
    let untrained = config
        .weighting
        .is_zero_at_pure_noise(prediction, process.sigma_data());
    match (prediction, config.weighting) {
        (Prediction::Eps, _) if zero => {
            Finding::fail("objective", ScheduleError::EpsAtZeroSnr.to_string())
        }
        _ if zero && untrained => Finding::warn(
            "objective",
            format!(
                "predicting {predicted} with a weighting that is 0 where the signal is: the last step, where \
                     sampling starts, is not trained; set `objective.weighting = \"simple\"`"
            ),
        ),
        (Prediction::X0, Weighting::Simple {}) => Finding::note(
            "objective",
            "predicting x0 with the same weight at every noise level, which leaves fine detail the least; \
             `objective.weighting = \"min_snr\"` is usual with x0",
        ),
        (Prediction::Eps, _) if amplification > MUCH_AMPLIFICATION && !washed_out => Finding::note(
            "objective",
            format!(
                "predicting eps where almost nothing of the image is left: the first sampling steps multiply the \
                 network's error by {}; `sample.clip` bounds it, a sampler with fresh noise washes it out, \
                 `objective.prediction = \"v\"` avoids it",
                words::count(amplification as u64)
            ),
        ),
        (_, weighting) => {
            let weighted = match weighting {
                Weighting::Simple {} => "equal weights",
                Weighting::MinSnr { .. } => "min-SNR weights",
                Weighting::SoftMinSnr { .. } => "soft min-SNR weights",
                Weighting::P2 { .. } => "P2 weights",
                Weighting::Snr {} => "SNR weights",
                Weighting::TruncatedSnr {} => "truncated SNR weights",
                Weighting::Edm {} => "EDM's weights",
            };
            Finding::ok(
                "objective",
                format!("predicting {predicted} with {weighted}"),
            )
        }
    }
}

/// How samples are drawn; `largest` is the largest |pixel| that the data were seen to have, if any were.
pub fn sampling(config: &SampleConfig, nfe: Option<usize>, largest: Option<f32>) -> Finding {
    let evaluations = match nfe {
        Some(nfe) => words::some(nfe as u64, "evaluation"),
        None => "as many evaluations as it takes".to_owned(),
    };
    let images = words::some(config.count as u64, "image");
    let text = format!("{evaluations} an image, {images} a grid");
    let beyond = largest.filter(|largest| f64::from(*largest) > config.clip_range * 1.001);
    match (config.clip, beyond) {
        (true, Some(largest)) => Finding::note(
            "sampling",
            format!(
                "{text}; `sample.clip` cuts pixels at ±{}, and the data reach {largest:.2}",
                config.clip_range
            ),
        ),
        (false, _) => Finding::note(
            "sampling",
            format!(
                "{text}; without `sample.clip` early errors are not held to the range of pixels"
            ),
        ),
        (true, None) => Finding::ok("sampling", text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn linear(steps: usize) -> ScheduleConfig {
        ScheduleConfig {
            steps,
            ..ScheduleConfig::default()
        }
    }

    fn zero_snr() -> Schedule {
        let config = ScheduleConfig {
            zero_terminal_snr: true,
            ..linear(100)
        };
        config.build().unwrap()
    }

    #[test]
    fn short_linear_schedules_leave_too_much() {
        for (config, level, words) in [
            (linear(1000), Level::Ok, "0.6% of the image's scale"),
            (linear(600), Level::Note, "medium brightness"),
            (linear(300), Level::Warn, "`schedule.scale_ends = true`"),
            (linear(100), Level::Fail, "`schedule.scale_ends = true`"),
            (
                ScheduleConfig {
                    scale_ends: true,
                    beta_end: 0.004,
                    ..linear(500)
                },
                Level::Warn,
                "cosine",
            ),
        ] {
            let finding = ending(&config, &config.build().unwrap());
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.text.contains(words), "{finding:?}");
        }
        let config = linear(100);
        assert_eq!(ending(&config, &zero_snr()).level, Level::Ok);
    }

    #[test]
    fn objectives_against_zero_terminal_snr() {
        let min_snr = Weighting::MinSnr {
            gamma: 5.0,
            as_eps: false,
        };
        let usual = linear(1000).build().unwrap();
        let cosine = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            ..linear(1000)
        };
        let cosine = cosine.build().unwrap();
        for (prediction, weighting, schedule, level) in [
            (Prediction::Eps, Weighting::Simple {}, &usual, Level::Ok),
            (Prediction::Eps, min_snr, &usual, Level::Ok),
            (Prediction::Eps, Weighting::Simple {}, &cosine, Level::Note),
            (Prediction::V, Weighting::Simple {}, &cosine, Level::Ok),
            (Prediction::X0, Weighting::Simple {}, &usual, Level::Note),
            (Prediction::X0, min_snr, &usual, Level::Ok),
            (Prediction::V, min_snr, &usual, Level::Ok),
            (
                Prediction::Eps,
                Weighting::Simple {},
                &zero_snr(),
                Level::Fail,
            ),
            (Prediction::V, Weighting::Simple {}, &zero_snr(), Level::Ok),
            (Prediction::V, min_snr, &zero_snr(), Level::Warn),
        ] {
            let config = ObjectiveConfig {
                prediction: Some(prediction),
                weighting,
                ..ObjectiveConfig::default()
            };
            let process = Process::Discrete(schedule.clone());
            let free = SampleConfig {
                clip: false,
                ..SampleConfig::default()
            };
            let finding = objective(&config, &free, &process);
            assert_eq!(finding.level, level, "{finding:?}");
            // Ancestral sampling with clipping bears it.
            let level = if level == Level::Note && prediction == Prediction::Eps {
                Level::Ok
            } else {
                level
            };
            let finding = objective(&config, &SampleConfig::default(), &process);
            assert_eq!(finding.level, level, "{finding:?}");
        }
    }

    #[test]
    fn clipping_against_the_data() {
        let clip = SampleConfig::default();
        let free = SampleConfig {
            clip: false,
            ..clip.clone()
        };
        for (config, largest, level) in [
            (&clip, None, Level::Ok),
            (&clip, Some(1.0), Level::Ok),
            (&clip, Some(3.7), Level::Note),
            (&free, Some(1.0), Level::Note),
        ] {
            let finding = sampling(config, Some(50), largest);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(
                finding
                    .text
                    .starts_with("50 evaluations an image, 64 images")
            );
        }
    }
}
