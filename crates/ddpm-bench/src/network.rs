//! `ddpm-bench network`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use burn::tensor::{Device, Tensor};
use clap::{Args, ValueEnum};
use ddpm_diffusion::{ObjectiveConfig, randn_images};
use ddpm_schedule::ScheduleConfig;
use ddpm_schedule::noise::{Stream, below};
use ddpm_train::{EmaConfig, OptimConfig, OptimKind, Part, Recipe, TrainState};
use ddpm_unet::{Model, SampleSize, params};
use serde_json::{Map, Value, json};

use crate::memory::{peak_bytes, resident_bytes};
use crate::{build, processor};

const SEED: u64 = 0;

/// `ddpm-bench network`.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Configuration of a UNet2DModel (JSON)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Images at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Repetitions that are measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Repetitions before them
    #[arg(long, default_value_t = 2)]
    pub warmup: u32,
    /// What is measured
    #[arg(long, default_value = "both")]
    pub only: Only,
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
/// # Errors   for a configuration that no network can have, and if training fails
pub fn run(args: &NetworkArgs) -> anyhow::Result<Value> {
    let plain = processor()?;
    let (trains, forwards) = (args.only != Only::Forward, args.only != Only::Train);
    let device = match trains {
        true => plain.clone().autodiff(),
        false => plain.clone(),
    };
    let model = build(&args.config, &device)?;
    let inputs = |model: &Model, device: &Device| {
        Inputs::new(model, args.batch.into(), device)
            .with_context(|| args.config.display().to_string())
    };
    let shapes = params::shapes(&model);
    let parameters: usize = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
    put(
        "program",
        json!(concat!("ddpm ", env!("CARGO_PKG_VERSION"))),
    );
    put("mode", json!("eager"));
    put("dtype", json!("f32"));
    put("batch", json!(args.batch));
    put("threads", json!(rayon::current_num_threads()));
    put("parameters", json!(parameters));

    let model = if trains {
        let inputs = inputs(&model, &device)?;
        let training = train(TrainState::new(model), &inputs, args)?;
        let median = median(&training.seconds);
        put("train_step_s", json!(median));
        put("train_images_per_s", json!(f64::from(args.batch) / median));
        put("train_seconds_by_step", json!(training.seconds));
        put("rss_bytes_by_step", json!(training.resident_bytes));
        // Before the forward passes, so that this is the peak of training.
        put("peak_bytes", json!(peak_bytes()));
        training.state.ema_model()
    } else {
        model
    };
    if forwards {
        let seconds = forward(&model, &inputs(&model, &plain)?, args)?;
        let median = median(&seconds);
        put("forward_s", json!(median));
        put(
            "forward_images_per_s",
            json!(f64::from(args.batch) / median),
        );
        put("forward_seconds_by_step", json!(seconds));
        if !trains {
            put("peak_bytes", json!(peak_bytes()));
        }
    }
    Ok(Value::Object(line))
}

/// What every repetition computes on.
struct Inputs {
    x0: Tensor<4>,
    eps: Tensor<4>,
    t: Vec<usize>,
}

impl Inputs {
    fn new(model: &Model, batch: u64, device: &Device) -> anyhow::Result<Self> {
        let Model::Unet(unet) = model else {
            return Err(anyhow!("only UNet2DModel networks are measured"));
        };
        let config = unet.config();
        let size = config.sample_size.map(SampleSize::height_width);
        let [height, width] = size.context("`sample_size` is needed here")?;
        let image = [config.in_channels, height, width];
        let indices = 0..batch;
        let draw = |stream| randn_images(SEED, stream, 0, indices.clone(), image, device);
        Ok(Self {
            x0: draw(Stream::Synthetic),
            eps: draw(Stream::TrainNoise),
            t: indices
                .clone()
                .map(|row| below(SEED, Stream::TrainTime, 0, row, 1000) as usize)
                .collect(),
        })
    }

    fn part(&self) -> Part {
        Part {
            x0: self.x0.clone(),
            eps: self.eps.clone(),
            t: self.t.clone(),
            labels: None,
            first_row: 0,
        }
    }
}

/// Training steps that were measured.
struct Training {
    state: TrainState,
    /// Of each repetition after the first ones.
    seconds: Vec<f64>,
    /// After each repetition, the first ones included; empty where the system does not say.
    resident_bytes: Vec<u64>,
}

fn train(mut state: TrainState, inputs: &Inputs, args: &NetworkArgs) -> anyhow::Result<Training> {
    let recipe = recipe()?;
    let mut seconds = Vec::new();
    let mut resident = Vec::new();
    for step in 0..args.warmup.saturating_add(args.steps) {
        let clock = Instant::now();
        (state, _) = state.step(vec![inputs.part()], &recipe)?;
        if step >= args.warmup {
            seconds.push(clock.elapsed().as_secs_f64());
        }
        resident.extend(resident_bytes());
    }
    Ok(Training {
        state,
        seconds,
        resident_bytes: resident,
    })
}

/// Adam with clipping to 1 and the moving average with a decay of 0.9999: what PyTorch's side does.
fn recipe() -> anyhow::Result<Recipe> {
    Ok(Recipe {
        seed: SEED,
        schedule: ScheduleConfig::default().build()?,
        objective: ObjectiveConfig::default().build()?,
        optim: OptimConfig {
            kind: OptimKind::Adam,
            lr: 1e-4,
            clip_norm: 1.0,
            ..OptimConfig::default()
        },
        ema: EmaConfig {
            decay: 0.9999,
            ..EmaConfig::default()
        },
        total_steps: u64::MAX,
    })
}

fn forward(model: &Model, inputs: &Inputs, args: &NetworkArgs) -> anyhow::Result<Vec<f64>> {
    let t: Vec<f32> = inputs.t.iter().map(|&t| t as f32).collect();
    let t = Tensor::from_floats(t.as_slice(), &inputs.x0.device());
    let mut seconds = Vec::new();
    for step in 0..args.warmup.saturating_add(args.steps) {
        let clock = Instant::now();
        let y = model.forward(inputs.x0.clone(), t.clone(), None, None)?;
        // Reading the output back waits for it.
        y.try_into_data()
            .map_err(|error| anyhow!("the output cannot be read back: {error}"))?;
        if step >= args.warmup {
            seconds.push(clock.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}

/// The middle one, or the mean of the two in the middle.
fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(only: Only) -> NetworkArgs {
        NetworkArgs {
            config: crate::tests::config("digits.json"),
            batch: 2,
            steps: 2,
            warmup: 1,
            only,
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
            assert!(line["parameters"].as_u64().unwrap() > 100_000, "{line}");
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
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }
}
