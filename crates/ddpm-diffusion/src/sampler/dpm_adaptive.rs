//! DPM-Solver with an adaptive step.

use burn::tensor::Tensor;
use ddpm_schedule::{Grid, Leg, Level, Process};
use serde::{Deserialize, Serialize};

use super::{About, Evaluations, Method, Step, check, check_noise};
use crate::rows::combine;
use crate::{DiffusionError, Walk};

/// DPM-Solver-12 or -23: each step is made by two orders, and made again shorter where they differ too much
/// (Lu et al. 2022, appendix C; k-diffusion's `sample_dpm_adaptive` and its PID controller).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpmAdaptive {
    /// The higher of the two orders, 2 or 3.
    pub order: usize,
    /// How far the two may lie apart, relative to x/signal; k-diffusion's 0.05 leads images astray that begin at
    /// noise alone, where x/signal is large.
    pub rtol: f64,
    /// The same in its units.
    pub atol: f64,
    /// The first step in λ.
    pub h_init: f64,
    /// How the next step follows from the last error, from their sum, and from their difference.
    pub pcoeff: f64,
    /// See `pcoeff`.
    pub icoeff: f64,
    /// See `pcoeff`.
    pub dcoeff: f64,
    /// A step that should have been shorter than this share of itself is made again.
    pub accept_safety: f64,
    /// How much fresh noise a step adds.
    pub eta: f64,
    /// The deviation of that noise.
    pub s_noise: f64,
}

impl Default for DpmAdaptive {
    fn default() -> Self {
        Self {
            order: 3,
            rtol: 0.01,
            atol: 0.0078,
            h_init: 0.05,
            pcoeff: 0.0,
            icoeff: 1.0,
            dcoeff: 0.0,
            accept_safety: 0.81,
            eta: 0.0,
            s_noise: 1.0,
        }
    }
}

impl Method for DpmAdaptive {
    fn about(&self) -> About {
        About {
            good_for: "a given accuracy instead of a given number of steps; images are sampled one by one",
            order: self.order,
            evaluations: Evaluations::Adaptive,
            usual_steps: 20,
            stochastic: self.eta > 0.0,
            source: "Lu et al. 2022; k-diffusion",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        check("sampler.order", self.order, matches!(self.order, 2 | 3), "2 or 3")?;
        for (key, value) in [
            ("sampler.rtol", self.rtol),
            ("sampler.atol", self.atol),
            ("sampler.h_init", self.h_init),
            ("sampler.accept_safety", self.accept_safety),
        ] {
            check(key, value, value > 0.0 && value.is_finite(), "above 0")?;
        }
        check_noise(self.eta, self.s_noise)
    }

    fn one_by_one(&self) -> bool {
        true
    }

    fn reshape(&self, grid: Grid) -> Grid {
        grid.ends()
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

/// Steps that one leg may take, rejected ones included: an error that no step is short enough for ends there.
const MAX_STEPS: usize = 10_000;

/// Each leg is walked with steps of its own.
impl Step for DpmAdaptive {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, to) = (leg.from.level, leg.to.level);
        if to.is_clean() {
            return Ok(walk.denoise(&x, leg.from)?.x0);
        }
        // y = x/signal, in which σ is all that counts.
        let mut y = x * (1.0 / from.signal);
        let mut before = y.clone();
        let (mut s, end) = (from.lambda(), to.lambda());
        let mut control = Control::new(self);
        for _ in 0..MAX_STEPS {
            if s >= end - 1e-5 {
                break;
            }
            let t = end.min(s + control.h);
            let (down, up) = self.ancestral(s, t, end);
            let (low, high) = self.both(walk, &y, s, down)?;
            let tolerance = low.clone().abs().max_pair(before.clone().abs()) * self.rtol;
            let tolerance = tolerance.clamp_min(self.atol);
            let error = ((low.clone() - high.clone()) / tolerance).square().mean().sqrt();
            let error = read(error, walk.process().time(at(walk, s)))?;
            if control.accepts(error) {
                before = low;
                y = match up == 0.0 {
                    true => high,
                    false => {
                        let z = walk.noise(&high)?;
                        combine(1.0, &high, self.s_noise * up, &z)
                    }
                };
                s = t;
            }
        }
        match s >= end - 1e-5 {
            true => Ok(y * to.signal),
            false => Err(DiffusionError::Sampler {
                sampler: "dpm_adaptive",
                problem: format!(
                    "found no step short enough within {MAX_STEPS} tries; raise sample.sampler.rtol or \
                     sample.sampler.atol"
                ),
            }),
        }
    }
}

fn at(walk: &Walk<'_>, lambda: f64) -> Level {
    walk.process().at_sigma((-lambda).exp())
}

fn read(error: Tensor<1>, t: f64) -> Result<f64, DiffusionError> {
    let data = error.try_into_data().map_err(|error| DiffusionError::Network {
        t,
        source: error.to_string().into(),
    })?;
    Ok(data.iter::<f32>().next().map_or(f64::NAN, f64::from))
}

impl DpmAdaptive {
    /// Where the deterministic part of a step leads, in λ, and the σ of fresh noise after it.
    fn ancestral(&self, s: f64, t: f64, end: f64) -> (f64, f64) {
        if self.eta == 0.0 {
            return (t, 0.0);
        }
        let [from, to] = [s, t].map(|lambda| (-lambda).exp());
        let up = (self.eta * to * (1.0 - (to / from).powi(2)).max(0.0).sqrt()).min(to);
        let down = end.min(-(to * to - up * up).max(0.0).sqrt().ln());
        let up = (to * to - (-2.0 * down).exp()).max(0.0).sqrt();
        (down, up)
    }

