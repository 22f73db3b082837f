//! A figure over the rounds.

/// The middle, the least and the most of a figure's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        };
        Some(Self { median, min, max })
    }
}

/// Among named groups of values, the name of the one with the least median.
pub fn least<'a, T: Copy + 'a>(groups: impl IntoIterator<Item = (T, &'a [f64])>) -> Option<T> {
    groups
        .into_iter()
        .filter_map(|(name, values)| Some((name, Spread::of(values)?.median)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        for (values, expected) in [
            (&[][..], None),
            (&[2.0], Some((2.0, 2.0, 2.0))),
            (&[3.0, 1.0], Some((2.0, 1.0, 3.0))),
            (&[5.0, 1.0, 2.0], Some((2.0, 1.0, 5.0))),
            (&[4.0, 8.0, 1.0, 2.0], Some((3.0, 1.0, 8.0))),
        ] {
            let spread = Spread::of(values);
            assert_eq!(spread.map(|s| (s.median, s.min, s.max)), expected);
        }
    }

    #[test]
    fn the_least_median_wins() {
        let groups: [(&str, &[f64]); 4] = [
            ("none", &[]),
            ("steady", &[2.0, 2.0, 2.0]),
            ("erratic", &[1.0, 3.0, 9.0]),
            ("slow", &[4.0]),
        ];
        assert_eq!(least(groups), Some("steady"));
        assert_eq!(least([("none", &[][..])]), None);
        // The first of equals, so that the plainest mode is named.
        assert_eq!(least([("a", &[1.0][..]), ("b", &[1.0])]), Some("a"));
    }
}
