//! The choice of algorithm for a convolution, and its gradients.

use rayon::prelude::*;

use super::blocked::{Affine, Images};
use super::direct::{self, Grid};
use super::element::Element;
use super::isa::Isa;
use super::matrix;
use super::normalisation::{self, Moments};
use super::packed::{Packed, Side};
use super::tile::Unit;
use super::winograd;
use crate::conv2d::Conv2dOptions;
use crate::group_norm::GroupNormOptions;

/// Outputs from which on transformed products pay, in an image when the kernels are transformed once
/// for many steps, and in a batch when they are transformed for this one. A function of the image alone
/// in sampling, so that an image is the same in any batch.
const ENOUGH_PER_IMAGE: usize = 64;
const ENOUGH_PER_BATCH: usize = 256;

/// The extents of one convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: usize,
    pub(super) options: Conv2dOptions,
    /// The normalisation of the input, if there is one.
    pub(super) norm: Option<GroupNormOptions>,
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Winograd,
    Direct,
    /// Tiles of bf16.
    Matrix(Unit),
}

/// Weights in the order in which an algorithm reads them.
#[derive(Debug)]
pub(super) enum Weights {
    /// In blocks of lanes, of Winograd's and direct products.
    Blocks(Packed),
    Tiles(matrix::Weights),
}

impl Shape {
    fn seen(&self) -> (usize, usize) {
        let scale = if self.options.upsample_nearest_2x {
            2
        } else {
            1
        };
        (scale * self.height, scale * self.width)
    }

    /// Height and width of the output.
    pub(super) fn out(&self) -> (usize, usize) {
        let extent = |side: usize| {
            let (before, after) = self.options.padding;
            (side + before + after - self.kernel) / self.options.stride + 1
        };
        let (height, width) = self.seen();
        (extent(height), extent(width))
    }

    /// Whether F(4×4, 3×3) can compute it.
    fn fits_winograd(&self) -> bool {
        let (before, after) = self.options.padding;
        self.kernel == 3 && self.options.stride == 1 && before.max(after) <= 2
    }

    /// The algorithm for activations of `E` and kernels that are used `once`, or for many steps.
    pub(super) fn algorithm<E: Element>(&self, once: bool) -> Algorithm {
        if let Some(unit) = E::unit() {
            return Algorithm::Matrix(unit);
        }
        let (height, width) = self.out();
        let enough = if once {
            self.batch * height * width >= ENOUGH_PER_BATCH
        } else {
            height * width >= ENOUGH_PER_IMAGE
        };
        if self.fits_winograd() && (enough || self.options.upsample_nearest_2x) {
            Algorithm::Winograd
        } else {
            Algorithm::Direct
        }
    }

    fn norm_shape(&self, options: GroupNormOptions) -> normalisation::Shape {
        normalisation::Shape {
            batch: self.batch,
            channels: self.input,
            plane: self.height * self.width,
            options,
        }
    }
}

/// What a convolution reads besides its shape; `norm` (weight, bias), and an empty slice for what is
/// absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands<'a, E> {
    pub(super) x: &'a [E],
    pub(super) norm: [&'a [f32]; 2],
    /// `[1 or batch, output]`
    pub(super) bias: &'a [f32],
    /// Laid out as the result.
    pub(super) residual: &'a [E],
}

/// Kernels in the order in which `algorithm` reads them.
pub(super) fn pack(isa: Isa, shape: Shape, algorithm: Algorithm, weight: &[f32]) -> Weights {
    let area = shape.kernel * shape.kernel;
    let side = Side::forward(shape.output, shape.input, area);
    let taps = direct::taps(shape.kernel, shape.options.padding.0);
    match algorithm {
        Algorithm::Winograd => Weights::Blocks(winograd::pack(isa, weight, side)),
        Algorithm::Direct => Weights::Blocks(direct::pack(isa, weight, side, &taps)),
        Algorithm::Matrix(_) => Weights::Tiles(matrix::pack(isa, weight, side, &taps, area)),
    }
}

