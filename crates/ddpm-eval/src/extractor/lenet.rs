//! A small classifier of a labelled set, whose last hidden layer is what it sees (after LeCun et al. 1998).
//!
//! No published network knows digits or clothes at their own size; this one is trained on the set itself in a minute, and its
//! file says by which seed and on what.

mod train;

use std::path::Path;

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_kernels::{Conv2dOptions, Convolution, linear};
use ddpm_schedule::noise::{Stream, uniform_fill};
use ddpm_store::{NamedTensor, TensorFile};
use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::images::Images;

pub use train::{Training, train, training_steps};

/// Numbers of the hidden layer that are the features.
const FEATURES: usize = 64;
/// The key of a file's metadata that says what it is.
const KEY: &str = "ddpm-extractor";

/// What a classifier is for, and what it was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// `[channels, height, width]` of its images.
    pub image: [usize; 3],
    /// How many classes it tells apart.
    pub classes: usize,
    /// Their names, where there are any.
    pub class_names: Option<Vec<String>>,
    /// The fingerprint of the set.
    pub set: String,
    /// The seed of its initial values and of the order of the images.
    pub seed: u64,
    /// Updates of its weights.
    pub steps: usize,
    /// The share of held-out images that it names rightly, where any were held out.
    pub accuracy: Option<f64>,
}

/// Three convolutions and two full layers.
#[derive(Debug, Clone)]
pub struct Lenet {
    /// What it is for.
    pub about: About,
    device: Device,
    /// Flat, in the order of [`layout`].
    parameters: Vec<Tensor<1>>,
}

/// Names and shapes of the parameters.
fn layout(
    [channels, height, width]: [usize; 3],
    classes: usize,
) -> Vec<(&'static str, Vec<usize>)> {
    let quarter = |side: usize| side.div_ceil(2).div_ceil(2);
    let flat = 64 * quarter(height) * quarter(width);
    vec![
        ("conv1.weight", vec![16, channels, 3, 3]),
        ("conv1.bias", vec![16]),
        ("conv2.weight", vec![32, 16, 3, 3]),
        ("conv2.bias", vec![32]),
        ("conv3.weight", vec![64, 32, 3, 3]),
        ("conv3.bias", vec![64]),
        ("hidden.weight", vec![FEATURES, flat]),
        ("hidden.bias", vec![FEATURES]),
        ("classes.weight", vec![classes, FEATURES]),
        ("classes.bias", vec![classes]),
    ]
}

/// What a classifier sees in images.
#[derive(Debug)]
pub struct Seen {
    /// `[n, 64]`
    pub features: Tensor<2>,
    /// `[n, classes]`
    pub logits: Tensor<2>,
}

impl Lenet {
    /// Uniform in ±√(3/fan_in) (He et al. 2015 for half of the units silent, by half the variance), biases zero.
    fn init(about: About, device: &Device) -> Self {
        let parameters = layout(about.image, about.classes).into_iter().enumerate();
        let parameters = parameters.map(|(index, (_, shape))| {
            let count: usize = shape.iter().product();
            let mut values = vec![0.0; count];
            if shape.len() > 1 {
                let fan_in: usize = shape[1..].iter().product();
                uniform_fill(about.seed, Stream::Init, 0, index as u64, &mut values);
                let bound = (3.0 / fan_in as f64).sqrt();
                values
                    .iter_mut()
                    .for_each(|u| *u = bound * (2.0 * *u - 1.0));
            }
            let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
            Tensor::from_data(TensorData::new(values, [count]), device)
        });
        Self {
            parameters: parameters.collect(),
            device: device.clone(),
            about,
        }
    }

    /// Whether a file's metadata says that it is one.
    #[must_use]
    pub fn is_one(file: &TensorFile) -> bool {
        file.metadata.contains_key(KEY)
    }

    /// The classifier of a file.
    ///
    /// # Errors   [`EvalError::Format`] for a file of something else or of other shapes; those of reading
    pub fn load(path: &Path, device: &Device) -> Result<Self, EvalError> {
        let bad = |problem: String| EvalError::Format {
            path: path.to_owned(),
            problem,
        };
        let file = TensorFile::read(path)?;
        let about = file.metadata.get(KEY).ok_or_else(|| {
            bad("is no extractor that this program has trained; make one with `ddpm eval --train-extractor`".into())
        })?;
        let about: About = serde_json::from_str(about).map_err(|error| {
            bad(format!(
                "what its `{KEY}` says cannot be understood: {error}; train it anew"
            ))
        })?;
        ddpm_store::tensors::check_finite(path, &file.tensors)?;
        let parameters = layout(about.image, about.classes)
            .into_iter()
            .map(|(name, shape)| match file.get(name) {
                Some(tensor) if tensor.shape == shape => {
                    let data = TensorData::new(tensor.data.clone(), [tensor.data.len()]);
                    Ok(Tensor::from_data(data, device))
                }
                Some(tensor) => Err(bad(format!(
                    "`{name}` has the shape {:?} instead of {shape:?}; train it anew",
                    tensor.shape
                ))),
                None => Err(bad(format!("`{name}` is missing; train it anew"))),
            });
        Ok(Self {
            parameters: parameters.collect::<Result<_, _>>()?,
            device: device.clone(),
            about,
        })
    }

