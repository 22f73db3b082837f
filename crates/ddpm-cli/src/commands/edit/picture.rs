//! Images and masks from files, as tensors.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::{DataConfig, Fit, Picture, Size, read_picture};
use ddpm_diffusion::condition::picture::as_image;

use crate::args::Place;
use crate::exit::UsageError;

/// How images are read: their channels, and the size that they are fitted to; none is their own.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// As the network's.
    pub channels: usize,
    /// `[height, width]`.
    pub size: Option<[usize; 2]>,
    /// How.
    pub fit: Fit,
}

impl Form {
    fn read(self, path: &Path) -> Result<Picture> {
        let config = DataConfig {
            channels: Some(self.channels),
            size: self.size.map(|[height, width]| Size { height, width }),
            fit: self.fit,
            ..DataConfig::default()
        };
        Ok(read_picture(path, &config)?)
    }

    /// An image: `[1, channels, height, width]`.
    ///
    /// # Errors   [`DataError`](ddpm_data::DataError) naming the file
    pub fn image(self, path: &Path, device: &Device) -> Result<Tensor<4>> {
        Ok(tensor(self.read(path)?, device))
    }

    /// What is kept by a mask that belongs to an image: `[1, 1, height, width]`, 0 where the mask is white, else 1.
    ///
    /// # Errors   [`DataError`](ddpm_data::DataError) naming the file, [`UsageError`] for a mask of another size than its
    /// image, or one without white
    pub fn kept(self, mask: &Path, image: &Path, device: &Device) -> Result<Tensor<4>> {
        let form = Self {
            channels: 1,
            ..self
        };
        let ([height, width], read) = (self.read(image)?.size, form.read(mask)?);
        if read.size != [height, width] {
            let [own_height, own_width] = read.size;
            return Err(UsageError(format!(
                "--mask {}: is {own_height}x{own_width} pixels, and {} is {height}x{width}; make a mask as large as the \
                 image",
                mask.display(),
                image.display()
            ))
            .into());
        }
        // White is 1: half of it and more counts.
        let kept: Vec<f32> = read
            .pixels
            .iter()
            .map(|&pixel| f32::from(pixel < 0.0))
            .collect();
        if kept.iter().all(|&kept| kept == 1.0) {
            return Err(UsageError(format!(
                "--mask {}: has no white, which is what is painted; paint white what is to be new",
                mask.display()
            ))
            .into());
        }
        let [_, height, width] = read.shape;
        let data = TensorData::new(kept, [1, 1, height, width]);
        Ok(Tensor::from_data(data, device))
    }
}

/// What is kept around a box: `[1, 1, height, width]`, 0 inside, 1 outside.
///
/// # Errors   [`UsageError`] for a box that is not inside
pub fn kept_around(
    place: Place,
    size: [usize; 2],
    device: &Device,
) -> Result<Tensor<4>, UsageError> {
    let [top, left] = place.at;
    let end = [0, 1].map(|side| place.at[side].saturating_add(place.size[side]));
    if end[0] > size[0] || end[1] > size[1] {
        return Err(UsageError(format!(
            "--box {top},{left},{},{}: does not lie within the network's images of {}x{}",
            place.size[0], place.size[1], size[0], size[1]
        )));
    }
    let inside = Tensor::zeros([1, 1, place.size[0], place.size[1]], device);
    let kept = Tensor::ones([1, 1, size[0], size[1]], device);
    Ok(kept.slice_assign([0..1, 0..1, top..end[0], left..end[1]], inside))
}

/// A mask as the picture that it was, for people: white is painted.
///
/// # Shapes   `kept`: `[1, 1, height, width]`; returns `[1, channels, height, width]`
pub fn shown(kept: &Tensor<4>, channels: usize) -> Tensor<4> {
    as_image(kept.clone() * -2.0 + 1.0, channels)
}

fn tensor(picture: Picture, device: &Device) -> Tensor<4> {
    let [channels, height, width] = picture.shape;
    let data = TensorData::new(picture.pixels, [1, channels, height, width]);
    Tensor::from_data(data, device)
}
