//! `ddpm import`.

use anyhow::Result;
use ddpm_model::{ImportOptions, Imported, Origin};
use ddpm_store::{RunDir, StoreError};
use serde_json::json;

use super::{Report, shown};
use crate::args::ImportArgs;
use crate::exit::visible;
use crate::models;
use crate::size::parse_size;

/// A network of another program as a run of this one.
///
/// # Errors   usage and format errors with their exit codes
pub fn import(args: &ImportArgs) -> Result<Report> {
    let source = models::find(&args.source)?;
    // Reading may take long, so that what is in the way is said first.
    if args.run.join("config.toml").is_file() {
        return Err(StoreError::Occupied {
            path: args.run.clone(),
            what: "a run is already there",
        }
        .into());
    }
    let size = args.size.as_deref().map(parse_size).transpose()?;
    let options = ImportOptions {
        size: size.map(|size| [size.height, size.width]),
        steps: args.diffusion_steps,
        schedule: args.schedule.map(Into::into),
        heads: args.heads,
        head_channels: args.head_channels,
        new_attention_order: args.new_attention_order,
        rescale_timesteps: args.rescale_timesteps,
        predict_x0: args.predict_x0,
    };
    // Nothing is computed here, so no GPU is woken.
    let device = ddpm_device::resolve(ddpm_device::Choice::Cpu)?.device;
    let imported = Imported::read(&source, &options, &device)?;
    let (program, settings) = (imported.program, imported.settings.clone());
    let checkpoint = imported.write(&args.run)?;
    let run = RunDir::open(&args.run)?;

    let mut text = format!(
        "imported {} ({}) into {}\n",
        source.display(),
        program,
        run.path().display()
    );
    for setting in &settings {
        let origin = match setting.origin {
            Origin::Read => "read from the file",
            Origin::Given => "given",
            Origin::Published => "taken: as published with networks of this form",
            Origin::Taken => "taken",
        };
        text += &format!(
            "  {:<17}{:<22}{origin}\n",
            setting.what,
            visible(&setting.value)
        );
    }
    if settings
        .iter()
        .any(|setting| matches!(setting.origin, Origin::Taken | Origin::Published))
    {
        text += "what was taken must be as the network was trained; `ddpm import --help` has the options\n";
    }
    text += &format!(
        "draw with\n  ddpm sample --model {}\n",
        run.path().display()
    );
    let json = json!({
        "source": shown(&source), "program": program, "run": shown(run.path()),
        "checkpoint": shown(&checkpoint), "settings": settings,
    });
    Ok(Report::done(text, json))
}
