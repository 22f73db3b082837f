//! Operations that keep magnitudes: of numbers with mean square 1 they make such numbers (Karras et al. 2024, appendix
//! B).

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::{Conv2dOptions, Convolution, concat_channels, linear};

use crate::init::Init;

/// Added to norms, so that zeros stay zeros.
const EPS: f64 = 1e-4;

/// x·sigmoid(x)/0.596 (eq. 81).
pub(super) fn mp_silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    silu(x) / 0.596
}

/// ((1 - t)·a + t·b)/√((1 - t)² + t²) (eq. 88).
pub(super) fn mp_sum<const D: usize>(a: Tensor<D>, b: Tensor<D>, t: f64) -> Tensor<D> {
    let norm = ((1.0 - t).powi(2) + t * t).sqrt();
    a * ((1.0 - t) / norm) + b * (t / norm)
}

/// The channels of `a`, then those of `b`, whose shares of the magnitude are 1 - t and t (eq. 103).
pub(super) fn mp_cat(a: Tensor<4>, b: Tensor<4>, t: f64) -> Tensor<4> {
    let (of_a, of_b) = (a.dims()[1] as f64, b.dims()[1] as f64);
    let all = ((of_a + of_b) / ((1.0 - t).powi(2) + t * t)).sqrt();
    concat_channels(
        a * (all / of_a.sqrt() * (1.0 - t)),
        b * (all / of_b.sqrt() * t),
    )
}

/// x over the root of its mean square along one dimension: pixel norm along the channels (eq. 30).
pub(super) fn normalize<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    let dtype: FloatDType = x.dtype().into();
    let wide = x.clone().cast(FloatDType::F32);
    let root = root_of_sum((wide.clone() * wide).mean_dim(dim));
    x / (root + EPS).cast(dtype)
}

/// A network whose weights have a mean square of 1 for each output, as training brings them there after each update, so
/// that the learning rate says how far directions turn (Karras et al. 2024, section 2.3, "forced weight normalization").
pub(super) fn with_unit_weights<M: Module>(network: M) -> M {
    struct Normalize;
    impl ModuleMapper for Normalize {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            // Gains, frequencies and phases have one dimension.
            if D < 2 {
                return param;
            }
            let (id, weight, mapper) = param.consume();
            let (shape, require_grad) = (weight.shape(), weight.is_require_grad());
            let rows = weight.without_autodiff().flatten::<2>(1, D - 1);
            let weight = Tensor::from_inner(normalize(rows, 1).reshape(shape));
            Param::from_mapped_value(id, weight.set_require_grad(require_grad), mapper)
        }
    }
    network.map(&mut Normalize)
}

/// √s, whose gradient at 0 is 0 instead of infinite.
fn root_of_sum<const D: usize>(s: Tensor<D>) -> Tensor<D> {
    s.clamp_min(1e-20).sqrt()
}

/// [cos(f·t + φ)]·√2 with fixed random frequencies and phases (eq. 75).
#[derive(Module, Debug)]
pub struct MpFourier {
    freqs: Param<Tensor<1>>,
    phases: Param<Tensor<1>>,
}

impl MpFourier {
    pub(super) fn new(channels: usize, init: &mut Init) -> Self {
        let whole = 2.0 * std::f32::consts::PI;
        Self {
            freqs: init.normal([channels], whole).set_require_grad(false),
            phases: init
                .uniform([channels], std::f64::consts::PI)
                .set_require_grad(false),
        }
    }

    /// # Shapes   `t`: `[batch]`; returns `[batch, channels]`
    pub(super) fn forward(&self, t: Tensor<1>) -> Tensor<2> {
        let angle = t.unsqueeze_dim::<2>(1) * self.freqs.val().unsqueeze::<2>()
            + self.phases.val().unsqueeze::<2>();
        angle.cos() * std::f64::consts::SQRT_2
    }
}

/// A convolution without bias whose weight is a direction: each output's is brought to norm 1 (eq. 47).
#[derive(Module, Debug)]
pub struct MpConv {
    weight: Param<Tensor<4>>,
}

/// A linear layer of the same kind.
#[derive(Module, Debug)]
pub struct MpLinear {
    weight: Param<Tensor<2>>,
}

impl MpConv {
    /// A `kernel`×`kernel` convolution that keeps the size.
    pub(super) fn new(input: usize, output: usize, kernel: usize, init: &mut Init) -> Self {
        Self {
            weight: init.normal([output, input, kernel, kernel], 1.0),
        }
    }

    /// The weight as it is applied: each output's has norm 1.
    fn direction(&self) -> Tensor<4> {
        let weight = self.weight.val();
        let shape = weight.dims();
        let fan_in: usize = shape[1..].iter().product();
        // [out, in, k, k] -> [out, in·k·k]
        let rows = normalize(weight.reshape([shape[0], fan_in]), 1);
        (rows / (fan_in as f64).sqrt()).reshape(shape)
    }

    /// # Shapes   `x`: `[batch, in, height, width]`, `gain`: `[1]`; returns `[batch, out, height, width]`
    pub(super) fn forward(&self, x: Tensor<4>, gain: Option<Tensor<1>>) -> Tensor<4> {
        let mut weight = self.direction();
        if let Some(gain) = gain {
            weight = weight * gain.reshape([1, 1, 1, 1]);
        }
        self.convolve(x, weight)
    }

    /// The same with the rows of the weight in another order: those of `[rows/parts, parts]` as `[parts, rows/parts]`.
    pub(super) fn forward_split(&self, x: Tensor<4>, parts: usize) -> Tensor<4> {
        let weight = self.direction();
        let [rows, input, height, width] = weight.dims();
        let weight = weight
            .reshape([rows / parts, parts, input * height * width])
            .swap_dims(0, 1)
            .reshape([rows, input, height, width]);
        self.convolve(x, weight)
    }

    fn convolve(&self, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        let [output, _, kernel, _] = weight.dims();
        let convolution = Convolution {
            norm: None,
            bias: Tensor::zeros([1, output], &x.device()),
            weight,
            residual: None,
            options: Conv2dOptions {
                stride: 1,
                padding: (kernel / 2, kernel / 2),
                upsample_nearest_2x: false,
            },
            cache: None,
        };
        convolution.forward(x)
    }
}

impl MpLinear {
    pub(super) fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            weight: init.normal([output, input], 1.0),
        }
    }

    /// The weight as it is applied, `[out, in]`.
    pub(super) fn direction(&self) -> Tensor<2> {
        let weight = self.weight.val();
        let [_, input] = weight.dims();
        normalize(weight, 1) / (input as f64).sqrt()
    }

    /// # Shapes   `x`: `[batch, in]`; returns `[batch, out]`
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.direction();
        let bias = Tensor::zeros([weight.dims()[0]], &x.device());
        linear(x, weight, bias, None)
    }
}
