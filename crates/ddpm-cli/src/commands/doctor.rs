//! `ddpm doctor`: what can be known of a run before it begins. Writes nothing.

mod finding;
mod images;
mod length;
mod network;
mod ranks;
mod schedule;
mod space;
mod time;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ddpm_data::{DataError, DataKind, Dataset};
use ddpm_device::DeviceError;
use ddpm_schedule::{Process, ScheduleError};
use ddpm_train::{
    Config, MemoryEstimate, TrainError, Validated, check_ranks, checkpoint_bytes,
    checkpoints_on_disk, condition_shape, model_shape, snapshots_bytes, times,
};
use ddpm_unet::{Classes, Cost, ModelShape};
use serde_json::{Map, Value, json};

use self::finding::{Finding, Findings};
pub use self::images::warn_of_pixels;
use self::time::Work;
use super::measure::measure;
use super::train::{begun, load, show};
use super::{RUNS, Report};
use crate::args::{Common, ConfigArgs, DoctorArgs};
use crate::machine::{self, Memory};
use crate::placed::Placed;
use crate::ranks::launched;
use crate::recipe;

/// Steps that are measured after the first.
const MEASURED_STEPS: usize = 3;
/// No measurement begins after this.
const MEASURING_BUDGET: Duration = Duration::from_secs(120);

/// Examines a configuration, its data and this machine.
///
/// # Errors   [`crate::exit::UsageError`] for a configuration that cannot be read; whatever else is wrong is
/// a line of the report, whose exit code is that of the first line that failed
pub fn doctor(args: &DoctorArgs, common: Common) -> Result<Report> {
    let quiet = common.quiet > 0;
    match launched() {
        Some(launched) => ranks::doctor(args, common, launched),
        None => Ok(examine(args, quiet)?.report()),
    }
}

/// All that one process finds out.
fn examine(args: &DoctorArgs, quiet: bool) -> Result<Doctor> {
    let mut doctor = Doctor::default();
    let placed = match (
        Placed::new(args.device, args.devices.as_ref()),
        &args.config.data,
    ) {
        // What is chosen for --data depends on the device.
        (Err(error), Some(_)) => return Err(error.into()),
        (placed, _) => placed,
    };
    let mut recipe = match &placed {
        Ok(placed) => recipe::of(&args.config, placed.first(), quiet)?,
        // That it is not there is a line of the report.
        Err(_) => {
            let ConfigArgs { config, seed, .. } = &args.config;
            recipe::read(config.as_deref(), &recipe::set_by_hand(&args.config), *seed)?
        }
    };
    let process = doctor.process(&recipe.config);
    let mut validated = doctor.configuration(&recipe.config);
    let placed = doctor.devices(placed, &recipe.config);
    let dataset = doctor.data(&recipe.config, quiet);
    if let Some(dataset) = &dataset
        && let Ok(shape) = model_shape(&recipe.config, dataset)
    {
        if let Some(init) = &mut recipe.config.init {
            let opened = begun::open(init)?;
            begun::fit(&opened, &mut recipe, shape)?;
        }
        recipe.fit_attention(shape);
    }
    let config = recipe.config;
    if let Some(validated) = &mut validated {
        validated.config.model.clone_from(&config.model);
    }
    let largest = match &dataset {
        Some(dataset) => doctor.pixels(&config, dataset, quiet),
        None => None,
    };
    let shape = match &dataset {
        Some(dataset) => match model_shape(&config, dataset) {
            Ok(shape) => Some(shape),
            Err(error) => {
                doctor.findings.error("network", error);
                None
            }
        },
        None => stated_shape(&config),
    };
    let figures = shape.and_then(|shape| doctor.network(&config, shape));
    if let Some(validated) = &validated {
        let nfe = validated.plan.evaluations();
        doctor.add(schedule::sampling(&config.sample, nfe, largest));
        doctor.put("nfe", json!(nfe));
    }
    if let Some(total) = total_steps(&config, dataset.as_ref()) {
        doctor.length(&config, total, dataset.as_ref());
        if let (Some(figures), Some(shape)) = (&figures, shape) {
            doctor.disk(&config, figures, total);
            doctor.memory(&config, figures, shape, dataset.as_ref(), placed.as_ref());
        }
    }
    doctor.put(
        "alpha_bar_at_the_end",
        json!(process.map(|process| process.noisiest().signal.powi(2))),
    );
    if let (Some(validated), Some(dataset), Some(placed), false) =
        (validated, dataset, placed, doctor.findings.failed())
    {
        doctor.time(&validated, dataset, placed, quiet);
    } else {
        doctor.add(Finding::note(
            "time",
            "not measured, because a check failed",
        ));
    }
    Ok(doctor)
}

/// Steps of the run, where they do not depend on a data set that is not there.
fn total_steps(config: &Config, dataset: Option<&Dataset>) -> Option<u64> {
    match (dataset, config.train.epochs) {
        (Some(dataset), _) => Some(config.train.total_steps(dataset.len())),
        (None, None) => Some(config.train.total_steps(1)),
        (None, Some(_)) => None,
    }
}

