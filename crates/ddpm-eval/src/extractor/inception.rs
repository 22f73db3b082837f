//! FID's Inception of 2015 (Szegedy et al. 2015; Heusel et al. 2017), as pytorch-fid and torch-fidelity run it.
//!
//! Not torchvision's, though its tensors have the same names: means within a block do not count the zeros around an image,
//! the last block has a maximum where the others have a mean, and there are 1008 classes.

mod blocks;
mod weights;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ddpm_kernels::{WeightCache, linear};
use ddpm_store::torch::TorchFile;
use ddpm_store::{NamedTensor, TensorFile};

use self::blocks::{Block, ConvRelu, Pool, Window, shrink};
use self::weights::Weights;
use crate::error::EvalError;

/// Numbers that precision, FID and KID look at.
const FEATURES: usize = 2048;
/// Of TensorFlow's graph: those of ImageNet and eight that are never used.
const CLASSES: usize = 1008;
/// Channels of `Mixed_6d.branch1x1` that sFID looks at, the first ones.
const SPATIAL_CHANNELS: usize = 7;

/// The network, its normalisations folded into its convolutions, for inference alone.
#[derive(Debug)]
pub struct Inception {
    /// `Conv2d_1a` to `Conv2d_2b`, before the first maximum.
    first: Vec<ConvRelu>,
    /// `Conv2d_3b` and `Conv2d_4a`, before the second maximum.
    second: Vec<ConvRelu>,
    /// `Mixed_5b` to `Mixed_6c`.
    middle: Vec<Block>,
    /// `Mixed_6d`, one of whose branches sFID looks at.
    mixed_6d: Block,
    mixed_6e: Block,
    /// `Mixed_7a` to `Mixed_7c`.
    last: Vec<Block>,
    /// `[1008, 2048]`
    classes: Tensor<2>,
    /// Zeros: the Inception Score is that of the logits without their bias.
    no_bias: Tensor<1>,
    cache: WeightCache,
}

/// Everything that figures of quality look at.
#[derive(Debug, Clone)]
pub struct InceptionOutput {
    /// `pool_3`, `[n, 2048]`: the mean over positions after the last block.
    pub pool3: Tensor<2>,
    /// sFID's features that keep their places, `[n, 2023]`: the first 7 channels of `Mixed_6d.branch1x1` at 17×17 positions,
    /// position by position.
    pub spatial: Tensor<2>,
    /// `[n, 1008]`, without the bias.
    pub logits: Tensor<2>,
    /// `[n, 64]`, `[n, 192]` and `[n, 768]`: means over positions after the first maximum, after the second, and after
    /// `Mixed_6e`.
    pub means: [Tensor<2>; 3],
}

impl Inception {
    /// Reads a safetensors file, or the file of PyTorch's that `pt_inception-2015-12-05` was published as.
    ///
    /// # Errors   [`EvalError::Store`] for a file that cannot be read, and those of [`Inception::from_tensors`]
    pub fn load(path: &Path, device: &Device) -> Result<Self, EvalError> {
        let named_so = path.extension().is_some_and(|extension| {
            ["pt", "pth", "pkl", "bin", "ckpt"]
                .iter()
                .any(|known| extension == *known)
        });
        let tensors = match named_so || TorchFile::looks_like(path) {
            true => TorchFile::open(path)?.root().read_tensors()?,
            false => TensorFile::read(path)?.tensors,
        };
        Self::from_tensors(path, tensors, device)
    }

    /// The network of these tensors, of any names before `Conv2d_1a_3x3.conv.weight` and its like; others are passed over.
    ///
    /// `path`: where they come from, for messages
    ///
    /// # Errors   [`EvalError::Format`] naming a tensor that is missing, has another shape or holds NaN or an infinity
    pub fn from_tensors(
        path: &Path,
        tensors: Vec<NamedTensor>,
        device: &Device,
    ) -> Result<Self, EvalError> {
        let weights = &mut Weights::new(path, tensors, device);
        let first = vec![
            weights.layer("Conv2d_1a_3x3", 3, Window::inner(32, 2))?,
            weights.layer("Conv2d_2a_3x3", 32, Window::inner(32, 1))?,
            weights.layer("Conv2d_2b_3x3", 32, Window::same(64, [3, 3]))?,
        ];
        let second = vec![
            weights.layer("Conv2d_3b_1x1", 64, Window::same(80, [1, 1]))?,
            weights.layer("Conv2d_4a_3x3", 80, Window::inner(192, 1))?,
        ];
        let middle = vec![
            blocks::mixed_5(weights, "Mixed_5b", 192, 32)?,
            blocks::mixed_5(weights, "Mixed_5c", 256, 64)?,
            blocks::mixed_5(weights, "Mixed_5d", 288, 64)?,
            blocks::mixed_6a(weights)?,
            blocks::mixed_6(weights, "Mixed_6b", 128)?,
            blocks::mixed_6(weights, "Mixed_6c", 160)?,
        ];
        let mixed_6d = blocks::mixed_6(weights, "Mixed_6d", 160)?;
        let mixed_6e = blocks::mixed_6(weights, "Mixed_6e", 192)?;
        let last = vec![
            blocks::mixed_7a(weights)?,
            blocks::mixed_7(weights, "Mixed_7b", 1280, Pool::Mean)?,
            blocks::mixed_7(weights, "Mixed_7c", 2048, Pool::Max)?,
        ];
        Ok(Self {
            first,
            second,
            middle,
            mixed_6d,
            mixed_6e,
            last,
            classes: weights.tensor("fc.weight", [CLASSES, FEATURES])?,
            no_bias: Tensor::zeros([CLASSES], device),
            cache: WeightCache::default(),
        })
    }

