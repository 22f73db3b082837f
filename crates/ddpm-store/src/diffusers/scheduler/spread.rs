//! Which levels of a table are visited.
//!
//! The classes fall into two families: those of whole steps, which spread one step more than they visit, and those of
//! k-diffusion, which visit real-valued steps.

use ddpm_diffusion::SampleConfig;
use ddpm_schedule::{GridConfig, GridRules, Level, Process, Schedule, Spacing, Told};
use serde_json::json;

use super::curves::{RHO, curve};
use super::{Asked, ends_above};
use crate::diffusers::keys::Keys;
use crate::error::Result;

/// A spacing by σ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Curve {
    /// `use_karras_sigmas`.
    Karras,
    /// `use_exponential_sigmas` and `use_lu_lambdas`.
    Exponential,
    /// `use_beta_sigmas`.
    Beta,
}

/// `timestep_spacing`.
pub(super) fn spacing(keys: &mut Keys<'_>, default: Spacing) -> Result<Spacing> {
    match keys.text("timestep_spacing")?.as_deref() {
        None => Ok(default),
        Some("leading") => Ok(Spacing::Leading {}),
        Some("linspace") => Ok(Spacing::Linspace {}),
        Some("trailing") => Ok(Spacing::Trailing {}),
        Some(other) => {
            let expected = "leading, linspace or trailing";
            Err(keys.refusal("timestep_spacing", &json!(other), expected))
        }
    }
}

/// `use_*_sigmas`.
pub(super) fn by_sigma(keys: &mut Keys<'_>) -> Result<Option<Curve>> {
    let mut found = Vec::new();
    for (key, curve) in [
        ("use_karras_sigmas", Curve::Karras),
        ("use_exponential_sigmas", Curve::Exponential),
        ("use_beta_sigmas", Curve::Beta),
    ] {
        if keys.boolean(key)?.unwrap_or(false) {
            found.push(curve);
        }
    }
    match found[..] {
        [] => Ok(None),
        [curve] => Ok(Some(curve)),
        _ => {
            let expected = "one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas";
            Err(keys.refusal("use_beta_sigmas", &json!(true), expected))
        }
    }
}

/// `timesteps` of `set_timesteps`.
fn listed(call: &mut Asked<'_>) -> Result<Option<Spacing>> {
    let times = call.set_timesteps.numbers("timesteps")?;
    Ok(times.map(|times| Spacing::Times { times }))
}

/// The whole steps that DDPM, DDIM and PNDM visit.
pub(super) fn plain(
    keys: &mut Keys<'_>,
    call: &mut Asked<'_>,
    rules: GridRules,
) -> Result<SampleConfig> {
    let spacing = spacing(keys, Spacing::Leading {})?;
    Ok(SampleConfig {
        steps: Some(call.steps),
        spacing: Some(listed(call)?.unwrap_or(spacing)),
        offset: keys.count("steps_offset")?.unwrap_or(0),
        grid: rules,
        ..SampleConfig::default()
    })
}

/// How a class of whole steps rounds the steps of σ.
pub(super) struct Rounding {
    /// Of `use_karras_sigmas` and `use_lu_lambdas`.
    pub(super) karras: Told,
    /// Whether it knows `lambda_min_clipped`.
    pub(super) clips: bool,
}

/// The levels that DPM-Solver, DEIS and UniPC visit.
pub(super) fn whole(
    keys: &mut Keys<'_>,
    call: &mut Asked<'_>,
    process: &Process,
    rounding: &Rounding,
) -> Result<SampleConfig> {
    let base = spacing(keys, Spacing::Linspace {})?;
    let ends = [keys.number("sigma_min")?, keys.number("sigma_max")?];
    let lu = keys.boolean("use_lu_lambdas")?.unwrap_or(false);
    let named = by_sigma(keys)?;
    let mut grid = GridRules {
        to_first: ends_above(keys)?,
        ..GridRules::default()
    };
    let offset = keys.count("steps_offset")?.unwrap_or(0);
    let list = listed(call)?;
    if list.is_some() && (lu || named.is_some()) {
        let expected = "none beside a spacing by sigma";
        return Err(call
            .set_timesteps
            .refusal("timesteps", &json!(call.steps), expected));
    }
    let spacing = match (named, lu, list) {
        (Some(Curve::Karras), ..) => {
            grid.told = rounding.karras;
            at_sigmas(Curve::Karras, call.steps, ends, of_table(process))
        }
        (_, true, _) => {
            grid.told = rounding.karras;
            at_sigmas(Curve::Exponential, call.steps, [None; 2], of_table(process))
        }
        (Some(curve), ..) => {
            grid.told = Told::Below;
            at_sigmas(curve, call.steps, ends, of_table(process))
        }
        (None, false, Some(list)) => list,
        (None, false, None) => match clipped(keys, process, rounding)? {
            None => {
                grid.open_end = true;
                base
            }
            Some(last) => Spacing::Times {
                times: up_to(keys, process, last, &base, call.steps, offset)?,
            },
        },
    };
    // Where a spacing by σ comes before it.
    keys.drop(&["lambda_min_clipped"]);
    Ok(SampleConfig {
        steps: Some(call.steps),
        spacing: Some(spacing),
        offset,
        grid,
        clip: false,
        ..SampleConfig::default()
    })
}

