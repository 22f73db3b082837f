//! 2-d convolution with bias, and what stands around it in a U-Net.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use crate::group_norm::{GroupNormOptions, group_norm};
use crate::upsample::upsample_nearest_2x;

/// Stride and zero padding of a convolution, the same for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Pixels between two outputs.
    pub stride: usize,
    /// Zeros (above and left, below and right).
    pub padding: (usize, usize),
    /// Whether the input is doubled in height and width first, by nearest neighbour.
    pub upsample_nearest_2x: bool,
}

/// A group normalisation of a convolution's input.
#[derive(Debug, Clone)]
pub struct Norm {
    /// `[1, in]`, or `[batch, in]`: one for each image
    pub weight: Tensor<2>,
    /// As `weight`.
    pub bias: Tensor<2>,
    /// Groups, epsilon, and whether SiLU follows.
    pub options: GroupNormOptions,
}

/// A convolution with what precedes it and what is added to it:
/// y = weight ∗ double(act(norm(x))) + bias + residual.
///
/// Where there are kernels all of it is one operation: the normalised input is not kept.
#[derive(Debug)]
pub struct Convolution<'a> {
    /// The normalisation of the input, if there is one.
    pub norm: Option<Norm>,
    /// `[out, in, k, k]`
    pub weight: Tensor<4>,
    /// `[1, out]`, or `[batch, out]`: one for each image, as the time embedding adds it.
    pub bias: Tensor<2>,
    /// Added to the result, of its shape.
    pub residual: Option<Tensor<4>>,
    /// Stride, padding and doubling.
    pub options: Conv2dOptions,
    /// Where the weights may be kept as the kernel reads them, for a network that is not being trained.
    pub cache: Option<&'a WeightCache>,
}

/// A layer's weights in the order in which its kernel reads them, from one sampling step to the
/// next. It is used as long as the layer's weight is the same tensor, and only without autodiff. A clone of a
/// layer begins with nothing kept.
#[derive(Debug, Default)]
pub struct WeightCache {
    #[cfg(feature = "flex")]
    pub(crate) entry: std::sync::Arc<std::sync::Mutex<Option<crate::cpu::CachedWeight>>>,
    #[cfg(feature = "cube")]
    pub(crate) cube: std::sync::Arc<std::sync::Mutex<Option<crate::cube::CachedWeight>>>,
}

impl Clone for WeightCache {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl WeightCache {
    /// The same cache once more.
    #[cfg(any(feature = "flex", feature = "cube"))]
    pub(crate) fn share(&self) -> Self {
        Self {
            #[cfg(feature = "flex")]
            entry: self.entry.clone(),
            #[cfg(feature = "cube")]
            cube: self.cube.clone(),
        }
    }
}

/// What a convolution is besides its tensors.
#[cfg(any(feature = "flex", feature = "cube"))]
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) conv: Conv2dOptions,
    pub(crate) norm: Option<GroupNormOptions>,
    pub(crate) residual: bool,
    pub(crate) cache: Option<WeightCache>,
}

impl Convolution<'_> {
    /// # Shapes   `x`: `[batch, in, height, width]`; returns `[batch, out, height', width']` with
    /// height' = (height + both paddings - k) / stride + 1, of the doubled height if it is doubled
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        #[cfg(any(feature = "flex", feature = "cube"))]
        if crate::Place::of(&x.device()).has_kernels() {
            return if self.options.upsample_nearest_2x && !self.can_double(&x) {
                self.doubled_first(x)
            } else {
                crate::extension::convolution(self, x)
            };
        }
        self.reference(x)
    }

    /// Whether the kernel reads a doubled input for such weights.
    #[cfg(any(feature = "flex", feature = "cube"))]
    fn can_double(&self, x: &Tensor<4>) -> bool {
        match crate::Place::of(&x.device()) {
            #[cfg(feature = "flex")]
            crate::Place::Cpu => crate::cpu::can_double(&self.weight, self.options),
            _ => true,
        }
    }

    /// The doubling as an operation of its own, for kernels that do not read doubled.
    #[cfg(any(feature = "flex", feature = "cube"))]
    fn doubled_first(mut self, x: Tensor<4>) -> Tensor<4> {
        let x = upsample_nearest_2x(match self.norm.take() {
            Some(norm) => group_norm(x, norm.weight, norm.bias, norm.options),
            None => x,
        });
        self.options.upsample_nearest_2x = false;
        self.forward(x)
    }

    /// burn's own operations: what other devices use, and what the kernel is tested against.
    pub(crate) fn reference(self, x: Tensor<4>) -> Tensor<4> {
        let mut x = match self.norm {
            Some(norm) => group_norm(x, norm.weight, norm.bias, norm.options),
            None => x,
        };
        if self.options.upsample_nearest_2x {
            x = crate::upsample::reference(x);
        }
        let [rows, channels] = self.bias.dims();
        let options = ConvOptions {
            stride: [self.options.stride; 2],
            padding: [self.options.padding; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let y = if rows == 1 {
            let bias = self.bias.reshape([channels]);
            burn::tensor::module::conv2d(x, self.weight, Some(bias), options)
        } else {
            // [batch, out] -> [batch, out, 1, 1]
            burn::tensor::module::conv2d(x, self.weight, None, options)
                + self.bias.unsqueeze_dims::<4>(&[2, 3])
        };
        match self.residual {
            Some(residual) => y + residual,
            None => y,
        }
    }
}

/// y\[b,o,i,j\] = bias\[o\] + Σ weight\[o,c,u,v\] · x\[b, c, stride·i + u - pad, stride·j + v - pad\]
///
/// # Shapes   `x`: `[batch, in, height, width]`, `weight`: `[out, in, k, k]`, `bias`: `[out]`; returns
/// as [`Convolution::forward`]
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let convolution = Convolution {
        norm: None,
        weight,
        bias: bias.unsqueeze(),
        residual: None,
        options,
        cache: None,
    };
    convolution.forward(x)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
