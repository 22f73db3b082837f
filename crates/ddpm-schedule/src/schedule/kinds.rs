//! One function for each shape: T values of β.

use std::f64::consts::FRAC_PI_2;

/// The largest β of the schedules that are given by ᾱ (Nichol & Dhariwal 2021, section 3.2).
const MAX_BETA: f64 = 0.999;

/// β from `start` to `end` in equal steps (Ho et al. 2020, section 4).
pub(super) fn linear(start: f64, end: f64, steps: usize) -> Vec<f64> {
    linspace(start, end, steps).collect()
}

/// (linspace √start..√end)², latent diffusion's schedule.
pub(super) fn scaled_linear(start: f64, end: f64, steps: usize) -> Vec<f64> {
    linspace(start.sqrt(), end.sqrt(), steps)
        .map(|root| root * root)
        .collect()
}

/// β between `start` and `end` along a sigmoid over ±6, diffusers' `sigmoid`.
///
/// The ends are approached only, and a single step is the sigmoid's left end.
pub(super) fn sigmoid_beta(start: f64, end: f64, steps: usize) -> Vec<f64> {
    linspace(-6.0, 6.0, steps)
        .map(|x| sigmoid(x) * (end - start) + start)
        .collect()
}

/// ᾱ(s) ∝ cos²((s + 0.008)/1.008·π/2) (Nichol & Dhariwal 2021, eq. 17).
pub(super) fn cosine(steps: usize) -> Vec<f64> {
    from_signal(steps, |s| ((s + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2))
}

/// ᾱ(s) ∝ sigmoid(-(start + s·(end - start))/τ), shifted to end at 0 (Jabri et al. 2022, algorithm 1).
pub(super) fn sigmoid_alpha_bar(start: f64, end: f64, tau: f64, steps: usize) -> Vec<f64> {
    let last = sigmoid(end / tau);
    from_signal(steps, |s| last - sigmoid((s * (end - start) + start) / tau))
}

/// β_t = min(1 - f((t+1)/T)/f(t/T), 0.999) of a signal `f` falling on [0, 1]; its scale cancels.
fn from_signal(steps: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let at = |t: usize| f(t as f64 / steps as f64);
    (0..steps)
        .map(|t| (1.0 - at(t + 1) / at(t)).min(MAX_BETA))
        .collect()
}

/// `n` values from `start` to `end`, both included; `start` alone for one.
fn linspace(start: f64, end: f64, n: usize) -> impl Iterator<Item = f64> {
    let step = match n {
        0 | 1 => 0.0,
        _ => (end - start) / (n - 1) as f64,
    };
    // Counted from the nearer end, so that both ends are exact.
    (0..n).map(move |i| match i < n.div_ceil(2) {
        true => start + step * i as f64,
        false => end - step * (n - 1 - i) as f64,
    })
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
