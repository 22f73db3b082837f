//! A noise level: how much of an image and how much noise a noisy image holds.

/// x = `signal`·x0 + `noise`·ε, for every process; all else follows from the two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The scale of the image, at least 0.
    pub signal: f64,
    /// The scale of the unit normal noise, at least 0.
    pub noise: f64,
}

/// The least signal that samplers take a level for that must have some: ᾱ = 2⁻²⁴, as in diffusers.
const LEAST_SIGNAL: f64 = 1.0 / 4096.0;

impl Level {
    /// The image itself.
    pub const CLEAN: Self = Self {
        signal: 1.0,
        noise: 0.0,
    };

    /// The level √ᾱ, √(1-ᾱ) of a variance-preserving process (Ho et al. 2020, eq. 4).
    #[must_use]
    pub fn of_alpha_bar(alpha_bar: f64) -> Self {
        Self {
            signal: alpha_bar.sqrt(),
            noise: (1.0 - alpha_bar).sqrt(),
        }
    }

    /// The variance-preserving level of a given noise-to-signal ratio: 1/√(σ²+1), σ/√(σ²+1).
    #[must_use]
    pub fn variance_preserving(sigma: f64) -> Self {
        if sigma.is_infinite() {
            return Self::of_alpha_bar(0.0);
        }
        let signal = 1.0 / sigma.hypot(1.0);
        Self {
            signal,
            noise: sigma * signal,
        }
    }

    /// The variance-exploding level 1, σ (Karras et al. 2022).
    #[must_use]
    pub fn variance_exploding(sigma: f64) -> Self {
        Self {
            signal: 1.0,
            noise: sigma,
        }
    }

    /// σ, the noise beside a signal of 1: 0 for the image itself, infinite for pure noise.
    #[must_use]
    pub fn sigma(self) -> f64 {
        self.noise / self.signal
    }

    /// The signal-to-noise ratio, signal²/noise².
    #[must_use]
    pub fn snr(self) -> f64 {
        (self.signal / self.noise).powi(2)
    }

    /// ln SNR; -∞ for pure noise, +∞ for the image itself.
    #[must_use]
    pub fn log_snr(self) -> f64 {
        2.0 * self.lambda()
    }

    /// λ = ln(signal/noise), half of ln SNR, in which exponential integrators step (Lu et al. 2022).
    #[must_use]
    pub fn lambda(self) -> f64 {
        self.signal.ln() - self.noise.ln()
    }

    /// Whether this is the image itself.
    #[must_use]
    pub fn is_clean(self) -> bool {
        self.noise == 0.0
    }

    /// This level, or the one beside it with a trace of signal where it has less.
    ///
    /// σ and λ are infinite at pure noise, so samplers that step in them begin here.
    #[must_use]
    pub fn with_signal(self) -> Self {
        if self.signal >= LEAST_SIGNAL {
            return self;
        }
        // On the line of rectified flow the two scales add up to 1, else their squares do.
        let noise = match self.noise + self.signal == 1.0 && self.signal > 0.0 {
            true => 1.0 - LEAST_SIGNAL,
            false => (1.0 - LEAST_SIGNAL * LEAST_SIGNAL).sqrt(),
        };
        Self {
            signal: LEAST_SIGNAL,
            noise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_have_the_sigma_that_they_were_given() {
        for sigma in [1e-3, 0.5, 1.0, 80.0, 157.4] {
            let (vp, ve) = (
                Level::variance_preserving(sigma),
                Level::variance_exploding(sigma),
            );
            assert!((vp.sigma() / sigma - 1.0).abs() < 1e-15);
            assert!((vp.signal.hypot(vp.noise) - 1.0).abs() < 1e-15);
            assert_eq!(ve.sigma(), sigma);
            assert!((vp.snr() * sigma * sigma - 1.0).abs() < 1e-12);
            assert!((vp.log_snr() + 2.0 * sigma.ln()).abs() < 1e-12);
        }
    }

    #[test]
    fn the_ends() {
        let noise = Level::variance_preserving(f64::INFINITY);
        assert_eq!((noise.signal, noise.noise), (0.0, 1.0));
        assert_eq!((noise.sigma(), noise.snr()), (f64::INFINITY, 0.0));
        assert_eq!(noise.lambda(), f64::NEG_INFINITY);
        assert_eq!(Level::CLEAN.sigma(), 0.0);
        assert_eq!(Level::CLEAN.lambda(), f64::INFINITY);
        assert!(Level::CLEAN.is_clean());
        let traced = noise.with_signal();
        // (1 - 2⁻²⁴)/2⁻²⁴, as in diffusers
        assert!((traced.sigma() - 4_095.999_877_929_6).abs() < 1e-6);
        let level = Level::of_alpha_bar(0.3);
        assert_eq!(level.with_signal(), level);
    }
}
