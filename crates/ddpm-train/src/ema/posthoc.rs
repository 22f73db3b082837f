//! Averages of the weights that nobody tracked, out of snapshots of some that were (Karras et al. 2024, appendix C).
//!
//! The profile of an average is how much each moment τ of training weighs in it. A wanted profile is approximated by the
//! sum of the snapshots' profiles that is nearest to it in the mean square, and the same sum of the snapshots' weights is
//! the average.

use super::power::gamma_of;

/// The profile p(τ) = (γ+1)·τ^γ / t^(γ+1) on (0, t] of a power-function average at time t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// t: images seen, or anything that grows with them.
    pub end: f64,
    /// γ
    pub gamma: f64,
}

impl Profile {
    /// That of a σ_rel.
    pub fn new(end: f64, sigma_rel: f64) -> Self {
        Self {
            end,
            gamma: gamma_of(sigma_rel),
        }
    }

    /// ∫ p·q dτ over the time that both have: (γp+1)(γq+1) / (γp+γq+1) · s^(γ of the later one) / t, where t is the later
    /// end and s the earlier one's share of it.
    fn product(self, other: Self) -> f64 {
        let (early, late) = match self.end < other.end {
            true => (self, other),
            false => (other, self),
        };
        let powers = (early.gamma + 1.0) * (late.gamma + 1.0) / (early.gamma + late.gamma + 1.0);
        powers * (early.end / late.end).powf(late.gamma) / late.end
    }
}

/// How a profile is made of others.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// What each snapshot is multiplied with; together 1.
    pub coefficients: Vec<f64>,
    /// Their sum before they were divided by it.
    pub sum: f64,
    /// ‖wanted - made‖ / ‖wanted‖ of the profiles: how much of what was asked for could not be made.
    pub residual: f64,
}

