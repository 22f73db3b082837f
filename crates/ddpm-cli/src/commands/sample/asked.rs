//! What the arguments of `ddpm sample` ask for, checked against the model.

use std::path::Path;

use anyhow::Result;
use ddpm_diffusion::{PictureKind, Plan, SampleConfig, Sampler};
use ddpm_model::OpenedModel;
use ddpm_store::checkpoint::Weights;
use ddpm_unet::{Conditioning, Cost, Model, UnetError};

use crate::args::SamplingArgs;
use crate::exit::UsageError;
use crate::{recipe, words};

/// Images a call, at most: as many as have five digits in their names, and some.
const MAX_IMAGES: usize = 1_000_000;

/// Share of the image's signal at the first time step from which on starting with pure noise shows.
const MUCH_SIGNAL: f64 = 0.1;

/// Numbers of images that no model could mean.
///
/// # Errors   [`UsageError`]
pub fn check_counts(n: Option<usize>, batch: Option<usize>) -> Result<(), UsageError> {
    let refuse = |text: String| Err(UsageError(text));
    if let Some(n) = n.filter(|n| !(1..=MAX_IMAGES).contains(n)) {
        return refuse(format!("--n {n}: must be between 1 and {MAX_IMAGES}"));
    }
    match batch {
        Some(0) => refuse("--batch 0: must be at least 1".into()),
        _ => Ok(()),
    }
}

/// A number of the first image that no set has.
///
/// # Errors   [`UsageError`]
pub fn check_first(first: u64) -> Result<(), UsageError> {
    match first > u64::from(u32::MAX) {
        true => Err(UsageError(format!(
            "--first {first}: must be at most {}",
            u32::MAX
        ))),
        false => Ok(()),
    }
}

/// The size of the images, with a warning if the network has learned quite another one, and its figures. `option` is
/// what says it.
///
/// # Errors   [`UsageError`] if nobody says the size or the network cannot draw it
pub fn size(
    option: &str,
    asked: Option<[usize; 2]>,
    opened: &OpenedModel,
) -> Result<([usize; 2], Cost), UsageError> {
    let size = asked.or(opened.size).ok_or_else(|| {
        UsageError(format!(
            "this model does not say its image size; give it with {option} 32"
        ))
    })?;
    let [height, width] = size;
    let cannot = |why: String| UsageError(format!("{option} {height}x{width}: {why}"));
    let multiple = match &opened.model {
        Model::Unet(unet) if !unet.pads() => unet.config().size_multiple(),
        Model::Edm(edm) if !edm.config().pad => 1 << (edm.config().channel_mult.len() - 1),
        Model::Edm2(edm2) if !edm2.config().pad => 1 << (edm2.config().channel_mult.len() - 1),
        Model::Lucidrains(network) if !network.config().pad => {
            1 << (network.config().dim_mults.len() - 1)
        }
        _ => 1,
    };
    if size.iter().any(|side| side % multiple != 0) {
        let [up, down] = [true, false].map(|up| near(size, multiple, up));
        let near = if up == down {
            up
        } else {
            format!("{down} or {up}")
        };
        return Err(cannot(format!(
            "the levels of this network divide sides by {multiple}; take {near}"
        )));
    }
    let figures = match &opened.model {
        Model::Unet(unet) => Cost::of_unet(unet.config(), size),
        Model::Plain(plain) => Cost::of_plain(plain.channels(), plain.features(), size),
        Model::Edm(edm) => Cost::of_edm(edm.config(), size),
        Model::Edm2(edm2) => Cost::of_edm2(edm2.config(), size),
        Model::Lucidrains(network) => Cost::of_lucidrains(network.config(), size),
    };
    let figures = figures.map_err(|error: UnetError| cannot(error.to_string()))?;
    if let Some(trained) = opened.size
        && let Some(warning) = far(option, size, trained)
    {
        tracing::warn!("{warning}");
    }
    Ok((size, figures))
}

fn near(size: [usize; 2], multiple: usize, up: bool) -> String {
    let [height, width] = size.map(|side| match up {
        true => side.next_multiple_of(multiple),
        false => (side / multiple).max(1) * multiple,
    });
    format!("{height}x{width}")
}

/// What is to be said of a size that is far from the one that was learned.
fn far(option: &str, size: [usize; 2], trained: [usize; 2]) -> Option<String> {
    let is_far = |(side, trained): (&usize, &usize)| *side > 2 * trained || 2 * side < *trained;
    size.iter().zip(&trained).any(is_far).then(|| {
        format!(
            "{option} {}x{}: the network was trained on images of {}x{}, and what it draws at more than twice or \
             less than half of a side seldom makes sense",
            size[0], size[1], trained[0], trained[1]
        )
    })
}

