//! A two-dimensional toy: a small network learns a swiss roll by rectified flow, and its points are plotted as text.
//! `cargo run --release -p ddpm --example swiss_roll [STEPS]`

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::f32::consts::TAU;
use std::ops::ControlFlow;

use ddpm::burn::module::{Module, Param};
use ddpm::burn::tensor::{Device, Distribution, Tensor, TensorData};
use ddpm::diffusion::sampler::heun::Heun;
use ddpm::diffusion::{NetworkError, SampleBatch, sample};
use ddpm::schedule::Flow;
use ddpm::schedule::noise::{Stream, uniform_fill};
use ddpm::unet::DropoutRng;
use ddpm::{
    Choice, Condition, Config, MicroBatch, ProcessConfig, Sampler, StepConfig, TrainNetwork,
    TrainState, Trained, resolve,
};

/// A point is an image of two channels and one pixel.
#[derive(Module, Debug)]
struct Mlp {
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
    third: Param<Tensor<2>>,
    last: Param<Tensor<2>>,
}

const HIDDEN: usize = 128;

impl Mlp {
    fn new(device: &Device) -> Self {
        let layer = |inputs: usize, outputs: usize| {
            let deviation = (2.0 / inputs as f64).sqrt();
            let weights = Tensor::random(
                [inputs, outputs],
                Distribution::Normal(0.0, deviation),
                device,
            );
            Param::from_tensor(weights)
        };
        Self {
            first: layer(4, HIDDEN),
            second: layer(HIDDEN, HIDDEN),
            third: layer(HIDDEN, HIDDEN),
            last: layer(HIDDEN, 2),
        }
    }
}

impl TrainNetwork for Mlp {
    fn output(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        _condition: &Condition,
        _dropout: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, NetworkError> {
        let batch = x.dims()[0];
        // [batch, 2, 1, 1] -> [batch, 2]; rectified flow tells 1000·t.
        let (x, t) = (x.reshape([batch, 2]), t.reshape([batch, 1]) / 1000.0);
        let x = Tensor::cat(vec![x, t.clone(), t.ones_like()], 1);
        let silu = |x: Tensor<2>| x.clone() * x.neg().exp().add_scalar(1.0).recip();
        let x = silu(x.matmul(self.first.val()));
        let x = silu(x.matmul(self.second.val()));
        let x = silu(x.matmul(self.third.val()));
        Ok(x.matmul(self.last.val()).reshape([batch, 2, 1, 1]))
    }
}

/// Points of the roll, `[count, 2, 1, 1]`, a function of the step.
fn roll(step: u64, count: usize, device: &Device) -> Tensor<4> {
    let mut points = Vec::with_capacity(2 * count);
    for row in 0..count as u64 {
        let mut u = [0.0; 3];
        uniform_fill(0, Stream::Synthetic, step, row, &mut u);
        let [along, across, aside] = u.map(|u| u as f32);
        let angle = TAU * (0.5 + 1.5 * along);
        let radius = angle / (2.0 * TAU);
        let jitter = 0.04;
        points.push(radius * angle.cos() + jitter * (across - 0.5));
        points.push(radius * angle.sin() + jitter * (aside - 0.5));
    }
    Tensor::from_data(TensorData::new(points, [count, 2, 1, 1]), device)
}

/// Points as a picture of characters, 41 by 21.
fn plot(points: &[f32]) -> String {
    let mut rows = vec![vec![' '; 41]; 21];
    for point in points.chunks_exact(2) {
        let (column, row) = (20.0 + 18.0 * point[0], 10.0 - 9.0 * point[1]);
        let row = rows.get_mut(row.round().max(0.0) as usize);
        let place = row.and_then(|row| row.get_mut(column.round().max(0.0) as usize));
        if let Some(place) = place {
            *place = match *place {
                ' ' => '.',
                '.' => 'o',
                _ => '@',
            };
        }
    }
    let lines = rows
        .into_iter()
        .map(|row| row.into_iter().collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

fn main() -> Result<(), Box<dyn Error>> {
    let steps: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(3000), |steps| steps.parse())?;
    let device = resolve(Choice::Cpu)?.device;
    let mut config = Config {
        process: ProcessConfig::Flow(Flow::default()),
        ..Config::default()
    };
    config.optim.lr = 2e-3;
    config.train.steps = Some(steps);
    config.sample.sampler = Sampler::Heun(Heun::default());
    config.sample.steps = Some(30);
    config.sample.clip = false;
    let validated = config.validate()?;
    let step_config = StepConfig::from(&validated);

    let tracked = device.clone().autodiff();
    let mut state = TrainState::new(Mlp::new(&tracked));
    for step in 0..steps {
        let micro_batch = MicroBatch::draw(roll(step, 256, &tracked), step, 0, &step_config);
        let report;
        (state, report) = state.step(vec![micro_batch], &step_config)?;
        if report.step % 500 == 0 {
            println!("step {}, loss {:.4}", report.step, report.loss);
        }
    }

    let network = state.ema_model();
    let batch = SampleBatch {
        shape: [600, 2, 1, 1],
        seed: 0,
        first_index: 0,
        condition: Condition::default(),
        guide: Default::default(),
        device: device.clone(),
    };
    let go_on = &mut |_: ddpm::diffusion::Progress<'_>| ControlFlow::Continue(());
    let points = sample(&Trained(&network), &validated.plan, batch, go_on)?;
    let points: Vec<f32> = points.into_data().iter::<f32>().collect();
    println!("{}", plot(&points));
    Ok(())
}