/// y = weight ∗ act(norm(x)) + bias + residual, and the moments of x if it is normalised.
pub(super) fn forward<E: Element>(
    isa: Isa,
    shape: Shape,
    operands: Operands<'_, E>,
    algorithm: Algorithm,
    weights: &Weights,
) -> (Vec<E>, Option<Moments>) {
    let moments = shape
        .norm
        .map(|norm| normalisation::moments(isa, shape.norm_shape(norm), operands.x));
    let prepared = Prepared::new(shape, operands.norm, moments.as_ref());
    let x = prepared.images(shape, operands.x);
    let (height, width) = shape.out();
    let y = match (algorithm, weights) {
        (Algorithm::Matrix(unit), Weights::Tiles(weights)) => {
            let taps = direct::taps(shape.kernel, shape.options.padding.0);
            let job = matrix::Job {
                x,
                batch: shape.batch,
                stride: shape.options.stride,
                taps: &taps,
                grid: Grid {
                    rows: height,
                    columns: width,
                    step: 1,
                    row: 0,
                    column: 0,
                },
                output: shape.output,
                height,
                width,
                bias: operands.bias,
                residual: operands.residual,
                halve: false,
            };
            matrix::forward(isa, unit, job, weights)
        }
        (Algorithm::Winograd, Weights::Blocks(packed)) => {
            let job = winograd::Job {
                x,
                batch: shape.batch,
                padding: shape.options.padding,
                output: shape.output,
                bias: operands.bias,
                residual: operands.residual,
                halve: false,
            };
            winograd::forward(isa, job, packed)
        }
        (Algorithm::Direct, Weights::Blocks(packed)) => {
            let taps = direct::taps(shape.kernel, shape.options.padding.0);
            let job = direct::Job {
                x,
                batch: shape.batch,
                stride: shape.options.stride,
                taps: &taps,
                grid: Grid {
                    rows: height,
                    columns: width,
                    step: 1,
                    row: 0,
                    column: 0,
                },
                output: shape.output,
                height,
                width,
                bias: operands.bias,
                residual: operands.residual,
            };
            direct::forward(isa, job, packed)
        }
        _ => unreachable!("weights are packed for the algorithm that reads them"),
    };
    (y, moments)
}

/// Scale and shift of the normalisation of x.
struct Prepared {
    affine: Option<(Vec<f32>, Vec<f32>, bool)>,
}

impl Prepared {
    fn new(shape: Shape, [weight, bias]: [&[f32]; 2], moments: Option<&Moments>) -> Self {
        let affine = shape.norm.zip(moments).map(|(norm, moments)| {
            let (scale, shift) =
                normalisation::affine(shape.norm_shape(norm), moments, weight, bias);
            (scale, shift, norm.silu)
        });
        Self { affine }
    }

    fn images<'a, E>(&'a self, shape: Shape, x: &'a [E]) -> Images<'a, E> {
        Images {
            values: x,
            channels: shape.input,
            height: shape.height,
            width: shape.width,
            upsample_nearest_2x: shape.options.upsample_nearest_2x,
            affine: self.affine.as_ref().map(|(scale, shift, silu)| Affine {
                scale,
                shift,
                silu: *silu,
            }),
        }
    }
}

/// What a backward pass is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// dL/dx, or the gradients of the normalisation.
    pub(super) x: bool,
    pub(super) weight: bool,
    pub(super) bias: bool,
}

