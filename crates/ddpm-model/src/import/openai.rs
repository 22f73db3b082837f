//! A state dict of OpenAI's improved-diffusion or guided-diffusion. It says the network but for its heads, and nothing of
//! the diffusion: that is in the flags of the program.

use ddpm_diffusion::sampler::ddpm::Ddpm;
use ddpm_diffusion::{ObjectiveConfig, SampleConfig, Sampler, Variance};
use ddpm_schedule::{
    Prediction, ProcessConfig, ScheduleConfig, ScheduleKind, Spacing, VarianceKind,
};
use ddpm_store::NamedTensor;
use ddpm_store::torch::TorchFile;
use ddpm_unet::foreign::openai;
use ddpm_unet::{UNet2DConfig, UnetError};

use super::{ImportOptions, Imported, Network, Origin, Setting, sections, size, word};
use crate::error::ModelError;

/// Steps of both programs' sampling flags (`--timestep_respacing 250`).
const SAMPLING_STEPS: usize = 250;
/// What both programs rescale time steps to.
const TOLD_STEPS: usize = 1000;

/// The flags that networks of one form were published with.
#[derive(Debug, Clone, Copy)]
struct Flags {
    size: Option<usize>,
    steps: usize,
    schedule: ScheduleKind,
    heads: Heads,
    new_attention_order: bool,
    rescale_timesteps: bool,
}

#[derive(Debug, Clone, Copy)]
enum Heads {
    Count(usize),
    Channels(usize),
}

/// What tells the published networks apart: features of the time step, blocks on the way down, channels of the middle,
/// and whether halving is a residual block.
type Form = (usize, usize, usize, bool);

/// The defaults of the programs' scripts.
const DEFAULTS: Flags = Flags {
    size: None,
    steps: 1000,
    schedule: ScheduleKind::Linear,
    heads: Heads::Count(4),
    new_attention_order: false,
    rescale_timesteps: true,
};

const fn guided(size: usize, heads: Heads) -> Flags {
    Flags {
        size: Some(size),
        heads,
        rescale_timesteps: false,
        ..DEFAULTS
    }
}

const fn improved(size: usize, rescale_timesteps: bool) -> Flags {
    Flags {
        size: Some(size),
        steps: 4000,
        schedule: ScheduleKind::Cosine,
        rescale_timesteps,
        ..DEFAULTS
    }
}

/// From the READMEs of guided-diffusion (ImageNet, LSUN) and improved-diffusion (ImageNet 64, CIFAR-10, LSUN).
const PUBLISHED: [(Form, Flags); 8] = [
    (
        (192, 16, 768, true),
        Flags {
            schedule: ScheduleKind::Cosine,
            new_attention_order: true,
            ..guided(64, Heads::Channels(64))
        },
    ),
    ((256, 15, 1024, true), guided(128, Heads::Count(4))),
    ((256, 18, 1024, true), guided(256, Heads::Channels(64))),
    ((256, 21, 1024, true), guided(512, Heads::Channels(64))),
    ((128, 16, 512, false), improved(64, true)),
    ((128, 16, 256, false), improved(32, true)),
    ((192, 16, 768, false), improved(64, false)),
    ((128, 18, 512, false), guided(256, Heads::Count(1))),
];

