//! Numbers that a table beside the images gives to each of them.

use crate::error::{DataError, excerpt};

/// Columns of numbers, one row an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Columns {
    /// The headings, in the order of the table.
    pub(crate) names: Vec<String>,
    /// The name of each image.
    pub(crate) images: Vec<String>,
    /// `[images, columns]`; NaN where the table has no number.
    pub(crate) values: Vec<f64>,
}

/// One column of a set as a network is told it: (number - mean) / deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// The mean over the images.
    pub mean: f64,
    /// The standard deviation over the images; above 0.
    pub deviation: f64,
    /// The number of each image, as the table has it.
    pub values: Vec<f64>,
}

impl Columns {
    /// The rows of some images.
    pub(crate) fn rows(&self, kept: &[usize]) -> Self {
        let width = self.names.len();
        let rows = kept
            .iter()
            .filter_map(|&row| self.values.get(row * width..(row + 1) * width));
        Self {
            names: self.names.clone(),
            images: kept
                .iter()
                .filter_map(|&row| self.images.get(row).cloned())
                .collect(),
            values: rows.flatten().copied().collect(),
        }
    }

    /// A column by its heading.
    ///
    /// # Errors   [`DataError::Column`] if there is none, a number is missing, or all are the same
    pub(crate) fn column(&self, name: &str) -> Result<Column, DataError> {
        let refuse = |problem: String| {
            Err(DataError::Column {
                name: name.to_owned(),
                problem,
            })
        };
        let Some(place) = self.names.iter().position(|known| known == name) else {
            return refuse(match self.names.is_empty() {
                true => {
                    "the images have no table of numbers; put a labels.csv with the headings file_name and the \
                     columns' names beside them"
                        .into()
                }
                false => format!("the images have the columns {}", self.names.join(", ")),
            });
        };
        let of_images = self.values.iter().skip(place).step_by(self.names.len());
        let values: Vec<f64> = of_images.copied().collect();
        if let Some(image) = values.iter().position(|value| !value.is_finite()) {
            let image = &self.images[image];
            return refuse(format!("there is no number of {}", excerpt(image)));
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        if !(deviation > 0.0 && deviation.is_finite()) {
            return refuse("all images have the same number, which tells nothing".into());
        }
        Ok(Column {
            name: name.to_owned(),
            mean,
            deviation,
            values,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_its_mean_and_deviation() {
        let columns = Columns {
            names: vec!["a".into(), "b".into()],
            images: ["0.png", "1.png", "2.png"].map(str::to_owned).into(),
            values: vec![1.0, 5.0, 3.0, 5.0, f64::NAN, 5.0],
        };
        let two = columns.rows(&[1, 0]);
        let found = two.column("a").unwrap();
        assert_eq!((found.mean, found.deviation), (2.0, 1.0));
        assert_eq!(found.values, [3.0, 1.0]);
        for (columns, name, word) in [
            (&columns, "a", "no number of 2.png"),
            (&columns, "b", "the same number"),
            (&columns, "c", "the columns a, b"),
            (&Columns::default(), "c", "labels.csv"),
        ] {
            let error = columns.column(name).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
