//! `ddpm predict`.

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ddpm_model::OpenedModel;
use ddpm_store::{NamedTensor, TensorFile};
use ddpm_train::TrainError;
use ddpm_unet::{ClassLabels, Conditioning, Model, NetworkCondition};
use serde_json::json;

use super::{Report, shown};
use crate::args::PredictArgs;
use crate::models;

/// One network evaluation from file to file.
///
/// # Errors   format and device errors with their exit codes
pub fn predict(args: &PredictArgs) -> Result<Report> {
    let picked = ddpm_device::resolve(args.device)?;
    let input = TensorFile::read(&args.input)?;
    let inputs = Inputs {
        args,
        file: &input,
        device: &picked.device,
    };
    let x = inputs.x()?;
    let [batch, ..] = x.dims();
    let t = inputs.t(batch)?;
    let opened = OpenedModel::open(&models::find(&args.model)?, None, &picked.device)?;
    inputs.check_t(&opened.model)?;
    let condition = NetworkCondition {
        labels: inputs.labels(opened.model.conditioning(), batch)?,
        vector: inputs.vector(batch)?,
    };
    let y = opened
        .model
        .forward(x, t, condition, None)
        .map_err(|error| inputs.problem(error.to_string()))?;
    let shape = y.dims().to_vec();
    let data = y
        .try_into_data()
        .map_err(|error| TrainError::Device {
            message: error.to_string(),
        })?
        .try_to_vec()
        .map_err(|error| TrainError::Device {
            message: format!("{error:?}"),
        })?;
    let tensor = NamedTensor {
        name: "y".into(),
        shape: shape.clone(),
        data,
    };
    TensorFile::new(vec![tensor]).write(&args.output)?;
    let text = format!("{}: y {shape:?}\n", args.output.display());
    let json = json!({
        "model": shown(&opened.path), "output": shown(&args.output), "shape": shape, "device": picked.name,
    });
    Ok(Report::done(text, json))
}

struct Inputs<'a> {
    args: &'a PredictArgs,
    file: &'a TensorFile,
    device: &'a Device,
}

impl Inputs<'_> {
    fn problem(&self, problem: String) -> TrainError {
        TrainError::Format {
            path: self.args.input.clone(),
            problem,
        }
    }

    fn tensor(&self, name: &str) -> Result<&NamedTensor, TrainError> {
        self.file.get(name).ok_or_else(|| {
            self.problem(format!(
                "there is no tensor `{name}`; `x` [batch, channels, height, width] and `t` [batch] are needed"
            ))
        })
    }

    fn x(&self) -> Result<Tensor<4>, TrainError> {
        let x = self.tensor("x")?;
        let Ok(shape) = <[usize; 4]>::try_from(x.shape.clone()) else {
            return Err(self.problem(format!(
                "`x` has shape {:?}, expected [batch, channels, height, width]",
                x.shape
            )));
        };
        if shape.contains(&0) {
            return Err(self.problem(format!("`x` has shape {shape:?}, which holds nothing")));
        }
        Ok(Tensor::from_data(
            TensorData::new(x.data.clone(), shape),
            self.device,
        ))
    }

    /// `t` of each image; one value serves all.
    fn t(&self, batch: usize) -> Result<Tensor<1>, TrainError> {
        let t = self.tensor("t")?;
        let values = match t.data.as_slice() {
            [one] => vec![*one; batch],
            many if many.len() == batch && t.shape.len() == 1 => many.to_vec(),
            _ => {
                return Err(self.problem(format!(
                    "`t` has shape {:?}, expected [{batch}] or one value",
                    t.shape
                )));
            }
        };
        Ok(Tensor::from_floats(values.as_slice(), self.device))
    }

    /// A table of time steps has no entry for others.
    fn check_t(&self, model: &Model) -> Result<(), TrainError> {
        let Some(known) = model.time_steps() else {
            return Ok(());
        };
        let t = &self.tensor("t")?.data;
        let is_step = |t: &f32| t.fract() == 0.0 && *t >= 0.0 && *t < known as f32;
        match t.iter().find(|t| !is_step(t)) {
            None => Ok(()),
            Some(bad) => Err(self.problem(format!(
                "`t` holds {bad}; this network knows the steps 0 to {}",
                known - 1
            ))),
        }
    }

    /// Numbers that describe each image: of EDM's networks its augmentation.
    fn vector(&self, batch: usize) -> Result<Option<Tensor<2>>, TrainError> {
        let Some(vector) = self.file.get("vector") else {
            return Ok(None);
        };
        let &[rows, columns] = vector.shape.as_slice() else {
            return Err(self.problem(format!(
                "`vector` has shape {:?}, expected [{batch}, numbers]",
                vector.shape
            )));
        };
        let data = TensorData::new(vector.data.clone(), [rows, columns]);
        Ok(Some(Tensor::from_data(data, self.device)))
    }

    fn labels(
        &self,
        conditioning: Conditioning,
        batch: usize,
    ) -> Result<Option<ClassLabels>, TrainError> {
        let Some(labels) = self.file.get("class_labels") else {
            return Ok(None);
        };
        if conditioning == Conditioning::Embedding {
            let &[rows, channels] = labels.shape.as_slice() else {
                return Err(self.problem(format!(
                    "`class_labels` has shape {:?}, expected [{batch}, channels]",
                    labels.shape
                )));
            };
            let data = TensorData::new(labels.data.clone(), [rows, channels]);
            return Ok(Some(ClassLabels::Embedding(Tensor::from_data(
                data,
                self.device,
            ))));
        }
        let limit = match conditioning {
            Conditioning::Classes { count, null } => (count + usize::from(null.is_some())) as f32,
            Conditioning::None | Conditioning::Number | Conditioning::Embedding => 1e6,
        };
        let is_class = |x: &f32| x.fract() == 0.0 && *x >= 0.0 && *x < limit;
        if let Some(bad) = labels.data.iter().find(|x| !is_class(x)) {
            return Err(self.problem(format!(
                "`class_labels` holds {bad}, expected whole numbers from 0 to {}",
                limit - 1.0
            )));
        }
        let values: Vec<i64> = labels.data.iter().map(|&x| x as i64).collect();
        let count = values.len();
        let values = Tensor::<1, Int>::from_data(TensorData::new(values, [count]), self.device);
        Ok(Some(ClassLabels::Index(values)))
    }
}
