//! Initial parameter values: a pure function of the seed and the order of construction.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, normal_fill, uniform_fill};
use serde::{Deserialize, Serialize};

/// Which initial values a network starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitKind {
    /// PyTorch's defaults: uniform in ±1/√fan_in for weights and biases, norms at 1 and 0.
    Default,
    /// The same, but with each residual block's last convolution, each attention's output
    /// projection and the output convolution at zero (Ho et al. 2020, appendix B): every
    /// block starts as the identity.
    #[default]
    Zero,
}

/// Hands out lazily initialised parameters on a device.
///
/// Parameter k of a network depends on (seed, k) alone, so two builds of one configuration are
/// bit-equal on every backend. Values are made on the host when a parameter is first read, so a
/// network whose weights are loaded never makes them.
#[derive(Debug)]
pub struct Init {
    seed: u64,
    kind: InitKind,
    device: Device,
    next: u64,
}

#[derive(Clone, Copy)]
enum Values {
    Constant(f32),
    Uniform(f64),
    Normal(f32),
}

impl Init {
    /// Initial values for a network on `device`.
    pub fn new(seed: u64, kind: InitKind, device: &Device) -> Self {
        Self {
            seed,
            kind,
            device: device.clone(),
            next: 0,
        }
    }

    /// Uniform in ±1/√`fan_in` (PyTorch's default for convolutions and linear layers).
    pub(crate) fn fan_in<const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
    ) -> Param<Tensor<D>> {
        self.param(shape, Values::Uniform(1.0 / (fan_in as f64).sqrt()))
    }

    /// Uniform in ±`bound`.
    pub(crate) fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f64,
    ) -> Param<Tensor<D>> {
        self.param(shape, Values::Uniform(bound))
    }

    /// Like [`Init::fan_in`], but zero under [`InitKind::Zero`]: the last layer of a residual branch.
    pub(crate) fn last_of_branch<const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
    ) -> Param<Tensor<D>> {
        match self.kind {
            InitKind::Default => self.fan_in(shape, fan_in),
            InitKind::Zero => self.constant(shape, 0.0),
        }
    }

    /// One value everywhere.
    pub(crate) fn constant<const D: usize>(
        &mut self,
        shape: [usize; D],
        value: f32,
    ) -> Param<Tensor<D>> {
        self.param(shape, Values::Constant(value))
    }

    /// Gaussian with mean 0 and the given standard deviation.
    pub(crate) fn normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        std: f32,
    ) -> Param<Tensor<D>> {
        self.param(shape, Values::Normal(std))
    }

    fn param<const D: usize>(&mut self, shape: [usize; D], values: Values) -> Param<Tensor<D>> {
        let (seed, index) = (self.seed, self.next);
        self.next += 1;
        Param::uninitialized(
            ParamId::new(),
            move |device, require_grad| {
                let count = shape.iter().product();
                let data = match values {
                    Values::Constant(value) => vec![value; count],
                    Values::Uniform(bound) => {
                        let mut unit = vec![0.0f64; count];
                        uniform_fill(seed, Stream::Init, 0, index, &mut unit);
                        unit.iter()
                            .map(|u| (bound * (2.0 * u - 1.0)) as f32)
                            .collect()
                    }
                    Values::Normal(std) => {
                        let mut data = vec![0.0f32; count];
                        normal_fill(seed, Stream::Init, 0, index, &mut data);
                        data.iter_mut().for_each(|z| *z *= std);
                        data
                    }
                };
                Tensor::from_data(TensorData::new(data, shape), device)
                    .set_require_grad(require_grad)
            },
            self.device.clone(),
            true,
            shape.into(),
        )
    }
}