/// What the options make of the model's own way of sampling: `[sample]` of its configuration, with another sampler or
/// spacing, and what `--set` says.
///
/// # Errors   [`UsageError`] naming the option
pub fn sampling(
    args: &SamplingArgs,
    guidance: Option<f64>,
    own: &SampleConfig,
) -> Result<SampleConfig, UsageError> {
    let mut config = own.clone();
    if let Some(name) = &args.sampler
        && name != own.sampler.name()
    {
        let named = Sampler::all().into_iter().find(|one| one.name() == name);
        config.sampler = named.ok_or_else(|| UsageError(format!("--sampler {name}: unknown")))?;
        // How another sampler spreads its steps is not how this one does.
        config.grid = Default::default();
        let old = |sampler: &Sampler| {
            matches!(
                sampler,
                Sampler::Ddpm(_) | Sampler::Ddim(_) | Sampler::Pndm(_)
            )
        };
        if !(old(&own.sampler) && old(&config.sampler)) {
            (config.spacing, config.offset) = (None, 0);
        }
    }
    config.steps = args.steps.or(config.steps);
    let mut set: Vec<String> = Vec::new();
    if let Some(name) = &args.spacing {
        set.push(format!("sample.spacing={name}"));
    }
    if let Some(scale) = guidance {
        set.push(format!("sample.guidance.scale={scale}"));
    }
    if let Some(eta) = args.eta {
        check_eta(eta, &config.sampler)?;
        set.push(format!("sample.sampler.eta={eta}"));
    }
    let by_hand = args.set.iter().map(|set| match set.starts_with("sample.") {
        true => set.clone(),
        false => format!("sample.{set}"),
    });
    set.extend(by_hand);
    match set.is_empty() {
        true => Ok(config),
        false => recipe::sampling(&config, &set),
    }
}

/// The worse network that guidance leads away from.
///
/// # Errors   those of opening it; [`UsageError`] if its output means something else, or its images are of another shape
pub fn guide(
    by: Option<&Path>,
    weights: Option<Weights>,
    opened: &OpenedModel,
    config: &SampleConfig,
) -> Result<Option<OpenedModel>> {
    let refuse = |text: String| Err(UsageError(text).into());
    let guided = config.guidance.is_some_and(|guidance| guidance.is_on());
    let Some(path) = by else {
        return match (guided, opened.model.conditioning()) {
            (true, Conditioning::Classes { null: None, .. } | Conditioning::Number) => refuse(
                "guidance: this network has no class that stands for none; train with condition.dropout above 0, or \
                 name a worse network with --guide-by"
                    .into(),
            ),
            (true, Conditioning::None) if opened.condition.columns.is_empty() => refuse(
                "guidance: this network is told no classes, so there is nothing to lead away from; leave --guidance \
                 out, or name a worse network with --guide-by"
                    .into(),
            ),
            _ => Ok(None),
        };
    };
    if !guided {
        return refuse(format!(
            "--guide-by {}: has no effect without --guidance above 1; add --guidance 2",
            path.display()
        ));
    }
    let guide = OpenedModel::open(path, weights, &opened.device)?;
    let differs = [
        (
            "process",
            guide.process != opened.process || guide.schedule != opened.schedule,
        ),
        ("prediction", guide.meaning != opened.meaning),
        ("channels", guide.channels != opened.channels),
        (
            "classes",
            guide.model.conditioning() != opened.model.conditioning(),
        ),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(Some(guide)),
        Some((what, _)) => refuse(format!(
            "--guide-by {}: its {what} is not that of {}; name an earlier checkpoint of the same run, or a smaller \
             network trained in the same way",
            path.display(),
            opened.path.display()
        )),
    }
}

/// # Errors   [`UsageError`] for an `--eta` that the sampler would not heed
fn check_eta(eta: f64, sampler: &Sampler) -> Result<(), UsageError> {
    let options = serde_json::to_value(sampler).unwrap_or_default();
    match options.get("eta").is_some() {
        true => Ok(()),
        false => Err(UsageError(format!(
            "--eta {eta}: the sampler {} has no eta; add --sampler ddim or another that has (`ddpm samplers` lists \
             them), or leave --eta out",
            sampler.name()
        ))),
    }
}

/// What is to be said of a plan that starts from pure noise at a level where an image still has much of its signal.
pub fn start_warning(plan: &Plan) -> Option<String> {
    let first = plan.grid().legs().first()?.from;
    let schedule = plan.process().schedule()?;
    let last = schedule.len().checked_sub(1)?;
    let (signal, least) = (first.level.signal, schedule.level(last).signal);
    let shows = first.time < last as f64 && signal > MUCH_SIGNAL && signal > 2.0 * least;
    shows.then(|| {
        format!(
            "with {} sampling begins at time step {} of 0 to {last}, where {} of an image's signal is left, but it \
             begins with pure noise, so that the images stay noisy; add --spacing trailing, or more --steps",
            words::some(plan.steps() as u64, "step"),
            first.time,
            words::percent(signal),
        )
    })
}

