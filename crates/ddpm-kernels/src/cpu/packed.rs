//! Weights in the order in which a kernel reads them.

/// Weights by blocks of lanes: `[matrices][blocks][depth][L]`, zeros where there is no channel.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) values: Vec<f32>,
    pub(super) blocks: usize,
    /// Of one matrix.
    pub(super) depth: usize,
}

/// Which channels of a weight `[out, in, k, k]` are the lanes of a product, and which its depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) lanes: usize,
    /// Distance from one lane to the next.
    pub(super) lane: usize,
    pub(super) depths: usize,
    /// Distance from one depth to the next.
    pub(super) depth: usize,
    /// Whether the kernel is turned by 180°.
    pub(super) flip: bool,
}

impl Side {
    /// For y from x, and for the weights' gradient.
    pub(super) fn forward(output: usize, input: usize, taps: usize) -> Self {
        Self {
            lanes: output,
            lane: input * taps,
            depths: input,
            depth: taps,
            flip: false,
        }
    }

    /// For x's gradient from y's.
    pub(super) fn backward(output: usize, input: usize, taps: usize) -> Self {
        Self {
            lanes: input,
            lane: taps,
            depths: output,
            depth: input * taps,
            flip: true,
        }
    }
}
