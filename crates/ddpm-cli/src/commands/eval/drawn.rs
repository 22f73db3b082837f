//! Images of a model: those that an earlier call has drawn, and the rest.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_data::{DataConfig, read_picture};
use ddpm_device::Picked;
use ddpm_diffusion::{Plan, SampleConfig};
use ddpm_eval::{Images, Sampling};
use ddpm_model::{Drawing, OpenedModel, Told};
use ddpm_store::images::{Numbered, check_writable, numbered_name};
use ddpm_unet::{Precision, params};
use serde_json::{Value, json};

use super::super::sample::classes::{Classes, Known};
use super::super::sample::numbers::Numbers;
use super::super::sample::{asked, room};
use super::super::shown;
use super::stream::Stream;
use crate::args::JudgeArgs;
use crate::size::parse_size;
use crate::words;

/// The file in a folder of images that says how they were drawn.
const KEY: &str = "drawn.json";

/// A model that is ready to draw.
pub struct Painter {
    opened: OpenedModel,
    plan: Plan,
    config: SampleConfig,
    guide: Option<OpenedModel>,
    told: Told,
    image: [usize; 3],
    n: usize,
    batch: usize,
    picked: Picked,
    precision: Precision,
    /// How images are drawn, as far as it decides their pixels.
    key: Value,
}

impl Painter {
    /// Checks everything that is asked of the model.
    ///
    /// # Errors   [`crate::exit::UsageError`] naming the option, [`crate::machine::NoRoom`]
    pub fn new(
        args: &JudgeArgs,
        mut opened: OpenedModel,
        picked: Picked,
        n: usize,
    ) -> Result<Self> {
        asked::check_no_picture(&opened)?;
        if let Some(warning) = &opened.warning {
            tracing::warn!("{warning}");
        }
        let numbers = Numbers::asked(args.told.numbers.as_deref(), &opened, 0.0)?;
        let size = args.size.as_deref().map(parse_size).transpose()?;
        let size = size.map(|size| [size.height, size.width]);
        let (size, cost) = asked::size("--size", size, &opened)?;
        let known = Known {
            conditioning: opened.model.conditioning(),
            names: opened.class_names.as_deref(),
        };
        let classes = Classes::asked(args.told.class.as_deref(), Some(n), known)?;
        opened.prepare(args.sampling.sampler.as_deref(), args.sampling.steps)?;
        let process = opened.process()?;
        let config = asked::sampling(&args.sampling, args.told.guidance, &opened.sample)?;
        let weights = args.weights.map(Into::into);
        let guide = asked::guide(args.told.guide_by.as_deref(), weights, &opened, &config)?;
        let plan = config.plan(&process, opened.meaning)?;
        if let Some(warning) = asked::start_warning(&plan) {
            tracing::warn!("{warning}");
        }
        let image = [opened.channels, size[0], size[1]];
        let need = room::Need {
            figures: &cost,
            image,
            precision: args.precision,
            outputs: 0,
        };
        let batch = room::batch(&need, args.batch, n, &picked)?;
        let told = classes
            .as_ref()
            .map(|classes| classes.told(n))
            .unwrap_or_default();
        let told = numbers.with(told, n);
        let key = json!({
            "weights": digest(&opened),
            "guide": guide.as_ref().map(digest),
            "sample": config,
            // The class of image i depends on how many images there are.
            "classes": (!told.classes.is_empty()).then_some(&told.classes),
            "numbers": told.numbers.first(),
            "seed": args.seed,
            "precision": args.precision.to_string(),
            "image": image,
        });
        Ok(Self {
            opened,
            plan,
            config,
            guide,
            told,
            image,
            n,
            batch,
            picked,
            precision: args.precision,
            key,
        })
    }

    /// Where the images are kept below a folder: each way of drawing has a place of its own.
    pub fn folder(&self, out: &Path) -> PathBuf {
        let digest = ddpm_store::atomic::digest(self.key.to_string().as_bytes());
        out.join(format!("images-{}", &digest[..12]))
    }

    /// `[channels, height, width]` of an image.
    pub fn image(&self) -> [usize; 3] {
        self.image
    }

    /// The class that each image is drawn as, of a model with classes.
    pub fn labels(&self) -> Option<Vec<usize>> {
        let classes = &self.told.classes;
        (!classes.is_empty()).then(|| classes.iter().map(|&class| class as usize).collect())
    }

    /// The names of the classes.
    pub fn class_names(&self) -> Option<Vec<String>> {
        self.opened.class_names.clone()
    }

