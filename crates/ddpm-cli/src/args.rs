//! The command line.

mod edit;
mod eval;
mod export;
mod import;
mod told;

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use ddpm_device::{Choice, ChoiceError, parse_list};
use ddpm_diffusion::Sampler;
use ddpm_schedule::{ScheduleKind, Spacing};
use ddpm_store::checkpoint::Weights;
use ddpm_unet::Precision;

pub use edit::{
    ColouriseArgs, Edit, EditArgs, EditOptions, EnlargeArgs, FitName, InpaintArgs, InterpolateArgs,
    InvertArgs, Method, OutpaintArgs, Place, TileArgs, VaryArgs,
};
pub use eval::{BpdArgs, CompareArgs, EvalArgs, EvalCommand, JudgeArgs};
pub use export::ExportArgs;
pub use import::ImportArgs;
pub use told::ToldArgs;

/// Train diffusion models (DDPM) and sample from them.
#[derive(Debug, Parser)]
#[command(name = "ddpm", version, propagate_version = true)]
#[command(after_help = "Examples:
  ddpm train                                train on the built-in digits
  ddpm train --data photos                  train on your own images
  ddpm train configs/fashion-mnist.toml     train by a recipe
  ddpm doctor configs/fashion-mnist.toml    what is to be said before that
  ddpm train --resume                       go on with the latest run
  ddpm sample                               draw from the latest run
  ddpm inspect runs/digits-001              what a run holds

Exit codes: 0 done, 2 usage or configuration, 3 data, 4 checkpoint or format, 5 diverged,
6 device or memory, 75 stopped by a signal (resume with --resume), 1 anything else.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub struct Common {
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr (twice: much more); RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say only warnings and errors on stderr (twice: only errors)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
}

impl Common {
    /// 0 by default, higher says more.
    pub fn verbosity(&self) -> i8 {
        self.verbose.min(9).cast_signed() - self.quiet.min(9).cast_signed()
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network, on the built-in digits unless a configuration says otherwise
    Train(TrainArgs),
    /// Write a recipe that suits your images and this machine, without training
    Init(InitArgs),
    /// Check a configuration, its data and this machine before a long run; writes nothing
    Doctor(DoctorArgs),
    /// Draw images with a trained network
    Sample(SampleArgs),
    /// Change images with a trained network: paint in, vary, interpolate, enlarge the canvas
    Edit(EditArgs),
    /// Say how good a model is: distances to real images, precision and recall, copies, bits per dimension
    #[command(args_conflicts_with_subcommands = true)]
    Eval(EvalArgs),
    /// List the samplers: what each is good for, its order, network evaluations and options
    Samplers,
    /// Make a model with another average of the weights, after training
    Ema(EmaArgs),
    /// Take over a trained network of another program: diffusers, guided-diffusion, improved-diffusion, EDM,
    /// denoising-diffusion-pytorch
    Import(ImportArgs),
    /// Say what a run, checkpoint, model directory, safetensors or PyTorch file holds
    Inspect(InspectArgs),
    /// Write a model for elsewhere: a pipeline of Python's diffusers with a card, or the weights alone
    Export(ExportArgs),
    /// Evaluate a network once: x, t (and class_labels) in, y out, as safetensors
    Predict(PredictArgs),
    /// Print and plot a noise schedule
    Schedule(ScheduleArgs),
    /// Verify, list and prune the checkpoints of a run
    Checkpoint(CheckpointArgs),
    /// List the devices that this binary can use here
    Devices,
}

/// Where a run's configuration comes from.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Configuration (TOML); without it and --data, the built-in digits recipe
    pub config: Option<PathBuf>,
    /// Your images, as they are: a folder, a zip, IDX, CIFAR, .npy or .npz. Without CONFIG, network, batch and length are
    /// chosen to suit them and the device
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// With --data: the size that images are learned at, 64 or 48x64 (height x width); without it, their own or what
    /// suits the device
    #[arg(long, value_name = "SIZE", requires = "data")]
    pub size: Option<String>,
    /// Begin with the weights of a model: a run, a checkpoint, a diffusers directory, or OWNER/NAME in the Hugging Face
    /// cache (the configuration's `init.model`). Without [model] in CONFIG the network is that one's; else what fits is
    /// taken
    #[arg(long, value_name = "RUN|DIR")]
    pub init: Option<PathBuf>,
    /// Override one key of the configuration, such as train.steps=500; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of every random number (the configuration's `seed`)
    #[arg(long)]
    pub seed: Option<u64>,
}

