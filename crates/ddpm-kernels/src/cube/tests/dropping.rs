//! Dropout: the same elements as on the host, bit for bit.

use super::*;
use crate::dropout::reference;
use crate::{DropoutKey, dropout};

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn the_gpu_drops_what_the_host_drops() {
    let device = gpu().autodiff();
    for case in 0..40 {
        let draw = |k, n| draw(1000 + case, k, n);
        let shape = [draw(0, 4), draw(1, 13), draw(2, 9), draw(3, 9)].map(|n| n + 1);
        let probability = [0.1, 0.5, 1e-6, 0.999, 0.0][case as usize % 5];
        // A first image whose lower word overflows within the batch too.
        let first = [0, 3 << 24, u64::from(u32::MAX) - 1][case as usize % 3];
        let key = DropoutKey::new(case ^ 0xdead_beef_1234_5678, case << 31, &device);
        let x = Tensor::<4>::from_data(
            TensorData::new(random(case, shape.iter().product()), shape),
            &device,
        )
        .require_grad();
        let y = dropout(x.clone(), probability, &key, first);
        let host = x.clone().to_device(&Device::flex()).detach();
        let expected = reference(host, probability, &key, first);
        assert_eq!(values(y.clone()), values(expected.clone()), "{shape:?}");
        // The gradient of Σ y is the mask.
        let mut grads = y.sum().backward();
        let mask = x.grad_remove(&mut grads).unwrap();
        let host = Tensor::ones(shape, &Device::flex());
        let expected = reference(host, probability, &key, first);
        assert_eq!(values(mask), values(expected), "{shape:?}");
    }
}
