//! Work recorded once and replayed: on a card the host then gives one command instead of hundreds.

use burn::tensor::Tensor;

/// What recorded work reads, or what it comes to; without autodiff.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    /// `[batch, channels, height, width]` each.
    pub images: Vec<Tensor<4>>,
    /// `[values]` each.
    pub rows: Vec<Tensor<1>>,
}

/// A recorded function.
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
/// device: all that differs between its calls is in `inputs`. It is called thrice, and the recording is compared with
/// what it did.
///
/// `None` where there is nothing to record, on the processor say, or where the recording did not work; the reason is
/// logged then.
///
/// # Errors   those of `run`
pub fn record<E>(
    inputs: &Bundle,
    run: &mut dyn FnMut(Bundle) -> Result<Bundle, E>,
) -> Result<Option<Recording>, E> {
    #[cfg(feature = "cube")]
    if inputs
        .images
        .first()
        .is_some_and(|x| crate::Place::of(&x.device()) == crate::Place::Card)
    {
        let recording = crate::cube::record(inputs, run)?;
        return Ok(recording.map(|card| Recording { card }));
    }
    let _ = (inputs, run);
    Ok(None)
}

impl Recording {
    /// What the function returns for other inputs of the same shapes; the next replay overwrites it.
    ///
    /// # Errors   what the card's driver says if it does not take it
    pub fn replay(&self, inputs: &Bundle) -> Result<Bundle, String> {
        #[cfg(feature = "cube")]
        return self.card.replay(inputs);
        #[cfg(not(feature = "cube"))]
        {
            let _ = inputs;
            match self.never {}
        }
    }

    /// As [`Recording::replay`], in memory of its own.
    ///
    /// # Errors   those of [`Recording::replay`]
    pub fn replay_to_keep(&self, inputs: &Bundle) -> Result<Bundle, String> {
        #[cfg(feature = "cube")]
        return self.card.replay_to_keep(inputs);
        #[cfg(not(feature = "cube"))]
        self.replay(inputs)
    }
}

/// Whether two tensors are the same memory of a card, which recorded work then reads as before; never elsewhere.
pub fn same_memory(a: &Tensor<1>, b: &Tensor<1>) -> bool {
    #[cfg(feature = "cube")]
    if [a, b]
        .iter()
        .all(|x| crate::Place::of(&x.device()) == crate::Place::Card)
    {
        return crate::cube::same_memory(a, b);
    }
    let _ = (a, b);
    false
}
