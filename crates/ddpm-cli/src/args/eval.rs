//! `ddpm eval`: figures of how good a model is.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use ddpm_device::Choice;
use ddpm_eval::{Crossing, Resize};
use ddpm_unet::Precision;

use super::{SamplingArgs, ToldArgs, WeightsName};

/// One of several choices, by the names that they have everywhere.
fn one_of<T: Copy + Send + Sync>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(all.iter().map(|&one| name(one)));
    names.try_map(move |asked| {
        let found = all.iter().copied().find(|&one| name(one) == asked);
        found.ok_or("unknown")
    })
}

/// `ddpm eval`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm eval runs/digits-001 --reference digits
  ddpm eval samples/digits-001 --reference digits
  ddpm eval --train-extractor --reference digits
  ddpm eval runs/digits-001 --extractor lenet
  ddpm eval runs/photos-001 --extractor inception -n 50000 --reference fid_stats.npz
  ddpm eval compare runs/digits-001 runs/digits-002

A run or a model draws what is missing first: a stopped call goes on where it was. Figures and what they depend on are
written to eval.json; `ddpm eval compare` puts several into one table and refuses what is not comparable.")]
pub struct EvalArgs {
    /// Another figure, or a table of several evaluations.
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// What is judged, and how.
    #[command(flatten)]
    pub judge: JudgeArgs,
}

/// What `ddpm eval` does besides.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Bits per dimension: the variational bound on the negative log-likelihood, term by term
    Bpd(BpdArgs),
    /// Several evaluations in one table; refuses what is not comparable
    Compare(CompareArgs),
}

/// Images and what they are compared with.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// A run, a checkpoint, a diffusers directory, or OWNER/NAME in the Hugging Face cache, which draws images; or images: a
    /// folder, a zip, or an .npz of guided-diffusion. Without it, the latest run below runs/
    #[arg(value_name = "RUN|DIR|FOLDER|NPZ")]
    pub subject: Option<PathBuf>,
    /// How many images; without it, as many as the reference has, at most 10,000 (images: all)
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// Real images as for `ddpm train --data`, digits (the built-in set), or statistics: an .npz with mu and sigma. Without it,
    /// what the run was trained on
    #[arg(long, value_name = "DATA|STATS")]
    pub reference: Option<PathBuf>,
    /// A key of [data] for the reference, such as split=test; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub reference_set: Vec<String>,
    /// Real images that nothing was trained on, to say what a copy is; without it, the reference's own test split where there
    /// is one
    #[arg(long, value_name = "DATA")]
    pub held_out: Option<PathBuf>,
    /// What sees the images: pixels, inception, lenet, or a file of weights (Inception's .pth or safetensors, or what
    /// --train-extractor has made)
    #[arg(long, value_name = "NAME|FILE", default_value = "pixels")]
    pub extractor: PathBuf,
    /// How images come to Inception's 299x299 pixels
    #[arg(long, value_name = "PROGRAM", default_value = "pytorch-fid", value_parser = one_of(&Resize::ALL, Resize::name))]
    pub resize: Resize,
    /// Train lenet on the labelled images of --reference, write it and stop; --extractor FILE says where
    #[arg(long, conflicts_with_all = ["subject", "n", "held_out"])]
    pub train_extractor: bool,
    /// File for the reference's statistics: mu and sigma, as pytorch-fid reads them, and what else there is
    #[arg(long, value_name = "FILE.npz")]
    pub stats: Option<PathBuf>,
    /// Which weights draw; without it, ema of a run or checkpoint, and unet/ of a diffusers directory
    #[arg(long)]
    pub weights: Option<WeightsName>,
    /// What the network computes in: f32, tf32, bf16 or f16
    #[arg(long, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// How images are drawn.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// What the network is told.
    #[command(flatten)]
    pub told: ToldArgs,
    /// Seed of the noise, or of the extractor that is trained
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Images drawn at a time; without it, 64, or fewer where memory is short
    #[arg(long)]
    pub batch: Option<usize>,
    /// Image size, for models that do not say theirs: 32 or 24x32 (height x width)
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Folder for images, figures and pictures; without it, RUN/eval, or eval/NAME
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
}

/// `ddpm eval compare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm eval compare runs/digits-001 runs/digits-002
  ddpm eval compare ours/eval.json theirs --across sampler,steps,guidance,weights,seed")]
pub struct CompareArgs {
    /// Evaluations: eval.json files, or the runs or folders that they lie in
    #[arg(required = true, value_name = "RUN|DIR|FILE")]
    pub evaluations: Vec<PathBuf>,
    /// What may differ because it is what you compare
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = one_of(&Crossing::ALL, Crossing::name))]
    pub across: Vec<Crossing>,
}

/// `ddpm eval bpd`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm eval bpd --model runs/digits-001 -n 16
  ddpm eval bpd --model runs/digits-001 --set split=test
  ddpm eval bpd --model my-model --data photos --size 32

The bound takes as many network evaluations an image as the schedule has steps. Lower is better; figures of different
image sizes or channels do not compare.")]
pub struct BpdArgs {
    /// A run, a checkpoint, a diffusers directory, or OWNER/NAME in the Hugging Face cache; without it, the latest run
    /// below runs/
    #[arg(long, value_name = "RUN|DIR")]
    pub model: Option<PathBuf>,
    /// Which weights; without it, ema of a run or checkpoint, and unet/ of a diffusers directory
    #[arg(long)]
    pub weights: Option<WeightsName>,
    /// Images to measure on; without it, those that the run was trained on
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// With --data: the size of the images; without it, the network's
    #[arg(long, value_name = "SIZE", requires = "data")]
    pub size: Option<String>,
    /// A key of [data], such as split=test; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How many images, from the first on; without it, 64
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// Images at a time; without it, 64
    #[arg(long)]
    pub batch: Option<usize>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Do not clip the predicted image to the range of pixels, which makes the bound looser
    #[arg(long)]
    pub no_clip: bool,
    /// What the network computes in: f32, tf32, bf16 or f16
    #[arg(long, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
}
