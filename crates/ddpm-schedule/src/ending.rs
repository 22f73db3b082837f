//! What is left of an image at the last step of a schedule.
//!
//! Samplers start from pure noise. Where training never shows that, because √ᾱ_T is not 0, the network finds
//! less signal than it has learnt to expect (Lin et al. 2023, section 3).

use crate::Schedule;

/// How visible the image is at the last step, by √ᾱ_T: the scale of x0 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Not at all: zero terminal SNR.
    Nothing,
    /// Up to 0.01. Ho et al.'s 1000 linear steps end at 0.006.
    Trace,
    /// Up to 0.1: the mean brightness still shows. Latent diffusion's 1000 scaled linear steps end at 0.07.
    Brightness,
    /// Up to 0.5: shapes show.
    Shapes,
    /// Above 0.5: most of the image shows.
    Image,
}

impl Ending {
    /// The ending of a schedule.
    #[must_use]
    pub fn of(schedule: &Schedule) -> Self {
        match schedule.sqrt_alpha_bar(schedule.len() - 1) {
            0.0 => Self::Nothing,
            scale if scale <= 0.01 => Self::Trace,
            scale if scale <= 0.1 => Self::Brightness,
            scale if scale <= 0.5 => Self::Shapes,
            _ => Self::Image,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleConfig, ScheduleKind};

    #[test]
    fn endings_of_the_usual_schedules() {
        let default = ScheduleConfig::default;
        for (config, ending) in [
            (default(), Ending::Trace),
            (
                ScheduleConfig {
                    kind: ScheduleKind::Cosine,
                    ..default()
                },
                Ending::Trace,
            ),
            (
                ScheduleConfig {
                    zero_terminal_snr: true,
                    ..default()
                },
                Ending::Nothing,
            ),
            (
                ScheduleConfig {
                    kind: ScheduleKind::ScaledLinear,
                    beta_start: 0.000_85,
                    beta_end: 0.012,
                    ..default()
                },
                Ending::Brightness,
            ),
            // exp(-250·0.01/2) = 0.29
            (
                ScheduleConfig {
                    steps: 250,
                    ..default()
                },
                Ending::Shapes,
            ),
            (
                ScheduleConfig {
                    steps: 100,
                    ..default()
                },
                Ending::Image,
            ),
            (
                ScheduleConfig {
                    steps: 100,
                    scale_ends: true,
                    ..default()
                },
                Ending::Trace,
            ),
        ] {
            let schedule = config.build().unwrap();
            assert_eq!(Ending::of(&schedule), ending, "{config:?}");
        }
    }
}