/// The coefficients of `snapshots` whose profiles together come nearest to `wanted`.
///
/// None if there is no snapshot, one does not end after 0, or they make nothing of it.
pub fn solve(snapshots: &[Profile], wanted: Profile) -> Option<Mixture> {
    let all = || snapshots.iter().chain([&wanted]);
    if snapshots.is_empty() || !all().all(|p| p.end > 0.0 && p.end.is_finite()) {
        return None;
    }
    // Profiles of length 1: their products are cosines then, whatever time is counted in.
    let lengths: Vec<f64> = all().map(|p| p.product(*p).sqrt()).collect();
    let (lengths, wanted_length) = (&lengths[..snapshots.len()], lengths[snapshots.len()]);
    let cosines = |p: Profile, length: f64| -> Vec<f64> {
        let each = snapshots.iter().zip(lengths);
        each.map(|(q, l)| p.product(*q) / (length * l)).collect()
    };
    let each = snapshots.iter().zip(lengths);
    let gram: Vec<Vec<f64>> = each.map(|(p, length)| cosines(*p, *length)).collect();
    let right = cosines(wanted, wanted_length);

    let factor = Factor::of(&gram);
    let mut solution = factor.solve(&right);
    // Once more with what is left over, for the last digits.
    let correction = factor.solve(&left_over(&gram, &right, &solution));
    for (x, more) in solution.iter_mut().zip(correction) {
        *x += more;
    }
    let of_length = |(x, length): (&f64, &f64)| x * wanted_length / length;
    let coefficients: Vec<f64> = solution.iter().zip(lengths).map(of_length).collect();
    let sum: f64 = coefficients.iter().sum();
    if !(sum.is_finite() && sum.abs() > f64::EPSILON) {
        return None;
    }
    let made: Vec<f64> = solution.iter().map(|x| x / sum).collect();
    // |w - m|² = 1 - m·w - m·(w - m)
    let square = 1.0 - dot(&made, &right) - dot(&made, &left_over(&gram, &right, &made));
    Some(Mixture {
        coefficients: coefficients.iter().map(|c| c / sum).collect(),
        sum,
        residual: square.max(0.0).sqrt(),
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// right - gram·x
fn left_over(gram: &[Vec<f64>], right: &[f64], x: &[f64]) -> Vec<f64> {
    let rows = gram.iter().zip(right);
    rows.map(|(row, b)| b - dot(row, x)).collect()
}

/// A Cholesky factor of a positive semidefinite matrix with a diagonal of ones, the largest pivot first.
///
/// Snapshots that lie close together are nearly one: those that nothing is left of beside the ones before them get 0.
struct Factor {
    /// Which row each column was begun at.
    pivots: Vec<usize>,
    columns: Vec<Vec<f64>>,
}

/// What is left of a pivot that is rounding alone.
const NOTHING: f64 = 1e-13;

impl Factor {
    fn of(gram: &[Vec<f64>]) -> Self {
        let mut rest = vec![1.0f64; gram.len()];
        let mut factor = Self {
            pivots: Vec::new(),
            columns: Vec::new(),
        };
        for _ in 0..gram.len() {
            let Some(pivot) = (0..rest.len()).max_by(|&a, &b| rest[a].total_cmp(&rest[b])) else {
                break;
            };
            if rest[pivot] < NOTHING {
                break;
            }
            let root = rest[pivot].sqrt();
            let mut column = vec![0.0; rest.len()];
            for (i, entry) in column.iter_mut().enumerate() {
                if i == pivot {
                    *entry = root;
                } else if !factor.pivots.contains(&i) {
                    let known = factor.columns.iter().map(|c| c[i] * c[pivot]);
                    *entry = (gram[i][pivot] - known.sum::<f64>()) / root;
                    rest[i] -= *entry * *entry;
                }
            }
            rest[pivot] = f64::NEG_INFINITY;
            factor.pivots.push(pivot);
            factor.columns.push(column);
        }
        factor
    }

    /// gram⁻¹·right
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let mut y: Vec<f64> = Vec::new();
        for (k, &pivot) in self.pivots.iter().enumerate() {
            let known = self.columns.iter().zip(&y).map(|(c, y)| c[pivot] * y);
            let value = (right[pivot] - known.sum::<f64>()) / self.columns[k][pivot];
            y.push(value);
        }
        let mut x = vec![0.0; right.len()];
        for (k, &pivot) in self.pivots.iter().enumerate().rev() {
            let column = &self.columns[k];
            // Those of earlier pivots are 0 still.
            x[pivot] = (y[k] - dot(column, &x)) / column[pivot];
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots(count: usize, sigma_rels: &[f64]) -> Vec<Profile> {
        let ends = (1..=count).map(|k| 32.0 * k as f64);
        ends.flat_map(|end| sigma_rels.iter().map(move |&s| Profile::new(end, s)))
            .collect()
    }

    #[test]
    fn a_snapshot_is_made_of_itself() {
        let all = snapshots(6, &[0.05, 0.1]);
        for (i, &wanted) in all.iter().enumerate() {
            let found = solve(&all, wanted).unwrap();
            for (k, c) in found.coefficients.iter().enumerate() {
                assert!(
                    (c - f64::from(u8::from(k == i))).abs() < 1e-12,
                    "{i} {k} {c}"
                );
            }
            assert!(found.residual < 1e-7 && (found.sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn profiles_in_between_are_made_well_and_those_beyond_badly() {
        let residual = |count, sigma_rel| {
            let all = snapshots(count, &[0.05, 0.1]);
            let found = solve(&all, Profile::new(32.0 * count as f64, sigma_rel)).unwrap();
            assert!((found.coefficients.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            found.residual
        };
        // Made with a dense solver.
        for (count, sigma_rel, expected) in [
            (3, 0.07, 0.0464),
            (6, 0.15, 0.0554),
            (6, 0.01, 0.574),
            (20, 0.2, 0.0155),
            (100, 0.25, 0.00847),
        ] {
            let found = residual(count, sigma_rel);
            assert!(
                (found / expected - 1.0).abs() < 2e-2,
                "{count} {sigma_rel}: {found}"
            );
        }
    }

    #[test]
    fn snapshots_that_are_nearly_one_do_no_harm() {
        let mut all = snapshots(4, &[0.05, 0.1]);
        let wanted = Profile::new(128.0, 0.07);
        let alone = solve(&all, wanted).unwrap();
        all.extend_from_within(..);
        all.push(Profile::new(128.0 * (1.0 + 1e-12), 0.05));
        let found = solve(&all, wanted).unwrap();
        assert!((found.residual - alone.residual).abs() < 1e-9);
        assert!(found.coefficients.iter().all(|c| c.abs() < 10.0));
        let many = solve(&snapshots(600, &[0.05, 0.1]), Profile::new(19_200.0, 0.15)).unwrap();
        assert!(many.residual < 1e-4, "{}", many.residual);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let wanted = Profile::new(10.0, 0.1);
        assert_eq!(solve(&[], wanted), None);
        assert_eq!(solve(&[Profile { end: 0.0, ..wanted }], wanted), None);
    }
}
