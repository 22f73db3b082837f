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

/// What became of an attempt to record.
#[derive(Debug)]
pub enum Attempt {
    /// It is recorded.
    Done(Recording),
    /// Not yet: kernels have still to be chosen, which takes inputs that do not come to zeros.
    Later,
    /// It cannot be recorded, and why.
    Refused(String),
}

/// A recorded function.
pub struct Recording {
    #[cfg(feature = "cube")]
    pub(crate) card: crate::cube::Recording,
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
/// what it did. A refusal is a warning, once in a process.
///
/// # Errors   those of `run`
pub fn record<E>(
    inputs: &Bundle,
    run: &mut dyn FnMut(Bundle) -> Result<Bundle, E>,
) -> Result<Attempt, E> {
    #[cfg(feature = "cube")]
    if inputs
        .images
        .first()
        .is_some_and(|x| crate::Place::of(&x.device()) == crate::Place::Card)
    {
        let attempt = crate::cube::record(inputs, run)?;
        if let Attempt::Refused(why) = &attempt {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| {
                tracing::warn!("the card does not record this work, so each kernel is launched by itself: {why}");
            });
        }
        return Ok(attempt);
    }
    let _ = (inputs, run);
    Ok(Attempt::Refused("only cards record".to_owned()))
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
