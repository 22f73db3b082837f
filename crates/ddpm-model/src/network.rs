//! A network as the samplers see it.

use std::cell::RefCell;

use burn::tensor::{FloatDType, Tensor};
use ddpm_diffusion::{Condition, Network, NetworkError};
use ddpm_kernels::{Capture, Graph, GraphInputs, capture};
use ddpm_unet::{ClassLabels, Model, NetworkCondition, Precision};

/// Lends a network to a sampler, which does not know what it drives.
///
/// What it is given and what it returns are f32. On a GPU the second batch of a shape is recorded and those after
/// it replay that, so that the host keeps up with small batches too.
#[derive(Debug)]
pub struct SamplingNetwork<'a> {
    model: &'a Model,
    precision: Precision,
    known: RefCell<Vec<Known>>,
}

/// What is known of batches of one shape.
#[derive(Debug, Default)]
struct Known {
    shape: [usize; 4],
    told: [usize; 2],
    graph: Option<Graph>,
    /// How often it was tried.
    tries: usize,
}

/// Shapes whose graphs are kept: guidance doubles the batch at some levels alone.
const SHAPES: usize = 2;

/// Attempts to capture batches of one shape: those of a network whose output is all zeros come to nothing.
const TRIES: usize = 3;

impl<'a> SamplingNetwork<'a> {
    /// The network computes in `precision`; its weights are to stay as they are.
    pub fn new(model: &'a Model, precision: Precision) -> Self {
        Self {
            model,
            precision,
            known: RefCell::default(),
        }
    }

    fn run(&self, x: Tensor<4>, t: Tensor<1>, told: Told) -> Result<Tensor<4>, NetworkError> {
        let x = x.cast(self.precision.dtype());
        let output = self.model.forward(x, t, told.into_condition(), None)?;
        Ok(output.cast(FloatDType::F32))
    }

    fn run_inputs(&self, inputs: GraphInputs, like: &Told) -> Result<GraphInputs, NetworkError> {
        let missing = "the graph has no input";
        let [x] = <[_; 1]>::try_from(inputs.images).map_err(|_| missing)?;
        let mut rows = inputs.rows.into_iter();
        let t = rows.next().ok_or(missing)?;
        let output = self.run(x, t, like.taken(&mut rows))?;
        Ok(GraphInputs {
            images: vec![output],
            rows: Vec::new(),
        })
    }
}

/// What the network is told besides, as rows that a graph can read.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Classes as floats, `[batch]`.
    labels: Option<Tensor<1>>,
    /// `[batch, numbers]`
    vector: Option<Tensor<2>>,
}

impl Told {
    fn new(condition: &Condition) -> Self {
        Self {
            labels: condition.labels.clone().map(|labels| labels.float()),
            vector: condition.vector.clone(),
        }
    }

    /// Flat, `[values]` each.
    fn rows(&self) -> impl Iterator<Item = Tensor<1>> {
        let vector = self.vector.clone().map(|vector| {
            let values = vector.shape().num_elements();
            vector.reshape([values])
        });
        self.labels.clone().into_iter().chain(vector)
    }

    /// The same from the inputs of a graph.
    fn taken(&self, rows: &mut impl Iterator<Item = Tensor<1>>) -> Self {
        let labels = self.labels.as_ref().and_then(|_| rows.next());
        let vector = self.vector.as_ref().map(Tensor::dims);
        Self {
            labels,
            vector: vector.and_then(|dims| Some(rows.next()?.reshape(dims))),
        }
    }

    /// Its shape: a graph is for one.
    fn shape(&self) -> [usize; 2] {
        [
            self.labels.as_ref().map_or(0, |labels| labels.dims()[0]),
            self.vector.as_ref().map_or(0, |vector| vector.dims()[1]),
        ]
    }

    fn into_condition(self) -> NetworkCondition {
        NetworkCondition {
            labels: self.labels.map(|labels| ClassLabels::Index(labels.int())),
            vector: self.vector,
        }
    }
}

fn graph_inputs(x: &Tensor<4>, t: &Tensor<1>, told: &Told) -> GraphInputs {
    GraphInputs {
        images: vec![x.clone()],
        rows: [t.clone()].into_iter().chain(told.rows()).collect(),
    }
}

impl Network for SamplingNetwork<'_> {
    fn forward(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
    ) -> Result<Tensor<4>, NetworkError> {
        let x = condition.input(xt);
        let told = Told::new(condition);
        let mut all = self.known.borrow_mut();
        let of_shape = |known: &Known| known.shape == x.dims() && known.told == told.shape();
        let Some(at) = all.iter().position(of_shape) else {
            if all.len() == SHAPES {
                all.remove(0);
            }
            all.push(Known {
                shape: x.dims(),
                told: told.shape(),
                ..Known::default()
            });
            return self.run(x, t, told);
        };
        let known = &mut all[at];
        let inputs = graph_inputs(&x, &t, &told);
        if known.graph.is_none() && known.tries < TRIES {
            match capture(&inputs, &mut |inputs| self.run_inputs(inputs, &told))? {
                Capture::Done(graph) => known.graph = Some(graph),
                Capture::Later => known.tries += 1,
                Capture::Refused(_) => known.tries = TRIES,
            }
        }
        let Some(graph) = &known.graph else {
            return self.run(x, t, told);
        };
        let mut found = graph.replay_to_keep(&inputs)?;
        Ok(found.images.pop().ok_or("the graph has no output")?)
    }
}
