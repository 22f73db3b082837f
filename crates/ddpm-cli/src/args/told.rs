//! What a network is told of the images that it draws, and how strongly it is led there.

use std::path::PathBuf;

use clap::Args;

/// The options of `ddpm sample` and `ddpm edit`.
#[derive(Debug, Clone, Args)]
pub struct ToldArgs {
    /// Classes by name or number, or all, with how many images of each: cat,dog:4,7; without it, `sample` draws all of
    /// them and `edit` the class that stands for none
    #[arg(long, value_name = "CLASSES")]
    pub class: Option<String>,
    /// The numbers of a network that was trained with condition.columns, all of them: age=30,width=0.5; without it, the
    /// network is told none
    #[arg(long, value_name = "NAME=NUMBER,...")]
    pub numbers: Option<String>,
    /// How strongly images are led to their class: 1 not at all, 2 to 4 usually; more in --set guidance.rescale=0.7,
    /// guidance.interval.sigma=[0.3,5] and guidance.orthogonal=true
    #[arg(long, value_name = "SCALE")]
    pub guidance: Option<f64>,
    /// A worse network to lead away from, instead of the class (autoguidance): a smaller one, or an earlier checkpoint
    #[arg(long, value_name = "RUN|DIR")]
    pub guide_by: Option<PathBuf>,
}
