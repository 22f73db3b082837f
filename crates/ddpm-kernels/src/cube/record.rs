//! Recording a card's launches and replaying them.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::{Client, Graph};

use super::algorithm::{deferred, distance};
use super::extension::{of_dimensions, primitive};
use super::relayout;
use super::tensor::dense;
use crate::record::{Attempt, Bundle};

/// Launches, with the memory that they read from and write to.
pub(crate) struct Recording {
    graph: Graph,
    inputs: Vec<CubeTensor>,
    output: Bundle,
}

/// The tensors of a bundle in their order.
fn primitives(bundle: &Bundle) -> Vec<CubeTensor> {
    let images = bundle.images.iter().cloned().map(primitive);
    images
        .chain(bundle.rows.iter().cloned().map(primitive))
        .collect()
}

/// The same in memory of their own.
fn copied(bundle: &Bundle) -> Bundle {
    fn copy<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
        of_dimensions(relayout::copy(primitive(x.clone()), None))
    }
    Bundle {
        images: bundle.images.iter().map(copy).collect(),
        rows: bundle.rows.iter().map(copy).collect(),
    }
}

/// See [`crate::record`].
pub(crate) fn record<E>(
    inputs: &Bundle,
    run: &mut dyn FnMut(Bundle) -> Result<Bundle, E>,
) -> Result<Attempt, E> {
    let inputs = copied(inputs);
    let places = primitives(&inputs);
    let Some(client) = places.first().map(|x| x.client.clone()) else {
        return Ok(Attempt::Refused("there is nothing to read".to_owned()));
    };
    let mut run = || run(inputs.clone());
    // What has to be compiled or chosen first.
    let choices = deferred();
    let expected = run()?;
    if deferred() > choices {
        return Ok(Attempt::Later);
    }
    let recording = match capture(&client, &mut run)? {
        Ok((graph, output)) => Recording {
            graph,
            inputs: places,
            output,
        },
        Err(problem) => return Ok(Attempt::Refused(problem)),
    };
    let replayed = recording.again();
    Ok(
        match replayed.and_then(|()| farthest(&recording.output, &expected)) {
            Ok(0.0) => Attempt::Done(crate::Recording { card: recording }),
            Ok(distance) => Attempt::Refused(format!("its replay is off by {distance:.1e}")),
            Err(problem) => Attempt::Refused(problem),
        },
    )
}

/// The largest relative distance of two bundles' tensors; NaN if there is one.
fn farthest(found: &Bundle, expected: &Bundle) -> Result<f64, String> {
    let pairs = primitives(found).into_iter().zip(primitives(expected));
    pairs.into_iter().try_fold(0.0, |farthest: f64, (a, b)| {
        let distance = distance(&dense(a), &dense(b))?;
        Ok(match distance <= farthest {
            true => farthest,
            false => distance,
        })
    })
}

/// A recording, or why there is none.
type Captured<T> = Result<(Graph, T), String>;

fn capture<T, E>(client: &Client, run: &mut dyn FnMut() -> Result<T, E>) -> Result<Captured<T>, E> {
    if let Err(problem) = client.graph_prepare() {
        return Ok(Err(problem.to_string()));
    }
    // Leaves the memory that the recording takes, since it can fetch none.
    let warm = run();
    let started = cubecl::future::block_on(client.sync()).and_then(|()| client.start_capture());
    if warm.is_err() || started.is_err() {
        let _ = client.stop_capture();
    }
    drop(warm?);
    if let Err(problem) = started {
        return Ok(Err(problem.to_string()));
    }
    let output = run();
    // In any case, or the card would go on recording.
    let graph = client.stop_capture();
    let output = output?;
    Ok(graph
        .map(|graph| (graph, output))
        .map_err(|problem| problem.to_string()))
}

impl Recording {
    fn again(&self) -> Result<(), String> {
        // SAFETY: what the launches read and write lies on pages that the graph guards for as long as it lives; it is
        // replayed by the thread that recorded it, in whose order all other work on this memory is done.
        #[expect(unsafe_code, reason = "a graph does not know what it reads")]
        let replayed = unsafe { self.graph.replay() };
        replayed.map_err(|problem| problem.to_string())
    }

    /// See [`crate::Recording::replay`].
    pub(crate) fn replay(&self, inputs: &Bundle) -> Result<Bundle, String> {
        for (input, place) in primitives(inputs).into_iter().zip(&self.inputs) {
            relayout::copy_to(input, 0, place, 0);
        }
        self.again()?;
        Ok(self.output.clone())
    }

    /// See [`crate::Recording::replay_to_keep`].
    pub(crate) fn replay_to_keep(&self, inputs: &Bundle) -> Result<Bundle, String> {
        Ok(copied(&self.replay(inputs)?))
    }
}

/// See [`crate::same_memory`].
pub(crate) fn same_memory(a: &Tensor<1>, b: &Tensor<1>) -> bool {
    let [a, b] = [a, b].map(|x| primitive(x.clone()).handle);
    std::ptr::eq(a.memory.descriptor(), b.memory.descriptor())
        && a.offset_start.unwrap_or(0) == b.offset_start.unwrap_or(0)
}
