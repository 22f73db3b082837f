//! `--device` and `--precision`: where a network runs, and in which numbers.

use anyhow::Context;
use burn::tensor::{Device, Tensor};
use clap::Args;
use ddpm_device::{Choice, Picked, resolve};
use ddpm_diffusion::ObjectiveConfig;
use ddpm_schedule::{Process, ScheduleConfig};
use ddpm_train::{EmaConfig, OptimConfig, OptimKind, StepConfig};
use ddpm_unet::Precision;

/// Seed of every random number.
pub const SEED: u64 = 0;

/// Where a network runs, and in which numbers.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// auto, cpu, cuda:0, wgpu:0, vulkan:0, vulkan:cpu, metal:0 or rocm:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Choice,
    /// What the network computes in: f32, tf32, bf16 or f16
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
}

/// A device that has answered and computes in the precision.
#[derive(Debug, Clone)]
pub struct Place {
    /// The device and its name.
    pub picked: Picked,
    /// What networks compute in.
    pub precision: Precision,
}

impl PlaceArgs {
    /// # Errors   if there is no such device, or if it does not compute in that precision
    pub fn resolve(&self) -> anyhow::Result<Place> {
        let picked = resolve(self.device)?;
        self.precision
            .choose(&picked.device)
            .with_context(|| picked.name.clone())?;
        Ok(Place {
            picked,
            precision: self.precision,
        })
    }
}

impl Place {
    /// The device, without autodiff.
    pub fn device(&self) -> &Device {
        &self.picked.device
    }

    /// The images in the precision, which a network then computes in.
    pub fn enter(&self, images: Tensor<4>) -> Tensor<4> {
        images.cast(self.precision.dtype())
    }

    /// What compiles the kernels of CUDA devices in this program; `None` for other devices.
    pub fn compiler(&self) -> Option<&'static str> {
        let nvrtc = cfg!(feature = "cuda-nvrtc");
        let cuda = self.picked.name.starts_with("cuda");
        cuda.then_some(if nvrtc { "NVRTC" } else { "LLVM" })
    }

    /// Waits until the device has done everything that it was told to.
    ///
    /// # Errors   what the device reports
    pub fn wait(&self) -> anyhow::Result<()> {
        let name = &self.picked.name;
        self.device()
            .sync()
            .with_context(|| format!("{name} does not finish its work"))
    }

    /// Adam with clipping to 1 and the moving average with a decay of 0.9999: what PyTorch's side does.
    ///
    /// # Errors   none that a default configuration has
    pub fn step_config(&self, lr: f64) -> anyhow::Result<StepConfig> {
        let process = Process::Discrete(ScheduleConfig::default().build()?);
        Ok(StepConfig {
            seed: SEED,
            objective: ObjectiveConfig::default().build(&process)?,
            process,
            optim: OptimConfig {
                kind: OptimKind::Adam,
                lr,
                clip_norm: 1.0,
                ..OptimConfig::default()
            },
            ema: EmaConfig {
                decay: 0.9999,
                ..EmaConfig::default()
            },
            total_steps: u64::MAX,
            precision: self.precision,
            recompute: false,
            capture: true,
        })
    }
}

#[cfg(test)]
pub(crate) fn cpu() -> Place {
    let args = PlaceArgs {
        device: Choice::Cpu,
        precision: Precision::F32,
    };
    args.resolve().unwrap()
}