/// `ddpm train`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm train
  ddpm train --data photos                        on your own images
  ddpm train --data photos --size 64 --minutes 60
  ddpm train configs/sprites.toml --set train.steps=2000 --set optim.lr=1e-4
  ddpm train configs/fashion-mnist.toml --run runs/fashion --device cpu
  ddpm train --data photos --init runs/photos-001   begin with the weights of another model
  ddpm train --resume --run runs/fashion
  ddpm train --resume --run runs/fashion --from 1000
  ddpm train configs/ddpm-cifar10.toml --devices cuda:0,cuda:1
  ddpm train configs/ddpm-256.toml --dry-run")]
pub struct TrainArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Train for about so many minutes: a few steps are measured first, and `train.steps` is set
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub minutes: Option<f64>,
    /// Where to keep the run; without it, the next free runs/NAME-001
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Go on from the newest checkpoint of --run, or of the latest run
    #[arg(long)]
    pub resume: bool,
    /// With --resume: go on from the checkpoint of this step; later ones are moved to checkpoints/superseded
    #[arg(long, value_name = "STEP", requires = "resume")]
    pub from: Option<u64>,
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
    /// Several devices of one kind that share every batch, such as cuda:0,cuda:1; cpu:2 is the CPU twice
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<Devices>,
    /// Check configuration, data and network, say what would be trained, and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// `ddpm init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm init photos                     writes photos.toml
  ddpm init photos --size 64 --to my.toml
  ddpm train my.toml")]
pub struct InitArgs {
    /// Your images: a folder, a zip, IDX, CIFAR, .npy or .npz
    pub path: PathBuf,
    /// The recipe; without it, NAME.toml in this folder
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// The size that images are learned at, 64 or 48x64 (height x width)
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// What the recipe is to suit: auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
}

/// What `--devices` names, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(pub Vec<Choice>);

impl FromStr for Devices {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        parse_list(text).map(Self)
    }
}

/// `ddpm doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm doctor
  ddpm doctor configs/ddpm-cifar10.toml --set data.path=cifar-10-batches-bin
  ddpm doctor configs/sprites.toml --set train.batch=128 --json
  ddpm doctor --data photos
  ddpm doctor configs/ddpm-cifar10.toml --devices cuda:0,cuda:1

Each line has a mark: ok, note, warn or fail. A few training steps are measured unless something
failed. Exit codes: 0 nothing failed, 2 the configuration must be changed, 3 the data, 6 the device.")]
pub struct DoctorArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
    /// Several devices of one kind that share every batch, such as cuda:0,cuda:1; cpu:2 is the CPU twice
    #[arg(long, value_name = "LIST", conflicts_with = "device")]
    pub devices: Option<Devices>,
}

/// The names of all samplers.
fn sampler_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Sampler::all().iter().map(Sampler::name))
}

/// A trained network, and where it computes.
#[derive(Clone, Debug, Args)]
pub struct NetworkArgs {
    /// A run, a checkpoint, a diffusers directory, or OWNER/NAME in the Hugging Face cache; without it, the latest run
    /// below runs/
    #[arg(long, value_name = "RUN|DIR")]
    pub model: Option<PathBuf>,
    /// Which weights to draw with; without it, ema of a run or checkpoint, and unet/ of a diffusers directory (ema:
    /// unet_ema/)
    #[arg(long)]
    pub weights: Option<WeightsName>,
    /// What the network computes in: f32, tf32, bf16 or f16
    #[arg(long, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
}

