//! The block of EDM2 (Karras et al. 2024, figure 21).

use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};
use ddpm_kernels::{attention, upsample_nearest_2x};

use super::config::Edm2Config;
use super::mp::{MpConv, MpLinear, mp_silu, mp_sum, normalize};
use crate::edm::Resampling;
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::{Dropout, DropoutRng};
use crate::resample::avg_pool_2x;

/// Which way a block lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Down: the main path is projected, and its pixels are normalised.
    Encoder,
    /// Up: the main path is projected last.
    Decoder,
}

/// What a block is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edm2BlockPlan {
    /// Channels that enter, those of the skip counted.
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) flavour: Flavour,
    pub(crate) resampling: Resampling,
    /// Heads of its attention, 0 without.
    pub(crate) heads: usize,
    /// Channels of the skip that is concatenated, 0 without.
    pub(crate) skip: usize,
}

impl Edm2BlockPlan {
    /// Channels that the residual branch reads.
    pub(crate) fn branch_input(self) -> usize {
        match self.flavour {
            Flavour::Encoder => self.output,
            Flavour::Decoder => self.input,
        }
    }

    /// # Errors   [`UnetError::Config`] if the heads do not divide the channels
    pub(crate) fn check(self) -> Result<(), UnetError> {
        if self.heads > 0 && !self.output.is_multiple_of(self.heads) {
            return Err(UnetError::Config {
                key: "channels_per_head".into(),
                got: format!("{} channels", self.output),
                expected: format!(
                    "the {} heads of such a level do not divide them",
                    self.heads
                ),
            });
        }
        Ok(())
    }
}

/// The numbers that a block's sums are made by.
#[derive(Debug, Clone, Copy)]
struct Balance {
    residual: f64,
    attention: f64,
    clip: Option<f64>,
}

/// Resample and normalise the pixels (encoder), conv → times the embedding → conv on the residual branch, a sum, and
/// cosine attention with a sum.
#[derive(Module, Debug)]
pub struct Edm2Block {
    emb_gain: Param<Tensor<1>>,
    conv_res0: MpConv,
    emb_linear: MpLinear,
    conv_res1: MpConv,
    conv_skip: Option<MpConv>,
    attn_qkv: Option<MpConv>,
    attn_proj: Option<MpConv>,
    dropout: Dropout,
    #[module(skip)]
    plan: Edm2BlockPlan,
    #[module(skip)]
    balance: Balance,
}

impl Edm2Block {
    /// # Errors   [`UnetError::Config`] if the heads do not divide the channels
    pub(super) fn new(
        config: &Edm2Config,
        plan: Edm2BlockPlan,
        init: &mut Init,
    ) -> Result<Self, UnetError> {
        plan.check()?;
        let Edm2BlockPlan { input, output, .. } = plan;
        let attends = plan.heads > 0;
        Ok(Self {
            emb_gain: init.constant([1], 0.0),
            conv_res0: MpConv::new(plan.branch_input(), output, 3, init),
            emb_linear: MpLinear::new(config.emb_channels(), output, init),
            conv_res1: MpConv::new(output, output, 3, init),
            conv_skip: (input != output).then(|| MpConv::new(input, output, 1, init)),
            attn_qkv: attends.then(|| MpConv::new(output, 3 * output, 1, init)),
            attn_proj: attends.then(|| MpConv::new(output, output, 1, init)),
            dropout: Dropout::new(config.dropout),
            plan,
            balance: Balance {
                residual: config.res_balance,
                attention: config.attn_balance,
                clip: config.clip_act,
            },
        })
    }

    /// Whether it finds a skip concatenated.
    pub(super) fn joins(&self) -> bool {
        self.plan.skip > 0
    }

    /// # Shapes   `x`: `[batch, in, height, width]`, `emb`: `[batch, emb_channels]` in f32; returns
    /// `[batch, out, height', width']`
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        emb: &Tensor<2>,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        let mut x = match self.plan.resampling {
            Resampling::Keep => x,
            Resampling::Down => avg_pool_2x(x),
            Resampling::Up => upsample_nearest_2x(x),
        };
        let project = |x: Tensor<4>| match &self.conv_skip {
            Some(conv) => conv.forward(x, None),
            None => x,
        };
        if self.plan.flavour == Flavour::Encoder {
            x = normalize(project(x), 1);
        }

        let y = self.conv_res0.forward(mp_silu(x.clone()), None);
        let gain = self.emb_gain.val().unsqueeze::<2>();
        let dtype: FloatDType = x.dtype().into();
        // [batch, out] -> [batch, out, 1, 1]
        let c = (self.emb_linear.forward(emb.clone()) * gain + 1.0).unsqueeze_dims::<4>(&[2, 3]);
        let y = self.dropout.forward(mp_silu(y * c.cast(dtype)), rng);
        let y = self.conv_res1.forward(y, None);

        if self.plan.flavour == Flavour::Decoder {
            x = project(x);
        }
        x = mp_sum(x, y, self.balance.residual);
        if let (Some(qkv), Some(proj)) = (&self.attn_qkv, &self.attn_proj) {
            let y = proj.forward(self.cosine_attention(qkv, x.clone()), None);
            x = mp_sum(x, y, self.balance.attention);
        }
        match self.balance.clip {
            Some(most) => x.clamp(-most, most),
            None => x,
        }
    }

    /// Attention whose queries, keys and values have norm √size in each head, so that scores are √size times cosines.
    fn cosine_attention(&self, qkv: &MpConv, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let heads = self.plan.heads;
        // They interleave there: [channels, 3] -> [3, channels]
        let y = qkv.forward_split(x, 3);
        // [batch, 3·channels, height, width] -> [batch·3·heads, size, height, width]
        let y = y.reshape([batch * 3 * heads, channels / heads, height, width]);
        let y = normalize(y, 1).reshape([batch, 3 * channels, height, width]);
        attention(y, heads)
    }
}
