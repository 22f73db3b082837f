//! What generated images are compared with: moments of all real images, and features of some.

use std::path::Path;

use ddpm_data::{npz_names, read_npz_array};
use ddpm_store::npz::{NpzData, write_npz};
use faer::Mat;

use crate::error::EvalError;
use crate::features::Features;
use crate::moments::Moments;
use crate::principal::Principal;
use crate::rows::Rows;

/// Principal components in which raw pixels have their Fréchet distance.
pub const COMPONENTS: usize = 64;

/// A reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Of all real images.
    pub moments: Moments,
    /// Of the features that keep their places, where the extractor has them.
    pub spatial: Option<Moments>,
    /// The directions in which moments are taken, for features that are too many by far.
    pub principal: Option<Principal>,
    /// Of some real images, spread evenly over all; none of published statistics.
    pub features: Option<Features>,
}

impl Reference {
    /// Of all features of a set, of which `pairs` are kept. `reduce` takes the moments in the set's first 64 principal
    /// components.
    ///
    /// # Errors   [`EvalError::NotFinite`], [`EvalError::Few`], [`EvalError::Eigenvalues`]
    pub fn of(features: &Features, pairs: usize, reduce: bool) -> Result<Self, EvalError> {
        features.pooled.check("real")?;
        let principal = match reduce && features.pooled.dim() > COMPONENTS {
            true => Some(Principal::of(&features.pooled, COMPONENTS)?),
            false => None,
        };
        let moments = match &principal {
            Some(principal) => Moments::of(&principal.project(&features.pooled)?, "real")?,
            None => Moments::of(&features.pooled, "real")?,
        };
        let spatial = match &features.spatial {
            Some(rows) => Some(Moments::of(rows, "real")?),
            None => None,
        };
        let mut kept = features.spread(pairs);
        // What only moments are made of.
        kept.spatial = None;
        Ok(Self {
            moments,
            spatial,
            principal,
            features: Some(kept),
        })
    }

    /// Features as the moments are of them.
    ///
    /// # Errors   [`EvalError::Shape`]
    pub fn projected(&self, rows: &Rows) -> Result<Rows, EvalError> {
        match &self.principal {
            Some(principal) => principal.project(rows),
            None => Ok(rows.clone()),
        }
    }

    /// The rows that the moments are of, if all are kept.
    pub(crate) fn own_rows(&self) -> Result<Option<Rows>, EvalError> {
        let all = self
            .features
            .as_ref()
            .filter(|features| self.moments.count == Some(features.count()));
        all.map(|features| self.projected(&features.pooled))
            .transpose()
    }

