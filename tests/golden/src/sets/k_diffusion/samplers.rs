//! Its samplers in our terms.

use ddpm_diffusion::Sampler;
use ddpm_diffusion::sampler::{
    dpm_solver::{DpmSolver, Solver},
    dpm2::Dpm2,
    dpm2_ancestral::Dpm2Ancestral,
    dpmpp_sde::DpmppSde,
    dpmpp2s_ancestral::Dpmpp2sAncestral,
    euler::Euler,
    euler_ancestral::EulerAncestral,
    heun::Heun,
    lms::Lms,
};
use serde_json::json;

use crate::keys::{Keys, unsupported};

/// A sampler by the name of its function.
pub(super) fn sampler(name: &str, args: &mut Keys) -> anyhow::Result<Sampler> {
    Ok(match name {
        "sample_euler" => {
            let (s_churn, s_tmin, s_tmax, s_noise) = churn(args)?;
            Sampler::Euler(Euler {
                s_churn,
                s_tmin,
                s_tmax,
                s_noise,
                ..Euler::default()
            })
        }
        "sample_heun" => {
            let (s_churn, s_tmin, s_tmax, s_noise) = churn(args)?;
            Sampler::Heun(Heun {
                s_churn,
                s_tmin,
                s_tmax,
                s_noise,
                ..Heun::default()
            })
        }
        "sample_dpm_2" => {
            let (s_churn, s_tmin, s_tmax, s_noise) = churn(args)?;
            Sampler::Dpm2(Dpm2 {
                s_churn,
                s_tmin,
                s_tmax,
                s_noise,
            })
        }
        "sample_euler_ancestral" => {
            let (eta, s_noise) = fresh(args)?;
            Sampler::EulerAncestral(EulerAncestral { eta, s_noise })
        }
        "sample_dpm_2_ancestral" => {
            let (eta, s_noise) = fresh(args)?;
            Sampler::Dpm2Ancestral(Dpm2Ancestral { eta, s_noise })
        }
        "sample_dpmpp_2s_ancestral" => {
            let (eta, s_noise) = fresh(args)?;
            Sampler::Dpmpp2sAncestral(Dpmpp2sAncestral { eta, s_noise })
        }
        "sample_dpmpp_sde" => {
            let (eta, s_noise) = fresh(args)?;
            let r = args.number("r")?.unwrap_or(0.5);
            // The cases draw both tensors independently, instead of from k-diffusion's own path.
            Sampler::DpmppSde(DpmppSde {
                eta,
                s_noise,
                r,
                one_path: false,
            })
        }
        "sample_lms" => Sampler::Lms(Lms {
            order: args.count("order")?.unwrap_or(4),
        }),
        "sample_dpmpp_2m" => Sampler::DpmSolver(multistep(2, Solver::Midpoint, (0.0, 1.0))),
        "sample_dpmpp_2m_sde" => {
            let solver = match args.text("solver_type")?.as_deref() {
                None | Some("midpoint") => Solver::Midpoint,
                Some("heun") => Solver::Heun,
                Some(other) => {
                    return Err(unsupported(
                        "solver_type",
                        &json!(other),
                        "midpoint or heun",
                    ));
                }
            };
            Sampler::DpmSolver(multistep(2, solver, fresh(args)?))
        }
        "sample_dpmpp_3m_sde" => Sampler::DpmSolver(multistep(3, Solver::Heun, fresh(args)?)),
        other => {
            return Err(unsupported(
                "sampler",
                &json!(other),
                "one of the samplers of k_diffusion/samplers.rs",
            ));
        }
    })
}

/// Only a step to the image is of a lower order than there are estimates.
fn multistep(order: usize, solver: Solver, (eta, s_noise): (f64, f64)) -> DpmSolver {
    DpmSolver {
        order,
        solver,
        eta,
        s_noise,
        lower_order_final: false,
        ..DpmSolver::default()
    }
}

fn fresh(args: &mut Keys) -> anyhow::Result<(f64, f64)> {
    let eta = args.number("eta")?.unwrap_or(1.0);
    Ok((eta, args.number("s_noise")?.unwrap_or(1.0)))
}

fn churn(args: &mut Keys) -> anyhow::Result<(f64, f64, f64, f64)> {
    let s_churn = args.number("s_churn")?.unwrap_or(0.0);
    let s_tmin = args.number("s_tmin")?.unwrap_or(0.0);
    let s_tmax = args.number("s_tmax")?.unwrap_or(f64::INFINITY);
    Ok((
        s_churn,
        s_tmin,
        s_tmax,
        args.number("s_noise")?.unwrap_or(1.0),
    ))
}
