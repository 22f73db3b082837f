//! The sets, and the choices that are changed one at a time.

/// A set of images with its recipe.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) recipe: &'static str,
    /// Images that are judged.
    pub(super) n: usize,
    /// How the set is named beside a folder of images.
    pub(super) reference: &'static [&'static str],
    /// What a variant is called, and the keys, the recipe or the options of `ddpm eval` that make it. Steps are chosen so
    /// that all train for about as long.
    pub(super) variants: &'static [(&'static str, &'static [&'static str])],
}

/// Every set.
pub(super) const SETS: &[Set] = &[
    Set {
        name: "digits",
        recipe: "configs/digits.toml",
        n: 1797,
        reference: &["--reference", "digits"],
        variants: DIGITS,
    },
    Set {
        name: "fashion-mnist",
        recipe: "configs/fashion-mnist.toml",
        n: 1000,
        reference: &["--reference", "/usr/share/datasets/fashion-mnist"],
        variants: FASHION,
    },
    Set {
        name: "sprites",
        recipe: "configs/sprites.toml",
        n: 1000,
        reference: &["--reference", "configs/data/sprites-32.zip"],
        variants: SPRITES,
    },
];

const DIGITS: &[(&str, &[&str])] = &[
    (
        "rectified flow, Heun: `configs/digits-flow.toml`",
        &["configs/digits-flow.toml"],
    ),
    (
        "rectified flow, uniform t",
        &["configs/digits-flow.toml", "process.times=uniform"],
    ),
    (
        "EDM, Heun: `configs/digits-edm.toml`",
        &["configs/digits-edm.toml"],
    ),
    ("v", &["objective.prediction=v"]),
    ("x0", &["objective.prediction=x0"]),
    (
        "v, min-SNR",
        &["objective.prediction=v", "objective.weighting=min_snr"],
    ),
    ("linear table", &["schedule.kind=linear"]),
    (
        "attention at 4×4",
        &[
            "model.attention_at=[4]",
            "model.mid_attention=true",
            "train.steps=2600",
        ],
    ),
    (
        "24 and 48 channels",
        &[
            "model.channels=24",
            "model.multipliers=[1,2]",
            "train.steps=2250",
        ],
    ),
    (
        "two blocks a level",
        &["model.blocks=2", "train.steps=1900"],
    ),
    ("betas 0.9 and 0.999", &["optim.betas=[0.9,0.999]"]),
    ("learning rate 1e-3", &["optim.lr=1e-3"]),
    ("learning rate 4e-3", &["optim.lr=4e-3"]),
    ("constant learning rate", &["optim.decay=constant"]),
    ("average of 0.999", &["ema.decay=0.999"]),
    ("no average", &["ema.decay=0"]),
    ("batch 16", &["train.batch=16", "train.steps=5400"]),
    ("batch 64", &["train.batch=64", "train.steps=1600"]),
    (
        "drawn by DDIM, 50 steps",
        &["--sampler", "ddim", "--steps", "50"],
    ),
    (
        "drawn by DPM-Solver, 20 steps",
        &["--sampler", "dpm_solver", "--steps", "20"],
    ),
];
const FASHION: &[(&str, &[&str])] = &[
    ("flipped images, too", &["data.flip=true"]),
    ("24 channels", &["model.channels=24", "train.steps=3000"]),
    (
        "ε, cosine table, ancestral: `configs/fashion-mnist-ddpm.toml`",
        &["configs/fashion-mnist-ddpm.toml"],
    ),
];
const SPRITES: &[(&str, &[&str])] = &[("flipped images, too", &["data.flip=true"])];
