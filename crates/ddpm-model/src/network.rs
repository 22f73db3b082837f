//! A network as the samplers see it.

use std::cell::RefCell;

use burn::tensor::{FloatDType, Tensor};
use ddpm_diffusion::{Condition, Network, NetworkError};
use ddpm_kernels::{Capture, Graph, GraphInputs, capture};
use ddpm_unet::{ClassLabels, Model, Precision};

/// Lends a network to a sampler, which does not know what it drives.
///
/// What it is given and what it returns are f32. On a GPU the second batch of a shape is recorded and those after
/// it replay that, so that the host keeps up with small batches too.
#[derive(Debug)]
pub struct SamplingNetwork<'a> {
    model: &'a Model,
    precision: Precision,
    last: RefCell<Last>,
}

/// What is known of batches of the last shape.
#[derive(Debug, Default)]
struct Last {
    shape: [usize; 4],
    graph: Option<Graph>,
    /// How often it was tried.
    tries: usize,
}

/// Attempts to capture batches of one shape: those of a network whose output is all zeros come to nothing.
const TRIES: usize = 3;

impl<'a> SamplingNetwork<'a> {
    /// The network computes in `precision`; its weights are to stay as they are.
    pub fn new(model: &'a Model, precision: Precision) -> Self {
        Self {
            model,
            precision,
            last: RefCell::default(),
        }
    }

    fn run(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        labels: Option<ClassLabels>,
    ) -> Result<Tensor<4>, NetworkError> {
        let xt = xt.cast(self.precision.dtype());
        let output = self.model.forward(xt, t, labels, None)?;
        Ok(output.cast(FloatDType::F32))
    }

    fn run_inputs(&self, mut inputs: GraphInputs) -> Result<GraphInputs, NetworkError> {
        let missing = "the graph has no input";
        let (xt, t) = (inputs.images.pop(), inputs.rows.pop());
        let output = self.run(xt.ok_or(missing)?, t.ok_or(missing)?, None)?;
        Ok(GraphInputs {
            images: vec![output],
            rows: Vec::new(),
        })
    }
}

fn graph_inputs(xt: &Tensor<4>, t: &Tensor<1>) -> GraphInputs {
    GraphInputs {
        images: vec![xt.clone()],
        rows: vec![t.clone()],
    }
}

impl Network for SamplingNetwork<'_> {
    fn forward(
        &self,
        xt: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
    ) -> Result<Tensor<4>, NetworkError> {
        let xt = match condition.x0.clone() {
            None => xt,
            // [batch, channels, height, width] twice -> [batch, 2·channels, height, width]
            Some(x0) => Tensor::cat(vec![x0, xt], 1),
        };
        if let Some(labels) = condition.labels.clone() {
            return self.run(xt, t, Some(ClassLabels::Index(labels)));
        }
        let mut last = self.last.borrow_mut();
        if last.shape != xt.dims() {
            *last = Last {
                shape: xt.dims(),
                ..Last::default()
            };
            return self.run(xt, t, None);
        }
        if last.graph.is_none() && last.tries < TRIES {
            match capture(&graph_inputs(&xt, &t), &mut |inputs| {
                self.run_inputs(inputs)
            })? {
                Capture::Done(graph) => last.graph = Some(graph),
                Capture::Later => last.tries += 1,
                Capture::Refused(_) => last.tries = TRIES,
            }
        }
        let Some(graph) = &last.graph else {
            return self.run(xt, t, None);
        };
        let mut found = graph.replay_to_keep(&graph_inputs(&xt, &t))?;
        Ok(found.images.pop().ok_or("the graph has no output")?)
    }
}
