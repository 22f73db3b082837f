//! The arguments of `ddpm import`.

use std::path::PathBuf;

use clap::Args;

use super::ScheduleName;

/// `ddpm import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm import google/ddpm-cifar10-32 runs/cifar
  ddpm import 64x64_diffusion.pt runs/imagenet64
  ddpm import ema_0.9999_250000.pt runs/mine --size 32 --diffusion-steps 4000 --schedule cosine
  ddpm import edm-cifar10-32x32-cond-vp.pkl runs/edm
  ddpm import results/model-10.pt runs/mine --size 128

Nothing in a .pt or .pkl file is run: it is read as data. The run can be sampled from and
inspected; it has no state of training, so it cannot be resumed. Files of guided-diffusion and
improved-diffusion do not say how they were trained: the options do, and what they leave open is
as published for networks of that form, or the program's default. Those of
denoising-diffusion-pytorch (version 2, of its Trainer) say all but the size of their images.")]
pub struct ImportArgs {
    /// A diffusers directory, OWNER/NAME in the Hugging Face cache, or a file: .pt of guided-diffusion or
    /// improved-diffusion (ema_….pt is the better one), .pkl of EDM, .pt of denoising-diffusion-pytorch
    pub source: PathBuf,
    /// The run to make; new or empty
    #[arg(value_name = "RUN_DIR")]
    pub run: PathBuf,
    /// Image size, where the file does not say it: 64 or 48x64 (height x width)
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Diffusion steps T (their `diffusion_steps`)
    #[arg(long, value_name = "T")]
    pub diffusion_steps: Option<usize>,
    /// The noise schedule (their `noise_schedule`)
    #[arg(long, value_name = "KIND")]
    pub schedule: Option<ScheduleName>,
    /// Heads of each attention (their `num_heads`)
    #[arg(long, value_name = "N", conflicts_with = "head_channels")]
    pub heads: Option<usize>,
    /// Channels of each head (their `num_head_channels`)
    #[arg(long, value_name = "N")]
    pub head_channels: Option<usize>,
    /// Whether queries, keys and values are split before heads (their `use_new_attention_order`)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub new_attention_order: Option<bool>,
    /// Whether the network is told t*1000/T instead of t (their `rescale_timesteps`)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rescale_timesteps: Option<bool>,
    /// Whether it predicts the image instead of the noise (their `predict_xstart`)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub predict_x0: Option<bool>,
}
