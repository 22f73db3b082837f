//! What the arguments of `ddpm sample` ask for, checked against the model.

use anyhow::Result;
use ddpm_diffusion::{Plan, SamplerKind};
use ddpm_schedule::Schedule;
use ddpm_train::OpenedModel;
use ddpm_unet::{Conditioning, Figures, Model, UnetError};

use crate::args::SampleArgs;
use crate::exit::UsageError;
use crate::words;

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
) -> Result<([usize; 2], Figures), UsageError> {
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
            Figures::of_unet(unet.config(), size)
        }
        Model::Plain(plain) => Figures::of_plain(plain.channels(), plain.features(), size),
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

/// # Errors   [`UsageError`] for an `--eta` that the sampler would not heed
pub fn check_eta(eta: Option<f64>, sampler: SamplerKind) -> Result<(), UsageError> {
    match (eta, sampler) {
        (Some(eta), SamplerKind::Ddpm) => Err(UsageError(format!(
            "--eta {eta}: the DDPM sampler has no eta, its noise is that of the schedule; add --sampler ddim, or \
             leave --eta out"
        ))),
        _ => Ok(()),
    }
}

/// What is to be said of a plan that starts from pure noise at a time step where an image still has much of its signal.
pub fn start_warning(plan: &Plan, schedule: &Schedule) -> Option<String> {
    let first = plan.steps().first()?;
    let last = schedule.len().checked_sub(1)?;
    let (signal, least) = (first.alpha_bar.sqrt(), schedule.alpha_bar(last).sqrt());
    let shows = first.t < last && signal > MUCH_SIGNAL && signal > 2.0 * least;
    shows.then(|| {
        format!(
            "with {} sampling begins at time step {} of 0 to {last}, where {} of an image's signal is left, but it \
             begins with pure noise, so that the images stay noisy; add --spacing trailing, or more --steps",
            words::some(plan.steps().len() as u64, "step"),
            first.t,
            words::percent(signal),
        )
    })
}

#[cfg(test)]
mod tests {
    use ddpm_diffusion::SampleConfig;
    use ddpm_schedule::{Prediction, ScheduleConfig, Spacing};

    use super::*;

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

    #[test]
    fn eta_is_heeded_or_refused() {
        assert!(check_eta(None, SamplerKind::Ddpm).is_ok());
        assert!(check_eta(Some(0.5), SamplerKind::Ddim).is_ok());
        let refused = check_eta(Some(0.5), SamplerKind::Ddpm)
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("--eta 0.5: the DDPM sampler has no eta"),
            "{refused}"
        );
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
        let schedule = ScheduleConfig::default().build().unwrap();
        for (steps, spacing, expected) in [
            (
                1,
                Spacing::Leading,
                Some("with 1 step sampling begins at time step 0 of 0 to 999, where 100% of"),
            ),
            (
                2,
                Spacing::Leading,
                Some("with 2 steps sampling begins at time step 500 of 0 to 999, where 28% of"),
            ),
            (1, Spacing::Trailing, None),
            (50, Spacing::Leading, None),
            (1000, Spacing::Leading, None),
        ] {
            let config = SampleConfig {
                sampler: SamplerKind::Ddim,
                steps: Some(steps),
                spacing: Some(spacing),
                ..SampleConfig::default()
            };
            let plan = config.plan(&schedule, Prediction::Eps).unwrap();
            let said = start_warning(&plan, &schedule);
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