/// The levels that Euler, Heun, LMS and DPM2 visit; `karras` is what their networks are told at levels of that spacing.
pub(super) fn fractional(
    keys: &mut Keys<'_>,
    call: &mut Asked<'_>,
    process: &Process,
    karras: Told,
) -> Result<SampleConfig> {
    let base = spacing(keys, Spacing::Linspace {})?;
    let offset = keys.count("steps_offset")?.unwrap_or(0);
    let ends = [keys.number("sigma_min")?, keys.number("sigma_max")?];
    let named = by_sigma(keys)?;
    let mut grid = GridRules {
        to_first: ends_above(keys)?,
        fractional: true,
        ..GridRules::default()
    };
    let log_linear = match keys.text("interpolation_type")?.as_deref() {
        None | Some("linear") => false,
        Some("log_linear") => true,
        Some(other) => {
            let expected = "linear or log_linear";
            return Err(keys.refusal("interpolation_type", &json!(other), expected));
        }
    };
    let given = call.set_timesteps.numbers("sigmas")?;
    let spacing = match (named, listed(call)?, given) {
        (_, None, Some(sigmas)) => {
            // The last one is where the last step ends.
            grid.open_end = sigmas.last() != Some(&0.0);
            grid.to_first = false;
            let keep = sigmas.len() - usize::from(!grid.open_end);
            Spacing::Sigmas {
                sigmas: sigmas[..keep].to_vec(),
            }
        }
        (None, Some(list), None) if !log_linear => list,
        (None, None, None) if !log_linear => base,
        (None, None, None) if base == (Spacing::Linspace {}) => {
            // One σ more than there are steps: the last step ends there, and never comes to the image.
            grid.open_end = true;
            grid.told = Told::Linspace;
            Spacing::Exponential {
                sigma_min: None,
                sigma_max: None,
            }
        }
        (Some(named), None, None) => {
            if named == Curve::Karras {
                grid.told = karras;
            }
            let table = match log_linear {
                true => of_table(process),
                false => {
                    grid.within = Some(base.clone());
                    of_base(keys, process, &base, call.steps, offset)?
                }
            };
            at_sigmas(named, call.steps, ends, table)
        }
        _ => {
            let expected = "linear beside other steps than those of linspace";
            return Err(keys.refusal("interpolation_type", &json!("log_linear"), expected));
        }
    };
    Ok(SampleConfig {
        steps: Some(call.steps),
        spacing: Some(spacing),
        offset,
        grid,
        clip: false,
        ..SampleConfig::default()
    })
}

/// The ends of the whole table in σ, the lower one first.
fn of_table(process: &Process) -> [f64; 2] {
    [process.least_noisy(), process.noisiest()].map(|level| level.with_signal().sigma())
}

/// The ends of a spacing of steps.
fn of_base(
    keys: &Keys<'_>,
    process: &Process,
    base: &Spacing,
    steps: usize,
    offset: usize,
) -> Result<[f64; 2]> {
    let grid = GridConfig {
        spacing: base.clone(),
        steps,
        offset,
        rules: GridRules::default(),
    };
    let grid = keys.made(grid.build(process))?;
    let legs = grid.legs();
    let ends = [legs[legs.len() - 1], legs[0]].map(|leg| leg.from.level);
    Ok(ends.map(|level: Level| level.with_signal().sigma()))
}

fn at_sigmas(
    named: Curve,
    steps: usize,
    [sigma_min, sigma_max]: [Option<f64>; 2],
    [low, high]: [f64; 2],
) -> Spacing {
    match named {
        Curve::Karras => Spacing::Karras {
            rho: RHO,
            sigma_min,
            sigma_max,
        },
        Curve::Exponential => Spacing::Exponential {
            sigma_min,
            sigma_max,
        },
        Curve::Beta => Spacing::Sigmas {
            sigmas: curve(
                named,
                steps,
                sigma_min.unwrap_or(low),
                sigma_max.unwrap_or(high),
            ),
        },
    }
}

/// `lambda_min_clipped`: how many steps of the table have no smaller λ, if not all.
fn clipped(keys: &mut Keys<'_>, process: &Process, rounding: &Rounding) -> Result<Option<usize>> {
    if !rounding.clips {
        return Ok(None);
    }
    let least = keys
        .number("lambda_min_clipped")?
        .unwrap_or(f64::NEG_INFINITY);
    let levels = process.schedule().map(Schedule::levels).unwrap_or_default();
    let left = levels
        .iter()
        .filter(|level| level.with_signal().lambda() >= least)
        .count();
    Ok((left < levels.len()).then_some(left))
}

/// The steps of a spacing over the first `last` ones of a table.
fn up_to(
    keys: &Keys<'_>,
    process: &Process,
    last: usize,
    base: &Spacing,
    steps: usize,
    offset: usize,
) -> Result<Vec<f64>> {
    let betas = process.schedule().map(Schedule::betas).unwrap_or_default();
    if matches!(base, Spacing::Trailing {}) {
        let stride = betas.len() as f64 / steps as f64;
        let at = (0..).map(|i| (last as f64 - f64::from(i) * stride).round_ties_even() - 1.0);
        return Ok(at.take_while(|time| *time >= 0.0).collect());
    }
    let grid = GridConfig {
        spacing: base.clone(),
        steps,
        offset,
        rules: GridRules {
            open_end: true,
            ..GridRules::default()
        },
    };
    let table = keys.made(Schedule::from_betas(betas[..last].to_vec()))?;
    let grid = keys.made(grid.build(&Process::Discrete(table)))?;
    Ok(grid.legs().iter().map(|leg| leg.from.time).collect())
}
