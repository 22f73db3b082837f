//! Coefficients of exponential integrators in λ = ln(signal/noise) (Lu et al. 2022; of order 3, k-diffusion's).

use ddpm_schedule::Level;

/// x' = `x`·x + `d0`·D0 + `d1`·D1 + `d2`·D2 + `noise`·z, where D0 is the newest estimate and D1, D2 are its divided
/// differences in units of the step h.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exponential {
    pub(super) x: f64,
    pub(super) d0: f64,
    /// φ-coefficient of the first difference ("heun" in the programs that name it).
    pub(super) d1: f64,
    pub(super) d2: f64,
    pub(super) noise: f64,
}

impl Exponential {
    /// On estimates of x0 (DPM-Solver++), of the ODE (η = 0), the SDE (η = 1) or anything between.
    pub(super) fn on_x0(from: Level, to: Level, eta: f64) -> Self {
        let h = to.lambda() - from.lambda();
        let all = (1.0 + eta) * h;
        let phi1 = -(-all).exp_m1();
        let phi2 = 1.0 - phi1 / all;
        let phi3 = phi2 / all - 0.5;
        Self {
            x: to.noise / from.noise * (-eta * h).exp(),
            d0: to.signal * phi1,
            d1: to.signal * phi2,
            d2: -to.signal * phi3,
            noise: to.noise * (-(-2.0 * eta * h).exp_m1()).sqrt(),
        }
    }

    /// On estimates of ε (DPM-Solver).
    pub(super) fn on_eps(from: Level, to: Level) -> Self {
        let h = to.lambda() - from.lambda();
        let phi1 = h.exp_m1();
        let phi2 = phi1 / h - 1.0;
        let phi3 = phi2 / h - 0.5;
        Self {
            x: to.signal / from.signal,
            d0: -to.noise * phi1,
            d1: -to.noise * phi2,
            d2: -to.noise * phi3,
            noise: 0.0,
        }
    }
}
