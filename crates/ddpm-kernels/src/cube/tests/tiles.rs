//! The kernels for matrix units against those for ordinary ones: all of them but the multiplying, which is done by
//! ordinary units where there are no others.

use burn_cubecl::tensor::CubeTensor;

use super::*;
use crate::cube::gemm::{self, Geometry};
use crate::cube::matrix::{self, Addends, Planes};
use crate::cube::{of_dimensions, primitive};

fn tensor<const D: usize>(index: u64, shape: [usize; D]) -> CubeTensor {
    let data = TensorData::new(random(index, shape.iter().product()), shape);
    primitive(Tensor::<D>::from_data(data, &card()))
}

fn read(x: &CubeTensor) -> Vec<f32> {
    values(of_dimensions::<4>(x.clone()))
}

#[track_caller]
fn same(name: &str, batch: usize, g: &Geometry, got: &[f32], expected: &[f32]) {
    let error = relative(got, expected);
    assert!(error < F32, "{name} of {batch} times {g:?}: {error:.2e}");
}

/// Sizes of which none is a multiple of a tile, with strides and paddings that networks have and others.
fn geometry(seed: u64) -> (usize, Geometry) {
    let kernel = [(1, 1), (3, 3), (2, 3), (5, 5)][draw(seed, 0, 4)];
    let stride = 1 + draw(seed, 1, 2);
    let padding = draw(seed, 2, 3).min(kernel.0 - 1);
    let (height, width) = (5 + draw(seed, 3, 9), 5 + draw(seed, 4, 9));
    let out = |side: usize, kernel: usize| (side + 2 * padding - kernel) / stride + 1;
    let geometry = Geometry {
        input: 4 * (1 + draw(seed, 5, 18)),
        height,
        width,
        output: 4 * (1 + draw(seed, 6, 18)),
        out_height: out(height, kernel.0),
        out_width: out(width, kernel.1),
        kernel,
        stride,
        padding,
    };
    (1 + draw(seed, 7, 5), geometry)
}

#[test]
fn convolutions_by_tiles() {
    for seed in 0..24 {
        let (batch, g) = geometry(seed);
        let x = tensor(0, [batch, g.height, g.width, g.input]);
        let w = tensor(1, [g.output, g.kernel.0, g.kernel.1, g.input]);
        let dy = tensor(2, [batch, g.out_height, g.out_width, g.output]);
        let planes = [Planes::Four, Planes::Eight][draw(seed, 8, 2)];
        let y = read(&matrix::forward(&x, &w, None, &g, planes));
        same("y", batch, &g, &y, &read(&gemm::forward(&x, &w, g)));
        let dx = read(&matrix::data_gradient(&dy, &w, &g, planes));
        let expected = read(&gemm::data_gradient(&dy, &w, g));
        same("dx", batch, &g, &dx, &expected);
        // Large tiles are larger than what a processor posing as a card shares among the threads of a cube.
        if matrix::narrow(&g) {
            let dw = read(&matrix::weight_gradient(&x, &dy, &g, planes));
            let expected = read(&gemm::weight_gradient(&x, &dy, g));
            same("dw", batch, &g, &dw, &expected);
        }
    }
}

#[test]
fn what_is_added_to_convolutions_by_tiles() {
    for seed in 0..6 {
        let (batch, g) = geometry(seed);
        let x = tensor(0, [batch, g.height, g.width, g.input]);
        let w = tensor(1, [g.output, g.kernel.0, g.kernel.1, g.input]);
        let rows = [1, batch][draw(seed, 8, 2)];
        let bias = tensor(2, [rows, g.output]);
        let residual = tensor(3, [batch, g.out_height, g.out_width, g.output]);
        let residual = (draw(seed, 9, 2) == 0).then_some(&residual);
        let added = Addends {
            bias: &bias,
            residual,
        };
        let got = read(&matrix::forward(&x, &w, Some(added), &g, Planes::Four));
        let bias = values(of_dimensions::<2>(bias.clone()));
        let residual = residual.map(read);
        let mut expected = read(&gemm::forward(&x, &w, g));
        let image = g.out_height * g.out_width * g.output;
        for (i, value) in expected.iter_mut().enumerate() {
            *value += bias[i / image % rows * g.output + i % g.output];
            *value += residual.as_ref().map_or(0.0, |residual| residual[i]);
        }
        same("y", batch, &g, &got, &expected);
    }
}
