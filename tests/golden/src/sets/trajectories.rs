//! diffusers' schedulers over one closed-form network: the first series.

use std::path::Path;

use super::{Kind, diffusers};
use crate::Case;
use crate::keys::Keys;
use crate::models;
use crate::source::Source;

pub(super) const KIND: Kind = Kind {
    name: "trajectories",
    cases,
};

/// diffusers computes its tables in float32.
const LIMIT: f64 = 1e-4;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let check = |name: &str, case: &mut Keys| {
        case.drop(&["noise_used"]);
        let network = models::network("ratio")?;
        diffusers::scheduler(&source, name, case, network, |x, _| (3.0 * x).sin())
    };
    cases.extend(source.cases("cases", &[], |_| LIMIT, check));
    Ok(cases)
}
