//! Recipes that promise something: they are trained, and what they draw is held to it.

use std::path::Path;

use anyhow::{Context, ensure};
use clap::Args;

use crate::pixels;
use crate::programs::Ddpm;
use crate::step::{print, say};

/// What is trained.
#[derive(Debug, Args)]
#[command(
    after_help = "Trains below target/recipes, or goes on with what an earlier call left there, draws, and prints a line
for each figure that the recipe promises in its [promise]. It fails if one is not kept."
)]
pub struct Options {
    /// Only recipes whose name begins with this
    name: Option<String>,
    /// Other than on the CPU: cuda:0, wgpu:0
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Digits of each class that are drawn.
const EACH: usize = 100;
/// What they are drawn with.
const GUIDANCE: &str = "2";
/// The share of drawn digits that the nearest real digit must agree with.
const AGREES: f64 = 0.95;
/// The recipe that draws classes.
const CLASSES: &str = "digits-classes";

/// Trains, draws and compares.
///
/// # Errors
/// If something does not build, train or draw, or a promise is not kept.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let mut promising = promising(&root.join("configs"))?;
    promising.push(CLASSES.to_owned());
    let part = options.name.as_deref().unwrap_or_default();
    // A whole name is that recipe alone.
    let exact = promising.iter().any(|name| name == part);
    let wanted = |name: &&String| {
        if exact {
            *name == part
        } else {
            name.starts_with(part)
        }
    };
    let chosen: Vec<&String> = promising.iter().filter(wanted).collect();
    ensure!(
        !chosen.is_empty(),
        "no recipe of this name promises anything; there are {}",
        promising.join(", ")
    );
    let ddpm = Ddpm::build(root)?;
    let mut broken = Vec::new();
    for name in chosen {
        let kept = match name.as_str() {
            CLASSES => digits_classes(root, &ddpm)?,
            name => promised(&ddpm, name, &options.device)?,
        };
        if !kept {
            broken.push(name.as_str());
        }
    }
    ensure!(
        broken.is_empty(),
        "promises not kept: {}",
        broken.join(", ")
    );
    Ok(())
}

/// The recipes with a `[promise]`.
fn promising(configs: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(configs)? {
        let path = entry?.path();
        let (Some("toml"), Some(name)) = (
            path.extension().and_then(|extension| extension.to_str()),
            path.file_stem().and_then(|stem| stem.to_str()),
        ) else {
            continue;
        };
        let text = std::fs::read_to_string(&path)?;
        let recipe: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        if recipe.contains_key("promise") {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Trains a recipe and lets `ddpm eval` hold it to its own `[promise]`.
fn promised(ddpm: &Ddpm, name: &str, device: &str) -> anyhow::Result<bool> {
    let run = ddpm.target.join("recipes").join(name);
    ddpm.train(&format!("configs/{name}.toml"), &[], &run)?;
    let text = std::fs::read_to_string(run.join("config.toml"))?;
    let config: toml::Table = text.parse()?;
    let promise = |key: &str| {
        let value = config.get("promise").and_then(|promise| promise.get(key));
        value.with_context(|| format!("{name}: promise.{key} is missing in the run"))
    };
    let n = promise("n")?.to_string();
    let extractor = promise("extractor")?
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let run = run.display().to_string();
    let arguments = [
        "eval",
        &run,
        "-n",
        &n,
        "--extractor",
        &extractor,
        "--device",
        device,
    ];
    say(&format!("== ddpm {}", arguments.join(" ")));
    let json = ddpm.run(&arguments)?;
    let promise = &json["promise"];
    let bounds = promise["bounds"]
        .as_array()
        .with_context(|| format!("{name}: nothing was promised"))?;
    for bound in bounds {
        let kept = bound["kept"].as_bool() == Some(true);
        print(&format!(
            "{name}: {} {:.4} (promised {} {}){}\n",
            bound["figure"].as_str().unwrap_or_default(),
            bound["value"].as_f64().unwrap_or(f64::NAN),
            if bound["at_most"] == true {
                "at most"
            } else {
                "at least"
            },
            bound["bound"],
            if kept { "" } else { ": NOT kept" },
        ))?;
    }
    Ok(promise["kept"].as_bool() == Some(true))
}

/// Digits of the class that was asked for: the nearest real digit, pixel by pixel, says which each is.
fn digits_classes(root: &Path, ddpm: &Ddpm) -> anyhow::Result<bool> {
    let run = ddpm.target.join("recipes").join(CLASSES);
    ddpm.train("configs/digits-classes.toml", &[], &run)?;
    let (run, out) = (
        run.display().to_string(),
        run.join("drawn").display().to_string(),
    );
    let n = (10 * EACH).to_string();
    let arguments = [
        "sample",
        "--model",
        &run,
        "--class",
        "all",
        "-n",
        &n,
        "--guidance",
        GUIDANCE,
        "--out",
        &out,
        "--device",
        "cpu",
    ];
    say(&format!("== ddpm {}", arguments.join(" ")));
    ddpm.run(&arguments)?;
    let (real, classes) = pixels::digits(root)?;
    let drawn = pixels::folder(Path::new(&out))?;
    ensure!(drawn.len() == 10 * EACH, "{} images in {out}", drawn.len());
    let nearest = drawn.nearest(&real);
    let agreeing = nearest
        .iter()
        .enumerate()
        .filter(|(i, real)| classes[**real] == i / EACH);
    let share = agreeing.count() as f64 / nearest.len() as f64;
    print(&format!(
        "{CLASSES}: the nearest real digit is of the class asked for in {:.1}% of {} drawn at guidance {GUIDANCE} (promised: {:.0}%)\n",
        100.0 * share,
        nearest.len(),
        100.0 * AGREES
    ))?;
    Ok(share >= AGREES)
}
