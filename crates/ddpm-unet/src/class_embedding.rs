//! How classes and other facts about an image enter the network: they are added to the time embedding.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};

use crate::error::UnetError;
use crate::init::Init;
use crate::time_embedding::{TimeProjection, TimestepEmbedding};

/// What a class-conditional network is told about each image.
#[derive(Debug, Clone)]
pub enum ClassLabels {
    /// Class numbers, `[batch]`.
    Index(Tensor<1, Int>),
    /// Ready-made embeddings, `[batch, time_embedding_dim]`, for the identity embedding.
    Embedding(Tensor<2>),
}

/// What a network is told of each image besides its time.
#[derive(Debug, Clone, Default)]
pub struct NetworkCondition {
    /// Its class.
    pub labels: Option<ClassLabels>,
    /// Numbers that describe it, `[batch, vector_dim]`.
    pub vector: Option<Tensor<2>>,
}

impl NetworkCondition {
    /// The classes alone.
    pub fn of_labels(labels: Option<ClassLabels>) -> Self {
        Self {
            labels,
            vector: None,
        }
    }

    /// Whether nothing is told.
    pub fn is_empty(&self) -> bool {
        self.labels.is_none() && self.vector.is_none()
    }
}

/// One learned vector a class.
#[derive(Module, Debug)]
pub struct Table {
    weight: Param<Tensor<2>>,
}

/// Passes embeddings through.
#[derive(Module, Debug)]
pub struct Identity {
    #[module(skip)]
    dim: usize,
}

/// The kinds of class embedding.
#[expect(clippy::large_enum_variant, reason = "a network has one of these")]
#[derive(Module, Debug)]
pub enum ClassEmbedding {
    /// A table of vectors.
    Table(Table),
    /// The label goes through the same features and an MLP of the same form as the time step.
    Timestep(TimestepEmbedding),
    /// The caller gives the embedding.
    Identity(Identity),
}

impl ClassEmbedding {
    /// A table for `classes` classes.
    pub fn table(classes: usize, dim: usize, init: &mut Init) -> Self {
        Self::Table(Table {
            weight: init.normal([classes, dim], 1.0),
        })
    }

    /// An MLP over time-step features of the label.
    pub fn timestep(features: usize, dim: usize, init: &mut Init) -> Self {
        Self::Timestep(TimestepEmbedding::new(features, dim, init))
    }

    /// The caller gives `[batch, dim]`.
    pub fn identity(dim: usize) -> Self {
        Self::Identity(Identity { dim })
    }

    /// # Shapes   returns `[batch, dim]`
    /// # Errors   [`UnetError::Labels`] if the labels are of the other kind, [`UnetError::Shape`]
    /// if their number is not `batch`
    pub fn forward(
        &self,
        labels: ClassLabels,
        batch: usize,
        projection: &TimeProjection,
    ) -> Result<Tensor<2>, UnetError> {
        let check = |got: Vec<usize>, expected: Vec<usize>| {
            if got == expected {
                return Ok(());
            }
            Err(UnetError::Shape {
                input: "class_labels",
                got,
                expected: format!("{expected:?}"),
            })
        };
        let wrong_kind = |problem: &str| UnetError::Labels {
            problem: problem.into(),
        };
        match (self, labels) {
            (Self::Table(table), ClassLabels::Index(index)) => {
                check(index.dims().to_vec(), vec![batch])?;
                Ok(table.weight.val().select(0, index))
            }
            (Self::Timestep(mlp), ClassLabels::Index(index)) => {
                check(index.dims().to_vec(), vec![batch])?;
                Ok(mlp.forward(projection.forward(index.float())))
            }
            (Self::Identity(identity), ClassLabels::Embedding(embedding)) => {
                check(embedding.dims().to_vec(), vec![batch, identity.dim])?;
                Ok(embedding)
            }
            (Self::Identity(_), ClassLabels::Index(_)) => Err(wrong_kind(
                "this network takes embeddings [batch, time_embedding_dim] as class labels, not class numbers",
            )),
            (_, ClassLabels::Embedding(_)) => Err(wrong_kind(
                "this network takes class numbers [batch] as class labels, not embeddings",
            )),
        }
    }
}
