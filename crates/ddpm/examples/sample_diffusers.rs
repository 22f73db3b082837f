//! Draws from a directory as Python's diffusers writes it: `cargo run --release -p ddpm --example sample_diffusers DIR [PNG]`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use ddpm::{Choice, Model, resolve};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let directory = args
        .next()
        .ok_or("name a directory with unet/ and scheduler/")?;
    let png = args.next().unwrap_or_else(|| "drawn.png".to_owned());
    let device = resolve(Choice::Auto)?.device;
    let mut model = Model::open(directory.as_ref(), None, &device)?;
    // The scheduler of the directory decides how; `model.sample` is a configuration that may be changed first.
    let images = model.sample(4, 0)?;
    images.grid(Default::default())?.save_png(png.as_ref())?;
    println!("{png}: by {}", model.sample.sampler.name());
    Ok(())
}
