//! The recording of a step's passes, where a card has one.

use burn::tensor::Tensor;
use ddpm_kernels::{Attempt, Bundle, Recording, record, same_memory};

use crate::error::TrainError;
use crate::optim::ParamGrads;
use crate::passes::Passes;
use crate::state::device_failed;

/// Runs the passes of steps; from the second step on that finds the parameters where they were, and inputs of the
/// same shapes, a card replays what it recorded.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// What a recording is bound to; none before the first step.
    bound: Option<Bound>,
    recording: Option<Recorded>,
    /// Attempts that were refused.
    failed: usize,
    /// Why the last one was.
    refusal: Option<String>,
}

/// Where the parameters lie, and the inputs' shapes.
#[derive(Debug)]
struct Bound {
    first_parameter: Option<Tensor<1>>,
    images: Vec<[usize; 4]>,
    rows: Vec<[usize; 1]>,
}

#[derive(Debug)]
struct Recorded {
    recording: Recording,
    trained: Vec<bool>,
}

/// A step with a number that is not finite is not recorded; so often it is tried again.
const TRIES: usize = 3;

impl Recorder {
    /// The gradients and losses of the passes, which are recorded only if this thread is `alone` at work on cards.
    ///
    /// # Errors   those of [`Passes::run`]; [`TrainError::Device`] if a recording cannot be replayed
    pub(crate) fn run(
        &mut self,
        passes: &Passes,
        inputs: Bundle,
        alone: bool,
    ) -> Result<(ParamGrads, Tensor<1>), TrainError> {
        if !passes.can_be_recorded() {
            return passes.run(inputs);
        }
        let bound = Bound {
            first_parameter: passes.first_parameter(),
            images: inputs.images.iter().map(Tensor::dims).collect(),
            rows: inputs.rows.iter().map(Tensor::dims).collect(),
        };
        if !self.bound.as_ref().is_some_and(|last| last.holds(&bound)) {
            // Without the old one first: both need memory.
            self.recording = None;
            self.bound = Some(bound);
            return passes.run(inputs);
        }
        if alone && self.may_record() {
            match recorded(passes, &inputs)? {
                (Attempt::Done(recording), trained) => {
                    self.recording = Some(Recorded { recording, trained });
                }
                (Attempt::Later, _) => {}
                (Attempt::Refused(why), _) => {
                    self.failed += 1;
                    self.refusal = Some(why);
                }
            }
        }
        match &self.recording {
            None => passes.run(inputs),
            Some(recorded) => {
                let found = recorded.recording.replay(&inputs);
                let mut rows = found.map_err(device_failed)?.rows;
                let Some(losses) = rows.pop() else {
                    unreachable!("losses after the gradients")
                };
                Ok((ParamGrads::of(recorded.trained.clone(), rows), losses))
            }
        }
    }

    /// Whether the next step may be one to record.
    pub(crate) fn may_record(&self) -> bool {
        self.recording.is_none() && self.failed < TRIES
    }

    /// Whether steps are replayed; why not, if that is known.
    pub(crate) fn replays(&self) -> Result<(), Option<&str>> {
        match self.recording {
            Some(_) => Ok(()),
            None => Err(self.refusal.as_deref()),
        }
    }
}

/// An attempt, and which parameters have gradients.
fn recorded(passes: &Passes, inputs: &Bundle) -> Result<(Attempt, Vec<bool>), TrainError> {
    let mut trained = Vec::new();
    let attempt = record(inputs, &mut |inputs| {
        let (grads, losses) = passes.run(inputs)?;
        trained = grads.trained().to_vec();
        let mut rows = grads.flat().to_vec();
        rows.push(losses);
        let images = Vec::new();
        Ok::<_, TrainError>(Bundle { images, rows })
    })?;
    Ok((attempt, trained))
}