/// How images are drawn, where not as the model says itself.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct SamplingArgs {
    /// The sampler (`ddpm samplers` says what each is good for); without it, the model's own setting
    #[arg(long, value_name = "KIND", value_parser = sampler_names(), hide_possible_values = true)]
    pub sampler: Option<String>,
    /// Steps of the sampler; without it, the model's own setting
    #[arg(long)]
    pub steps: Option<usize>,
    /// How the steps are spread over the noise levels; without it, the model's own setting
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Spacing::NAMES))]
    pub spacing: Option<String>,
    /// The sampler's fresh noise, where it has any to choose: 0 is deterministic, 1 is as much as DDPM's
    #[arg(long)]
    pub eta: Option<f64>,
    /// A key of [sample], such as sampler.s_churn=40, spacing.rho=5 or clip=false; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `ddpm sample`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm sample
  ddpm sample --model runs/digits-001 --n 16 --sampler ddim --steps 50 --grid digits.png
  ddpm sample --class cat,dog --guidance 2 --grid pets.png
  ddpm sample --model path/to/diffusers-model --animate denoising.webp
  ddpm sample --n 10000 --out set                    a folder for quality figures
  ddpm sample --n 50000 --npz samples.npz            for guided-diffusion's evaluator

Image i of a seed is the same whatever --n and --batch are. Images are written as they are finished: if a signal
stops it (exit 75), they stay, and --first goes on.")]
pub struct SampleArgs {
    /// Which network draws.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// How many images; without it, 64
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// The number of the first image in the seed's set, to go on with one; earlier images in --out stay
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub first: u64,
    /// How they are drawn.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Images at a time; without it, 64, or fewer where memory is short
    #[arg(long)]
    pub batch: Option<usize>,
    /// Image size, for models that do not say theirs: 32 or 24x32 (height x width)
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// What the network is told.
    #[command(flatten)]
    pub told: ToldArgs,
    /// Folder for one PNG an image, with a grid of them beside it (DIR.png); those of an earlier call are cleared, and
    /// nothing else. Without --out, --grid, --animate and --npz, samples/NAME
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// File for one picture of the images: .png, .jpg or .webp
    #[arg(long, value_name = "FILE")]
    pub grid: Option<PathBuf>,
    /// File for an animation of the denoising: .gif, .webp or .png
    #[arg(long, value_name = "FILE")]
    pub animate: Option<PathBuf>,
    /// File for the images as guided-diffusion's sample batches: arr_0 uint8 [n, height, width, channels], arr_1 the
    /// classes; its evaluator reads them
    #[arg(long, value_name = "FILE")]
    pub npz: Option<PathBuf>,
}

/// `ddpm checkpoint`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm checkpoint verify runs/digits-001
  ddpm checkpoint list runs/digits-001
  ddpm checkpoint prune runs/digits-001 --keep 1 --keep-every 10000")]
pub struct CheckpointArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub action: CheckpointAction,
}

/// What `ddpm checkpoint` does.
#[derive(Debug, Subcommand)]
pub enum CheckpointAction {
    /// Read every byte of every checkpoint and compare it with its manifest; exit 4 if one is damaged
    Verify {
        /// A run or one checkpoint
        path: PathBuf,
    },
    /// Say which checkpoints there are, by their manifests alone
    List {
        /// A run
        run: PathBuf,
    },
    /// Remove all but the newest ones, after verifying the newest
    Prune {
        /// A run that is not being trained
        run: PathBuf,
        /// Keep the newest so many; without it, the run's own `train.keep`
        #[arg(long)]
        keep: Option<usize>,
        /// Keep besides those every one whose step is a multiple of this; without it, `train.keep_every`
        #[arg(long, value_name = "STEPS")]
        keep_every: Option<u64>,
        /// Remove damaged ones too, and those that `train --from` moved away
        #[arg(long)]
        all: bool,
    },
}

/// Which weights of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightsName {
    /// The moving average
    Ema,
    /// Those that are trained
    Raw,
}

impl From<WeightsName> for Weights {
    fn from(name: WeightsName) -> Self {
        match name {
            WeightsName::Ema => Self::Ema,
            WeightsName::Raw => Self::Raw,
        }
    }
}

/// `ddpm ema`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm train --set ema.power_function=[0.05,0.1] --set ema.snapshot_every=50
  ddpm ema --sigma-rel 0.07
  ddpm ema --run runs/digits-001 --sigma-rel 0.15 --step 1000 --out wide
  ddpm sample --model wide

