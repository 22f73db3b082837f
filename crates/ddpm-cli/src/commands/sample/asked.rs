//! What the arguments of `ddpm sample` ask for, checked against the model.

use anyhow::Result;
use ddpm_diffusion::{Plan, SampleConfig, Sampler};
use ddpm_model::OpenedModel;
use ddpm_unet::{Conditioning, Cost, Model, UnetError};

use crate::args::SampleArgs;
use crate::exit::UsageError;
use crate::{recipe, words};

/// Images a call, at most: as many as have five digits in their names, and some.
const MAX_IMAGES: usize = 1_000_000;

/// Share of the image's signal at the first time step from which on starting with pure noise shows.
const MUCH_SIGNAL: f64 = 0.1;

/// Numbers of images that no model could mean.
///
/// # Errors   [`UsageError`]
pub fn check_counts(args: &SampleArgs) -> Result<(), UsageError> {
    let refuse = |text: String| Err(UsageError(text));
    if let Some(n) = args.n.filter(|n| !(1..=MAX_IMAGES).contains(n)) {
        return refuse(format!("--n {n}: must be between 1 and {MAX_IMAGES}"));
    }
    if args.batch == Some(0) {
        return refuse("--batch 0: must be at least 1".into());
    }
    if args.first > u64::from(u32::MAX) {
        return refuse(format!(
            "--first {}: must be at most {}",
            args.first,
            u32::MAX
        ));
    }
    Ok(())
}

/// The size of the images, with a warning if the network has learned quite another one, and its figures.
///
/// # Errors   [`UsageError`] if nobody says the size or the network cannot draw it
pub fn size(
    asked: Option<[usize; 2]>,
    opened: &OpenedModel,
) -> Result<([usize; 2], Cost), UsageError> {
    let size = asked.or(opened.size).ok_or_else(|| {
        UsageError("this model does not say its image size; give it with --size 32".into())
    })?;
    let [height, width] = size;
    let cannot = |why: String| UsageError(format!("--size {height}x{width}: {why}"));
    let figures = match &opened.model {
        Model::Unet(unet) => {
            let multiple = unet.config().size_multiple();
            if !unet.pads() && size.iter().any(|side| side % multiple != 0) {
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
            Cost::of_unet(unet.config(), size)
        }
        Model::Plain(plain) => Cost::of_plain(plain.channels(), plain.features(), size),
    };
    let figures = figures.map_err(|error: UnetError| cannot(error.to_string()))?;
    if let Some(trained) = opened.size
        && let Some(warning) = far(size, trained)
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
fn far(size: [usize; 2], trained: [usize; 2]) -> Option<String> {
    let is_far = |(side, trained): (&usize, &usize)| *side > 2 * trained || 2 * side < *trained;
    size.iter().zip(&trained).any(is_far).then(|| {
        format!(
            "--size {}x{}: the network was trained on images of {}x{}, and what it draws at more than twice or \
             less than half of a side seldom makes sense",
            size[0], size[1], trained[0], trained[1]
        )
    })
}

/// The class of all images.
///
/// # Errors   [`UsageError`] if the network has none of that number, or takes none
pub fn class(asked: Option<usize>, conditioning: Conditioning) -> Result<Option<i64>, UsageError> {
    let refuse = |text: String| Err(UsageError(text));
    match (conditioning, asked) {
        (Conditioning::None, None) => Ok(None),
        (Conditioning::None, Some(class)) => refuse(format!(
            "--class {class}: this network has no classes; leave --class out"
        )),
        (Conditioning::Embedding, _) => refuse(
            "this network takes ready-made embeddings as classes, which `sample` has no option for"
                .into(),
        ),
        (Conditioning::Classes(count), None) => refuse(format!(
            "this network is class-conditional; choose with --class 0 to {}",
            count.saturating_sub(1)
        )),
        (Conditioning::Classes(count), Some(class)) if class >= count => refuse(format!(
            "--class {class}: this network has the classes 0 to {}",
            count.saturating_sub(1)
        )),
        (Conditioning::Number, None) => {
            refuse("this network is class-conditional; choose with --class".into())
        }
        (_, Some(class)) => match i64::try_from(class) {
            Ok(class) => Ok(Some(class)),
            Err(_) => refuse(format!("--class {class}: must be at most {}", i64::MAX)),
        },
    }
}

/// What the options make of the model's own way of sampling: `[sample]` of its configuration, with another sampler or
/// spacing, and what `--set` says.
///
/// # Errors   [`UsageError`] naming the option
pub fn sampling(args: &SampleArgs, own: &SampleConfig) -> Result<SampleConfig, UsageError> {
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
            assert_eq!(far(size, [32, 32]).is_some(), expected, "{size:?}");
        }
        let said = far([128, 32], [32, 32]).unwrap();
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
        sampling(&args, own).map_err(|error| error.to_string())
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
    fn classes_are_checked() {
        for (asked, conditioning, expected) in [
            (None, Conditioning::None, Some(None)),
            (Some(0), Conditioning::None, None),
            (Some(9), Conditioning::Classes(10), Some(Some(9))),
            (Some(10), Conditioning::Classes(10), None),
            (None, Conditioning::Classes(10), None),
            (Some(7), Conditioning::Number, Some(Some(7))),
            (Some(usize::MAX), Conditioning::Number, None),
            (None, Conditioning::Number, None),
            (Some(1), Conditioning::Embedding, None),
        ] {
            assert_eq!(class(asked, conditioning).ok(), expected, "{asked:?}");
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