/// Refuses a network that makes images from pictures, which only some edits have.
///
/// # Errors   [`UsageError`]
pub fn check_no_picture(opened: &OpenedModel) -> Result<(), UsageError> {
    let (what, edit) = match opened.condition.kind {
        None => return Ok(()),
        Some(PictureKind::LowResolution) => ("small pictures", "enlarge"),
        Some(PictureKind::Gray) => ("grey pictures", "colourise"),
    };
    Err(UsageError(format!(
        "{}: this network makes images from {what}; draw with `ddpm edit {edit} PICTURE`",
        opened.path.display()
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ddpm_diffusion::sampler::ddim::Ddim;
    use ddpm_schedule::{Prediction, Process, ScheduleConfig, Spacing};

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn far_sizes_are_told_with_both() {
        for (size, expected) in [
            ([64, 64], false),
            ([16, 16], false),
            ([65, 32], true),
            ([32, 15], true),
            ([32, 32], false),
        ] {
            assert_eq!(
                far("--size", size, [32, 32]).is_some(),
                expected,
                "{size:?}"
            );
        }
        let said = far("--size", [128, 32], [32, 32]).unwrap();
        assert!(
            said.contains("128x32") && said.contains("images of 32x32"),
            "{said}"
        );
    }

    #[test]
    fn sizes_that_the_levels_divide_are_near() {
        assert_eq!(near([30, 64], 8, true), "32x64");
        assert_eq!(near([30, 64], 8, false), "24x64");
        assert_eq!(near([3, 3], 8, false), "8x8");
    }

    fn asked(own: &SampleConfig, options: &[&str]) -> Result<SampleConfig, String> {
        let typed = ["ddpm", "sample"].iter().chain(options);
        let cli = Cli::try_parse_from(typed).map_err(|error| error.to_string())?;
        let Command::Sample(args) = cli.command else {
            unreachable!("it is sample")
        };
        sampling(&args.sampling, args.told.guidance, own).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_heeded_or_refused() {
        let own = SampleConfig::default();
        assert_eq!(asked(&own, &[]).unwrap(), own);
        let ddim = asked(&own, &["--sampler", "ddim", "--eta", "0.5", "--steps", "7"]).unwrap();
        assert_eq!(ddim.ddim().unwrap().eta, 0.5);
        assert_eq!(ddim.steps, Some(7));
        let heun = asked(&own, &["--sampler", "heun", "--set", "sampler.s_churn=40"]).unwrap();
        let written = toml::to_string(&heun).unwrap();
        assert!(written.contains("s_churn = 40"), "{written}");
        let spaced = [
            "--sampler",
            "heun",
            "--spacing",
            "karras",
            "--set",
            "spacing.rho=5",
        ];
        let spaced = asked(&own, &spaced).unwrap();
        assert_eq!(spaced.spacing.unwrap().name(), "karras");
        // The same sampler keeps what the model says of it.
        assert_eq!(asked(&ddim, &["--sampler", "ddim"]).unwrap(), ddim);
        for (options, words) in [
            (&["--eta", "0.5"][..], "eta"),
            (&["--sampler", "heum"], "heun"),
            (&["--spacing", "karas"], "karras"),
            (
                &["--sampler", "heun", "--set", "sampler.s_chrn=4"],
                "s_chrn",
            ),
            (&["--set", "sampler"], "no `=`"),
            (&["--set", "train.steps=3"], "train"),
        ] {
            let refused = asked(&own, options).unwrap_err();
            assert!(refused.contains(words), "{options:?}: {refused}");
        }
    }

    #[test]
    fn starting_in_the_middle_is_told() {
        let process = Process::Discrete(ScheduleConfig::default().build().unwrap());
        for (steps, spacing, expected) in [
            (
                1,
                Spacing::Leading {},
                Some("with 1 step sampling begins at time step 0 of 0 to 999, where 100% of"),
            ),
            (
                2,
                Spacing::Leading {},
                Some("with 2 steps sampling begins at time step 500 of 0 to 999, where 28% of"),
            ),
            (1, Spacing::Trailing {}, None),
            (50, Spacing::Leading {}, None),
            (1000, Spacing::Leading {}, None),
        ] {
            let config = SampleConfig {
                sampler: Sampler::Ddim(Ddim::default()),
                steps: Some(steps),
                spacing: Some(spacing.clone()),
                ..SampleConfig::default()
            };
            let plan = config.plan(&process, Prediction::Eps).unwrap();
            let said = start_warning(&plan);
            match expected {
                None => assert_eq!(said, None, "{steps} {spacing}"),
                Some(start) => assert!(
                    said.as_ref().is_some_and(|said| said.starts_with(start)),
                    "{said:?}"
                ),
            }
        }
    }
}
