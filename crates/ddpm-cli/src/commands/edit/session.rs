//! What all edits share: an opened model with its plan.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use ddpm_device::Picked;
use ddpm_diffusion::editing::{Tile, Tiling};
use ddpm_diffusion::{
    Condition, Denoiser, DiffusionError, Guide, Network, NoiseAt, Observer, Plan, SampleBatch,
    SampleConfig, noise_of, sample,
};
use ddpm_model::{OpenedModel, SamplingNetwork, Told};
use ddpm_schedule::noise::Stream;
use ddpm_unet::{Conditioning, Cost};

use super::super::sample::classes::{Classes, Known};
use super::super::sample::numbers::Numbers;
use super::super::sample::outputs::Outputs;
use super::super::sample::room::{Need, batch};
use super::super::sample::{asked, name_of};
use super::picture::Form;
use super::places::places;
use crate::args::{Common, EditOptions, FitName, SamplingArgs};
use crate::exit::UsageError;
use crate::size::parse_named_size;
use crate::{models, signals};

/// A model that is ready to draw.
pub struct Session<'a> {
    /// The edit's name.
    pub edit: &'static str,
    pub options: &'a EditOptions,
    pub common: Common,
    pub opened: OpenedModel,
    pub picked: Picked,
    pub config: SampleConfig,
    /// The sampler and its levels.
    pub plan: Plan,
    /// `[height, width]` of the network's own images.
    pub size: [usize; 2],
    figures: Cost,
    /// A worse network that guidance leads away from.
    guide: Option<OpenedModel>,
    /// How much noise the pictures have that images are made from.
    pub noise: f32,
    /// What is told of each result, once their number is known.
    pub told: Told,
    pub outputs: Outputs,
    /// Raised by a signal.
    pub stop: Arc<AtomicBool>,
}

impl<'a> Session<'a> {
    /// Opens the model and makes its plan; `given` are the files that the edit reads, and `by` says how to draw by what
    /// the model's own way is.
    ///
    /// # Errors   usage, format and device errors
    pub fn open(
        edit: &'static str,
        given: &[PathBuf],
        options: &'a EditOptions,
        common: Common,
        by: impl FnOnce(&SampleConfig) -> SamplingArgs,
    ) -> Result<Self> {
        asked::check_counts(None, options.batch)?;
        let size = options
            .window
            .as_deref()
            .map(|text| parse_named_size("--window", text))
            .transpose()?;
        let path = models::named_or_latest(options.network.model.as_deref())?;
        let outputs = places(edit, given, options, &name_of(&path))?;
        let picked = ddpm_device::resolve(options.network.device)?;
        options.network.precision.choose(&picked.device)?;
        let weights = options.network.weights.map(Into::into);
        let mut opened = OpenedModel::open(&path, weights, &picked.device)?;
        if !matches!(edit, "enlarge" | "colourise") {
            asked::check_no_picture(&opened)?;
        }
        if let Some(warning) = &opened.warning {
            tracing::warn!("{warning}");
        }
        let size = size.map(|size| [size.height, size.width]);
        let (size, figures) = asked::size("--window", size, &opened)?;
        let by = by(&opened.sample);
        opened.prepare(by.sampler.as_deref(), by.steps)?;
        let config = asked::sampling(&by, options.told.guidance, &opened.sample)?;
        let guide = asked::guide(options.told.guide_by.as_deref(), weights, &opened, &config)?;
        let plan = config.plan(&opened.process()?, opened.meaning)?;
        let stop = signals::listen().context("signals cannot be handled")?;
        Ok(Self {
            edit,
            options,
            common,
            opened,
            picked,
            config,
            plan,
            size,
            figures,
            guide,
            noise: 0.0,
            told: Told::default(),
            outputs,
            stop: stop.flag(),
        })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.picked.device
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        self.opened.channels
    }

