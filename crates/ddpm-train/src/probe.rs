//! A few steps of a run, measured, with nothing written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use ddpm_data::Dataset;
use ddpm_diffusion::{Condition, Network, randn_images};
use ddpm_model::{SamplingNetwork, Told};
use ddpm_schedule::noise::Stream;

use crate::config::Validated;
use crate::error::TrainError;
use crate::events::Event;
use crate::model_shape::model_shape;
use crate::stop::Stop;
use crate::trainer::{Job, Start, Workers, train_to_state};

/// What the steps and an evaluation of the network took, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The first step, in which memory is fetched and weights are made.
    pub first_step_s: f64,
    /// The steps that a run is made of; fewer than were asked for if time ran out.
    pub steps_s: Vec<f64>,
    /// One evaluation of `sample.count` images without gradients, as samplers need many; none if
    /// time ran out.
    pub evaluation_s: Option<f64>,
}

impl Probe {
    /// Seconds a step: the mean of those measured, or the first if there was no other.
    pub fn step_s(&self) -> f64 {
        match self.steps_s.len() {
            0 => self.first_step_s,
            count => self.steps_s.iter().sum::<f64>() / count as f64,
        }
    }
}

/// Trains `steps` steps as a run of this configuration on these devices does after its first ones, then times an
/// evaluation of the network on the first device after others like it. No measurement begins after `budget`.
///
/// `observe(done, of)` is called after each step and evaluation, those included that are not measured.
///
/// # Errors   as [`crate::train`], but nothing of the disk
pub fn probe(
    validated: &Validated,
    dataset: Arc<Dataset>,
    devices: &[Device],
    steps: usize,
    budget: Duration,
    observe: &mut dyn FnMut(usize, usize),
) -> Result<Probe, TrainError> {
    let start = Instant::now();
    let config = &validated.config;
    let shape = model_shape(config, &dataset)?;
    let Some(device) = devices.first().cloned() else {
        return Err(TrainError::Device {
            message: "there is none".to_owned(),
        });
    };
    // A GPU compiles its kernels, brings the parameters together and captures its passes first, the CPU fetches memory.
    let (warm, evaluations) = match ddpm_kernels::checks_finite(&device) {
        true => (3, 3),
        false => (1, 2),
    };
    let of = warm + steps + evaluations;
    let mut validated = validated.clone();
    // What the learning rate does in the meantime costs nothing and changes nothing here.
    validated.config.train.steps = Some((warm + steps) as u64);
    validated.config.train.epochs = None;
    let (stop, mut seconds, mut failed) = (Stop::default(), Vec::new(), None);
    let job = Job {
        validated,
        dataset,
        run: None,
        workers: Workers::Devices(devices.to_vec()),
        stop: stop.clone(),
        start: Start::Fresh,
        evaluator: None,
    };
    let mut clock = start;
    let (_, state) = train_to_state(job, &mut |event| match event {
        Event::Started { .. } => clock = Instant::now(),
        Event::Step { report, .. } => {
            seconds.push(clock.elapsed().as_secs_f64());
            clock = Instant::now();
            observe(report.step as usize, of);
            if start.elapsed() > budget {
                stop.request();
            }
        }
        Event::Skipped {
            step, cause, value, ..
        } => {
            failed.get_or_insert(TrainError::Diverged {
                quantity: cause.quantity(),
                step,
                value,
                last_good: "nothing was saved yet".to_owned(),
            });
            stop.request();
        }
        _ => {}
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut evaluation_s = None;
    let model = state.ema_model();
    drop(state);
    let image = [shape.channels, shape.height, shape.width];
    let rows = 0..config.sample.count as u64;
    let network = SamplingNetwork::new(&model, config.train.precision);
    let picture = shape.condition.picture_channels;
    let told = Told {
        numbers: match shape.condition.vector {
            Some(numbers) => vec![vec![0.0; numbers]; config.sample.count],
            None => Vec::new(),
        },
        picture: (picture > 0).then(|| {
            let shape = [config.sample.count, picture, image[1], image[2]];
            Tensor::zeros(shape, &device)
        }),
        ..Told::of_classes(model.conditioning(), config.sample.count)
    };
    for done in warm + steps + 1..=of {
        if start.elapsed() > budget {
            break;
        }
        let x = randn_images(
            config.seed,
            Stream::TrainNoise,
            0,
            rows.clone(),
            image,
            &device,
        );
        let t = Tensor::<1>::zeros([config.sample.count], &device);
        let clock = Instant::now();
        let expects = config.objective.self_condition > 0.0;
        let condition = Condition {
            x0: expects.then(|| x.zeros_like()),
            ..told.condition(0..config.sample.count, &device)
        };
        let y = network.forward(x, t, &condition);
        let y = y.map_err(|error| TrainError::Device {
            message: error.to_string(),
        })?;
        // Reading the output back waits for it.
        y.try_into_data().map_err(|error| TrainError::Device {
            message: error.to_string(),
        })?;
        evaluation_s = Some(clock.elapsed().as_secs_f64());
        observe(done, of);
    }
    Ok(Probe {
        first_step_s: seconds.first().copied().unwrap_or_default(),
        steps_s: seconds.into_iter().skip(warm).collect(),
        evaluation_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> (Validated, Arc<Dataset>) {
        let mut config = crate::testing::tiny(0.0);
        config.train.batch = 4;
        config.train.accumulate = Some(2);
        config.sample.count = 2;
        let dataset = Dataset::load(&config.data, 0, &mut |_, _| {}).unwrap();
        (config.validate().unwrap(), Arc::new(dataset))
    }

    #[test]
    fn steps_and_an_evaluation_are_measured() {
        let (validated, dataset) = tiny();
        let mut seen = Vec::new();
        let found = probe(
            &validated,
            dataset,
            &[Device::flex()],
            2,
            Duration::MAX,
            &mut |done, of| seen.push((done, of)),
        )
        .unwrap();
        assert_eq!(seen, [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
        assert_eq!(found.steps_s.len(), 2);
        assert!(found.step_s() > 0.0 && found.evaluation_s.unwrap() > 0.0);
    }

    #[test]
    fn without_time_the_first_steps_have_to_do() {
        let (validated, dataset) = tiny();
        let found = probe(
            &validated,
            dataset,
            &[Device::flex(), Device::flex()],
            2,
            Duration::ZERO,
            &mut |_, _| {},
        )
        .unwrap();
        // Several ranks stop together, one step later.
        assert_eq!(found.steps_s.len(), 1);
        assert_eq!(found.evaluation_s, None);
        assert!((found.step_s() - found.steps_s[0]).abs() < f64::EPSILON);
    }
}
