//! How fast a run is.

use std::time::Duration;

/// Images per second over about the last ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    images: f64,
    seconds: f64,
}

impl Speed {
    pub(crate) fn add(&mut self, images: usize, time: Duration) -> f64 {
        let time = time.as_secs_f64();
        // Old steps fade with a time constant of 10 s, so that the figure neither flickers nor lags.
        let fade = (-time / 10.0).exp();
        self.images = self.images * fade + images as f64;
        self.seconds = self.seconds * fade + time;
        self.images / self.seconds.max(1e-9)
    }
}
