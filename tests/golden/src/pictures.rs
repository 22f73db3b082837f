//! Images that a case names: its bytes stand in the safetensors file, or follow a formula.

use anyhow::{Context, bail, ensure};
use ddpm_eval::Images;

use crate::keys::{Keys, needed};
use crate::source::Source;

/// The image that `source` and `size` of a case tell.
///
/// # Errors   for one that is not there, or a source without a meaning here
pub fn picture(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<Images> {
    let text = needed(case.text("source"), "source")?;
    let size = needed(case.counts("size"), "size")?;
    let [channels, height, width] = match size[..] {
        [channels, height, width] => [channels, height, width],
        [height, width] => [3, height, width],
        _ => bail!("size is {size:?}; expected [channels, height, width] or [height, width]"),
    };
    let bytes: Vec<u8> = match text.starts_with("in the safetensors file") {
        true => {
            let series = source.tensor(name)?;
            ensure!(
                series.is_bytes && series.shape == [channels, height, width],
                "tensor {name} is no image of {channels}x{height}x{width} bytes"
            );
            series.values.iter().map(|&value| value as u8).collect()
        }
        false => {
            let formula = Formula::parse(&text)
                .with_context(|| format!("source is {text:?}, which is not known here"))?;
            let bytes = formula.bytes([channels, height, width]);
            let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
            ensure!(
                formula.sum.is_none_or(|theirs| theirs == sum),
                "the sum of all bytes is {sum}"
            );
            bytes
        }
    };
    Ok(Images::new(bytes, [1, channels, height, width])?)
}

/// `pixel(c,y,x) = (a x + b y (c+1) + floor(x y/(d+c))) mod 256`, and what all bytes add up to where that is told.
#[derive(Debug, PartialEq)]
struct Formula {
    a: usize,
    b: usize,
    d: usize,
    sum: Option<u64>,
}

impl Formula {
    fn parse(text: &str) -> Option<Self> {
        let (a, rest) = text.strip_prefix("pixel(c,y,x) = (")?.split_once(" x + ")?;
        let (b, rest) = rest.split_once(" y (c+1) + floor(x y/(")?;
        let (d, rest) = rest.split_once("+c))) mod 256")?;
        let mut sum = None;
        for words in rest.split([',', ';']).map(str::trim) {
            // Height and width stand in `size`.
            if let Some(number) = words.strip_prefix("sum of all bytes ") {
                sum = Some(number.parse().ok()?);
            } else if !words.is_empty() && !words.ends_with(" high") && !words.ends_with(" wide") {
                return None;
            }
        }
        Some(Self {
            a: a.parse().ok()?,
            b: b.parse().ok()?,
            d: d.parse::<usize>().ok().filter(|&d| d > 0)?,
            sum,
        })
    }

    /// # Shapes   returns `[channels, height, width]`
    fn bytes(&self, [channels, height, width]: [usize; 3]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(channels * height * width);
        for c in 0..channels {
            for y in 0..height {
                let pixel = |x: usize| self.a * x + self.b * y * (c + 1) + x * y / (self.d + c);
                bytes.extend((0..width).map(|x| (pixel(x) % 256) as u8));
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_read_and_other_texts_are_not() {
        let plain = "pixel(c,y,x) = (2 x + 3 y (c+1) + floor(x y/(7+c))) mod 256";
        let formula = |sum| Formula {
            a: 2,
            b: 3,
            d: 7,
            sum,
        };
        assert_eq!(Formula::parse(plain), Some(formula(None)));
        let summed = format!("{plain}, 4 high, 5 wide; sum of all bytes 77");
        assert_eq!(Formula::parse(&summed), Some(formula(Some(77))));
        // 2·4 + 3·3·2 + ⌊12/8⌋
        assert_eq!(formula(None).bytes([2, 4, 5]).last(), Some(&27));
        for other in [
            "pixel(c,y,x) = (2 x + 3 y (c+1)) mod 256",
            "pixel(c,y,x) = (2 x + 3 y (c+1) + floor(x y/(0+c))) mod 256",
            "pixel(c,y,x) = (2 x + 3 y (c+1) + floor(x y/(7+c))) mod 256, upside down",
            "a photograph",
        ] {
            assert_eq!(Formula::parse(other), None, "{other}");
        }
    }
}