    /// y at λ = `t` by the lower and by the higher order.
    fn both(
        &self,
        walk: &mut Walk<'_>,
        y: &Tensor<4>,
        s: f64,
        t: f64,
    ) -> Result<(Tensor<4>, Tensor<4>), DiffusionError> {
        let h = t - s;
        let sigma = |lambda: f64| (-lambda).exp();
        let eps = self.eps(walk, y, s)?;
        let first = combine(1.0, y, -sigma(t) * h.exp_m1(), &eps);
        // The first inner place, and the step of order 2 that it makes.
        let r1 = if self.order == 2 { 0.5 } else { 1.0 / 3.0 };
        let s1 = s + r1 * h;
        let u1 = combine(1.0, y, -sigma(s1) * (r1 * h).exp_m1(), &eps);
        let bend1 = self.eps(walk, &u1, s1)? - eps.clone();
        let second = combine(1.0, &first, -sigma(t) / (2.0 * r1) * h.exp_m1(), &bend1);
        if self.order == 2 {
            return Ok((first, second));
        }
        let r2 = 2.0 / 3.0;
        let s2 = s + r2 * h;
        let u2 = combine(1.0, y, -sigma(s2) * (r2 * h).exp_m1(), &eps);
        let gain = -sigma(s2) * (r2 / r1) * ((r2 * h).exp_m1() / (r2 * h) - 1.0);
        let u2 = combine(1.0, &u2, gain, &bend1);
        let bend2 = self.eps(walk, &u2, s2)? - eps;
        let gain = -sigma(t) / r2 * (h.exp_m1() / h - 1.0);
        Ok((second, combine(1.0, &first, gain, &bend2)))
    }

    /// ε̂ = (y - x̂0)/σ.
    fn eps(
        &self,
        walk: &mut Walk<'_>,
        y: &Tensor<4>,
        lambda: f64,
    ) -> Result<Tensor<4>, DiffusionError> {
        let level = at(walk, lambda);
        let x0 = walk.denoise(&(y.clone() * level.signal), walk.stop(level))?.x0;
        let sigma = level.sigma();
        Ok(combine(1.0 / sigma, y, -1.0 / sigma, &x0))
    }
}

/// The length of the next step.
struct Control {
    h: f64,
    powers: [f64; 3],
    accept_safety: f64,
    /// 1/error of the last steps, the newest first.
    inverse: Option<[f64; 3]>,
}

impl Control {
    fn new(rules: &DpmAdaptive) -> Self {
        let order = if rules.eta > 0.0 { 1.5 } else { rules.order as f64 };
        let (p, i, d) = (rules.pcoeff, rules.icoeff, rules.dcoeff);
        Self {
            h: rules.h_init,
            powers: [(p + i + d) / order, -(p + 2.0 * d) / order, d / order],
            accept_safety: rules.accept_safety,
            inverse: None,
        }
    }

    fn accepts(&mut self, error: f64) -> bool {
        let newest = 1.0 / (error + 1e-8);
        let [_, second, third] = self.inverse.unwrap_or([newest; 3]);
        let [a, b, c] = self.powers;
        let factor = newest.powf(a) * second.powf(b) * third.powf(c);
        let factor = 1.0 + (factor - 1.0).atan();
        let accepted = factor >= self.accept_safety;
        self.inverse = Some(match accepted {
            true => [newest, newest, second],
            false => [newest, second, third],
        });
        self.h *= factor;
        accepted
    }
}
