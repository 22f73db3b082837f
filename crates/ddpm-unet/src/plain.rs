//! The plain U-Net of tutorials: no residuals, no normalisation, no attention.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use ddpm_kernels::concat_channels;

use crate::error::{UnetError, excerpt};
use crate::init::Init;
use crate::layers::{Conv2d, ConvTranspose2d};
use crate::resample::resize_nearest;

/// Two 3×3 convolutions, each followed by ReLU.
#[derive(Module, Debug)]
pub struct DoubleConv {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl DoubleConv {
    fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self {
            conv1: Conv2d::same(input, output, 3, init),
            conv2: Conv2d::same(output, output, 3, init),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.conv2.forward(relu(self.conv1.forward(x))))
    }
}

/// Transposed convolution to twice the size, then two convolutions over \[skip, h\].
#[derive(Module, Debug)]
pub struct UpStage {
    up: ConvTranspose2d,
    convs: DoubleConv,
}

/// Encoder and decoder of double convolutions with concatenated skips (Ronneberger et al. 2015).
///
/// The time step enters as one more input channel, constant over the image and scaled to \[0, 1\]:
/// t / (T-1). Sizes that do not halve evenly are met by nearest-neighbour resizing on the way up.
#[derive(Module, Debug)]
pub struct PlainUNet {
    encoder: Vec<DoubleConv>,
    bottleneck: DoubleConv,
    decoder: Vec<UpStage>,
    conv_out: Conv2d,
    #[module(skip)]
    channels: usize,
    #[module(skip)]
    features: Vec<usize>,
    #[module(skip)]
    steps: usize,
}

impl PlainUNet {
    /// A network over `channels`-channel images with `features` channels a level; `steps` is T.
    ///
    /// # Errors   [`UnetError::Config`] if there is no level or a level without channels
    pub fn new(
        channels: usize,
        features: &[usize],
        steps: usize,
        init: &mut Init,
    ) -> Result<Self, UnetError> {
        let last = check_levels(channels, features)?;
        let mut entering = channels + 1;
        let mut encoder = Vec::new();
        for &width in features {
            encoder.push(DoubleConv::new(entering, width, init));
            entering = width;
        }
        let bottleneck = DoubleConv::new(last, 2 * last, init);
        entering = 2 * last;
        let mut decoder = Vec::new();
        for &width in features.iter().rev() {
            decoder.push(UpStage {
                up: ConvTranspose2d::new(entering, width, init),
                convs: DoubleConv::new(2 * width, width, init),
            });
            entering = width;
        }
        Ok(Self {
            encoder,
            bottleneck,
            decoder,
            conv_out: Conv2d::same(features[0], channels, 1, init),
            channels,
            features: features.to_vec(),
            steps,
        })
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Channels of each level.
    pub fn features(&self) -> &[usize] {
        &self.features
    }

    /// Diffusion steps T, which the time channel is scaled by.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// # Errors   [`UnetError::Shape`] if the image is too small to be halved at each level
    pub(crate) fn check_size(&self, height: usize, width: usize) -> Result<(), UnetError> {
        check_size(self.channels, self.encoder.len(), height, width)
    }

    /// # Shapes   `x`: `[batch, channels, height, width]`, `t`: `[batch]`; returns as `x`
    /// # Units    `t` in steps 0..T-1
    /// # Errors   [`UnetError::Shape`] for inputs of other shapes, or too small to halve at each level
    pub fn forward(&self, x: Tensor<4>, t: Tensor<1>) -> Result<Tensor<4>, UnetError> {
        let [batch, channels, height, width] = x.dims();
        if channels != self.channels {
            return Err(UnetError::Shape {
                input: "x",
                got: x.dims().to_vec(),
                expected: format!("[batch, {}, height, width]", self.channels),
            });
        }
        self.check_size(height, width)?;
        if t.dims() != [batch] {
            return Err(UnetError::Shape {
                input: "t",
                got: t.dims().to_vec(),
                expected: format!("[{batch}]"),
            });
        }
        let last_step = self.steps.saturating_sub(1).max(1) as f64;
        // [batch] -> [batch, 1, height, width]
        let time = (t / last_step)
            .unsqueeze_dims::<4>(&[1, 2, 3])
            .expand([batch, 1, height, width])
            .cast(x.dtype());
        let mut x = concat_channels(x, time);
        let mut skips = Vec::new();
        for stage in &self.encoder {
            x = stage.forward(x);
            skips.push(x.clone());
            x = max_pool2d(x, MaxPoolOptions::new([2, 2]));
        }
        x = self.bottleneck.forward(x);
        for stage in &self.decoder {
            x = stage.up.forward(x);
            if let Some(skip) = skips.pop() {
                let [_, _, height, width] = skip.dims();
                if x.dims()[2..] != [height, width] {
                    x = resize_nearest(x, [height, width]);
                }
                // [batch, c, h, w] twice -> [batch, 2c, h, w]
                x = concat_channels(skip, x);
            }
            x = stage.convs.forward(x);
        }
        Ok(self.conv_out.forward(x))
    }
}

/// The channels of the last level.
///
/// # Errors   [`UnetError::Config`] if there is no level or a level without channels
pub(crate) fn check_levels(channels: usize, features: &[usize]) -> Result<usize, UnetError> {
    let in_range = |count: &usize| (1..=1 << 16).contains(count);
    match features.last() {
        Some(&last)
            if features.iter().all(in_range) && in_range(&channels) && features.len() <= 12 =>
        {
            Ok(last)
        }
        _ => Err(UnetError::Config {
            key: "features".into(),
            got: excerpt(&format!("{features:?}")),
            expected: "must list 1 to 12 channel counts between 1 and 65536".into(),
        }),
    }
}

/// # Errors   [`UnetError::Shape`] if the image is too small to be halved at each level
pub(crate) fn check_size(
    channels: usize,
    levels: usize,
    height: usize,
    width: usize,
) -> Result<(), UnetError> {
    let smallest = 1usize << levels;
    if height < smallest || width < smallest {
        return Err(UnetError::Shape {
            input: "x",
            got: vec![channels, height, width],
            expected: format!("sides of at least {smallest} pixels, which {levels} halvings need"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
