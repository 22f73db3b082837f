//! `ddpm edit`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::{NetworkArgs, SamplingArgs, ToldArgs};

/// `ddpm edit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ddpm edit inpaint face.png --mask mask.png          paint the white part of mask.png anew
  ddpm edit inpaint face.png --box 8,4,16,24          the same of a box: top, left, height, width
  ddpm edit vary face.png --strength 0.6 --n 8
  ddpm edit interpolate --seeds 1,2 --n 8
  ddpm edit interpolate a.png b.png --steps 50
  ddpm edit invert face.png --steps 50
  ddpm edit outpaint face.png --size 64x96
  ddpm edit tile --size 64x128 --model runs/sprites-001
  ddpm edit enlarge small.png --model runs/x4-001
  ddpm edit enlarge --from runs/small-001 --n 16 --noise 0.2 --model runs/x4-001
  ddpm edit colourise grey.png --model runs/colours-001

Each writes one picture: what was given, then the results. Result i of a seed is the same whatever --n and --batch are.")]
pub struct EditArgs {
    /// What to do.
    #[command(subcommand)]
    pub edit: Edit,
}

/// What `ddpm edit` does.
#[derive(Debug, Subcommand)]
pub enum Edit {
    /// Paint part of an image anew
    Inpaint(InpaintArgs),
    /// Draw images like a given one: it is noised part of the way and drawn again from there
    Vary(VaryArgs),
    /// Draw what lies between two seeds, or between two images
    Interpolate(InterpolateArgs),
    /// Find the noise of an image by DDIM inversion, and draw the image from it again
    Invert(InvertArgs),
    /// Go on with an image beyond its edges
    Outpaint(OutpaintArgs),
    /// Draw images larger than those that the network was trained on
    Tile(TileArgs),
    /// Enlarge small images by a network that was trained to (condition.kind = "low_resolution"), those of files or of
    /// another network
    Enlarge(EnlargeArgs),
    /// Give grey images colours by a network that was trained to (condition.kind = "gray")
    #[command(alias = "colorize")]
    Colourise(ColouriseArgs),
}

/// What all edits have.
#[derive(Debug, Clone, Args)]
pub struct EditOptions {
    /// Which network draws.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// How it draws.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Images, or windows of a larger one, at a time; without it, 64, or fewer where memory is short
    #[arg(long)]
    pub batch: Option<usize>,
    /// Size of the network's own images, for models that do not say theirs: 32 or 24x32 (height x width)
    #[arg(long, value_name = "SIZE")]
    pub window: Option<String>,
    /// What the network is told.
    #[command(flatten)]
    pub told: ToldArgs,
    /// The picture that is written (.png, .jpg or .webp), or a folder for one PNG a result, with the picture beside it
    /// (DIR.png); without --out and --grid, samples/NAME-EDIT.png
    #[arg(long, short, value_name = "FILE|DIR")]
    pub out: Option<PathBuf>,
    /// The picture, where --out is a folder: .png, .jpg or .webp
    #[arg(long, value_name = "FILE")]
    pub grid: Option<PathBuf>,
}

/// How an image of another size is made to fit the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FitName {
    /// Cut the middle to the shape, and resize it
    #[default]
    Crop,
    /// Resize it until it fits, and fill the rest with black
    Pad,
    /// Resize each side by itself
    Stretch,
}

impl From<FitName> for ddpm_data::Fit {
    fn from(name: FitName) -> Self {
        match name {
            FitName::Crop => Self::Crop,
            FitName::Pad => Self::Pad,
            FitName::Stretch => Self::Stretch,
        }
    }
}

/// How the unknown part is painted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// RePaint: there and back many times, so that both parts fit (Lugmayr et al. 2022); slow
    #[default]
    Repaint,
    /// The known part is put in its place at every step (Song et al. 2021); any sampler, as fast as sampling
    Replace,
}

/// A box of pixels: where it begins and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `[top, left]`.
    pub at: [usize; 2],
    /// `[height, width]`.
    pub size: [usize; 2],
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<usize>> = text
            .split(',')
            .map(|part| part.trim().parse().ok())
            .collect();
        match numbers.as_deref() {
            Some(&[top, left, height, width]) if height > 0 && width > 0 => Ok(Self {
                at: [top, left],
                size: [height, width],
            }),
            _ => Err("write TOP,LEFT,HEIGHT,WIDTH in pixels, such as 8,4,16,24".into()),
        }
    }
}

/// `--seeds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds(pub [u64; 2]);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seeds = text.split_once(',');
        let seeds = seeds.and_then(|(a, b)| Some([a.trim().parse().ok()?, b.trim().parse().ok()?]));
        seeds
            .map(Self)
            .ok_or_else(|| "write two seeds, such as 1,2".into())
    }
}

