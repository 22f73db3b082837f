//! Trains the built-in digits and draws some: `cargo run --release -p ddpm --example train_digits [RUN] [STEPS]`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::sync::Arc;

use ddpm::unet::{ModelConfig, UnetSection};
use ddpm::{
    Choice, Config, Dataset, Event, Job, Model, RunDir, Start, Stop, Workers, resolve, train,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "runs/example".to_owned());
    let steps = args.next().map_or(Ok(500), |steps| steps.parse())?;

    // Every key has a default; a small U-Net is enough for 8×8 pixels.
    let mut config = Config {
        model: ModelConfig::Unet(UnetSection {
            channels: 32,
            multipliers: vec![1, 2],
            blocks: 1,
            groups: 8,
            ..UnetSection::default()
        }),
        ..Config::default()
    };
    config.train.steps = Some(steps);
    config.sample.steps = Some(50);

    let device = resolve(Choice::Auto)?.device;
    let validated = config.validate()?;
    let dataset = Dataset::load(
        &validated.config.data,
        validated.config.seed,
        &mut |_, _| {},
    )?;
    let run = RunDir::create(&path)?;
    run.write_config("")?;
    let job = Job {
        validated,
        dataset: Arc::new(dataset),
        run: Some(run),
        workers: Workers::Devices(vec![device.clone()]),
        stop: Stop::default(),
        start: Start::Fresh,
        evaluator: None,
    };
    train(job, &mut |event| {
        if let Event::Step { report, .. } = event
            && report.step % 50 == 0
        {
            println!("step {}, loss {:.4}", report.step, report.loss);
        }
    })?;

    let images = Model::open(path.as_ref(), None, &device)?.sample(16, 1)?;
    let png = format!("{path}/drawn.png");
    images.grid(Default::default())?.save_png(png.as_ref())?;
    println!("{png}");
    Ok(())
}
