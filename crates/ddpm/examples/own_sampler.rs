//! A sampler of one's own: the midpoint method on the probability flow, against Euler's on data whose denoiser is known.
//! `cargo run --release -p ddpm --example own_sampler`

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use ddpm::burn::tensor::Tensor;
use ddpm::diffusion::sampler::euler::Euler;
use ddpm::diffusion::{
    About, DiffusionError, Evaluations, Method, NetworkError, SampleBatch, Step, Walk, sample_by,
};
use ddpm::schedule::{Edm, Grid, Leg};
use ddpm::{Choice, Condition, Meaning, Network, Process, SampleConfig, resolve};

/// dx/du at the middle of a leg leads over the whole of it: order 2, two evaluations.
#[derive(Clone, Copy)]
struct Midpoint;

impl Method for Midpoint {
    fn about(&self) -> About {
        About {
            good_for: "showing how a sampler is written",
            order: 2,
            evaluations: Evaluations::Two,
            usual_steps: 20,
            stochastic: false,
            source: "Runge 1895",
        }
    }

    fn check(&self, _: &Process, _: &Grid) -> Result<(), DiffusionError> {
        Ok(())
    }

    fn start(&self, _: &Process, _: &Grid) -> Box<dyn Step> {
        Box::new(*self)
    }
}

impl Step for Midpoint {
    fn step(
        &mut self,
        walk: &mut Walk<'_>,
        x: Tensor<4>,
        leg: Leg,
    ) -> Result<Tensor<4>, DiffusionError> {
        let (from, to) = (leg.from.level, leg.to.level);
        let x0 = walk.denoise(&x, leg.from)?.x0;
        let slope = walk.slope(&x, &x0, from);
        let middle = walk.process().at_sigma(0.5 * (from.sigma() + to.sigma()));
        let half = walk.along(&x, &slope, from, middle);
        let x0 = walk.denoise(&half, walk.stop(middle))?.x0;
        let slope = walk.slope(&half, &x0, middle);
        Ok(walk.along(&x, &slope, from, to))
    }
}

/// Data that are normal with this deviation: the best denoiser is x/(1 + σ²/s²), and EDM's network output follows from it.
struct Gaussian {
    deviation: f64,
    sigma_data: f64,
}

impl Network for Gaussian {
    fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        _: &Condition,
    ) -> Result<Tensor<4>, NetworkError> {
        // EDM tells its network x·c_in and ln(σ)/4, and makes c_skip·x + c_out·output of what it says.
        let sigma = f64::from((t * 4.0).exp().max().into_scalar::<f32>());
        let (data, noise) = (self.sigma_data.powi(2), sigma.powi(2));
        let c_in = 1.0 / (data + noise).sqrt();
        let c_skip = data / (data + noise);
        let c_out = sigma * self.sigma_data / (data + noise).sqrt();
        let best = self.deviation.powi(2) / (self.deviation.powi(2) + noise);
        Ok(x * ((best - c_skip) / (c_out * c_in)))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = resolve(Choice::Cpu)?.device;
    let edm = Edm::default();
    let network = Gaussian {
        deviation: 0.3,
        sigma_data: edm.sigma_data,
    };
    let process = Process::Edm(edm);
    // An image is its start, scaled: that is what a sampler is measured by.
    let draw = |method: &dyn Method, steps: usize| -> Result<f64, Box<dyn Error>> {
        let config = SampleConfig {
            steps: Some(steps),
            clip: false,
            ..SampleConfig::default()
        };
        let plan = config.plan(&process, Meaning::from(process.usual_prediction()))?;
        let batch = SampleBatch {
            shape: [8, 1, 8, 8],
            seed: 0,
            first_index: 0,
            condition: Condition::default(),
            guide: Default::default(),
            device: device.clone(),
        };
        let go_on = &mut |_: ddpm::diffusion::Progress<'_>| std::ops::ControlFlow::Continue(());
        let images = sample_by(method, &network, &plan, batch, go_on)?;
        let power = images.clone().powf_scalar(2.0).mean().into_scalar::<f32>();
        Ok(f64::from(power).sqrt())
    };
    let exact = draw(&Midpoint, 2000)?;
    for steps in [10, 20, 40, 80] {
        let midpoint = (draw(&Midpoint, steps)? - exact).abs();
        let euler = (draw(&Euler::default(), 2 * steps)? - exact).abs();
        println!(
            "{:3} evaluations: off by {midpoint:.2e}, by Euler's method {euler:.2e}",
            2 * steps
        );
    }
    Ok(())
}