/// `ddpm edit inpaint`.
#[derive(Debug, Args)]
pub struct InpaintArgs {
    /// The image
    pub image: PathBuf,
    /// A grey picture as large as the image: white is painted, black is kept
    #[arg(long, value_name = "FILE", required_unless_present = "place")]
    pub mask: Option<PathBuf>,
    /// Paint this box instead, TOP,LEFT,HEIGHT,WIDTH in pixels of the network's own images
    #[arg(
        long = "box",
        id = "place",
        value_name = "BOX",
        conflicts_with = "mask"
    )]
    pub place: Option<Place>,
    /// How the white part is painted. RePaint steps by the model's own sampler if that is ddim or ddpm (with the small
    /// variance), else by ddim with an eta of 1
    #[arg(long, value_enum, default_value_t)]
    pub method: Method,
    /// RePaint: steps of each way back; without it, 10
    #[arg(long, value_name = "STEPS")]
    pub jump_length: Option<usize>,
    /// RePaint: how often each part of the way is gone; without it, 10
    #[arg(long, value_name = "N")]
    pub jump_n_sample: Option<usize>,
    /// How many results; without it, 4
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// How an image of another size is made to fit the network
    #[arg(long, value_enum, default_value_t)]
    pub fit: FitName,
    /// What all edits have.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit vary`.
#[derive(Debug, Args)]
pub struct VaryArgs {
    /// The image
    pub image: PathBuf,
    /// The share of the way that is drawn anew: 0 gives the image, 1 keeps next to nothing of it
    #[arg(long, value_name = "SHARE", default_value_t = 0.6)]
    pub strength: f64,
    /// How many results; without it, 4
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// How an image of another size is made to fit the network
    #[arg(long, value_enum, default_value_t)]
    pub fit: FitName,
    /// What all edits have.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit interpolate`.
#[derive(Debug, Args)]
pub struct InterpolateArgs {
    /// Two images, whose noises are found by DDIM inversion
    #[arg(value_name = "IMAGE", num_args = 2, required_unless_present = "seeds")]
    pub images: Vec<PathBuf>,
    /// Two seeds instead, between the first images of which it is drawn
    #[arg(long, value_name = "A,B", conflicts_with = "images")]
    pub seeds: Option<Seeds>,
    /// How many results, both ends among them; without it, 8
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// How images of another size are made to fit the network
    #[arg(long, value_enum, default_value_t)]
    pub fit: FitName,
    /// What all edits have; without --sampler, the model's own if it draws no fresh noise, else ddim.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit invert`.
#[derive(Debug, Args)]
pub struct InvertArgs {
    /// The image
    pub image: PathBuf,
    /// How an image of another size is made to fit the network
    #[arg(long, value_enum, default_value_t)]
    pub fit: FitName,
    /// What all edits have; the sampler is ddim.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit outpaint`.
#[derive(Debug, Args)]
pub struct OutpaintArgs {
    /// The image, whose pixels stay as they are
    pub image: PathBuf,
    /// Size of the result, with the image in its middle: 64 or 48x96 (height x width)
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["left", "right", "top", "bottom"])]
    #[arg(required_unless_present_any = ["left", "right", "top", "bottom"])]
    pub size: Option<String>,
    /// Pixels to add at the left
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub left: usize,
    /// Pixels to add at the right
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub right: usize,
    /// Pixels to add above
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub top: usize,
    /// Pixels to add below
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    pub bottom: usize,
    /// Pixels that neighbouring windows share, at least; without it, half of a window's shorter side
    #[arg(long, value_name = "PIXELS")]
    pub overlap: Option<usize>,
    /// How many results; without it, 1
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// What all edits have.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit tile`.
#[derive(Debug, Args)]
pub struct TileArgs {
    /// Size of the images: 64 or 48x96 (height x width)
    #[arg(long, value_name = "SIZE")]
    pub size: String,
    /// Pixels that neighbouring windows share, at least; without it, half of a window's shorter side
    #[arg(long, value_name = "PIXELS")]
    pub overlap: Option<usize>,
    /// How many images; without it, 1
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// What all edits have.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit enlarge`.
#[derive(Debug, Args)]
pub struct EnlargeArgs {
    /// Images, each brought to the size that the network takes: its own images' by condition.factor
    #[arg(value_name = "IMAGE", required_unless_present = "from")]
    pub images: Vec<PathBuf>,
    /// A network that draws the small images instead (a cascade, Ho et al. 2021): a run, checkpoint or diffusers
    /// directory
    #[arg(long, value_name = "RUN|DIR", conflicts_with = "images")]
    pub from: Option<PathBuf>,
    /// How much of the small images is drowned in noise before they are enlarged, up to condition.noise; hides what
    /// another network did wrong; without it, nothing
    #[arg(long, value_name = "SHARE")]
    pub noise: Option<f64>,
    /// How many results of each image, 1 without it; with --from, how many images, 8 without it
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// How an image of another shape is made to fit the network
    #[arg(long, value_enum, default_value_t)]
    pub fit: FitName,
    /// What all edits have.
    #[command(flatten)]
    pub options: EditOptions,
}

/// `ddpm edit colourise`.
#[derive(Debug, Args)]
pub struct ColouriseArgs {
    /// Images; their colours, if they have any, are not looked at
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    /// How many results of each image; without it, 1
    #[arg(long, short = 'n')]
    pub n: Option<usize>,
    /// How an image of another size is made to fit the network
    #[arg(long, value_enum, default_value_t)]
    pub fit: FitName,
    /// What all edits have.
    #[command(flatten)]
    pub options: EditOptions,
}
