//! The sets, and the choices that are changed one at a time.

/// A set of images with its recipe.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) recipe: &'static str,
    /// Images that are judged.
    pub(super) n: usize,
    /// How the set is named beside a folder of images.
    pub(super) reference: &'static [&'static str],
    /// What a variant is called, and the keys that make it.
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
        n: 2000,
        reference: &["--reference", "/usr/share/datasets/fashion-mnist"],
        variants: FASHION,
    },
    Set {
        name: "sprites",
        recipe: "configs/sprites.toml",
        n: 2000,
        reference: &["--reference", "configs/data/sprites-32.zip"],
        variants: SPRITES,
    },
];

const DIGITS: &[(&str, &[&str])] = &[];
const FASHION: &[(&str, &[&str])] = &[];
const SPRITES: &[(&str, &[&str])] = &[];
