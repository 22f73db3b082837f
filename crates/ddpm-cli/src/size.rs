//! `--size` of every command.

use ddpm_data::Size;

use crate::exit::UsageError;

/// Of an image, in pixels.
const MAX_SIDE: usize = 16_384;

/// `32` or `24x32`, height x width, of `--size`.
///
/// # Errors   [`UsageError`]
pub fn parse_size(text: &str) -> Result<Size, UsageError> {
    parse_named_size("--size", text)
}

/// The same of another option.
///
/// # Errors   [`UsageError`] naming it
pub fn parse_named_size(option: &str, text: &str) -> Result<Size, UsageError> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let side: usize = digits.then(|| text.parse().ok()).flatten()?;
        (1..=MAX_SIDE).contains(&side).then_some(side)
    };
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok(Size { height, width }),
        _ => Err(UsageError(format!(
            "{option} {text}: write 32, or 24x32 (height x width), with sides of 1 to {MAX_SIDE} pixels"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_strictly() {
        for (text, expected) in [
            ("32", Some([32, 32])),
            ("24x32", Some([24, 32])),
            ("1x16384", Some([1, 16384])),
            ("0", None),
            ("", None),
            ("x", None),
            ("32x", None),
            ("x32", None),
            ("+32", None),
            ("-1", None),
            ("32x32x3", None),
            ("32 x 32", None),
            ("16385", None),
            ("99999999999999999999", None),
        ] {
            let expected = expected.map(|[height, width]| Size { height, width });
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
        let refused = parse_size("big").unwrap_err().to_string();
        assert!(
            refused.starts_with("--size big: write 32, or 24x32"),
            "{refused}"
        );
    }
}
