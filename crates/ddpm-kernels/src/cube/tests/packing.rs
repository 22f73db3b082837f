//! The orders of a packed weight.

use super::*;
use crate::cube::packed::PackedWeight;
use crate::cube::{of_dimensions, primitive};

/// Each value of a slice is that of its channel of the result, its channel of the depth, and its tap.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn slices_of_weights() {
    for (output, input) in [(128, 16), (256, 48), (128, 128), (384, 128)] {
        let weight = random(1, output * input * 9);
        let data = TensorData::new(weight.clone(), [output, input, 3, 3]);
        let of_gpu = primitive(Tensor::<4>::from_data(data, &gpu()));
        let packed = PackedWeight::new(of_gpu, DType::F32);
        for mirrored in [false, true] {
            let (n, k) = if mirrored {
                (input, output)
            } else {
                (output, input)
            };
            let slices = packed.slices(mirrored);
            if n % 128 != 0 {
                assert!(slices.is_none(), "{n} channels are no whole slices");
                continue;
            }
            let slices = values(of_dimensions::<4>(slices.unwrap()));
            let of = |column: usize, deep: usize, tap: usize| match mirrored {
                true => weight[(deep * input + column) * 9 + 8 - tap],
                false => weight[(column * input + deep) * 9 + tap],
            };
            for (at, found) in slices.into_iter().enumerate() {
                let (slice, within) = (at / 2048, at % 2048);
                let (first, tap) = (slice / 9, slice % 9);
                let column = first / (k / 16) * 128 + within % 1024 / 8;
                let deep = first % (k / 16) * 16 + within / 1024 * 8 + within % 8;
                assert_eq!(found, of(column, deep, tap), "{output} of {input}: {at}");
            }
        }
    }
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn only_dense_3x3_weights_have_slices() {
    let of_gpu = |shape: [usize; 4]| {
        let data = TensorData::new(random(1, shape.iter().product()), shape);
        PackedWeight::new(primitive(Tensor::<4>::from_data(data, &gpu())), DType::F32)
    };
    assert!(of_gpu([128, 16, 3, 3]).slices(false).is_some());
    assert!(of_gpu([128, 16, 1, 1]).slices(false).is_none());
    assert!(of_gpu([128, 24, 3, 3]).slices(false).is_none());
    assert!(of_gpu([64, 16, 3, 3]).slices(false).is_none());
    let rows = of_gpu([128, 16, 3, 3]).rows().clone();
    assert!(PackedWeight::of_rows(rows).slices(false).is_none());
}