    /// Writes it as `.npz`: `mu` and `sigma` as pytorch-fid and EDM have them, and what else there is under names of its
    /// own.
    ///
    /// # Errors   those of writing
    pub fn save(&self, path: &Path) -> Result<(), EvalError> {
        let mut arrays = Arrays::default();
        arrays.moments("mu", "sigma", &self.moments);
        arrays.add(
            "n",
            Vec::new(),
            vec![self.moments.count.unwrap_or_default() as f64],
        );
        if let Some(spatial) = &self.spatial {
            arrays.moments("mu_s", "sigma_s", spatial);
        }
        if let Some(principal) = &self.principal {
            let [dim, kept] = [principal.directions.nrows(), principal.directions.ncols()];
            arrays.add("centre", vec![dim], principal.centre.clone());
            let rows = (0..kept).flat_map(|j| principal.directions.col_as_slice(j).iter().copied());
            arrays.add("directions", vec![kept, dim], rows.collect());
        }
        let mut listed: Vec<(&str, &[usize], NpzData<'_>)> = Vec::new();
        for (name, shape, values) in &arrays.0 {
            listed.push((name, shape, NpzData::F64(values)));
        }
        let features = self.features.as_ref();
        let shape_of = |rows: &Rows| [rows.count(), rows.dim()];
        let pooled =
            features.map(|features| (shape_of(&features.pooled), features.pooled.values()));
        if let Some((shape, values)) = &pooled {
            listed.push(("features", shape, NpzData::F32(values)));
        }
        let logits = features.and_then(|features| features.logits.as_ref());
        let logits = logits.map(|rows| (shape_of(rows), rows.values()));
        if let Some((shape, values)) = &logits {
            listed.push(("logits", shape, NpzData::F32(values)));
        }
        let labels = features.and_then(|features| features.labels.as_ref());
        let labels: Option<([usize; 1], Vec<i64>)> = labels.map(|labels| {
            (
                [labels.len()],
                labels.iter().map(|&label| label as i64).collect(),
            )
        });
        if let Some((shape, values)) = &labels {
            listed.push(("labels", shape, NpzData::I64(values)));
        }
        Ok(write_npz(path, &listed)?)
    }

    /// Reads what [`Reference::save`] has written, or statistics of pytorch-fid or EDM, which are `mu` and `sigma` alone.
    ///
    /// # Errors   [`EvalError::Format`] for arrays that do not fit together, [`EvalError::Data`] for what cannot be read
    pub fn load(path: &Path) -> Result<Self, EvalError> {
        let bad = |problem: String| EvalError::Format {
            path: path.to_owned(),
            problem,
        };
        let names = npz_names(path)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let moments = |mean: &str,
                       covariance: &str,
                       count: Option<usize>|
         -> Result<Moments, EvalError> {
            let mean = read_npz_array(path, mean)?;
            let sigma = read_npz_array(path, covariance)?;
            let dim = mean.values.len();
            if dim == 0 || mean.shape.len() != 1 || sigma.shape != [dim, dim] {
                return Err(bad(format!(
                    "`mu` has the shape {:?} and `sigma` {:?}, which are no statistics of features; write them anew",
                    mean.shape, sigma.shape
                )));
            }
            if let Some(at) = mean
                .values
                .iter()
                .chain(&sigma.values)
                .position(|value| !value.is_finite())
            {
                return Err(bad(format!(
                    "number {at} of its statistics is not finite; write them anew"
                )));
            }
            Ok(Moments {
                count,
                mean: mean.values,
                covariance: Mat::from_fn(dim, dim, |i, j| sigma.values[i * dim + j]),
            })
        };
        let count = match has("n") {
            true => read_npz_array(path, "n")?
                .values
                .first()
                .map(|&n| n as usize),
            false => None,
        };
        let principal = match has("directions") {
            true => {
                let (centre, rows) = (
                    read_npz_array(path, "centre")?,
                    read_npz_array(path, "directions")?,
                );
                let dim = centre.values.len();
                match rows.shape[..] {
                    [kept, of] if of == dim => Some(Principal {
                        centre: centre.values,
                        directions: Mat::from_fn(dim, kept, |i, j| rows.values[j * dim + i]),
                    }),
                    _ => {
                        return Err(bad(
                            "`directions` and `centre` do not fit together; write them anew".into(),
                        ));
                    }
                }
            }
            false => None,
        };
        Ok(Self {
            moments: moments("mu", "sigma", count.filter(|&n| n > 0))?,
            spatial: match has("mu_s") {
                true => Some(moments("mu_s", "sigma_s", count)?),
                false => None,
            },
            principal,
            features: match has("features") {
                true => Some(features(path, &has)?),
                false => None,
            },
        })
    }

    /// Whether a file holds statistics, by the names of its arrays.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        npz_names(path).is_ok_and(|names| {
            ["mu", "sigma"]
                .iter()
                .all(|name| names.iter().any(|found| found == name))
        })
    }
}

fn features(path: &Path, has: &dyn Fn(&str) -> bool) -> Result<Features, EvalError> {
    let rows = |name: &str| -> Result<Rows, EvalError> {
        let array = read_npz_array(path, name)?;
        let dim = array.shape.get(1).copied().unwrap_or_default();
        Rows::new(array.values.into_iter().map(|x| x as f32).collect(), dim)
    };
    let found = Features {
        pooled: rows("features")?,
        spatial: None,
        logits: has("logits").then(|| rows("logits")).transpose()?,
        labels: match has("labels") {
            true => Some(
                read_npz_array(path, "labels")?
                    .values
                    .into_iter()
                    .map(|x| x as usize)
                    .collect(),
            ),
            false => None,
        },
    };
    let n = found.count();
    let others = [
        found.logits.as_ref().map(Rows::count),
        found.labels.as_ref().map(Vec::len),
    ];
    match others.into_iter().flatten().all(|of| of == n) {
        true => Ok(found),
        false => Err(EvalError::Format {
            path: path.to_owned(),
            problem: "its arrays are of different numbers of images; write it anew".into(),
        }),
    }
}

/// Arrays of f64 that are to be written.
#[derive(Default)]
struct Arrays(Vec<(&'static str, Vec<usize>, Vec<f64>)>);

impl Arrays {
    fn add(&mut self, name: &'static str, shape: Vec<usize>, values: Vec<f64>) {
        self.0.push((name, shape, values));
    }

    fn moments(&mut self, mean: &'static str, covariance: &'static str, moments: &Moments) {
        let dim = moments.dim();
        self.add(mean, vec![dim], moments.mean.clone());
        let of = (0..dim * dim).map(|at| moments.covariance[(at / dim, at % dim)]);
        self.add(covariance, vec![dim, dim], of.collect());
    }
}
