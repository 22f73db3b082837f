//! Convolutions with ReLU, and blocks of parallel branches of them.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use ddpm_kernels::{Conv2dOptions, Convolution, WeightCache};

use super::weights::Weights;
use crate::error::EvalError;

/// What a convolution gives, and how its kernel moves over the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Channels of the result.
    pub(super) output: usize,
    /// `[rows, columns]`
    pub(super) kernel: [usize; 2],
    stride: usize,
    /// Zeros `[above and below, left and right]`.
    padding: [usize; 2],
}

impl Window {
    /// One that keeps height and width (odd kernels).
    pub(super) fn same(output: usize, kernel: [usize; 2]) -> Self {
        Self {
            output,
            kernel,
            stride: 1,
            padding: kernel.map(|side| side / 2),
        }
    }

    /// A 3×3 one that stays within the image.
    pub(super) fn inner(output: usize, stride: usize) -> Self {
        Self {
            output,
            kernel: [3, 3],
            stride,
            padding: [0, 0],
        }
    }
}

/// max(weight ∗ x + bias, 0)
#[derive(Debug)]
pub(super) struct ConvRelu {
    /// `[out, in, rows, columns]`
    weight: Tensor<4>,
    /// `[out]`
    bias: Tensor<1>,
    window: Window,
    cache: WeightCache,
}

impl ConvRelu {
    pub(super) fn new(weight: Tensor<4>, bias: Tensor<1>, window: Window) -> Self {
        Self {
            weight,
            bias,
            window,
            cache: WeightCache::default(),
        }
    }

    /// # Shapes   `x`: `[n, in, height, width]`; returns `[n, out, height', width']`
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Window {
            kernel: [rows, columns],
            stride,
            padding,
            ..
        } = self.window;
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        if rows != columns {
            // The kernels of this program are square.
            let options = ConvOptions::new([stride; 2], padding, [1; 2], 1);
            return relu(conv2d(x, weight, Some(bias), options));
        }
        let convolution = Convolution {
            norm: None,
            weight,
            bias: bias.unsqueeze(),
            residual: None,
            options: Conv2dOptions {
                stride,
                padding: (padding[0], padding[0]),
                upsample_nearest_2x: false,
            },
            cache: Some(&self.cache),
        };
        relu(convolution.forward(x))
    }
}

/// What stands before the layers of a branch; 3×3 in each case.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pool {
    /// Nothing.
    None,
    /// The mean of those pixels around each that are in the image.
    Mean,
    /// Their maximum.
    Max,
    /// The maximum at every second pixel, within the image.
    Shrink,
}

impl Pool {
    fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::None => x,
            Self::Mean => {
                let options = AvgPoolOptions::new([3, 3])
                    .with_stride([1, 1])
                    .with_padding([1, 1])
                    .with_count_include_pad(false);
                avg_pool2d(x, options)
            }
            Self::Max => {
                let options = MaxPoolOptions::new([3, 3])
                    .with_stride([1, 1])
                    .with_padding([1, 1]);
                max_pool2d(x, options)
            }
            Self::Shrink => shrink(x),
        }
    }
}

/// The maximum over 3×3 at every second pixel.
///
/// # Shapes   `x`: `[n, channels, height, width]`; returns `[n, channels, (height - 1)/2, (width - 1)/2]`
pub(super) fn shrink(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]))
}

/// One way through a block.
#[derive(Debug)]
struct Branch {
    pool: Pool,
    layers: Vec<ConvRelu>,
    /// Layers that all see what `layers` give; without any, that is the result.
    ends: Vec<ConvRelu>,
}

impl Branch {
    fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let x = self.pool.forward(x);
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x));
        match self.ends.is_empty() {
            true => vec![x],
            false => self.ends.iter().map(|end| end.forward(x.clone())).collect(),
        }
    }
}

/// Branches that see the same, their channels one after the other.
#[derive(Debug)]
pub(super) struct Block(Vec<Branch>);

impl Block {
    /// # Shapes   `x`: `[n, in, height, width]`; returns `[n, out, height', width']`
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Tensor::cat(self.parts(x), 1)
    }

    /// What each branch gives, in the order of the channels.
    pub(super) fn parts(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let branches = self.0.iter();
        branches
            .flat_map(|branch| branch.forward(x.clone()))
            .collect()
    }
}

