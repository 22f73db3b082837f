//! FID's Inception with weights by a formula: what it sees in images that two programs have brought to its size.

use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_eval::{Inception, Resize};
use ddpm_store::NamedTensor;

use super::{Kind, unet2};
use crate::Case;
use crate::compare::{difference, larger};
use crate::keys::{Keys, needed};
use crate::pictures::picture;
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "metrics/inception",
    cases,
};

/// Of the largest feature. By their own account float32 rounds theirs by 1.5e-6 at most (`float64_largest_difference`), and
/// ours rounds as often, in another order; the least of the mistakes that show (`mistakes`) moves features by 7e-3.
const LIMIT: f64 = 2e-5;
/// Weights are computed in f64 and rounded once.
const OF_WEIGHTS: f64 = 0.0;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["state_dict", "examples", "cases"]);
    let weights = unet2::weights(&source.json, &source)?;
    let weights: Vec<NamedTensor> = weights
        .into_iter()
        .map(|(name, shape, data)| NamedTensor { name, shape, data })
        .collect();
    let check = |name: &str, example: &mut Keys| of_weight(&weights, name, example);
    cases.extend(source.cases("examples", &[], |_| OF_WEIGHTS, check));
    let network = Inception::from_tensors(path, weights, &Device::flex())?;
    let check = |name: &str, case: &mut Keys| compare(&network, &source, name, case);
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}

/// How far one number of the weights lies from the file's.
fn of_weight(weights: &[NamedTensor], name: &str, example: &mut Keys) -> anyhow::Result<f64> {
    example.drop(&["index"]);
    let element = needed(example.count("element"), "element")?;
    let theirs = needed(example.number("value"), "value")?;
    let tensor = weights.iter().find(|tensor| tensor.name == name);
    let ours = tensor.and_then(|tensor| tensor.data.get(element));
    let ours = ours.with_context(|| format!("there is no number {element} of {name}"))?;
    Ok(difference(&[f64::from(*ours)], &[theirs]))
}

fn compare(
    network: &Inception,
    source: &Source,
    name: &str,
    case: &mut Keys,
) -> anyhow::Result<f64> {
    case.drop(&["float64_largest_difference", "mistakes"]);
    let images = picture(source, name, case)?;
    let mut told = case.object("feature_mean_std")?.unwrap_or_default();
    let mut worst = 0.0;
    for resize in [Resize::PytorchFid, Resize::TorchFidelity] {
        let program = resize.name().replace('-', "_");
        let data = TensorData::new(resize.input(&images), [1, 3, 299, 299]);
        let output = network.forward(Tensor::from_data(data, &Device::flex()));
        let pool3 = numbers(output.pool3)?;
        if let Some(theirs) = told.numbers(&program)? {
            worst = larger(worst, difference(&mean_and_std(&pool3), &theirs));
        }
        let [of_64, of_192, of_768] = output.means;
        let mut figures = vec![
            (format!("{name}_{program}_64"), numbers(of_64)?),
            (format!("{name}_{program}_192"), numbers(of_192)?),
            (format!("{name}_{program}_768"), numbers(of_768)?),
            (format!("{name}_{program}_2048"), pool3),
        ];
        // These two are given of one program alone.
        if resize == Resize::TorchFidelity {
            let logits = numbers(output.logits)?;
            figures.push((format!("{name}_{program}_logits"), logits));
            figures.push((format!("{name}_sfid_spatial"), numbers(output.spatial)?));
        }
        for (tensor, ours) in figures {
            let theirs = source.tensor(&tensor)?;
            worst = larger(worst, difference(&ours, &theirs.values));
        }
    }
    told.finish()?;
    Ok(worst)
}

/// The mean, and the standard deviation over one degree of freedom less.
fn mean_and_std(values: &[f64]) -> [f64; 2] {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    [mean, (squares / (count - 1.0)).sqrt()]
}

fn numbers(x: Tensor<2>) -> anyhow::Result<Vec<f64>> {
    let data = x
        .try_into_data()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(data.iter::<f64>().collect())
}
