//! The same figures class by class: which classes are drawn badly, too rarely or not at all.

use serde::{Deserialize, Serialize};

use super::{Settings, compare};
use crate::bootstrap::Figure;
use crate::error::EvalError;
use crate::features::Features;
use crate::kernel::kernel_distance;

/// Figures of the images of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// The number of the class.
    pub class: usize,
    /// Its share of the generated images.
    pub generated: f64,
    /// Its share of the real images.
    pub real: f64,
    /// The share of images drawn as this class that a classifier sees as it, where they were drawn as classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognised: Option<f64>,
    /// KID of the class's images; none with too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_distance: Option<Figure>,
    /// Precision within the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Recall within the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
}

/// Class by class, where the classes of both sets are known: as what images were drawn, or what a classifier of these classes
/// sees in them.
pub(super) fn classes(
    drawn: &Features,
    real: &Features,
    settings: Settings,
) -> Result<Vec<ClassFigures>, EvalError> {
    let Some(real_labels) = &real.labels else {
        return Ok(Vec::new());
    };
    let count = real_labels.iter().max().map_or(0, |&last| last + 1);
    // A classifier of other classes, such as Inception, says nothing of these.
    let seen = match &drawn.logits {
        Some(logits) if logits.dim() == count => drawn.seen(),
        _ => None,
    };
    let Some(labels) = drawn.labels.as_ref().or(seen.as_ref()) else {
        return Ok(Vec::new());
    };
    let told = drawn.labels.is_some();
    let mut found = Vec::new();
    for class in 0..count {
        let of_class = |labels: &[usize]| -> Vec<usize> {
            (0..labels.len()).filter(|&i| labels[i] == class).collect()
        };
        let (own, theirs) = (of_class(labels), of_class(real_labels));
        let recognised = match (&seen, told && !own.is_empty()) {
            (Some(seen), true) => {
                let right = own.iter().filter(|&&i| seen[i] == class).count();
                Some(right as f64 / own.len() as f64)
            }
            _ => None,
        };
        let mut figures = ClassFigures {
            class,
            generated: own.len() as f64 / labels.len() as f64,
            real: theirs.len() as f64 / real_labels.len() as f64,
            recognised,
            kernel_distance: None,
            precision: None,
            recall: None,
        };
        if own.len() > settings.k && theirs.len() > settings.k {
            let rows = [drawn.pooled.select(&own), real.pooled.select(&theirs)];
            let (own, of_real, between) = compare(&rows[0], &rows[1], settings.k)?;
            let share = |holds: &[bool]| {
                holds.iter().filter(|&&holds| holds).count() as f64 / holds.len() as f64
            };
            figures.kernel_distance =
                Some(kernel_distance(&own, &of_real, &between, settings.seed));
            figures.precision = Some(share(&between.first.inside));
            figures.recall = Some(share(&between.second.inside));
        }
        found.push(figures);
    }
    Ok(found)
}
