//! A step's passes as a captured graph, where a GPU has one.

use burn::tensor::Tensor;
use ddpm_kernels::{Capture, Graph, GraphInputs, capture, same_memory};

use crate::collective::gradients::LocalGradients;
use crate::error::TrainError;
use crate::forward_backward::Passes;
use crate::optim::ParamGrads;
use crate::step::device_failed;
use crate::train_network::TrainNetwork;

/// Runs the passes of steps; from the second step on that finds the parameters where they were, and inputs of the
/// same shapes, a GPU replays what it captured.
#[derive(Debug, Default)]
pub(crate) struct StepGraph {
    /// What a graph is bound to; none before the first step.
    bound: Option<Bound>,
    captured: Option<Captured>,
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
struct Captured {
    graph: Graph,
    /// Which parameters have gradients.
    trained: Vec<bool>,
    /// How many sums of gradients come out.
    sums: usize,
}

/// A step with a number that is not finite is not captured; so often it is tried again.
const TRIES: usize = 3;

impl StepGraph {
    /// The gradients and losses of the passes, which are captured only if this thread is `alone` at work on GPUs.
    ///
    /// # Errors   those of [`Passes::run`]; [`TrainError::Device`] if a graph cannot be replayed
    pub(crate) fn run<N: TrainNetwork>(
        &mut self,
        passes: &Passes<N>,
        inputs: GraphInputs,
        alone: bool,
    ) -> Result<LocalGradients, TrainError> {
        if !passes.can_be_captured() {
            return passes.run(inputs);
        }
        let bound = Bound {
            first_parameter: passes.first_parameter(),
            images: inputs.images.iter().map(Tensor::dims).collect(),
            rows: inputs.rows.iter().map(Tensor::dims).collect(),
        };
        if !self.bound.as_ref().is_some_and(|last| last.holds(&bound)) {
            // Without the old one first: both need memory.
            self.captured = None;
            self.bound = Some(bound);
            return passes.run(inputs);
        }
        if alone && self.may_capture() {
            match attempt(passes, &inputs)? {
                (Capture::Done(graph), trained, sums) => {
                    self.captured = Some(Captured {
                        graph,
                        trained,
                        sums,
                    });
                }
                (Capture::Later, ..) => {}
                (Capture::Refused(why), ..) => {
                    self.failed += 1;
                    self.refusal = Some(why);
                }
            }
        }
        match &self.captured {
            None => passes.run(inputs),
            Some(captured) => captured.replay(&inputs),
        }
    }

    /// Whether the next step may be one to capture.
    pub(crate) fn may_capture(&self) -> bool {
        self.captured.is_none() && self.failed < TRIES
    }

    /// Whether steps are replayed; why not, if that is known.
    pub(crate) fn replays(&self) -> Result<(), Option<&str>> {
        match self.captured {
            Some(_) => Ok(()),
            None => Err(self.refusal.as_deref()),
        }
    }
}

impl Captured {
    fn replay(&self, inputs: &GraphInputs) -> Result<LocalGradients, TrainError> {
        let mut rows = self.graph.replay(inputs).map_err(device_failed)?.rows;
        let Some(losses) = rows.pop() else {
            unreachable!("losses after the gradients")
        };
        let each = (rows.len() / self.sums).max(1);
        let sums = rows
            .chunks(each)
            .map(|flat| ParamGrads::of(self.trained.clone(), flat.to_vec()));
        Ok(LocalGradients {
            sums: sums.collect(),
            losses,
        })
    }
}

/// An attempt, which parameters have gradients, and how many sums of those there are.
fn attempt<N: TrainNetwork>(
    passes: &Passes<N>,
    inputs: &GraphInputs,
) -> Result<(Capture, Vec<bool>, usize), TrainError> {
    let (mut trained, mut sums) = (Vec::new(), 0);
    let attempt = capture(inputs, &mut |inputs| {
        let local = passes.run(inputs)?;
        sums = local.sums.len();
        trained = local.sums[0].trained().to_vec();
        let mut rows: Vec<_> = local
            .sums
            .iter()
            .flat_map(|sum| sum.flat().to_vec())
            .collect();
        rows.push(local.losses);
        let images = Vec::new();
        Ok::<_, TrainError>(GraphInputs { images, rows })
    })?;
    Ok((attempt, trained, sums))
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
    use ddpm_diffusion::Condition;
    use ddpm_kernels::FoundInf;
    use ddpm_schedule::noise::{Stream, normal_fill};
    use ddpm_schedule::{Prediction, Weighting};
    use ddpm_unet::{ModelShape, Precision, params};

    use super::*;
    use crate::config::Config;
    use crate::micro_batch::MicroBatch;
    use crate::step::{StepConfig, TrainState};

    fn images(index: u64, shape: [usize; 4], device: &Device) -> Tensor<4> {
        let mut data = vec![0.0; shape.iter().product()];
        normal_fill(11, Stream::Synthetic, 0, index, &mut data);
        Tensor::from_data(TensorData::new(data, shape), device)
    }

    /// The weights after six steps, and in which of them a graph was replayed.
    fn train(config: &Config, capture: bool) -> (Vec<Vec<f32>>, Vec<bool>) {
        let device = Device::wgpu(DeviceKind::Cpu);
        let validated = config.clone().validate().unwrap();
        let step = StepConfig {
            seed: 5,
            total_steps: 10,
            capture,
            ..StepConfig::from(&validated)
        };
        let config = validated.config;
        let tracked = device.clone().autodiff();
        let shape = ModelShape {
            channels: 1,
            height: 8,
            width: 8,
            learned_variance: false,
            self_condition: false,
            steps: 1000,
            condition: Default::default(),
        };
        let model = config.model.build(shape, 5, &tracked).unwrap();
        let mut state = TrainState::new(model);
        let mut found_inf = FoundInf::new(&device);
        let mut replays = Vec::new();
        for i in 0..6 {
            let accumulate = config.train.accumulate.unwrap_or(1) as u64;
            let parts = (0..accumulate).map(|part| MicroBatch {
                x0: images(100 * i + part, [2, 1, 8, 8], &tracked),
                noise: images(100 * i + 50 + part, [2, 1, 8, 8], &tracked),
                times: vec![7.0 * i as f64, 100.0 * (i + part) as f64],
                input_noise: None,
                counts: None,
                uncertainty: None,
                condition: Condition::default(),
                first_row: 2 * part,
            });
            let (next, pending) = state
                .step_if_finite(parts.collect(), &step, &mut found_inf)
                .unwrap();
            state = next;
            assert!(pending.wait().unwrap().loss.is_finite());
            replays.push(state.graph.borrow().replays().is_ok());
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
    fn replayed_steps_match_steps_that_are_run_bitwise() {
        let mut velocity = crate::testing::tiny(0.3);
        velocity.optim.lr = 1e-2;
        velocity.objective.prediction = Some(Prediction::V);
        velocity.objective.weighting = Weighting::MinSnr {
            gamma: 5.0,
            as_eps: false,
        };
        velocity.train.accumulate = Some(2);
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
