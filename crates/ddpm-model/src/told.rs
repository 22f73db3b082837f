//! What the network is told of the images that are drawn.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ddpm_diffusion::Condition;
use ddpm_unet::Conditioning;

/// What is told of each of n images, and what is told instead where guidance leads away from.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The class of each image; empty for a network without classes.
    pub classes: Vec<i64>,
    /// The class that stands for none, where the network has one.
    pub null_class: Option<i64>,
    /// The numbers of each image; empty for a network that is told none.
    pub numbers: Vec<Vec<f32>>,
    /// The numbers that stand for none, where the network has learned any.
    pub null_numbers: Option<Vec<f32>>,
    /// What the images are made from, `[n, channels of the picture, height, width]`.
    pub picture: Option<Tensor<4>>,
}

impl Told {
    /// The classes in turn, each as often as the others or once more, in blocks; nothing for a network without.
    #[must_use]
    pub fn of_classes(conditioning: Conditioning, n: usize) -> Self {
        let Conditioning::Classes { count, null } = conditioning else {
            return Self::default();
        };
        Self {
            classes: (0..n).map(|i| (i * count / n.max(1)) as i64).collect(),
            null_class: null.map(|null| null as i64),
            ..Self::default()
        }
    }

    /// What is told of some of the images.
    #[must_use]
    pub fn condition(&self, rows: Range<usize>, device: &Device) -> Condition {
        let classes = self.classes.get(rows.clone()).filter(|of| !of.is_empty());
        Condition {
            labels: classes.map(|classes| Tensor::<1, Int>::from_data(classes, device)),
            vector: vector(self.numbers.get(rows.clone()).unwrap_or_default(), device),
            picture: self.picture.clone().map(|of| of.slice([rows])),
            x0: None,
        }
    }

    /// What is told where nothing is to be told; none if the network has never been told nothing.
    #[must_use]
    pub fn null(&self, rows: &Range<usize>, device: &Device) -> Option<Condition> {
        let labels = match (self.classes.is_empty(), self.null_class) {
            (true, _) => None,
            (false, null) => Some(Tensor::<1, Int>::full([rows.len()], null?, device)),
        };
        let vector = match (self.numbers.is_empty(), &self.null_numbers) {
            (true, _) => None,
            (false, null) => vector(&vec![null.clone()?; rows.len()], device),
        };
        (labels.is_some() || vector.is_some()).then(|| Condition {
            labels,
            vector,
            // Guidance leads away from the same picture without a class.
            picture: self.picture.clone().map(|of| of.slice([rows.clone()])),
            x0: None,
        })
    }
}

/// The numbers of some images, `[images, numbers]`.
fn vector(rows: &[Vec<f32>], device: &Device) -> Option<Tensor<2>> {
    let shape = [rows.len(), rows.first()?.len()];
    let data = TensorData::new(rows.concat(), shape);
    Some(Tensor::from_data(data, device))
}