pub(super) fn read(file: &TorchFile, options: &ImportOptions) -> Result<Imported, ModelError> {
    let listed = file.root().tensors()?;
    let shapes: Vec<(&str, &[usize])> = listed
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    let published = form(&shapes).and_then(|form| PUBLISHED.iter().find(|(of, _)| *of == form));
    let (flags, usual) = match published {
        Some((_, flags)) => (*flags, Origin::Published),
        None => (DEFAULTS, Origin::Taken),
    };
    let known = flags.size.map(|side| ([side, side], usual));
    let (size, size_origin) = size(file.path(), options.size, known)?;
    let or = |given: bool| if given { Origin::Given } else { usual };

    let heads_given = options.heads.is_some() || options.head_channels.is_some();
    let (heads, head_channels) = match (heads_given, flags.heads) {
        (true, _) => (options.heads, options.head_channels),
        (false, Heads::Count(heads)) => (Some(heads), None),
        (false, Heads::Channels(channels)) => (None, Some(channels)),
    };
    let new_attention_order = options
        .new_attention_order
        .unwrap_or(flags.new_attention_order);
    let wanted = openai::OpenAi {
        num_heads: heads,
        num_head_channels: head_channels,
        new_attention_order,
        image_size: (size[0] == size[1]).then_some(size[0]),
    };
    let tensors = listed.iter().map(|tensor| file.read(tensor));
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?.into_iter();
    let tensors = tensors.map(|tensor| (tensor.name, tensor.shape, tensor.data));
    let (config, weights) = openai::network(tensors, wanted).map_err(|error| match error {
        UnetError::Config { key, got, expected } => ModelError::Option {
            option: if key.contains("channels") {
                "--head-channels"
            } else {
                "--heads"
            },
            problem: format!("{got}: {expected}"),
        },
        error => ModelError::Format {
            path: file.path().to_owned(),
            problem: error.to_string(),
        },
    })?;
    let learned = learned(file, &config)?;

    let steps = options.steps.unwrap_or(flags.steps);
    let kind = options.schedule.unwrap_or(flags.schedule);
    let rescale = options.rescale_timesteps.unwrap_or(flags.rescale_timesteps);
    let predict_x0 = options.predict_x0.unwrap_or(false);
    let schedule = ScheduleConfig {
        kind,
        steps,
        // 1e-4 and 0.02 are those of 1000 steps.
        scale_ends: kind == ScheduleKind::Linear && steps != 1000,
        network_steps: (rescale && steps != TOLD_STEPS).then_some(TOLD_STEPS),
        ..ScheduleConfig::default()
    };
    let prediction = if predict_x0 {
        Prediction::X0
    } else {
        Prediction::Eps
    };
    let variance = if learned {
        Variance::LearnedRange
    } else {
        Variance::FixedLarge
    };
    let objective = ObjectiveConfig {
        prediction: Some(prediction),
        variance,
        ..ObjectiveConfig::default()
    };
    let sample = SampleConfig {
        sampler: Sampler::Ddpm(Ddpm {
            variance: (!learned).then_some(VarianceKind::Large),
            allow_large_respaced: !learned,
        }),
        steps: Some(SAMPLING_STEPS.min(steps)),
        spacing: Some(Spacing::Linspace {}),
        ..SampleConfig::default()
    };
    let heads_named = match (heads, head_channels) {
        (_, Some(channels)) => format!("of {channels} channels each"),
        (heads, None) => heads.unwrap_or_default().to_string(),
    };
    let order = if new_attention_order { "new" } else { "legacy" };
    let settings = vec![
        Setting::new(
            "image size",
            format!("{}x{}", size[0], size[1]),
            size_origin,
        ),
        Setting::new(
            "classes",
            config
                .num_class_embeds
                .map_or("none".into(), |n| n.to_string()),
            Origin::Read,
        ),
        Setting::new(
            "variance",
            if learned { "learned" } else { "fixed, large" },
            if learned { Origin::Read } else { Origin::Taken },
        ),
        Setting::new("heads", heads_named, or(heads_given)),
        Setting::new(
            "attention order",
            order,
            or(options.new_attention_order.is_some()),
        ),
        Setting::new("diffusion steps", steps, or(options.steps.is_some())),
        Setting::new("schedule", word(kind), or(options.schedule.is_some())),
        Setting::new(
            "told of time",
            if rescale { "t*1000/T" } else { "t" },
            or(options.rescale_timesteps.is_some()),
        ),
        Setting::new(
            "prediction",
            if predict_x0 { "x0" } else { "eps" },
            or(options.predict_x0.is_some()),
        ),
        Setting::new(
            "sampler",
            format!("ddpm, {} steps", SAMPLING_STEPS.min(steps)),
            Origin::Taken,
        ),
    ];
    Ok(Imported {
        source: file.path().to_owned(),
        program: "guided-diffusion",
        settings,
        network: Network {
            channels: config.in_channels,
            config: config.to_json(),
            weights: weights
                .into_iter()
                .map(|(name, shape, data)| NamedTensor { name, shape, data })
                .collect(),
            ema: Vec::new(),
            step: None,
        },
        sections: sections(ProcessConfig::Discrete {}, schedule, objective, sample),
        size,
    })
}

/// What [`PUBLISHED`] looks for, from the tensors' names and shapes.
fn form(tensors: &[(&str, &[usize])]) -> Option<Form> {
    let shape = |wanted: &str| {
        let found = tensors.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, shape)| *shape)
    };
    let blocks = tensors.iter().filter_map(|(name, _)| {
        let number = name.strip_prefix("input_blocks.")?.split('.').next()?;
        number.parse::<usize>().ok()
    });
    Some((
        *shape("time_embed.0.weight")?.get(1)?,
        blocks.max()?.checked_add(1)?,
        *shape("middle_block.0.out_layers.0.weight")?.first()?,
        // Halving by a strided convolution is called `op`.
        !tensors
            .iter()
            .any(|(name, _)| name.ends_with(".0.op.weight")),
    ))
}

/// Whether the second half of the output is the variance.
fn learned(file: &TorchFile, config: &UNet2DConfig) -> Result<bool, ModelError> {
    let (taken, given) = (config.in_channels, config.out_channels);
    let problem = match (taken, given) {
        // Images of three channels: those of six are a noisy one with a small one behind it.
        (6, 3 | 6) => {
            "it takes a small image beside the noisy one: networks of super-resolution are not supported"
        }
        _ if given == taken => return Ok(false),
        _ if Some(given) == taken.checked_mul(2) => return Ok(true),
        _ => {
            "as many channels as an image has, or twice as many with a learned variance, should come out of it"
        }
    };
    Err(ModelError::Format {
        path: file.path().to_owned(),
        problem: format!("the network takes {taken} channels and gives {given}; {problem}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_networks_are_known_by_their_form() {
        let embed: &[usize] = &[768, 192];
        let middle: &[usize] = &[768];
        let mut tensors = vec![
            ("time_embed.0.weight", embed),
            ("input_blocks.0.0.weight", &[192, 3, 3, 3][..]),
            ("input_blocks.15.0.in_layers.0.weight", middle),
            ("middle_block.0.out_layers.0.weight", middle),
        ];
        let known = |tensors: &[(&str, &[usize])]| {
            let found = form(tensors).unwrap();
            let row = PUBLISHED.iter().find(|(of, _)| *of == found);
            row.map(|(_, flags)| (flags.schedule, flags.steps, flags.rescale_timesteps))
        };
        let cosine = ScheduleKind::Cosine;
        assert_eq!(known(&tensors), Some((cosine, 1000, false)));
        tensors.push(("input_blocks.4.0.op.weight", middle));
        assert_eq!(known(&tensors), Some((cosine, 4000, false)));
        tensors[0].1 = &[128, 32];
        assert_eq!(known(&tensors), None);
        for (at, (form, _)) in PUBLISHED.iter().enumerate() {
            assert!(PUBLISHED[..at].iter().all(|(other, _)| other != form));
        }
    }
}
