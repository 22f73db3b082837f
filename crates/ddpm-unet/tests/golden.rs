//! Outputs and gradients against networks that diffusers built (see `tests/golden/data/README.md`).

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::collections::HashMap;
use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use ddpm_unet::params::{self, ParamPath};
use ddpm_unet::{ClassLabels, Init, InitKind, NetworkCondition, UNet2D, UNet2DConfig};
use safetensors::SafeTensors;
use serde_json::{Map, Value};

struct Golden {
    folder: PathBuf,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

fn read(path: PathBuf) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let words = view
                .data()
                .chunks_exact(4)
                .map(|b| [b[0], b[1], b[2], b[3]]);
            let data = match view.dtype() {
                safetensors::Dtype::F32 => words.map(f32::from_le_bytes).collect(),
                safetensors::Dtype::I32 => words.map(|b| i32::from_le_bytes(b) as f32).collect(),
                other => panic!("{name}: {other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), data))
        })
        .collect()
}

impl Golden {
    fn open(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden/data")
            .join(name);
        let tensors = read(folder.join("io.safetensors"));
        Self { folder, tensors }
    }

    fn json(&self, file: &str) -> Map<String, Value> {
        serde_json::from_slice(&std::fs::read(self.folder.join(file)).unwrap()).unwrap()
    }

    fn network(&self, device: &Device) -> UNet2D {
        let (config, unknown) = UNet2DConfig::from_json(&self.json("config.json")).unwrap();
        assert_eq!(unknown, Vec::<String>::new());
        let net = UNet2D::new(&config, false, &mut Init::new(0, InitKind::Zero, device)).unwrap();
        let weights = read(self.folder.join("diffusion_pytorch_model.safetensors"));
        let named = weights
            .into_iter()
            .map(|(name, (shape, data))| (name, shape, data));
        params::load(net, named).unwrap()
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, data) = self.tensors[name].clone();
        Tensor::from_data(TensorData::new(data, shape), device)
    }

    fn labels(&self, device: &Device) -> Option<ClassLabels> {
        let (shape, data) = self.tensors.get("class_labels")?.clone();
        let data: Vec<i32> = data.into_iter().map(|x| x as i32).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(data, shape), device);
        Some(ClassLabels::Index(labels))
    }
}

/// ‖a - b‖ / ‖b‖
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    let size: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (difference / size).sqrt()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

struct GradNorms<'a> {
    path: ParamPath,
    grads: &'a Gradients,
    norms: HashMap<String, f64>,
}

impl ModuleVisitor for GradNorms<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }
    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Parameters that are not trained have no gradient.
        let Some(grad) = param.val().grad(self.grads) else {
            return;
        };
        let grad = values(grad);
        let norm = grad
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        self.norms.insert(self.path.name(), norm);
    }
}

fn check(name: &str, device: Device) {
    let golden = Golden::open(name);
    let device = device.autodiff();
    let net = golden.network(&device);
    let x = golden.tensor::<4>("x", &device).require_grad();
    let t = golden.tensor::<1>("t", &device);
    let y = net
        .forward(
            x.clone(),
            t,
            NetworkCondition::of_labels(golden.labels(&device)),
            None,
        )
        .unwrap();
    let error = relative(&values(y.clone()), &golden.tensors["y"].1);
    assert!(error < 1e-4, "output: {error:e}");

    let grads = (y * golden.tensor::<4>("w", &device)).mean().backward();
    let error = relative(&values(x.grad(&grads).unwrap()), &golden.tensors["dx"].1);
    assert!(error < 1e-4, "dL/dx: {error:e}");

    let mut visitor = GradNorms {
        path: ParamPath::default(),
        grads: &grads,
        norms: HashMap::new(),
    };
    net.visit(&mut visitor);
    let expected = golden.json("grads.json")["grad_norm"]
        .as_object()
        .unwrap()
        .clone();
    assert_eq!(visitor.norms.len(), expected.len());
    // A key's bias adds the same to each score of a row, so softmax ignores it: its gradient is
    // zero but for rounding, and is compared with the size of the others instead of its own.
    let largest = expected
        .values()
        .filter_map(Value::as_f64)
        .fold(0.0, f64::max);
    for (name, norm) in &expected {
        let (got, norm) = (visitor.norms[name], norm.as_f64().unwrap());
        let close = (got - norm).abs() <= 1e-3 * norm.max(1e-4 * largest);
        assert!(close, "{name}: gradient norm {got:e}, expected {norm:e}");
    }
}

#[test]
fn ho_et_al_network() {
    check("unet/ho_cifar_like", Device::flex());
}

#[test]
fn class_conditional_network_with_scale_and_shift() {
    check("unet/class_scale_shift_gray", Device::flex());
}

#[test]
fn network_of_library_defaults() {
    check("unet/library_defaults", Device::flex());
}

#[test]
fn network_that_resamples_in_residual_blocks() {
    check("unet/resnet_resampling_many_heads", Device::flex());
}

#[test]
fn score_network_over_noise_levels() {
    check("unet/fourier_score_class_number", Device::flex());
}

#[test]
fn network_that_carries_the_image_through_its_levels() {
    check("unet2/skip_blocks", Device::flex());
}

/// A GPU through wgpu: the CPU posing as one (Mesa's lavapipe), or what `DDPM_TEST_CARD` numbers. The same
/// tolerances, since all is f32.
#[cfg(feature = "wgpu")]
mod gpu {
    use super::check;
    use burn::tensor::{Device, DeviceKind};

    fn gpu() -> Device {
        match std::env::var("DDPM_TEST_CARD") {
            Ok(index) => Device::wgpu(DeviceKind::DiscreteGpu(index.parse().unwrap())),
            Err(_) => Device::wgpu(DeviceKind::Cpu),
        }
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn ho_cifar_like() {
        check("unet/ho_cifar_like", gpu());
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn class_scale_shift_gray() {
        check("unet/class_scale_shift_gray", gpu());
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn library_defaults() {
        check("unet/library_defaults", gpu());
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn resnet_resampling_many_heads() {
        check("unet/resnet_resampling_many_heads", gpu());
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn skip_blocks() {
        check("unet2/skip_blocks", gpu());
    }

    #[test]
    #[ignore = "needs a GPU, or Vulkan in software"]
    fn fourier_score_class_number() {
        check("unet/fourier_score_class_number", gpu());
    }
}
