//! A network of one's own in burn, trained on the digits step by step: `cargo run --release -p ddpm --example own_network
//! [STEPS] [PNG]`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use ddpm::burn::module::{Module, Param};
use ddpm::burn::tensor::{Device, Distribution, Tensor, TensorData};
use ddpm::data::{Loader, LoaderConfig};
use ddpm::diffusion::{NetworkError, SampleBatch, sample};
use ddpm::unet::DropoutRng;
use ddpm::{
    Choice, Condition, Config, DataConfig, Dataset, MicroBatch, StepConfig, TrainNetwork,
    TrainState, Trained, resolve,
};

/// Two dense layers over all pixels, the first one told the time by sines and cosines.
#[derive(Module, Debug)]
struct Dense {
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
    third: Param<Tensor<2>>,
}

const PIXELS: usize = 64;
const HIDDEN: usize = 512;
/// Sines and cosines of the time.
const WAVES: usize = 32;

impl Dense {
    fn new(device: &Device) -> Self {
        let layer = |inputs: usize, outputs: usize| {
            let deviation = (inputs as f64).sqrt().recip();
            let weights = Tensor::random(
                [inputs, outputs],
                Distribution::Normal(0.0, deviation),
                device,
            );
            Param::from_tensor(weights)
        };
        Self {
            first: layer(PIXELS + WAVES, HIDDEN),
            second: layer(HIDDEN, HIDDEN),
            third: layer(HIDDEN, PIXELS),
        }
    }
}

impl TrainNetwork for Dense {
    fn output(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        _condition: &Condition,
        _dropout: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, NetworkError> {
        let shape = x.dims();
        let batch = shape[0];
        // [batch] -> [batch, waves / 2]: time steps 0 to 999, from slow waves to fast ones
        let speeds: Vec<f32> = (0..WAVES / 2)
            .map(|i| 0.001 * 1.45f32.powi(i as i32))
            .collect();
        let speeds = Tensor::<1>::from_floats(speeds.as_slice(), &x.device());
        let angles = t.reshape([batch, 1]).matmul(speeds.reshape([1, WAVES / 2]));
        // [batch, 1, 8, 8] -> [batch, 64 + waves]
        let x = Tensor::cat(
            vec![
                x.reshape([batch, PIXELS]),
                angles.clone().sin(),
                angles.cos(),
            ],
            1,
        );
        let silu = |x: Tensor<2>| x.clone() * x.neg().exp().add_scalar(1.0).recip();
        let x = silu(x.matmul(self.first.val()));
        let x = silu(x.matmul(self.second.val()));
        Ok(x.matmul(self.third.val()).reshape(shape))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let steps: u64 = args.next().map_or(Ok(2000), |steps| steps.parse())?;
    let png = args.next().unwrap_or_else(|| "own-network.png".to_owned());
    let device = resolve(Choice::Auto)?.device;

    // Process, objective, optimiser and EMA as a configuration says them; its network is not used.
    let mut config = Config::default();
    config.optim.lr = 1e-3;
    config.sample.steps = Some(100);
    config.train.steps = Some(steps);
    let validated = config.validate()?;
    let step_config = StepConfig::from(&validated);

    let dataset = Dataset::load(&DataConfig::default(), 0, &mut |_, _| {})?;
    let loader = LoaderConfig {
        batch: 128,
        ..LoaderConfig::default()
    };
    let mut loader = Loader::new(Arc::new(dataset), loader)?;
    let tracked = device.clone().autodiff();
    let mut state = TrainState::new(Dense::new(&tracked));
    for step in 0..steps {
        let batch = loader.next()?;
        let x0 = Tensor::from_data(TensorData::new(batch.pixels, batch.shape), &tracked);
        let micro_batch = MicroBatch::draw(x0, step, 0, &step_config);
        let report;
        (state, report) = state.step(vec![micro_batch], &step_config)?;
        if report.step % 100 == 0 {
            println!("step {}, loss {:.4}", report.step, report.loss);
        }
    }

    let network = state.ema_model();
    let batch = SampleBatch {
        shape: [16, 1, 8, 8],
        seed: 0,
        first_index: 0,
        condition: Condition::default(),
        guide: Default::default(),
        device,
    };
    let go_on = &mut |_: ddpm::diffusion::Progress<'_>| ControlFlow::Continue(());
    let images = sample(&Trained(&network), &validated.plan, batch, go_on)?;
    let images = ddpm::image_batch(images)?;
    images.grid(Default::default())?.save_png(png.as_ref())?;
    println!("{png}");
    Ok(())
}
