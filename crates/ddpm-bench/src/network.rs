//! `ddpm-bench network`.

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::{Context, anyhow, ensure};
use burn::tensor::Tensor;
use clap::{Args, ValueEnum};
use ddpm_diffusion::{Condition, Network};
use ddpm_kernels::FoundInf;
use ddpm_model::SamplingNetwork;
use ddpm_train::{PIPELINE_DEPTH, PendingStep, StepConfig, TrainState};
use ddpm_unet::{Model, params};
use serde_json::{Map, Value, json};

use crate::build;
use crate::clock::{Measured, Pace};
use crate::inputs::{Inputs, forward_flops};
use crate::memory::{self, resident_bytes};
use crate::place::{Place, PlaceArgs};

/// `ddpm-bench network`.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Configuration of a UNet2DModel (JSON)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Images at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Where, and in which numbers.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How often.
    #[command(flatten)]
    pub pace: Pace,
    /// What is measured
    #[arg(long, default_value = "both")]
    pub only: Only,
    /// Compute what lies inside a block again for its gradient instead of keeping it
    #[arg(long)]
    pub recompute: bool,
    /// Launch every kernel by itself instead of replaying recorded steps
    #[arg(long)]
    pub no_record: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// A training step: forward, loss, backward, clipping, Adam and the moving average
    Train,
    /// A forward pass without gradients
    Forward,
    /// One after the other
    Both,
}

/// Times the network's training step and forward pass on fixed random inputs.
///
/// # Errors   for a device that is not there, a configuration that no network can have, and if training fails
pub fn run(args: &NetworkArgs) -> anyhow::Result<Value> {
    let place = args.place.resolve()?;
    let (trains, forwards) = (args.only != Only::Forward, args.only != Only::Train);
    let device = match trains {
        true => place.device().clone().autodiff(),
        false => place.device().clone(),
    };
    let config = || args.config.display().to_string();
    let model = build(&args.config, &device)?;
    let mut line = describe(&model, &place, args).with_context(config)?;
    let model = if trains {
        let inputs = Inputs::new(&model, args.batch, &device).with_context(config)?;
        let config = StepConfig {
            recompute: args.recompute,
            capture: !args.no_record,
            ..place.step_config(1e-4)?
        };
        let training = train(TrainState::new(model), &inputs, &place, &config, &args.pace)?;
        training
            .measured
            .write(&mut line, "train", "_step", args.batch);
        line.insert(
            "rss_bytes_by_step".to_owned(),
            json!(training.resident_bytes),
        );
        line.insert("recorded".to_owned(), recorded(&training.state, args));
        // Before the forward passes, so that this is the peak of training.
        memory::write(&mut line, &place);
        training.state.ema_model()
    } else {
        model
    };
    if forwards {
        let inputs = Inputs::new(&model, args.batch, place.device()).with_context(config)?;
        let measured = forward(&model, &inputs, &place, &args.pace)?;
        measured.write(&mut line, "forward", "", args.batch);
        if !trains {
            memory::write(&mut line, &place);
        }
    }
    Ok(Value::Object(line))
}

/// Whether the device replayed recorded steps, or why it did not.
fn recorded(state: &TrainState, args: &NetworkArgs) -> Value {
    match state.replays() {
        Ok(()) => json!(true),
        Err(Some(why)) => json!(why),
        Err(None) if args.no_record => json!("it was not asked for"),
        Err(None) => json!(false),
    }
}

/// What is measured, and where.
fn describe(
    model: &Model,
    place: &Place,
    args: &NetworkArgs,
) -> anyhow::Result<Map<String, Value>> {
    let shapes = params::shapes(model);
    let parameters: usize = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    let entries = [
        (
            "program",
            json!(concat!("ddpm ", env!("CARGO_PKG_VERSION"))),
        ),
        ("device", json!(place.picked.name)),
        ("compiler", json!(place.compiler())),
        ("mode", json!("eager")),
        ("dtype", json!(place.precision.name())),
        ("batch", json!(args.batch)),
        ("recompute", json!(args.recompute)),
        ("window", json!(args.pace.window)),
        ("threads", json!(rayon::current_num_threads())),
        ("parameters", json!(parameters)),
        ("forward_flops_per_image", json!(forward_flops(model)?)),
    ];
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    Ok(entries.into_iter().collect())
}

/// Training steps that were measured.
struct Training {
    state: TrainState,
    measured: Measured,
    /// After each repetition, the first ones included; empty where the system does not say, or where the
    /// network is elsewhere.
    resident_bytes: Vec<u64>,
}

