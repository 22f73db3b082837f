//! `ddpm eval --train-extractor`: a classifier of a labelled set, whose last hidden layer sees it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use ddpm_data::Dataset;
use ddpm_eval::{About, EvalError, Training, train as train_lenet, training_steps};
use serde_json::json;

use super::super::{Report, shown};
use super::extractors;
use super::folder_of;
use super::named::Named;
use super::stream::{fingerprint, images};
use crate::args::{Common, JudgeArgs};
use crate::exit::{Exit, UsageError};
use crate::terminal::{Progress, Update};
use crate::{signals, words};

/// Trains it and writes its file.
///
/// # Errors   usage, data and device errors with their exit codes
pub fn train(args: &JudgeArgs, common: Common) -> Result<Report> {
    let Some(path) = &args.reference else {
        return Err(UsageError(
            "--train-extractor: name the labelled images with --reference DATA, such as --reference digits".into(),
        )
        .into());
    };
    let named = Named {
        option: "--reference",
        path: Some(path),
        size: None,
        set: &args.reference_set,
    };
    let dataset = Dataset::load(&named.data(path, None)?, 0, &mut |_, _| {})?;
    let (Some(labels), Some(classes)) = (dataset.labels(), dataset.num_classes()) else {
        return Err(UsageError(format!(
            "--train-extractor: {} has no classes to learn; take --extractor inception",
            dataset.describe()
        ))
        .into());
    };
    let picked = ddpm_device::resolve(args.device)?;
    let digest = fingerprint(&dataset)?;
    let file = match args.extractor.to_str() {
        Some("pixels" | "lenet") => extractors::lenet(&digest),
        Some("inception") => {
            return Err(UsageError(
                "--train-extractor trains lenet; name its file with --extractor FILE".into(),
            )
            .into());
        }
        _ => args.extractor.clone(),
    };
    ddpm_store::images::check_writable(folder_of(&file))?;
    let all = images(&dataset, 0..dataset.len())?;
    let stop = signals::listen()
        .context("signals cannot be handled")?
        .flag();
    let quiet = common.quiet > 0;
    let clock = Instant::now();
    let training = Training {
        about: About {
            image: dataset.shape(),
            classes,
            class_names: dataset.class_names().map(<[String]>::to_vec),
            set: digest,
            seed: args.seed,
            steps: training_steps(dataset.len()),
            accuracy: None,
        },
        images: &all,
        labels,
        device: &picked.device,
    };
    let mut progress: Option<Progress> = None;
    let trained = train_lenet(&training, &mut |step, steps, loss| {
        let update = Update {
            step: step as u64,
            loss: Some(loss),
            ..Update::default()
        };
        progress
            .get_or_insert_with(|| Progress::start(0, steps as u64, quiet))
            .update(update);
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    drop(progress);
    let trained = match trained {
        Err(EvalError::Stopped) => {
            return Ok(Report {
                text: "stopped; nothing is written\n".into(),
                json: json!({ "stopped": true }),
                exit: Exit::Stopped,
            });
        }
        trained => trained?,
    };
    trained.save(&file)?;
    let seconds = clock.elapsed().as_secs_f64();
    let accuracy = trained.about.accuracy;
    let named = match accuracy {
        Some(accuracy) => format!(
            "; it names {} of held-out images rightly",
            words::percent(accuracy)
        ),
        None => String::new(),
    };
    Ok(Report::done(
        format!(
            "trained on {} in {seconds:.1} s{named}\n  extractor {}\n",
            dataset.describe(),
            file.display()
        ),
        json!({
            "extractor": shown(&file), "steps": trained.about.steps, "seed": args.seed, "accuracy": accuracy,
            "seconds": seconds, "device": picked.name,
        }),
    ))
}