A run with `ema.power_function` tracks those averages and keeps snapshots of them below RUN/ema: at
every checkpoint, or every `ema.snapshot_every` steps. Any other power-function average is made of
the snapshots (Karras et al. 2024): the more there are, the better it fits.")]
pub struct EmaArgs {
    /// A run; without it, the latest run below runs/
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Length of the average: the standard deviation of its profile, as a share of the training until then
    #[arg(long, value_name = "SHARE")]
    pub sigma_rel: f64,
    /// The average after this step, which must have a snapshot; without it, after the last one
    #[arg(long, value_name = "STEP")]
    pub step: Option<u64>,
    /// The model directory to write; without it, RUN-ema-SHARE beside the run
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `ddpm inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A run, a checkpoint, a diffusers directory, a safetensors file or one of PyTorch's
    pub path: PathBuf,
}

/// `ddpm predict`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  ddpm predict --model runs/digits-001 --input x.safetensors --output y.safetensors

The input holds `x` [batch, channels, height, width], `t` [batch] in steps (ln(sigma)/4 of EDM's networks), for a
class-conditional network `class_labels` [batch], and for one that is told numbers of each image `vector`
[batch, numbers]; the output holds `y`.")]
pub struct PredictArgs {
    /// A run, a checkpoint or a diffusers directory
    #[arg(long, value_name = "RUN|DIR")]
    pub model: PathBuf,
    /// Safetensors file with x, t and perhaps class_labels
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Safetensors file to write y to
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
}

/// A schedule's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ScheduleName {
    /// β from start to end in equal steps (Ho et al. 2020)
    Linear,
    /// √β in equal steps
    ScaledLinear,
    /// Nichol & Dhariwal 2021
    Cosine,
    /// β along a sigmoid
    SigmoidBeta,
    /// ᾱ along a sigmoid (Jabri et al. 2022)
    SigmoidAlphaBar,
}

impl From<ScheduleName> for ScheduleKind {
    fn from(name: ScheduleName) -> Self {
        match name {
            ScheduleName::Linear => Self::Linear,
            ScheduleName::ScaledLinear => Self::ScaledLinear,
            ScheduleName::Cosine => Self::Cosine,
            ScheduleName::SigmoidBeta => Self::SigmoidBeta,
            ScheduleName::SigmoidAlphaBar => Self::SigmoidAlphaBar,
        }
    }
}

/// `ddpm schedule`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm schedule --kind cosine --plot cosine.png
  ddpm schedule --kind linear --steps 4000 --scale-ends --rows 20
  ddpm schedule --config configs/digits.toml")]
pub struct ScheduleArgs {
    /// Take the `schedule` section of a configuration as a start
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which schedule
    #[arg(long)]
    pub kind: Option<ScheduleName>,
    /// Diffusion steps T
    #[arg(long)]
    pub steps: Option<usize>,
    /// First β
    #[arg(long)]
    pub beta_start: Option<f64>,
    /// Last β
    #[arg(long)]
    pub beta_end: Option<f64>,
    /// Multiply both ends by 1000/T
    #[arg(long)]
    pub scale_ends: bool,
    /// Rescale so that nothing of the image is left at the last step (Lin et al. 2023)
    #[arg(long)]
    pub zero_terminal_snr: bool,
    /// Rows of the table
    #[arg(long, default_value_t = 11)]
    pub rows: usize,
    /// File for a plot of ᾱ, β and the signal-to-noise ratio
    #[arg(long, value_name = "FILE.png")]
    pub plot: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Every line of help that is a command, without what is said beside it.
    #[test]
    fn examples_in_the_help_are_understood() {
        let cli = Cli::command();
        let commands = std::iter::once(&cli).chain(cli.get_subcommands());
        let help: String = commands
            .filter_map(|command| Some(format!("{}\n", command.get_after_help()?)))
            .collect();
        let mut count = 0;
        for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
            if !line.starts_with("ddpm ") {
                continue;
            }
            let typed = line.split("  ").next().unwrap();
            let parsed = Cli::try_parse_from(typed.split_whitespace());
            assert!(parsed.is_ok(), "{typed}: {parsed:?}");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }
}