    /// Writes it as safetensors.
    ///
    /// # Errors   those of reading the weights back and of writing
    pub fn save(&self, path: &Path) -> Result<(), EvalError> {
        let layout = layout(self.about.image, self.about.classes);
        let tensors = layout
            .into_iter()
            .zip(&self.parameters)
            .map(|((name, shape), tensor)| {
                Ok(NamedTensor {
                    name: name.to_owned(),
                    shape,
                    data: read_back(tensor.clone())?,
                })
            });
        let mut file = TensorFile::new(tensors.collect::<Result<_, EvalError>>()?);
        let about = serde_json::to_string(&self.about).map_err(|error| EvalError::Format {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        file.metadata.insert(KEY.to_owned(), about);
        Ok(file.write(path)?)
    }

    /// What it sees in images of its own shape.
    ///
    /// # Errors   [`EvalError::Shape`] for images of another shape
    pub fn see(&self, images: &Images) -> Result<Seen, EvalError> {
        let [_, channels, height, width] = images.shape();
        if [channels, height, width] != self.about.image {
            let show = |[c, h, w]: [usize; 3]| format!("{c}×{h}×{w}");
            return Err(EvalError::Shape {
                what: "images",
                expected: format!("the extractor's {}", show(self.about.image)),
                got: show([channels, height, width]),
            });
        }
        Ok(self.forward(input(images, &self.device), &self.parameters))
    }

    /// # Shapes   `x`: `[n, channels, height, width]`
    fn forward(&self, x: Tensor<4>, parameters: &[Tensor<1>]) -> Seen {
        let layout = layout(self.about.image, self.about.classes);
        let four = |at: usize| -> Tensor<4> {
            let shape = &layout[at].1;
            parameters[at]
                .clone()
                .reshape([shape[0], shape[1], shape[2], shape[3]])
        };
        let two = |at: usize| -> Tensor<2> {
            let shape = &layout[at].1;
            parameters[at].clone().reshape([shape[0], shape[1]])
        };
        let convolve = |x: Tensor<4>, at: usize, stride: usize| {
            let convolution = Convolution {
                norm: None,
                weight: four(at),
                bias: parameters[at + 1].clone().unsqueeze(),
                residual: None,
                options: Conv2dOptions {
                    stride,
                    padding: (1, 1),
                    upsample_nearest_2x: false,
                },
                cache: None,
            };
            relu(convolution.forward(x))
        };
        // [n, 16, h, w] -> [n, 32, h/2, w/2] -> [n, 64, h/4, w/4]
        let x = convolve(x, 0, 1);
        let x = convolve(x, 2, 2);
        let x = convolve(x, 4, 2);
        // -> [n, 64·h/4·w/4] -> [n, 64] -> [n, classes]
        let x = x.flatten::<2>(1, 3);
        let features = relu(linear(x, two(6), parameters[7].clone(), None));
        let logits = linear(features.clone(), two(8), parameters[9].clone(), None);
        Seen { features, logits }
    }
}

/// Images as a classifier reads them, in [-1, 1].
fn input(images: &Images, device: &Device) -> Tensor<4> {
    let pixels: Vec<f32> = images
        .bytes()
        .iter()
        .map(|&byte| ddpm_data::pixel_from_u8(byte))
        .collect();
    Tensor::from_data(TensorData::new(pixels, images.shape()), device)
}

/// The numbers of a tensor.
///
/// # Errors   [`EvalError::Device`]
pub(crate) fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EvalError> {
    let failed = |message: String| EvalError::Device { message };
    let data = tensor
        .try_into_data()
        .map_err(|error| failed(error.to_string()))?;
    data.try_into_vec()
        .map_err(|error| failed(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            image: [1, 8, 8],
            classes: 2,
            class_names: None,
            set: "set".into(),
            seed: 3,
            steps: 60,
            accuracy: None,
        }
    }

    /// Bright above or bright below, with noise.
    fn halves(n: usize) -> (Images, Vec<usize>) {
        let labels: Vec<usize> = (0..n).map(|i| i % 2).collect();
        let pixel = |i: usize, at: usize| {
            let bright = (at / 32 == i % 2) as u8 * 120;
            bright + ((i * 7919 + at * 104_729) % 97) as u8
        };
        let bytes = (0..n)
            .flat_map(|i| (0..64).map(move |at| pixel(i, at)))
            .collect();
        (Images::new(bytes, [n, 1, 8, 8]).unwrap(), labels)
    }

    #[test]
    fn training_is_deterministic_and_learns() {
        let device = Device::flex();
        let (images, labels) = halves(200);
        let training = Training {
            about: about(),
            images: &images,
            labels: &labels,
            device: &device,
        };
        let learn = || {
            train(
                &training,
                &mut |_, _, _| std::ops::ControlFlow::Continue(()),
            )
            .unwrap()
        };
        let (first, second) = (learn(), learn());
        assert!(first.about.accuracy.unwrap() > 0.95, "{:?}", first.about);
        let bits = |net: &Lenet| read_back(net.see(&images).unwrap().logits).unwrap();
        assert_eq!(bits(&first), bits(&second));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lenet.safetensors");
        first.save(&path).unwrap();
        assert!(Lenet::is_one(&TensorFile::read(&path).unwrap()));
        let loaded = Lenet::load(&path, &device).unwrap();
        assert_eq!(loaded.about, first.about);
        assert_eq!(bits(&loaded), bits(&first));
    }

    #[test]
    fn other_files_and_other_images_are_refused() {
        let device = Device::flex();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.safetensors");
        TensorFile::new(Vec::new()).write(&path).unwrap();
        let refused = Lenet::load(&path, &device).unwrap_err().to_string();
        assert!(refused.contains("--train-extractor"), "{refused}");
        let net = Lenet::init(about(), &device);
        let images = Images::new(vec![0; 16], [1, 1, 4, 4]).unwrap();
        let refused = net.see(&images).unwrap_err().to_string();
        assert!(
            refused.contains("1×4×4 instead of the extractor's 1×8×8"),
            "{refused}"
        );
    }
}