/// The gradients of a convolution; those not wanted are empty.
#[derive(Debug)]
pub(super) struct Gradients<E> {
    pub(super) x: Vec<E>,
    pub(super) norm: [Vec<f32>; 2],
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// The gradients from dL/dy.
pub(super) fn backward<E: Element>(
    isa: Isa,
    shape: Shape,
    operands: Operands<'_, E>,
    weight: &[f32],
    moments: Option<&Moments>,
    dy: &[E],
    wanted: Wanted,
) -> Gradients<E> {
    let prepared = Prepared::new(shape, operands.norm, moments);
    let x = prepared.images(shape, operands.x);
    let algorithm = shape.algorithm::<E>(true);
    let (height, width) = shape.out();
    let dy_images = Images {
        values: dy,
        channels: shape.output,
        height,
        width,
        upsample_nearest_2x: false,
        affine: None,
    };
    let taps = direct::taps(shape.kernel, shape.options.padding.0);
    let mut gradients = Gradients {
        x: Vec::new(),
        norm: [Vec::new(), Vec::new()],
        weight: Vec::new(),
        bias: Vec::new(),
    };
    if wanted.weight {
        gradients.weight = match algorithm {
            Algorithm::Winograd => {
                winograd::weight_gradient(isa, x, shape.options.padding, dy_images, shape.batch)
            }
            Algorithm::Direct => {
                let stride = shape.options.stride;
                direct::weight_gradient(isa, x, dy_images, shape.batch, (stride, &taps))
            }
            Algorithm::Matrix(unit) => {
                let stride = shape.options.stride;
                matrix::weight_gradient(isa, unit, x, dy_images, shape.batch, (stride, &taps))
            }
        };
    }
    if wanted.bias {
        gradients.bias = bias_gradient(shape, operands.bias.len(), dy);
    }
    if wanted.x {
        gradients.x = data_gradient(isa, shape, algorithm, weight, dy_images, &taps);
        if let Some((norm, moments)) = shape.norm.zip(moments) {
            gradients.norm = normalisation::backward(
                isa,
                shape.norm_shape(norm),
                operands.x,
                operands.norm,
                moments,
                &mut gradients.x,
            );
        }
    }
    gradients
}

fn data_gradient<E: Element>(
    isa: Isa,
    shape: Shape,
    algorithm: Algorithm,
    weight: &[f32],
    dy: Images<'_, E>,
    taps: &[direct::Tap],
) -> Vec<E> {
    match algorithm {
        Algorithm::Winograd => {
            // The gradient of a convolution is the convolution with the turned kernel, the padding
            // being what is left of the kernel's reach.
            let side = Side::backward(shape.output, shape.input, 9);
            let packed = winograd::pack(isa, weight, side);
            let (before, after) = shape.options.padding;
            let job = winograd::Job {
                x: dy,
                batch: shape.batch,
                padding: (2 - before, 2 - after),
                output: shape.input,
                bias: &[],
                residual: &[],
                halve: shape.options.upsample_nearest_2x,
            };
            winograd::forward(isa, job, &packed)
        }
        Algorithm::Matrix(unit) => {
            let (height, width) = shape.seen();
            let extent = (shape.input, height, width);
            let halve = shape.options.upsample_nearest_2x;
            let how = (shape.options.stride, taps, halve);
            matrix::data_gradient(isa, unit, dy, shape.batch, weight, extent, how)
        }
        Algorithm::Direct => {
            let extent = (shape.input, shape.height, shape.width);
            let stride = shape.options.stride;
            direct::data_gradient(isa, dy, shape.batch, weight, extent, (stride, taps))
        }
    }
}

/// Σ dL/dy over the pixels, and over the images unless each has its own bias.
fn bias_gradient<E: Element>(shape: Shape, len: usize, dy: &[E]) -> Vec<f32> {
    let (height, width) = shape.out();
    let per_image: Vec<f32> = dy
        .par_chunks_exact((height * width).max(1))
        .map(total)
        .collect();
    if len > shape.output {
        return per_image;
    }
    let mut sums = vec![0.0f32; shape.output];
    for image in per_image.chunks_exact(shape.output.max(1)) {
        sums.iter_mut()
            .zip(image)
            .for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// Sum in lanes, so that it is fast and its order does not depend on the machine.
fn total<E: Element>(plane: &[E]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = plane.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|x| x.to_f32()).sum();
    for chunk in chunks {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(lane, x)| *lane += x.to_f32());
    }
    lanes.iter().sum::<f32>() + rest
}
