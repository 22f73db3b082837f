use burn::tensor::{Device, Tensor};

use super::PlainUNet;
use crate::error::UnetError;
use crate::init::{Init, InitKind};
use crate::params;
use crate::testing::{largest_difference, normal_tensor, values};

fn plain(channels: usize, features: &[usize]) -> Result<PlainUNet, UnetError> {
    let mut init = Init::new(5, InitKind::Default, &Device::flex());
    PlainUNet::new(channels, features, 100, &mut init)
}

#[test]
fn any_size_that_halves_often_enough_keeps_its_shape() {
    let device = Device::flex();
    let net = plain(3, &[4, 5, 6]).unwrap();
    for [height, width] in [[13, 21], [8, 8], [9, 16], [28, 28], [15, 31]] {
        let x = normal_tensor(0, [2, 3, height, width], &device);
        let t = Tensor::from_floats([0.0, 99.0], &device);
        let y = net.forward(x, t).unwrap();
        assert_eq!(y.dims(), [2, 3, height, width]);
        assert!(values(y).iter().all(|y| y.is_finite()));
    }
}

#[test]
fn time_reaches_the_output() {
    let device = Device::flex();
    let net = plain(1, &[8, 12]).unwrap();
    let x = normal_tensor::<4>(0, [1, 1, 8, 8], &device).repeat_dim(0, 3);
    let t = Tensor::from_floats([7.0, 7.0, 90.0], &device);
    let y = values(net.forward(x, t).unwrap());
    assert!(largest_difference(&y[..64], &y[64..128]) < 1e-6);
    assert!(largest_difference(&y[..64], &y[128..]) > 1e-3);
}

#[test]
fn parameter_count_of_the_tutorial_network() {
    let conv = |input: usize, output: usize| 9 * input * output + output;
    let upsample_nearest_2x = |input, output| conv(input, output) + conv(output, output);
    let up = |input: usize, output: usize| {
        4 * input * output + output + upsample_nearest_2x(2 * output, output)
    };
    // One channel more than the image has enters: the time.
    let encoder = upsample_nearest_2x(4, 64)
        + upsample_nearest_2x(64, 128)
        + upsample_nearest_2x(128, 256)
        + upsample_nearest_2x(256, 512);
    let decoder = up(1024, 512) + up(512, 256) + up(256, 128) + up(128, 64);
    let expected = encoder + upsample_nearest_2x(512, 1024) + decoder + (64 * 3 + 3);
    assert_eq!(expected, 31_032_451);

    let net = plain(3, &[64, 128, 256, 512]).unwrap();
    let count: usize = params::shapes(&net)
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(count, expected);
}

#[test]
fn rejects_what_does_not_fit() {
    for (channels, features) in [(3, vec![]), (3, vec![4, 0]), (0, vec![4]), (1, vec![1; 13])] {
        let error = plain(channels, &features).unwrap_err();
        assert!(matches!(error, UnetError::Config { .. }), "{error}");
    }
    let device = Device::flex();
    let net = plain(3, &[4, 5, 6]).unwrap();
    for (x, t) in [([2, 3, 7, 8], 2), ([2, 1, 8, 8], 2), ([2, 3, 8, 8], 1)] {
        let x = normal_tensor(0, x, &device);
        let error = net.forward(x, normal_tensor(1, [t], &device)).unwrap_err();
        assert!(matches!(error, UnetError::Shape { .. }), "{error}");
    }
}
