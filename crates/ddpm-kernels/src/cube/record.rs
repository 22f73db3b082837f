//! Recording a card's launches and replaying them.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::{Client, Graph};

use super::algorithm::distance;
use super::extension::{of_dimensions, primitive};
use super::relayout;
use super::tensor::dense;

/// Launches, with the memory that they read from and write to.
pub(crate) struct Recording {
    graph: Graph,
    x: CubeTensor,
    t: CubeTensor,
    output: CubeTensor,
}

/// See [`crate::record`].
pub(crate) fn record<E>(
    x: &Tensor<4>,
    t: &Tensor<1>,
    run: &mut dyn FnMut(Tensor<4>, Tensor<1>) -> Result<Tensor<4>, E>,
) -> Result<Option<Recording>, E> {
    let x = relayout::copy(primitive(x.clone()), None);
    let t = relayout::copy(primitive(t.clone()), None);
    let client = x.client.clone();
    let mut run = || run(of_dimensions(x.clone()), of_dimensions(t.clone()));
    // What has to be compiled or chosen first.
    let expected = primitive(run()?);
    let graph = match capture(&client, &mut run)? {
        Ok((graph, output)) => Recording {
            graph,
            output: primitive(output),
            x: x.clone(),
            t: t.clone(),
        },
        Err(problem) => {
            tracing::debug!("the network was not recorded: {problem}");
            return Ok(None);
        }
    };
    let replayed = graph.again();
    let same = replayed.and_then(|()| distance(&dense(graph.output.clone()), &dense(expected)));
    match same {
        Ok(0.0) => Ok(Some(graph)),
        found => {
            tracing::warn!("the recorded network is not used: it is off by {found:?}");
            Ok(None)
        }
    }
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
    pub(crate) fn replay(&self, x: &Tensor<4>, t: &Tensor<1>) -> Result<Tensor<4>, String> {
        relayout::copy_to(primitive(x.clone()), 0, &self.x, 0);
        relayout::copy_to(primitive(t.clone()), 0, &self.t, 0);
        self.again()?;
        // The next replay overwrites it.
        Ok(of_dimensions(relayout::copy(self.output.clone(), None)))
    }
}