/// The ends of names and the windows of layers that follow each other.
type Chain<'a> = &'a [(&'a str, Window)];

/// A block whose weights are being read.
struct Parts<'a, 'w> {
    weights: &'a mut Weights<'w>,
    name: &'a str,
    /// Channels that enter.
    input: usize,
}

impl Parts<'_, '_> {
    fn chain(&mut self, mut input: usize, chain: Chain<'_>) -> Result<Vec<ConvRelu>, EvalError> {
        let mut layers = Vec::with_capacity(chain.len());
        for (end, window) in chain {
            let name = format!("{}.{end}", self.name);
            layers.push(self.weights.layer(&name, input, *window)?);
            input = window.output;
        }
        Ok(layers)
    }

    fn branch(&mut self, pool: Pool, chain: Chain<'_>) -> Result<Branch, EvalError> {
        Ok(Branch {
            pool,
            layers: self.chain(self.input, chain)?,
            ends: Vec::new(),
        })
    }

    /// A branch whose `ends` all see the result of its chain.
    fn fork(&mut self, chain: Chain<'_>, ends: [(&str, Window); 2]) -> Result<Branch, EvalError> {
        let mut branch = self.branch(Pool::None, chain)?;
        let between = chain.last().map_or(self.input, |(_, window)| window.output);
        for end in ends {
            branch.ends.extend(self.chain(between, &[end])?);
        }
        Ok(branch)
    }
}

/// `Mixed_5b` to `5d`: `[n, input, 35, 35]` to `[n, 224 + pooled, 35, 35]`.
pub(super) fn mixed_5(
    weights: &mut Weights<'_>,
    name: &str,
    input: usize,
    pooled: usize,
) -> Result<Block, EvalError> {
    let one = |output| Window::same(output, [1, 1]);
    let three = Window::same(96, [3, 3]);
    let mut parts = Parts {
        weights,
        name,
        input,
    };
    Ok(Block(vec![
        parts.branch(Pool::None, &[("branch1x1", one(64))])?,
        parts.branch(
            Pool::None,
            &[
                ("branch5x5_1", one(48)),
                ("branch5x5_2", Window::same(64, [5, 5])),
            ],
        )?,
        parts.branch(
            Pool::None,
            &[
                ("branch3x3dbl_1", one(64)),
                ("branch3x3dbl_2", three),
                ("branch3x3dbl_3", three),
            ],
        )?,
        parts.branch(Pool::Mean, &[("branch_pool", one(pooled))])?,
    ]))
}

/// `[n, 288, 35, 35]` to `[n, 768, 17, 17]`.
pub(super) fn mixed_6a(weights: &mut Weights<'_>) -> Result<Block, EvalError> {
    let mut parts = Parts {
        weights,
        name: "Mixed_6a",
        input: 288,
    };
    Ok(Block(vec![
        parts.branch(Pool::None, &[("branch3x3", Window::inner(384, 2))])?,
        parts.branch(
            Pool::None,
            &[
                ("branch3x3dbl_1", Window::same(64, [1, 1])),
                ("branch3x3dbl_2", Window::same(96, [3, 3])),
                ("branch3x3dbl_3", Window::inner(96, 2)),
            ],
        )?,
        parts.branch(Pool::Shrink, &[])?,
    ]))
}

/// `Mixed_6b` to `6e`, `between` channels within: keeps `[n, 768, 17, 17]`.
pub(super) fn mixed_6(
    weights: &mut Weights<'_>,
    name: &str,
    between: usize,
) -> Result<Block, EvalError> {
    let one = |output| Window::same(output, [1, 1]);
    let row = |output| Window::same(output, [1, 7]);
    let column = |output| Window::same(output, [7, 1]);
    let mut parts = Parts {
        weights,
        name,
        input: 768,
    };
    Ok(Block(vec![
        parts.branch(Pool::None, &[("branch1x1", one(192))])?,
        parts.branch(
            Pool::None,
            &[
                ("branch7x7_1", one(between)),
                ("branch7x7_2", row(between)),
                ("branch7x7_3", column(192)),
            ],
        )?,
        parts.branch(
            Pool::None,
            &[
                ("branch7x7dbl_1", one(between)),
                ("branch7x7dbl_2", column(between)),
                ("branch7x7dbl_3", row(between)),
                ("branch7x7dbl_4", column(between)),
                ("branch7x7dbl_5", row(192)),
            ],
        )?,
        parts.branch(Pool::Mean, &[("branch_pool", one(192))])?,
    ]))
}

/// `[n, 768, 17, 17]` to `[n, 1280, 8, 8]`.
pub(super) fn mixed_7a(weights: &mut Weights<'_>) -> Result<Block, EvalError> {
    let mut parts = Parts {
        weights,
        name: "Mixed_7a",
        input: 768,
    };
    Ok(Block(vec![
        parts.branch(
            Pool::None,
            &[
                ("branch3x3_1", Window::same(192, [1, 1])),
                ("branch3x3_2", Window::inner(320, 2)),
            ],
        )?,
        parts.branch(
            Pool::None,
            &[
                ("branch7x7x3_1", Window::same(192, [1, 1])),
                ("branch7x7x3_2", Window::same(192, [1, 7])),
                ("branch7x7x3_3", Window::same(192, [7, 1])),
                ("branch7x7x3_4", Window::inner(192, 2)),
            ],
        )?,
        parts.branch(Pool::Shrink, &[])?,
    ]))
}

/// `Mixed_7b` and `7c`: `[n, input, 8, 8]` to `[n, 2048, 8, 8]`.
pub(super) fn mixed_7(
    weights: &mut Weights<'_>,
    name: &str,
    input: usize,
    pool: Pool,
) -> Result<Block, EvalError> {
    let one = |output| Window::same(output, [1, 1]);
    let row = Window::same(384, [1, 3]);
    let column = Window::same(384, [3, 1]);
    let mut parts = Parts {
        weights,
        name,
        input,
    };
    Ok(Block(vec![
        parts.branch(Pool::None, &[("branch1x1", one(320))])?,
        parts.fork(
            &[("branch3x3_1", one(384))],
            [("branch3x3_2a", row), ("branch3x3_2b", column)],
        )?,
        parts.fork(
            &[
                ("branch3x3dbl_1", one(448)),
                ("branch3x3dbl_2", Window::same(384, [3, 3])),
            ],
            [("branch3x3dbl_3a", row), ("branch3x3dbl_3b", column)],
        )?,
        parts.branch(pool, &[("branch_pool", one(192))])?,
    ]))
}
