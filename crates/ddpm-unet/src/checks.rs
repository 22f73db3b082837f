//! What the configurations of several networks are held to.

use std::fmt::Display;

use crate::error::{UnetError, excerpt};

/// The largest size that a key may have.
pub(crate) const MOST: usize = 1 << 20;

/// # Errors   [`UnetError::Config`] naming the key unless it `holds`
pub(crate) fn check(
    key: &str,
    got: impl Display,
    holds: bool,
    expected: &str,
) -> Result<(), UnetError> {
    match holds {
        true => Ok(()),
        false => Err(UnetError::Config {
            key: key.into(),
            got: excerpt(&got.to_string()),
            expected: expected.into(),
        }),
    }
}

/// # Errors   [`UnetError::Config`] for no levels, or too many
pub(crate) fn check_levels(key: &str, multiples: &[usize]) -> Result<(), UnetError> {
    let holds = (1..=12).contains(&multiples.len());
    check(
        key,
        format!("{multiples:?}"),
        holds,
        "must have 1 to 12 levels",
    )
}

/// # Errors   [`UnetError::Config`] for a size of 0, or beyond [`MOST`]
pub(crate) fn check_sizes<'a>(
    sizes: impl IntoIterator<Item = (&'a str, usize)>,
) -> Result<(), UnetError> {
    for (key, size) in sizes {
        let expected = "must be at least 1, and channels at most 1048576";
        check(key, size, (1..=MOST).contains(&size), expected)?;
    }
    Ok(())
}

/// # Errors   [`UnetError::Config`] for what is no probability, or 1
pub(crate) fn check_dropout(dropout: f64) -> Result<(), UnetError> {
    let holds = (0.0..1.0).contains(&dropout);
    check("dropout", dropout, holds, "must be in [0, 1)")
}
