//! Every figure of a set of generated images, over one pass of features.

mod classes;
mod copies;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Figure, times};
use crate::error::EvalError;
use crate::features::Features;
use crate::frechet::FrechetReference;
use crate::inception_score::whole_score;
use crate::kernel::{kernel_distance, rbf_distance};
use crate::moments::Moments;
use crate::pairs::{Between, Points, Tick, Within, ticks};
use crate::reference::Reference;
use crate::rows::Rows;

pub use classes::ClassFigures;
pub use copies::{Copies, Pair};

/// How figures are computed; figures of other settings do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Neighbours that make a ball, for precision, recall, density and coverage.
    pub k: usize,
    /// Images of each set that are compared pair by pair; more are spread out and the others skipped.
    pub pairs: usize,
    /// Seed of the intervals.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            k: 3,
            pairs: 10_000,
            seed: 0,
        }
    }
}

/// The figures; those that the extractor or the reference has nothing for are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The squared Fréchet distance: FID with Inception's features. Lower is better.
    pub frechet_distance: Figure,
    /// The same over features that keep their places (sFID). Lower is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spatial_frechet_distance: Option<Figure>,
    /// KID. Lower is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_distance: Option<Figure>,
    /// CMMD's distance. Lower is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rbf_distance: Option<Figure>,
    /// The share of generated images that lie among the real ones (Kynkäänniemi et al. 2019).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Figure>,
    /// The share of real images that lie among the generated ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Figure>,
    /// How many balls of real images a generated one lies in, over k (Naeem et al. 2020).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<Figure>,
    /// The share of real images with a generated one in their ball.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Figure>,
    /// Of a classifier's answers. Higher is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inception_score: Option<Figure>,
    /// Whether images are copies of training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// Class by class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassFigures>,
    /// What is to be known before these figures are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Images that are judged, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// What the images should be like.
    pub reference: &'a Reference,
    /// Real images that nothing was trained on.
    pub held_out: Option<&'a Features>,
    /// How.
    pub settings: Settings,
}

/// Features from which on a decomposition takes seconds: the reference is then not drawn again.
const LARGE: usize = 512;

/// Resamplings of a Fréchet distance: each takes decompositions of its covariances.
fn resamplings(dim: usize) -> usize {
    match dim {
        0..=128 => 100,
        129..=LARGE => 40,
        _ => 10,
    }
}

