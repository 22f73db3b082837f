//! Recordings.

use super::*;
use crate::{Capture, Graph, GraphInputs, capture, same_memory};

fn given(x: Tensor<4>, t: Tensor<1>) -> GraphInputs {
    GraphInputs {
        images: vec![x],
        rows: vec![t],
    }
}

fn output(mut found: GraphInputs) -> Tensor<4> {
    found.images.pop().unwrap()
}

/// A function of an image and its times as one of bundles.
fn over(
    network: &dyn Fn(Tensor<4>, Tensor<1>) -> Tensor<4>,
) -> impl FnMut(GraphInputs) -> Result<GraphInputs, ()> {
    |inputs| {
        let (x, t) = (inputs.images[0].clone(), inputs.rows[0].clone());
        Ok(GraphInputs {
            images: vec![network(x, t)],
            rows: Vec::new(),
        })
    }
}

fn captured(attempt: Capture) -> Graph {
    match attempt {
        Capture::Done(graph) => graph,
        other => panic!("{other:?}"),
    }
}

/// A captured network of a few layers gives what it gives when it is run, for every batch of its shape, and other work
/// between two replays does not meet its memory.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn a_graph_replays_what_it_captured() {
    let device = gpu();
    let tensor = |i: u64, shape: [usize; 4]| {
        let data = TensorData::new(random(i, shape.iter().product()), shape);
        Tensor::<4>::from_data(data, &device)
    };
    let (weight, bias) = (tensor(1, [8, 4, 3, 3]), tensor(2, [1, 8, 1, 1]));
    let runs = std::cell::Cell::new(0);
    let network = |x: Tensor<4>, t: Tensor<1>| {
        runs.set(runs.get() + 1);
        let layer = Convolution {
            norm: None,
            weight: weight.clone(),
            bias: bias.clone().reshape([1, 8]),
            residual: None,
            options: Conv2dOptions {
                stride: 1,
                padding: (1, 1),
                upsample_nearest_2x: true,
            },
            cache: None,
        };
        let y = layer.forward(x);
        concat_channels(y.clone() * 0.5, y) * t.unsqueeze_dims::<4>(&[1, 2, 3])
    };
    let mut run = over(&network);
    let x = |i: u64| tensor(10 + i, [3, 4, 5, 6]);
    let t = |i: u64| Tensor::<1>::from_data(random(20 + i, 3).as_slice(), &device);
    let graph = captured(capture(&given(x(0), t(0)), &mut run).unwrap());
    assert_eq!(runs.get(), 3);
    for i in [1, 2, 0] {
        let kept = output(graph.replay_to_keep(&given(x(i), t(i))).unwrap());
        let expected = values(network(x(i), t(i)));
        assert_eq!(values(kept.clone()), expected, "{i}");
        let lent = output(graph.replay(&given(x(3), t(3))).unwrap());
        assert_eq!(values(lent.clone()), values(network(x(3), t(3))));
        assert_eq!(values(kept), expected, "{i}: a result is not overwritten");
        drop(graph.replay(&given(x(i), t(i))).unwrap());
        assert_eq!(values(lent), expected, "{i}: what was lent is");
    }
    // An error of the function is that of the graph, and leaves the GPU at work.
    let mut fails = |_| Err::<GraphInputs, _>(7);
    assert_eq!(capture(&given(x(0), t(0)), &mut fails).unwrap_err(), 7);
    let calls = std::cell::Cell::new(0);
    let mut fails_later = |inputs| {
        calls.set(calls.get() + 1);
        if calls.get() == 3 { Err(8) } else { Ok(inputs) }
    };
    assert_eq!(
        capture(&given(x(0), t(0)), &mut fails_later).unwrap_err(),
        8
    );
    captured(capture(&given(x(0), t(0)), &mut run).unwrap());
}

/// What cannot be captured, a number sent to the GPU here, is not.
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn what_is_no_recording_is_refused() {
    let device = gpu();
    let x = Tensor::<4>::ones([1, 1, 1, 4], &device);
    let t = Tensor::<1>::ones([1], &device);
    let mut next = 0.0f32;
    let mut run = |mut inputs: GraphInputs| {
        next += 1.0;
        let sent = Tensor::<1>::from_floats([next], &device).reshape([1, 1, 1, 1]);
        inputs.images[0] = inputs.images[0].clone() + sent;
        Ok::<_, ()>(inputs)
    };
    let attempt = capture(&given(x.clone(), t), &mut run).unwrap();
    assert!(matches!(attempt, Capture::Refused(_)), "{attempt:?}");
    assert_eq!(values(x + 1.0), [2.0; 4]);
}

#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn memory_is_told_apart() {
    let x = Tensor::<1>::ones([4], &gpu());
    assert!(same_memory(&x, &x.clone()));
    assert!(same_memory(&x, &x.clone().reshape([2, 2]).reshape([4])));
    assert!(!same_memory(&x, &(x.clone() + 1.0)));
    let host = Tensor::<1>::ones([4], &Device::flex());
    assert!(!same_memory(&host, &host) && !same_memory(&x, &host));
}
