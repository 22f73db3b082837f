//! `ddpm eval bpd`: bits per dimension.

use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{Tensor, TensorData};
use ddpm_data::Dataset;
use ddpm_diffusion::{BitsPerDim, DiffusionError, Hold, Likelihood, randn_images};
use ddpm_model::{OpenedModel, SamplingNetwork, Told};
use ddpm_schedule::VarianceKind;
use ddpm_schedule::noise::Stream;
use ddpm_train::TrainError;
use ddpm_unet::Conditioning;
use serde_json::json;

use super::super::{Report, shown};
use super::named::Named;
use crate::args::{BpdArgs, Common};
use crate::exit::{Exit, UsageError};
use crate::size::parse_size;
use crate::terminal::{Progress, Update};
use crate::{models, signals, words};

/// Images unless `-n` says otherwise.
const IMAGES: usize = 64;
/// Images at a time unless `--batch` says otherwise.
const BATCH: usize = 64;
/// Lines of the table of terms.
const ROWS: usize = 10;

/// The variational bound of a model on images, term by term.
///
/// # Errors   usage, format, data, device and memory errors with their exit codes
pub fn bpd(args: &BpdArgs, common: Common) -> Result<Report> {
    if args.n == Some(0) || args.batch == Some(0) {
        return Err(UsageError("-n and --batch must be at least 1".into()).into());
    }
    let path = models::named_or_latest(args.model.as_deref())?;
    let picked = ddpm_device::resolve(args.device)?;
    args.precision.choose(&picked.device)?;
    let mut opened = OpenedModel::open(&path, args.weights.map(Into::into), &picked.device)?;
    if let Some(refusal) = opened.refusal.take() {
        return Err(TrainError::from(refusal).into());
    }
    let process = opened.process()?;
    let named = Named {
        option: "--data",
        path: args.data.as_deref(),
        size: args.size.as_deref().map(parse_size).transpose()?,
        set: &args.set,
    };
    let data = named.data(&path, Some(&opened))?;
    let dataset = Dataset::load(&data, 0, &mut |_, _| {})?;
    if dataset.channels() != opened.channels {
        return Err(UsageError(format!(
            "{}: the images have {} channels and the network has {}; they do not belong together",
            dataset.describe(),
            dataset.channels(),
            opened.channels
        ))
        .into());
    }
    let n = args.n.unwrap_or(IMAGES).min(dataset.len());
    let batch = args.batch.unwrap_or(BATCH).min(n);
    let variance = opened.sample.ddpm().and_then(|ddpm| ddpm.variance);
    let likelihood = Likelihood {
        process: &process,
        meaning: opened.meaning,
        variance: match variance {
            Some(VarianceKind::Large) => VarianceKind::Large,
            _ => VarianceKind::Small,
        },
        hold: match args.no_clip {
            true => Hold::Free,
            false => Hold::Clip(1.0),
        },
    };
    let stop = signals::listen()
        .context("signals cannot be handled")?
        .flag();
    let quiet = common.quiet > 0;
    let clock = Instant::now();
    let network = SamplingNetwork::new(&opened.model, args.precision);
    let image = [dataset.channels(), dataset.height(), dataset.width()];
    let numbers = numbers(&opened, &dataset)?;
    let mut progress: Option<Progress> = None;
    let mut all = BitsPerDim::default();
    for from in (0..n).step_by(batch) {
        let rows = from..n.min(from + batch);
        let items = rows.clone().map(|index| dataset.get(index, false));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        let shape = [rows.len(), image[0], image[1], image[2]];
        let labels: Option<Vec<i64>> = items.iter().map(|item| Some(item.label? as i64)).collect();
        let pixels: Vec<f32> = items.into_iter().flat_map(|item| item.pixels).collect();
        let x0 = Tensor::<4>::from_data(TensorData::new(pixels, shape), &picked.device);
        let told = Told {
            classes: match opened.model.conditioning() {
                Conditioning::None => Vec::new(),
                _ => labels.unwrap_or_default(),
            },
            numbers: numbers.get(rows.clone()).unwrap_or_default().to_vec(),
            picture: opened.condition.picture(&x0),
            ..Told::default()
        };
        let condition = told.condition(0..rows.len(), &picked.device);
        let indices = rows.start as u64..rows.end as u64;
        let mut noise = |t: usize| {
            let step = t as u64;
            randn_images(
                args.seed,
                Stream::Likelihood,
                step,
                indices.clone(),
                image,
                &picked.device,
            )
        };
        let batches = n.div_ceil(batch);
        let mut watch = |done: usize, of: usize| {
            let total = (of * batches) as u64;
            let step = (from / batch * of + done) as u64;
            progress
                .get_or_insert_with(|| Progress::start(0, total, quiet))
                .update(Update {
                    step,
                    ..Update::default()
                });
            match stop.load(std::sync::atomic::Ordering::Relaxed) {
                true => std::ops::ControlFlow::Break(()),
                false => std::ops::ControlFlow::Continue(()),
            }
        };
        match likelihood.bits_per_dim(&network, &x0, &condition, &mut noise, &mut watch) {
            Ok(found) => join(&mut all, found),
            Err(DiffusionError::Stopped { .. }) => return Ok(stopped()),
            Err(error) => return Err(error.into()),
        }
    }
    drop(progress);
    Ok(report(
        args,
        &all,
        &opened,
        &dataset,
        clock.elapsed().as_secs_f64(),
    ))
}