impl Judge<'_> {
    /// How often `tick` is called for `n` generated images.
    #[must_use]
    pub fn ticks(&self, n: usize) -> usize {
        let frechet = resamplings(self.reference.moments.dim())
            + self
                .reference
                .spatial
                .as_ref()
                .map_or(0, |moments| resamplings(moments.dim()));
        let pairs = self.reference.features.as_ref().map_or(0, |features| {
            let (drawn, real) = (n.min(self.settings.pairs), features.count());
            2 * ticks(drawn) + ticks(real)
        });
        frechet + pairs
    }

    /// All figures of generated images.
    ///
    /// # Errors   [`EvalError::Few`] for too few images, [`EvalError::NotFinite`], [`EvalError::Shape`] if they are another
    /// extractor's than the reference's, [`EvalError::Stopped`] if `tick` breaks
    pub fn figures(&self, drawn: &Features, tick: Tick<'_>) -> Result<Figures, EvalError> {
        let Settings { k, pairs, seed } = self.settings;
        drawn.pooled.check("generated")?;
        let reference = self.reference;
        let projected = reference.projected(&drawn.pooled)?;
        let own_rows = match projected.dim() > LARGE {
            true => None,
            false => reference.own_rows()?,
        };
        let frechet_distance =
            self.frechet(&projected, &reference.moments, own_rows.as_ref(), tick)?;
        let spatial_frechet_distance = match (&drawn.spatial, &reference.spatial) {
            (Some(rows), Some(moments)) => Some(self.frechet(rows, moments, None, tick)?),
            _ => None,
        };
        let mut figures = Figures {
            frechet_distance,
            spatial_frechet_distance,
            kernel_distance: None,
            rbf_distance: None,
            precision: None,
            recall: None,
            density: None,
            coverage: None,
            inception_score: drawn
                .logits
                .as_ref()
                .map(|logits| whole_score(logits, seed)),
            copies: None,
            classes: Vec::new(),
            warnings: self.warnings(drawn.count(), projected.dim()),
        };
        let Some(real) = &reference.features else {
            return Ok(figures);
        };
        let compared = drawn.spread(pairs);
        for (features, of) in [(&compared, "generated"), (real, "real")] {
            if features.count() <= k {
                return Err(EvalError::Few {
                    figure: "a comparison by pairs",
                    needed: k + 1,
                    got: features.count(),
                    of,
                });
            }
        }
        let points = [Points::new(&compared.pooled), Points::new(&real.pooled)];
        let own = points[0].within(k, tick)?;
        let of_real = points[1].within(k, tick)?;
        let between = points[0].between(&points[1], [&own.radius, &of_real.radius], tick)?;
        figures.kernel_distance = Some(kernel_distance(&own, &of_real, &between, seed));
        figures.rbf_distance = Some(rbf_distance(&own, &of_real, &between, seed));
        figures.precision = Some(share(&between.first.inside, seed));
        figures.recall = Some(share(&between.second.inside, seed));
        figures.coverage = Some(share(&between.second.covered, seed));
        figures.density = Some(density(&between, k, seed));
        let held_out = self.held_out.map(|features| features.spread(pairs));
        figures.copies = Some(copies::copies(
            &between,
            &of_real,
            held_out
                .as_ref()
                .map(|features| (&features.pooled, &points[1])),
            seed,
        )?);
        figures.classes = classes::classes(&compared, real, self.settings)?;
        Ok(figures)
    }

    /// The distance with its interval. `own` are all rows of the reference, where they are known: it is drawn again, too.
    fn frechet(
        &self,
        rows: &Rows,
        reference: &Moments,
        own: Option<&Rows>,
        tick: Tick<'_>,
    ) -> Result<Figure, EvalError> {
        let seed = self.settings.seed;
        let fixed = FrechetReference::new(reference)?;
        let value = fixed.distance(&Moments::of(rows, "generated")?)?;
        let mut resampled = Vec::new();
        for resampling in 0..resamplings(rows.dim()) as u64 {
            let drawn = times(rows.count(), seed, 2 * resampling);
            let drawn = Moments::weighted(rows, Some(&drawn), "generated")?;
            resampled.push(match own {
                None => fixed.distance(&drawn)?,
                Some(own) => {
                    let again = times(own.count(), seed, 2 * resampling + 1);
                    let again = Moments::weighted(own, Some(&again), "real")?;
                    FrechetReference::new(&again)?.distance(&drawn)?
                }
            });
            if tick().is_break() {
                return Err(EvalError::Stopped);
            }
        }
        Ok(Figure::biased(value, &resampled))
    }

    fn warnings(&self, drawn: usize, dim: usize) -> Vec<String> {
        let few = |count: usize, of: &str| {
            format!(
                "{count} {of} images are no more than the {dim} features: the Fréchet distance is far too large; compare it \
                 with figures of as many images alone"
            )
        };
        let mut warnings = Vec::new();
        if drawn <= dim {
            warnings.push(few(drawn, "generated"));
        }
        if self.reference.moments.is_singular() {
            warnings.push(few(
                self.reference.moments.count.unwrap_or_default(),
                "real",
            ));
        }
        warnings
    }
}

/// The share of images of which something is true.
fn share(holds: &[bool], seed: u64) -> Figure {
    let terms: Vec<f64> = holds
        .iter()
        .map(|&holds| f64::from(u8::from(holds)))
        .collect();
    Figure::of_means(&[&terms], seed, |means| means[0])
}

fn density(between: &Between, k: usize, seed: u64) -> Figure {
    let terms: Vec<f64> = between
        .first
        .balls
        .iter()
        .map(|&balls| f64::from(balls) / k as f64)
        .collect();
    Figure::of_means(&[&terms], seed, |means| means[0])
}

/// Both sets of a comparison, and what each has of itself and of the other.
pub(crate) fn compare(
    drawn: &Rows,
    real: &Rows,
    k: usize,
) -> Result<(Within, Within, Between), EvalError> {
    let tick = &|| std::ops::ControlFlow::Continue(());
    let points = [Points::new(drawn), Points::new(real)];
    let own = points[0].within(k, tick)?;
    let of_real = points[1].within(k, tick)?;
    let between = points[0].between(&points[1], [&own.radius, &of_real.radius], tick)?;
    Ok((own, of_real, between))
}

#[cfg(test)]
mod tests;
