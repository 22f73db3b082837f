//! Capturing a GPU's launches and replaying them.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::{Client, Graph};

use super::algorithm::{deferred, distance};
use super::extension::{of_dimensions, primitive};
use super::relayout;
use super::tensor::dense;
use crate::graph::{Capture, GraphInputs};

/// Launches, with the memory that they read from and write to.
pub(crate) struct CapturedGraph {
    graph: Graph,
    inputs: Vec<CubeTensor>,
    output: GraphInputs,
}

/// The tensors of graph inputs in their order.
fn primitives(bundle: &GraphInputs) -> Vec<CubeTensor> {
    let images = bundle.images.iter().cloned().map(primitive);
    images
        .chain(bundle.rows.iter().cloned().map(primitive))
        .collect()
}

/// The same in memory of their own.
fn copied(bundle: &GraphInputs) -> GraphInputs {
    fn copy<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
        of_dimensions(relayout::copy(primitive(x.clone()), None))
    }
    GraphInputs {
        images: bundle.images.iter().map(copy).collect(),
        rows: bundle.rows.iter().map(copy).collect(),
    }
}

/// See [`crate::capture`].
pub(crate) fn capture<E>(
    inputs: &GraphInputs,
    run: &mut dyn FnMut(GraphInputs) -> Result<GraphInputs, E>,
) -> Result<Capture, E> {
    let inputs = copied(inputs);
    let places = primitives(&inputs);
    let Some(client) = places.first().map(|x| x.client.clone()) else {
        return Ok(Capture::Refused("there is nothing to read".to_owned()));
    };
    let mut run = || run(inputs.clone());
    // What has to be compiled or chosen first.
    let choices = deferred();
    let expected = run()?;
    if deferred() > choices {
        return Ok(Capture::Later);
    }
    let captured = match capture_launches(&client, &mut run)? {
        Ok((graph, output)) => CapturedGraph {
            graph,
            inputs: places,
            output,
        },
        Err(problem) => return Ok(Capture::Refused(problem)),
    };
    let replayed = captured.again();
    Ok(
        match replayed.and_then(|()| farthest(&captured.output, &expected)) {
            Ok(0.0) => Capture::Done(crate::Graph { captured }),
            Ok(distance) => Capture::Refused(format!("its replay is off by {distance:.1e}")),
            Err(problem) => Capture::Refused(problem),
        },
    )
}

/// The largest relative distance between two sets of tensors; NaN if there is one.
fn farthest(found: &GraphInputs, expected: &GraphInputs) -> Result<f64, String> {
    let pairs = primitives(found).into_iter().zip(primitives(expected));
    pairs.into_iter().try_fold(0.0, |farthest: f64, (a, b)| {
        let distance = distance(&dense(a), &dense(b))?;
        Ok(match distance <= farthest {
            true => farthest,
            false => distance,
        })
    })
}

/// A graph with its output, or why there is none.
type Launches<T> = Result<(Graph, T), String>;

fn capture_launches<T, E>(
    client: &Client,
    run: &mut dyn FnMut() -> Result<T, E>,
) -> Result<Launches<T>, E> {
    if let Err(problem) = client.graph_prepare() {
        return Ok(Err(problem.to_string()));
    }
    // Leaves the memory that the graph takes, since it can fetch none.
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
    // In any case, or the GPU would go on capturing.
    let graph = client.stop_capture();
    let output = output?;
    Ok(graph
        .map(|graph| (graph, output))
        .map_err(|problem| problem.to_string()))
}

impl CapturedGraph {
    fn again(&self) -> Result<(), String> {
        // SAFETY: what the launches read and write lies on pages that the graph guards for as long as it lives; it is
        // replayed by the thread that captured it, in whose order all other work on this memory is done.
        #[expect(unsafe_code, reason = "a graph does not know what it reads")]
        let replayed = unsafe { self.graph.replay() };
        replayed.map_err(|problem| problem.to_string())
    }

    /// See [`crate::Graph::replay`].
    pub(crate) fn replay(&self, inputs: &GraphInputs) -> Result<GraphInputs, String> {
        for (input, place) in primitives(inputs).into_iter().zip(&self.inputs) {
            relayout::copy_to(input, 0, place, 0);
        }
        self.again()?;
        Ok(self.output.clone())
    }

    /// See [`crate::Graph::replay_to_keep`].
    pub(crate) fn replay_to_keep(&self, inputs: &GraphInputs) -> Result<GraphInputs, String> {
        Ok(copied(&self.replay(inputs)?))
    }
}

/// See [`crate::same_memory`].
pub(crate) fn same_memory(a: &Tensor<1>, b: &Tensor<1>) -> bool {
    let [a, b] = [a, b].map(|x| primitive(x.clone()).handle);
    std::ptr::eq(a.memory.descriptor(), b.memory.descriptor())
        && a.offset_start.unwrap_or(0) == b.offset_start.unwrap_or(0)
}