/// The numbers that the network is told of each image; empty if it is told none.
///
/// # Errors   [`ddpm_data::DataError`] for a column that these images have not
fn numbers(opened: &OpenedModel, dataset: &Dataset) -> Result<Vec<Vec<f32>>> {
    if opened.condition.numbers() == 0 {
        return Ok(Vec::new());
    }
    let mut rows = vec![Vec::new(); dataset.len()];
    for scale in &opened.columns {
        let column = dataset.column(&scale.name)?;
        for (row, &number) in rows.iter_mut().zip(&column.values) {
            row.push(scale.told(number));
        }
    }
    let told = |row: Vec<f32>| opened.vector(Some(&row), 0.0);
    Ok(rows.into_iter().map(told).collect())
}

fn join(all: &mut BitsPerDim, found: BitsPerDim) {
    let append = |to: &mut Vec<Vec<f64>>, from: Vec<Vec<f64>>| match to.is_empty() {
        true => *to = from,
        false => to
            .iter_mut()
            .zip(from)
            .for_each(|(to, from)| to.extend(from)),
    };
    append(&mut all.terms, found.terms);
    append(&mut all.x0_error, found.x0_error);
    append(&mut all.eps_error, found.eps_error);
    all.prior.extend(found.prior);
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard error of the mean of independent values; none of a single one.
fn standard_error(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (n > 1.0).then(|| (squares / (n - 1.0) / n).sqrt())
}

fn report(
    args: &BpdArgs,
    all: &BitsPerDim,
    opened: &OpenedModel,
    dataset: &Dataset,
    seconds: f64,
) -> Report {
    let totals = all.total();
    let (total, error) = (mean(&totals), standard_error(&totals));
    let of = all.terms.len();
    let spread = match error {
        Some(error) => format!(" ± {error:.4}"),
        None => String::new(),
    };
    let images = words::some(totals.len() as u64, "image");
    let mut text = format!(
        "{total:.4}{spread} bits per dimension, an upper bound on the negative log-likelihood, of {images} ({}) in \
         {seconds:.1} s\n\n{:>13}  {:>10}  {:>10}  {:>10}\n",
        dataset.describe(),
        "time steps",
        "bits/dim",
        "x0 error",
        "eps error"
    );
    // The terms are many: they are shown in groups of time steps.
    let each = of.div_ceil(ROWS);
    let terms: Vec<f64> = all.terms.iter().map(|term| mean(term)).collect();
    let [x0, eps] = [&all.x0_error, &all.eps_error]
        .map(|errors| -> Vec<f64> { errors.iter().map(|term| mean(term)).collect() });
    for from in (0..of).step_by(each) {
        let to = of.min(from + each);
        let steps = format!("{} to {}", of - 1 - from, of - to);
        text += &format!(
            "{steps:>13}  {:>10.5}  {:>10.5}  {:>10.5}\n",
            terms[from..to].iter().sum::<f64>(),
            mean(&x0[from..to]),
            mean(&eps[from..to])
        );
    }
    text += &format!("{:>13}  {:>10.5}\n", "prior", mean(&all.prior));
    let json = json!({
        "model": shown(&opened.path), "step": opened.step, "images": totals.len(), "data": dataset.describe(),
        "seed": args.seed, "bits_per_dim": total, "standard_error": error, "prior": mean(&all.prior),
        "terms": terms, "x0_error": x0, "eps_error": eps, "per_image": totals, "seconds": seconds,
    });
    Report::done(text, json)
}

fn stopped() -> Report {
    Report {
        text: "stopped; a bound is the sum of all its terms, so there is none\n".into(),
        json: json!({ "stopped": true }),
        exit: Exit::Stopped,
    }
}
