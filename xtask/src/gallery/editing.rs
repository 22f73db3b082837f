//! The pictures of `docs/editing.md`: every edit of a sprite.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Options, trained};
use crate::programs::Ddpm;
use crate::step::say;

const RECIPE: &str = "configs/sprites-ddpm.toml";
/// Steps of training of each network, of the 20,000 of the recipe: ten minutes on two cores.
const STEPS: &str = "train.steps=2000";

/// What a picture is drawn by.
struct Drawn {
    file: &'static str,
    network: Network,
    /// Of `ddpm edit`.
    arguments: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Plain,
    Enlarges,
    Colours,
}

impl Network {
    const ALL: [Self; 3] = [Self::Plain, Self::Enlarges, Self::Colours];

    /// The name of its run, and what is set beside the recipe.
    fn recipe(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Plain => ("sprites", &[]),
            Self::Enlarges => (
                "sprites-x4",
                &[
                    "condition.kind=low_resolution",
                    "condition.factor=4",
                    "condition.noise=0.5",
                ],
            ),
            Self::Colours => ("sprites-colours", &["condition.kind=gray"]),
        }
    }
}

const PICTURES: [Drawn; 6] = [
    Drawn {
        file: "inpaint.png",
        network: Network::Plain,
        arguments: "inpaint configs/data/sprites/dragon.png --box 16,0,16,32 --steps 50 -n 6",
    },
    Drawn {
        file: "vary.png",
        network: Network::Plain,
        arguments: "vary configs/data/sprites/ogre.png --strength 0.5 --steps 100 -n 7",
    },
    Drawn {
        file: "interpolate.png",
        network: Network::Plain,
        arguments: "interpolate configs/data/sprites/knight.png configs/data/sprites/angel.png --steps 20 -n 8",
    },
    Drawn {
        file: "invert.png",
        network: Network::Plain,
        arguments: "invert configs/data/sprites/knight.png --steps 20",
    },
    Drawn {
        file: "enlarge.png",
        network: Network::Enlarges,
        arguments: "enlarge configs/data/sprites/dragon.png configs/data/sprites/knight.png \
                    configs/data/sprites/ogre.png configs/data/sprites/angel.png --steps 100",
    },
    Drawn {
        file: "colourise.png",
        network: Network::Colours,
        arguments: "colourise configs/data/sprites/dragon.png configs/data/sprites/knight.png \
                    configs/data/sprites/ogre.png configs/data/sprites/angel.png --steps 100",
    },
];

pub(super) fn run(ddpm: &Ddpm, out: &Path, options: &Options) -> anyhow::Result<()> {
    let pictures = out.join("editing");
    fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
    for network in Network::ALL {
        let (name, sets) = network.recipe();
        let sets: Vec<&str> = [STEPS].iter().chain(sets).copied().collect();
        let run = trained(ddpm, name, RECIPE, &sets, options)?;
        for drawn in PICTURES.iter().filter(|drawn| drawn.network == network) {
            let (model, file) = (
                run.display().to_string(),
                pictures.join(drawn.file).display().to_string(),
            );
            say(&format!("== ddpm edit {}", drawn.arguments));
            let words = drawn.arguments.split_whitespace();
            let arguments: Vec<&str> = ["edit"].into_iter().chain(words).collect();
            let places = ["--model", &model, "--out", &file, "--device", "cpu"];
            ddpm.run(&[&arguments[..], &places].concat())?;
        }
    }
    Ok(())
}
