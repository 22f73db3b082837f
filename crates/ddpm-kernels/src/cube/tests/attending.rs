//! Attention over some images at a time.

use super::*;
use crate::cube::attention::{backward_of, forward_of};
use crate::cube::{of_dimensions, primitive};

/// How many are taken at a time changes nothing.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn attention_by_parts_of_a_batch() {
    for (batch, heads, side, dim) in [(5, 1, 5, 7), (5, 3, 4, 8), (2, 2, 1, 3)] {
        let of = |index, channels| {
            let shape = [batch, side, side, channels];
            let data = TensorData::new(random(index, shape.iter().product()), shape);
            primitive(Tensor::<4>::from_data(data, &gpu()))
        };
        let read = |x| values(of_dimensions::<4>(x));
        let (qkv, dy) = (of(0, 3 * heads * dim), of(1, heads * dim));
        let all = (
            read(forward_of(&qkv, heads, batch)),
            read(backward_of(&qkv, &dy, heads, batch)),
        );
        for at_once in [1, 2, batch + 1] {
            let parts = (
                read(forward_of(&qkv, heads, at_once)),
                read(backward_of(&qkv, &dy, heads, at_once)),
            );
            for (got, expected) in [(&parts.0, &all.0), (&parts.1, &all.1)] {
                let error = relative(got, expected);
                assert!(error < F32, "{at_once} of {batch} at a time: {error:.2e}");
            }
        }
    }
}