fn train(
    state: TrainState,
    inputs: &Inputs,
    place: &Place,
    config: &StepConfig,
    pace: &Pace,
) -> anyhow::Result<Training> {
    let here = place.picked.is_cpu();
    let mut resident = Vec::new();
    // As a run does it: the numbers of a step are read while the steps after it are under way.
    let mut found_inf = FoundInf::new(place.device());
    let mut pipeline = VecDeque::new();
    let (state, measured) = pace.measure(place, state, |state| {
        let batch = vec![inputs.micro_batch()];
        let (state, pending) = state.step_if_finite(batch, config, &mut found_inf)?;
        pipeline.push_back(pending);
        if pipeline.len() > PIPELINE_DEPTH {
            check(pipeline.pop_front())?;
        }
        resident.extend(here.then(resident_bytes).flatten());
        Ok(state)
    })?;
    while !pipeline.is_empty() {
        check(pipeline.pop_front())?;
    }
    Ok(Training {
        state,
        measured,
        resident_bytes: resident,
    })
}

fn check(pending: Option<PendingStep>) -> anyhow::Result<()> {
    if let Some(pending) = pending {
        let report = pending.wait()?;
        ensure!(
            report.loss.is_finite() && report.grad_norm.is_finite(),
            "the loss of step {} is {} and the norm of its gradient {}",
            report.step,
            report.loss,
            report.grad_norm
        );
    }
    Ok(())
}

fn forward(model: &Model, inputs: &Inputs, place: &Place, pace: &Pace) -> anyhow::Result<Measured> {
    let (x0, t) = (inputs.x0.clone(), inputs.t());
    // As a sampler asks: on a GPU, the second pass is recorded and those after it replay that.
    let network = SamplingNetwork::new(model, place.precision);
    let (output, measured) = pace.measure(place, None, |_| {
        let output = network.forward(x0.clone(), t.clone(), &Condition::default());
        Ok(Some(output.map_err(|error| anyhow!("{error}"))?))
    })?;
    // A kernel that did not start would be fast, and shows only in what it should have written.
    let sum: Option<f32> = output.map(sum).transpose()?;
    ensure!(
        sum.is_some_and(f32::is_finite),
        "the output of the network is not finite"
    );
    Ok(measured)
}

fn sum(images: Tensor<4>) -> anyhow::Result<f32> {
    let [batch, channels, height, width] = images.dims();
    let images = images.abs().reshape([batch, channels * height * width]);
    let data = images.sum_dim(1).try_into_data();
    let data = data.map_err(|error| anyhow!("the output cannot be read back: {error}"))?;
    let sums = data.convert::<f32>().try_to_vec::<f32>();
    let sums = sums.map_err(|error| anyhow!("the output cannot be read back: {error:?}"))?;
    Ok(sums.iter().sum())
}

#[cfg(test)]
mod tests {
    use ddpm_device::Choice;
    use ddpm_unet::Precision;

    use super::*;

    fn args(only: Only) -> NetworkArgs {
        NetworkArgs {
            config: crate::tests::config("digits.json"),
            batch: 2,
            place: PlaceArgs {
                device: Choice::Cpu,
                precision: Precision::F32,
            },
            pace: Pace {
                steps: 2,
                window: 1,
                warmup: 1,
                seconds: None,
            },
            only,
            recompute: false,
            no_record: false,
        }
    }

    #[test]
    fn what_was_asked_for_is_measured() {
        for (only, trains, forwards) in [
            (Only::Train, true, false),
            (Only::Forward, false, true),
            (Only::Both, true, true),
        ] {
            let line = run(&args(only)).unwrap();
            for (start, measured) in [("train", trains), ("forward", forwards)] {
                let second = if start == "train" { "_step_s" } else { "_s" };
                for end in [second, "_images_per_s", "_seconds_by_step"] {
                    let key = format!("{start}{end}");
                    assert_eq!(line.get(&key).is_some(), measured, "{only:?}: {key}");
                }
            }
            assert_eq!(line["batch"], 2);
            assert_eq!(line["device"], "cpu");
            assert!(line["parameters"].as_u64().unwrap() > 100_000, "{line}");
            assert!(line["forward_flops_per_image"].as_f64().unwrap() > 1e6);
            if cfg!(target_os = "linux") {
                assert!(line["peak_bytes"].as_u64().unwrap() > 0, "{line}");
            }
        }
    }

    #[test]
    fn memory_is_told_after_each_step() {
        let line = run(&args(Only::Train)).unwrap();
        let steps = if cfg!(target_os = "linux") { 3 } else { 0 };
        assert_eq!(line["rss_bytes_by_step"].as_array().unwrap().len(), steps);
        assert_eq!(line["train_seconds_by_step"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_the_cpu_does_not_compute_in_is_refused() {
        let mut args = args(Only::Forward);
        args.place.precision = Precision::Tf32;
        let message = format!("{:#}", run(&args).unwrap_err());
        assert!(message.starts_with("cpu: precision tf32"), "{message}");
    }
}
