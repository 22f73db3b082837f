//! Twenty optimiser steps against PyTorch's (see `tests/golden/data/README.md`).

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_diffusion::ObjectiveConfig;
use ddpm_schedule::{Prediction, Process, ScheduleConfig, Weighting};
use ddpm_store::{DiffusersModel, NamedTensor, TensorFile};
use ddpm_train::{Decay, EmaConfig, MicroBatch, OptimConfig, OptimKind, StepConfig, TrainState};
use ddpm_unet::{Model, Precision, params};
use serde_json::Value;

fn network(folder: &Path, device: &Device) -> Model {
    let found = DiffusersModel::read(folder).unwrap();
    let (model, _) = Model::from_json(&found.config, device).unwrap();
    let tensors = found.tensors.tensors.into_iter();
    params::load(model, tensors.map(|t| (t.name, t.shape, t.data))).unwrap()
}

/// Part `j` of step `i` of a tensor `[steps, parts, batch, …]`.
fn part(tensor: &NamedTensor, i: usize, j: usize) -> (Vec<f32>, Vec<usize>) {
    let rest: usize = tensor.shape[2..].iter().product();
    let first = (i * tensor.shape[1] + j) * rest;
    (
        tensor.data[first..first + rest].to_vec(),
        tensor.shape[2..].to_vec(),
    )
}

fn image(tensor: &NamedTensor, i: usize, j: usize, device: &Device) -> Tensor<4> {
    let (data, shape) = part(tensor, i, j);
    Tensor::from_data(TensorData::new(data, shape), device)
}

#[track_caller]
fn close(what: &str, step: usize, got: f64, expected: f64) {
    let error = (got - expected).abs();
    assert!(
        error <= 1e-3 * expected.abs() + 1e-12,
        "{what} at step {step}: {got}, expected {expected}"
    );
}

/// ‖got - expected‖ / ‖expected‖ over all parameters together.
fn relative(got: &[(String, TensorData)], expected: &[NamedTensor]) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    assert_eq!(got.len(), expected.len());
    for tensor in expected {
        let (_, data) = got.iter().find(|(name, _)| *name == tensor.name).unwrap();
        let data: Vec<f32> = data.clone().try_to_vec().unwrap();
        assert_eq!(data.len(), tensor.data.len(), "{}", tensor.name);
        for (a, b) in data.iter().zip(&tensor.data) {
            difference += f64::from(a - b).powi(2);
            size += f64::from(*b).powi(2);
        }
    }
    (difference / size).sqrt()
}

/// `recompute` as in [`StepConfig`].
fn check(name: &str, objective: ObjectiveConfig, device: Device, recompute: bool) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/data/train")
        .join(name);
    let curve: Value =
        serde_json::from_slice(&std::fs::read(folder.join("curve.json")).unwrap()).unwrap();
    let batches = TensorFile::read(&folder.join("batches.safetensors")).unwrap();
    let [x0, eps, t] = ["x0", "eps", "t"].map(|name| batches.get(name).unwrap());
    let device = device.autodiff();
    let process = Process::Discrete(ScheduleConfig::default().build().unwrap());
    let config = StepConfig {
        seed: 0,
        objective: objective.build(&process).unwrap(),
        process,
        optim: OptimConfig {
            kind: OptimKind::Adamw,
            lr: 1e-3,
            betas: [0.95, 0.999],
            eps: 1e-8,
            weight_decay: 1e-2,
            warmup_steps: 5,
            decay: Decay::Cosine,
            clip_norm: 1.0,
        },
        ema: EmaConfig {
            min_decay: 0.0,
            decay: 0.9999,
            inv_gamma: 1.0,
            power: 0.75,
            ..EmaConfig::default()
        },
        total_steps: 20,
        precision: Precision::F32,
        recompute,
        capture: true,
    };
    let figure = |key: &str, i: usize| curve[key][i].as_f64().unwrap();
    let mut state = TrainState::new(network(&folder.join("start"), &device));
    for i in 0..20 {
        let parts = (0..x0.shape[1])
            .map(|j| MicroBatch {
                x0: image(x0, i, j, &device),
                noise: image(eps, i, j, &device),
                times: part(t, i, j).0.into_iter().map(f64::from).collect(),
                input_noise: None,
                counts: None,
                uncertainty: None,
                condition: Default::default(),
                first_row: (j * x0.shape[2]) as u64,
            })
            .collect();
        let (next, report) = state.step(parts, &config).unwrap();
        state = next;
        close("loss", i, report.loss, figure("loss", i));
        close(
            "gradient norm",
            i,
            report.grad_norm,
            figure("grad_norm_before_clip", i),
        );
        close("learning rate", i, report.lr, figure("lr", i));
        close("EMA decay", i, report.ema_decay, figure("ema_decay", i));
    }
    let end = DiffusersModel::read(&folder.join("end"))
        .unwrap()
        .tensors
        .tensors;
    let error = relative(&params::export(&state.model), &end);
    assert!(error < 1e-3, "end weights: {error:e}");
    let end_ema = DiffusersModel::read(&folder.join("end_ema"))
        .unwrap()
        .tensors
        .tensors;
    let error = relative(&params::export(&state.ema_model()), &end_ema);
    assert!(error < 1e-3, "end EMA weights: {error:e}");
    // The test must be able to tell: the network moved by far more than the tolerance.
    let start = DiffusersModel::read(&folder.join("start"))
        .unwrap()
        .tensors
        .tensors;
    assert!(relative(&params::export(&state.model), &start) > 1e-2);
}

fn v_objective() -> ObjectiveConfig {
    ObjectiveConfig {
        prediction: Some(Prediction::V),
        weighting: Weighting::MinSnr {
            gamma: 5.0,
            as_eps: false,
        },
        ..ObjectiveConfig::default()
    }
}

#[test]
fn eps_prediction() {
    check("epsilon", ObjectiveConfig::default(), Device::flex(), false);
}

#[test]
fn v_prediction_with_min_snr_weights_and_accumulation() {
    check("v_minsnr_accum2", v_objective(), Device::flex(), false);
}

#[test]
fn blocks_computed_twice_give_the_same_curve() {
    check("v_minsnr_accum2", v_objective(), Device::flex(), true);
}

/// A GPU through wgpu: the CPU posing as one (Mesa's lavapipe), or what `DDPM_TEST_CARD` numbers. The same
/// tolerances, since all is f32.
#[cfg(feature = "wgpu")]
mod gpu {
    use super::*;
    use burn::tensor::DeviceKind;

    fn gpu() -> Device {
        match std::env::var("DDPM_TEST_CARD") {
            Ok(index) => Device::wgpu(DeviceKind::DiscreteGpu(index.parse().unwrap())),
            Err(_) => Device::wgpu(DeviceKind::Cpu),
        }
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn eps_prediction() {
        check("epsilon", ObjectiveConfig::default(), gpu(), false);
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn v_prediction_with_accumulation_and_blocks_computed_twice() {
        check("v_minsnr_accum2", v_objective(), gpu(), true);
    }
}
