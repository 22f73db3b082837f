//! Its tables of σ, and the steps of a table of β that they lie at.

use ddpm_schedule::{Edm, GridConfig, GridRules, Level, Process, Spacing, Vp};
use serde_json::json;

use super::wrapped_table;
use crate::compare::{by_number, larger, relative};
use crate::keys::{Keys, needed, unsupported};

pub(super) fn sigma_to_t(keys: &mut Keys) -> anyhow::Result<f64> {
    let process = wrapped_table()?;
    let sigma = needed(keys.numbers("sigma"), "sigma")?;
    let time = |sigma: &f64| process.time(Level::variance_preserving(*sigma));
    let ours: Vec<f64> = sigma.iter().map(time).collect();
    let whole: Vec<f64> = ours.iter().map(|time| time.round_ties_even()).collect();
    let times = needed(keys.numbers("t_in"), "t_in")?;
    let sigmas: Vec<f64> = times
        .iter()
        .map(|time| process.level(*time).sigma())
        .collect();
    Ok([
        by_number(&ours, &needed(keys.numbers("t"), "t")?),
        by_number(&whole, &needed(keys.numbers("t_quantized"), "t_quantized")?),
        relative(&sigmas, &needed(keys.numbers("sigma_out"), "sigma_out")?),
    ]
    .into_iter()
    .fold(0.0, larger))
}

/// The σ of a `kind` of table, the one of the image at the end.
pub(super) fn sigmas(kind: &str, n: usize, args: &mut Keys) -> anyhow::Result<Vec<f64>> {
    let ends = |args: &mut Keys| {
        let sigma_min = Some(needed(args.number("sigma_min"), "sigma_min")?);
        let sigma_max = Some(needed(args.number("sigma_max"), "sigma_max")?);
        anyhow::Ok((sigma_min, sigma_max))
    };
    let (process, spacing) = match kind {
        "karras" => {
            let (sigma_min, sigma_max) = ends(args)?;
            let rho = args.number("rho")?.unwrap_or(7.0);
            (
                Process::Edm(Edm::default()),
                Spacing::Karras {
                    rho,
                    sigma_min,
                    sigma_max,
                },
            )
        }
        "exponential" => {
            let (sigma_min, sigma_max) = ends(args)?;
            (
                Process::Edm(Edm::default()),
                Spacing::Exponential {
                    sigma_min,
                    sigma_max,
                },
            )
        }
        "polyexponential" => {
            let (sigma_min, sigma_max) = ends(args)?;
            let rho = args.number("rho")?.unwrap_or(1.0);
            (
                Process::Edm(Edm::default()),
                Spacing::Polyexponential {
                    rho,
                    sigma_min,
                    sigma_max,
                },
            )
        }
        "vp" => {
            let beta_min = args.number("beta_min")?.unwrap_or(0.1);
            let vp = Vp {
                beta_min,
                beta_max: beta_min + args.number("beta_d")?.unwrap_or(19.9),
                t_min: args.number("eps_s")?.unwrap_or(1e-3),
            };
            (Process::Vp(vp), Spacing::Linspace {})
        }
        other => {
            let expected = "karras, exponential, polyexponential or vp";
            return Err(unsupported("kind", &json!(other), expected));
        }
    };
    let grid = GridConfig {
        spacing,
        steps: n,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(&process)?;
    let legs = grid.legs().iter();
    let from = legs.clone().map(|leg| leg.from.level.sigma());
    Ok(from
        .chain(legs.last().map(|leg| leg.to.level.sigma()))
        .collect())
}

pub(super) fn table(case: &mut Keys) -> anyhow::Result<f64> {
    let kind = needed(case.text("kind"), "kind")?;
    let n = needed(case.count("n"), "n")?;
    let mut args = needed(case.object("args"), "args")?;
    let ours = sigmas(&kind, n, &mut args)?;
    args.finish()?;
    Ok(relative(&ours, &needed(case.numbers("sigmas"), "sigmas")?))
}
