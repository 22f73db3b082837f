//! `ddpm-bench check`: that a device computes what the CPU does.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use clap::Args;
use ddpm_device::Choice;
use ddpm_train::TrainState;
use ddpm_unet::{Model, NetworkCondition, Precision};
use serde_json::{Value, json};

use crate::inputs::Inputs;
use crate::place::{Place, PlaceArgs};
use crate::{build_json, read_config};

/// A network with one of each kind of layer.
const SMALL: &str = include_str!("check.json");

/// Steps of the training curve.
const STEPS: usize = 10;

/// `ddpm-bench check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Where, and in which numbers.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Configuration of a UNet2DModel (JSON) to compare, instead of a small one of 16x16 pixels
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Images at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
}

/// What a network yields on one device.
struct Yield {
    output: Vec<f64>,
    gradient: Vec<f64>,
    losses: Vec<f64>,
}

/// One comparison.
struct Comparison {
    name: &'static str,
    error: f64,
    limit: f64,
}

/// Compares output, gradient and the losses of ten training steps with those of the CPU in f32, a line each
/// on stderr.
///
/// # Errors   for a device that is not there, if something cannot be computed, and if a difference is too large
pub fn run(args: &CheckArgs) -> anyhow::Result<Value> {
    let place = args.place.resolve()?;
    let cpu = PlaceArgs {
        device: Choice::Cpu,
        precision: Precision::F32,
    };
    let expected = compute(args, &cpu.resolve()?).context("on the CPU")?;
    let found = compute(args, &place).with_context(|| place.picked.name.clone())?;
    let comparisons = compare(&expected, &found, place.precision);
    let compiler = place.compiler();
    let by = compiler.map_or_else(String::new, |compiler| format!(", kernels by {compiler}"));
    let name = format!("{} {}{by}", place.picked.name, place.precision);
    let mut lines = Vec::new();
    for Comparison {
        name: what,
        error,
        limit,
    } in &comparisons
    {
        let verdict = if error <= limit { "ok" } else { "too large" };
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(
            io::stderr(),
            "{name}: {what} differs from the CPU's by {error:.1e}, at most {limit:.1e}: {verdict}"
        );
        lines.push(json!({ "what": what, "error": error, "limit": limit, "ok": error <= limit }));
    }
    let ok = |comparison: &Comparison| comparison.error <= comparison.limit;
    if !comparisons.iter().all(ok) {
        bail!("{name}: the device does not compute what the CPU does");
    }
    Ok(
        json!({ "device": place.picked.name, "compiler": compiler, "dtype": place.precision.name(), "checks": lines }),
    )
}

/// Relative errors beside what roundings explain.
///
/// With u the unit of rounding, an output has passed some twenty layers that each round, and a gradient twice as many;
/// roundings add up like a random walk, to about 2.5 u and 3 u here in PyTorch's bf16. The limits are some three times
/// that. Ten steps of Adam, which makes steps of one size from gradients of any, amplify: losses are 4 u to 9 u apart
/// where gradients are less than 3 u apart, so they may be 16 u. In 32 bits the two sides differ by the order of their
/// sums and by Winograd's transforms, 1e-6 a layer, far below the floor; a wrong kernel is far above it.
fn compare(expected: &Yield, found: &Yield, precision: Precision) -> [Comparison; 3] {
    let u = match precision {
        Precision::F32 => 2f64.powi(-24),
        Precision::Tf32 | Precision::F16 => 2f64.powi(-11),
        Precision::Bf16 => 2f64.powi(-8),
    };
    let comparison = |name, expected: &[f64], found: &[f64], units: f64, floor: f64| Comparison {
        name,
        error: relative(expected, found),
        limit: floor.max(units * u),
    };
    [
        comparison("output", &expected.output, &found.output, 8.0, 1e-4),
        comparison("gradient", &expected.gradient, &found.gradient, 10.0, 2e-4),
        comparison("training loss", &expected.losses, &found.losses, 16.0, 1e-3),
    ]
}

