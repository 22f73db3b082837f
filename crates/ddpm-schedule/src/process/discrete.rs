//! A table of β at real-valued steps: ln σ is interpolated, as k-diffusion and diffusers do.

use crate::{Level, Schedule};

/// A uniform step (Lemire 2019: the high half of a product).
pub(super) fn draw(schedule: &Schedule, bits: u64) -> f64 {
    ((u128::from(bits) * schedule.len() as u128) >> 64) as f64
}

/// The level of a step; the ends of the table stand for what is beyond them.
pub(super) fn level(schedule: &Schedule, time: f64) -> Level {
    let last = (schedule.len() - 1) as f64;
    let time = time.clamp(0.0, last);
    let (low, share) = (time.floor(), time.fract());
    let low = low as usize;
    if share == 0.0 {
        return schedule.level(low);
    }
    // Above the last step but one of zero terminal SNR there is pure noise alone: ln σ is infinite.
    let [below, above] = [low, low + 1].map(|t| schedule.level(t).sigma().ln());
    Level::variance_preserving((below + share * (above - below)).exp())
}

/// The step at which the table has a σ.
pub(super) fn time(schedule: &Schedule, sigma: f64) -> f64 {
    let at = |t: usize| schedule.level(t).sigma();
    // The last step whose σ is not above.
    let above = |alpha_bar: &f64| Level::of_alpha_bar(*alpha_bar).sigma() <= sigma;
    let low = match schedule.alpha_bars().partition_point(above) {
        0 => return 0.0,
        above if above == schedule.len() => return (above - 1) as f64,
        above => above - 1,
    };
    if at(low) == sigma {
        return low as f64;
    }
    let [below, above] = [low, low + 1].map(|t| schedule.level(t).sigma().ln());
    match above.is_infinite() {
        true => (low + 1) as f64,
        false => low as f64 + ((sigma.ln() - below) / (above - below)).clamp(0.0, 1.0),
    }
}
