//! How far figures lie apart.

/// The largest difference over a tensor, relative to the largest of `theirs` or to 1. NaN lies infinitely far.
#[must_use]
pub fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    let scale = theirs
        .iter()
        .fold(1.0, |largest: f64, value| largest.max(value.abs()));
    worst(ours, theirs, |ours, theirs| (ours - theirs).abs() / scale)
}

/// The largest difference of one number, relative to it.
#[must_use]
pub fn relative(ours: &[f64], theirs: &[f64]) -> f64 {
    worst(ours, theirs, |ours, theirs| match ours == theirs {
        true => 0.0,
        false => ((ours - theirs) / theirs).abs(),
    })
}

/// The largest difference of one number, relative to it or to 1.
#[must_use]
pub fn by_number(ours: &[f64], theirs: &[f64]) -> f64 {
    worst(ours, theirs, |ours, theirs| {
        (ours - theirs).abs() / theirs.abs().max(1.0)
    })
}

/// The larger of two differences, where NaN is the largest.
#[must_use]
pub fn larger(a: f64, b: f64) -> f64 {
    match a.is_nan() || b.is_nan() {
        true => f64::INFINITY,
        false => a.max(b),
    }
}

fn worst(ours: &[f64], theirs: &[f64], measure: impl Fn(f64, f64) -> f64) -> f64 {
    match ours.len() == theirs.len() {
        true => ours
            .iter()
            .zip(theirs)
            .map(|(&a, &b)| measure(a, b))
            .fold(0.0, larger),
        false => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_other_lengths_are_infinitely_far() {
        assert_eq!(difference(&[1.0, 2.0], &[1.0, 2.5]), 0.2);
        assert_eq!(difference(&[0.0, 0.1], &[0.0, 0.2]), 0.1);
        for (ours, theirs) in [
            (&[f64::NAN][..], &[0.0][..]),
            (&[0.0], &[f64::NAN]),
            (&[0.0], &[0.0, 0.0]),
            (&[f64::INFINITY], &[f64::INFINITY]),
        ] {
            assert_eq!(
                difference(ours, theirs),
                f64::INFINITY,
                "{ours:?} {theirs:?}"
            );
        }
        assert_eq!(relative(&[0.75], &[0.5]), 0.5);
        assert_eq!(relative(&[0.0], &[0.0]), 0.0);
        assert_eq!(by_number(&[0.5, 1000.0], &[0.25, 1000.0]), 0.25);
        assert_eq!(relative(&[1.0], &[0.0]), f64::INFINITY);
    }
}
