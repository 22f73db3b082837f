//! The numbers of a table beside the images, as a network is told them.

use ddpm_data::Dataset;
use ddpm_diffusion::{ColumnScale, ConditionConfig};

use crate::error::TrainError;

/// The scale of each column that the network is told, and the scaled numbers of each image; nothing for a network that
/// is told none.
///
/// # Errors   [`TrainError::Data`] for a column that the images have not
pub(crate) fn told(
    condition: &ConditionConfig,
    dataset: &Dataset,
) -> Result<(Vec<ColumnScale>, Vec<Vec<f32>>), TrainError> {
    let mut scales = Vec::new();
    let mut numbers = Vec::new();
    for name in &condition.columns {
        let column = dataset.column(name)?;
        let scale = ColumnScale {
            name: column.name,
            mean: column.mean,
            deviation: column.deviation,
        };
        numbers.resize(dataset.len(), Vec::with_capacity(condition.columns.len()));
        for (row, &number) in numbers.iter_mut().zip(&column.values) {
            row.push(scale.told(number));
        }
        scales.push(scale);
    }
    Ok((scales, numbers))
}
