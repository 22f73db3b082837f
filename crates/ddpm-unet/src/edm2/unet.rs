//! The network (Karras et al. 2024, figure 21, config G).

use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::concat_channels;

use super::block::Edm2Block;
use super::config::{Edm2Config, Planned};
use super::mp::{MpConv, MpFourier, MpLinear, mp_cat, mp_silu, mp_sum, with_unit_weights};
use crate::class_embedding::NetworkCondition;
use crate::dict::Dict;
use crate::edm::{columns, indices};
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::DropoutRng;
use crate::padding::fit;

/// A part of either way.
#[expect(clippy::large_enum_variant, reason = "all parts but one are blocks")]
#[derive(Module, Debug)]
pub enum Edm2Part {
    /// The first convolution.
    Conv(MpConv),
    /// A block.
    Block(Edm2Block),
}

/// The network that EDM2 calls `UNet`.
#[derive(Module, Debug)]
pub struct Edm2UNet {
    out_gain: Param<Tensor<1>>,
    emb_fourier: MpFourier,
    emb_noise: MpLinear,
    emb_label: Option<MpLinear>,
    enc: Dict<Edm2Part>,
    dec: Dict<Edm2Part>,
    out_conv: MpConv,
    #[module(skip)]
    config: Edm2Config,
}

impl Edm2UNet {
    /// Builds the network with the initial values of EDM2, of the seed of `init`; its output is zero until `out_gain`
    /// is something else.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn new(config: &Edm2Config, init: &mut Init) -> Result<Self, UnetError> {
        config.validate()?;
        let (noise, emb) = (config.noise_channels(), config.emb_channels());
        let first = config.channels()[0];
        let plan = config.plan();
        let build = |parts: Vec<Planned>, init: &mut Init| {
            let built = parts.into_iter().map(|part| {
                let built = match part.block {
                    // A channel of ones stands in for biases.
                    None => Edm2Part::Conv(MpConv::new(config.in_channels + 1, first, 3, init)),
                    Some(plan) => Edm2Part::Block(Edm2Block::new(config, plan, init)?),
                };
                Ok::<_, UnetError>((part.name, built))
            });
            Ok::<_, UnetError>(Dict(built.collect::<Result<_, _>>()?))
        };
        Ok(Self {
            out_gain: init.constant([1], 0.0),
            emb_fourier: MpFourier::new(noise, init),
            emb_noise: MpLinear::new(noise, emb, init),
            emb_label: (config.label_dim > 0).then(|| MpLinear::new(config.label_dim, emb, init)),
            enc: build(plan.enc, init)?,
            dec: build(plan.dec, init)?,
            out_conv: MpConv::new(first, config.out_channels, 3, init),
            config: config.clone(),
        })
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &Edm2Config {
        &self.config
    }

    /// The network after an update of its weights: each output's have a mean square of 1 again.
    #[must_use]
    pub fn with_unit_weights(self) -> Self {
        with_unit_weights(self)
    }

    /// F_θ(x; c_noise). `rng` switches dropout on (training).
    ///
    /// # Shapes   `x`: `[batch, in_channels, height, width]`, `t`: `[batch]`;
    /// returns `[batch, out_channels, height, width]`
    /// # Units    `t` is c_noise = ln(σ)/4
    /// # Errors   [`UnetError::Shape`], [`UnetError::Size`] or [`UnetError::Labels`] for inputs that do not fit the
    /// configuration
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, UnetError> {
        self.observed(x, t, condition, rng, &mut |_, _| {})
    }

    /// The same, which shows what each part leaves.
    pub(super) fn observed(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
        seen: &mut dyn FnMut(&str, &Tensor<4>),
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
        if let Some(vector) = &condition.vector {
            let expected = "nothing: a network of EDM2 is told of no numbers".into();
            return shape("vector", vector.dims().to_vec(), expected);
        }
        let labels = indices(self.config.label_dim, condition.labels, batch)?;
        let padding = fit(
            height,
            width,
            self.config.channel_mult.len(),
            self.config.pad,
        )?;

        let mut emb = self.emb_noise.forward(self.emb_fourier.forward(t));
        if let (Some(layer), Some(labels)) = (&self.emb_label, labels) {
            // The layer of a one-hot vector times √classes.
            let gain = (self.config.label_dim as f64).sqrt();
            let label = columns(layer.direction() * gain, labels);
            emb = mp_sum(emb, label, self.config.label_balance);
        }
        let dtype: FloatDType = x.dtype().into();
        let emb = mp_silu(emb).cast(dtype);

        let x = padding.pad(x);
        let ones = x.clone().narrow(1, 0, 1).ones_like();
        let mut x = concat_channels(x, ones);
        let mut skips = Vec::new();
        for (name, part) in &self.enc.0 {
            x = match part {
                Edm2Part::Conv(conv) => conv.forward(x, None),
                Edm2Part::Block(block) => block.forward(x, &emb, rng),
            };
            seen(name, &x);
            skips.push(x.clone());
        }
        for (name, part) in &self.dec.0 {
            let Edm2Part::Block(block) = part else {
                continue;
            };
            if block.joins()
                && let Some(skip) = skips.pop()
            {
                x = mp_cat(x, skip, self.config.concat_balance);
            }
            x = block.forward(x, &emb, rng);
            seen(name, &x);
        }
        let y = self.out_conv.forward(x, Some(self.out_gain.val()));
        Ok(padding.crop(y))
    }
}
