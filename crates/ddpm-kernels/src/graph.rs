//! Work captured once as a graph and replayed: on a GPU the host then gives one command instead of hundreds.

use burn::tensor::Tensor;

/// What captured work reads, or what it comes to; without autodiff.
#[derive(Debug, Clone, Default)]
pub struct GraphInputs {
    /// `[batch, channels, height, width]` each.
    pub images: Vec<Tensor<4>>,
    /// `[values]` each.
    pub rows: Vec<Tensor<1>>,
}

/// What became of an attempt to capture.
#[derive(Debug)]
pub enum Capture {
    /// It is captured.
    Done(Graph),
    /// Not yet: kernels have still to be chosen, which takes inputs that do not come to zeros.
    Later,
    /// It cannot be captured, and why.
    Refused(String),
}

/// A captured function.
pub struct Graph {
    #[cfg(feature = "cube")]
    pub(crate) captured: crate::cube::CapturedGraph,
    #[cfg(not(feature = "cube"))]
    never: std::convert::Infallible,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}

/// Records `run`, which is to do the same whenever it is called, to read nothing back and to send nothing to the
/// device: all that differs between its calls is in `inputs`. It is called thrice, and the graph is compared with
/// what it did. A refusal is a warning, once in a process.
///
/// # Errors   those of `run`
pub fn capture<E>(
    inputs: &GraphInputs,
    run: &mut dyn FnMut(GraphInputs) -> Result<GraphInputs, E>,
) -> Result<Capture, E> {
    #[cfg(feature = "cube")]
    if inputs
        .images
        .first()
        .is_some_and(|x| crate::Place::of(&x.device()) == crate::Place::Gpu)
    {
        let attempt = crate::cube::capture(inputs, run)?;
        if let Capture::Refused(why) = &attempt {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| {
                tracing::warn!("the GPU does not capture this work, so each kernel is launched by itself: {why}");
            });
        }
        return Ok(attempt);
    }
    let _ = (inputs, run);
    Ok(Capture::Refused("only GPUs capture".to_owned()))
}

impl Graph {
    /// What the function returns for other inputs of the same shapes; the next replay overwrites it.
    ///
    /// # Errors   what the GPU's driver says if it does not take it
    pub fn replay(&self, inputs: &GraphInputs) -> Result<GraphInputs, String> {
        #[cfg(feature = "cube")]
        return self.captured.replay(inputs);
        #[cfg(not(feature = "cube"))]
        {
            let _ = inputs;
            match self.never {}
        }
    }

    /// As [`Graph::replay`], in memory of its own.
    ///
    /// # Errors   those of [`Graph::replay`]
    pub fn replay_to_keep(&self, inputs: &GraphInputs) -> Result<GraphInputs, String> {
        #[cfg(feature = "cube")]
        return self.captured.replay_to_keep(inputs);
        #[cfg(not(feature = "cube"))]
        self.replay(inputs)
    }
}

/// Whether two tensors are the same memory of a GPU, which captured work then reads as before; never elsewhere.
pub fn same_memory(a: &Tensor<1>, b: &Tensor<1>) -> bool {
    #[cfg(feature = "cube")]
    if [a, b]
        .iter()
        .all(|x| crate::Place::of(&x.device()) == crate::Place::Gpu)
    {
        return crate::cube::same_memory(a, b);
    }
    let _ = (a, b);
    false
}
