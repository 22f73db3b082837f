//! DDPM++ and NCSN++ (Song et al. 2021, appendix H; Karras et al. 2022, appendix C).

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Int, Tensor};

use super::Told;
use super::config::{EdmConfig, EdmEmbedding};
use super::layers::{Layers, Projection};
use super::parts::{EdmPart, build, decode, encode};
use crate::dict::Dict;
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::{DropoutRng, Linear};
use crate::time_embedding::TimeProjection;

/// Random Fourier features: \[sin(2π·f·t), cos(2π·f·t)\] with fixed Gaussian f of standard deviation 16.
#[derive(Module, Debug)]
pub struct NoiseFourier {
    freqs: Param<Tensor<1>>,
}

/// Features of the noise level.
#[derive(Module, Debug)]
pub enum NoiseFeatures {
    /// Sinusoids.
    Positional(TimeProjection),
    /// Random Fourier features.
    Fourier(NoiseFourier),
}

/// The network that EDM calls `SongUNet`.
#[derive(Module, Debug)]
pub struct SongUNet {
    map_noise: NoiseFeatures,
    map_label: Option<Linear>,
    map_augment: Option<Projection>,
    map_layer0: Linear,
    map_layer1: Linear,
    enc: Dict<EdmPart>,
    dec: Dict<EdmPart>,
    #[module(skip)]
    config: EdmConfig,
}

impl SongUNet {
    /// # Errors   [`UnetError::Config`] if groups do not fit the channels
    pub(super) fn new(config: &EdmConfig, init: &mut Init) -> Result<Self, UnetError> {
        let features = config.noise_channels();
        let map_noise = match config.embedding_type {
            // Sines first, and frequencies that reach 1/10000 exactly.
            EdmEmbedding::Positional => {
                NoiseFeatures::Positional(TimeProjection::positional(features, false, 1.0))
            }
            EdmEmbedding::Fourier => NoiseFeatures::Fourier(NoiseFourier {
                freqs: init.normal([features / 2], 16.0).set_require_grad(false),
            }),
        };
        let layers = &mut Layers::new(config, init);
        let some = |count: usize| (count > 0).then_some(count);
        let plan = config.plan();
        Ok(Self {
            map_noise,
            map_label: some(config.label_dim).map(|classes| layers.linear(classes, features)),
            map_augment: some(config.augment_dim).map(|n| layers.projection(n, features)),
            map_layer0: layers.linear(features, config.emb_channels()),
            map_layer1: layers.linear(config.emb_channels(), config.emb_channels()),
            enc: build(config, plan.enc, layers)?,
            dec: build(config, plan.dec, layers)?,
            config: config.clone(),
        })
    }

    pub(super) fn config(&self) -> &EdmConfig {
        &self.config
    }

    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        told: Told,
        rng: Option<&DropoutRng>,
    ) -> Tensor<4> {
        let mut emb = match &self.map_noise {
            NoiseFeatures::Positional(sinusoids) => sinusoids.forward(t),
            NoiseFeatures::Fourier(fourier) => {
                // [batch] -> [batch, features/2] -> [batch, features]
                let angle = t.unsqueeze_dim::<2>(1)
                    * fourier.freqs.val().unsqueeze::<2>()
                    * (2.0 * std::f64::consts::PI);
                Tensor::cat(vec![angle.clone().sin(), angle.cos()], 1)
            }
        };
        if let (Some(layer), Some(labels)) = (&self.map_label, told.labels) {
            // The layer of a one-hot vector times √classes.
            let gain = (self.config.label_dim as f64).sqrt();
            let bias = layer.bias().unsqueeze::<2>();
            emb = emb + columns(layer.weight() * gain, labels) + bias;
        }
        if let (Some(layer), Some(augment)) = (&self.map_augment, told.augment) {
            emb = emb + layer.forward(augment);
        }
        let emb = silu(self.map_layer0.forward(emb));
        let dtype: FloatDType = x.dtype().into();
        let emb = silu(self.map_layer1.forward(emb)).cast(dtype);

        let taps = &self.config.resample_filter;
        let (x, skips) = encode(&self.enc, x, &emb, taps, rng);
        let (x, output) = decode(&self.dec, x, skips, &emb, rng);
        output.unwrap_or(x)
    }
}

/// The columns of a weight that class numbers pick, as its product with one-hot vectors does; zeros for the number after
/// the last class.
///
/// # Shapes   `weight`: `[out, classes]`, `labels`: `[batch]`; returns `[batch, out]`
pub(crate) fn columns(weight: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<2> {
    let [output, _] = weight.dims();
    let none = Tensor::zeros([1, output], &weight.device());
    // [out, classes] -> [classes + 1, out]
    Tensor::cat(vec![weight.transpose(), none], 0).select(0, labels)
}
