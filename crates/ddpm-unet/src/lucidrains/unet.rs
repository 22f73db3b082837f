//! The network.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::concat_channels;

use super::attention::LucidrainsAttention;
use super::block::LucidrainsBlock;
use super::config::LucidrainsConfig;
use crate::class_embedding::NetworkCondition;
use crate::edm::Resampling;
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::{Activation, Conv2d, ConvEpilogue, DropoutRng, Linear};
use crate::padding::fit;
use crate::time_embedding::TimeProjection;

/// A level on either way: two blocks, attention, and a convolution that changes the size on all but the last.
#[derive(Module, Debug)]
pub struct LucidrainsLevel {
    first: LucidrainsBlock,
    second: LucidrainsBlock,
    attn: LucidrainsAttention,
    resample: Conv2d,
    #[module(skip)]
    resampling: Resampling,
}

impl LucidrainsLevel {
    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, height', width']`
    fn leave(&self, x: Tensor<4>) -> Tensor<4> {
        match self.resampling {
            Resampling::Keep => self.resample.forward(x),
            Resampling::Down => {
                let [batch, channels, height, width] = x.dims();
                // [batch, in, h, 2, w, 2] -> [batch, in, 2, 2, h, w] -> [batch, 4·in, h, w]
                let squares = x
                    .reshape([batch, channels, height / 2, 2, width / 2, 2])
                    .permute([0, 1, 3, 5, 2, 4])
                    .reshape([batch, 4 * channels, height / 2, width / 2]);
                self.resample.forward(squares)
            }
            Resampling::Up => {
                let doubled = ConvEpilogue {
                    upsample_nearest_2x: true,
                    ..ConvEpilogue::default()
                };
                self.resample.forward_around(x, doubled)
            }
        }
    }
}

/// The network that denoising-diffusion-pytorch calls `Unet`.
#[derive(Module, Debug)]
pub struct LucidrainsUNet {
    init_conv: Conv2d,
    sinusoids: Option<Param<Tensor<1>>>,
    time_linear_1: Linear,
    time_linear_2: Linear,
    downs: Vec<LucidrainsLevel>,
    mid_block1: LucidrainsBlock,
    mid_attn: LucidrainsAttention,
    mid_block2: LucidrainsBlock,
    ups: Vec<LucidrainsLevel>,
    final_res_block: LucidrainsBlock,
    final_conv: Conv2d,
    time: TimeProjection,
    #[module(skip)]
    config: LucidrainsConfig,
}

impl LucidrainsUNet {
    /// Builds the network with PyTorch's default initial values, of the seed of `init`.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn new(config: &LucidrainsConfig, init: &mut Init) -> Result<Self, UnetError> {
        config.validate()?;
        let channels = config.channels();
        let last = channels.len() - 2;
        let (first, middle) = (channels[0], channels[last + 1]);
        let time = config.time_channels();
        let block = |sides: [usize; 2], init: &mut Init| {
            LucidrainsBlock::new(sides, time, config.dropout, init)
        };
        let attention = |level: usize, channels: usize, full: bool, init: &mut Init| {
            let heads = [config.attn_heads[level], config.attn_dim_head[level]];
            LucidrainsAttention::new(channels, full, heads, init)
        };
        let down = |level: usize, init: &mut Init| {
            let (input, output) = (channels[level], channels[level + 1]);
            LucidrainsLevel {
                first: block([input, input], init),
                second: block([input, input], init),
                attn: attention(level, input, config.full_attn[level], init),
                resample: match level == last {
                    true => Conv2d::same(input, output, 3, init),
                    false => Conv2d::same(4 * input, output, 1, init),
                },
                resampling: match level == last {
                    true => Resampling::Keep,
                    false => Resampling::Down,
                },
            }
        };
        let up = |level: usize, init: &mut Init| {
            let (input, output) = (channels[level], channels[level + 1]);
            LucidrainsLevel {
                first: block([output + input, output], init),
                second: block([output + input, output], init),
                attn: attention(level, output, config.full_attn[level], init),
                resample: Conv2d::same(output, input, 3, init),
                resampling: match level {
                    0 => Resampling::Keep,
                    _ => Resampling::Up,
                },
            }
        };
        let learned = config.learned_sinusoidal_dim;
        Ok(Self {
            init_conv: Conv2d::same(config.in_channels, first, 7, init),
            sinusoids: (learned > 0).then(|| init.normal([learned / 2], 1.0)),
            time_linear_1: Linear::new(config.time_features(), time, init),
            time_linear_2: Linear::new(time, time, init),
            downs: (0..=last).map(|level| down(level, init)).collect(),
            mid_block1: block([middle, middle], init),
            mid_attn: attention(last, middle, true, init),
            mid_block2: block([middle, middle], init),
            ups: (0..=last).rev().map(|level| up(level, init)).collect(),
            final_res_block: block([2 * first, first], init),
            final_conv: Conv2d::same(first, config.out_channels, 1, init),
            time: TimeProjection::positional(config.dim, false, 1.0),
            config: config.clone(),
        })
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &LucidrainsConfig {
        &self.config
    }

    /// The network's output. `rng` switches dropout on (training).
    ///
    /// # Shapes   `x`: `[batch, in_channels, height, width]`, `t`: `[batch]`;
    /// returns `[batch, out_channels, height, width]`
    /// # Units    `t` in steps
    /// # Errors   [`UnetError::Shape`], [`UnetError::Size`] or [`UnetError::Labels`] for inputs that do not fit the
    /// configuration
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, UnetError> {
        let [batch, channels, height, width] = x.dims();
        let shape = |input, got: Vec<usize>, expected: String| {
            Err(UnetError::Shape {
                input,
                got,
                expected,
            })
        };
        if channels != self.config.in_channels {
            let expected = format!("[batch, {}, height, width]", self.config.in_channels);
            return shape("x", x.dims().to_vec(), expected);
        }
        if t.dims() != [batch] {
            return shape("t", t.dims().to_vec(), format!("[{batch}]"));
        }
        if !condition.is_empty() {
            return Err(UnetError::Labels {
                problem: "this network is told of no classes or other conditions; leave them out"
                    .into(),
            });
        }
        let config = &self.config;
        let padding = fit(height, width, config.dim_mults.len(), config.pad)?;
        let dtype: FloatDType = x.dtype().into();
        // What every block begins with.
        let emb = silu(self.embed(t)).cast(dtype);

        let x = self.init_conv.forward(padding.pad(x));
        let entered = x.clone();
        let (mut x, mut skips) = (x, Vec::new());
        for level in &self.downs {
            x = level.first.forward(x, &emb, rng);
            skips.push(x.clone());
            x = level.attn.forward(level.second.forward(x, &emb, rng));
            skips.push(x.clone());
            x = level.leave(x);
        }
        x = self.mid_block1.forward(x, &emb, rng);
        x = self.mid_attn.forward(x);
        x = self.mid_block2.forward(x, &emb, rng);
        let mut join = |x: Tensor<4>| match skips.pop() {
            Some(skip) => concat_channels(x, skip),
            None => x,
        };
        for level in &self.ups {
            x = level.first.forward(join(x), &emb, rng);
            x = level.second.forward(join(x), &emb, rng);
            x = level.leave(level.attn.forward(x));
        }
        x = self
            .final_res_block
            .forward(concat_channels(x, entered), &emb, rng);
        Ok(padding.crop(self.final_conv.forward(x)))
    }

    /// # Shapes   `t`: `[batch]`; returns `[batch, time_channels]`
    fn embed(&self, t: Tensor<1>) -> Tensor<2> {
        let features = match &self.sinusoids {
            None => self.time.forward(t),
            Some(frequencies) => {
                // [batch] -> [batch, 1] -> [batch, 1 + learned]
                let t = t.unsqueeze_dim::<2>(1);
                let angle =
                    t.clone() * frequencies.val().unsqueeze::<2>() * (2.0 * std::f64::consts::PI);
                Tensor::cat(vec![t, angle.clone().sin(), angle.cos()], 1)
            }
        };
        let hidden = Activation::Gelu.apply(self.time_linear_1.forward(features));
        self.time_linear_2.forward(hidden)
    }
}
