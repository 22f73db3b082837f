//! The sets, and the choices that are changed one at a time.

/// A set of images with its recipe.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) recipe: &'static str,
    /// How the set is named beside a folder of images.
    pub(super) reference: &'static [&'static str],
    /// What a variant is called, and what makes it. Steps are chosen so that all train for about as long.
    pub(super) variants: &'static [(&'static str, Change)],
}

/// What a variant of a recipe changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Keys of the recipe.
    Keys(&'static [&'static str]),
    /// The recipe itself, and keys of the other one.
    Recipe(&'static str, &'static [&'static str]),
    /// How the recipe's own run is drawn from: options of `ddpm eval`.
    Drawn(&'static [&'static str]),
}

use Change::{Drawn, Keys, Recipe};

/// Every set.
pub(super) const SETS: &[Set] = &[
    Set {
        name: "digits",
        recipe: "configs/digits.toml",
        reference: &["--reference", "digits"],
        variants: DIGITS,
    },
    Set {
        name: "fashion-mnist",
        recipe: "configs/fashion-mnist.toml",
        reference: &["--reference", "/usr/share/datasets/fashion-mnist"],
        variants: FASHION,
    },
    Set {
        name: "sprites",
        recipe: "configs/sprites.toml",
        reference: &["--reference", "configs/data/sprites-32.zip"],
        variants: SPRITES,
    },
];

const DIGITS: &[(&str, Change)] = &[
    (
        "rectified flow, Heun: `configs/digits-flow.toml`",
        Recipe("configs/digits-flow.toml", &[]),
    ),
    (
        "rectified flow, uniform t",
        Recipe("configs/digits-flow.toml", &["process.times=uniform"]),
    ),
    (
        "EDM, Heun: `configs/digits-edm.toml`",
        Recipe("configs/digits-edm.toml", &[]),
    ),
    ("v", Keys(&["objective.prediction=v"])),
    ("x0", Keys(&["objective.prediction=x0"])),
    (
        "v, min-SNR",
        Keys(&["objective.prediction=v", "objective.weighting=min_snr"]),
    ),
    ("linear table", Keys(&["schedule.kind=linear"])),
    (
        "attention at 4×4",
        Keys(&[
            "model.attention_at=[4]",
            "model.mid_attention=true",
            "train.steps=2400",
        ]),
    ),
    (
        "24 and 48 channels",
        Keys(&[
            "model.channels=24",
            "model.multipliers=[1,2]",
            "train.steps=2300",
        ]),
    ),
    (
        "two blocks a level",
        Keys(&["model.blocks=2", "train.steps=1900"]),
    ),
    ("betas 0.9 and 0.999", Keys(&["optim.betas=[0.9,0.999]"])),
    ("learning rate 1e-3", Keys(&["optim.lr=1e-3"])),
    ("learning rate 4e-3", Keys(&["optim.lr=4e-3"])),
    ("constant learning rate", Keys(&["optim.decay=constant"])),
    ("average of 0.999", Keys(&["ema.decay=0.999"])),
    ("no average", Keys(&["ema.decay=0"])),
    ("batch 16", Keys(&["train.batch=16", "train.steps=4000"])),
    ("batch 64", Keys(&["train.batch=64", "train.steps=1200"])),
    (
        "drawn by DDIM, 50 steps",
        Drawn(&["--sampler", "ddim", "--steps", "50"]),
    ),
    (
        "drawn by DPM-Solver, 20 steps",
        Drawn(&["--sampler", "dpm_solver", "--steps", "20"]),
    ),
];
const FASHION: &[(&str, Change)] = &[
    ("flipped images, too", Keys(&["data.flip=true"])),
    (
        "16, 32 and 32 channels",
        Keys(&[
            "model.channels=16",
            "model.multipliers=[1,2,2]",
            "train.steps=7300",
        ]),
    ),
    (
        "24, 48 and 48 channels",
        Keys(&[
            "model.channels=24",
            "model.multipliers=[1,2,2]",
            "train.steps=3800",
        ]),
    ),
    (
        "ε, cosine table, ancestral: `configs/fashion-mnist-ddpm.toml`",
        Recipe("configs/fashion-mnist-ddpm.toml", &["train.steps=3800"]),
    ),
];
const SPRITES: &[(&str, Change)] = &[
    ("flipped images, too", Keys(&["data.flip=true"])),
    (
        "8, 24 and 48 channels",
        Keys(&["model.channels=8", "train.steps=13000"]),
    ),
    (
        "no attention",
        Keys(&[
            "model.attention_at=[]",
            "model.mid_attention=false",
            "train.steps=9500",
        ]),
    ),
    (
        "ε, cosine table, ancestral: `configs/sprites-ddpm.toml`",
        Recipe("configs/sprites-ddpm.toml", &["train.steps=2000"]),
    ),
];