    /// # Shapes   `x`: `[n, 3, 299, 299]`
    ///
    /// # Units   as [`Resize::input`](crate::Resize::input) gives them, about [-1, 1]
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> InceptionOutput {
        let [n, ..] = x.dims();
        // [n, 3, 299, 299] -> [n, 32, 149, 149] -> [n, 32, 147, 147] -> [n, 64, 147, 147] -> [n, 64, 73, 73]
        let x = shrink(through(&self.first, x));
        let first = mean(x.clone());
        // -> [n, 80, 73, 73] -> [n, 192, 71, 71] -> [n, 192, 35, 35]
        let x = shrink(through(&self.second, x));
        let second = mean(x.clone());
        // -> [n, 256, 35, 35] -> [n, 288, 35, 35] twice -> [n, 768, 17, 17] three times
        let x = self.middle.iter().fold(x, |x, block| block.forward(x));
        let parts = self.mixed_6d.parts(x);
        let seen = parts[0].clone().narrow(1, 0, SPATIAL_CHANNELS);
        let [_, channels, height, width] = seen.dims();
        // [n, 7, 17, 17] -> [n, 17, 17, 7] -> [n, 2023]
        let spatial = seen
            .permute([0, 2, 3, 1])
            .reshape([n, height * width * channels]);
        let x = self.mixed_6e.forward(Tensor::cat(parts, 1));
        let third = mean(x.clone());
        // [n, 768, 17, 17] -> [n, 1280, 8, 8] -> [n, 2048, 8, 8] twice -> [n, 2048]
        let x = self.last.iter().fold(x, |x, block| block.forward(x));
        let pool3 = mean(x);
        let logits = linear(
            pool3.clone(),
            self.classes.clone(),
            self.no_bias.clone(),
            Some(&self.cache),
        );
        InceptionOutput {
            pool3,
            spatial,
            logits,
            means: [first, second, third],
        }
    }
}

fn through(layers: &[ConvRelu], x: Tensor<4>) -> Tensor<4> {
    layers.iter().fold(x, |x, layer| layer.forward(x))
}

/// The mean over positions, row by row, so that no sum in f32 has thousands of terms.
///
/// # Shapes   `x`: `[n, channels, height, width]`; returns `[n, channels]`
fn mean(x: Tensor<4>) -> Tensor<2> {
    let [n, channels, ..] = x.dims();
    x.mean_dim(3).mean_dim(2).reshape([n, channels])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "Conv2d_1a_3x3.conv.weight";

    fn tensor(name: &str, shape: &[usize]) -> NamedTensor {
        NamedTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: vec![0.5; shape.iter().product()],
        }
    }

    /// All of the first layer.
    fn layer(prefix: &str) -> Vec<NamedTensor> {
        let mut tensors = vec![tensor(&format!("{prefix}{FIRST}"), &[32, 3, 3, 3])];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let name = format!("{prefix}Conv2d_1a_3x3.bn.{part}");
            tensors.push(tensor(&name, &[32]));
        }
        let count = format!("{prefix}Conv2d_1a_3x3.bn.num_batches_tracked");
        tensors.push(tensor(&count, &[]));
        tensors
    }

    fn refusal(tensors: Vec<NamedTensor>) -> String {
        let refused = Inception::from_tensors(Path::new("a.pth"), tensors, &Device::flex());
        refused.unwrap_err().to_string()
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused_by_name() {
        let mut cut = layer("");
        cut.retain(|tensor| !tensor.name.ends_with("running_mean"));
        let mut nan = layer("");
        nan[0].data[5] = f32::NAN;
        let mut wide = layer("");
        wide[2] = tensor("Conv2d_1a_3x3.bn.bias", &[33]);
        let mut negative = layer("");
        negative[4].data[3] = -1.0;
        for (tensors, words) in [
            (Vec::new(), "no tensor `Conv2d_1a_3x3.conv.weight`"),
            (cut, "no tensor `Conv2d_1a_3x3.bn.running_mean`"),
            (nan, "`Conv2d_1a_3x3.conv.weight` is NaN at 5"),
            (
                wide,
                "`Conv2d_1a_3x3.bn.bias` has the shape [33] instead of [32]",
            ),
            (negative, "`Conv2d_1a_3x3.bn`"),
            // What comes first is right in these: the next layer is what they lack.
            (layer(""), "no tensor `Conv2d_2a_3x3.conv.weight`"),
            (layer("module."), "no tensor `Conv2d_2a_3x3.conv.weight`"),
            (
                layer("inception.base."),
                "no tensor `Conv2d_2a_3x3.conv.weight`",
            ),
        ] {
            let told = refusal(tensors);
            assert!(
                told.starts_with("a.pth: ") && told.contains(words),
                "{told}"
            );
        }
    }
}
