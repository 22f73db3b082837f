//! The kernels for matrix units against those for ordinary ones: all of them but the multiplying, which is done by
//! ordinary units where there are no others.

use burn_cubecl::tensor::CubeTensor;

use super::*;
use crate::cube::gemm::{self, Geometry};
use crate::cube::matrix::{self, Addends, Planes};
use crate::cube::tensor::dims;
use crate::cube::{of_dimensions, primitive};

fn tensor<const D: usize>(index: u64, shape: [usize; D]) -> CubeTensor {
    let data = TensorData::new(random(index, shape.iter().product()), shape);
    primitive(Tensor::<D>::from_data(data, &gpu()))
}

fn read(x: &CubeTensor) -> Vec<f32> {
    values(of_dimensions::<4>(x.clone()))
}

/// Input and weight of a convolution.
fn factors(batch: usize, g: &Geometry) -> (CubeTensor, CubeTensor) {
    (
        tensor(0, [batch, g.height, g.width, g.input]),
        tensor(1, [g.output, g.kernel.0, g.kernel.1, g.input]),
    )
}

#[track_caller]
fn same(name: &str, x: &CubeTensor, g: &Geometry, got: &[f32], expected: &[f32]) {
    let error = relative(got, expected);
    // Matrix units round the factors to TF32, by 2^-11 at most each.
    let tolerance = if matrix::can(x, g) { 1e-3 } else { F32 };
    let batch = dims(x)[0];
    assert!(
        error < tolerance,
        "{name} of {batch} times {g:?}: {error:.2e}"
    );
}

/// Small tiles do all of these, however many planes share a large one: large ones take more memory than a CPU
/// posing as a GPU shares among the threads of a cube.
const PLANES: Planes = Planes::Four;

/// Sizes beside those of tiles, with strides and paddings that networks have and others.
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
#[ignore = "needs a GPU, or Vulkan in software"]
fn convolutions_by_tiles() {
    for seed in 0..24 {
        let (batch, g) = geometry(seed);
        let (x, w) = factors(batch, &g);
        let dy = tensor(2, [batch, g.out_height, g.out_width, g.output]);
        let y = read(&matrix::forward(&x, &w, None, &g, PLANES));
        same("y", &x, &g, &y, &read(&gemm::forward(&x, &w, g)));
        let dx = read(&matrix::data_gradient(&dy, &w, &g, PLANES));
        let expected = read(&gemm::data_gradient(&dy, &w, g));
        same("dx", &x, &g, &dx, &expected);
        // Others have large tiles.
        if matrix::narrow(&g) {
            let dw = read(&matrix::weight_gradient(&x, &dy, &g, PLANES));
            let expected = read(&gemm::weight_gradient(&x, &dy, g));
            same("dw", &x, &g, &dw, &expected);
        }
    }
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn what_is_added_to_convolutions_by_tiles() {
    for seed in 0..6 {
        let (batch, g) = geometry(seed);
        let (x, w) = factors(batch, &g);
        let rows = [1, batch][draw(seed, 8, 2)];
        let bias = tensor(2, [rows, g.output]);
        let residual = tensor(3, [batch, g.out_height, g.out_width, g.output]);
        let residual = (draw(seed, 9, 2) == 0).then_some(&residual);
        let added = Addends {
            bias: &bias,
            residual,
        };
        let got = read(&matrix::forward(&x, &w, Some(added), &g, PLANES));
        let bias = values(of_dimensions::<2>(bias.clone()));
        let residual = residual.map(read);
        let mut expected = read(&gemm::forward(&x, &w, g));
        let image = g.out_height * g.out_width * g.output;
        for (i, value) in expected.iter_mut().enumerate() {
            *value += bias[i / image % rows * g.output + i % g.output];
            *value += residual.as_ref().map_or(0.0, |residual| residual[i]);
        }
        same("y", &x, &g, &got, &expected);
    }
}