impl Bound {
    fn holds(&self, now: &Self) -> bool {
        let parameters = (&self.first_parameter, &now.first_parameter);
        let (Some(then), Some(first)) = parameters else {
            return false;
        };
        same_memory(then, first) && self.images == now.images && self.rows == now.rows
    }
}

#[cfg(test)]
#[cfg(feature = "wgpu")]
mod tests {
    use burn::tensor::{Device, DeviceKind, TensorData};
    use ddpm_kernels::Halt;
    use ddpm_schedule::noise::{Stream, normal_fill};
    use ddpm_schedule::{Prediction, Weighting};
    use ddpm_unet::{ModelShape, Precision, params};

    use super::*;
    use crate::config::{Config, Validated};
    use crate::state::{Part, Recipe, TrainState};

    fn images(index: u64, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let mut data = vec![0.0; shape.iter().product()];
        normal_fill(11, Stream::Synthetic, 0, index, &mut data);
        Tensor::from_data(TensorData::new(data, shape), device)
    }

    /// The weights after six steps, and in which of them a recording was replayed.
    fn train(config: &Config, record: bool) -> (Vec<Vec<f32>>, Vec<bool>) {
        let device = Device::wgpu(DeviceKind::Cpu);
        let Validated {
            config,
            process,
            objective,
            ..
        } = config.clone().validate().unwrap();
        let recipe = Recipe {
            seed: 5,
            process,
            objective,
            optim: config.optim,
            ema: config.ema,
            total_steps: 10,
            precision: config.train.precision,
            recompute: config.train.recompute,
            record,
        };
        let tracked = device.clone().autodiff();
        let shape = ModelShape {
            channels: 1,
            height: 8,
            width: 8,
            learned_variance: false,
            self_condition: false,
            steps: 1000,
        };
        let model = config.model.build(shape, 5, &tracked).unwrap();
        let mut state = TrainState::new(model);
        let mut halt = Halt::new(&device);
        let mut replays = Vec::new();
        for step in 0..6 {
            let parts = (0..config.train.accumulate as u64).map(|part| Part {
                x0: images(100 * step + part, [2, 1, 8, 8], &tracked),
                eps: images(100 * step + 50 + part, [2, 1, 8, 8], &tracked),
                t: vec![7.0 * step as f64, 100.0 * (step + part) as f64],
                input_noise: None,
                counts: None,
                uncertainty: None,
                labels: None,
                first_row: 2 * part,
            });
            let (next, unseen) = state
                .step_ahead(parts.collect(), &recipe, &mut halt)
                .unwrap();
            state = next;
            assert!(unseen.wait().unwrap().loss.is_finite());
            replays.push(state.recorder.borrow().replays().is_ok());
        }
        let weights = params::export(&state.model);
        let weights = weights
            .into_iter()
            .map(|(_, data)| data.try_to_vec().unwrap());
        (weights.collect(), replays)
    }

    /// With dropout, whose masks differ from step to step, with rows of their own weights, and with the loss's scale.
    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn steps_that_are_replayed_are_those_that_are_run() {
        let mut velocity = crate::testing::tiny(0.3);
        velocity.optim.lr = 1e-2;
        velocity.objective.prediction = Some(Prediction::V);
        velocity.objective.weighting = Weighting::MinSnr {
            gamma: 5.0,
            as_eps: false,
        };
        velocity.train.accumulate = 2;
        let mut recomputed = crate::testing::tiny(0.3);
        recomputed.train.recompute = true;
        if Precision::F16
            .choose(&Device::wgpu(DeviceKind::Cpu))
            .is_ok()
        {
            recomputed.train.precision = Precision::F16;
        }
        for config in [velocity, recomputed] {
            let (expected, never) = train(&config, false);
            assert_eq!(never, [false; 6]);
            let (found, replays) = train(&config, true);
            // The first update brings the parameters into one piece of memory.
            assert_eq!(replays, [false, false, true, true, true, true]);
            assert_eq!(found, expected, "{config:?}");
        }
    }
}
