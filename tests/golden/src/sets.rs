//! The kinds of sets: one file each.

mod bits_per_dim;
mod diffusers;
mod distances;
mod editing;
mod edm;
mod ema2;
mod features;
mod gradients;
mod guidance;
mod inception;
mod k_diffusion;
mod networks;
mod objectives;
mod pt_files;
mod resize;
mod schedules;
mod train;
mod trajectories;
mod unet;
mod unet2;

use std::path::Path;

use crate::Case;

/// Figures of one layout.
pub struct Kind {
    /// The name of its set; `folder/*` stands for everything in a folder.
    pub name: &'static str,
    /// Compares all of a set. The path is that of its files without an extension, or that of its folder.
    pub cases: fn(&Path) -> anyhow::Result<Vec<Case>>,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[
    schedules::KIND,
    trajectories::KIND,
    k_diffusion::KIND,
    edm::KIND,
    diffusers::KIND,
    ema2::KIND,
    guidance::KIND,
    objectives::KIND,
    editing::KIND,
    bits_per_dim::KIND,
    bits_per_dim::OF_NETWORKS,
    train::FIRST,
    train::SECOND,
    unet::KIND,
    unet2::KIND,
    pt_files::KIND,
    inception::KIND,
    resize::KIND,
    features::KIND,
    distances::KIND,
];

impl Kind {
    /// Whether a set is of this kind.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            // Folders of files without a network are another kind's.
            Some(folder) => name.starts_with(folder) && !name.ends_with("_files"),
            None => name == self.name,
        }
    }
}