/// Length of the difference as a share of the length of what was expected.
fn relative(expected: &[f64], found: &[f64]) -> f64 {
    if expected.len() != found.len() {
        return f64::INFINITY;
    }
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut expected.iter().zip(found).map(|(a, b)| a - b));
    difference / length(&mut expected.iter().copied())
}

fn compute(args: &CheckArgs, place: &Place) -> anyhow::Result<Yield> {
    let device = place.device().clone().autodiff();
    let model = || -> anyhow::Result<Model> {
        match &args.config {
            Some(path) => {
                build_json(&read_config(path)?, &device).context(path.display().to_string())
            }
            None => build_json(&serde_json::from_str(SMALL)?, &device),
        }
    };
    let network = model()?;
    let inputs = Inputs::new(&network, args.batch, &device)?;
    let y = network.forward(
        place.enter(inputs.x0.clone()),
        inputs.t(),
        NetworkCondition::default(),
        None,
    )?;
    let y = y.cast(Precision::F32.dtype());
    let output = values(y.clone().into_data())?;
    let error = (y - inputs.eps.clone()).square();
    let (batch, values) = (error.dims()[0], error.shape().num_elements());
    let error = error.reshape([batch, values / batch]).mean_dim(1);
    let gradients = error.reshape([batch]).mean_dim(0).backward();
    let gradient = gradient(&network, &gradients)?;

    let config = place.step_config(1e-3)?;
    let mut state = TrainState::new(network);
    let mut losses = Vec::new();
    for _ in 0..STEPS {
        let report;
        (state, report) = state.step(vec![inputs.micro_batch()], &config)?;
        losses.push(report.loss);
    }
    Ok(Yield {
        output,
        gradient,
        losses,
    })
}

/// The gradients of all parameters, one after the other.
fn gradient(model: &Model, gradients: &Gradients) -> anyhow::Result<Vec<f64>> {
    struct Collect<'a> {
        gradients: &'a Gradients,
        found: Vec<TensorData>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.gradients);
            self.found.extend(gradient.map(Tensor::into_data));
        }
    }
    let mut collect = Collect {
        gradients,
        found: Vec::new(),
    };
    model.visit(&mut collect);
    let parts = collect.found.into_iter().map(values);
    Ok(parts.collect::<anyhow::Result<Vec<_>>>()?.concat())
}

fn values(data: TensorData) -> anyhow::Result<Vec<f64>> {
    let read = data.convert::<f32>().try_to_vec::<f32>();
    let read = read.map_err(|error| anyhow::anyhow!("values cannot be read back: {error:?}"))?;
    Ok(read.into_iter().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_what_it_does() {
        let args = CheckArgs {
            place: PlaceArgs {
                device: Choice::Cpu,
                precision: Precision::F32,
            },
            config: Some(crate::tests::config("digits.json")),
            batch: 2,
        };
        let line = run(&args).unwrap();
        let checks = line["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 3);
        assert!(checks.iter().all(|check| check["error"] == 0.0), "{line}");
        let device = crate::place::cpu().picked.device;
        build_json(&serde_json::from_str(SMALL).unwrap(), &device).unwrap();
    }

    #[test]
    fn differences_are_relative_and_seen() {
        assert_eq!(relative(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(relative(&[3.0, 4.0], &[3.0, -1.0]), 1.0);
        assert_eq!(relative(&[3.0], &[3.0, 4.0]), f64::INFINITY);
        assert!(relative(&[1.0], &[f64::NAN]).is_nan());
        let of = |value: f64| Yield {
            output: vec![value; 4],
            gradient: vec![value; 4],
            losses: vec![value; 4],
        };
        for (precision, within, beyond) in [
            (Precision::F32, 5e-5, 2e-3),
            (Precision::Tf32, 3e-3, 1e-2),
            (Precision::Bf16, 2e-2, 7e-2),
        ] {
            let ok = |off: f64| {
                let comparisons = compare(&of(1.0), &of(1.0 + off), precision);
                comparisons.map(|c| c.error <= c.limit)
            };
            assert_eq!(ok(within), [true; 3], "{precision}");
            assert_eq!(ok(beyond), [false; 3], "{precision}");
        }
    }
}
