//! Small networks and reproducible numbers for the tests of this crate.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::noise::{Stream, normal_fill};

use crate::config::{DownBlockKind, UNet2DConfig, UpBlockKind};
use crate::init::{Init, InitKind};
use crate::unet::UNet2D;

/// Standard normal numbers, the same for the same `index`.
pub fn normal(index: u64, count: usize) -> Vec<f32> {
    let mut data = vec![0.0; count];
    normal_fill(7, Stream::Synthetic, 0, index, &mut data);
    data
}

/// [`normal`] as a tensor.
pub fn normal_tensor<const D: usize>(index: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let data = normal(index, shape.iter().product());
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// A tensor's numbers on the host.
pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// max |a - b|
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Two levels, the lower with attention; one image channel.
pub fn tiny_config() -> UNet2DConfig {
    UNet2DConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![4, 8],
        down_block_types: vec![DownBlockKind::DownBlock2D, DownBlockKind::AttnDownBlock2D],
        up_block_types: vec![UpBlockKind::AttnUpBlock2D, UpBlockKind::UpBlock2D],
        layers_per_block: 1,
        norm_num_groups: Some(2),
        attention_head_dim: Some(4),
        ..UNet2DConfig::default()
    }
}

/// The network of `config` with non-zero initial weights, without padding.
pub fn network(config: &UNet2DConfig, device: &Device) -> UNet2D {
    UNet2D::new(config, false, &mut Init::new(3, InitKind::Default, device)).unwrap()
}
