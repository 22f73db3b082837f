use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Gradients};
use ddpm_kernels::DropoutKey;

use super::*;
use crate::config::{DownBlockKind, ResampleStyle, UNet2DConfig, UpBlockKind};
use crate::testing::{largest_difference, network, normal_tensor, tiny_config, values};

/// The gradient of each parameter, taken from whichever container has it; in two of them it must not be.
fn gradients(net: &UNet2D, grads: &mut [Gradients]) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a mut [Gradients], Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let mut found = self.0.iter_mut().filter_map(|g| value.grad_remove(g));
            self.1.push(found.next().map_or_else(Vec::new, values));
            assert!(found.next().is_none(), "one gradient a parameter");
        }
    }
    let mut collect = Collect(grads, Vec::new());
    net.visit(&mut collect);
    collect.1
}

fn compare(config: &UNet2DConfig) {
    let device = Device::flex().autodiff();
    let net = network(config, &device);
    let shape = [2, config.in_channels, 8, 8];
    let x = normal_tensor::<4>(0, shape, &device);
    let w = normal_tensor::<4>(1, shape, &device);
    let t = || Tensor::from_floats([3.0, 500.0], &device);
    let rng = || DropoutRng::new(DropoutKey::new(5, 3, &device), 0);
    let plain = net
        .forward(x.clone(), t(), NetworkCondition::default(), Some(&rng()))
        .unwrap();
    let loss = (plain.clone() * w.clone()).sum();
    let expected = gradients(&net, &mut [loss.backward()]);
    let mut output = None;
    let mut found = net
        .recomputed(x, t(), NetworkCondition::default(), Some(&rng()), |y| {
            output = Some(values(y.clone()));
            Ok::<_, UnetError>((y * w).sum())
        })
        .unwrap();
    assert!(largest_difference(&output.unwrap(), &values(plain)) < 1e-5);
    let got = gradients(&net, &mut found);
    let size = expected
        .iter()
        .flatten()
        .fold(0.0f32, |most, g| most.max(g.abs()));
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert!(!expected.is_empty(), "parameter {i} has a gradient");
        let difference = largest_difference(got, expected);
        assert!(
            difference < 1e-5 * size,
            "parameter {i}: {difference} of {size}"
        );
    }
}

/// The same products in the same order but for the rounding of the sums over blocks.
#[test]
fn gradients_are_those_of_one_pass() {
    compare(&tiny_config());
    compare(&UNet2DConfig {
        dropout: 0.3,
        ..tiny_config()
    });
    compare(&UNet2DConfig {
        mid_block_type: None,
        ..tiny_config()
    });
    compare(&UNet2DConfig {
        downsample_type: ResampleStyle::Resnet,
        upsample_type: ResampleStyle::Resnet,
        layers_per_block: 2,
        center_input_sample: true,
        ..tiny_config()
    });
    compare(&UNet2DConfig {
        in_channels: 3,
        out_channels: 3,
        down_block_types: vec![DownBlockKind::SkipDownBlock2D; 2],
        up_block_types: vec![UpBlockKind::SkipUpBlock2D; 2],
        ..tiny_config()
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::flex().autodiff();
    let net = network(&tiny_config(), &device);
    let x = normal_tensor::<4>(0, [2, 3, 8, 8], &device);
    let t = Tensor::from_floats([3.0, 500.0], &device);
    let refused = net.recomputed(x, t, NetworkCondition::default(), None, |y| {
        Ok::<_, UnetError>(y.sum())
    });
    assert!(matches!(refused, Err(UnetError::Shape { .. })));
}