    /// What is written down of how images are drawn.
    pub fn sampling(&self, args: &JudgeArgs) -> Sampling {
        let mut sampler = json!(self.config);
        if let Some(keys) = sampler.as_object_mut() {
            for key in ["steps", "guidance", "count"] {
                keys.remove(key);
            }
        }
        let weights = match self.opened.averaged {
            Some(true) => Some("ema"),
            Some(false) => Some("raw"),
            None => None,
        };
        Sampling {
            model: shown(&self.opened.path),
            step: self.opened.step,
            weights: weights.map(str::to_owned),
            sampler,
            steps: self.plan.steps(),
            guidance: json!({
                "guidance": self.config.guidance,
                "by": args.told.guide_by.as_deref().map(shown),
            }),
            told: json!({ "class": args.told.class, "numbers": args.told.numbers }),
            seed: args.seed,
            precision: args.precision.to_string(),
        }
    }

    /// Gives all images to `stream`: first those that lie in the folder, then those that are drawn now and written there.
    /// Returns how many were there before.
    ///
    /// # Errors   those of drawing, of files and of the extractor; [`ddpm_eval::EvalError::Stopped`] after a signal
    pub fn run<'s>(
        &self,
        folder: &Path,
        seed: u64,
        stop: &dyn Fn() -> bool,
        stream: Stream<'s>,
    ) -> Result<(usize, Stream<'s>)> {
        check_writable(folder)?;
        let before = self.found(folder)?;
        let stream = RefCell::new(stream);
        for index in 0..before {
            let picture = read_picture(&folder.join(numbered_name(index as u64)), &self.reading())?;
            let shape = [1, self.image[0], self.image[1], self.image[2]];
            stream
                .borrow_mut()
                .take(&Images::from_pixels(&picture.pixels, shape)?)?;
        }
        if before == 0 {
            ddpm_store::atomic::write_file(&folder.join(KEY), self.key.to_string().as_bytes())?;
        }
        if before < self.n {
            self.draw(before, seed, folder, stop, &stream)?;
        }
        Ok((before, stream.into_inner()))
    }

    fn draw(
        &self,
        before: usize,
        seed: u64,
        folder: &Path,
        stop: &dyn Fn() -> bool,
        stream: &RefCell<Stream<'_>>,
    ) -> Result<()> {
        let told = rest(&self.told, before);
        let drawing = Drawing {
            model: &self.opened.model,
            plan: &self.plan,
            image: self.image,
            told: &told,
            guide: self.guide.as_ref().map(|guide| &guide.model),
            seed,
            first: before as u64,
            n: self.n - before,
            batch: self.batch,
            device: &self.picked.device,
            precision: self.precision,
        };
        tracing::info!(
            "drawing {}{}",
            words::some((self.n - before) as u64, "image"),
            match before {
                0 => String::new(),
                before => format!(
                    ", after {} that lie in {}",
                    words::count(before as u64),
                    folder.display()
                ),
            }
        );
        let done = drawing.run::<anyhow::Error>(
            &mut |_, _| match stop() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            },
            &mut |from, images| {
                images.save_separate(folder, before + from)?;
                let (pixels, shape) = images.into_parts();
                stream
                    .borrow_mut()
                    .take(&Images::from_pixels(&pixels, shape)?)?;
                Ok(())
            },
        )?;
        match done < self.n - before {
            true => Err(ddpm_eval::EvalError::Stopped.into()),
            false => Ok(()),
        }
    }

    /// Images of the folder that are ours and follow each other from the first one on.
    fn found(&self, folder: &Path) -> Result<usize> {
        let mut numbers: Vec<u64> = Numbered::find(folder)?
            .ours
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        numbers.sort_unstable();
        let contiguous = numbers
            .iter()
            .enumerate()
            .take_while(|(at, number)| *at as u64 == **number);
        Ok(contiguous.count().min(self.n))
    }

    fn reading(&self) -> DataConfig {
        DataConfig {
            channels: Some(self.image[0]),
            ..DataConfig::default()
        }
    }
}

/// What is told of the images from `before` on.
fn rest(told: &Told, before: usize) -> Told {
    Told {
        classes: told.classes.get(before..).unwrap_or_default().to_vec(),
        numbers: told.numbers.get(before..).unwrap_or_default().to_vec(),
        ..told.clone()
    }
}

/// The digest of a network's weights.
fn digest(opened: &OpenedModel) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, data) in params::export(&opened.model) {
        hasher.update(name.as_bytes());
        hasher.update(data.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
