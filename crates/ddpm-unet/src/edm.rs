//! The networks of EDM (Karras et al. 2022, table 1 and appendix C): DDPM++ and NCSN++ of Song et al. 2021, and ADM of
//! Dhariwal & Nichol 2021, with the parameter names of that program below `model.`.
//!
//! The raw network F_θ only: preconditioning is the engine's (process and prediction `edm`), so the time here is
//! c_noise.

mod block;
mod config;
mod dhariwal;
mod layers;
mod parts;
mod plan;
mod section;
mod song;
#[cfg(test)]
mod tests;

use burn::module::Module;
use burn::tensor::{Int, Tensor};

pub(crate) use block::{check_heads, groups, is_adaptive, projects};
pub use config::{EdmArchitecture, EdmConfig, EdmDecoder, EdmEmbedding, EdmEncoder};
pub(crate) use config::{keys, read_over};
pub use dhariwal::DhariwalUNet;
pub(crate) use plan::{BlockPlan, Part, PlannedPart, Resampling};
pub use section::{EdmArch, EdmSection};
pub use song::SongUNet;
pub(crate) use song::columns;

use crate::class_embedding::{ClassLabels, NetworkCondition};
use crate::error::UnetError;
use crate::init::Init;
use crate::layers::DropoutRng;
use crate::padding::{Padding, fit};

/// A network of EDM.
#[expect(clippy::large_enum_variant, reason = "there is one of these a process")]
#[derive(Module, Debug)]
pub enum EdmUNet {
    /// DDPM++ and NCSN++.
    Song(SongUNet),
    /// ADM.
    Dhariwal(DhariwalUNet),
}

impl EdmUNet {
    /// Builds the network with the initial values of EDM, of the seed of `init`.
    ///
    /// # Errors   [`UnetError::Config`] for a configuration that no network can have
    pub fn new(config: &EdmConfig, init: &mut Init) -> Result<Self, UnetError> {
        config.validate()?;
        Ok(match config.model_type {
            EdmArchitecture::SongUNet => Self::Song(SongUNet::new(config, init)?),
            EdmArchitecture::DhariwalUNet => Self::Dhariwal(DhariwalUNet::new(config, init)?),
        })
    }

    /// The configuration the network was built from.
    pub fn config(&self) -> &EdmConfig {
        match self {
            Self::Song(song) => song.config(),
            Self::Dhariwal(dhariwal) => dhariwal.config(),
        }
    }

    /// F_θ(x; c_noise). `rng` switches dropout on (training).
    ///
    /// # Shapes   `x`: `[batch, in_channels, height, width]`, `t`: `[batch]`;
    /// returns `[batch, out_channels, height, width]`
    /// # Units    `t` is c_noise = ln(σ)/4
    /// # Errors   [`UnetError::Shape`], [`UnetError::Size`] or [`UnetError::Labels`] for inputs that do not fit the
    /// configuration
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
    ) -> Result<Tensor<4>, UnetError> {
        let config = self.config();
        let padding = check(config, &x, &t)?;
        let told = Told::of(config, condition, t.dims()[0])?;
        let x = padding.pad(x);
        let y = match self {
            Self::Song(song) => song.forward(x, t, told, rng),
            Self::Dhariwal(dhariwal) => dhariwal.forward(x, t, told, rng),
        };
        Ok(padding.crop(y))
    }
}

/// # Errors   [`UnetError::Shape`] or [`UnetError::Size`]
fn check(config: &EdmConfig, x: &Tensor<4>, t: &Tensor<1>) -> Result<Padding, UnetError> {
    let [batch, channels, height, width] = x.dims();
    if channels != config.in_channels {
        return Err(UnetError::Shape {
            input: "x",
            got: x.dims().to_vec(),
            expected: format!("[batch, {}, height, width]", config.in_channels),
        });
    }
    if t.dims() != [batch] {
        return Err(UnetError::Shape {
            input: "t",
            got: t.dims().to_vec(),
            expected: format!("[{batch}]"),
        });
    }
    fit(height, width, config.channel_mult.len(), config.pad)
}

/// What the network is told of each image, as far as it has a place for it.
struct Told {
    /// Class numbers; that of the null class is the number of classes.
    labels: Option<Tensor<1, Int>>,
    /// The augmentation, `[batch, augment_dim]`.
    augment: Option<Tensor<2>>,
}

impl Told {
    /// # Errors   [`UnetError::Labels`] or [`UnetError::Shape`] for what does not fit the configuration
    fn of(
        config: &EdmConfig,
        condition: NetworkCondition,
        batch: usize,
    ) -> Result<Self, UnetError> {
        let labels = indices(config.label_dim, condition.labels, batch)?;
        if let Some(vector) = &condition.vector
            && vector.dims() != [batch, config.augment_dim]
        {
            return Err(UnetError::Shape {
                input: "vector",
                got: vector.dims().to_vec(),
                expected: format!("[{batch}, {}]", config.augment_dim),
            });
        }
        Ok(Self {
            labels,
            augment: condition.vector,
        })
    }
}

/// The class numbers for a network over `classes` classes, none for 0.
///
/// # Errors   [`UnetError::Labels`] or [`UnetError::Shape`]
pub(crate) fn indices(
    classes: usize,
    labels: Option<ClassLabels>,
    batch: usize,
) -> Result<Option<Tensor<1, Int>>, UnetError> {
    let problem = |problem: &str| {
        Err(UnetError::Labels {
            problem: problem.into(),
        })
    };
    match (classes, labels) {
        (0, None) => Ok(None),
        (0, Some(_)) => problem("this network has no classes; leave `class_labels` out"),
        (_, None) => problem("this network is class-conditional; give `class_labels`"),
        (_, Some(ClassLabels::Embedding(_))) => {
            problem("this network takes class numbers [batch] as class labels, not embeddings")
        }
        (_, Some(ClassLabels::Index(index))) if index.dims() != [batch] => Err(UnetError::Shape {
            input: "class_labels",
            got: index.dims().to_vec(),
            expected: format!("[{batch}]"),
        }),
        (_, Some(ClassLabels::Index(index))) => Ok(Some(index)),
    }
}
