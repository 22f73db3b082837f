//! `docs/samplers.md`: what every sampler makes of the same networks, and how long it takes.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::programs::Ddpm;
use crate::step::say;

use super::page::{self, Cell, Row, Section};
use super::{Options, beside, trained};

/// A network of the gallery.
struct Network {
    process: &'static str,
    title: &'static str,
    recipe: &'static str,
    /// What all its pictures are drawn with besides the sampler.
    drawn: &'static [&'static str],
    /// What is to be said of its pictures.
    note: &'static str,
}

const NETWORKS: [Network; 4] = [
    Network {
        process: "discrete",
        title: "A table of β, ε-prediction",
        recipe: "configs/fashion-mnist-ddpm.toml",
        // The cosine table ends at a σ of 20,000, whence second orders go astray.
        drawn: &["--spacing", "karras", "--set", "spacing.sigma_max=80"],
        note: "The error of an ε-network is magnified by noise/signal in the image that it expects. Methods without \
               fresh noise keep what went wrong at the first levels (the first, fifth, sixth, thirteenth and \
               fourteenth image); fresh noise washes it out.",
    },
    Network {
        process: "vp",
        title: "The continuous variance-preserving SDE, v-prediction",
        recipe: "configs/fashion-mnist-vp.toml",
        drawn: &["--spacing", "trailing"],
        note: "",
    },
    Network {
        process: "edm",
        title: "EDM",
        recipe: "configs/fashion-mnist-edm.toml",
        drawn: &["--spacing", "karras"],
        note: "",
    },
    Network {
        process: "flow",
        title: "Rectified flow",
        recipe: "configs/fashion-mnist-flow.toml",
        drawn: &["--spacing", "linspace"],
        note: "",
    },
];

/// How often the network may be asked for an image.
pub(super) const EVALUATIONS: [usize; 4] = [5, 10, 20, 50];
pub(super) const IMAGES: &str = "16";

/// Trains, draws and writes the page.
///
/// # Errors
/// If something does not build, train or draw.
pub(super) fn run(ddpm: &Ddpm, out: &Path, options: &Options) -> anyhow::Result<()> {
    let pictures = out.join("samplers");
    fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
    let known = ddpm.run(&["samplers"])?;
    let known = known["samplers"].as_array().context("no samplers")?;
    let mut sections = Vec::new();
    for network in &NETWORKS {
        let run = trained(ddpm, network.process, network.recipe, &[], options)?;
        let mut rows = Vec::new();
        for sampler in known {
            say(&format!("== {}: {}", network.process, sampler["kind"]));
            rows.push(row(ddpm, network, sampler, &run, &pictures)?);
        }
        sections.push(Section {
            title: network.title,
            recipe: network.recipe,
            drawn: network.drawn,
            note: network.note,
            rows,
        });
    }
    let page = out.join("samplers.md");
    fs::write(&page, page::page(&sections, known)).with_context(|| page.display().to_string())?;
    say(&format!("{} and {}", page.display(), pictures.display()));
    Ok(())
}

/// All pictures of a sampler, side by side in one file.
fn row(
    ddpm: &Ddpm,
    network: &Network,
    sampler: &Value,
    run: &Path,
    pictures: &Path,
) -> anyhow::Result<Row> {
    let kind = sampler["kind"]
        .as_str()
        .context("a sampler without a name")?;
    let scratch = tempfile::tempdir()?;
    let mut drawn = Vec::new();
    let mut cells = Vec::new();
    for evaluations in EVALUATIONS {
        let Some(steps) = steps(&sampler["evaluations"], evaluations) else {
            cells.push(Cell::None("fewer than it begins with".to_owned()));
            continue;
        };
        let file = scratch.path().join(format!("{evaluations}.png"));
        let (model, grid, steps) = (
            run.display().to_string(),
            file.display().to_string(),
            steps.to_string(),
        );
        let mut arguments = vec!["sample", "--model", &model, "--sampler", kind, "-n", IMAGES];
        arguments.extend(["--grid", &grid, "--device", "cpu"]);
        // Its steps follow from its errors.
        let adaptive = sampler["evaluations"] == "adaptive";
        if !adaptive {
            arguments.extend(["--steps", &steps]);
        }
        arguments.extend(network.drawn);
        match ddpm.run(&arguments) {
            Ok(said) => {
                let seconds = said["seconds"].as_f64().context("no time")?;
                cells.push(Cell::Seconds(seconds));
                drawn.push(image::open(&file)?.into_rgb8());
            }
            Err(refused) => cells.push(Cell::None(refused.to_string())),
        }
        if adaptive {
            break;
        }
    }
    let name = format!("{}-{kind}.png", network.process);
    let path = pictures.join(&name);
    let picture = match drawn.is_empty() {
        true => {
            // Of an earlier page.
            if path.is_file() {
                fs::remove_file(&path)?;
            }
            None
        }
        false => {
            // Grey again: all channels are alike.
            image::DynamicImage::from(beside(&drawn)?)
                .into_luma8()
                .save(&path)?;
            Some(name)
        }
    };
    Ok(Row {
        kind: kind.to_owned(),
        picture,
        cells,
    })
}

/// The most steps that a sampler makes of so many evaluations.
fn steps(law: &Value, evaluations: usize) -> Option<usize> {
    if let Some(more) = law["one_and_more_at_first"].as_u64() {
        // The steps that ask more often must fit.
        return evaluations
            .checked_sub(more as usize)
            .filter(|steps| *steps > 3);
    }
    match law.as_str() {
        // The last of them is asked for once.
        Some("two") => Some(evaluations.div_ceil(2)),
        _ => Some(evaluations),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_follow_from_evaluations() {
        assert_eq!(steps(&json!("one"), 10), Some(10));
        assert_eq!(steps(&json!("two"), 5), Some(3));
        assert_eq!(steps(&json!("two"), 50), Some(25));
        let first = json!({"one_and_more_at_first": 9});
        assert_eq!(steps(&first, 10), None);
        assert_eq!(steps(&first, 20), Some(11));
    }
}