/// The images' shape as `[data]` states it, for a set that cannot be loaded.
fn stated_shape(config: &Config) -> Option<ModelShape> {
    config.data.validate().ok()?;
    let size = config.data.size?;
    let channels = config.data.channels?;
    let classes = match config.model.classes() {
        Some(Classes::Count(classes)) => Some(classes),
        // Nobody knows how many there are.
        Some(Classes::Auto(_)) => return None,
        None => None,
    };
    Some(ModelShape {
        channels,
        height: size.height,
        width: size.width,
        learned_variance: config.objective.variance.is_learned(),
        self_condition: config.objective.self_condition > 0.0,
        steps: config.network_steps(),
        condition: condition_shape(config, channels, classes).ok()?,
    })
}

/// What was found so far.
#[derive(Default)]
struct Doctor {
    findings: Findings,
    figures: Map<String, Value>,
}

impl Doctor {
    fn add(&mut self, finding: Finding) {
        self.findings.add(finding);
    }

    fn put(&mut self, key: &str, value: Value) {
        self.figures.insert(key.to_owned(), value);
    }

    fn process(&mut self, config: &Config) -> Option<Process> {
        match config.process() {
            Ok(process) => {
                self.add(match process.schedule() {
                    Some(table) => schedule::ending(&config.schedule, table),
                    None => schedule::process(&process),
                });
                self.add(schedule::objective(
                    &config.objective,
                    &config.sample,
                    &process,
                ));
                Some(process)
            }
            Err(error) => {
                self.findings.error("schedule", error);
                None
            }
        }
    }

    /// Every value of every section; what the checks above have told of already is not told again.
    fn configuration(&mut self, config: &Config) -> Option<Validated> {
        match config.clone().validate() {
            Ok(validated) => Some(validated),
            Err(error) => {
                // Told of when the data are loaded, or with the schedule.
                let told = match &error {
                    TrainError::Data(DataError::Config { key, .. }) => !key.starts_with("augment."),
                    TrainError::Data(_) => true,
                    TrainError::Schedule { .. } => self.findings.failed(),
                    TrainError::Diffusion(error) => {
                        error.to_string() == ScheduleError::EpsAtZeroSnr.to_string()
                    }
                    _ => false,
                };
                if !told {
                    self.findings.error("keys", error);
                }
                None
            }
        }
    }

    /// The devices, what they compute in, and whether a batch can be dealt out to them.
    fn devices(&mut self, placed: Result<Placed, DeviceError>, config: &Config) -> Option<Placed> {
        let placed = match placed {
            Ok(placed) => placed,
            Err(error) => {
                self.findings.error("device", error);
                return None;
            }
        };
        let precision = config.train.precision;
        self.put("device", json!(placed.name()));
        self.put("precision", json!(precision));
        match placed.choose(precision) {
            Ok(()) => self.add(Finding::ok(
                "device",
                format!("{}, {precision}", placed.name()),
            )),
            Err(error) => self.findings.error("device", error),
        }
        if placed.count() > 1
            && let Err(error) = check_ranks(config, placed.count())
        {
            self.findings.error("devices", error);
        }
        Some(placed)
    }

    fn data(&mut self, config: &Config, quiet: bool) -> Option<Dataset> {
        match load(config, quiet) {
            Ok(dataset) => {
                self.findings.extend(images::set(&dataset, &config.model));
                self.put("images", json!(dataset.len()));
                self.put("bad_images", json!(dataset.skipped().len()));
                self.put("classes", json!(dataset.num_classes()));
                Some(dataset)
            }
            Err(error) => {
                self.findings.error("data", error);
                None
            }
        }
    }

    /// Shows some images, as they may come in training, and returns the largest |pixel| of them as they are.
    fn pixels(&mut self, config: &Config, dataset: &Dataset, quiet: bool) -> Option<f32> {
        match images::look(dataset, config.data.kind == DataKind::Synthetic) {
            Ok(None) => {
                self.add(Finding::note(
                    "pixels",
                    "the images are too large to look at",
                ));
                None
            }
            Ok(Some(look)) => {
                if !quiet {
                    // What cannot be done to these images is said where their network is.
                    show(&images::augmented(dataset, config).unwrap_or(look.images));
                }
                let images::Pixels {
                    least, mean, most, ..
                } = look.pixels;
                self.add(images::pixels(&look.pixels));
                self.put("pixels", json!({"min": least, "mean": mean, "max": most}));
                Some(look.pixels.largest())
            }
            Err(error) => {
                self.findings.error("pixels", error);
                None
            }
        }
    }

    fn network(&mut self, config: &Config, shape: ModelShape) -> Option<Cost> {
        match Cost::of(&config.model, shape) {
            Ok(figures) => {
                self.findings
                    .extend(network::check(&config.model, &figures, shape));
                self.put("parameters", whole(figures.parameters));
                self.put("multiplications", whole(figures.multiplications));
                self.put("kept", whole(figures.kept));
                self.put("levels", levels(&figures));
                Some(figures)
            }
            Err(error) => {
                self.findings.error("network", TrainError::Model(error));
                None
            }
        }
    }

