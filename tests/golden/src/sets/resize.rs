//! Images as three programs bring them to 299×299, at chosen rows and columns.

use std::path::Path;

use anyhow::Context;
use ddpm_eval::Resize;

use super::Kind;
use crate::Case;
use crate::compare::{difference, larger};
use crate::keys::{Keys, needed};
use crate::pictures::picture;
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "metrics/resize",
    cases,
};

/// Height and width of what comes out.
const SIDE: usize = 299;
/// Of the largest byte: a pixel is a handful of float32 operations, each of which rounds by up to 6e-8, and ours are theirs
/// but for fused ones. Another anchor or kernel moves pixels by 1e-3 and more.
const LIMIT: f64 = 1e-6;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let check = |name: &str, case: &mut Keys| compare(&source, name, case);
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}

fn compare(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let images = picture(source, name, case)?;
    let rows = needed(case.counts("rows"), "rows")?;
    let columns = needed(case.counts("columns"), "columns")?;
    let [_, channels, height, width] = images.shape();
    let mut worst = 0.0;
    for resize in Resize::ALL {
        let resized = resize.resized(images.image(0), [channels, height, width]);
        let mut ours = Vec::with_capacity(channels * rows.len() * columns.len());
        for plane in resized.chunks_exact(SIDE * SIDE) {
            for row in &rows {
                for column in &columns {
                    let pixel = plane.chunks_exact(SIDE).nth(*row);
                    let pixel = pixel.and_then(|row| row.get(*column));
                    let pixel = pixel.with_context(|| format!("no pixel {row}, {column}"))?;
                    ours.push(f64::from(*pixel));
                }
            }
        }
        let program = resize.name().replace('-', "_");
        let theirs = source.tensor(&format!("{name}_{program}"))?;
        worst = larger(worst, difference(&ours, &theirs.values));
    }
    Ok(worst)
}