    /// The networks, for all batches: so a GPU captures each once.
    pub fn networks(&self) -> Networks<'_> {
        let of = |model| SamplingNetwork::new(model, self.options.network.precision);
        Networks {
            session: self,
            network: of(&self.opened.model),
            guide: self.guide.as_ref().map(|guide| of(&guide.model)),
        }
    }

    /// What the network is told of some results.
    pub fn condition(&self, numbers: Range<usize>) -> Condition {
        self.told.condition(numbers, self.device())
    }

    /// How images that are to have the network's size are read.
    pub fn form(&self, fit: FitName) -> Form {
        Form {
            channels: self.channels(),
            size: Some(self.size),
            fit: fit.into(),
        }
    }

    /// The noise of some results of `canvas`, `[height, width]`, by step.
    pub fn noise(
        &self,
        stream: Stream,
        numbers: Range<usize>,
        [height, width]: [usize; 2],
    ) -> impl FnMut(NoiseAt) -> Tensor<4> + use<> {
        let image = [self.channels(), height, width];
        let numbers = numbers.map(|number| number as u64).collect();
        noise_of(self.options.seed, stream, numbers, image, self.device())
    }

    /// Noise that is drawn once.
    pub fn noise_once(
        &self,
        stream: Stream,
        numbers: Range<usize>,
        canvas: [usize; 2],
    ) -> Tensor<4> {
        self.noise(stream, numbers, canvas)(NoiseAt { step: 0, draw: 0 })
    }

    /// How many results there are to be, `asked` or `default`, and how many images of the network's own size to look at
    /// together, of `each` that a result has.
    ///
    /// # Errors   [`UsageError`] for too many, [`NoRoom`](crate::machine::NoRoom) for more than the device holds
    pub fn count(
        &mut self,
        asked: Option<usize>,
        default: usize,
        canvas: [usize; 2],
        each: usize,
    ) -> Result<(usize, usize)> {
        asked::check_counts(asked, None)?;
        let image = [self.channels(), canvas[0], canvas[1]];
        let n = self.outputs.fit(asked, default, image, 0)?;
        let numbers = Numbers::asked(
            self.options.told.numbers.as_deref(),
            &self.opened,
            self.noise,
        )?;
        self.told = numbers.with(self.told_of_class(n, &self.opened)?, n);
        self.outputs.check_sides(image, true)?;
        let need = Need {
            figures: &self.figures,
            image: [self.channels(), self.size[0], self.size[1]],
            precision: self.options.network.precision,
            outputs: self.outputs.bytes(image, 0),
        };
        let wanted = n.saturating_mul(each);
        let batch = batch(&need, self.options.batch, wanted, &self.picked)?;
        // Steps of some samplers depend on all images of a batch.
        match self.plan.sampler().method().one_by_one() && each == 1 {
            true => Ok((n, 1)),
            false => Ok((n, batch)),
        }
    }

    /// What `--class` says of n images of a model.
    ///
    /// # Errors   [`UsageError`] for classes that there are not
    pub fn told_of_class(&self, n: usize, opened: &OpenedModel) -> Result<Told, UsageError> {
        told(self.options.told.class.as_deref(), n, opened)
    }
}

/// The networks of a session at work.
pub struct Networks<'a> {
    session: &'a Session<'a>,
    network: SamplingNetwork<'a>,
    guide: Option<SamplingNetwork<'a>>,
}

impl Networks<'_> {
    /// The denoiser of some results.
    ///
    /// # Errors   as [`Plan::denoiser`]
    pub fn denoiser<'a>(
        &'a self,
        plan: &'a Plan,
        numbers: &Range<usize>,
    ) -> Result<Box<dyn Denoiser + 'a>, DiffusionError> {
        plan.denoiser(&self.network, self.guide(numbers))
    }

    /// Results from noise alone, of a seed.
    ///
    /// # Errors   as [`ddpm_diffusion::sample`]
    pub fn sample(
        &self,
        seed: u64,
        numbers: &Range<usize>,
        observer: Observer<'_>,
    ) -> Result<Tensor<4>, DiffusionError> {
        let Self { session, .. } = self;
        let [height, width] = session.size;
        let batch = SampleBatch {
            shape: [numbers.len(), session.channels(), height, width],
            seed,
            first_index: numbers.start as u64,
            condition: session.condition(numbers.clone()),
            guide: self.guide(numbers),
            device: session.device().clone(),
        };
        sample(&self.network, &session.plan, batch, observer)
    }

    /// The same of canvases, of which at most `batch` windows are looked at together.
    ///
    /// # Errors   as [`Plan::denoiser`]
    pub fn tiled<'a>(
        &'a self,
        numbers: &Range<usize>,
        tiling: &'a Tiling,
        batch: usize,
    ) -> Result<Box<dyn Denoiser + 'a>, DiffusionError> {
        let Self { session, .. } = self;
        let guide = self.guide(numbers);
        session.plan.denoiser_by(&self.network, guide, &|windows| {
            Box::new(Tile::new(windows, tiling, batch, session.device()))
        })
    }

    fn guide(&self, numbers: &Range<usize>) -> Guide<'_> {
        let network = self.guide.as_ref().map(|guide| guide as &dyn Network);
        Guide {
            null: match network {
                Some(_) => None,
                None => self.session.told.null(numbers, self.session.device()),
            },
            network,
        }
    }
}

/// What is told of n results: the classes of `--class`, or the one that stands for none.
///
/// # Errors   [`UsageError`] for classes that there are not, or none where there is no class for that
fn told(class: Option<&str>, n: usize, opened: &OpenedModel) -> Result<Told, UsageError> {
    let conditioning = opened.model.conditioning();
    match (conditioning, class) {
        (Conditioning::Classes { null, count }, None) => match null {
            Some(null) => Ok(Told {
                classes: vec![null as i64; n],
                null_class: Some(null as i64),
                ..Told::default()
            }),
            None => Err(UsageError(format!(
                "this network is class-conditional; choose with --class 0 to {}",
                count.saturating_sub(1)
            ))),
        },
        _ => {
            let known = Known {
                conditioning,
                names: opened.class_names.as_deref(),
            };
            let classes = Classes::asked(class, Some(n), known)?;
            Ok(classes.map(|classes| classes.told(n)).unwrap_or_default())
        }
    }
}

/// The arguments with a sampler of the edit's own, where they name none and the model's own does not serve.
pub fn by(
    args: &SamplingArgs,
    own: &SampleConfig,
    serves: impl Fn(&SampleConfig) -> bool,
    eta: f64,
) -> SamplingArgs {
    match args.sampler.is_none() && !serves(own) {
        true => SamplingArgs {
            sampler: Some("ddim".to_owned()),
            eta: args.eta.or(Some(eta)),
            ..args.clone()
        },
        false => args.clone(),
    }
}