    fn length(&mut self, config: &Config, total: u64, dataset: Option<&Dataset>) {
        let train = &config.train;
        if let Some(dataset) = dataset {
            self.findings
                .extend(length::passes(train, total, dataset.len()));
        }
        self.findings
            .extend(length::learning_rate(&config.optim, total));
        self.add(length::average(&config.ema, total));
        self.findings
            .extend(length::rhythm(train, &config.sample, total));
        self.put("steps", json!(total));
        self.put("grids", json!(times(train.sample_every, total)));
        let half_life = config.ema.half_life_steps(total);
        self.put("ema_half_life_steps", json!(half_life));
    }

    fn disk(&mut self, config: &Config, figures: &Cost, total: u64) {
        let each = checkpoint_bytes(figures.parameters, config.ema.power_function.len());
        let snapshots = snapshots_bytes(figures.parameters, config, total);
        let count = checkpoints_on_disk(&config.train, total);
        let free = machine::free_bytes(Path::new(RUNS));
        self.add(space::disk(each, count, snapshots, free));
        self.put("checkpoint_bytes", whole(each));
        self.put("checkpoints_on_disk", json!(count));
        self.put("snapshots_bytes", whole(snapshots));
        self.put("free_bytes", json!(free));
    }

    fn memory(
        &mut self,
        config: &Config,
        figures: &Cost,
        shape: ModelShape,
        dataset: Option<&Dataset>,
        placed: Option<&Placed>,
    ) {
        let image = [shape.channels, shape.height, shape.width]
            .iter()
            .fold(1u128, |product, &extent| {
                product.saturating_mul(extent as u128)
            });
        let kept = dataset.map_or(0, Dataset::memory_bytes);
        let (count, one) = placed.map_or((1, true), |placed| (placed.count(), placed.is_one()));
        let estimate = MemoryEstimate::on_several(figures, config, image, kept as u128, count, one);
        // Those that share a batch are of one kind; the first draws the samples as well.
        let picked = placed.map(Placed::first);
        let memory = picked.map_or_else(machine::memory, machine::memory_of);
        let owner = picked.map_or("this machine", machine::owner);
        self.add(space::memory(&estimate, config, memory, owner, !one));
        self.put(
            "memory",
            json!({
                "peak_bytes": whole(estimate.peak()),
                "step_bytes": whole(estimate.step()),
                "state_bytes": whole(estimate.state),
                "gradient_bytes": whole(estimate.gradients),
                "activation_bytes": whole(estimate.activations),
                "workspace_bytes": whole(estimate.workspace),
                "total_bytes": memory.map(|memory: Memory| memory.total),
                "available_bytes": memory.map(|memory: Memory| memory.available),
            }),
        );
    }

    fn time(&mut self, validated: &Validated, dataset: Dataset, placed: Placed, quiet: bool) {
        let train = &validated.config.train;
        let steps = train.total_steps(dataset.len());
        let work = Work {
            steps,
            batch: train.batch,
            grids: times(train.sample_every, steps),
            evaluations: times(train.eval_every, steps),
            judged: train.eval_n as f64 / validated.config.sample.count.max(1) as f64,
            nfe: validated
                .plan
                .evaluations()
                .unwrap_or(validated.plan.steps()),
        };
        let measured = measure(
            validated,
            Arc::new(dataset),
            &placed.devices(),
            MEASURED_STEPS,
            MEASURING_BUDGET,
            quiet,
        );
        match measured {
            Ok(probe) => {
                self.findings.extend(time::check(work, &probe));
                let expected = time::expected(work, &probe);
                self.put("step_s", json!(probe.step_s()));
                self.put("images_per_s", json!(work.batch as f64 / probe.step_s()));
                self.put("evaluation_s", json!(probe.evaluation_s));
                self.put("run_s", json!(expected.run_s));
                self.put("sampling_s", json!(expected.sampling_s));
                self.put("measured_peak_bytes", json!(machine::peak_bytes()));
            }
            Err(error) => self.findings.error("time", error),
        }
    }

    fn report(self) -> Report {
        let json = json!({ "findings": self.findings.json(), "figures": self.figures });
        Report {
            text: self.findings.text(),
            json,
            exit: self.findings.exit(),
        }
    }
}

fn levels(figures: &Cost) -> Value {
    let levels = figures.levels.iter().map(|level| {
        let attention = level.attention.as_ref().map(|attended| {
            json!({
                "tokens": whole(attended.tokens),
                "heads": attended.heads,
                "blocks": whole(attended.blocks),
                "share": figures.share(attended),
            })
        });
        json!({
            "height": level.height, "width": level.width, "channels": level.channels,
            "attention": attention,
        })
    });
    levels.collect()
}

/// JSON has no whole numbers beyond 64 bits here.
fn whole(number: u128) -> Value {
    match u64::try_from(number) {
        Ok(number) => json!(number),
        Err(_) => json!(number as f64),
    }
}
