//! The arguments of `ddpm export`.

use std::path::PathBuf;

use clap::Args;

use super::{SamplingArgs, WeightsName};

/// `ddpm export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm export runs/digits-001 digits
  ddpm export runs/digits-001 digits --name me/digits --license mit --sampler ddim --steps 50
  ddpm export runs/digits-001/checkpoints/step-500 digits.safetensors
  ddpm export path/to/diffusers-model other --weights ema --no-grid

DIR gets unet/, scheduler/, model_index.json, a model card (README.md) and, where there is one, a grid of
samples. Python draws with it: DDPMPipeline.from_pretrained(\"digits\"). What diffusers cannot represent is
refused by name. The name must be free; all of it is there at once, or nothing.")]
pub struct ExportArgs {
    /// A run, a checkpoint, a diffusers directory, or OWNER/NAME in the Hugging Face cache
    #[arg(value_name = "RUN|DIR")]
    pub model: PathBuf,
    /// The directory to make, or FILE.safetensors for the weights alone
    #[arg(value_name = "DIR|FILE")]
    pub to: PathBuf,
    /// Which weights; without it, ema of a run or checkpoint, and unet/ of a diffusers directory (ema: unet_ema/)
    #[arg(long)]
    pub weights: Option<WeightsName>,
    /// How diffusers' scheduler is to draw.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// The model's name on its card, or OWNER/NAME as a hub has it; without it, that of the directory
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The licence of the weights by a hub's identifier, such as mit; without it, unknown
    #[arg(long, value_name = "LICENCE")]
    pub license: Option<String>,
    /// A data set by a hub's name, such as uoft-cs/cifar10; may be repeated
    #[arg(long, value_name = "NAME")]
    pub dataset: Vec<String>,
    /// A PNG of samples for the card; without it, the grid that the run drew at this step
    #[arg(long, value_name = "FILE.png", conflicts_with = "no_grid")]
    pub grid: Option<PathBuf>,
    /// No picture on the card
    #[arg(long)]
    pub no_grid: bool,
}
