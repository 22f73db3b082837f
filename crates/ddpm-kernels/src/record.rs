//! A network recorded once and replayed: on a card the host then gives one command instead of hundreds.

use burn::tensor::Tensor;

/// A recorded function of images and their times.
pub struct Recording {
    #[cfg(feature = "cube")]
    card: crate::cube::Recording,
    #[cfg(not(feature = "cube"))]
    never: std::convert::Infallible,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recording")
    }
}

/// Records `run`, which is to do the same whenever it is called, to read nothing back and to send nothing to the
/// device but `x` and `t`. It is called thrice, and the recording is compared with what it did.
///
/// `None` where there is nothing to record, on the processor say, or where the recording did not work; the reason is
/// logged then.
///
/// # Shapes   `x`: `[batch, channels, height, width]`, `t`: `[batch]`, without autodiff
/// # Errors   those of `run`
pub fn record<E>(
    x: &Tensor<4>,
    t: &Tensor<1>,
    run: &mut dyn FnMut(Tensor<4>, Tensor<1>) -> Result<Tensor<4>, E>,
) -> Result<Option<Recording>, E> {
    #[cfg(feature = "cube")]
    if crate::Place::of(&x.device()) == crate::Place::Card {
        let recording = crate::cube::record(x, t, run)?;
        return Ok(recording.map(|card| Recording { card }));
    }
    let _ = (x, t, run);
    Ok(None)
}

impl Recording {
    /// What the function returns for other images and times of the same shapes.
    ///
    /// # Errors   what the card's driver says if it does not take it
    pub fn replay(&self, x: &Tensor<4>, t: &Tensor<1>) -> Result<Tensor<4>, String> {
        #[cfg(feature = "cube")]
        return self.card.replay(x, t);
        #[cfg(not(feature = "cube"))]
        {
            let _ = (x, t);
            match self.never {}
        }
    }
}
