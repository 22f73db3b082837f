//! A network as the samplers see it.

use std::cell::RefCell;

use burn::tensor::{FloatDType, Tensor};
use ddpm_diffusion::{Condition, Network, NetworkError};
use ddpm_kernels::{Attempt, Bundle, Recording, record};
use ddpm_unet::{ClassLabels, Model, Precision};

/// Lends a network to a sampler, which does not know what it drives.
///
/// What it is given and what it returns are f32. On a card the second batch of a shape is recorded and those after
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
    recording: Option<Recording>,
    /// How often it was tried.
    tries: usize,
}

/// Attempts to record batches of one shape: those of a network whose output is all zeros come to nothing.
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

    fn run_bundle(&self, mut inputs: Bundle) -> Result<Bundle, NetworkError> {
        let missing = "the recording has no input";
        let (xt, t) = (inputs.images.pop(), inputs.rows.pop());
        let output = self.run(xt.ok_or(missing)?, t.ok_or(missing)?, None)?;
        Ok(Bundle {
            images: vec![output],
            rows: Vec::new(),
        })
    }
}

fn bundle(xt: &Tensor<4>, t: &Tensor<1>) -> Bundle {
    Bundle {
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
        if last.recording.is_none() && last.tries < TRIES {
            match record(&bundle(&xt, &t), &mut |inputs| self.run_bundle(inputs))? {
                Attempt::Done(recording) => last.recording = Some(recording),
                Attempt::Later => last.tries += 1,
                Attempt::Refused(_) => last.tries = TRIES,
            }
        }
        let Some(recording) = &last.recording else {
            return self.run(xt, t, None);
        };
        let mut found = recording.replay_to_keep(&bundle(&xt, &t))?;
        Ok(found.images.pop().ok_or("the recording has no output")?)
    }
}
